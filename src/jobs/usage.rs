//! `usage_hourly`, derived from executions: for spikes, peak hours and baselines.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use sea_orm::DbBackend;

use crate::app::App;
use crate::db;
use crate::error::{Error, Result};

/// Hours that each run counts again: runs that were missed, and executions that ended late.
const HOURS_BACK: i64 = 26;

/// Counts the last hours again, by account, person and function. Counting twice changes nothing.
pub(crate) async fn roll_up(app: App) -> Result<String> {
    let from = app.clock.db_now() - TimeDelta::hours(HOURS_BACK);
    let hours = roll_up_from(&app, from).await?;
    Ok(format!("{hours} hours counted"))
}

/// Counts all hours from an instant on; returns how many rows there are.
pub(crate) async fn roll_up_from(app: &App, from: DateTime<Utc>) -> Result<u64> {
    let now = app.clock.db_now();
    let from = from.duration_trunc(TimeDelta::hours(1)).map_err(Error::broken)?;
    let hour = match app.db.primary().get_database_backend() {
        DbBackend::Postgres => "date_trunc('hour', finished_at, 'UTC')",
        _ => "strftime('%Y-%m-%dT%H:00:00+00:00', finished_at)",
    };
    let sql = format!(
        "INSERT INTO usage_hourly
         (account_id, user_id, function_type, hour, runs, failures, credits)
         SELECT account_id, user_id, function_type, {hour}, COUNT(*),
         SUM(CASE WHEN status = 'SUCCEEDED' THEN 0 ELSE 1 END), SUM(credits_used)
         FROM ai_executions WHERE finished_at >= $1 AND finished_at < $2
         GROUP BY account_id, user_id, function_type, {hour}
         ON CONFLICT (account_id, hour, user_id, function_type) DO UPDATE SET
         runs = excluded.runs, failures = excluded.failures, credits = excluded.credits"
    );
    let txn = app.db.begin().await?;
    let rows = db::execute(&*txn, sql, vec![from.into(), now.into()]).await?;
    txn.commit().await?;
    Ok(rows)
}
