//! Refunds as they are stored.

use chrono::{DateTime, Utc};
use sea_orm::FromQueryResult;

use crate::actor::{Actor, Permission};
use crate::app::App;
use crate::db;
use crate::entity::purchase_refund::{RefundReason, RefundStatus};
use crate::error::{Error, Result};
use crate::ids::{PurchaseId, RefundId};

/// Refunds of one purchase that are shown.
const SHOWN_MAX: i64 = 100;

/// A refund as it is shown.
#[derive(Clone, Debug, FromQueryResult)]
pub struct Shown {
    /// Our id.
    pub id: RefundId,
    /// Its purchase.
    pub purchase_id: PurchaseId,
    /// Where it stands.
    pub status: RefundStatus,
    /// Why; none when it was made at Stripe.
    pub reason: Option<RefundReason>,
    /// What goes back, in minor units.
    pub amount: i64,
    /// Credits that it has taken; none when it failed.
    pub credits: i64,
    /// Stripe's id; none until Stripe has answered.
    pub stripe_refund_id: Option<String>,
    /// Why it failed, in Stripe's word.
    pub failure_reason: Option<String>,
    /// When it was asked for, or told of.
    pub created_at: DateTime<Utc>,
    /// When it changed last.
    pub updated_at: DateTime<Utc>,
}

const SHOW: &str = "
SELECT r.id, r.purchase_id, r.status, r.reason, r.amount,
    CAST(COALESCE(w.taken - w.put_back, 0) AS bigint) AS credits,
    r.stripe_refund_id, r.failure_reason, r.created_at, r.updated_at
FROM purchase_refunds r LEFT JOIN ai_credit_withdrawals w ON w.id = r.withdrawal_id";

/// The refunds of each of these purchases that the actor may see, oldest first.
pub async fn of_purchases(app: &App, actor: &Actor, ids: &[PurchaseId]) -> Result<Vec<Shown>> {
    actor.require(Permission::MoneyManage)?;
    let sql = format!(
        "SELECT * FROM (SELECT s.*, ROW_NUMBER() OVER
             (PARTITION BY s.purchase_id ORDER BY s.created_at, s.id) AS place
             FROM ({SHOW} WHERE r.tenant_id = $1 AND r.purchase_id IN {}) s) o
         WHERE o.place <= $2 ORDER BY o.created_at, o.id",
        db::tuples(1, ids.len(), 3)
    );
    let mut values = vec![actor.tenant()?.into(), SHOWN_MAX.into()];
    values.extend(ids.iter().map(|id| id.0.into()));
    db::all(app.db.primary(), sql, values).await
}

/// What has gone back of a purchase's price, in minor units, without what is on its way.
pub(crate) async fn given_back(app: &App, id: PurchaseId) -> Result<i64> {
    #[derive(FromQueryResult)]
    struct Sum {
        amount: i64,
    }
    let sql = "SELECT CAST(COALESCE(SUM(amount), 0) AS bigint) AS amount FROM purchase_refunds
               WHERE purchase_id = $1 AND status = 'SUCCEEDED'";
    let sum: Option<Sum> = db::one(app.db.primary(), sql, vec![id.into()]).await?;
    Ok(sum.map_or(0, |sum| sum.amount))
}

/// A refund of any tenant, for a platform admin.
pub async fn shown(app: &App, actor: &Actor, id: RefundId) -> Result<Shown> {
    actor.require(Permission::Platform)?;
    let sql = format!("{SHOW} WHERE r.id = $1");
    let refund = db::one(app.db.primary(), sql, vec![id.into()]).await?;
    refund.ok_or(Error::NotFound("refund"))
}
