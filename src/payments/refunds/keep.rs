//! Refunds as they are written down: what each takes, and what comes back when it fails.

use chrono::{DateTime, Utc};
use sea_orm::{EntityTrait, IntoActiveModel};
use serde_json::json;

use crate::alerts::{self, AlertKind, NewAlert};
use crate::db::{self, Txn};
use crate::entity::alert::AlertSeverity;
use crate::entity::credit_purchase;
use crate::entity::credit_withdrawal::WithdrawalReason;
use crate::entity::purchase_refund;
use crate::error::Result;
use crate::events::{self, Event, PurchaseChanged};
use crate::external::stripe::Refund;
use crate::ids::{RefundId, TypedId};
use crate::payments::disputes;
use crate::payments::refunds::claims;

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
        refund.stripe_refund_id.clone().into(),
        refund.failure_reason.clone().into(),
        refund.next_check_at.into(),
        refund.updated_at.into(),
    ];
    db::execute(&**txn, UPDATE, values).await?;
    Ok(())
}

const UPDATE: &str = "
UPDATE purchase_refunds SET status = $2, withdrawal_id = $3, stripe_refund_id = $4,
    failure_reason = $5, next_check_at = $6, updated_at = $7
WHERE id = $1";

/// Takes the credits that the refund's money stands for: it has gone back already.
pub(super) async fn take(
    txn: &mut Txn,
    row: &credit_purchase::Model,
    refund: &mut purchase_refund::Model,
    now: DateTime<Utc>,
) -> Result<()> {
    let what = (refund.id.0, refund.amount, WithdrawalReason::PurchaseRefund);
    refund.withdrawal_id = claims::take(txn, row, what, now).await?;
    save_purchase(txn, row, row.refunded + refund.amount, now).await
}

/// Gives back what a refund took that failed.
pub(super) async fn give_back(
    txn: &mut Txn,
    row: &credit_purchase::Model,
    refund: &purchase_refund::Model,
    now: DateTime<Utc>,
) -> Result<()> {
    claims::give_back(txn, row, (refund.id.0, refund.withdrawal_id), now).await?;
    save_purchase(txn, row, row.refunded - refund.amount, now).await
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

/// Tells the operators, once, of money that did not go back, or of which Stripe does not say
/// whether it did.
pub(super) async fn alarm(
    txn: &mut Txn,
    refund: &purchase_refund::Model,
    now: DateTime<Utc>,
) -> Result<()> {
    let kind = AlertKind::RefundFailed;
    let alert = NewAlert {
        tenant: None,
        kind,
        severity: AlertSeverity::High,
        dedupe_key: format!("{kind}:{}:{}", refund.id, refund.status),
        data: json!({ "purchase": refund.purchase_id.to_string(), "refund": refund.id.to_string(),
                      "amount": refund.amount, "reason": refund.failure_reason }),
    };
    alerts::raise(txn, alert, now).await?;
    Ok(())
}
