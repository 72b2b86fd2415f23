//! Months and days as a tenant counts them: in its own time zone.

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveTime, TimeZone, Utc};
use chrono_tz::Tz;

/// The zone by its IANA name; an unknown name is Asia/Tokyo, the default of every tenant.
pub fn zone(name: &str) -> Tz {
    name.parse().unwrap_or(chrono_tz::Asia::Tokyo)
}

/// The tenant's calendar day at an instant.
pub fn local_day(at: DateTime<Utc>, zone: Tz) -> NaiveDate {
    at.with_timezone(&zone).date_naive()
}

/// The first day of the period (month) that a day is in.
pub fn first_of_month(day: NaiveDate) -> NaiveDate {
    day.with_day(1).unwrap_or(day)
}

/// The first day of the period at an instant.
pub fn period_of(at: DateTime<Utc>, zone: Tz) -> NaiveDate {
    first_of_month(local_day(at, zone))
}

/// The first day of the next period.
pub fn next_period(period: NaiveDate) -> NaiveDate {
    period.checked_add_months(Months::new(1)).unwrap_or(NaiveDate::MAX)
}

/// The first day of the period before.
pub fn previous_period(period: NaiveDate) -> NaiveDate {
    period.checked_sub_months(Months::new(1)).unwrap_or(NaiveDate::MIN)
}

/// The instant at which a day begins in the zone. Where a clock change skips midnight, the day
/// begins at the first instant after it.
pub fn start_of_day(day: NaiveDate, zone: Tz) -> DateTime<Utc> {
    let midnight = day.and_time(NaiveTime::MIN);
    (0..=3)
        .find_map(|hours| {
            let wall = midnight + chrono::TimeDelta::hours(hours);
            zone.from_local_datetime(&wall).earliest()
        })
        .map_or_else(|| midnight.and_utc(), |local| local.with_timezone(&Utc))
}

/// The day after.
pub fn next_day(day: NaiveDate) -> NaiveDate {
    day.checked_add_days(Days::new(1)).unwrap_or(NaiveDate::MAX)
}
