//! The audit report of a range of days: use from the daily and hourly sums, security events, and
//! what the checks found.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Timelike, Utc};
use sea_orm::FromQueryResult;

use crate::actor::{Actor, Permission};
use crate::app::App;
use crate::audit::proof::Extent;
use crate::compliance::assess;
use crate::compliance::checks::{self, Check, CheckName};
use crate::compliance::risk::{self, EventCount, Risk};
use crate::credits::period;
use crate::credits::reports::usage::{self, DayUse, FunctionUse};
use crate::credits::service::account;
use crate::db;
use crate::entity::system_event::RiskLevel;
use crate::entity::{compliance_assessment, credit_account, usage_daily};
use crate::error::{Error, Result};
use crate::text_enum;

/// Lines of the chain that a report proves; the nightly proof walks all of it.
const PROVED: i64 = 5_000;
/// Of a hundred runs, failures from which on the report says so.
const FAILURES_HIGH: i64 = 10;

/// Everything that is told of a range of days.
#[derive(Clone, Debug)]
pub struct Report {
    /// First day.
    pub from: NaiveDate,
    /// Last day, included.
    pub to: NaiveDate,
    /// The sums.
    pub summary: Summary,
    /// Use by function, most credits first.
    pub functions: Vec<FunctionUse>,
    /// Use by day, quiet days too.
    pub days: Vec<DayUse>,
    /// Use by hour of the day in the tenant's zone, the busiest first; quiet hours are left out.
    pub hours: Vec<HourUse>,
    /// Security events by kind, the most frequent first.
    pub events: Vec<EventCount>,
    /// What the incidents come to.
    pub risk: Risk,
    /// What the checks found just now.
    pub checks: Vec<Check>,
    /// What the last weekly assessment found; none when there was none yet.
    pub assessment: Option<compliance_assessment::Model>,
    /// What to do.
    pub advice: Vec<Advice>,
}

/// The sums of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Credits charged.
    pub credits: i64,
    /// Executions that ended.
    pub executions: i64,
    /// Of them, failures.
    pub failures: i64,
    /// Mean wall time in milliseconds over all executions; none without any.
    pub mean_time_ms: Option<i64>,
}

/// Use within one hour of the day, over all days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HourUse {
    /// 0 to 23.
    pub hour: u32,
    /// Credits charged.
    pub credits: i64,
    /// Executions that ended.
    pub runs: i64,
}

text_enum! {
    /// What a report advises.
    Advice {
        /// Rows are kept longer than they may be: see that the cleanup runs.
        RunCleanup = "RUN_CLEANUP",
        /// Give every root field a rule.
        NameRules = "NAME_RULES",
        /// Replace the keys, and seal what is open.
        RenewEncryption = "RENEW_ENCRYPTION",
        /// Somebody changed the audit record: find out who had the database's password.
        ExamineRecord = "EXAMINE_RECORD",
        /// Look at what was refused, and to whom.
        ReviewRefusals = "REVIEW_REFUSALS",
        /// One execution in ten or more failed: look at their failure codes.
        ReviewFailures = "REVIEW_FAILURES",
    }
}

/// Makes the report of a range of at most 366 days, in the tenant's calendar.
pub async fn report(app: &App, actor: &Actor, range: (NaiveDate, NaiveDate)) -> Result<Report> {
    actor.require(Permission::AuditRead)?;
    let (from, to) = range;
    let days = (to - from).num_days() + 1;
    if !(1..=usage::DAYS_MAX).contains(&days) {
        return Err(Error::invalid(
            "to",
            "fromから366日以内の日付を指定してください。",
            "must be within 366 days from `from`",
        ));
    }
    let tenant = actor.tenant()?;
    let account = account::of_tenant(app, tenant).await?;
    let zone = period::zone(&account.time_zone);
    let instants =
        (period::start_of_day(from, zone), period::start_of_day(period::next_day(to), zone));
    let rows = usage::rows(app, &account, range).await?;
    let summary = summary(&rows);
    let events = risk::events(app, tenant.0, instants).await?;
    let risk = risk::score(&events, days);
    let checks = checks::all(app, tenant.0, Extent::Last(PROVED)).await?;
    Ok(Report {
        from,
        to,
        summary,
        functions: usage::by_function(rows.iter()),
        days: usage::by_day(&rows, range),
        hours: hours(app, &account, instants).await?,
        advice: advice(&checks, &risk, &summary),
        events,
        risk,
        checks,
        assessment: assess::last(app, tenant).await?,
    })
}

fn summary(rows: &[usage_daily::Model]) -> Summary {
    let sum = |field: fn(&usage_daily::Model) -> i64| rows.iter().map(field).sum::<i64>();
    let executions = sum(|row| row.runs);
    Summary {
        credits: sum(|row| row.credits),
        executions,
        failures: sum(|row| row.failures),
        mean_time_ms: sum(|row| row.time_ms).checked_div(executions),
    }
}

async fn hours(
    app: &App,
    account: &credit_account::Model,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
) -> Result<Vec<HourUse>> {
    #[derive(FromQueryResult)]
    struct Row {
        hour: DateTime<Utc>,
        credits: i64,
        runs: i64,
    }
    let sql = "SELECT hour, CAST(SUM(credits) AS bigint) AS credits,
                      CAST(SUM(runs) AS bigint) AS runs
               FROM usage_hourly WHERE account_id = $1 AND hour >= $2 AND hour < $3
               GROUP BY hour";
    let values = vec![account.id.into(), from.into(), to.into()];
    let rows: Vec<Row> = db::all(app.db.primary(), sql, values).await?;
    let zone = period::zone(&account.time_zone);
    let mut hours: BTreeMap<u32, HourUse> = BTreeMap::new();
    for row in rows {
        let hour = row.hour.with_timezone(&zone).hour();
        let sum = hours.entry(hour).or_insert(HourUse { hour, credits: 0, runs: 0 });
        sum.credits += row.credits;
        sum.runs += row.runs;
    }
    let mut hours: Vec<HourUse> = hours.into_values().collect();
    hours.sort_by_key(|hour| (std::cmp::Reverse(hour.runs), hour.hour));
    Ok(hours)
}

fn advice(checks: &[Check], risk: &Risk, summary: &Summary) -> Vec<Advice> {
    let failed = checks.iter().filter(|check| !check.is_passed()).map(|check| match check.name {
        CheckName::Retention => Advice::RunCleanup,
        CheckName::AccessControl => Advice::NameRules,
        CheckName::Encryption => Advice::RenewEncryption,
        CheckName::AuditTrail => Advice::ExamineRecord,
    });
    let mut advice: Vec<Advice> = failed.collect();
    if risk.level != RiskLevel::Low {
        advice.push(Advice::ReviewRefusals);
    }
    if summary.executions > 0 && summary.failures * 100 >= FAILURES_HIGH * summary.executions {
        advice.push(Advice::ReviewFailures);
    }
    advice
}
