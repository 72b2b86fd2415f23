//! Signing in by a provider, and linking a provider's account to a person.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, EntityTrait, IntoActiveModel, PaginatorTrait, QueryFilter, QueryOrder};
use serde_json::json;

use crate::actor::{Actor, Source};
use crate::app::App;
use crate::audit::{self, Action};
use crate::db::{self, Txn};
use crate::entity::linked_account::{self, Provider};
use crate::entity::session::SignInWay;
use crate::entity::user;
use crate::error::{Error, Result};
use crate::external::oauth::Identity;
use crate::identity::error::IdentityError;
use crate::identity::service::people;
use crate::identity::sign_in::entry::{self, Proved};
use crate::identity::sign_in::letters::{self, Link};
use crate::identity::sign_in::session::{self, NewSession, Tokens, Visitor};
use crate::ids::{LinkedAccountId, TenantId, UserId};
use crate::text::email_address;

/// Signs in whoever the provider says it is. An account that is not linked yet is linked by its
/// address only when both sides have proved it: the provider, and the person here.
pub async fn sign_in(
    app: &App,
    provider: Provider,
    identity: &Identity,
    (tenant, visitor): (Option<TenantId>, Visitor),
) -> Result<Tokens> {
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await?;
    let (user, tenant) = match touch(&txn, provider, identity, now).await? {
        Some(user) => (user, entry::place(app, &txn, tenant, (user, &visitor.source)).await?),
        None => adopt(app, &mut txn, provider, (identity, tenant), &visitor.source).await?,
    };
    let way = match provider {
        Provider::Discord => SignInWay::Discord,
        Provider::Github => SignInWay::Github,
    };
    let tokens =
        session::begin(app, &mut txn, NewSession { user, tenant, parent: None, visitor, way })
            .await?;
    txn.commit().await?;
    Ok(tokens)
}

/// The person whose account it is, if it is linked.
async fn touch(
    txn: &Txn,
    provider: Provider,
    identity: &Identity,
    now: DateTime<Utc>,
) -> Result<Option<UserId>> {
    #[derive(sea_orm::FromQueryResult)]
    struct Row {
        user_id: UserId,
    }
    let sql = "UPDATE accounts SET last_used_at = $3
               WHERE provider = $1 AND provider_account_id = $2 AND EXISTS
               (SELECT 1 FROM users u WHERE u.id = user_id AND u.deleted_at IS NULL)
               RETURNING user_id";
    let account = identity.provider_account_id.clone();
    let values = vec![provider.as_str().into(), account.into(), now.into()];
    let row: Option<Row> = db::one(&**txn, sql, values).await?;
    Ok(row.map(|row| row.user_id))
}

/// Finds or makes the person with the proved address, and links the account. Who was there before
/// is told: the provider's word lets somebody in as them.
async fn adopt(
    app: &App,
    txn: &mut Txn,
    provider: Provider,
    (identity, tenant): (&Identity, Option<TenantId>),
    source: &Arc<Source>,
) -> Result<(UserId, Option<TenantId>)> {
    let address = identity.email.as_deref().filter(|_| identity.is_email_verified);
    let email = address.and_then(email_address).ok_or(IdentityError::AddressUnverified)?;
    let index = people::email_index(app, &email);
    let known = user::Entity::find()
        .filter(user::Column::EmailIndex.eq(index))
        .filter(user::Column::DeletedAt.is_null())
        .one(&**txn)
        .await?;
    if known.as_ref().is_some_and(|known| known.email_verified_at.is_none()) {
        return Err(IdentityError::LinkNeedsProof.into());
    }
    let proved = Proved { email: &email, name: Some(identity.name.as_str()), tenant, source };
    let (person, tenant) = entry::enter(app, txn, proved).await?;
    let row = insert(app, txn, (person.id, source), provider, identity).await?;
    if known.is_some() {
        letters::tell_of_account(app, txn, &row, Link::Made).await?;
    }
    Ok((person.id, tenant))
}

/// Links an account to a person who is signed in and asked for it.
pub async fn link(
    app: &App,
    (user, source): (UserId, &Arc<Source>),
    provider: Provider,
    identity: &Identity,
) -> Result<linked_account::Model> {
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await?;
    if touch(&txn, provider, identity, now).await? == Some(user) {
        let row = of_user(user, provider).one(&*txn).await?;
        txn.commit().await?;
        return row.ok_or(Error::NotFound("account"));
    }
    let row = insert(app, &txn, (user, source), provider, identity).await?;
    letters::tell_of_account(app, &mut txn, &row, Link::Made).await?;
    txn.commit().await?;
    Ok(row)
}

async fn insert(
    app: &App,
    txn: &Txn,
    (user, source): (UserId, &Arc<Source>),
    provider: Provider,
    identity: &Identity,
) -> Result<linked_account::Model> {
    let now = app.clock.db_now();
    let row = linked_account::Model {
        id: LinkedAccountId::new(),
        user_id: user,
        r#type: "oauth".to_owned(),
        provider,
        provider_account_id: identity.provider_account_id.clone(),
        scope: Some(identity.scope.clone()),
        created_at: now,
        last_used_at: now,
    };
    let inserted = linked_account::Entity::insert(row.clone().into_active_model())
        .on_conflict(OnConflict::new().do_nothing().to_owned())
        .exec_without_returning(&**txn)
        .await?;
    // Somebody else has it, or the person has another one there.
    if inserted == 0 {
        return Err(IdentityError::AccountTaken.into());
    }
    let event = audit::Security {
        action: Action::AccountLinked,
        user: Some(user),
        tenant: None,
        subject: ("account", Some(row.id.0)),
        data: json!({ "provider": provider }),
        source,
    };
    audit::record_security(app, txn, event).await?;
    Ok(row)
}

/// Unlinks a provider's account of the actor's. A person whose address was never proved would be
/// locked out without their last one.
pub async fn unlink(app: &App, actor: &Actor, provider: Provider) -> Result<()> {
    let user = actor.person()?;
    let mut txn = app.db.begin().await?;
    let row = of_user(user, provider).one(&*txn).await?.ok_or(Error::NotFound("account"))?;
    let person = user::Entity::find_by_id(user).one(&*txn).await?;
    let is_proved = person.is_some_and(|person| person.email_verified_at.is_some());
    let linked = linked_account::Entity::find()
        .filter(linked_account::Column::UserId.eq(user))
        .count(&*txn)
        .await?;
    if linked == 1 && !is_proved {
        return Err(IdentityError::LastWay.into());
    }
    let gone = linked_account::Entity::delete_by_id(row.id).exec(&*txn).await?;
    if gone.rows_affected == 0 {
        // Another request of theirs was faster.
        return Err(Error::NotFound("account"));
    }
    let event = audit::Security {
        action: Action::AccountUnlinked,
        user: Some(user),
        tenant: None,
        subject: ("account", Some(row.id.0)),
        data: json!({ "provider": provider }),
        source: &actor.source,
    };
    audit::record_security(app, &txn, event).await?;
    letters::tell_of_account(app, &mut txn, &row, Link::Ended).await?;
    txn.commit().await
}

/// The actor's linked accounts, at most one of each provider.
pub async fn list(app: &App, actor: &Actor) -> Result<Vec<linked_account::Model>> {
    Ok(linked_account::Entity::find()
        .filter(linked_account::Column::UserId.eq(actor.person()?))
        .order_by_asc(linked_account::Column::Provider)
        .all(app.db.primary())
        .await?)
}

fn of_user(user: UserId, provider: Provider) -> sea_orm::Select<linked_account::Entity> {
    linked_account::Entity::find()
        .filter(linked_account::Column::UserId.eq(user))
        .filter(linked_account::Column::Provider.eq(provider))
}
