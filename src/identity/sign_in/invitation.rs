//! Becoming a member by an invitation's link, which proves the address, too.

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use crate::app::App;
use crate::db;
use crate::entity::session::SignInWay;
use crate::entity::user;
use crate::error::Result;
use crate::identity::service::invitation::{accept_invitation, invited_address};
use crate::identity::service::people::{self, NewUser};
use crate::identity::sign_in::session::{self, NewSession, Tokens, Visitor};

/// Takes an invitation: its address becomes a person if it is none, the person a member, and a
/// session begins in the tenant.
pub async fn accept(app: &App, token: &str, visitor: Visitor) -> Result<Tokens> {
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await?;
    let email = invited_address(app, &txn, token).await?;
    let known = user::Entity::find()
        .filter(user::Column::EmailIndex.eq(people::email_index(app, &email)))
        .filter(user::Column::DeletedAt.is_null())
        .one(&*txn)
        .await?;
    let person = match known {
        Some(person) => person,
        None => {
            let name: String = email.split('@').next().unwrap_or_default().into();
            let new = NewUser { name: &name, email: &email, is_platform_admin: false };
            people::create_user(app, &txn, new, now).await?
        }
    };
    let sql = "UPDATE users SET email_verified_at = COALESCE(email_verified_at, $2) WHERE id = $1";
    db::execute(&*txn, sql, vec![person.id.into(), now.into()]).await?;
    let (tenant, _) = accept_invitation(app, &mut txn, token, (person.id, &visitor.source)).await?;
    // For that tenant alone: a mail that was passed on opens nothing else of the person.
    let new = NewSession {
        user: person.id,
        tenant: Some(tenant),
        parent: None,
        visitor,
        way: SignInWay::Email,
    };
    let tokens = session::begin(app, &mut txn, new).await?;
    txn.commit().await?;
    Ok(tokens)
}
