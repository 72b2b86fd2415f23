//! Blocks of people, and what a tenant decides about them.

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, Select};
use serde_json::json;

use crate::actor::{Actor, Permission};
use crate::anomaly::error::AnomalyError;
use crate::app::App;
use crate::audit::{self, Action, Changes, Subject};
use crate::db;
use crate::entity::tenant::{self, AnomalyMode};
use crate::entity::user_block;
use crate::error::{Error, Result};
use crate::ids::BlockId;

/// Minutes that a block lasts at most: a day.
const MINUTES_MAX: i64 = 1_440;

/// The blocks of the actor's tenant, to be paged.
pub fn list(actor: &Actor) -> Result<Select<user_block::Entity>> {
    actor.require(Permission::AuditRead)?;
    Ok(user_block::Entity::of_tenant(actor.tenant()?))
}

/// Blocks of the actor's tenant by their ids.
pub async fn find(app: &App, actor: &Actor, ids: &[BlockId]) -> Result<Vec<user_block::Model>> {
    let found = list(actor)?.filter(user_block::Column::Id.is_in(ids.iter().copied()));
    Ok(found.all(app.db.primary()).await?)
}

/// Whether a block still withholds anything.
pub fn is_active(app: &App, block: &user_block::Model) -> bool {
    block.lifted_at.is_none() && block.blocked_until > app.clock.db_now()
}

/// Lifts a block: the person's calls run again, and their last hour begins anew. Doing so twice
/// changes nothing.
pub async fn lift(app: &App, actor: &Actor, id: BlockId) -> Result<user_block::Model> {
    actor.require(Permission::MembersManage)?;
    let tenant = actor.tenant()?;
    let now = app.clock.db_now();
    let txn = app.db.begin().await?;
    let block = user_block::Entity::find_for(tenant, id).one(&*txn).await?;
    let block = block.ok_or(Error::NotFound("block"))?;
    if block.lifted_at.is_some() {
        return Ok(block);
    }
    if block.blocked_until <= now {
        return Err(AnomalyError::BlockOver.into());
    }
    let by = actor.person()?;
    // All of the person's blocks that are under way: two calls at once may have made two.
    let sql = "UPDATE user_blocks SET lifted_at = $3, lifted_by = $4
               WHERE tenant_id = $1 AND user_id = $2 AND lifted_at IS NULL
               AND blocked_until > $3";
    let values = vec![tenant.into(), block.user_id.into(), now.into(), by.into()];
    db::execute(&*txn, sql, values).await?;
    let data = json!({ "blockId": id.to_string(), "blockedUntil": block.blocked_until });
    let subject = Subject::of("user", block.user_id.0).in_tenant(tenant).with(data);
    audit::record(app, &txn, actor, Action::BlockLifted, subject).await?;
    txn.commit().await?;
    Ok(user_block::Model { lifted_at: Some(now), lifted_by: Some(by), ..block })
}

/// What a tenant decides about unusual use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether people are blocked, or only watched.
    pub mode: AnomalyMode,
    /// How long a block lasts.
    pub block_minutes: i64,
}

impl Settings {
    fn of(tenant: &tenant::Model) -> Self {
        Self { mode: tenant.anomaly_mode, block_minutes: tenant.anomaly_block_minutes }
    }
}

/// What the actor's tenant decided.
pub async fn settings(app: &App, actor: &Actor) -> Result<Settings> {
    actor.require(Permission::AuditRead)?;
    let tenant = tenant::Entity::find_by_id(actor.tenant()?).one(app.db.primary()).await?;
    Ok(Settings::of(&tenant.ok_or(Error::NotFound("tenant"))?))
}

/// Changes it. What is none stays. Blocks that are under way keep their end; in shadow mode they
/// withhold nothing.
pub async fn change_settings(
    app: &App,
    actor: &Actor,
    (mode, block_minutes): (Option<AnomalyMode>, Option<i64>),
) -> Result<Settings> {
    actor.require(Permission::TenantManage)?;
    if !block_minutes.is_none_or(|minutes| (1..=MINUTES_MAX).contains(&minutes)) {
        return Err(Error::invalid(
            "input.blockMinutes",
            "1〜1440で指定してください。",
            "must be 1 to 1440",
        ));
    }
    let tenant = actor.tenant()?;
    let now: DateTime<Utc> = app.clock.db_now();
    let txn = app.db.begin().await?;
    // The no-op update is a lock: two changes at once come one after the other.
    let sql = "UPDATE tenants SET version = version WHERE id = $1 AND deleted_at IS NULL
               RETURNING *";
    let before: Option<tenant::Model> = db::one(&*txn, sql, vec![tenant.into()]).await?;
    let before = Settings::of(&before.ok_or(Error::NotFound("tenant"))?);
    let after = Settings {
        mode: mode.unwrap_or(before.mode),
        block_minutes: block_minutes.unwrap_or(before.block_minutes),
    };
    let sql = "UPDATE tenants SET anomaly_mode = $2, anomaly_block_minutes = $3, updated_at = $4
               WHERE id = $1";
    let values =
        vec![tenant.into(), after.mode.as_str().into(), after.block_minutes.into(), now.into()];
    db::execute(&*txn, sql, values).await?;
    let changes = Changes::new().plain("mode", &before.mode, &after.mode).plain(
        "blockMinutes",
        &before.block_minutes,
        &after.block_minutes,
    );
    let subject = Subject::of("tenant", tenant.0).in_tenant(tenant).changing(changes);
    audit::record(app, &txn, actor, Action::AnomalySettingsChanged, subject).await?;
    txn.commit().await?;
    Ok(after)
}
