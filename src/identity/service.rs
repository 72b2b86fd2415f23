//! Authentication, and the people and tenants behind it.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{
    ColumnTrait, EntityTrait, FromQueryResult, IntoActiveModel, QueryFilter, QuerySelect, Value,
};

use crate::actor::{Actor, Permission, Role};
use crate::app::App;
use crate::batch::Lookup;
use crate::crypto::Place;
use crate::db::{self, Rows, Txn};
use crate::entity::plan::PlanType;
use crate::entity::{membership, tenant, user};
use crate::error::{Error, Lang, Result};
use crate::ids::{MembershipId, TenantId, UserId};
use crate::text::canonical_email;
use crate::tokens::Claims;

/// The purpose of the blind index over e-mail addresses.
const EMAIL_INDEX: &str = "users.email";

/// Who stands behind a bearer token. Anything wrong with it is [`Error::Unauthenticated`].
pub async fn authenticate(app: &App, bearer: &str, lang: Lang) -> Result<Actor> {
    let now = app.clock.now();
    let claims = app.tokens.verify(bearer, now)?;
    let expires_at = DateTime::from_timestamp(claims.exp, 0).ok_or(Error::Unauthenticated)?;
    let standing = standing(app, claims.sub, claims.tid).await?;
    let standing = standing.ok_or(Error::Unauthenticated)?;
    Ok(Actor {
        user_id: claims.sub,
        tenant_id: claims.tid,
        role: standing.role,
        is_platform_admin: standing.is_platform_admin,
        expires_at,
        lang,
    })
}

/// Whether an actor who was let in may still do this: their token has not ended, and their role,
/// read again, allows it. Subscriptions ask before each event.
pub async fn recheck(app: &App, actor: &Actor, permission: Permission) -> Result<()> {
    refresh(app, actor).await?.require(permission)
}

/// The actor with the rights that they have now; refused when their token has ended or they have
/// no place in the tenant any more.
pub async fn refresh(app: &App, actor: &Actor) -> Result<Actor> {
    if actor.expires_at <= app.clock.now() {
        return Err(Error::Unauthenticated);
    }
    let standing = standing(app, actor.user_id, actor.tenant_id).await?;
    let standing = standing.ok_or(Error::Unauthenticated)?;
    Ok(Actor {
        role: standing.role,
        is_platform_admin: standing.is_platform_admin,
        ..actor.clone()
    })
}

/// A person's rights in a tenant.
#[derive(Clone, Copy)]
struct Standing {
    is_platform_admin: bool,
    role: Option<Role>,
}

/// A person's rights in a tenant, now; none when they have no place in it. Read together with those
/// of others who are asked about at the same moment: an event for thousands of sockets asks once.
async fn standing(app: &App, user: UserId, tenant: Option<TenantId>) -> Result<Option<Standing>> {
    let found = app.batches.find::<Standings>(app, (user, tenant)).await?;
    let has_place = |standing: &Standing| {
        tenant.is_none() || standing.role.is_some() || standing.is_platform_admin
    };
    Ok(found.filter(has_place))
}

/// Reads standings: of people who are there, in tenants that are there, or in none.
struct Standings;

impl Lookup for Standings {
    type Context = App;
    type Key = (UserId, Option<TenantId>);
    type Value = Standing;

    async fn read(app: &App, keys: Vec<Self::Key>) -> Result<HashMap<Self::Key, Standing>> {
        #[derive(FromQueryResult)]
        struct Row {
            user_id: UserId,
            tenant_id: TenantId,
            is_platform_admin: bool,
            role: Option<Role>,
        }
        let nowhere = TenantId(uuid::Uuid::nil());
        let mut rows = Rows::default();
        for (user, tenant) in keys {
            rows.push([Value::from(user), tenant.unwrap_or(nowhere).into()]);
        }
        let conn = app.db.primary();
        let (table, mut values) = rows.table(conn, 2);
        let sql = format!(
            "SELECT u.id AS user_id, v.column2 AS tenant_id, u.is_platform_admin, m.role
             FROM {table} JOIN users u ON u.id = v.column1 AND u.deleted_at IS NULL
             LEFT JOIN tenants t ON t.id = v.column2 AND t.deleted_at IS NULL
             LEFT JOIN memberships m ON m.user_id = u.id AND m.tenant_id = t.id
             WHERE v.column2 = $1 OR t.id IS NOT NULL"
        );
        values.insert(0, nowhere.into());
        let found: Vec<Row> = db::all(conn, sql, values).await?;
        let entry = |row: Row| {
            let tenant = Some(row.tenant_id).filter(|tenant| *tenant != nowhere);
            let Row { is_platform_admin, role, .. } = row;
            ((row.user_id, tenant), Standing { is_platform_admin, role })
        };
        Ok(found.into_iter().map(entry).collect())
    }
}

/// Signs an access token for a person, for a tenant of theirs. A platform admin may name any.
pub async fn issue_token(
    app: &App,
    user: UserId,
    tenant: Option<TenantId>,
    lifetime: TimeDelta,
) -> Result<String> {
    standing(app, user, tenant).await?.ok_or(Error::NotFound("member of that tenant"))?;
    let now = app.clock.now().timestamp();
    let claims =
        Claims { sub: user, tid: tenant, iat: now, exp: now + lifetime.num_seconds(), nbf: None };
    app.tokens.sign(claims)
}

/// The person with an e-mail address.
pub async fn find_by_email(app: &App, email: &str) -> Result<Option<user::Model>> {
    let index = app.crypto.index(EMAIL_INDEX, &canonical_email(email));
    Ok(user::Entity::find()
        .filter(user::Column::EmailIndex.eq(index))
        .filter(user::Column::DeletedAt.is_null())
        .one(app.db.primary())
        .await?)
}

/// The tenant with a slug.
pub async fn tenant_by_slug(app: &App, slug: &str) -> Result<Option<tenant::Model>> {
    Ok(tenant::Entity::find()
        .filter(tenant::Column::Slug.eq(slug))
        .filter(tenant::Column::DeletedAt.is_null())
        .one(app.db.primary())
        .await?)
}

/// Whether a person belongs to a tenant.
pub async fn is_member(app: &App, tenant: TenantId, user: UserId) -> Result<bool> {
    let membership = membership::Entity::of_tenant_and_user(tenant, user);
    Ok(membership.one(app.db.primary()).await?.is_some())
}

/// The tenant of a person who belongs to just one.
pub async fn only_tenant_of(app: &App, user: UserId) -> Result<Option<TenantId>> {
    let rows = membership::Entity::find()
        .filter(membership::Column::UserId.eq(user))
        .limit(2)
        .all(app.db.primary())
        .await?;
    Ok(match rows.as_slice() {
        [only] => Some(only.tenant_id),
        _ => None,
    })
}

/// A person's e-mail address, opened.
pub fn email_of(app: &App, user: &user::Model) -> Result<String> {
    app.crypto.open(email_place(user.id), &user.email)
}

fn email_place(user: UserId) -> Place {
    Place { table: "users", column: "email", row: user.0 }
}

/// A tenant to make.
#[derive(Clone, Debug)]
pub struct NewTenant<'a> {
    /// The name that people see.
    pub name: &'a str,
    /// The name in addresses and commands.
    pub slug: &'a str,
    /// Its plan.
    pub plan: PlanType,
    /// IANA name of its zone.
    pub time_zone: &'a str,
}

/// Makes a tenant.
pub async fn create_tenant(
    txn: &Txn,
    new: NewTenant<'_>,
    now: DateTime<Utc>,
) -> Result<tenant::Model> {
    let row = tenant::Model {
        id: TenantId::new(),
        name: new.name.to_owned(),
        slug: new.slug.to_owned(),
        crm_plan_type: new.plan,
        crm_activated_at: None,
        billing_email: None,
        stripe_customer_id: None,
        time_zone: new.time_zone.to_owned(),
        locale: "ja".to_owned(),
        created_at: now,
        updated_at: now,
        deleted_at: None,
    };
    tenant::Entity::insert(row.clone().into_active_model()).exec_without_returning(&**txn).await?;
    Ok(row)
}

/// A person to make.
#[derive(Clone, Copy, Debug)]
pub struct NewUser<'a> {
    /// The name that others see.
    pub name: &'a str,
    /// Their address; sealed at once.
    pub email: &'a str,
    /// May do what crosses tenants.
    pub is_platform_admin: bool,
}

/// Makes a person.
pub async fn create_user(
    app: &App,
    txn: &Txn,
    new: NewUser<'_>,
    now: DateTime<Utc>,
) -> Result<user::Model> {
    let id = UserId::new();
    let email = canonical_email(new.email);
    let row = user::Model {
        id,
        name: new.name.to_owned(),
        email: app.crypto.seal(email_place(id), &email)?,
        email_index: app.crypto.index(EMAIL_INDEX, &email),
        is_platform_admin: new.is_platform_admin,
        locale: "ja".to_owned(),
        created_at: now,
        updated_at: now,
        deleted_at: None,
    };
    user::Entity::insert(row.clone().into_active_model()).exec_without_returning(&**txn).await?;
    Ok(row)
}

/// Gives a person a role in a tenant.
pub async fn add_member(
    txn: &Txn,
    (tenant_id, user_id): (TenantId, UserId),
    role: Role,
    now: DateTime<Utc>,
) -> Result<()> {
    let row = membership::Model {
        id: MembershipId::new(),
        tenant_id,
        user_id,
        role,
        created_at: now,
        updated_at: now,
    };
    membership::Entity::insert(row.into_active_model()).exec_without_returning(&**txn).await?;
    Ok(())
}

/// People of the actor's tenant by their ids, and the actor.
pub async fn users(app: &App, actor: &Actor, ids: &[UserId]) -> Result<Vec<user::Model>> {
    let list = db::tuples(1, ids.len(), 3);
    let sql = format!(
        "SELECT u.* FROM users u WHERE u.id IN {list} AND (u.id = $2 OR EXISTS
         (SELECT 1 FROM memberships m WHERE m.user_id = u.id AND m.tenant_id = $1))"
    );
    let tenant = actor.tenant_id.unwrap_or(TenantId(uuid::Uuid::nil()));
    let mut values = vec![tenant.into(), actor.user_id.into()];
    values.extend(ids.iter().map(|id| (*id).into()));
    db::all(app.db.primary(), sql, values).await
}

/// The actor's tenant, if its id is among these; all of them for platform admins.
pub async fn tenants(app: &App, actor: &Actor, ids: &[TenantId]) -> Result<Vec<tenant::Model>> {
    let may_see = |id: &TenantId| actor.is_platform_admin || actor.tenant_id == Some(*id);
    let visible: Vec<TenantId> = ids.iter().copied().filter(may_see).collect();
    Ok(tenant::Entity::find()
        .filter(tenant::Column::Id.is_in(visible))
        .all(app.db.primary())
        .await?)
}
