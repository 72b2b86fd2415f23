//! Refunds as they are written down: what each takes, and what comes back when it fails.

use chrono::{DateTime, Utc};
use sea_orm::{EntityTrait, IntoActiveModel};
use serde_json::json;

use crate::alerts::{self, AlertKind, NewAlert};
use crate::credits::service::withdraw::put_back;
use crate::db::{self, Txn};
use crate::entity::alert::AlertSeverity;
use crate::entity::credit_purchase;
use crate::entity::credit_withdrawal::WithdrawalReason;
use crate::entity::purchase_refund::{self, RefundStatus};
use crate::error::Result;
use crate::events::{self, Event, PurchaseChanged};
use crate::external::stripe::Refund;
use crate::ids::{DisputeId, RefundId, TypedId, WithdrawalId};
use crate::payments::disputes;

/// What we have of a refund that Stripe tells of: by Stripe's id, or by ours when it was written on
/// it and Stripe's is not known yet.
pub(super) async fn find(
    txn: &Txn,
    row: &credit_purchase::Model,
    told: &Refund,
) -> Result<Option<purchase_refund::Model>> {
    let ours = told.refund.as_deref().and_then(|text| RefundId::parse(text).ok());
    let sql = "SELECT * FROM purchase_refunds WHERE purchase_id = $1
               AND (stripe_refund_id = $2 OR (id = $3 AND stripe_refund_id IS NULL))";
    let values = vec![row.id.into(), told.id.clone().into(), ours.map(|id| id.0).into()];
    db::one(&**txn, sql, values).await
}

/// Whether Stripe has yet to answer a refund of this purchase.
pub(super) async fn is_unanswered(txn: &Txn, row: &credit_purchase::Model) -> Result<bool> {
    let sql = "SELECT * FROM purchase_refunds
               WHERE purchase_id = $1 AND status = 'PENDING' AND stripe_refund_id IS NULL";
    let found: Option<purchase_refund::Model> = db::one(&**txn, sql, vec![row.id.into()]).await?;
    Ok(found.is_some())
}

pub(super) async fn insert(txn: &Txn, refund: &purchase_refund::Model) -> Result<()> {
    let insert = purchase_refund::Entity::insert(refund.clone().into_active_model());
    insert.exec_without_returning(&**txn).await?;
    Ok(())
}

pub(super) async fn update(txn: &Txn, refund: &purchase_refund::Model) -> Result<()> {
    let values = vec![
        refund.id.into(),
        refund.status.as_str().into(),
        refund.withdrawal_id.into(),
        refund.kept.into(),
        refund.dispute_id.into(),
        refund.stripe_refund_id.clone().into(),
        refund.failure_reason.clone().into(),
        refund.next_check_at.into(),
        refund.updated_at.into(),
    ];
    db::execute(&**txn, UPDATE, values).await?;
    Ok(())
}

const UPDATE: &str = "
UPDATE purchase_refunds SET status = $2, withdrawal_id = $3, kept = $4, dispute_id = $5,
    stripe_refund_id = $6, failure_reason = $7, next_check_at = $8, updated_at = $9
WHERE id = $1";

/// Takes the credits that the refund's money stands for, as far as they are unspent and free. What
/// a dispute holds already is left to it, and noted for when that money comes back.
pub(super) async fn take(
    txn: &mut Txn,
    row: &credit_purchase::Model,
    refund: &mut purchase_refund::Model,
    now: DateTime<Utc>,
) -> Result<()> {
    let share = disputes::refund_share(txn, row, refund.amount).await?;
    (refund.kept, refund.dispute_id) = (share.kept, share.dispute);
    refund.withdrawal_id = take_credits(txn, row, share.credits, now).await?;
    save_purchase(txn, row, row.refunded + refund.amount, now).await
}

async fn take_credits(
    txn: &mut Txn,
    row: &credit_purchase::Model,
    credits: i64,
    now: DateTime<Utc>,
) -> Result<Option<WithdrawalId>> {
    let reason = WithdrawalReason::PurchaseRefund;
    let taken = disputes::withdraw_for(txn, row, reason, (credits, row.id.0), now).await?;
    Ok(taken.map(|taken| taken.id))
}

/// Gives back what a refund took that failed.
pub(super) async fn give_back(
    txn: &mut Txn,
    row: &credit_purchase::Model,
    refund: &mut purchase_refund::Model,
    now: DateTime<Utc>,
) -> Result<()> {
    (refund.kept, refund.dispute_id) = (0, None);
    if let Some(withdrawal) = refund.withdrawal_id {
        disputes::unless_closed(put_back(txn, row.account_id, withdrawal, now).await)?;
    }
    save_purchase(txn, row, row.refunded - refund.amount, now).await
}

/// The money of a dispute is back, and so many of its credits: refunds take what they left to it.
/// Each holds one withdrawal, so that all of it comes back should the refund fail.
pub(crate) async fn take_kept(
    txn: &mut Txn,
    row: &credit_purchase::Model,
    dispute: DisputeId,
    mut left: i64,
    now: DateTime<Utc>,
) -> Result<()> {
    let sql = "SELECT * FROM purchase_refunds WHERE dispute_id = $1 ORDER BY created_at, id";
    let refunds: Vec<purchase_refund::Model> = db::all(&**txn, sql, vec![dispute.into()]).await?;
    for mut refund in refunds {
        let more = refund.kept.min(left);
        left -= more;
        let mut credits = more;
        if let Some(withdrawal) = refund.withdrawal_id {
            let back = put_back(txn, row.account_id, withdrawal, now).await;
            credits += disputes::unless_closed(back)?.map_or(0, |back| back.put_back);
        }
        refund.withdrawal_id = take_credits(txn, row, credits, now).await?;
        (refund.kept, refund.dispute_id, refund.updated_at) = (0, None, now);
        update(txn, &refund).await?;
    }
    Ok(())
}

/// What went back of a purchase's price, and how it stands then.
pub(super) async fn save_purchase(
    txn: &mut Txn,
    row: &credit_purchase::Model,
    refunded: i64,
    now: DateTime<Utc>,
) -> Result<()> {
    let status = disputes::standing(txn, row, refunded).await?;
    let sql = "UPDATE credit_purchases SET refunded = $2, status = $3, version = version + 1,
               updated_at = $4 WHERE id = $1";
    let values = vec![row.id.into(), refunded.into(), status.as_str().into(), now.into()];
    db::execute(&**txn, sql, values).await?;
    let (tenant, version) = (row.tenant_id, row.version + 1);
    events::announce(txn, Event::Purchase(PurchaseChanged { purchase: row.id, tenant, version }));
    Ok(())
}

/// Tells the operators, once, of money that did not go back.
pub(super) async fn alarm(
    txn: &mut Txn,
    refund: &purchase_refund::Model,
    now: DateTime<Utc>,
) -> Result<()> {
    if refund.status != RefundStatus::Failed {
        return Ok(());
    }
    let kind = AlertKind::RefundFailed;
    let alert = NewAlert {
        tenant: None,
        kind,
        severity: AlertSeverity::High,
        dedupe_key: format!("{kind}:{}", refund.id),
        data: json!({ "purchase": refund.purchase_id.to_string(), "refund": refund.id.to_string(),
                      "amount": refund.amount, "reason": refund.failure_reason }),
    };
    alerts::raise(txn, alert, now).await?;
    Ok(())
}
