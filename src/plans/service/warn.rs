//! Renewals that were not paid: a week of grace with alerts, then the plan is suspended.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::EntityTrait;
use serde_json::json;

use crate::alerts::{self, AlertKind, NewAlert};
use crate::app::App;
use crate::credits::period;
use crate::db::Txn;
use crate::entity::alert::AlertSeverity;
use crate::entity::tenant;
use crate::entity::tenant_subscription::{self, SubscriptionStatus};
use crate::error::{Lang, Result};
use crate::payments::notice::{self, grouped};
use crate::plans::service::learn;

/// How long a failed renewal is waited for, from the beginning of the month that was not paid.
pub const GRACE: TimeDelta = TimeDelta::days(7);
/// Days of the grace on which an alert is raised.
const DAYS: [i64; 3] = [0, 3, 6];

/// Raises the alerts that a subscription has come to, each once, and mails who pays.
pub(crate) async fn raise(
    app: &App,
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
    let key = format!("{kind}:{}:{}{part}", row.id, until.timestamp());
    let alert = NewAlert {
        tenant: Some(row.tenant_id),
        kind,
        severity,
        dedupe_key: key.clone(),
        data: json!({ "plan": row.plan_type, "graceUntil": until, "day": day }),
    };
    if alerts::raise(txn, alert, now).await? {
        let words = words(txn, row, until).await?;
        notice::tell_admin(app, txn, (row.tenant_id, row.user_id), (key, words)).await?;
    }
    Ok(())
}

/// What is written of a renewal that was not paid.
async fn words(
    txn: &Txn,
    row: &tenant_subscription::Model,
    until: DateTime<Utc>,
) -> Result<impl Fn(Lang) -> (String, String) + use<>> {
    let tenant = tenant::Entity::find_by_id(row.tenant_id).one(&**txn).await?;
    let zone = period::zone(tenant.as_ref().map_or("", |tenant| &tenant.time_zone));
    // The last whole day.
    let day = period::local_day(until - TimeDelta::days(1), zone);
    let (price, plan) = (grouped(row.price_yen), row.plan_type);
    let is_suspended = row.status == SubscriptionStatus::Suspended;
    Ok(move |lang: Lang| {
        match is_suspended {
        false => (
            lang.pick("プランのお支払いが完了していません", "Your plan's payment did not go through"),
            lang.pick(
                format!(
                    "プラン「{plan}」（月額{price}円、税込）の更新のお支払いが完了しませんでした。\n\
                     {day}までにお支払いいただくと、プランはそのまま継続します。お支払いがない場合、\
                     次回から無料クレジットは付与されません。購入済みのクレジットは引き続きご利用\
                     いただけます。\n\nお支払いは管理画面のプランのページで行えます。別のカードもご利用いただけます。\n"
                ),
                format!(
                    "The renewal of the plan {plan} ({price} yen per month, tax included) was not \
                     paid.\nThe plan goes on if it is paid by {day}. After that no free credits \
                     come with the next reset; credits that were bought stay usable.\n\n\
                     It can be paid on the plan's page, with another card, too.\n"
                ),
            ),
        ),
        true => (
            lang.pick("プランを停止しました", "Your plan is suspended"),
            lang.pick(
                format!(
                    "プラン「{plan}」（月額{price}円、税込）のお支払いが確認できないため、プランを停止\
                     しました。\n次回から無料クレジットは付与されません。購入済みのクレジットは引き\
                     続きご利用いただけます。\n\nお支払いの完了後、プランは再開します。\n"
                ),
                format!(
                    "The plan {plan} ({price} yen per month, tax included) is suspended, as it was \
                     not paid.\nNo free credits come with the next reset; credits that were bought \
                     stay usable.\n\nThe plan resumes when it is paid.\n"
                ),
            ),
        ),
    }
    })
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
    raise(app, &mut txn, &row, now).await?;
    txn.commit().await
}
