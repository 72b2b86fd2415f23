//! Becoming a member by an invitation's link, which proves the address, too.

use chrono::TimeDelta;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde_json::json;

use crate::app::App;
use crate::audit::{self, Action};
use crate::crypto::Place;
use crate::db;
use crate::entity::session::SignInWay;
use crate::entity::{invitation, user};
use crate::error::Result;
use crate::identity::error::IdentityError;
use crate::identity::service::people::{self, NewUser};
use crate::identity::sign_in::session::{self, NewSession, Tokens};
use crate::ids::{InvitationId, MembershipId};

/// How long an invitation is good.
pub const LIFETIME: TimeDelta = TimeDelta::days(7);

/// Takes an invitation: its address becomes a person if it is none, the person a member, and a
/// session begins in the tenant. A member keeps the role that they have.
pub async fn accept(app: &App, token: &str, device: String) -> Result<Tokens> {
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await?;
    let sql = "UPDATE invitations SET accepted_at = $2
               WHERE token_hash = $1 AND accepted_at IS NULL AND revoked_at IS NULL
                 AND expires_at > $2 AND EXISTS
                 (SELECT 1 FROM tenants t WHERE t.id = tenant_id AND t.deleted_at IS NULL)
               RETURNING *";
    let values = vec![hash(app, token).into(), now.into()];
    let row: Option<invitation::Model> = db::one(&*txn, sql, values).await?;
    let row = row.ok_or(IdentityError::InvitationOver)?;
    let known = user::Entity::find()
        .filter(user::Column::EmailIndex.eq(row.email_index.clone()))
        .filter(user::Column::DeletedAt.is_null())
        .one(&*txn)
        .await?;
    let person = match known {
        Some(person) => person,
        None => {
            let email = app.crypto.open(place(row.id), &row.email)?;
            let name: String = email.split('@').next().unwrap_or_default().into();
            let new = NewUser { name: &name, email: &email, is_platform_admin: false };
            people::create_user(app, &txn, new, now).await?
        }
    };
    let sql = "UPDATE users SET email_verified_at = COALESCE(email_verified_at, $2) WHERE id = $1";
    db::execute(&*txn, sql, vec![person.id.into(), now.into()]).await?;
    let sql = "UPDATE invitations SET accepted_by = $2 WHERE id = $1";
    db::execute(&*txn, sql, vec![row.id.into(), person.id.into()]).await?;
    let sql = "INSERT INTO memberships (id, tenant_id, user_id, role, created_at, updated_at)
               VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT (tenant_id, user_id) DO NOTHING";
    let values = vec![
        MembershipId::new().into(),
        row.tenant_id.into(),
        person.id.into(),
        row.role.as_str().into(),
        now.into(),
    ];
    db::execute(&*txn, sql, values).await?;
    let event = audit::Security {
        action: Action::MemberJoined,
        user: Some(person.id),
        tenant: Some(row.tenant_id),
        subject: ("invitation", Some(row.id.0)),
        data: json!({ "role": row.role }),
    };
    audit::record_security(&txn, event, now).await?;
    let new =
        NewSession { user: person.id, tenant: Some(row.tenant_id), device, way: SignInWay::Email };
    let tokens = session::begin(app, &mut txn, new).await?;
    txn.commit().await?;
    Ok(tokens)
}

/// The digest by which an invitation's token is found.
pub fn hash(app: &App, token: &str) -> Vec<u8> {
    app.crypto.index("invitations.token", token)
}

/// The place of the address in its row.
pub fn place(id: InvitationId) -> Place {
    Place { table: "invitations", column: "email", row: id.0 }
}
