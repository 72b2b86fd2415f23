//! Authentication: what a bearer credential proves, and what its owner may do now.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{FromQueryResult, Value};
use uuid::Uuid;

use crate::actor::{Actor, Credential, KeyRights, Permission, Role};
use crate::app::App;
use crate::batch::Lookup;
use crate::db::{self, Rows};
use crate::entity::api_key;
use crate::error::{Error, Lang, Result};
use crate::identity::service::key;
use crate::ids::{SessionId, TenantId, UserId};
use crate::tokens::Claims;

/// Who stands behind a bearer credential: an access token or an API key. Anything wrong with it is
/// [`Error::Unauthenticated`].
pub async fn authenticate(app: &App, bearer: &str, lang: Lang) -> Result<Actor> {
    if key::is_key(bearer) {
        return authenticate_key(app, bearer, lang).await;
    }
    let now = app.clock.now();
    let claims = app.tokens.verify(bearer, now)?;
    let expires_at = DateTime::from_timestamp(claims.exp, 0).ok_or(Error::Unauthenticated)?;
    let standing = standing(app, (claims.sub, claims.tid, claims.sid)).await?;
    let standing = standing.ok_or(Error::Unauthenticated)?;
    Ok(Actor {
        user_id: claims.sub,
        tenant_id: claims.tid,
        role: standing.role,
        is_platform_admin: standing.is_platform_admin,
        credential: claims.sid.map_or(Credential::Token, Credential::Session),
        expires_at,
        lang,
        source: Arc::default(),
    })
}

async fn authenticate_key(app: &App, text: &str, lang: Lang) -> Result<Actor> {
    let prefix = key::prefix_of(text).ok_or(Error::Unauthenticated)?;
    let row = find_key(app, prefix.to_owned()).await?.ok_or(Error::Unauthenticated)?;
    let hash = key::hash(app, text);
    verify_slices_are_equal(&row.key_hash, &hash).map_err(|_| Error::Unauthenticated)?;
    key::note_use(app, &row);
    let rights =
        KeyRights { id: row.id, prefix: row.prefix.clone(), permissions: key::permissions(&row) };
    Ok(Actor {
        user_id: row.created_by,
        tenant_id: Some(row.tenant_id),
        role: None,
        is_platform_admin: false,
        credential: Credential::Key(Arc::new(rights)),
        expires_at: row.expires_at.unwrap_or(DateTime::<Utc>::MAX_UTC),
        lang,
        source: Arc::default(),
    })
}

/// Whether an actor who was let in may still do this: their credential has not ended, and their
/// rights, read again, allow it. Subscriptions ask before each event.
pub async fn recheck(app: &App, actor: &Actor, permission: Permission) -> Result<()> {
    refresh(app, actor).await?.require(permission)
}

/// The actor with the rights that they have now; refused when their credential has ended or they
/// have no place in the tenant any more. A token of a session is good for as long as the session,
/// where it was shown in time: a socket outlives its first token.
pub async fn refresh(app: &App, actor: &Actor) -> Result<Actor> {
    let session = match &actor.credential {
        Credential::Key(rights) => {
            let row = find_key(app, rights.prefix.clone()).await?;
            return row.map(|_| actor.clone()).ok_or(Error::Unauthenticated);
        }
        Credential::Session(session) => Some(*session),
        Credential::Token if actor.expires_at <= app.clock.now() => {
            return Err(Error::Unauthenticated);
        }
        Credential::Token => None,
    };
    let standing = standing(app, (actor.user_id, actor.tenant_id, session)).await?;
    let standing = standing.ok_or(Error::Unauthenticated)?;
    Ok(Actor {
        role: standing.role,
        is_platform_admin: standing.is_platform_admin,
        ..actor.clone()
    })
}

/// Signs an access token for a person, for a tenant of theirs. A platform admin may name any.
pub async fn issue_token(
    app: &App,
    user: UserId,
    tenant: Option<TenantId>,
    lifetime: TimeDelta,
) -> Result<String> {
    standing(app, (user, tenant, None)).await?.ok_or(Error::NotFound("member of that tenant"))?;
    let now = app.clock.now().timestamp();
    let exp = now + lifetime.num_seconds();
    app.tokens.sign(Claims { sub: user, tid: tenant, sid: None, iat: now, exp, nbf: None })
}

/// Whether a person may act in a tenant.
pub async fn may_act_in(app: &App, user: UserId, tenant: TenantId) -> Result<bool> {
    Ok(standing(app, (user, Some(tenant), None)).await?.is_some())
}

/// Whom a standing is asked for.
type Whom = (UserId, Option<TenantId>, Option<SessionId>);

/// A person's rights in a tenant.
#[derive(Clone, Copy)]
struct Standing {
    is_platform_admin: bool,
    role: Option<Role>,
}

/// A person's rights in a tenant, now; none when they have no place in it or their session is over.
/// Read together with those of others who are asked about at the same moment: an event for
/// thousands of sockets asks once.
async fn standing(app: &App, whom: Whom) -> Result<Option<Standing>> {
    let found = app.batches.find::<Standings>(app, whom).await?;
    let has_place = |standing: &Standing| {
        whom.1.is_none() || standing.role.is_some() || standing.is_platform_admin
    };
    Ok(found.filter(has_place))
}

/// Reads standings: of people who are there, in tenants that are there, or in none.
struct Standings;

impl Lookup for Standings {
    type Context = App;
    type Key = Whom;
    type Value = Standing;

    async fn read(app: &App, keys: Vec<Whom>) -> Result<HashMap<Whom, Standing>> {
        #[derive(FromQueryResult)]
        struct Row {
            user_id: UserId,
            tenant_id: TenantId,
            session_id: SessionId,
            is_platform_admin: bool,
            role: Option<Role>,
        }
        // A tenant or a session that is not asked for travels as nil.
        let (no_tenant, no_session) = (TenantId(Uuid::nil()), SessionId(Uuid::nil()));
        let mut rows = Rows::default();
        for (user, tenant, session) in keys {
            let (tenant, session) = (tenant.unwrap_or(no_tenant), session.unwrap_or(no_session));
            rows.push([Value::from(user), tenant.into(), session.into()]);
        }
        let conn = app.db.primary();
        let (table, mut values) = rows.table(conn, 3);
        let sql = format!(
            "SELECT u.id AS user_id, v.column2 AS tenant_id, v.column3 AS session_id,
             u.is_platform_admin AND s.confined_to IS NULL AS is_platform_admin, m.role
             FROM {table} JOIN users u ON u.id = v.column1 AND u.deleted_at IS NULL
             LEFT JOIN tenants t ON t.id = v.column2 AND t.deleted_at IS NULL
             LEFT JOIN memberships m ON m.user_id = u.id AND m.tenant_id = t.id
             LEFT JOIN sessions s ON s.id = v.column3 AND s.user_id = u.id
               AND s.ended_at IS NULL AND s.expires_at > $2
               AND (s.confined_to IS NULL OR s.confined_to = v.column2)
             WHERE (v.column2 = $1 OR t.id IS NOT NULL) AND (v.column3 = $1 OR s.id IS NOT NULL)"
        );
        values.splice(0..0, [no_tenant.into(), app.clock.db_now().into()]);
        let found: Vec<Row> = db::all(conn, sql, values).await?;
        let entry = |row: Row| {
            let tenant = Some(row.tenant_id).filter(|tenant| *tenant != no_tenant);
            let session = Some(row.session_id).filter(|session| *session != no_session);
            let Row { is_platform_admin, role, .. } = row;
            ((row.user_id, tenant, session), Standing { is_platform_admin, role })
        };
        Ok(found.into_iter().map(entry).collect())
    }
}

/// The API key with this beginning, if it is good now and its tenant is there.
async fn find_key(app: &App, prefix: String) -> Result<Option<api_key::Model>> {
    app.batches.find::<Keys>(app, prefix).await
}

/// Reads API keys by their beginning, together with others.
struct Keys;

impl Lookup for Keys {
    type Context = App;
    type Key = String;
    type Value = api_key::Model;

    async fn read(app: &App, prefixes: Vec<String>) -> Result<HashMap<String, api_key::Model>> {
        let conn = app.db.primary();
        let list = db::tuples(1, prefixes.len(), 2);
        let sql = format!(
            "SELECT k.* FROM api_keys k
             JOIN tenants t ON t.id = k.tenant_id AND t.deleted_at IS NULL
             WHERE k.prefix IN {list} AND k.revoked_at IS NULL
               AND (k.expires_at IS NULL OR k.expires_at > $1)"
        );
        let mut values = vec![app.clock.db_now().into()];
        values.extend(prefixes.into_iter().map(Value::from));
        let found: Vec<api_key::Model> = db::all(conn, sql, values).await?;
        Ok(found.into_iter().map(|row| (row.prefix.clone(), row)).collect())
    }
}
