//! One object of the credits by its id, as the actor may see it. What is not theirs looks missing.

use sea_orm::{
    ColumnTrait, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QuerySelect, Select, Value,
};

use crate::actor::{Actor, Permission};
use crate::app::App;
use crate::credits::service::account;
use crate::db;
use crate::entity::credit_hold::HoldState;
use crate::entity::{
    credit_account, credit_draw, credit_grant, credit_hold, credit_package, credit_transaction,
    monthly_reset, plan,
};
use crate::error::Result;
use crate::ids::{
    AccountId, GrantId, PackageId, PlanId, ResetId, TenantId, TransactionId, TypedId,
};

/// Rows of a short list at most.
const SHORT_LIST_MAX: u64 = 100;

/// The actor's own account, if its id is among these.
pub async fn accounts(
    app: &App,
    actor: &Actor,
    ids: &[AccountId],
) -> Result<Vec<credit_account::Model>> {
    actor.require(Permission::CreditsRead)?;
    let found = account::find(app, actor.tenant()?).await?;
    Ok(found.into_iter().filter(|account| ids.contains(&account.id)).collect())
}

/// Grants of the actor's account.
pub async fn grants(app: &App, actor: &Actor, ids: &[GrantId]) -> Result<Vec<credit_grant::Model>> {
    actor.require(Permission::CreditsRead)?;
    of_tenant(app, actor.tenant()?, "ai_credit_grants", values(ids)).await
}

/// Ledger lines of the actor's account.
pub async fn transactions(
    app: &App,
    actor: &Actor,
    ids: &[TransactionId],
) -> Result<Vec<credit_transaction::Model>> {
    actor.require(Permission::LedgerRead)?;
    of_tenant(app, actor.tenant()?, "ai_credit_transactions", values(ids)).await
}

/// Resets of the actor's account.
pub async fn resets_of(
    app: &App,
    actor: &Actor,
    ids: &[ResetId],
) -> Result<Vec<monthly_reset::Model>> {
    actor.require(Permission::LedgerRead)?;
    of_tenant(app, actor.tenant()?, "monthly_credit_resets", values(ids)).await
}

/// Packages, also those that are no longer on sale: ledgers refer to them.
pub async fn packages(
    app: &App,
    actor: &Actor,
    ids: &[PackageId],
) -> Result<Vec<credit_package::Model>> {
    actor.require(Permission::CreditsRead)?;
    let found = credit_package::Entity::find()
        .filter(credit_package::Column::Id.is_in(ids.iter().copied()));
    Ok(found.all(app.db.primary()).await?)
}

/// Plans' versions.
pub async fn plans(app: &App, actor: &Actor, ids: &[PlanId]) -> Result<Vec<plan::Model>> {
    actor.require(Permission::CreditsRead)?;
    let found = plan::Entity::find().filter(plan::Column::Id.is_in(ids.iter().copied()));
    Ok(found.all(app.db.primary()).await?)
}

/// Rows of a table that hang on the tenant's account.
async fn of_tenant<R: FromQueryResult>(
    app: &App,
    tenant: TenantId,
    table: &'static str,
    ids: Vec<Value>,
) -> Result<Vec<R>> {
    let sql = format!(
        "SELECT r.* FROM {table} r JOIN ai_credit_accounts a ON a.id = r.account_id
         WHERE a.tenant_id = $1 AND r.id IN {}",
        db::tuples(1, ids.len(), 2)
    );
    let mut all = vec![tenant.into()];
    all.extend(ids);
    db::all(app.db.primary(), sql, all).await
}

fn values<I: TypedId>(ids: &[I]) -> Vec<Value> {
    ids.iter().map(|id| id.uuid().into()).collect()
}

/// The ledger of an account, to be filtered and paged.
pub fn ledger(actor: &Actor, account: AccountId) -> Result<Select<credit_transaction::Entity>> {
    actor.require(Permission::LedgerRead)?;
    Ok(credit_transaction::Entity::of_account(account))
}

/// The resets of an account, to be paged.
pub fn resets(actor: &Actor, account: AccountId) -> Result<Select<monthly_reset::Entity>> {
    actor.require(Permission::LedgerRead)?;
    Ok(monthly_reset::Entity::of_account(account))
}

/// Grants with credits left, those that expire first before the others; at most 100.
pub async fn live_grants(app: &App, account: AccountId) -> Result<Vec<credit_grant::Model>> {
    let column = credit_grant::Column::ExpiresAt;
    Ok(credit_grant::Entity::of_account(account)
        .filter(credit_grant::Column::Remaining.gt(0))
        .order_by_asc(column.is_null())
        .order_by_asc(column)
        .order_by_asc(credit_grant::Column::CreatedAt)
        .order_by_asc(credit_grant::Column::Id)
        .limit(SHORT_LIST_MAX)
        .all(app.db.primary())
        .await?)
}

/// Holds of running calls, oldest first; at most 100.
pub async fn live_holds(app: &App, account: AccountId) -> Result<Vec<credit_hold::Model>> {
    Ok(credit_hold::Entity::of_account(account)
        .filter(credit_hold::Column::State.eq(HoldState::Active))
        .order_by_asc(credit_hold::Column::Id)
        .limit(SHORT_LIST_MAX)
        .all(app.db.primary())
        .await?)
}

/// What settlements drew, by their ledger lines.
pub async fn draws_of(app: &App, lines: &[TransactionId]) -> Result<Vec<credit_draw::Model>> {
    Ok(credit_draw::Entity::find()
        .filter(credit_draw::Column::TransactionId.is_in(lines.iter().copied()))
        .order_by_asc(credit_draw::Column::Id)
        .all(app.db.primary())
        .await?)
}
