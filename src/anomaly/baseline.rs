//! What is usual, counted anew each night from `usage_hourly`: a row for each person of a tenant
//! who used an AI function in the last 56 days, and one for all of them together.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, TimeDelta, Timelike, Utc};
use chrono_tz::Tz;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, EntityTrait, FromQueryResult, IntoActiveModel, Iterable, QueryFilter};
use uuid::Uuid;

use crate::anomaly::score::{Baseline, Usual, WEEK};
use crate::app::App;
use crate::credits::period;
use crate::db;
use crate::entity::usage_baseline::{self, Column};
use crate::error::{Error, Result};
use crate::ids::{AccountId, TenantId};

/// Days that a baseline looks back: eight weeks.
const DAYS: i64 = 56;
/// Accounts that one statement reads.
const ACCOUNTS_MAX: i64 = 200;
/// Hours that one statement reads.
const HOURS_MAX: i64 = 20_000;
/// Rows that one statement writes.
const ROWS_MAX: usize = 200;

/// The hour of the week of an instant in a zone, Monday's first hour being 0.
pub fn hour_of_week(at: DateTime<Utc>, zone: Tz) -> usize {
    let local = at.with_timezone(&zone);
    // Both are small numbers.
    (local.weekday().num_days_from_monday() * 24 + local.hour()) as usize
}

/// Counts the baselines of all tenants. Counting twice changes nothing.
pub async fn compute_all(app: &App) -> Result<String> {
    let now = app.clock.db_now();
    let (mut last, mut people, mut tenants) = (Uuid::nil(), 0, 0);
    loop {
        let accounts = accounts_after(app, last, now).await?;
        let Some(end) = accounts.last() else { break };
        last = end.id.0;
        for account in &accounts {
            people += compute(app, account, now).await?;
            tenants += 1;
        }
    }
    Ok(format!("{people} people of {tenants} tenants"))
}

#[derive(FromQueryResult)]
struct Account {
    id: AccountId,
    tenant_id: TenantId,
    time_zone: String,
}

async fn accounts_after(app: &App, last: Uuid, now: DateTime<Utc>) -> Result<Vec<Account>> {
    // Those that were quiet for long lose their baselines by being counted once more.
    let sql = "SELECT a.id, a.tenant_id, a.time_zone FROM ai_credit_accounts a
               WHERE a.id > $1 AND (
                 EXISTS (SELECT 1 FROM usage_hourly u WHERE u.account_id = a.id AND u.hour >= $2)
                 OR EXISTS (SELECT 1 FROM usage_baselines b WHERE b.tenant_id = a.tenant_id))
               ORDER BY a.id LIMIT $3";
    let values = vec![last.into(), from(now).into(), ACCOUNTS_MAX.into()];
    db::all(app.db.primary(), sql, values).await
}

fn from(now: DateTime<Utc>) -> DateTime<Utc> {
    now - TimeDelta::days(DAYS)
}

/// Counts the baselines of one tenant; says of how many people.
async fn compute(app: &App, account: &Account, now: DateTime<Utc>) -> Result<usize> {
    let zone = period::zone(&account.time_zone);
    let mut all = Counts::default();
    let mut people: BTreeMap<Uuid, Counts> = BTreeMap::new();
    let mut last = (Uuid::nil(), DateTime::<Utc>::MIN_UTC);
    loop {
        let hours = hours_after(app, account.id, last, now).await?;
        let Some(end) = hours.last() else { break };
        last = (end.user_id, end.hour);
        for hour in &hours {
            all.add(hour, zone);
            people.entry(hour.user_id).or_default().add(hour, zone);
        }
    }
    let count = people.len();
    if count > 0 {
        people.insert(Uuid::nil(), all);
    }
    let rows: Vec<_> = people
        .into_iter()
        .map(|(user, counts)| counts.into_row(account.tenant_id, user, now))
        .collect();
    save(app, account.tenant_id, rows, now).await?;
    Ok(count)
}

/// A person's use in one hour, all functions together.
#[derive(FromQueryResult)]
struct Hour {
    user_id: Uuid,
    hour: DateTime<Utc>,
    runs: i64,
    credits: i64,
}

async fn hours_after(
    app: &App,
    account: AccountId,
    (user, hour): (Uuid, DateTime<Utc>),
    now: DateTime<Utc>,
) -> Result<Vec<Hour>> {
    let sql = "SELECT user_id, hour, CAST(SUM(runs) AS bigint) AS runs,
               CAST(SUM(credits) AS bigint) AS credits FROM usage_hourly
               WHERE account_id = $1 AND hour >= $2 AND hour < $6 AND (user_id, hour) > ($3, $4)
               GROUP BY user_id, hour ORDER BY user_id, hour LIMIT $5";
    let from = from(now);
    // A pair before the first one; years before our time have no place in a column.
    let hour = hour.max(from - TimeDelta::hours(1));
    let values =
        vec![account.into(), from.into(), user.into(), hour.into(), HOURS_MAX.into(), now.into()];
    db::all(app.db.primary(), sql, values).await
}

/// How often each value came, and each hour of the week.
#[derive(Default)]
struct Counts {
    runs: BTreeMap<i64, u64>,
    credits: BTreeMap<i64, u64>,
    week: BTreeMap<usize, i64>,
    total: i64,
}

impl Counts {
    fn add(&mut self, hour: &Hour, zone: Tz) {
        *self.runs.entry(hour.runs * 100).or_default() += 1;
        *self.credits.entry(hour.credits * 100).or_default() += 1;
        *self.week.entry(hour_of_week(hour.hour, zone)).or_default() += hour.runs;
        self.total += hour.runs;
    }

    fn into_row(self, tenant: TenantId, user: Uuid, now: DateTime<Utc>) -> usage_baseline::Model {
        let (runs, credits) = (usual(&self.runs), usual(&self.credits));
        let week: Vec<i64> =
            (0..WEEK).map(|hour| self.week.get(&hour).copied().unwrap_or(0)).collect();
        usage_baseline::Model {
            tenant_id: tenant,
            user_id: user,
            runs: self.total,
            runs_median: runs.0,
            runs_mad: runs.1,
            credits_median: credits.0,
            credits_mad: credits.1,
            week: week.into(),
            computed_at: now,
        }
    }
}

/// The median and the median absolute deviation of values that came so often.
fn usual(counts: &BTreeMap<i64, u64>) -> (i64, i64) {
    let middle = median(counts);
    let mut differences: BTreeMap<i64, u64> = BTreeMap::new();
    for (value, count) in counts {
        *differences.entry((value - middle).abs()).or_default() += count;
    }
    (middle, median(&differences))
}

/// The median; the mean of the middle two when their number is even.
fn median(counts: &BTreeMap<i64, u64>) -> i64 {
    let total: u64 = counts.values().sum();
    let at = |place: u64| {
        let mut before = 0;
        let is_there = |(_, count): &(&i64, &u64)| {
            before += **count;
            before > place
        };
        counts.iter().find(is_there).map_or(0, |(value, _)| *value)
    };
    i64::midpoint(at(total.saturating_sub(1) / 2), at(total / 2))
}

/// Puts a tenant's baselines in the place of those of before.
async fn save(
    app: &App,
    tenant: TenantId,
    rows: Vec<usage_baseline::Model>,
    now: DateTime<Utc>,
) -> Result<()> {
    let txn = app.db.begin().await?;
    for part in rows.chunks(ROWS_MAX) {
        let rows = part.iter().cloned().map(IntoActiveModel::into_active_model);
        let is_key = |column: &Column| matches!(column, Column::TenantId | Column::UserId);
        let replace = OnConflict::columns([Column::TenantId, Column::UserId])
            .update_columns(Column::iter().filter(|column| !is_key(column)))
            .to_owned();
        usage_baseline::Entity::insert_many(rows)
            .on_conflict(replace)
            .exec_without_returning(&*txn)
            .await?;
    }
    usage_baseline::Entity::delete_many()
        .filter(Column::TenantId.eq(tenant))
        .filter(Column::ComputedAt.lt(now))
        .exec(&*txn)
        .await?;
    txn.commit().await
}

/// A row as the score reads it.
pub(crate) fn read(row: &usage_baseline::Model) -> Result<Baseline> {
    let week: Vec<u32> = serde_json::from_value(row.week.clone())?;
    Ok(Baseline {
        total: u32::try_from(row.runs).map_err(Error::broken)?,
        runs: hundredths(row.runs_median, row.runs_mad),
        credits: hundredths(row.credits_median, row.credits_mad),
        week,
    })
}

fn hundredths(median: i64, mad: i64) -> Usual {
    // Far below 2^53: nothing is rounded.
    Usual { median: median as f64 / 100.0, mad: mad as f64 / 100.0 }
}
