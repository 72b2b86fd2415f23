//! How long the credits last, on series of days that were made by hand.

use chrono::{Datelike, Days, NaiveDate, TimeDelta};
use musubi::entity::plan::PlanType;
use serde_json::{Value, json};

use super::{at, day, give_bonus, set_plan, sql};
use crate::support::TestApp;
use crate::support::people::Hotel;

/// The day on which the stories play, a Saturday.
const TODAY: &str = "2026-11-21";

async fn use_on(app: &TestApp, hotel: &Hotel, on: NaiveDate, credits: i64) {
    let text = "INSERT INTO usage_daily (account_id, day, function_type, runs, credits)
                VALUES ($1, $2, 'CHATBOT', 1, $3)";
    let account = hotel.account().await.id;
    sql(app, text, vec![account.into(), on.into(), credits.into()]).await;
}

/// A tenant since the spring that has so many credits.
async fn long_time_customer(app: &TestApp, credits: i64) -> Hotel {
    app.clock.set(at("2026-04-01T03:00:00Z"));
    let hotel = app.hotel().await.with_credits(credits).await;
    app.clock.set(at("2026-11-21T03:00:00Z"));
    super::due(&app.app, &hotel).await;
    assert_eq!(hotel.balance().await, (credits, 0));
    hotel
}

async fn runway(hotel: &Hotel) -> Value {
    let query = "{ creditAccount { runway { daysLeft depletesOn dailyRate low high
        projection(days: 40) { date low expected high } } } }";
    hotel.user.gets(query, json!({})).await["creditAccount"]["runway"].clone()
}

fn expected(runway: &Value, on: &str) -> i64 {
    let days = runway["projection"].as_array().unwrap();
    let found = days.iter().find(|day| day["date"] == on);
    found.unwrap_or_else(|| panic!("{on} is missing"))["expected"].as_i64().unwrap()
}

#[tokio::test]
async fn without_use_there_is_no_end_in_sight() {
    let app = TestApp::start().await;
    let hotel = long_time_customer(&app, 100).await;

    let runway = runway(&hotel).await;

    assert_eq!(runway["daysLeft"], Value::Null);
    assert_eq!((&runway["depletesOn"], &runway["dailyRate"]), (&Value::Null, &json!("0")));
    assert_eq!((&runway["low"], &runway["high"]), (&Value::Null, &Value::Null));
    assert_eq!(expected(&runway, "2026-12-30"), 100);
}

#[tokio::test]
async fn weekends_without_use_are_told_apart_from_weekdays() {
    let app = TestApp::start().await;
    let hotel = long_time_customer(&app, 100).await;
    for back in 1..=56 {
        let on = day(TODAY) - Days::new(back);
        if on.weekday().num_days_from_monday() < 5 {
            use_on(&app, &hotel, on, 10).await;
        }
    }

    let runway = runway(&hotel).await;

    // Ten weekdays from Monday 23 November on; Monday 7 December cannot be paid any more.
    assert_eq!((&runway["daysLeft"], &runway["dailyRate"]), (&json!(15), &json!("7.14")));
    assert_eq!(runway["depletesOn"], "2026-12-06");
    // Fifteen days hold ten or eleven weekdays: 100 or 110 credits.
    assert_eq!((&runway["low"], &runway["high"]), (&json!(13), &json!(15)));
    assert_eq!(expected(&runway, "2026-11-22"), 100);
    assert_eq!(expected(&runway, "2026-11-27"), 50);
    assert_eq!(expected(&runway, "2026-12-04"), 0);
}

#[tokio::test]
async fn one_day_out_of_the_ordinary_does_not_move_the_forecast() {
    let app = TestApp::start().await;
    let hotel = long_time_customer(&app, 100).await;
    for back in 1..=56 {
        let credits = if back == 20 { 900 } else { 10 };
        use_on(&app, &hotel, day(TODAY) - Days::new(back), credits).await;
    }

    let runway = runway(&hotel).await;

    assert_eq!((&runway["daysLeft"], &runway["dailyRate"]), (&json!(10), &json!("10.00")));
}

#[tokio::test]
async fn a_short_history_is_forecast_by_its_plain_mean() {
    let app = TestApp::start().await;
    let hotel = long_time_customer(&app, 100).await;
    for (back, credits) in [(4, 6), (2, 18)] {
        use_on(&app, &hotel, day(TODAY) - Days::new(back), credits).await;
    }

    let runway = runway(&hotel).await;

    // 24 credits in the four days since the first use.
    assert_eq!((&runway["daysLeft"], &runway["dailyRate"]), (&json!(16), &json!("6.00")));
}

#[tokio::test]
async fn todays_use_and_what_lies_before_56_days_do_not_count() {
    let app = TestApp::start().await;
    let hotel = long_time_customer(&app, 100).await;
    use_on(&app, &hotel, day(TODAY), 500).await;
    use_on(&app, &hotel, day(TODAY) - Days::new(57), 500).await;

    assert_eq!(runway(&hotel).await["daysLeft"], Value::Null);
}

#[tokio::test]
async fn coming_resets_are_projected_as_long_as_the_tenant_is_entitled() {
    let app = TestApp::start().await;
    let hotel = long_time_customer(&app, 100).await;
    set_plan(&app, &hotel, PlanType::Essential, Some(at("2026-12-15T00:00:00Z"))).await;
    assert_eq!(hotel.balance().await, (300, 0));
    for back in 1..=28 {
        use_on(&app, &hotel, day(TODAY) - Days::new(back), 5).await;
    }

    let query = "{ creditAccount { runway { projection(days: 60) { date expected } } } }";
    let runway = hotel.user.gets(query, json!({})).await["creditAccount"]["runway"].clone();

    assert_eq!(expected(&runway, "2026-11-30"), 300 - 9 * 5);
    assert_eq!(expected(&runway, "2026-12-01"), 300 - 10 * 5 + 200);
    assert_eq!(expected(&runway, "2027-01-02"), 500 - 42 * 5);
}

#[tokio::test]
async fn what_is_used_before_it_expires_is_not_lost_again() {
    let app = TestApp::start().await;
    let root = app.platform_admin(None).await;
    let hotel = long_time_customer(&app, 100).await;
    give_bonus(&app, (&root, &hotel), 80, Some(TimeDelta::days(10))).await;
    for back in 1..=28 {
        use_on(&app, &hotel, day(TODAY) - Days::new(back), 5).await;
    }

    let runway = runway(&hotel).await;

    // The bonus is drawn first: by its noon on 1 December 45 to 50 of its 80 are used, the rest
    // expires and the bought hundred stays.
    assert_eq!(expected(&runway, "2026-11-30"), 180 - 45);
    let after = expected(&runway, "2026-12-01");
    assert!((95..=100).contains(&after), "{after}");
    assert_eq!(expected(&runway, "2026-12-02"), after - 5);
}

#[tokio::test]
async fn a_projection_of_no_day_or_of_more_than_a_year_is_refused() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;

    for days in [0, -1, 367] {
        let query =
            format!("{{ creditAccount {{ runway {{ projection(days: {days}) {{ date }} }} }} }}");
        let reply = hotel.user.asks(&query, json!({})).await;
        assert_eq!(reply["errors"][0]["extensions"]["code"], "INVALID_INPUT", "{reply}");
    }
}
