//! Counting: what is taken of limits, and given back.

use crate::actor::Actor;
use crate::app::App;
use crate::entity::function_price::AiFunctionType;
use crate::error::Result;
use crate::ids::{ExecutionId, TenantId, UserId};
use crate::limits::error::{RateLimited, What};
use crate::limits::function::{self, Runs};
use crate::limits::table::Limit;
use crate::limits::who::Who;
use crate::meter::{Charge, History, Kind, NoHistory, Verdict};

/// Takes so much of a limit; refused as [`RateLimited`] when it would be passed.
pub async fn take(app: &App, who: &Who, limit: Limit, amount: i64) -> Result<()> {
    take_all(app, &[(who, limit, amount)]).await
}

/// Takes of several limits, all or nothing.
pub async fn take_all(app: &App, wanted: &[(&Who, Limit, i64)]) -> Result<()> {
    let wanted = wanted.iter().filter(|(_, limit, _)| is_counted(app, *limit));
    let (whats, charges): (Vec<What>, Vec<Charge>) = wanted
        .map(|(who, limit, amount)| (What::Limit(*limit), charge(who, *limit, *amount)))
        .unzip();
    take_charges(app, &whats, &charges, &NoHistory).await
}

/// Gives back what was taken of several limits.
pub async fn give_back_all(app: &App, taken: &[(&Who, Limit, i64)]) {
    let taken = taken.iter().filter(|(_, limit, _)| is_counted(app, *limit));
    let charges: Vec<Charge> =
        taken.map(|(who, limit, amount)| charge(who, *limit, *amount)).collect();
    if !charges.is_empty() {
        app.meter.give_back(&charges).await;
    }
}

fn is_counted(app: &App, limit: Limit) -> bool {
    app.config.limits.is_on || limit.is_always_on()
}

fn charge(who: &Who, limit: Limit, amount: i64) -> Charge {
    let (max, period) = limit.allowance();
    Charge { key: who.key(limit.name()), limit: max, period, kind: Kind::Tokens(amount) }
}

async fn take_charges(
    app: &App,
    whats: &[What],
    charges: &[Charge],
    history: &impl History,
) -> Result<()> {
    if charges.is_empty() {
        return Ok(());
    }
    let verdict = app.meter.take(app.clock.db_now(), charges, history).await?;
    let Verdict::Refused(refusal) = verdict else { return Ok(()) };
    let refused = whats.get(refusal.index).zip(charges.get(refusal.index));
    let Some((what, charge)) = refused else { return Ok(()) };
    Err(RateLimited {
        what: *what,
        limit: charge.limit,
        remaining: refusal.remaining,
        retry_after: refusal.retry_after,
    }
    .into())
}

/// A call of a function: who asks, and for whom it runs.
#[derive(Clone, Debug)]
pub struct Run {
    /// Who asks.
    pub caller: Who,
    /// In which tenant.
    pub tenant: TenantId,
    /// For whom it runs.
    pub user: UserId,
    /// The function.
    pub function: AiFunctionType,
    /// Its calls that the member may make in an hour.
    pub per_hour: i64,
    /// The call.
    pub id: ExecutionId,
}

impl Run {
    /// A call that an actor makes for a member of the tenant.
    pub fn new(
        actor: &Actor,
        (tenant, user): (TenantId, UserId),
        (function, per_hour): (AiFunctionType, i64),
        id: ExecutionId,
    ) -> Self {
        Self { caller: Who::actor(actor), tenant, user, function, per_hour, id }
    }

    fn use_of_credits(&self) -> Charge {
        charge(&self.caller, Limit::CreditUse, 1)
    }

    fn hour(&self) -> Charge {
        function::hour((self.tenant, self.user), (self.function, self.per_hour), self.id.0)
    }
}

/// Takes a use of credits and a call of the function's hour, both or neither.
pub async fn take_run(app: &App, run: &Run) -> Result<()> {
    if !app.config.limits.is_on {
        return Ok(());
    }
    let whats = [What::Limit(Limit::CreditUse), What::Function(run.function)];
    let charges = [run.use_of_credits(), run.hour()];
    take_charges(app, &whats, &charges, &Runs::new(app, (run.tenant, run.user), run.function)).await
}

/// Gives both back: the call was made before.
pub async fn give_back_run(app: &App, run: &Run) {
    if app.config.limits.is_on {
        app.meter.give_back(&[run.use_of_credits(), run.hour()]).await;
    }
}

/// Gives the hour back: nothing ran. The use of credits was tried and stays counted.
pub async fn give_back_hour(app: &App, run: &Run) {
    if app.config.limits.is_on {
        app.meter.give_back(&[run.hour()]).await;
    }
}
