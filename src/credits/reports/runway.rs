//! How long the credits will last.
//!
//! Daily use is forecast per weekday: the mean of that weekday's days in the last 56, the highest
//! and the lowest left out when there are at least five. With fewer than 14 days of history the
//! plain mean stands for every weekday. The days left are those that the available credits pay for,
//! day by day from tomorrow; the band comes from the 10th and 90th percentile of past sums over as
//! many days.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, Days, NaiveDate, Utc};
use rust_decimal::Decimal;
use sea_orm::{ColumnTrait, QueryFilter};

use crate::app::App;
use crate::credits::catalog::plan_in_force;
use crate::credits::period;
use crate::credits::reports::usage;
use crate::entity::{credit_account, credit_grant, usage_daily};
use crate::error::{Error, Result};

/// Days of history that the forecast looks at.
const HISTORY_DAYS: u64 = 56;
/// Days of history from which weekdays are told apart.
const WEEKDAYS_FROM: usize = 14;
/// A runway past so many days says nothing.
const HORIZON_DAYS: i64 = 3_650;

/// How long the credits will last.
#[derive(Clone, Debug)]
pub struct Runway {
    /// Whole days that the available credits pay for; none without use, or past ten years.
    pub days_left: Option<i64>,
    /// The day on which they run out.
    pub depletes_on: Option<NaiveDate>,
    /// Mean forecast use per day, two decimals.
    pub daily_rate: Decimal,
    /// Days left if use is as high as in the busiest tenth of such spans.
    pub low: Option<i64>,
    /// Days left if use is as low as in the quietest tenth of such spans.
    pub high: Option<i64>,
    /// When this was computed.
    pub computed_at: DateTime<Utc>,
    forecast: Forecast,
    coming: Coming,
    available: i64,
    today: NaiveDate,
}

/// What comes and goes by itself, by day.
#[derive(Clone, Debug, Default)]
struct Coming {
    /// Free credits of resets, a year ahead.
    resets: Vec<(NaiveDate, i64)>,
    /// Credits that expire unless they are used before, earliest first.
    expiries: Vec<(NaiveDate, i64)>,
}

/// The balance that is expected at the end of a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunwayDay {
    /// The tenant's calendar day.
    pub day: NaiveDate,
    /// With the highest use to expect.
    pub low: i64,
    /// As forecast.
    pub expected: i64,
    /// With the lowest use to expect.
    pub high: i64,
}

/// Computes an account's runway from its last 56 days and what is due on it.
pub async fn of(app: &App, account: &credit_account::Model) -> Result<Runway> {
    let now = app.clock.db_now();
    let zone = period::zone(&account.time_zone);
    let today = period::local_day(now, zone);
    let from = today.checked_sub_days(Days::new(HISTORY_DAYS)).unwrap_or(today);
    let yesterday = today.pred_opt().unwrap_or(today);
    let rows = usage::rows(app, account, (from, yesterday)).await?;
    let opened = period::local_day(account.created_at, zone);
    let forecast = Forecast::of(&daily(&rows, (from.max(opened), yesterday)));
    let coming = coming(app, account, today).await?;
    let available = account.current_balance - account.held;
    Ok(Runway::compute(forecast, (available, today), coming, now))
}

/// Credits used on each day of a range, quiet days as 0, from the first day with use on.
fn daily(rows: &[usage_daily::Model], range: (NaiveDate, NaiveDate)) -> Vec<(NaiveDate, i64)> {
    let days = usage::by_day(rows, range);
    let mut series = days.into_iter().map(|day| (day.day, day.credits)).collect::<Vec<_>>();
    let first = series.iter().position(|(_, credits)| *credits > 0).unwrap_or(series.len());
    series.drain(..first);
    series
}

/// Free credits of coming resets and expiries.
async fn coming(app: &App, account: &credit_account::Model, today: NaiveDate) -> Result<Coming> {
    let zone = period::zone(&account.time_zone);
    let plan = account.next_plan_type.unwrap_or(account.plan_type);
    let free = plan_in_force(app.db.primary(), plan).await?.monthly_free_credits;
    let mut coming = Coming::default();
    let mut next = period::next_period(period::first_of_month(today));
    for _ in 0..12 {
        let start = period::start_of_day(next, zone);
        if account.entitled_until.is_none_or(|until| start <= until) {
            coming.resets.push((next, free));
        }
        next = period::next_period(next);
    }
    let expiring = credit_grant::Entity::of_account(account.id)
        .filter(credit_grant::Column::Remaining.gt(0))
        .filter(credit_grant::Column::ExpiresAt.is_not_null())
        .all(app.db.primary())
        .await?;
    coming.expiries.extend(
        expiring.iter().filter_map(|grant| {
            Some((period::local_day(grant.expires_at?, zone), grant.remaining))
        }),
    );
    coming.expiries.sort_unstable();
    Ok(coming)
}

impl Runway {
    fn compute(
        forecast: Forecast,
        (available, today): (i64, NaiveDate),
        coming: Coming,
        computed_at: DateTime<Utc>,
    ) -> Self {
        let days_left = forecast.days_of(available, today);
        let (low, high) = days_left.map_or((None, None), |days| forecast.band(available, days));
        let depletes_on =
            days_left.and_then(|days| today.checked_add_days(Days::new(u64::try_from(days).ok()?)));
        Self {
            days_left,
            depletes_on,
            daily_rate: forecast.mean(),
            low,
            high,
            computed_at,
            forecast,
            coming,
            available,
            today,
        }
    }

    /// The balance to expect at the end of each of the coming days, with resets and expiries.
    pub fn projection(&self, days: i64) -> Result<Vec<RunwayDay>> {
        if !(1..=usage::DAYS_MAX).contains(&days) {
            return Err(Error::invalid("days", "1〜366で指定してください。", "must be 1 to 366"));
        }
        let start = Path::begin(self.available, &self.coming.expiries);
        let (mut low, mut expected, mut high) = (start.clone(), start.clone(), start);
        let mut day = self.today;
        let mut projected = Vec::new();
        for _ in 0..days {
            day = period::next_day(day);
            let resets = self.coming.resets.iter().filter(|(on, _)| *on == day);
            let gained = resets.map(|(_, credits)| credits).sum();
            let used = self.forecast.on(day);
            projected.push(RunwayDay {
                day,
                low: low.live(day, gained, scaled(used, self.forecast.busy_per_mille)),
                expected: expected.live(day, gained, used),
                high: high.live(day, gained, scaled(used, self.forecast.quiet_per_mille)),
            });
        }
        Ok(projected)
    }
}

/// A balance on its way through the coming days, in thousandths of a credit. Like charges, use
/// takes what expires first, so that only what is left then is lost.
#[derive(Clone, Debug)]
struct Path {
    balance: i64,
    expiries: Vec<(NaiveDate, i64)>,
}

impl Path {
    fn begin(available: i64, expiries: &[(NaiveDate, i64)]) -> Self {
        let expiries = expiries.iter().map(|(on, credits)| (*on, credits * MILLI)).collect();
        Self { balance: available * MILLI, expiries }
    }

    /// Lives through a day; answers the whole credits at its end.
    fn live(&mut self, day: NaiveDate, gained: i64, used: i64) -> i64 {
        self.balance += gained * MILLI;
        for (_, left) in self.expiries.iter_mut().filter(|(on, _)| *on <= day) {
            self.balance = (self.balance - *left).max(0);
            *left = 0;
        }
        let mut wanted = used.min(self.balance);
        self.balance -= wanted;
        for (_, left) in &mut self.expiries {
            let part = wanted.min(*left);
            *left -= part;
            wanted -= part;
        }
        self.balance / MILLI
    }
}

/// Forecasts count in thousandths of a credit.
const MILLI: i64 = 1_000;

fn scaled(used: i64, per_mille: i64) -> i64 {
    used.saturating_mul(per_mille) / 1_000
}

/// Forecast use per weekday, in thousandths of a credit.
#[derive(Clone, Debug)]
pub struct Forecast {
    weekday: [i64; 7],
    history: Vec<i64>,
    /// Use of the busiest tenth of weeks against the mean week.
    busy_per_mille: i64,
    /// Use of the quietest tenth of weeks against the mean week.
    quiet_per_mille: i64,
}

impl Forecast {
    /// A forecast from daily use, oldest first, without gaps.
    pub fn of(days: &[(NaiveDate, i64)]) -> Self {
        let history: Vec<i64> = days.iter().map(|(_, credits)| *credits).collect();
        let plain = mean_milli(&history);
        let mut weekday = [plain; 7];
        if days.len() >= WEEKDAYS_FROM {
            let mut by_weekday: BTreeMap<usize, Vec<i64>> = BTreeMap::new();
            for (day, credits) in days {
                by_weekday.entry(weekday_of(*day)).or_default().push(*credits);
            }
            for (index, values) in by_weekday {
                if let Some(slot) = weekday.get_mut(index) {
                    *slot = trimmed_mean_milli(values);
                }
            }
        }
        let weeks = sums(&history, 7.min(history.len()));
        let mean = mean_milli(&weeks);
        let against = |sum: Option<i64>| match (sum, mean) {
            (Some(sum), 1..) => (sum * MILLI).saturating_mul(1_000) / mean,
            (_, _) => 1_000,
        };
        let busy_per_mille = against(percentile(&weeks, 90));
        let quiet_per_mille = against(percentile(&weeks, 10));
        Self { weekday, history, busy_per_mille, quiet_per_mille }
    }

    fn on(&self, day: NaiveDate) -> i64 {
        self.weekday.get(weekday_of(day)).copied().unwrap_or(0)
    }

    /// Mean use per day over a week, two decimals.
    fn mean(&self) -> Decimal {
        let week: i64 = self.weekday.iter().sum();
        let exact = Decimal::new(week, 3) / Decimal::from(7);
        exact.round_dp_with_strategy(2, rust_decimal::RoundingStrategy::MidpointAwayFromZero)
    }

    /// Whole days, from tomorrow on, that the credits pay for.
    fn days_of(&self, available: i64, today: NaiveDate) -> Option<i64> {
        if self.weekday.iter().sum::<i64>() <= 0 {
            return None;
        }
        let mut left = available.saturating_mul(MILLI);
        let mut day = today;
        for days in 0..HORIZON_DAYS {
            day = period::next_day(day);
            left -= self.on(day);
            if left < 0 {
                return Some(days);
            }
        }
        None
    }

    /// Days left in the busiest and the quietest tenth of past spans of so many days (of the whole
    /// history, when that is shorter).
    fn band(&self, available: i64, days: i64) -> (Option<i64>, Option<i64>) {
        let span = usize::try_from(days.max(1)).unwrap_or(1).min(self.history.len().max(1) / 2 + 1);
        let sums = sums(&self.history, span);
        let span = i64::try_from(span).unwrap_or(1);
        let at = |percent: usize| match percentile(&sums, percent) {
            Some(sum @ 1..) => Some((available.saturating_mul(span) / sum).min(HORIZON_DAYS)),
            Some(_) | None => None,
        };
        (at(90), at(10))
    }
}

fn weekday_of(day: NaiveDate) -> usize {
    day.weekday().num_days_from_monday() as usize
}

fn mean_milli(values: &[i64]) -> i64 {
    let count = i64::try_from(values.len()).unwrap_or(i64::MAX);
    if count == 0 { 0 } else { values.iter().sum::<i64>() * MILLI / count }
}

fn trimmed_mean_milli(mut values: Vec<i64>) -> i64 {
    values.sort_unstable();
    match values.as_slice() {
        [_, middle @ .., _] if middle.len() >= 3 => mean_milli(middle),
        all => mean_milli(all),
    }
}

/// Sums over every span of so many days.
fn sums(history: &[i64], span: usize) -> Vec<i64> {
    if span == 0 {
        return Vec::new();
    }
    let mut sums: Vec<i64> = history.windows(span).map(|days| days.iter().sum()).collect();
    sums.sort_unstable();
    sums
}

/// The nearest-rank percentile of sorted values.
fn percentile(sorted: &[i64], percent: usize) -> Option<i64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}
