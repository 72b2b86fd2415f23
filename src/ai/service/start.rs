//! Starting an execution: check, price, reserve, hand over to a task that outlives the request.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::EntityTrait;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::actor::{Actor, Permission};
use crate::ai::input::{Checked, Wish};
use crate::ai::pricing::{self, HoldOption};
use crate::ai::service::reserve::{Answer, Call, Dispatched, Request};
use crate::ai::service::{history, watch as ends};
use crate::ai::turn;
use crate::anomaly::score::Score;
use crate::anomaly::watch::{self, Coming, Seen, Subject};
use crate::app::App;
use crate::credits::error::CreditError;
use crate::credits::period;
use crate::credits::service::admit::Admission;
use crate::credits::service::{account, due};
use crate::crypto::Place;
use crate::entity::execution::ExecutionStatus;
use crate::entity::{credit_account, execution, function_price};
use crate::error::{Error, Result};
use crate::external::models::estimate_input_tokens;
use crate::idempotency::{self, Key, KeyConflict};
use crate::ids::{ApiKeyId, ExecutionId, TenantId, UserId};
use crate::limits;
use crate::limits::function;
use crate::limits::service::Run;
use crate::payments::auto::cover;

/// How often a reserve tries again after it applied what was due.
const DUE_TRIES: usize = 3;
/// How long `aiExecute` waits for the end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Executions that run on this node at most; more are refused before anything is held.
const RUNNING_MAX: usize = 5_000;

/// What a call would cost.
#[derive(Clone, Debug)]
pub struct Quote {
    /// The charge of a short answer.
    pub credits: i64,
    /// Credits that would be held, which is the charge of the longest answer.
    pub hold: i64,
    /// Counted tokens of input and context.
    pub input_tokens: i64,
    /// Output tokens that the hold pays for; lower than asked when the balance demands it.
    pub max_tokens: i64,
    /// Whether the call could start now.
    pub is_affordable: bool,
    /// The model that would run.
    pub model: String,
}

/// Says what a call would cost and whether it could start now. Nothing is held.
pub async fn quote(app: &App, actor: &Actor, wish: &Wish) -> Result<Quote> {
    actor.require(Permission::AiExecute)?;
    let checked = wish.check()?;
    let price = pricing::in_force(app, wish.function, wish.model.as_deref()).await?;
    let account = account::of_tenant(app, actor.tenant()?).await?;
    let is_due = account.next_due_at <= app.clock.db_now();
    let account = if is_due && due::apply_due(app, account.id).await? {
        account::of_tenant(app, actor.tenant()?).await?
    } else {
        account
    };
    let input_tokens = count(&price, &checked);
    let options = pricing::hold_options(&price, input_tokens, checked.max_tokens);
    let available = account.current_balance - account.held;
    let fitting = options.iter().find(|option| option.credits <= available);
    let wished = HoldOption { credits: 0, max_tokens: checked.max_tokens };
    let chosen = fitting.or(options.first()).unwrap_or(&wished);
    Ok(Quote {
        credits: pricing::charge(&price, input_tokens + 1),
        hold: chosen.credits,
        input_tokens,
        max_tokens: chosen.max_tokens,
        is_affordable: fitting.is_some() && account.running < account.running_max,
        model: price.model,
    })
}

/// Starts a call and waits for its end, at most 60 s; then answers it as it stands.
pub async fn execute(app: &App, actor: &Actor, wish: Wish, key: &str) -> Result<execution::Model> {
    let deadline = Instant::now() + PATIENCE;
    let (started, ended) = begin(app, actor, wish, key).await?;
    if started.status != ExecutionStatus::Running {
        return Ok(started);
    }
    match ended {
        Some(ended) => ends::told(app, started, ended, deadline).await,
        None => ends::finished(app, started, deadline).await,
    }
}

/// Starts a call: it is paid for, or refused, before this returns. A key that is known answers its
/// execution, running or ended.
pub async fn start(app: &App, actor: &Actor, wish: Wish, key: &str) -> Result<execution::Model> {
    Ok(begin(app, actor, wish, key).await?.0)
}

type Begun = (execution::Model, Option<oneshot::Receiver<execution::Model>>);

async fn begin(app: &App, actor: &Actor, wish: Wish, key: &str) -> Result<Begun> {
    actor.require(Permission::AiExecute)?;
    let tenant = actor.tenant()?;
    let checked = wish.check()?;
    // First and alone: a stranger's id and one that nobody has are to cost the same.
    let user = beneficiary(app, actor, tenant, &wish).await?;
    let prompt = watch::digest(app, &checked.parameters.input);
    let subject = Subject { tenant, user, prompt };
    let (price, account, seen, per_hour) = tokio::try_join!(
        pricing::in_force(app, wish.function, wish.model.as_deref()),
        account::of_tenant(app, tenant),
        watch::look(app, subject),
        function::per_hour(app, tenant, wish.function),
    )?;
    let id = ExecutionId::new();
    let key = Key::new(
        &app.crypto,
        (tenant, actor.principal()),
        // `aiExecute` and `aiExecutionStart` share their keys.
        "aiExecute",
        (key, &wish.fingerprint()),
        id.0,
    )?;
    let input_tokens = count(&price, &checked);
    let options = pricing::hold_options(&price, input_tokens, checked.max_tokens);
    let credits = options.first().map_or(0, |option| option.credits);
    let coming = Coming { subject, credits, zone: period::zone(&account.time_zone) };
    let run = Run::new(actor, (tenant, user), (wish.function, per_hour), id);
    make_room(app)?;
    let score = match let_in(app, actor, (seen, coming), &run).await {
        Ok(score) => score,
        // A key that is known is answered whatever happened since.
        Err(refused) => {
            let known = idempotency::look(app.db.primary(), &key).await?.ok_or(refused)?;
            return Ok((history::row(app, tenant, ExecutionId(known)).await?, None));
        }
    };
    let draft = Draft {
        id,
        account: &account,
        price: &price,
        checked: &checked,
        user,
        requested_by: actor.user_id,
        key: actor.key().map(|key| key.id),
        input_tokens,
        prompt_digest: prompt,
        score,
    };
    let reserved = reserve(app, &draft, key).await;
    give_back(app, &run, &reserved).await;
    let (answer, ended) = reserved?;
    match answer {
        Answer::Reserved(execution, _) => Ok((*execution, ended)),
        Answer::Known(id) => Ok((history::row(app, tenant, id).await?, None)),
        Answer::KeyConflict => Err(KeyConflict.into()),
        Answer::Refused(Admission::Insufficient { available, held }) => {
            let needed = options.last().map_or(0, |option| option.credits);
            Err(CreditError::Insufficient { needed, available, held }.into())
        }
        Answer::Refused(Admission::Busy { max }) => Err(CreditError::TooManyRunning { max }.into()),
        Answer::Refused(Admission::Due) => Err(Error::Unavailable("credit account")),
        Answer::Refused(Admission::Closed | Admission::Admitted { .. }) => {
            Err(CreditError::AccountClosed.into())
        }
    }
}

/// Reserves together with other calls and, when that succeeds, runs; again after what was due on
/// the account was applied, or credits were bought. An account that buys by itself does so before
/// a call is shortened or refused. A caller who leaves in between leaves no execution behind that
/// is held and never runs.
async fn reserve(app: &App, draft: &Draft<'_>, key: Key) -> Result<Dispatched> {
    let price = Arc::new(draft.price.clone());
    let parameters = Arc::new(draft.checked.parameters.clone());
    let mut tries = 0;
    let mut may_buy = cover::may(draft.account, app.clock.db_now());
    loop {
        make_room(app)?;
        let mut request = draft.request(app, key.clone(), app.clock.db_now())?;
        let wished = request.options.first().map_or(0, |option| option.credits);
        if may_buy {
            request.options.truncate(1);
        }
        let (price, parameters) = (Arc::clone(&price), Arc::clone(&parameters));
        let dispatched = turn::reserve(app, Call { request, price, parameters }).await?;
        match dispatched.0 {
            Answer::Refused(Admission::Due) if tries < DUE_TRIES => {
                due::apply_due(app, draft.account.id).await?;
                tries += 1;
            }
            Answer::Refused(Admission::Insufficient { .. }) if may_buy => {
                cover::cover(app, draft.account.id, wished).await;
                may_buy = false;
            }
            Answer::Reserved(..) | Answer::Known(_) | Answer::KeyConflict | Answer::Refused(_) => {
                return Ok(dispatched);
            }
        }
    }
}

/// Judges whether the call is unusual, and takes its place within the limits.
async fn let_in(
    app: &App,
    actor: &Actor,
    (seen, coming): (Option<Seen>, Coming),
    run: &Run,
) -> Result<Score> {
    let score = match seen {
        Some(seen) => watch::judge(app, seen, coming, &actor.source).await?,
        None => Score::default(),
    };
    limits::service::take_run(app, run).await?;
    Ok(score)
}

/// Refuses what would be too much at once.
fn make_room(app: &App) -> Result<()> {
    if app.tasks.count_running() >= RUNNING_MAX || app.tasks.stopping().is_cancelled() {
        return Err(Error::Unavailable("AI execution"));
    }
    Ok(())
}

/// Gives back what was taken of limits for a call that did not begin.
async fn give_back(app: &App, run: &Run, reserved: &Result<Dispatched>) {
    if !app.config.limits.is_on {
        return;
    }
    match reserved.as_ref().map(|(answer, _)| answer) {
        Ok(Answer::Reserved(..)) => {}
        Ok(Answer::Known(_)) => limits::service::give_back_run(app, run).await,
        Ok(Answer::KeyConflict | Answer::Refused(_)) => {
            limits::service::give_back_hour(app, run).await;
        }
        // The commit may have been the last that was heard of the database.
        Err(_) => {
            let row = execution::Entity::find_by_id(run.id).one(app.db.primary()).await;
            if matches!(row, Ok(None)) {
                limits::service::give_back_hour(app, run).await;
            }
        }
    }
}

/// For whom the call runs: the caller, or a member whom an ADMIN names.
async fn beneficiary(app: &App, actor: &Actor, tenant: TenantId, wish: &Wish) -> Result<UserId> {
    match wish.user {
        None => Ok(actor.user_id),
        Some(user) if user == actor.user_id => Ok(user),
        Some(user) => {
            actor.require(Permission::AiExecuteForOthers)?;
            if crate::identity::is_member(app, tenant, user).await? {
                Ok(user)
            } else {
                Err(Error::NotFound("user"))
            }
        }
    }
}

/// Counted tokens of what the model is given.
pub(crate) fn count(price: &function_price::Model, checked: &Checked) -> i64 {
    let parameters = &checked.parameters;
    let system = parameters.context.as_deref();
    estimate_input_tokens(&price.model, system, &parameters.input).into()
}

/// What is known of an execution before it is reserved.
pub(crate) struct Draft<'a> {
    /// Its id.
    pub(crate) id: ExecutionId,
    /// Who pays.
    pub(crate) account: &'a credit_account::Model,
    /// At what price.
    pub(crate) price: &'a function_price::Model,
    /// What the function is given.
    pub(crate) checked: &'a Checked,
    /// For whom it runs.
    pub(crate) user: UserId,
    /// Who asked.
    pub(crate) requested_by: UserId,
    /// The API key by which they asked.
    pub(crate) key: Option<ApiKeyId>,
    /// Counted tokens of the input.
    pub(crate) input_tokens: i64,
    /// The prompt's digest.
    pub(crate) prompt_digest: i64,
    /// How unusual it is.
    pub(crate) score: Score,
}

impl Draft<'_> {
    /// The request to reserve credits for it.
    pub(crate) fn request(&self, app: &App, key: Key, now: DateTime<Utc>) -> Result<Request> {
        let max_tokens = self.checked.max_tokens;
        Ok(Request {
            execution: self.row(app, &key.key, now)?,
            key,
            tags: self.checked.tags.clone(),
            options: pricing::hold_options(self.price, self.input_tokens, max_tokens),
            lease: lease(app),
        })
    }

    fn row(&self, app: &App, key: &str, now: DateTime<Utc>) -> Result<execution::Model> {
        let text = serde_json::to_string(&self.checked.parameters)?;
        Ok(execution::Model {
            id: self.id,
            tenant_id: self.account.tenant_id,
            account_id: self.account.id,
            user_id: self.user,
            requested_by: self.requested_by,
            api_key_id: self.key,
            idempotency_key: key.to_owned(),
            function_type: self.price.function_type,
            model: self.price.model.clone(),
            provider: app.models.provider().to_owned(),
            price_id: self.price.id,
            status: ExecutionStatus::Running,
            parameters: Some(app.crypto.seal(parameters_place(self.id), &text)?),
            result: None,
            max_tokens: self.checked.max_tokens,
            requested_max_tokens: self.checked.max_tokens,
            estimated_tokens: self.input_tokens,
            input_tokens: None,
            output_tokens: None,
            usage_source: None,
            credits_held: 0,
            credits_used: 0,
            credits_refunded: 0,
            shortfall: 0,
            total_cost_yen: None,
            transaction_id: None,
            failure_code: None,
            prompt_digest: self.prompt_digest,
            anomaly_score: self.score.total.into(),
            anomaly_signals: serde_json::to_value(&self.score.signals)?,
            cancel_requested_at: None,
            execution_time_ms: None,
            created_at: now,
            finished_at: None,
        })
    }
}

/// How long a hold stays without its owner renewing it.
pub(crate) fn lease(app: &App) -> TimeDelta {
    TimeDelta::from_std(app.config.hold_lease).unwrap_or(TimeDelta::minutes(2))
}

/// Where an execution's parameters are sealed to.
pub(crate) fn parameters_place(id: ExecutionId) -> Place {
    Place { table: "ai_executions", column: "parameters", row: id.0 }
}

/// Where an execution's result is sealed to.
pub(crate) fn result_place(id: ExecutionId) -> Place {
    Place { table: "ai_executions", column: "result", row: id.0 }
}
