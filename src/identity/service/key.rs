//! API keys: how a tenant's server acts. A key is shown once; its beginning tells keys apart, a
//! keyed digest of the whole proves it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ColumnTrait, Condition, EntityTrait, IntoActiveModel, PaginatorTrait, QueryFilter};
use serde_json::json;

use crate::actor::{Actor, Permission};
use crate::app::App;
use crate::audit::{self, Action, Changes, Subject};
use crate::crypto::random_secret;
use crate::db::{self, Txn};
use crate::entity::{api_key, membership};
use crate::error::{Error, Result, Violation};
use crate::events::{self, Event};
use crate::identity::error::IdentityError;
use crate::identity::service::tenant::lock;
use crate::ids::{ApiKeyId, TenantId, UserId};

/// What every key begins with, so that scanners for leaked secrets know it.
const START: &str = "musubi_";
/// Letters after it that tell keys apart.
const PREFIX_LETTERS: usize = 10;
/// Letters of the secret: 32 bytes in base64url.
const SECRET_LETTERS: usize = 43;
/// Keys in force that a tenant may have.
const KEYS_MAX: u64 = 100;
/// Keys that are listed: more than can be in force.
const KEYS_LISTED: i64 = 200;
/// Uses within such a time are written down once.
const USE_EVERY: TimeDelta = TimeDelta::seconds(60);

/// Whether a bearer credential says that it is an API key.
pub fn is_key(text: &str) -> bool {
    text.starts_with(START)
}

/// The beginning by which a key is found; none when the text cannot be a key.
pub fn prefix_of(text: &str) -> Option<&str> {
    let (prefix, secret) = text.rsplit_once('.')?;
    let is_whole = prefix.len() == START.len() + PREFIX_LETTERS && secret.len() == SECRET_LETTERS;
    is_whole.then_some(prefix)
}

/// The digest that proves a key.
pub fn hash(app: &App, text: &str) -> Vec<u8> {
    app.crypto.index("api_keys.key", text)
}

/// What a key may. What this release does not know is left out.
pub fn permissions(row: &api_key::Model) -> Vec<Permission> {
    let names = row.permissions.as_array().into_iter().flatten().filter_map(|name| name.as_str());
    names
        .filter_map(|name| Permission::ALL.iter().find(|known| known.as_str() == name).copied())
        .collect()
}

/// Writes down that a key was used, at most once a minute and beside the request.
pub fn note_use(app: &App, row: &api_key::Model) {
    let now = app.clock.db_now();
    if row.last_used_at.is_some_and(|last| now - last < USE_EVERY) {
        return;
    }
    let (app, id) = (app.clone(), row.id);
    app.tasks.clone().spawn(async move {
        let sql = "UPDATE api_keys SET last_used_at = $2
                   WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $3)";
        let values = vec![id.into(), now.into(), (now - USE_EVERY).into()];
        let written = async {
            let txn = app.db.begin().await?;
            db::execute(&*txn, sql, values).await?;
            txn.commit().await
        };
        if let Err(error) = written.await {
            tracing::debug!(%error, "The use of an API key was not written down: {error}");
        }
    });
}

/// A key to make.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// What people call it, 1 to 100 characters.
    pub name: String,
    /// What it may.
    pub permissions: Vec<Permission>,
    /// When it ends; never when none.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Makes a key. Its text is answered here and never again.
pub async fn create(app: &App, actor: &Actor, new: NewKey) -> Result<(api_key::Model, String)> {
    actor.require(Permission::ApiKeysManage)?;
    let (tenant, person) = (actor.tenant()?, actor.person()?);
    let now = app.clock.db_now();
    check(&new, now)?;
    let (prefix, text) = make_text()?;
    let mut permissions = new.permissions;
    permissions.sort_unstable();
    permissions.dedup();
    let row = api_key::Model {
        id: ApiKeyId::new(),
        tenant_id: tenant,
        name: new.name.trim().to_owned(),
        key_hash: hash(app, &text),
        prefix,
        permissions: json!(&permissions),
        created_by: person,
        created_at: now,
        expires_at: new.expires_at,
        last_used_at: None,
        revoked_at: None,
    };
    let txn = app.db.begin().await?;
    // Those who come at once count each other's keys.
    lock(&txn, tenant).await?;
    refuse_gone(&txn, actor, tenant).await?;
    if in_force(&*txn, tenant, now).await? >= KEYS_MAX {
        return Err(IdentityError::TooMany { what: "API keys", max: KEYS_MAX }.into());
    }
    api_key::Entity::insert(row.clone().into_active_model()).exec_without_returning(&*txn).await?;
    let changes = Changes::new().plain("permissions", &None, &Some(permissions)).plain(
        "expiresAt",
        &None,
        &row.expires_at,
    );
    let subject = subject(&row).changing(changes);
    audit::record(app, &txn, actor, Action::ApiKeyCreated, subject).await?;
    txn.commit().await?;
    Ok((row, text))
}

/// Refused when the actor lost the right while they waited for the lock: the keys of somebody who
/// is taken out end with their place, and none may follow.
async fn refuse_gone(txn: &Txn, actor: &Actor, tenant: TenantId) -> Result<()> {
    if actor.may(Permission::Platform) {
        return Ok(());
    }
    let place = membership::Entity::of_tenant_and_user(tenant, actor.user_id).one(&**txn).await?;
    let roles = Permission::ApiKeysManage.roles();
    let is_allowed = place.is_some_and(|place| roles.contains(&place.role));
    if is_allowed { Ok(()) } else { Err(Error::Forbidden) }
}

/// Ends a key at once: requests are refused, its sockets close.
pub async fn revoke(app: &App, actor: &Actor, id: ApiKeyId) -> Result<api_key::Model> {
    actor.require(Permission::ApiKeysManage)?;
    let tenant = actor.tenant()?;
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await?;
    let sql = "UPDATE api_keys SET revoked_at = COALESCE(revoked_at, $3)
               WHERE id = $1 AND tenant_id = $2 RETURNING *";
    let values = vec![id.into(), tenant.into(), now.into()];
    let row: Option<api_key::Model> = db::one(&*txn, sql, values).await?;
    let row = row.ok_or(Error::NotFound("API key"))?;
    end(app, &mut txn, actor, &row).await?;
    txn.commit().await?;
    Ok(row)
}

/// Ends the keys in force that a person made in a tenant: they know the secrets.
pub(crate) async fn revoke_of_maker(
    app: &App,
    txn: &mut Txn,
    actor: &Actor,
    (tenant, maker): (TenantId, UserId),
) -> Result<()> {
    let sql = "UPDATE api_keys SET revoked_at = $3 WHERE tenant_id = $1 AND created_by = $2
               AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $3) RETURNING *";
    let values = vec![tenant.into(), maker.into(), app.clock.db_now().into()];
    let ended: Vec<api_key::Model> = db::all(&**txn, sql, values).await?;
    for row in &ended {
        end(app, txn, actor, row).await?;
    }
    Ok(())
}

/// Records the end of a key; its sockets close with the commit.
async fn end(app: &App, txn: &mut Txn, actor: &Actor, row: &api_key::Model) -> Result<()> {
    let changes = Changes::new().plain("revokedAt", &None, &row.revoked_at);
    let subject = subject(row).changing(changes);
    audit::record(app, txn, actor, Action::ApiKeyRevoked, subject).await?;
    events::announce(txn, Event::AccessEnded(row.id.0));
    Ok(())
}

/// The tenant's keys, at most 200: those in force, then those that are over; the newest first.
pub async fn list(app: &App, actor: &Actor) -> Result<Vec<api_key::Model>> {
    actor.require(Permission::ApiKeysManage)?;
    // All that are in force are among them, however many others there were.
    let sql = "SELECT * FROM api_keys WHERE tenant_id = $1
               ORDER BY CASE WHEN revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)
                        THEN 0 ELSE 1 END, id DESC LIMIT $3";
    let values = vec![actor.tenant()?.into(), app.clock.db_now().into(), KEYS_LISTED.into()];
    db::all(app.db.primary(), sql, values).await
}

/// A key of the tenant.
pub async fn find(app: &App, actor: &Actor, ids: &[ApiKeyId]) -> Result<Vec<api_key::Model>> {
    actor.require(Permission::ApiKeysManage)?;
    Ok(api_key::Entity::of_tenant(actor.tenant()?)
        .filter(api_key::Column::Id.is_in(ids.iter().copied()))
        .all(app.db.primary())
        .await?)
}

fn check(new: &NewKey, now: DateTime<Utc>) -> Result<()> {
    let mut violations = Vec::new();
    let letters = new.name.trim().chars().count();
    if !(1..=100).contains(&letters) || new.name.contains('\0') {
        violations.push(Violation::new(
            "input.name",
            "1〜100文字で指定してください。",
            "must have 1 to 100 characters",
        ));
    }
    if new.permissions.is_empty() || !new.permissions.iter().all(|it| it.is_for_keys()) {
        violations.push(Violation::new(
            "input.permissions",
            "APIキーに許可できる権限を1つ以上指定してください。",
            "must name one or more permissions that an API key can have",
        ));
    }
    if new.expires_at.is_some_and(|at| at <= now) {
        violations.push(Violation::new(
            "input.expiresAt",
            "未来の日時を指定してください。",
            "must be in the future",
        ));
    }
    if violations.is_empty() { Ok(()) } else { Err(Error::Invalid(violations)) }
}

async fn in_force(
    conn: &impl sea_orm::ConnectionTrait,
    tenant: TenantId,
    now: DateTime<Utc>,
) -> Result<u64> {
    let expiry = api_key::Column::ExpiresAt;
    Ok(api_key::Entity::of_tenant(tenant)
        .filter(api_key::Column::RevokedAt.is_null())
        .filter(Condition::any().add(expiry.is_null()).add(expiry.gt(now)))
        .count(conn)
        .await?)
}

fn make_text() -> Result<(String, String)> {
    let letters: String = URL_SAFE_NO_PAD
        .encode(random_secret()?)
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(PREFIX_LETTERS)
        .collect();
    let prefix = format!("{START}{letters:0<PREFIX_LETTERS$}");
    let text = format!("{prefix}.{}", URL_SAFE_NO_PAD.encode(random_secret()?));
    Ok((prefix, text))
}

fn subject(row: &api_key::Model) -> Subject {
    let data = json!({ "prefix": row.prefix });
    Subject::of("api_key", row.id.0).in_tenant(row.tenant_id).with(data)
}
