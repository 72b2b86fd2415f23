//! Purchases as they are stored: one, a list, a quote for one to come; and confirming one.

use sea_orm::{ColumnTrait, QueryFilter, Select};

use crate::actor::{Actor, Permission};
use crate::app::App;
use crate::credits::reports::runway::{self, Runway};
use crate::credits::service::account;
use crate::db;
use crate::entity::credit_purchase::{PaymentMethodKind, PaymentStatus};
use crate::entity::{credit_account, credit_package, credit_purchase, credit_transaction};
use crate::error::{Error, Result};
use crate::ids::{PackageId, PurchaseId};
use crate::payments::error::PaymentError;
use crate::payments::invoices::issue;
use crate::payments::price::Price;
use crate::payments::service::{buy, learn};

/// The purchases of the actor's tenant.
pub fn visible(actor: &Actor) -> Result<Select<credit_purchase::Entity>> {
    actor.require(Permission::MoneyManage)?;
    Ok(credit_purchase::Entity::of_tenant(actor.tenant()?))
}

/// One of them; any other looks missing.
pub async fn get(app: &App, actor: &Actor, id: PurchaseId) -> Result<credit_purchase::Model> {
    let found = visible(actor)?.filter(credit_purchase::Column::Id.eq(id));
    found.one(app.db.primary()).await?.ok_or(Error::NotFound("purchase"))
}

/// Those of the ids that the actor may see.
pub async fn rows_of(
    app: &App,
    actor: &Actor,
    ids: &[PurchaseId],
) -> Result<Vec<credit_purchase::Model>> {
    let found = visible(actor)?.filter(credit_purchase::Column::Id.is_in(ids.iter().copied()));
    Ok(found.all(app.db.primary()).await?)
}

/// The ledger lines of purchases that brought credits.
pub async fn lines_of(
    app: &App,
    actor: &Actor,
    ids: &[PurchaseId],
) -> Result<Vec<credit_transaction::Model>> {
    actor.require(Permission::LedgerRead)?;
    let sql = format!(
        "SELECT t.* FROM ai_credit_transactions t
         JOIN credit_purchases p ON p.id = t.reference_id
         WHERE t.transaction_type = 'PURCHASE' AND p.tenant_id = $1 AND t.reference_id IN {}",
        db::tuples(1, ids.len(), 2)
    );
    let mut values = vec![actor.tenant()?.into()];
    values.extend(ids.iter().map(|id| id.0.into()));
    db::all(app.db.primary(), sql, values).await
}

/// What a package would cost, and do.
#[derive(Clone, Debug)]
pub struct Quote {
    /// The package.
    pub package: credit_package::Model,
    /// Its price and what is in it.
    pub price: Price,
    /// How long the credits would last with it.
    pub runway: Runway,
}

/// What a package would cost the actor's tenant today. Nothing is bought.
pub async fn quote(app: &App, actor: &Actor, package: PackageId) -> Result<Quote> {
    actor.require(Permission::MoneyManage)?;
    let account = account::of_tenant(app, actor.tenant()?).await?;
    let now = app.clock.db_now();
    let package = buy::package_on_sale(app.db.primary(), &account, package, now).await?;
    let current_balance = account.current_balance + package.credits_amount;
    let runway = runway::of(app, &credit_account::Model { current_balance, ..account }).await?;
    Ok(Quote { price: Price::of(&package), package, runway })
}

/// Asks Stripe how a purchase stands: the buyer has come back from their bank. One that has ended
/// is answered as it is.
pub async fn confirm(app: &App, actor: &Actor, id: PurchaseId) -> Result<credit_purchase::Model> {
    let row = get(app, actor, id).await?;
    if row.method == PaymentMethodKind::Invoice {
        let is_unpaid = matches!(row.status, PaymentStatus::Pending | PaymentStatus::Overdue);
        return if is_unpaid { Box::pin(issue::go_on(app, row)).await } else { Ok(row) };
    }
    let is_open = matches!(row.status, PaymentStatus::Pending | PaymentStatus::RequiresAction);
    match row.payment_intent_id.clone().filter(|_| is_open) {
        Some(payment) => learn::ask(app, row, &payment).await,
        None => Ok(row),
    }
}

/// Why a purchase was not paid, for who asked for it.
pub fn refusal(row: &credit_purchase::Model) -> Option<PaymentError> {
    match (row.status, row.failure_code) {
        (PaymentStatus::Failed, Some(code)) => Some(PaymentError::Failed(code)),
        (PaymentStatus::Cancelled, _) => Some(PaymentError::Cancelled),
        (PaymentStatus::Failed, None)
        | (
            PaymentStatus::Pending
            | PaymentStatus::RequiresAction
            | PaymentStatus::Completed
            | PaymentStatus::Overdue
            | PaymentStatus::Refunded
            | PaymentStatus::Disputed,
            _,
        ) => None,
    }
}

/// What lets the buyer's page finish the payment; none when there is nothing to finish.
pub fn client_secret(app: &App, row: &credit_purchase::Model) -> Result<Option<String>> {
    let sealed = row.client_secret.as_ref();
    sealed.map(|sealed| app.crypto.open(learn::secret_place(row.id), sealed)).transpose()
}
