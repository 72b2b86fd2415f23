//! One object of the credits by its id, as the actor may see it. What is not theirs looks missing.

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Select};

use crate::actor::{Actor, Permission};
use crate::app::App;
use crate::credits::service::account;
use crate::db;
use crate::entity::credit_hold::HoldState;
use crate::entity::{
    credit_account, credit_draw, credit_grant, credit_hold, credit_package, credit_transaction,
    monthly_reset, plan,
};
use crate::error::{Error, Result};
use crate::ids::{AccountId, GrantId, PackageId, PlanId, ResetId, TenantId, TransactionId};

/// Rows of a short list at most.
const SHORT_LIST_MAX: u64 = 100;

/// The actor's own account, if this is its id.
pub async fn account(app: &App, actor: &Actor, id: AccountId) -> Result<credit_account::Model> {
    actor.require(Permission::CreditsRead)?;
    let found = account::find(app, actor.tenant()?).await?;
    found.filter(|account| account.id == id).ok_or(Error::NotFound("credit account"))
}

/// A grant of the actor's account.
pub async fn grant(app: &App, actor: &Actor, id: GrantId) -> Result<credit_grant::Model> {
    actor.require(Permission::CreditsRead)?;
    let account = own(app, actor).await?;
    let row = credit_grant::Entity::of_account_and_id(account, id).one(app.db.primary()).await?;
    row.ok_or(Error::NotFound("grant"))
}

/// A ledger line of the actor's account.
pub async fn transaction(
    app: &App,
    actor: &Actor,
    id: TransactionId,
) -> Result<credit_transaction::Model> {
    actor.require(Permission::LedgerRead)?;
    let account = own(app, actor).await?;
    let row = credit_transaction::Entity::of_account_and_id(account, id);
    row.one(app.db.primary()).await?.ok_or(Error::NotFound("transaction"))
}

/// A reset of the actor's account.
pub async fn reset(app: &App, actor: &Actor, id: ResetId) -> Result<monthly_reset::Model> {
    actor.require(Permission::LedgerRead)?;
    let account = own(app, actor).await?;
    let row = monthly_reset::Entity::of_account_and_id(account, id).one(app.db.primary()).await?;
    row.ok_or(Error::NotFound("reset"))
}

/// A package, also one that is no longer on sale: ledgers refer to it.
pub async fn package(app: &App, actor: &Actor, id: PackageId) -> Result<credit_package::Model> {
    actor.require(Permission::CreditsRead)?;
    let row = credit_package::Entity::find_by_id(id).one(app.db.primary()).await?;
    row.ok_or(Error::NotFound("package"))
}

/// A plan's version.
pub async fn plan(app: &App, actor: &Actor, id: PlanId) -> Result<plan::Model> {
    actor.require(Permission::CreditsRead)?;
    let row = plan::Entity::find_by_id(id).one(app.db.primary()).await?;
    row.ok_or(Error::NotFound("plan"))
}

/// The ledger of an account, to be filtered and paged.
pub fn ledger(
    actor: &Actor,
    account: AccountId,
) -> Result<Select<credit_transaction::Entity>> {
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

/// Grants of a tenant by their ids.
pub async fn grants_of(
    app: &App,
    tenant: Option<TenantId>,
    ids: &[GrantId],
) -> Result<Vec<credit_grant::Model>> {
    let Some(tenant) = tenant else { return Ok(Vec::new()) };
    let sql = format!(
        "SELECT g.* FROM ai_credit_grants g JOIN ai_credit_accounts a ON a.id = g.account_id
         WHERE a.tenant_id = $1 AND g.id IN {}",
        db::tuples(1, ids.len(), 2)
    );
    let mut values = vec![tenant.into()];
    values.extend(ids.iter().map(|id| (*id).into()));
    db::all(app.db.primary(), sql, values).await
}

async fn own(app: &App, actor: &Actor) -> Result<AccountId> {
    let account = account::find(app, actor.tenant()?).await?;
    account.map(|account| account.id).ok_or(Error::NotFound("credit account"))
}
