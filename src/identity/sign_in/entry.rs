//! What happens when an address was proved: who it is, whether they may come in, and where to.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde_json::json;

use crate::actor::{Role, Source};
use crate::app::App;
use crate::audit::{self, Action};
use crate::db::{self, Txn};
use crate::entity::{membership_removal, user};
use crate::error::Result;
use crate::identity::error::IdentityError;
use crate::identity::service::people::{self, NewUser};
use crate::ids::{MembershipId, TenantId, UserId};

/// An address that somebody proved to be theirs, and where they knock.
pub(super) struct Proved<'a> {
    /// The canonical address.
    pub(super) email: &'a str,
    /// A name for a newcomer.
    pub(super) name: Option<&'a str>,
    /// The tenant of the site.
    pub(super) tenant: Option<TenantId>,
    /// Where their request came from.
    pub(super) source: &'a Arc<Source>,
}

/// Whether somebody with this address may come in: they are known, or invited, or the door of the
/// tenant is open.
pub(super) async fn may_enter(
    app: &App,
    txn: &Txn,
    index: &[u8],
    tenant: Option<TenantId>,
) -> Result<bool> {
    #[derive(sea_orm::FromQueryResult)]
    struct Row {
        is_known: bool,
        is_open: bool,
        is_invited: bool,
    }
    // All three are looked up, whatever the first says: the time tells nobody anything.
    let sql = "SELECT EXISTS (SELECT 1 FROM users WHERE email_index = $1 AND deleted_at IS NULL)
                 AS is_known,
               EXISTS (SELECT 1 FROM tenants WHERE id = $2 AND deleted_at IS NULL
                       AND membership_policy = 'OPEN') AS is_open,
               EXISTS (SELECT 1 FROM invitations WHERE email_index = $1
                       AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at > $3)
                 AS is_invited";
    let nobody = TenantId(uuid::Uuid::nil());
    let values =
        vec![index.to_vec().into(), tenant.unwrap_or(nobody).into(), app.clock.db_now().into()];
    let row: Option<Row> = db::one(&**txn, sql, values).await?;
    Ok(row.is_some_and(|row| row.is_known || row.is_open || row.is_invited))
}

/// The person with a proved address, made when they are new and may come in; and the tenant that
/// they are now in, if its door is open to them.
pub(super) async fn enter(
    app: &App,
    txn: &Txn,
    proved: Proved<'_>,
) -> Result<(user::Model, Option<TenantId>)> {
    let now = app.clock.db_now();
    let index = people::email_index(app, proved.email);
    if !may_enter(app, txn, &index, proved.tenant).await? {
        return Err(IdentityError::Unknown.into());
    }
    let found = user::Entity::find()
        .filter(user::Column::EmailIndex.eq(index.clone()))
        .filter(user::Column::DeletedAt.is_null())
        .one(&**txn)
        .await?;
    let person = match found {
        Some(person) => person,
        None => newcomer(app, txn, &proved, &index, now).await?,
    };
    let sql = "UPDATE users SET email_verified_at = COALESCE(email_verified_at, $2) WHERE id = $1";
    db::execute(&**txn, sql, vec![person.id.into(), now.into()]).await?;
    let tenant = place(app, txn, proved.tenant, (person.id, proved.source)).await?;
    Ok((person, tenant))
}

/// The site's tenant, where the person has a place, or gets one by its open door. On a site of
/// another tenant nobody comes in: its pages would hold what they may elsewhere.
///
/// Whoever was removed is told what a stranger of a closed tenant is told, that nobody knows them
/// here and that an administrator can invite them: not that they were removed, nor when, nor by
/// whom. The same holds for the answer to their wish for a link, and for the link itself.
pub(super) async fn place(
    app: &App,
    txn: &Txn,
    tenant: Option<TenantId>,
    person: (UserId, &Arc<Source>),
) -> Result<Option<TenantId>> {
    match tenant {
        Some(tenant) if join(app, txn, tenant, person).await? => Ok(Some(tenant)),
        Some(_) => Err(IdentityError::Unknown.into()),
        None => Ok(None),
    }
}

/// Makes a person, with a place wherever they were invited.
async fn newcomer(
    app: &App,
    txn: &Txn,
    proved: &Proved<'_>,
    index: &[u8],
    now: DateTime<Utc>,
) -> Result<user::Model> {
    let local = proved.email.split('@').next().unwrap_or_default();
    // What a provider calls them may hold anything.
    let letters = proved.name.unwrap_or(local).chars().filter(|letter| !letter.is_control());
    let name: String = letters.take(100).collect();
    let name = if name.trim().is_empty() { local.to_owned() } else { name };
    let new = NewUser { name: &name, email: proved.email, is_platform_admin: false };
    let person = people::create_user(app, txn, new, now).await?;
    #[derive(sea_orm::FromQueryResult)]
    struct Invited {
        tenant_id: TenantId,
        role: Role,
    }
    let sql = "UPDATE invitations SET accepted_at = $2, accepted_by = $3 WHERE email_index = $1
               AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at > $2
               RETURNING tenant_id, role";
    let values = vec![index.to_vec().into(), now.into(), person.id.into()];
    let invited: Vec<Invited> = db::all(&**txn, sql, values).await?;
    for Invited { tenant_id, role } in invited {
        people::add_member(txn, (tenant_id, person.id), role, now).await?;
        joined(app, txn, (tenant_id, role), (person.id, proved.source)).await?;
    }
    Ok(person)
}

/// Gives a person a place in a tenant whose door is open, unless they were removed from it. Whether
/// they have one now.
async fn join(
    app: &App,
    txn: &Txn,
    tenant: TenantId,
    (user, source): (UserId, &Arc<Source>),
) -> Result<bool> {
    let now = app.clock.db_now();
    let sql = "INSERT INTO memberships (id, tenant_id, user_id, role, created_at, updated_at)
               SELECT $1, t.id, $3, 'USER', $4, $4 FROM tenants t
               WHERE t.id = $2 AND t.deleted_at IS NULL AND t.membership_policy = 'OPEN'
               ON CONFLICT (tenant_id, user_id) DO NOTHING";
    let values = vec![MembershipId::new().into(), tenant.into(), user.into(), now.into()];
    if db::execute(&**txn, sql, values).await? > 0 {
        // Asked only now: the insert may have waited for the very removal. The caller gives the
        // transaction up, and the place with it.
        let removal = membership_removal::Entity::of_tenant_and_user(tenant, user);
        if removal.one(&**txn).await?.is_some() {
            return Ok(false);
        }
        joined(app, txn, (tenant, Role::User), (user, source)).await?;
        return Ok(true);
    }
    #[derive(sea_orm::FromQueryResult)]
    struct Row {
        is_there: bool,
    }
    let sql = "SELECT EXISTS (SELECT 1 FROM memberships m
               JOIN tenants t ON t.id = m.tenant_id AND t.deleted_at IS NULL
               WHERE m.tenant_id = $1 AND m.user_id = $2) AS is_there";
    let row: Option<Row> = db::one(&**txn, sql, vec![tenant.into(), user.into()]).await?;
    Ok(row.is_some_and(|row| row.is_there))
}

async fn joined(
    app: &App,
    txn: &Txn,
    (tenant, role): (TenantId, Role),
    (user, source): (UserId, &Arc<Source>),
) -> Result<()> {
    let event = audit::Security {
        action: Action::MemberJoined,
        user: Some(user),
        tenant: Some(tenant),
        subject: ("user", Some(user.0)),
        data: json!({ "role": role }),
        source,
    };
    audit::record_security(app, txn, event).await
}
