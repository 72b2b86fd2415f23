//! Taking an unpaid invoice back.

use serde_json::json;

use crate::actor::Actor;
use crate::app::App;
use crate::audit::{self, Action, Subject};
use crate::db;
use crate::entity::credit_purchase::{self, PaymentMethodKind, PaymentStatus};
use crate::error::{Error, Result};
use crate::ids::PurchaseId;
use crate::payments::error::PaymentError;
use crate::payments::invoices::issue;
use crate::payments::service::{learn, lookup};

/// Gives a purchase by invoice up: Stripe voids it. One that was paid meanwhile is granted, and
/// answered as it is. The wish is written down first, so that whoever looks next fulfils it.
pub async fn cancel(app: &App, actor: &Actor, id: PurchaseId) -> Result<credit_purchase::Model> {
    let row = lookup::get(app, actor, id).await?;
    let now = app.clock.db_now();
    let txn = app.db.begin().await?;
    let row = learn::lock(&txn, row.id).await?.ok_or(Error::NotFound("purchase"))?;
    let is_open = matches!(row.status, PaymentStatus::Pending | PaymentStatus::Overdue);
    match row.method {
        PaymentMethodKind::Invoice if row.status == PaymentStatus::Cancelled => return Ok(row),
        PaymentMethodKind::Invoice if is_open => {}
        _ => return Err(PaymentError::NotCancellable.into()),
    }
    let sql = "UPDATE credit_invoices SET cancel_asked_at = $2, next_check_at = $3, updated_at = $2
               WHERE purchase_id = $1 AND cancel_asked_at IS NULL";
    let values = vec![row.id.into(), now.into(), (now + issue::SOON).into()];
    if db::execute(&*txn, sql, values).await? > 0 {
        let subject = Subject::of("credit_purchase", row.id.0).in_tenant(row.tenant_id);
        let subject = subject.with(json!({ "amount": row.amount, "credits": row.credits }));
        audit::record(app, &txn, actor, Action::CreditPurchaseCancelled, subject).await?;
    }
    txn.commit().await?;
    Box::pin(issue::go_on(app, row)).await
}
