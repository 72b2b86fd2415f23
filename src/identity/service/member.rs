//! Members of a tenant: their roles, and how they leave. The last ADMIN stays.

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, ModelTrait, PaginatorTrait,
    QueryFilter, QueryOrder, QuerySelect, Select,
};
use serde_json::json;

use crate::actor::{Actor, Permission, Role};
use crate::app::App;
use crate::audit::{self, Action, Changes, Subject};
use crate::db::{self, Txn};
use crate::entity::{membership, tenant};
use crate::error::{Error, Result};
use crate::identity::error::IdentityError;
use crate::identity::service::key;
use crate::identity::service::tenant::{announce_ended, lock, refuse_stale};
use crate::ids::{MembershipId, TenantId, UserId};

/// Tenants of one person that are shown at most.
const PLACES_MAX: u64 = 100;

/// The members of the actor's tenant, to be filtered and paged.
pub fn list(actor: &Actor) -> Result<Select<membership::Entity>> {
    actor.require(Permission::MembersRead)?;
    Ok(membership::Entity::of_tenant(actor.tenant()?))
}

/// Members of the actor's tenant by their ids.
pub async fn find(
    app: &App,
    actor: &Actor,
    ids: &[MembershipId],
) -> Result<Vec<membership::Model>> {
    let found = list(actor)?.filter(membership::Column::Id.is_in(ids.iter().copied()));
    Ok(found.all(app.db.primary()).await?)
}

/// When people were last active in the actor's tenant, as far as their sessions there tell: of all
/// for ADMINs, of themselves for others. What they do in other tenants is no concern of this one.
pub async fn last_active(
    app: &App,
    actor: &Actor,
    people: &[UserId],
) -> Result<Vec<(UserId, DateTime<Utc>)>> {
    #[derive(sea_orm::FromQueryResult)]
    struct Row {
        user_id: UserId,
        last_used_at: DateTime<Utc>,
    }
    let (tenant, own) = (actor.tenant()?, actor.person().ok());
    let may_see = |person: &&UserId| actor.is_admin() || own == Some(**person);
    let visible: Vec<UserId> = people.iter().filter(may_see).copied().collect();
    if visible.is_empty() {
        return Ok(Vec::new());
    }
    let list = db::tuples(1, visible.len(), 2);
    let sql = format!(
        "SELECT user_id, MAX(last_used_at) AS last_used_at FROM sessions
         WHERE tenant_id = $1 AND user_id IN {list} GROUP BY user_id"
    );
    let mut values = vec![tenant.into()];
    values.extend(visible.into_iter().map(sea_orm::Value::from));
    let rows: Vec<Row> = db::all(app.db.primary(), sql, values).await?;
    Ok(rows.into_iter().map(|row| (row.user_id, row.last_used_at)).collect())
}

/// The tenants in which the actor is a member, the oldest place first; at most 100.
pub async fn places(app: &App, actor: &Actor) -> Result<Vec<(tenant::Model, Role)>> {
    let person = actor.person()?;
    let places = membership::Entity::find()
        .filter(membership::Column::UserId.eq(person))
        .order_by_asc(membership::Column::Id)
        .limit(PLACES_MAX)
        .all(app.db.primary())
        .await?;
    let ids = places.iter().map(|place| place.tenant_id);
    let tenants = tenant::Entity::find()
        .filter(tenant::Column::Id.is_in(ids))
        .filter(tenant::Column::DeletedAt.is_null())
        .all(app.db.primary())
        .await?;
    let with_tenant = |place: membership::Model| {
        let tenant = tenants.iter().find(|tenant| tenant.id == place.tenant_id)?;
        Some((tenant.clone(), place.role))
    };
    Ok(places.into_iter().filter_map(with_tenant).collect())
}

/// A tenant that the actor may switch to.
pub async fn place(app: &App, actor: &Actor, tenant: TenantId) -> Result<tenant::Model> {
    let row = tenant::Entity::find_by_id(tenant).one(app.db.primary()).await?;
    let is_member = super::people::is_member(app, tenant, actor.person()?).await?;
    let row = row.filter(|_| is_member || actor.is_platform_admin);
    row.ok_or(Error::NotFound("tenant"))
}

/// Changes a member's role.
pub async fn change_role(
    app: &App,
    actor: &Actor,
    (id, role): (MembershipId, Role),
    expected_version: Option<i64>,
) -> Result<membership::Model> {
    actor.require(Permission::MembersManage)?;
    let tenant = actor.tenant()?;
    let now = app.clock.db_now();
    let txn = app.db.begin().await?;
    lock(&txn, tenant).await?;
    let old = membership::Entity::find_for(tenant, id).one(&*txn).await?;
    let old = old.ok_or(Error::NotFound("member"))?;
    refuse_stale(expected_version, old.version)?;
    if old.role == role {
        return Ok(old);
    }
    refuse_last_admin(&txn, &old).await?;
    let changes = Changes::new().plain("role", &old.role, &role);
    let version = old.version + 1;
    let new = membership::Model { role, version, updated_at: now, ..old };
    new.clone().into_active_model().reset_all().update(&*txn).await?;
    let subject = subject(&new).changing(changes);
    audit::record(app, &txn, actor, Action::MemberRoleChanged, subject).await?;
    txn.commit().await?;
    Ok(new)
}

/// What becomes of the API keys in force that somebody made who is no member any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysOfGone {
    /// They end: their maker knows the secrets.
    End,
    /// They stay, for servers that must go on until they have others.
    Stay,
}

/// Takes a member out of the tenant, or leaves it. Their sessions in it end. Who leaves by
/// themselves may come back by an open door; who was taken out, by a new invitation only.
pub async fn remove(
    app: &App,
    actor: &Actor,
    (id, keys): (MembershipId, KeysOfGone),
) -> Result<membership::Model> {
    let (tenant, person) = (actor.tenant()?, actor.person()?);
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await?;
    lock(&txn, tenant).await?;
    let row = membership::Entity::find_for(tenant, id).one(&*txn).await?;
    let may_remove =
        |row: &membership::Model| row.user_id == person || actor.may(Permission::MembersManage);
    let row = row.filter(may_remove).ok_or(Error::NotFound("member"))?;
    refuse_last_admin(&txn, &row).await?;
    row.clone().delete(&*txn).await?;
    let is_own = row.user_id == person;
    if !is_own {
        remember(&txn, &row, person, now).await?;
    }
    end_sessions(&mut txn, (tenant, row.user_id), now).await?;
    if keys == KeysOfGone::End {
        key::revoke_of_maker(app, &mut txn, actor, (tenant, row.user_id)).await?;
    }
    // An invitation that lies in their mailbox brings nobody back.
    let sql = "UPDATE invitations SET revoked_at = $3 WHERE tenant_id = $1
               AND email_index = (SELECT email_index FROM users WHERE id = $2)
               AND accepted_at IS NULL AND revoked_at IS NULL";
    db::execute(&*txn, sql, vec![tenant.into(), row.user_id.into(), now.into()]).await?;
    let subject = subject(&row)
        .with(json!({ "user": row.user_id.to_string(), "isOwn": is_own }))
        .changing(Changes::new().plain("role", &Some(row.role), &None));
    audit::record(app, &txn, actor, Action::MemberRemoved, subject).await?;
    txn.commit().await?;
    Ok(row)
}

/// Refused when nobody else is an ADMIN. The tenant is locked: two who go at once are counted one
/// after the other.
async fn refuse_last_admin(txn: &Txn, going: &membership::Model) -> Result<()> {
    if going.role != Role::Admin {
        return Ok(());
    }
    let admins = membership::Entity::of_tenant(going.tenant_id)
        .filter(membership::Column::Role.eq(Role::Admin))
        .filter(membership::Column::Id.ne(going.id));
    if admins.count(&**txn).await? == 0 { Err(IdentityError::LastAdmin.into()) } else { Ok(()) }
}

/// Marks a removal, which keeps an open door closed to them.
async fn remember(
    txn: &Txn,
    gone: &membership::Model,
    by: UserId,
    now: DateTime<Utc>,
) -> Result<()> {
    let sql = "INSERT INTO membership_removals (tenant_id, user_id, removed_at, removed_by)
               VALUES ($1, $2, $3, $4) ON CONFLICT (tenant_id, user_id)
               DO UPDATE SET removed_at = excluded.removed_at, removed_by = excluded.removed_by";
    let values = vec![gone.tenant_id.into(), gone.user_id.into(), now.into(), by.into()];
    db::execute(&**txn, sql, values).await?;
    Ok(())
}

async fn end_sessions(
    txn: &mut Txn,
    (tenant, person): (TenantId, UserId),
    now: DateTime<Utc>,
) -> Result<()> {
    let sql = "UPDATE sessions SET ended_at = $3, end_reason = 'REVOKED'
               WHERE user_id = $1 AND tenant_id = $2 AND ended_at IS NULL RETURNING id";
    announce_ended(txn, sql, vec![person.into(), tenant.into(), now.into()]).await
}

fn subject(row: &membership::Model) -> Subject {
    let data = json!({ "user": row.user_id.to_string() });
    Subject::of("membership", row.id.0).in_tenant(row.tenant_id).with(data)
}
