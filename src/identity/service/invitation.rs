//! Invitations: an address that may become a member. The token goes by mail and is kept as a keyed
//! digest only.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, PaginatorTrait, QueryFilter,
    Select,
};
use serde_json::json;

use crate::actor::{Actor, Permission, Role, Source};
use crate::app::App;
use crate::audit::{self, Action, Changes, Security, Subject};
use crate::crypto::{Place, random_secret};
use crate::db::{self, Txn};
use crate::entity::{invitation, membership, tenant, user};
use crate::error::{Error, Lang, Result};
use crate::external::mail::Mail;
use crate::identity::error::IdentityError;
use crate::identity::rules::Refusals;
use crate::identity::service::people::{add_member, email_index};
use crate::identity::service::tenant::lock;
use crate::ids::{InvitationId, TenantId, UserId};
use crate::limits;
use crate::limits::table::Limit;
use crate::limits::who::Who;
use crate::mail;
use crate::text::canonical_email;

/// How long an invitation is good.
const LIFETIME: TimeDelta = TimeDelta::days(7);
/// Open invitations that a tenant may have.
const OPEN_MAX: u64 = 200;

/// Somebody to invite.
#[derive(Clone, Debug)]
pub struct Invite {
    /// Their address.
    pub email: String,
    /// What they become.
    pub role: Role,
}

/// An invitation that was written, and the mail that carries its token.
pub struct Invited {
    /// The row.
    pub invitation: invitation::Model,
    /// What is sent. It holds the token: it is for the invited alone.
    pub mail: Mail,
}

/// Invites an address, which is no member yet. An open invitation of the address gets a new token
/// and a new end; the old token is over. A tenant sends so many mails an hour and, to one address,
/// so many a day.
pub async fn invite(app: &App, actor: &Actor, invite: Invite) -> Result<Invited> {
    actor.require(Permission::MembersManage)?;
    let tenant = actor.tenant()?;
    let mut refusals = Refusals::default();
    refusals.email("input.email", &invite.email);
    refusals.finish()?;
    let index = email_index(app, &canonical_email(&invite.email));
    let mails = [
        (&Who::tenant(tenant), Limit::Invitations, 1),
        (&Who::addressee(tenant, &index), Limit::InvitationsToAddress, 1),
    ];
    limits::service::take_all(app, &mails).await?;
    let invited = write_down(app, actor, tenant, invite).await;
    if let Err(Error::Refused(_)) = &invited {
        // No mail goes out.
        limits::service::give_back_all(app, &mails).await;
    }
    invited
}

async fn write_down(app: &App, actor: &Actor, tenant: TenantId, invite: Invite) -> Result<Invited> {
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await?;
    let tenant = lock(&txn, tenant).await?;
    let invited = write(app, &mut txn, (actor, &tenant), invite, now).await?;
    txn.commit().await?;
    Ok(invited)
}

/// [`invite`] inside a transaction that has locked the tenant, after all checks of the address.
/// The mail goes out after its commit.
pub(crate) async fn write(
    app: &App,
    txn: &mut Txn,
    (actor, tenant): (&Actor, &tenant::Model),
    invite: Invite,
    now: DateTime<Utc>,
) -> Result<Invited> {
    let email = canonical_email(&invite.email);
    let index = email_index(app, &email);
    refuse_member(txn, tenant.id, &index).await?;
    let token = format!("minv_{}", URL_SAFE_NO_PAD.encode(random_secret()?));
    let token_hash = digest(app, &token);
    let open = open_of(tenant.id).filter(invitation::Column::EmailIndex.eq(index.clone()));
    let row = match open.one(&**txn).await? {
        Some(old) => {
            let new = invitation::Model {
                role: invite.role,
                token_hash,
                invited_by: actor.user_id,
                expires_at: now + LIFETIME,
                ..old
            };
            new.clone().into_active_model().reset_all().update(&**txn).await?;
            new
        }
        None => {
            refuse_too_many(txn, tenant.id, now).await?;
            let id = InvitationId::new();
            let new = invitation::Model {
                id,
                tenant_id: tenant.id,
                email: app.crypto.seal(email_place(id), &email)?,
                email_index: index,
                role: invite.role,
                token_hash,
                invited_by: actor.user_id,
                created_at: now,
                expires_at: now + LIFETIME,
                accepted_at: None,
                accepted_by: None,
                revoked_at: None,
            };
            let insert = invitation::Entity::insert(new.clone().into_active_model());
            insert.exec_without_returning(&**txn).await?;
            new
        }
    };
    let changes = Changes::new().plain("role", &None, &Some(row.role));
    let subject = subject(&row).changing(changes);
    audit::record(app, txn, actor, Action::MemberInvited, subject).await?;
    let mail = invitation_mail(app, tenant, (email, &token), row.expires_at);
    mail::push(app, txn, &mail, None).await?;
    Ok(Invited { invitation: row, mail })
}

async fn refuse_member(txn: &Txn, tenant: TenantId, index: &[u8]) -> Result<()> {
    let person = user::Entity::find().filter(user::Column::EmailIndex.eq(index.to_vec()));
    let Some(person) = person.one(&**txn).await? else { return Ok(()) };
    let place = membership::Entity::of_tenant_and_user(tenant, person.id).one(&**txn).await?;
    if place.is_some() { Err(IdentityError::AlreadyMember.into()) } else { Ok(()) }
}

async fn refuse_too_many(txn: &Txn, tenant: TenantId, now: DateTime<Utc>) -> Result<()> {
    let in_time = open_of(tenant).filter(invitation::Column::ExpiresAt.gt(now));
    if in_time.count(&**txn).await? >= OPEN_MAX {
        return Err(IdentityError::TooMany { what: "open invitations", max: OPEN_MAX }.into());
    }
    Ok(())
}

fn open_of(tenant: TenantId) -> Select<invitation::Entity> {
    invitation::Entity::of_tenant(tenant)
        .filter(invitation::Column::AcceptedAt.is_null())
        .filter(invitation::Column::RevokedAt.is_null())
}

fn invitation_mail(
    app: &App,
    tenant: &tenant::Model,
    (to, token): (String, &str),
    until: DateTime<Utc>,
) -> Mail {
    let link = format!("{}/auth/invitation?token={token}", app.config.public_url);
    let lang = if tenant.locale == "en" { Lang::En } else { Lang::Ja };
    let name = &tenant.name;
    let subject = lang.pick(format!("{name} への招待"), format!("You are invited to {name}"));
    let text = lang.pick(
        format!(
            "{name} のメンバーに招待されました。7日以内に次のリンクを開いてください。\n\n{link}\n"
        ),
        format!("You are invited to join {name}. Open this link within 7 days.\n\n{link}\n"),
    );
    Mail { to, subject, text, html: None, expires_at: Some(until) }
}

/// The address that was invited, opened. Only who may invite gets invitations at all.
pub fn email_of(app: &App, row: &invitation::Model) -> Result<String> {
    app.crypto.open(email_place(row.id), &row.email)
}

fn email_place(id: InvitationId) -> Place {
    Place { table: "invitations", column: "email", row: id.0 }
}

fn digest(app: &App, token: &str) -> Vec<u8> {
    app.crypto.index("invitations.token", token)
}

/// The open invitations of the actor's tenant, to be paged; also those whose time is over.
pub fn open(actor: &Actor) -> Result<Select<invitation::Entity>> {
    actor.require(Permission::MembersManage)?;
    Ok(open_of(actor.tenant()?))
}

/// Invitations of the actor's tenant by their ids.
pub async fn find(
    app: &App,
    actor: &Actor,
    ids: &[InvitationId],
) -> Result<Vec<invitation::Model>> {
    actor.require(Permission::MembersManage)?;
    Ok(invitation::Entity::of_tenant(actor.tenant()?)
        .filter(invitation::Column::Id.is_in(ids.iter().copied()))
        .all(app.db.primary())
        .await?)
}

/// Withdraws an invitation. Doing so twice changes nothing; one that was accepted stays.
pub async fn revoke(app: &App, actor: &Actor, id: InvitationId) -> Result<invitation::Model> {
    actor.require(Permission::MembersManage)?;
    let tenant = actor.tenant()?;
    let now = app.clock.db_now();
    let txn = app.db.begin().await?;
    let sql = "UPDATE invitations SET revoked_at = COALESCE(revoked_at, $3)
               WHERE id = $1 AND tenant_id = $2 RETURNING *";
    let values = vec![id.into(), tenant.into(), now.into()];
    let row: Option<invitation::Model> = db::one(&*txn, sql, values).await?;
    let row = row.ok_or(Error::NotFound("invitation"))?;
    if row.accepted_at.is_some() {
        return Err(IdentityError::InvitationOver.into());
    }
    let changes = Changes::new().plain("revokedAt", &None, &row.revoked_at);
    let subject = subject(&row).changing(changes);
    audit::record(app, &txn, actor, Action::InvitationRevoked, subject).await?;
    txn.commit().await?;
    Ok(row)
}

/// The address that a token invites, while the invitation is open.
pub(crate) async fn invited_address(app: &App, txn: &Txn, token: &str) -> Result<String> {
    let row = invitation::Entity::find()
        .filter(invitation::Column::TokenHash.eq(digest(app, token)))
        .filter(invitation::Column::AcceptedAt.is_null())
        .filter(invitation::Column::RevokedAt.is_null())
        .filter(invitation::Column::ExpiresAt.gt(app.clock.db_now()))
        .one(&**txn)
        .await?;
    email_of(app, &row.ok_or(IdentityError::InvitationOver)?)
}

/// Makes a person a member by an invitation's token, once, also one who was removed before. Whoever
/// has the token may: it went to the invited address alone. Who is a member already keeps the
/// larger of the two roles.
pub async fn accept_invitation(
    app: &App,
    txn: &mut Txn,
    token: &str,
    (person, source): (UserId, &Arc<Source>),
) -> Result<(TenantId, Role)> {
    let now = app.clock.db_now();
    let hash = digest(app, token);
    let found = invitation::Entity::find()
        .filter(invitation::Column::TokenHash.eq(hash.clone()))
        .one(&**txn)
        .await?;
    let tenant = found.ok_or(IdentityError::InvitationOver)?.tenant_id;
    // The tenant before the invitation, in the order in which all lock them.
    lock(txn, tenant).await?;
    let sql = "UPDATE invitations SET accepted_at = $2, accepted_by = $3
               WHERE token_hash = $1 AND accepted_at IS NULL AND revoked_at IS NULL
               AND expires_at > $2 RETURNING *";
    let values = vec![hash.into(), now.into(), person.into()];
    let row: Option<invitation::Model> = db::one(&**txn, sql, values).await?;
    let row = row.ok_or(IdentityError::InvitationOver)?;
    let sql = "DELETE FROM membership_removals WHERE tenant_id = $1 AND user_id = $2";
    db::execute(&**txn, sql, vec![tenant.into(), person.into()]).await?;
    let role = join(txn, (tenant, person), row.role, now).await?;
    let event = Security {
        action: Action::MemberJoined,
        user: Some(person),
        tenant: Some(tenant),
        subject: ("invitation", Some(row.id.0)),
        data: json!({ "role": role }),
        source,
    };
    audit::record_security(app, txn, event).await?;
    Ok((tenant, role))
}

async fn join(
    txn: &Txn,
    (tenant, person): (TenantId, UserId),
    role: Role,
    now: DateTime<Utc>,
) -> Result<Role> {
    let place = membership::Entity::of_tenant_and_user(tenant, person).one(&**txn).await?;
    let Some(place) = place else {
        add_member(txn, (tenant, person), role, now).await?;
        return Ok(role);
    };
    // Roles are ordered from the largest.
    let role = role.min(place.role);
    if role != place.role {
        let version = place.version + 1;
        let new = membership::Model { role, version, updated_at: now, ..place };
        new.into_active_model().reset_all().update(&**txn).await?;
    }
    Ok(role)
}

fn subject(row: &invitation::Model) -> Subject {
    Subject::of("invitation", row.id.0).in_tenant(row.tenant_id)
}
