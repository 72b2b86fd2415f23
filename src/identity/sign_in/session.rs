//! Sessions: a person who is signed in somewhere, and the refresh tokens that prove it.
//!
//! No refresh token is stored. A token names its session and its number in the session's row of
//! tokens, and carries a MAC over both and the session's salt, under our key: neither the database
//! nor the key alone can make one. The row says which number is good. The one before it is answered
//! with the same successor for 20 s, as an answer may get lost and two tabs may ask at once; any
//! older one was used by somebody else, and ends the session.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect};
use serde_json::json;
use uuid::Uuid;

use crate::actor::{Actor, Credential, Source};
use crate::app::App;
use crate::audit::{self, Action, Subject};
use crate::crypto::random_secret;
use crate::db::{self, Txn};
use crate::entity::session::{self, EndReason, SignInWay};
use crate::error::{Error, Result};
use crate::events::{self, Event};
use crate::identity::service::profile::note_activity;
use crate::identity::service::standing::may_act_in;
use crate::ids::{SessionId, TenantId, UserId};
use crate::tokens::Claims;

/// How long an access token is good.
pub const ACCESS_LIFETIME: TimeDelta = TimeDelta::minutes(15);
/// A session that is not refreshed for so long is over.
const IDLE_MAX: TimeDelta = TimeDelta::days(30);
/// No session lasts longer.
const AGE_MAX: TimeDelta = TimeDelta::days(365);
/// For so long the refresh token before the newest gets the same successor.
const GRACE: TimeDelta = TimeDelta::seconds(20);
/// Sessions that one person may have: those that were used longest ago end first.
const SESSIONS_MAX: u64 = 50;
/// What refresh tokens begin with.
const START: &str = "mrt_";
const MAC_BYTES: usize = 32;

/// A session to begin.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Who.
    pub user: UserId,
    /// Where they act, and nowhere else: the tenant of the site that they are on. None: the tenant
    /// that they were in last, or one of theirs, and any other.
    pub tenant: Option<TenantId>,
    /// The session that it was handed over from.
    pub parent: Option<SessionId>,
    /// Their browser, and where their request came from.
    pub visitor: Visitor,
    /// How they proved who they are.
    pub way: SignInWay,
}

/// Somebody who comes in.
#[derive(Clone, Debug, Default)]
pub struct Visitor {
    /// The browser and the system, in words.
    pub device: String,
    /// Where their request came from.
    pub source: Arc<Source>,
}

/// What a client gets for a session.
#[derive(Clone)]
pub struct Tokens {
    /// The session.
    pub session: session::Model,
    /// Good for 15 minutes.
    pub access: String,
    /// When `access` ends.
    pub access_ends_at: DateTime<Utc>,
    /// Good once, for the next pair.
    pub refresh: String,
}

/// Begins a session inside the transaction that proves who somebody is.
pub async fn begin(app: &App, txn: &mut Txn, new: NewSession) -> Result<Tokens> {
    let now = app.clock.db_now();
    let tenant = match new.tenant {
        Some(tenant) => Some(tenant),
        None => usual_tenant(txn, new.user).await?,
    };
    let row = session::Model {
        id: SessionId::new(),
        user_id: new.user,
        tenant_id: tenant,
        salt: random_secret()?.to_vec(),
        generation: 1,
        rotated_at: now,
        device: new.visitor.device,
        way: new.way,
        created_at: now,
        last_used_at: now,
        expires_at: now + IDLE_MAX,
        confined_to: new.tenant,
        parent_id: new.parent,
        ended_at: None,
        end_reason: None,
    };
    end_surplus(txn, new.user, now).await?;
    session::Entity::insert(row.clone().into_active_model()).exec_without_returning(&**txn).await?;
    note_activity(txn, new.user, now).await?;
    let event = audit::Security {
        action: Action::SignedIn,
        user: Some(new.user),
        tenant,
        subject: ("session", Some(row.id.0)),
        data: json!({ "way": row.way }),
        source: &new.visitor.source,
    };
    audit::record_security(app, txn, event).await?;
    tokens(app, row)
}

/// The tenant that a person was in last, or one of theirs.
async fn usual_tenant(txn: &Txn, user: UserId) -> Result<Option<TenantId>> {
    #[derive(sea_orm::FromQueryResult)]
    struct Row {
        tenant_id: TenantId,
    }
    let sql = "SELECT m.tenant_id FROM memberships m
               JOIN tenants t ON t.id = m.tenant_id AND t.deleted_at IS NULL
               LEFT JOIN sessions s ON s.user_id = m.user_id AND s.tenant_id = m.tenant_id
               WHERE m.user_id = $1
               ORDER BY CASE WHEN s.id IS NULL THEN 1 ELSE 0 END, s.last_used_at DESC, m.id
               LIMIT 1";
    let row: Option<Row> = db::one(&**txn, sql, vec![user.into()]).await?;
    Ok(row.map(|row| row.tenant_id))
}

/// Keeps the number of open sessions in bounds.
async fn end_surplus(txn: &mut Txn, user: UserId, now: DateTime<Utc>) -> Result<()> {
    let sql = "UPDATE sessions SET ended_at = $2, end_reason = 'EXPIRED' WHERE id IN
               (SELECT id FROM sessions WHERE user_id = $1 AND ended_at IS NULL
                ORDER BY last_used_at DESC LIMIT 1000 OFFSET $3) RETURNING id";
    let kept = i64::try_from(SESSIONS_MAX - 1).map_err(Error::broken)?;
    announce_ended(txn, sql, vec![user.into(), now.into(), kept.into()]).await?;
    Ok(())
}

/// Exchanges a refresh token for the next pair. Anything wrong is [`Error::Unauthenticated`].
pub async fn renew(app: &App, refresh: &str, source: &Arc<Source>) -> Result<Tokens> {
    let (presented, row) = prove(app, refresh).await?;
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await?;
    let sql = "UPDATE sessions SET generation = generation + 1, rotated_at = $3,
               last_used_at = $3, expires_at = $4
               WHERE id = $1 AND generation = $2 AND ended_at IS NULL AND expires_at > $3
               RETURNING *";
    let ends_at = (now + IDLE_MAX).min(row.created_at + AGE_MAX);
    let values =
        vec![presented.session.into(), presented.generation.into(), now.into(), ends_at.into()];
    let next: Option<session::Model> = db::one(&*txn, sql, values).await?;
    if let Some(next) = next {
        note_activity(&txn, next.user_id, now).await?;
        txn.commit().await?;
        return tokens(app, next);
    }
    let current = session::Entity::find_by_id(presented.session).one(&*txn).await?;
    let current = current.ok_or(Error::Unauthenticated)?;
    let is_over = current.ended_at.is_some() || current.expires_at <= now;
    if is_over || presented.generation > current.generation {
        return Err(Error::Unauthenticated);
    }
    let is_last = presented.generation == current.generation - 1;
    if is_last && now - current.rotated_at <= GRACE {
        return tokens(app, current);
    }
    end_reused(app, &mut txn, &current, source).await?;
    txn.commit().await?;
    tracing::warn!(
        session.id = %current.id,
        "A refresh token was used again after its successor: the session is ended"
    );
    Err(Error::Unauthenticated)
}

async fn end_reused(
    app: &App,
    txn: &mut Txn,
    row: &session::Model,
    source: &Arc<Source>,
) -> Result<()> {
    let now = app.clock.db_now();
    let sql = "UPDATE sessions SET ended_at = $2, end_reason = 'REUSED'
               WHERE (id = $1 OR parent_id = $1) AND ended_at IS NULL RETURNING id";
    announce_ended(txn, sql, vec![row.id.into(), now.into()]).await?;
    let event = audit::Security {
        action: Action::RefreshTokenReused,
        user: Some(row.user_id),
        tenant: row.tenant_id,
        subject: ("session", Some(row.id.0)),
        data: json!({ "generation": row.generation }),
        source,
    };
    audit::record_security(app, txn, event).await
}

/// The open session behind a refresh token, which stays as it is; a retired one is refused.
pub async fn peek(app: &App, refresh: &str) -> Result<session::Model> {
    let now = app.clock.db_now();
    let (presented, row) = prove(app, refresh).await?;
    let is_last = presented.generation == row.generation - 1 && now - row.rotated_at <= GRACE;
    let is_fresh = presented.generation == row.generation || is_last;
    if is_open(&row, now) && is_fresh { Ok(row) } else { Err(Error::Unauthenticated) }
}

/// The session, if it is open now.
pub async fn open(app: &App, id: SessionId) -> Result<session::Model> {
    let row = session::Entity::find_by_id(id).one(app.db.primary()).await?;
    row.filter(|row| is_open(row, app.clock.db_now())).ok_or(Error::Unauthenticated)
}

fn is_open(row: &session::Model, now: DateTime<Utc>) -> bool {
    row.ended_at.is_none() && row.expires_at > now
}

/// An access token for the open session behind a refresh token, which stays as it is: for a page
/// that the browser asks for with its cookie.
pub async fn access_by(app: &App, refresh: &str) -> Result<String> {
    let row = peek(app, refresh).await?;
    Ok(access(app, &row)?.0)
}

/// Ends the session that a refresh token belongs to; says nothing about a bad one.
pub async fn sign_out(app: &App, refresh: &str, source: &Arc<Source>) -> Result<()> {
    match prove(app, refresh).await {
        Ok((_, row)) => {
            end(app, (row.user_id, source), Some(row.id), EndReason::SignedOut).await?;
            Ok(())
        }
        Err(Error::Unauthenticated) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Ends the session of an actor, where they are. A token without one just runs out.
pub async fn sign_out_actor(app: &App, actor: &Actor) -> Result<()> {
    if let Credential::Session(id) = actor.credential {
        end(app, (actor.user_id, &actor.source), Some(id), EndReason::SignedOut).await?;
    }
    Ok(())
}

/// Ends one session of the actor's, or all of them. How many ended.
pub async fn revoke(app: &App, actor: &Actor, only: Option<SessionId>) -> Result<usize> {
    let user = actor.person()?;
    if let Some(id) = only {
        let mine = session::Column::UserId.eq(user);
        let row = session::Entity::find_by_id(id).filter(mine).one(app.db.primary()).await?;
        row.ok_or(Error::NotFound("session"))?;
    }
    end(app, (user, &actor.source), only, EndReason::Revoked).await
}

async fn end(
    app: &App,
    (user, source): (UserId, &Arc<Source>),
    only: Option<SessionId>,
    reason: EndReason,
) -> Result<usize> {
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await?;
    let which = if only.is_some() { "AND (id = $4 OR parent_id = $4)" } else { "" };
    let sql = format!(
        "UPDATE sessions SET ended_at = $2, end_reason = $3
         WHERE user_id = $1 AND ended_at IS NULL {which} RETURNING id"
    );
    let mut values = vec![user.into(), now.into(), reason.as_str().into()];
    values.extend(only.map(sea_orm::Value::from));
    let ended = announce_ended(&mut txn, &sql, values).await?;
    if !ended.is_empty() {
        let event = audit::Security {
            action: Action::SessionsEnded,
            user: Some(user),
            tenant: None,
            subject: ("session", only.map(|id| id.0)),
            data: json!({ "count": ended.len(), "reason": reason }),
            source,
        };
        audit::record_security(app, &txn, event).await?;
    }
    txn.commit().await?;
    Ok(ended.len())
}

/// Runs a statement that ends sessions, and tells their sockets after the commit.
async fn announce_ended(
    txn: &mut Txn,
    sql: &str,
    values: Vec<sea_orm::Value>,
) -> Result<Vec<SessionId>> {
    #[derive(sea_orm::FromQueryResult)]
    struct Ended {
        id: SessionId,
    }
    let ended: Vec<Ended> = db::all(&**txn, sql, values).await?;
    for session in &ended {
        events::announce(txn, Event::AccessEnded(session.id.0));
    }
    Ok(ended.into_iter().map(|session| session.id).collect())
}

/// The actor's open sessions, those used last first.
pub async fn list(app: &App, actor: &Actor) -> Result<Vec<session::Model>> {
    Ok(session::Entity::find()
        .filter(session::Column::UserId.eq(actor.person()?))
        .filter(session::Column::EndedAt.is_null())
        .filter(session::Column::ExpiresAt.gt(app.clock.db_now()))
        .order_by_desc(session::Column::LastUsedAt)
        .limit(SESSIONS_MAX)
        .all(app.db.primary())
        .await?)
}

/// Moves the actor's session to another tenant of theirs, and answers an access token for it.
pub async fn switch_tenant(
    app: &App,
    actor: &Actor,
    tenant: TenantId,
) -> Result<(String, DateTime<Utc>)> {
    let Credential::Session(id) = actor.credential else { return Err(Error::Forbidden) };
    if !may_act_in(app, actor.user_id, tenant).await? {
        return Err(Error::NotFound("tenant"));
    }
    let now = app.clock.db_now();
    let txn = app.db.begin().await?;
    let sql = "UPDATE sessions SET tenant_id = $2, last_used_at = $3
               WHERE id = $1 AND ended_at IS NULL AND expires_at > $3
                 AND (confined_to IS NULL OR confined_to = $2) RETURNING *";
    let values = vec![id.into(), tenant.into(), now.into()];
    let row: Option<session::Model> = db::one(&*txn, sql, values).await?;
    let row = row.ok_or(Error::NotFound("tenant"))?;
    let subject = Subject::of("session", id.0).in_tenant(tenant);
    audit::record(app, &txn, actor, Action::TenantSwitched, subject).await?;
    note_activity(&txn, actor.user_id, now).await?;
    txn.commit().await?;
    access(app, &row)
}

/// The refresh token taken apart, and its session, when the token is one of ours.
async fn prove(app: &App, refresh: &str) -> Result<(Presented, session::Model)> {
    let presented = Presented::read(refresh).ok_or(Error::Unauthenticated)?;
    let row = session::Entity::find_by_id(presented.session).one(app.db.primary()).await?;
    let row = row.ok_or(Error::Unauthenticated)?;
    let made = mac(app, &row, presented.generation);
    verify_slices_are_equal(&made, &presented.mac).map_err(|_| Error::Unauthenticated)?;
    Ok((presented, row))
}

/// The pair for a session as it stands.
fn tokens(app: &App, session: session::Model) -> Result<Tokens> {
    let (access, access_ends_at) = access(app, &session)?;
    let refresh = Presented::write(app, &session);
    Ok(Tokens { session, access, access_ends_at, refresh })
}

fn access(app: &App, session: &session::Model) -> Result<(String, DateTime<Utc>)> {
    let now = app.clock.now();
    let ends_at = (now + ACCESS_LIFETIME).min(session.expires_at);
    let claims = Claims {
        sub: session.user_id,
        tid: session.tenant_id,
        sid: Some(session.id),
        iat: now.timestamp(),
        exp: ends_at.timestamp(),
        nbf: None,
    };
    Ok((app.tokens.sign(claims)?, ends_at))
}

/// A refresh token, taken apart.
struct Presented {
    session: SessionId,
    generation: i64,
    mac: [u8; MAC_BYTES],
}

impl Presented {
    fn read(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(START)?).ok()?;
        let (id, rest) = bytes.split_first_chunk::<16>()?;
        let (generation, rest) = rest.split_first_chunk::<8>()?;
        let mac = <[u8; MAC_BYTES]>::try_from(rest).ok()?;
        let session = SessionId(Uuid::from_bytes(*id));
        Some(Self { session, generation: i64::from_be_bytes(*generation), mac })
    }

    fn write(app: &App, row: &session::Model) -> String {
        let mut bytes = row.id.0.as_bytes().to_vec();
        bytes.extend(row.generation.to_be_bytes());
        bytes.extend(mac(app, row, row.generation));
        format!("{START}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

fn mac(app: &App, row: &session::Model, generation: i64) -> Vec<u8> {
    let mut body = row.id.0.as_bytes().to_vec();
    body.extend(generation.to_be_bytes());
    body.extend(&row.salt);
    app.crypto.digest("sessions.refresh", &body)
}
