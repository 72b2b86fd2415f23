//! Hours of functions: how often a member of a tenant may run one, and how often they still can.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sea_orm::{FromQueryResult, Value};
use serde_json::json;
use uuid::Uuid;

use crate::actor::{Actor, Permission};
use crate::app::App;
use crate::audit::{self, Action, Subject};
use crate::batch::Lookup;
use crate::db::{self, Rows};
use crate::entity::function_limit;
use crate::entity::function_price::AiFunctionType;
use crate::entity::tenant;
use crate::error::{Error, Result};
use crate::ids::{ExecutionId, TenantId, UserId};
use crate::limits::table::{self, HOUR, PER_HOUR_MAX};
use crate::limits::who::Who;
use crate::meter::{Charge, History, Kind, Past};

/// Calls of a function in any hour that each member of a tenant may make. Read together with what
/// others ask for.
pub async fn per_hour(app: &App, tenant: TenantId, function: AiFunctionType) -> Result<i64> {
    let own = app.batches.find::<OwnLimits>(app, (tenant, function)).await?;
    Ok(own.unwrap_or_else(|| table::per_hour(function)))
}

/// Reads tenants' own limits.
struct OwnLimits;

impl Lookup for OwnLimits {
    type Context = App;
    type Key = (TenantId, AiFunctionType);
    type Value = i64;

    async fn read(app: &App, keys: Vec<Self::Key>) -> Result<HashMap<Self::Key, i64>> {
        let mut rows = Rows::default();
        for (tenant, function) in keys {
            rows.push([Value::from(tenant), function.as_str().into()]);
        }
        let conn = app.db.primary();
        let (table, values) = rows.table(conn, 1);
        let sql = format!(
            "SELECT l.* FROM {table} JOIN tenant_function_limits l
             ON l.tenant_id = v.column1 AND l.function_type = v.column2"
        );
        let found: Vec<function_limit::Model> = db::all(conn, sql, values).await?;
        let entry = |row: function_limit::Model| ((row.tenant_id, row.function_type), row.per_hour);
        Ok(found.into_iter().map(entry).collect())
    }
}

/// What a member has of a function in this hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Calls in any hour.
    pub limit: i64,
    /// Calls that are left now.
    pub remaining: i64,
    /// When the oldest call leaves the hour; none when none was made.
    pub resets_at: Option<DateTime<Utc>>,
}

/// What the actor has of a function in this hour.
pub async fn allowance(app: &App, actor: &Actor, function: AiFunctionType) -> Result<Allowance> {
    let tenant = actor.tenant()?;
    let limit = per_hour(app, tenant, function).await?;
    if !app.config.limits.is_on {
        return Ok(Allowance { limit, remaining: limit, resets_at: None });
    }
    let member = (tenant, actor.user_id);
    let hour = hour(member, (function, limit), Uuid::nil());
    let now = app.clock.db_now();
    let usage = app.meter.look(now, &hour, &Runs::new(app, member, function)).await?;
    let remaining = (limit - usage.used).max(0);
    Ok(Allowance { limit, remaining, resets_at: usage.oldest_left.map(|left| now + left) })
}

/// A call in the hour of a member.
pub(crate) fn hour(
    (tenant, user): (TenantId, UserId),
    (function, per_hour): (AiFunctionType, i64),
    id: Uuid,
) -> Charge {
    let key = Who::member(tenant, user).key(&format!("hour:{function}"));
    Charge { key, limit: per_hour, period: HOUR, kind: Kind::Place(id) }
}

/// A member's calls of a function, as the record of executions has them.
pub(crate) struct Runs<'a> {
    app: &'a App,
    tenant: TenantId,
    user: UserId,
    function: AiFunctionType,
}

impl<'a> Runs<'a> {
    pub(crate) fn new(
        app: &'a App,
        (tenant, user): (TenantId, UserId),
        function: AiFunctionType,
    ) -> Self {
        Self { app, tenant, user, function }
    }
}

impl History for Runs<'_> {
    /// By the index of a member's executions: an hour has no more of them than the limits allow.
    async fn read(&self, charge: &Charge) -> Result<Vec<Past>> {
        #[derive(FromQueryResult)]
        struct Row {
            id: ExecutionId,
            created_at: DateTime<Utc>,
        }
        let sql = "SELECT id, created_at FROM ai_executions
                   WHERE tenant_id = $1 AND user_id = $2 AND created_at > $3
                   AND function_type = $4 ORDER BY created_at DESC, id DESC LIMIT $5";
        let since = self.app.clock.db_now() - charge.period;
        let values = vec![
            self.tenant.into(),
            self.user.into(),
            since.into(),
            self.function.as_str().into(),
            PER_HOUR_MAX.into(),
        ];
        let rows: Vec<Row> = db::all(self.app.db.primary(), sql, values).await?;
        Ok(rows.into_iter().map(|row| Past { id: row.id.0, at: row.created_at }).collect())
    }
}

/// A tenant's own limit of a function, or the usual one again.
#[derive(Clone, Copy, Debug)]
pub struct LimitChange {
    /// The tenant.
    pub tenant: TenantId,
    /// The function.
    pub function: AiFunctionType,
    /// Calls in any hour for each member; none for the usual number.
    pub per_hour: Option<i64>,
}

/// Sets how often each member of a tenant may run a function. Holds from the next call on.
pub async fn set(app: &App, actor: &Actor, change: LimitChange) -> Result<i64> {
    actor.require(Permission::Platform)?;
    if change.per_hour.is_some_and(|calls| !(0..=PER_HOUR_MAX).contains(&calls)) {
        let ja = "0〜10,000で指定してください。";
        return Err(Error::invalid("input.perHour", ja, "must be 0 to 10 000"));
    }
    let now = app.clock.db_now();
    let txn = app.db.begin().await?;
    // The no-op update is the lock: a tenant that is being closed is found closed.
    let sql = "UPDATE tenants SET version = version WHERE id = $1 AND deleted_at IS NULL
               RETURNING *";
    let tenant: Option<tenant::Model> = db::one(&*txn, sql, vec![change.tenant.into()]).await?;
    tenant.ok_or(Error::NotFound("tenant"))?;
    let (sql, mut values) = (
        "DELETE FROM tenant_function_limits WHERE tenant_id = $1 AND function_type = $2",
        vec![Value::from(change.tenant), change.function.as_str().into()],
    );
    db::execute(&*txn, sql, values.clone()).await?;
    if let Some(per_hour) = change.per_hour {
        let sql = "INSERT INTO tenant_function_limits
                   (tenant_id, function_type, per_hour, updated_by, updated_at)
                   VALUES ($1, $2, $3, $4, $5)";
        values.extend([per_hour.into(), actor.user_id.into(), now.into()]);
        db::execute(&*txn, sql, values).await?;
    }
    let data = json!({ "function": change.function, "perHour": change.per_hour });
    let subject = Subject::of("tenant", change.tenant.0).in_tenant(change.tenant).with(data);
    audit::record(app, &txn, actor, Action::TenantFunctionLimitSet, subject).await?;
    txn.commit().await?;
    Ok(change.per_hour.unwrap_or_else(|| table::per_hour(change.function)))
}
