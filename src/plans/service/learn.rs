//! Learning how a subscription stands: the one place where it is compared with our record, and
//! where it becomes the account's plan.
//!
//! Stripe's objects have no version, and answers may overtake each other. So who asks notes how
//! many answers were learned before, and asks again when there was one meanwhile.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::EntityTrait;
use serde_json::json;

use crate::alerts::{self, AlertKind, NewAlert};
use crate::app::App;
use crate::credits::catalog::{self, Terms};
use crate::credits::service::due;
use crate::crypto::Sealed;
use crate::db::{self, Txn};
use crate::entity::alert::AlertSeverity;
use crate::entity::plan::PlanType;
use crate::entity::tenant;
use crate::entity::tenant_subscription::{self, SubscriptionStatus};
use crate::error::{Error, Result};
use crate::external::stripe::{StripeFailure, Subscription, SubscriptionState};
use crate::identity::service::tenant::END_SUBSCRIPTION;
use crate::ids::SubscriptionId;
use crate::plans::rate;
use crate::plans::service::warn::GRACE;
use crate::plans::service::{lookup, warn};
use crate::queue::{self, NewItem};

/// How often one who looks asks again, because others learned something meanwhile.
const ATTEMPTS_MAX: usize = 5;
/// The last instant before another.
const MOMENT: TimeDelta = TimeDelta::seconds(1);

/// Asks Stripe how a subscription stands, and learns it.
pub(crate) async fn look(
    app: &App,
    id: SubscriptionId,
    stripe_id: &str,
) -> Result<tenant_subscription::Model> {
    for _ in 0..ATTEMPTS_MAX {
        let before = lookup::get(app, id).await?;
        let found = match app.payments.subscription(stripe_id).await {
            Ok(found) => found,
            Err(StripeFailure::NotFound) => return gone(app, before, stripe_id).await,
            Err(StripeFailure::Unavailable(why)) => {
                tracing::warn!(subscription.id = %id, why, "{id} was not looked up: {why}");
                return Err(Error::Unavailable("Stripe"));
            }
            Err(failure) => return Err(Error::broken(failure)),
        };
        if let Some(row) = learn(app, (&before, Some(before.reads)), &found).await? {
            return Ok(row);
        }
    }
    Err(Error::Unavailable("subscription"))
}

/// Learns what Stripe told. None when something was learned since `seen`; what is final has none.
pub(crate) async fn learn(
    app: &App,
    (known, seen): (&tenant_subscription::Model, Option<i64>),
    found: &Subscription,
) -> Result<Option<tenant_subscription::Model>> {
    // What began before is counted by the plan of then.
    due::apply_due(app, known.account_id).await?;
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await?;
    let Some(row) = lock(&txn, known.id).await? else {
        return Err(Error::NotFound("subscription"));
    };
    if seen.is_some_and(|seen| row.reads != seen + 1) {
        return Ok(None);
    }
    let plan = rate::plan_of(&*txn, &found.price).await?;
    let differing = differences(app, &txn, &row, (found, plan)).await?;
    if !differing.is_empty() {
        alarm(&mut txn, &row, (found, &differing), now).await?;
        txn.commit().await?;
        return Ok(Some(row));
    }
    if row.ended_at.is_some() {
        return Ok(Some(row));
    }
    let pending = match &found.pending {
        Some(price) => rate::plan_of(&*txn, price).await?,
        None => None,
    };
    let plans = (plan.unwrap_or(row.plan_type), pending);
    let mut next = after(&row, found, plans, now);
    next.client_secret = seal_secret(app, &row, &next, found)?;
    follow(app, &mut txn, (&row, &next), now).await?;
    let saved = save(&mut txn, row, next, now).await?;
    warn::raise(app, &mut txn, &saved, now).await?;
    txn.commit().await?;
    Ok(Some(saved))
}

/// The row's lock; who learns the same at the same time waits here.
pub(crate) async fn lock(
    txn: &Txn,
    id: SubscriptionId,
) -> Result<Option<tenant_subscription::Model>> {
    let sql = "UPDATE tenant_subscriptions SET reads = reads + 1 WHERE id = $1 RETURNING *";
    db::one(&**txn, sql, vec![id.into()]).await
}

/// In what a subscription differs from our record; nothing of it is trusted before. What has ended
/// need have no price of ours, and no customer: one that was deleted took it along, and the tenant
/// may have another by now.
async fn differences(
    app: &App,
    txn: &Txn,
    row: &tenant_subscription::Model,
    (found, plan): (&Subscription, Option<PlanType>),
) -> Result<Vec<&'static str>> {
    let tenant = tenant::Entity::find_by_id(row.tenant_id).one(&**txn).await?;
    let customer = tenant.and_then(|tenant| tenant.stripe_customer_id);
    let is_over = matches!(found.state, SubscriptionState::Expired | SubscriptionState::Cancelled);
    let is_other = |id: &String| *id != found.id;
    let named = found.subscription.as_deref() == Some(&*row.id.to_string());
    let differing = [
        ("livemode", found.is_live != app.payments.is_live()),
        ("customer", !is_over && customer.as_deref() != Some(&*found.customer)),
        ("tenant", found.tenant.as_deref() != Some(&*row.tenant_id.to_string())),
        ("subscription", !named || row.stripe_id.as_ref().is_some_and(is_other)),
        ("lines", !is_over && found.lines != (1, 1)),
        ("price", !is_over && plan.is_none()),
        ("ended", !is_over && row.ended_at.is_some()),
    ];
    Ok(differing.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect())
}

/// The subscription after what Stripe tells: of the answer alone, and of the time.
fn after(
    row: &tenant_subscription::Model,
    found: &Subscription,
    (priced, waiting): (PlanType, Option<PlanType>),
    now: DateTime<Utc>,
) -> tenant_subscription::Model {
    use SubscriptionStatus::{Active, Cancelled, Incomplete, IncompleteExpired};
    use SubscriptionStatus::{PastDue, Suspended};
    let (start, end) = found.period;
    // Of several months that were not paid the first one counts: Stripe may go on billing.
    let is_waited_for = matches!(row.status, PastDue | Suspended);
    let grace_until = row.grace_until.filter(|_| is_waited_for).unwrap_or(start + GRACE);
    let status = match found.state {
        SubscriptionState::Incomplete => Incomplete,
        SubscriptionState::Expired => IncompleteExpired,
        SubscriptionState::Active => Active,
        SubscriptionState::PastDue if grace_until < now => Suspended,
        SubscriptionState::PastDue => PastDue,
        SubscriptionState::Cancelled => Cancelled,
        SubscriptionState::Other => row.status,
    };
    let (plan_type, pending) = match paid_plan(found) {
        Some(paid) if priced < paid => (paid, Some(priced)),
        Some(_) | None => (priced, waiting),
    };
    let is_over = matches!(status, Cancelled | IncompleteExpired);
    let is_unpaid = matches!(status, PastDue | Suspended);
    let was_paid = is_unpaid || status == Active;
    let mut next = tenant_subscription::Model {
        status,
        stripe_id: Some(found.id.clone()),
        item_id: Some(found.item.clone()),
        period_start: Some(start),
        period_end: Some(end),
        cancel_at_period_end: found.cancel_at_period_end,
        grace_until: is_unpaid.then_some(grace_until),
        activated_at: row.activated_at.or(was_paid.then_some(now)),
        ended_at: is_over.then(|| found.ended_at.unwrap_or(now)),
        pending_plan_type: pending.filter(|_| !is_over),
        ..row.clone()
    };
    // What has ended may be priced as it likes.
    if !is_over {
        next.plan_type = plan_type;
        next.price_yen = found.price.amount.unwrap_or(row.price_yen);
    }
    next
}

/// The plan that is paid for until the period's end, when a smaller one follows.
fn paid_plan(found: &Subscription) -> Option<PlanType> {
    let (plan, until) = found.paid.as_ref()?;
    let is_present = *until == found.period.1.timestamp();
    PlanType::ALL.iter().copied().find(|known| is_present && known.as_str() == plan)
}

/// What a subscription makes of its tenant's account; none: what it was.
fn terms(row: &tenant_subscription::Model) -> Option<Terms> {
    row.activated_at?;
    let (plan_type, until) = match row.status {
        SubscriptionStatus::Active if row.cancel_at_period_end => {
            (row.plan_type, row.period_end? - MOMENT)
        }
        // A renewal takes its time, and may fail: the grace is in it.
        SubscriptionStatus::Active => (row.plan_type, row.period_end? + GRACE),
        SubscriptionStatus::PastDue | SubscriptionStatus::Suspended => {
            (row.plan_type, row.grace_until?)
        }
        SubscriptionStatus::Cancelled => (PlanType::Essential, row.ended_at? - MOMENT),
        SubscriptionStatus::Pending
        | SubscriptionStatus::Incomplete
        | SubscriptionStatus::IncompleteExpired
        | SubscriptionStatus::Failed => return None,
    };
    Some(Terms { plan_type, entitled_until: Some(until) })
}

/// The account follows, in the same transaction, when anything is new for it.
async fn follow(
    app: &App,
    txn: &mut Txn,
    (row, next): (&tenant_subscription::Model, &tenant_subscription::Model),
    now: DateTime<Utc>,
) -> Result<()> {
    let wanted = terms(next).filter(|wanted| Some(*wanted) != terms(row));
    let Some(wanted) = wanted else { return Ok(()) };
    if catalog::set_terms(txn, next.account_id, wanted, now).await?.is_some() {
        return Ok(());
    }
    tracing::warn!(subscription.id = %next.id, "{} is of a tenant that is closed", next.id);
    if next.ended_at.is_none() {
        let item = NewItem {
            kind: END_SUBSCRIPTION,
            payload: &json!({ "tenant": next.tenant_id.to_string() }),
            dedupe_key: Some(format!("{END_SUBSCRIPTION}:{}:{}", next.id, next.version)),
            run_at: now,
        };
        queue::push(txn, item, &app.crypto).await?;
    }
    Ok(())
}

/// The secret lets a page pay what is open; it is kept while something is.
fn seal_secret(
    app: &App,
    row: &tenant_subscription::Model,
    next: &tenant_subscription::Model,
    found: &Subscription,
) -> Result<Option<Sealed>> {
    let Some(secret) = found.client_secret.as_ref().filter(|_| next.ended_at.is_none()) else {
        return Ok(None);
    };
    if lookup::client_secret(app, row)?.as_ref() == Some(secret) {
        return Ok(row.client_secret.clone());
    }
    Ok(Some(app.crypto.seal(lookup::secret_place(row.id), secret)?))
}

/// Writes what is new, and when to look next.
pub(crate) async fn save(
    txn: &mut Txn,
    row: tenant_subscription::Model,
    next: tenant_subscription::Model,
    now: DateTime<Utc>,
) -> Result<tenant_subscription::Model> {
    let is_same = next == row;
    let next = tenant_subscription::Model {
        version: if is_same { row.version } else { row.version + 1 },
        updated_at: if is_same { row.updated_at } else { now },
        check_at: next_check(&next, now),
        ..next
    };
    let values = vec![
        next.id.into(),
        next.status.as_str().into(),
        next.plan_type.as_str().into(),
        next.pending_plan_type.map(PlanType::as_str).into(),
        next.stripe_id.clone().into(),
        next.item_id.clone().into(),
        next.client_secret.clone().into(),
        next.period_start.into(),
        next.period_end.into(),
        next.cancel_at_period_end.into(),
        next.grace_until.into(),
        next.change_id.into(),
        next.change_plan_type.map(PlanType::as_str).into(),
        next.change_at.into(),
        next.version.into(),
        next.updated_at.into(),
        next.check_at.into(),
        next.activated_at.into(),
        next.ended_at.into(),
        next.price_yen.into(),
    ];
    db::execute(&**txn, SAVE, values).await?;
    Ok(next)
}

const SAVE: &str = "
UPDATE tenant_subscriptions SET status = $2, plan_type = $3, pending_plan_type = $4,
    stripe_id = $5, item_id = $6, client_secret = $7, period_start = $8, period_end = $9,
    cancel_at_period_end = $10, grace_until = $11, change_id = $12, change_plan_type = $13,
    change_at = $14, version = $15, updated_at = $16, check_at = $17, activated_at = $18,
    ended_at = $19, price_yen = $20
WHERE id = $1";

/// When Stripe is asked though nobody told anything.
fn next_check(row: &tenant_subscription::Model, now: DateTime<Utc>) -> DateTime<Utc> {
    let soon = now + TimeDelta::minutes(5);
    if row.change_id.is_some() {
        return soon;
    }
    match row.status {
        SubscriptionStatus::Pending | SubscriptionStatus::Incomplete => soon,
        SubscriptionStatus::Active => {
            let after_renewal = row.period_end.map_or(soon, |end| end + TimeDelta::minutes(10));
            after_renewal.max(soon).min(now + TimeDelta::hours(12))
        }
        SubscriptionStatus::PastDue => {
            let over = row.grace_until.map_or(soon, |until| until + MOMENT);
            over.max(soon).min(now + TimeDelta::hours(1))
        }
        SubscriptionStatus::Suspended => now + TimeDelta::hours(6),
        SubscriptionStatus::Cancelled
        | SubscriptionStatus::IncompleteExpired
        | SubscriptionStatus::Failed => now,
    }
}

/// Stripe forgets nothing but test data: what is gone there is over here. Where it is real money,
/// somebody has changed the key, and nothing is decided by that.
async fn gone(
    app: &App,
    known: tenant_subscription::Model,
    stripe_id: &str,
) -> Result<tenant_subscription::Model> {
    let id = known.id;
    tracing::error!(subscription.id = %id, "Stripe knows no {stripe_id}, which is {id}");
    if app.payments.is_live() || known.stripe_id.as_deref() != Some(stripe_id) {
        return Ok(known);
    }
    due::apply_due(app, known.account_id).await?;
    end(app, &known, SubscriptionStatus::Cancelled).await
}

/// Ends a subscription that Stripe has not, or no more. One that has ended stays as it is.
pub(crate) async fn end(
    app: &App,
    known: &tenant_subscription::Model,
    status: SubscriptionStatus,
) -> Result<tenant_subscription::Model> {
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await?;
    let row = lock(&txn, known.id).await?.ok_or(Error::NotFound("subscription"))?;
    if row.ended_at.is_some() || row.stripe_id != known.stripe_id {
        return Ok(row);
    }
    let next = tenant_subscription::Model {
        status,
        ended_at: Some(now),
        grace_until: None,
        pending_plan_type: None,
        client_secret: None,
        change_id: None,
        change_plan_type: None,
        change_at: None,
        ..row.clone()
    };
    follow(app, &mut txn, (&row, &next), now).await?;
    let saved = save(&mut txn, row, next, now).await?;
    txn.commit().await?;
    Ok(saved)
}

/// Tells the operators of a subscription, once for each difference.
async fn alarm(
    txn: &mut Txn,
    row: &tenant_subscription::Model,
    (found, differing): (&Subscription, &[&'static str]),
    now: DateTime<Utc>,
) -> Result<()> {
    let (kind, id) = (AlertKind::SubscriptionMismatch, row.id);
    let told = json!({ "price": found.price.amount, "currency": found.price.currency });
    let alert = NewAlert {
        tenant: None,
        kind,
        severity: AlertSeverity::Critical,
        dedupe_key: format!("{kind}:{id}:{}:{}", found.id, differing.join(",")),
        data: json!({
            "subscription": id.to_string(), "stripe": found.id, "differs": differing,
            "told": told, "recorded": json!({ "price": row.price_yen, "plan": row.plan_type }),
        }),
    };
    if alerts::raise(txn, alert, now).await? {
        tracing::error!(subscription.id = %id, "{kind}: {id}, {}: {differing:?}", found.id);
    }
    Ok(())
}
