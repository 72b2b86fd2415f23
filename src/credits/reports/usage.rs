//! Credits used per day and function.

use std::collections::BTreeMap;

use chrono::{Days, NaiveDate};
use sea_orm::{ColumnTrait, QueryFilter, QueryOrder};

use crate::app::App;
use crate::credits::period;
use crate::entity::function_price::AiFunctionType;
use crate::entity::{credit_account, usage_daily};
use crate::error::{Error, Result};
use crate::money::ratio;
use rust_decimal::Decimal;

/// Days that one call may ask for.
pub const DAYS_MAX: i64 = 366;

/// A function's part in some days' use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionUse {
    /// The function.
    pub function: AiFunctionType,
    /// Credits charged.
    pub credits: i64,
    /// Executions that ended.
    pub runs: i64,
    /// Percent of all credits, two decimals; 0 when none were charged.
    pub percentage: Decimal,
}

/// One day's use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DayUse {
    /// The tenant's calendar day.
    pub day: NaiveDate,
    /// Credits charged.
    pub credits: i64,
    /// Executions that ended.
    pub runs: i64,
    /// By function, most credits first.
    pub by_function: Vec<FunctionUse>,
}

/// The rows of an account between two days, both included.
pub async fn rows(
    app: &App,
    account: &credit_account::Model,
    (from, to): (NaiveDate, NaiveDate),
) -> Result<Vec<usage_daily::Model>> {
    Ok(usage_daily::Entity::of_account(account.id)
        .filter(usage_daily::Column::Day.between(from, to))
        .order_by_asc(usage_daily::Column::Day)
        .order_by_asc(usage_daily::Column::FunctionType)
        .all(app.db.primary())
        .await?)
}

/// The last `days` days, today included: functions by credits, and each day, quiet ones too.
pub async fn recent(
    app: &App,
    account: &credit_account::Model,
    days: i64,
) -> Result<(Vec<FunctionUse>, Vec<DayUse>)> {
    if !(1..=DAYS_MAX).contains(&days) {
        return Err(Error::invalid("days", "1〜366で指定してください。", "must be 1 to 366"));
    }
    let today = period::local_day(app.clock.db_now(), period::zone(&account.time_zone));
    let back = u64::try_from(days - 1).unwrap_or(0);
    let from = today.checked_sub_days(Days::new(back)).unwrap_or(today);
    let rows = rows(app, account, (from, today)).await?;
    Ok((by_function(rows.iter()), by_day(&rows, (from, today))))
}

/// Credits charged since the period began.
pub async fn this_month(app: &App, account: &credit_account::Model) -> Result<i64> {
    let today = period::local_day(app.clock.db_now(), period::zone(&account.time_zone));
    let rows = rows(app, account, (period::first_of_month(today), today)).await?;
    Ok(rows.iter().map(|row| row.credits).sum())
}

/// Sums by function, most credits first.
pub fn by_function<'a>(rows: impl Iterator<Item = &'a usage_daily::Model>) -> Vec<FunctionUse> {
    let mut sums: BTreeMap<AiFunctionType, (i64, i64)> = BTreeMap::new();
    for row in rows {
        let sum = sums.entry(row.function_type).or_default();
        sum.0 += row.credits;
        sum.1 += row.runs;
    }
    let total: i64 = sums.values().map(|(credits, _)| credits).sum();
    let mut functions: Vec<FunctionUse> = sums
        .into_iter()
        .map(|(function, (credits, runs))| FunctionUse {
            function,
            credits,
            runs,
            percentage: ratio(credits * 100, total, 2).unwrap_or_default(),
        })
        .collect();
    functions.sort_by_key(|used| std::cmp::Reverse(used.credits));
    functions
}

/// A row for every day of the range.
pub fn by_day(rows: &[usage_daily::Model], (from, to): (NaiveDate, NaiveDate)) -> Vec<DayUse> {
    let mut days: BTreeMap<NaiveDate, Vec<&usage_daily::Model>> =
        from.iter_days().take_while(|day| *day <= to).map(|day| (day, Vec::new())).collect();
    for row in rows {
        days.entry(row.day).or_default().push(row);
    }
    days.into_iter()
        .map(|(day, rows)| DayUse {
            day,
            credits: rows.iter().map(|row| row.credits).sum(),
            runs: rows.iter().map(|row| row.runs).sum(),
            by_function: by_function(rows.into_iter()),
        })
        .collect()
}
