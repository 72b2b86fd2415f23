//! People, the tenants that they belong to, and their addresses.

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QuerySelect};

use crate::actor::{Actor, Role};
use crate::app::App;
use crate::crypto::Place;
use crate::db::{self, Txn};
use crate::entity::plan::PlanType;
use crate::entity::tenant::AnomalyMode;
use crate::entity::tenant::MembershipPolicy;
use crate::entity::{membership, tenant, user};
use crate::error::Result;
use crate::ids::{MembershipId, TenantId, UserId};
use crate::mask;
use crate::text::canonical_email;

/// The purpose of the blind index over e-mail addresses.
const EMAIL_INDEX: &str = "users.email";

/// The blind index of an address, the same wherever an address is kept.
pub fn email_index(app: &App, email: &str) -> Vec<u8> {
    app.crypto.index(EMAIL_INDEX, &canonical_email(email))
}

/// The person with an e-mail address.
pub async fn find_by_email(app: &App, email: &str) -> Result<Option<user::Model>> {
    let index = email_index(app, email);
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

/// A person's e-mail address as an actor may see it: whole for the person and for ADMINs of the
/// tenant, masked for all others.
pub fn visible_email(app: &App, actor: &Actor, user: &user::Model) -> Result<String> {
    let email = email_of(app, user)?;
    let is_own = actor.person().is_ok_and(|person| person == user.id);
    Ok(if is_own || actor.is_admin() { email } else { mask::email(&email) })
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
    let row = tenant_row(new, now);
    tenant::Entity::insert(row.clone().into_active_model()).exec_without_returning(&**txn).await?;
    Ok(row)
}

/// The row of a tenant to make.
pub(crate) fn tenant_row(new: NewTenant<'_>, now: DateTime<Utc>) -> tenant::Model {
    tenant::Model {
        id: TenantId::new(),
        name: new.name.to_owned(),
        slug: new.slug.to_owned(),
        crm_plan_type: new.plan,
        crm_activated_at: None,
        billing_email: None,
        stripe_customer_id: None,
        stripe_customers_lost: 0,
        membership_policy: MembershipPolicy::InviteOnly,
        slack_webhook_url: None,
        slack_channel: None,
        version: 1,
        time_zone: new.time_zone.to_owned(),
        locale: "ja".to_owned(),
        created_at: now,
        updated_at: now,
        anomaly_mode: AnomalyMode::Enforce,
        anomaly_block_minutes: 30,
        deleted_at: None,
    }
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
        email_verified_at: None,
        image: None,
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
        version: 1,
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
