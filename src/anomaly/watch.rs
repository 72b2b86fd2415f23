//! Before each hold: what is known of the person, the score, and what follows from a high one.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use sea_orm::{DbErr, EntityTrait, FromQueryResult, IntoActiveModel, Iterable, QueryResult, Value};
use serde_json::json;
use uuid::Uuid;

use crate::actor::Source;
use crate::alerts::{self, AlertKind, NewAlert};
use crate::anomaly::baseline::{self, hour_of_week};
use crate::anomaly::error::AnomalyError;
use crate::anomaly::score::{self, Baseline, CRITICAL, Recent, Score, WARNING};
use crate::app::App;
use crate::audit::{self, Action, Security};
use crate::batch::Lookup;
use crate::db::{self, Rows};
use crate::entity::alert::AlertSeverity;
use crate::entity::tenant::AnomalyMode;
use crate::entity::{usage_baseline, user_block};
use crate::error::{Error, Result};
use crate::ids::{BlockId, TenantId, UserId};

/// Runs of the last hour that are looked at, at most.
const RUNS_MAX: i64 = 1_000;
/// Letters of a prompt that its digest reads: the rest hardly ever differs alone.
const PROMPT_MAX: usize = 4_000;

/// Whom a call is for, and what it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    /// The tenant that pays.
    pub tenant: TenantId,
    /// The person for whom it runs.
    pub user: UserId,
    /// The prompt's [`digest`].
    pub prompt: i64,
}

/// A number that is the same for prompts that differ only in numbers, marks, spaces and case, and
/// tells nothing of them without our key.
pub fn digest(app: &App, prompt: &str) -> i64 {
    let mut plain = String::with_capacity(prompt.len().min(PROMPT_MAX));
    for letter in prompt.chars().filter(|letter| letter.is_alphanumeric()).take(PROMPT_MAX) {
        if !letter.is_numeric() {
            plain.extend(letter.to_lowercase());
        } else if !plain.ends_with('0') {
            plain.push('0');
        }
    }
    let digest = app.crypto.digest("ai.prompt", plain.as_bytes());
    digest.first_chunk().map_or(0, |head| i64::from_be_bytes(*head))
}

/// What is known of a person before a call.
#[derive(Clone, Debug)]
pub struct Seen {
    mode: AnomalyMode,
    block_for: TimeDelta,
    blocked_until: Option<DateTime<Utc>>,
    before: Recent,
    own: Option<Baseline>,
    all: Option<Baseline>,
}

/// Reads what is known, together with what other calls ask for. None: the limits are off, and so
/// is this.
pub async fn look(app: &App, subject: Subject) -> Result<Option<Seen>> {
    if !app.config.limits.is_on {
        return Ok(None);
    }
    let seen = app.batches.find::<Looks>(app, subject).await?;
    seen.ok_or(Error::NotFound("tenant")).map(Some)
}

/// A call that is about to be paid for.
#[derive(Clone, Copy, Debug)]
pub struct Coming {
    /// Whom it is for.
    pub subject: Subject,
    /// Credits that it will hold.
    pub credits: i64,
    /// The tenant's zone.
    pub zone: Tz,
}

/// Scores a call. From 70 on it is recorded; from 90 on, and while the person is blocked, it is
/// refused as [`AnomalyError::Suspicious`], unless the tenant only watches.
pub async fn judge(app: &App, seen: Seen, call: Coming, source: &Arc<Source>) -> Result<Score> {
    let now = app.clock.db_now();
    let is_enforced = seen.mode == AnomalyMode::Enforce;
    if let Some(until) = seen.blocked_until.filter(|_| is_enforced) {
        return Err(AnomalyError::Suspicious { until }.into());
    }
    let credits = u32::try_from(call.credits).unwrap_or(u32::MAX);
    let recent = Recent {
        runs: seen.before.runs + 1,
        credits: seen.before.credits.saturating_add(credits),
        repeats: seen.before.repeats + 1,
    };
    let nobody = Baseline {
        total: 0,
        runs: score::Usual::default(),
        credits: score::Usual::default(),
        week: Vec::new(),
    };
    let all = seen.all.as_ref().unwrap_or(&nobody);
    let score = score::score(recent, (seen.own.as_ref(), all), hour_of_week(now, call.zone));
    if score.total < WARNING {
        return Ok(score);
    }
    let is_critical = score.total >= CRITICAL;
    let until = (is_critical && is_enforced).then(|| now + seen.block_for);
    record(app, (call.subject, source), (&score, seen.mode), (now, until)).await?;
    until.map_or(Ok(score), |until| Err(AnomalyError::Suspicious { until }.into()))
}

/// Tells people, once an hour for each person and degree, and blocks.
async fn record(
    app: &App,
    (Subject { tenant, user, .. }, source): (Subject, &Arc<Source>),
    (score, mode): (&Score, AnomalyMode),
    (now, until): (DateTime<Utc>, Option<DateTime<Utc>>),
) -> Result<()> {
    let is_critical = score.total >= CRITICAL;
    let (degree, severity) = if is_critical {
        ("CRITICAL", AlertSeverity::Critical)
    } else {
        ("WARNING", AlertSeverity::Warning)
    };
    let data = json!({
        "userId": user.to_string(),
        "degree": degree,
        "score": score.total,
        "signals": score.signals,
        "isShadow": mode == AnomalyMode::Shadow,
        "blockedUntil": until,
    });
    let mut txn = app.db.begin().await?;
    let alert = NewAlert {
        tenant: Some(tenant),
        kind: AlertKind::AnomalousUsage,
        severity,
        // A block is told each time.
        dedupe_key: match until {
            Some(until) => format!("ANOMALOUS_USAGE:{tenant}:{user}:{}", until.timestamp()),
            None => format!("ANOMALOUS_USAGE:{tenant}:{user}:{degree}:{}", now.format("%FT%H")),
        },
        data: data.clone(),
    };
    if !alerts::raise(&mut txn, alert, now).await? {
        return txn.rollback().await;
    }
    if let Some(blocked_until) = until {
        let block = user_block::Model {
            id: BlockId::new(),
            tenant_id: tenant,
            user_id: user,
            score: score.total.into(),
            signals: serde_json::to_value(&score.signals)?,
            blocked_until,
            created_at: now,
            lifted_at: None,
            lifted_by: None,
        };
        let row = block.into_active_model();
        user_block::Entity::insert(row).exec_without_returning(&*txn).await?;
    }
    let action = if is_critical { Action::AnomalousUsageCritical } else { Action::AnomalousUsage };
    let event = Security {
        action,
        user: Some(user),
        tenant: Some(tenant),
        subject: ("user", Some(user.0)),
        data,
        source,
    };
    audit::record_security(app, &txn, event).await?;
    txn.commit().await
}

/// Reads what is known of many people at once, in one statement.
struct Looks;

impl Lookup for Looks {
    type Context = App;
    type Key = Subject;
    type Value = Seen;

    async fn read(app: &App, keys: Vec<Subject>) -> Result<HashMap<Subject, Seen>> {
        let now = app.clock.db_now();
        let mut rows = Rows::default();
        for Subject { tenant, user, prompt } in &keys {
            rows.push([Value::from(*tenant), (*user).into(), (*prompt).into()]);
        }
        let conn = app.db.primary();
        let (table, mut values) = rows.table(conn, 5);
        let head: [Value; 4] =
            [now.into(), (now - TimeDelta::hours(1)).into(), RUNS_MAX.into(), Uuid::nil().into()];
        values.splice(0..0, head);
        let found: Vec<Row> = db::all(conn, sql(&table), values).await?;
        found.into_iter().map(Row::read).collect()
    }
}

/// `$1` now, `$2` an hour before, `$3` the runs to look at, `$4` nobody.
fn sql(table: &str) -> String {
    let columns = |from: &str| {
        let names = usage_baseline::Column::iter().map(|column| {
            let name = sea_orm::Iden::unquoted(&column).to_owned();
            format!("{from}.{name} AS {from}_{name}")
        });
        names.collect::<Vec<_>>().join(", ")
    };
    // Three sums over the same runs, read once.
    let recent = "CAST(COUNT(*) AS text) || ' ' || CAST(COALESCE(SUM(r.credits), 0) AS text)
          || ' ' || CAST(COALESCE(SUM(CASE WHEN r.prompt_digest = v.column3 THEN 1 ELSE 0 END), 0)
          AS text)";
    let (own, all) = (columns("own"), columns("everybody"));
    format!(
        "SELECT v.column1 AS tenant_id, v.column2 AS user_id, v.column3 AS prompt,
         t.anomaly_mode, t.anomaly_block_minutes,
         (SELECT b.blocked_until FROM user_blocks b
          WHERE b.tenant_id = v.column1 AND b.user_id = v.column2 AND b.lifted_at IS NULL
          AND b.blocked_until > $1 ORDER BY b.created_at DESC LIMIT 1) AS blocked_until,
         (SELECT {recent} FROM (
            SELECT CASE WHEN e.status = 'RUNNING' THEN e.credits_held ELSE e.credits_used END
            AS credits, e.prompt_digest FROM ai_executions e
            WHERE e.tenant_id = v.column1 AND e.user_id = v.column2 AND e.created_at > $2
            AND e.created_at <= $1 AND e.created_at > COALESCE(
              (SELECT MAX(b.created_at) FROM user_blocks b
               WHERE b.tenant_id = v.column1 AND b.user_id = v.column2), $2)
            ORDER BY e.created_at DESC LIMIT $3) r) AS recent,
         {own}, {all} FROM {table} JOIN tenants t ON t.id = v.column1
         LEFT JOIN usage_baselines own
           ON own.tenant_id = v.column1 AND own.user_id = v.column2
         LEFT JOIN usage_baselines everybody
           ON everybody.tenant_id = v.column1 AND everybody.user_id = $4"
    )
}

struct Row {
    subject: Subject,
    mode: AnomalyMode,
    block_minutes: i64,
    blocked_until: Option<DateTime<Utc>>,
    /// Runs, credits and repeats, a space between them.
    recent: String,
    own: Option<usage_baseline::Model>,
    all: Option<usage_baseline::Model>,
}

impl FromQueryResult for Row {
    fn from_query_result(row: &QueryResult, pre: &str) -> Result<Self, DbErr> {
        let subject = Subject {
            tenant: row.try_get(pre, "tenant_id")?,
            user: row.try_get(pre, "user_id")?,
            prompt: row.try_get(pre, "prompt")?,
        };
        Ok(Self {
            subject,
            mode: row.try_get(pre, "anomaly_mode")?,
            block_minutes: row.try_get(pre, "anomaly_block_minutes")?,
            blocked_until: row.try_get(pre, "blocked_until")?,
            recent: row.try_get(pre, "recent")?,
            own: usage_baseline::Model::from_query_result_optional(row, "own_")?,
            all: usage_baseline::Model::from_query_result_optional(row, "everybody_")?,
        })
    }
}

impl Row {
    fn read(self) -> Result<(Subject, Seen)> {
        let mut numbers = self.recent.split(' ').map(|number| number.parse::<u32>().ok());
        let mut next = || numbers.next().flatten().unwrap_or(0);
        let before = Recent { runs: next(), credits: next(), repeats: next() };
        let seen = Seen {
            mode: self.mode,
            block_for: TimeDelta::minutes(self.block_minutes),
            blocked_until: self.blocked_until,
            before,
            own: self.own.as_ref().map(baseline::read).transpose()?,
            all: self.all.as_ref().map(baseline::read).transpose()?,
        };
        Ok((self.subject, seen))
    }
}
