//! Changing the plan that is paid for.
//!
//! A larger plan brings a whole month's free credits at once, and so a new month begins with it:
//! it is paid in full, less what was paid for the rest of the present one, and nothing changes
//! before that is paid. A smaller plan costs less from the next month on; what is paid for stays
//! until then, written on the subscription at Stripe, so that Stripe alone tells it.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use uuid::Uuid;

use crate::actor::Actor;
use crate::app::App;
use crate::audit::{self, Action, Changes, Subject};
use crate::credits::catalog;
use crate::db;
use crate::entity::plan::PlanType;
use crate::entity::tenant_subscription::{self, SubscriptionStatus};
use crate::error::{Error, Result};
use crate::external::stripe::{self, Step, StripeFailure};
use crate::idempotency;
use crate::ids::new_uuid;
use crate::limits;
use crate::limits::table::Limit;
use crate::limits::who::Who;
use crate::plans::error::PlanError;
use crate::plans::rate;
use crate::plans::service::{learn, lookup};

/// So long a change that nobody answered keeps others away: no request takes so long.
pub(crate) const RUNNING: TimeDelta = TimeDelta::minutes(10);

/// A plan to change to.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The plan.
    pub plan: PlanType,
    /// The client's key.
    pub idempotency_key: String,
}

/// What a change would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Up,
    Down,
    Back,
}

/// What a change would cost. Nothing is changed.
#[derive(Clone, Debug)]
pub struct Preview {
    /// The plan.
    pub plan: PlanType,
    /// Whether it would count now.
    pub is_immediate: bool,
    /// What would be paid now, in yen.
    pub due: i64,
    /// What is taken off for the rest of the present month.
    pub credit: i64,
    /// The tax in what would be paid now.
    pub tax: i64,
    /// What the next month would cost.
    pub renewal: i64,
    /// When it would be paid.
    pub renews_at: DateTime<Utc>,
}

/// What a change of the actor's tenant would cost, as Stripe reckons it now.
pub async fn preview(app: &App, actor: &Actor, plan: PlanType) -> Result<Preview> {
    let row = lookup::open_one(app, actor).await?;
    let kind = judge(&row, plan)?;
    let rate = rate::of(&catalog::plan_in_force(app.db.primary(), plan).await?);
    let places = row.stripe_id.as_deref().zip(row.item_id.as_deref());
    let (places, (_, end)) = places.zip(lookup::period(&row)).ok_or(PlanError::NotActive)?;
    let of = |due: i64, credit: i64, tax: i64, renews_at: DateTime<Utc>| Preview {
        plan,
        is_immediate: kind == Kind::Up,
        due,
        credit,
        tax,
        renewal: rate.amount,
        renews_at,
    };
    if kind != Kind::Up {
        return Ok(of(0, 0, 0, end));
    }
    rate::keep(app, plan, &rate).await.map_err(lookup::unanswered)?;
    let key = format!("preview:{}", new_uuid());
    let told = app.payments.preview_change(&key, places, &rate).await;
    let told = told.map_err(lookup::unanswered)?;
    if told.currency != "JPY" {
        return Err(Error::broken("the preview is not in yen"));
    }
    let tax = told.tax.unwrap_or_else(|| rate::tax_in(told.due));
    Ok(of(told.due, told.credit, tax, told.renews_at))
}

/// Changes the plan of the actor's tenant. The same key changes once.
pub async fn change(app: &App, actor: &Actor, wish: Wish) -> Result<tenant_subscription::Model> {
    let open = lookup::open_one(app, actor).await?;
    let (row, change) = record(app, actor, &open, &wish).await?;
    if row.change_id != Some(change) {
        // It was answered before.
        return Ok(row);
    }
    Box::pin(go_on(app, row, (change, wish.plan))).await
}

/// Writes the change down, or finds the one that the key made.
async fn record(
    app: &App,
    actor: &Actor,
    open: &tenant_subscription::Model,
    wish: &Wish,
) -> Result<(tenant_subscription::Model, Uuid)> {
    let now = app.clock.db_now();
    let tenant = open.tenant_id;
    let change = new_uuid();
    let key = idempotency::Key::new(
        &app.crypto,
        (tenant, actor.principal()),
        "planChange",
        (&wish.idempotency_key, &json!([wish.plan])),
        change,
    )?;
    let taken = limits::service::take(app, &Who::actor(actor), Limit::Purchases, 1).await;
    if let Err(refused) = taken {
        let made = idempotency::look(app.db.primary(), &key).await?.ok_or(refused)?;
        return Ok((lookup::get(app, open.id).await?, made));
    }
    let txn = app.db.begin().await?;
    if let Some(made) = idempotency::claim_one(&txn, &key, now).await? {
        drop(txn);
        return Ok((lookup::get(app, open.id).await?, made));
    }
    let row = learn::lock(&txn, open.id).await?.ok_or(Error::NotFound("subscription"))?;
    let is_running = row.change_at.is_some_and(|at| now - at < RUNNING);
    if is_running {
        return Err(PlanError::ChangeRunning.into());
    }
    judge(&row, wish.plan)?;
    let sql = "UPDATE tenant_subscriptions SET change_id = $2, change_plan_type = $3,
               change_at = $4, check_at = $5, version = version + 1, updated_at = $4
               WHERE id = $1 RETURNING *";
    let values = vec![
        row.id.into(),
        change.into(),
        wish.plan.as_str().into(),
        now.into(),
        (now + RUNNING).into(),
    ];
    let noted: Option<tenant_subscription::Model> = db::one(&*txn, sql, values).await?;
    let noted = noted.ok_or(Error::NotFound("subscription"))?;
    let changes = Changes::new().plain("plan", &row.plan_type, &wish.plan);
    let subject = Subject::of("tenant_subscription", row.id.0).in_tenant(tenant).changing(changes);
    audit::record(app, &txn, actor, Action::PlanChangeStarted, subject).await?;
    txn.commit().await?;
    Ok((noted, change))
}

/// What a change to a plan is, if it can be.
fn judge(row: &tenant_subscription::Model, plan: PlanType) -> Result<Kind> {
    if row.status != SubscriptionStatus::Active {
        return Err(PlanError::NotActive.into());
    }
    if row.cancel_at_period_end {
        return Err(PlanError::Ending.into());
    }
    let is_smaller_pending = row.pending_plan_type.is_some_and(|next| next < row.plan_type);
    let is_larger_pending = row.pending_plan_type.is_some_and(|next| next > row.plan_type);
    if is_larger_pending {
        return Err(PlanError::ChangePending.into());
    }
    match plan.cmp(&row.plan_type) {
        std::cmp::Ordering::Less if row.pending_plan_type == Some(plan) => {
            Err(PlanError::SamePlan.into())
        }
        std::cmp::Ordering::Less => Ok(Kind::Down),
        std::cmp::Ordering::Equal if is_smaller_pending => Ok(Kind::Back),
        std::cmp::Ordering::Equal => Err(PlanError::SamePlan.into()),
        // Stripe would take off what the smaller plan costs, and not what was paid.
        std::cmp::Ordering::Greater if is_smaller_pending => Err(PlanError::ChangePending.into()),
        std::cmp::Ordering::Greater => Ok(Kind::Up),
    }
}

/// Goes on with a change that was written down, wherever it was left.
async fn go_on(
    app: &App,
    row: tenant_subscription::Model,
    (change, plan): (Uuid, PlanType),
) -> Result<tenant_subscription::Model> {
    let Some(stripe_id) = row.stripe_id.clone() else { return Ok(row) };
    // An attempt whose answer was lost may have done it.
    let row = learn::look(app, row.id, &stripe_id).await?;
    let places = row.item_id.clone().zip(lookup::period(&row));
    let (Ok(kind), Some((item, (_, end)))) = (judge(&row, plan), places) else {
        return close(app, row, change).await;
    };
    let rate = rate::of(&catalog::plan_in_force(app.db.primary(), plan).await?);
    let paid = row.plan_type.as_str().to_owned();
    let step = move |rate| match kind {
        Kind::Up => Step::Up(rate),
        Kind::Down => Step::Down(rate, (paid, end)),
        Kind::Back => Step::Back(rate),
    };
    let key = format!("change:{change}:{}", end.timestamp());
    let asked = ask(app, plan, (&stripe_id, &item), (&key, &rate, step)).await;
    match asked {
        Ok(()) => {
            let row = learn::look(app, row.id, &stripe_id).await?;
            close(app, row, change).await
        }
        Err(StripeFailure::Unavailable(why)) => {
            tracing::warn!(subscription.id = %row.id, why, "{} is not changed yet: {why}", row.id);
            Err(Error::Unavailable("Stripe"))
        }
        Err(failure) => {
            tracing::error!(subscription.id = %row.id, %failure, "{} is not changed", row.id);
            close(app, row, change).await?;
            Err(PlanError::Refused.into())
        }
    }
}

async fn ask(
    app: &App,
    plan: PlanType,
    places: (&str, &str),
    (key, rate, step): (&str, &stripe::Rate, impl FnOnce(stripe::Rate) -> Step),
) -> std::result::Result<(), StripeFailure> {
    rate::keep(app, plan, rate).await?;
    let rate = app.payments.sell(rate).await?;
    app.payments.change_subscription(places, key, &step(rate)).await.map(|_| ())
}

/// A change that was answered keeps no other away.
pub(crate) async fn close(
    app: &App,
    row: tenant_subscription::Model,
    change: Uuid,
) -> Result<tenant_subscription::Model> {
    let sql = "UPDATE tenant_subscriptions SET change_id = NULL, change_plan_type = NULL,
               change_at = NULL, version = version + 1, updated_at = $3
               WHERE id = $1 AND change_id = $2 RETURNING *";
    let values = vec![row.id.into(), change.into(), app.clock.db_now().into()];
    let txn = app.db.begin().await?;
    let closed: Option<tenant_subscription::Model> = db::one(&*txn, sql, values).await?;
    txn.commit().await?;
    Ok(closed.unwrap_or(row))
}
