//! Executions as they are stored: one, or a list.

use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QuerySelect, QueryTrait, Select};

use crate::actor::{Actor, Permission};
use crate::ai::input::Parameters;
use crate::ai::service::start::{parameters_place, result_place};
use crate::app::App;
use crate::entity::{execution, execution_tag};
use crate::error::{Error, Result};
use crate::ids::{ExecutionId, TenantId};

/// The executions that the actor may see: their own, or all of the tenant.
pub fn visible(actor: &Actor) -> Result<Select<execution::Entity>> {
    actor.require(Permission::AiExecute)?;
    let of_tenant = execution::Entity::of_tenant(actor.tenant()?);
    if actor.may(Permission::AiReadAll) {
        return Ok(of_tenant);
    }
    Ok(match actor.key() {
        Some(key) => of_tenant.filter(execution::Column::ApiKeyId.eq(key.id)),
        None => of_tenant.filter(execution::Column::UserId.eq(actor.user_id)),
    })
}

/// Whether an execution is the actor's own: their person's, or asked for by their key.
pub fn is_own(actor: &Actor, row: &execution::Model) -> bool {
    match actor.key() {
        Some(key) => row.api_key_id == Some(key.id),
        None => row.user_id == actor.user_id,
    }
}

/// One of them; any other looks missing.
pub async fn get(app: &App, actor: &Actor, id: ExecutionId) -> Result<execution::Model> {
    visible(actor)?
        .filter(execution::Column::Id.eq(id))
        .one(app.db.primary())
        .await?
        .ok_or(Error::NotFound("execution"))
}

/// Those of the ids that the actor may see.
pub async fn rows_of(
    app: &App,
    actor: &Actor,
    ids: &[ExecutionId],
) -> Result<Vec<execution::Model>> {
    // A platform admin without a tenant sees none, beside what they did see.
    if actor.tenant_id.is_none() {
        return Ok(Vec::new());
    }
    Ok(visible(actor)?
        .filter(execution::Column::Id.is_in(ids.iter().copied()))
        .all(app.db.primary())
        .await?)
}

/// Executions with one of these labels.
pub fn tagged(tags: Vec<String>) -> Condition {
    let labelled = execution_tag::Entity::find()
        .select_only()
        .column(execution_tag::Column::ExecutionId)
        .filter(execution_tag::Column::Tag.is_in(tags));
    Condition::all().add(execution::Column::Id.in_subquery(labelled.into_query()))
}

/// A tenant's execution, for code that has judged the right already.
pub(crate) async fn row(app: &App, tenant: TenantId, id: ExecutionId) -> Result<execution::Model> {
    let found = execution::Entity::find_for(tenant, id).one(app.db.primary()).await?;
    found.ok_or(Error::NotFound("execution"))
}

/// What the function was given; none when it was erased.
pub fn parameters(app: &App, row: &execution::Model) -> Result<Option<Parameters>> {
    let Some(sealed) = &row.parameters else { return Ok(None) };
    let text = app.crypto.open(parameters_place(row.id), sealed)?;
    Ok(Some(serde_json::from_str(&text)?))
}

/// What came out; none when nothing did, or when it was erased.
pub fn result(app: &App, row: &execution::Model) -> Result<Option<String>> {
    let Some(sealed) = &row.result else { return Ok(None) };
    Ok(Some(app.crypto.open(result_place(row.id), sealed)?))
}
