//! Renewals that were not paid: a week of grace with alerts, then the plan is suspended.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use crate::alerts::{self, AlertKind, NewAlert};
use crate::app::App;
use crate::db::Txn;
use crate::entity::alert::AlertSeverity;
use crate::entity::tenant_subscription::{self, SubscriptionStatus};
use crate::error::Result;
use crate::plans::service::learn;

/// How long a failed renewal is waited for, from the beginning of the month that was not paid.
pub const GRACE: TimeDelta = TimeDelta::days(7);
/// Days of the grace on which an alert is raised.
const DAYS: [i64; 3] = [0, 3, 6];

/// Raises the alerts that a subscription has come to, each once.
pub(crate) async fn raise(
    txn: &mut Txn,
    row: &tenant_subscription::Model,
    now: DateTime<Utc>,
) -> Result<()> {
    let Some(until) = row.grace_until else { return Ok(()) };
    let day = (now - (until - GRACE)).num_days();
    let come = DAYS.into_iter().filter(|due| *due <= day).max();
    let (kind, severity, day) = match (row.status, come) {
        (SubscriptionStatus::Suspended, _) => {
            (AlertKind::PlanSuspended, AlertSeverity::Critical, None)
        }
        (SubscriptionStatus::PastDue, Some(day)) if day < 6 => {
            (AlertKind::PlanPastDue, AlertSeverity::Warning, Some(day))
        }
        (SubscriptionStatus::PastDue, Some(day)) => {
            (AlertKind::PlanPastDue, AlertSeverity::High, Some(day))
        }
        (
            SubscriptionStatus::PastDue
            | SubscriptionStatus::Pending
            | SubscriptionStatus::Incomplete
            | SubscriptionStatus::Active
            | SubscriptionStatus::Cancelled
            | SubscriptionStatus::IncompleteExpired
            | SubscriptionStatus::Failed,
            _,
        ) => return Ok(()),
    };
    let part = day.map(|day| format!(":{day}")).unwrap_or_default();
    let alert = NewAlert {
        tenant: Some(row.tenant_id),
        kind,
        severity,
        dedupe_key: format!("{kind}:{}:{}{part}", row.id, until.timestamp()),
        data: json!({ "plan": row.plan_type, "graceUntil": until, "day": day }),
    };
    alerts::raise(txn, alert, now).await?;
    Ok(())
}

/// What the time alone does to a subscription: alerts come due, and its grace ends. Stripe need not
/// answer for that.
pub(crate) async fn pass_time(
    app: &App,
    row: &tenant_subscription::Model,
    now: DateTime<Utc>,
) -> Result<()> {
    if row.status != SubscriptionStatus::PastDue {
        return Ok(());
    }
    let mut txn = app.db.begin().await?;
    let Some(row) = learn::lock(&txn, row.id).await? else { return Ok(()) };
    let is_over = row.grace_until.is_some_and(|until| until < now);
    let row = if row.status == SubscriptionStatus::PastDue && is_over {
        let next =
            tenant_subscription::Model { status: SubscriptionStatus::Suspended, ..row.clone() };
        learn::save(&mut txn, row, next, now).await?
    } else {
        row
    };
    raise(&mut txn, &row, now).await?;
    txn.commit().await
}
