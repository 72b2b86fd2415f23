//! Months: one reset each, at the tenant's own midnight, whichever node comes first.

use chrono::TimeDelta;
use futures_util::future::join_all;
use musubi::credits::period;
use musubi::credits::service::due::apply_all_due;
use musubi::entity::credit_grant::GrantKind;
use musubi::entity::plan::PlanType;

use super::{
    assert_books, at, cancel, day, due, grants, hold, reset_days, resets, set_plan, spend, story,
    subscriber,
};
use crate::support::TestApp;
use crate::support::people::Hotel;

/// 00:00 in Tokyo on the first of December.
const MIDNIGHT: &str = "2026-11-30T15:00:00Z";

async fn free_grants(app: &TestApp, hotel: &Hotel) -> Vec<i64> {
    let rows = grants(app, hotel).await;
    rows.iter().filter(|row| row.kind == GrantKind::Free).map(|row| row.granted).collect()
}

#[tokio::test]
async fn three_nodes_at_midnight_make_one_reset_and_one_grant() {
    let app = TestApp::start().await;
    let hotel = subscriber(&app, PlanType::Essential).await;
    let nodes = [app.app.clone(), app.replica().await, app.replica().await];
    app.clock.set(at(MIDNIGHT));

    let applied = join_all(nodes.iter().cycle().take(9).map(|node| due(node, &hotel))).await;

    assert_eq!(applied.iter().filter(|was_due| **was_due).count(), 1);
    assert_eq!(reset_days(&app, &hotel).await, ["2026-11-01", "2026-12-01"]);
    assert_eq!(story(&app, &hotel).await, [("MONTHLY_RESET", 200), ("MONTHLY_RESET", 200)]);
    assert_eq!(free_grants(&app, &hotel).await, [200, 200]);
    assert_books(&app).await;
}

#[tokio::test]
async fn calls_that_meet_a_due_account_on_three_nodes_reset_it_once_and_run() {
    let app = TestApp::start().await;
    let hotel = subscriber(&app, PlanType::Essential).await;
    spend(&app.app, &hotel, 200).await;
    let nodes = [app.app.clone(), app.replica().await, app.replica().await];
    app.clock.set(at(MIDNIGHT));

    let calls = (0..12).map(|number| {
        let person = hotel.user.on(&nodes[number % 3]);
        async move { person.executes("こんばんは", &format!("midnight-{number}")).await }
    });
    let replies = join_all(calls).await;

    for reply in &replies {
        assert_eq!(reply["execution"]["status"], "SUCCEEDED", "{reply}");
    }
    assert_eq!(reset_days(&app, &hotel).await, ["2026-11-01", "2026-12-01"]);
    assert_eq!(free_grants(&app, &hotel).await, [200, 200]);
    assert_eq!(hotel.balance().await, (200 - 12 * 2, 0));
    assert_books(&app).await;
}

#[tokio::test]
async fn a_microsecond_before_midnight_nothing_is_due() {
    let app = TestApp::start().await;
    let hotel = subscriber(&app, PlanType::Essential).await;

    app.clock.set(at(MIDNIGHT) - TimeDelta::microseconds(1));
    assert!(!due(&app.app, &hotel).await);
    app.clock.set(at(MIDNIGHT));
    assert!(due(&app.app, &hotel).await);

    assert_eq!(hotel.account().await.next_due_at, at("2026-12-31T15:00:00Z"));
}

#[tokio::test]
async fn months_that_were_missed_get_one_row_each_in_order() {
    let app = TestApp::start().await;
    let hotel = subscriber(&app, PlanType::Essential).await;
    let job = hold(&app.app, &hotel, 50).await;
    cancel(&app.app, &job, 30).await;
    spend(&app.app, &hotel, 10).await;
    app.clock.set(at("2027-02-10T00:00:00Z"));

    assert!(due(&app.app, &hotel).await);

    let rows = resets(&app, &hotel).await;
    let told: Vec<_> = rows
        .iter()
        .map(|row| {
            let date = row.reset_date.to_string();
            (date, row.previous_balance, row.carried_over_credits, row.total_usage_previous_month)
        })
        .collect();
    assert_eq!(
        told,
        [
            ("2026-11-01".to_owned(), 0, 0, 0),
            ("2026-12-01".to_owned(), 160, 160, 40),
            ("2027-01-01".to_owned(), 360, 360, 0),
            ("2027-02-01".to_owned(), 560, 560, 0),
        ]
    );
    assert_eq!(free_grants(&app, &hotel).await, [200; 4]);
    // 50 × 1/2 + 30 × 10/40 + 20 × 40/200
    assert_eq!(rows[1].efficiency_score, Some(3_650));
    assert_eq!(rows[1].most_used_function.map(|function| function.as_str()), Some("CHATBOT"));
    assert_eq!((rows[2].efficiency_score, rows[2].most_used_function), (None, None));
    assert!(!due(&app.app, &hotel).await);
    assert_books(&app).await;
}

#[tokio::test]
async fn an_account_opened_on_the_15th_gets_no_second_grant_that_month() {
    let app = TestApp::start().await;
    app.clock.set(at("2026-11-15T03:00:00Z"));
    let hotel = subscriber(&app, PlanType::Essential).await;

    assert!(!due(&app.app, &hotel).await);
    app.clock.set(at("2026-11-30T14:59:59Z"));
    assert!(!due(&app.app, &hotel).await);
    assert_eq!(apply_all_due(&app.app).await.unwrap(), 0);

    assert_eq!(story(&app, &hotel).await, [("MONTHLY_RESET", 200)]);
    assert_eq!(reset_days(&app, &hotel).await, ["2026-11-01"]);
}

#[tokio::test]
async fn an_account_that_three_nodes_open_at_once_is_opened_once() {
    let app = TestApp::start().await;
    let hotel = app.tenant(PlanType::Professional, "Asia/Tokyo").await;
    let nodes = [app.app.clone(), app.replica().await, app.replica().await];

    let query = "{ creditAccount { id balance { current } } }";
    let ask = |node| {
        let person = hotel.user.on(node);
        async move { person.gets(query, serde_json::Value::Null).await }
    };
    let replies = join_all(nodes.iter().cycle().take(9).map(ask)).await;

    assert!(replies.iter().all(|reply| reply == &replies[0]), "{replies:?}");
    assert_eq!(replies[0]["creditAccount"]["balance"]["current"], 1_000);
    assert_eq!(story(&app, &hotel).await, [("MONTHLY_RESET", 1_000)]);
    assert_books(&app).await;
}

#[tokio::test]
async fn a_node_whose_clock_is_ahead_does_not_reset_early() {
    let app = TestApp::start().await;
    let hotel = subscriber(&app, PlanType::Essential).await;
    let hasty = app.replica_ahead(TimeDelta::minutes(2)).await;
    app.clock.set(at(MIDNIGHT) - TimeDelta::minutes(1));
    assert!(hasty.clock.now() > at(MIDNIGHT));

    assert!(!due(&hasty, &hotel).await);
    let reply = hotel.user.on(&hasty).executes("早い", "a-minute-early").await;
    assert_eq!(reply["execution"]["status"], "SUCCEEDED");
    assert_eq!(reset_days(&app, &hotel).await, ["2026-11-01"]);

    app.clock.set(at(MIDNIGHT));
    let nodes = [hasty, app.app.clone(), app.replica_ahead(TimeDelta::minutes(-2)).await];
    let applied = join_all(nodes.iter().map(|node| due(node, &hotel))).await;
    assert_eq!(applied.iter().filter(|was_due| **was_due).count(), 1);
    assert_eq!(hotel.balance().await, (398, 0));
    assert_books(&app).await;
}

#[tokio::test]
async fn a_month_begins_at_the_tenants_own_midnight_in_summer_and_winter() {
    let app = TestApp::start().await;
    for (zone, starts) in [
        ("Asia/Tokyo", ["2026-10-31T15:00:00Z", "2026-11-30T15:00:00Z", "2027-03-31T15:00:00Z"]),
        // The clocks go back on 1 November at 02:00: the month itself still began in summer time.
        (
            "America/New_York",
            ["2026-11-01T04:00:00Z", "2026-12-01T05:00:00Z", "2027-04-01T04:00:00Z"],
        ),
        ("Europe/London", ["2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z", "2027-03-31T23:00:00Z"]),
    ] {
        app.clock.set(at("2026-10-20T03:00:00Z"));
        let hotel = app.tenant(PlanType::Essential, zone).await;
        set_plan(&app, &hotel, PlanType::Essential, None).await;
        for (start, count) in starts.into_iter().zip([2, 3, 7]) {
            app.clock.set(at(start) - TimeDelta::microseconds(1));
            due(&app.app, &hotel).await;
            assert_eq!(resets(&app, &hotel).await.len(), count - 1, "{zone} before {start}");
            app.clock.set(at(start));
            assert!(due(&app.app, &hotel).await, "{zone} {start}");
            assert_eq!(resets(&app, &hotel).await.len(), count, "{zone} {start}");
        }
        assert_eq!(hotel.balance().await, (7 * 200, 0), "{zone}");
    }
    assert_books(&app).await;
}

#[test]
fn where_the_clocks_skip_midnight_the_day_begins_right_after() {
    let zone = period::zone("America/Asuncion");

    let start = period::start_of_day(day("2017-10-01"), zone);

    assert_eq!(start, at("2017-10-01T04:00:00Z"));
    assert_eq!(period::local_day(start, zone), day("2017-10-01"));
    assert_eq!(period::local_day(start - TimeDelta::microseconds(1), zone), day("2017-09-30"));
}

#[tokio::test]
async fn a_month_that_starts_after_the_trial_gets_a_row_without_credits() {
    let app = TestApp::start().await;
    let hotel = app.tenant(PlanType::Essential, "Asia/Tokyo").await;
    let until = hotel.account().await.entitled_until;
    assert_eq!(until, Some(at("2026-12-21T03:00:00Z")));

    app.clock.set(at("2027-01-05T00:00:00Z"));
    assert!(due(&app.app, &hotel).await);

    let rows = resets(&app, &hotel).await;
    let added: Vec<_> = rows.iter().map(|row| row.free_credits_added).collect();
    assert_eq!(added, [200, 200, 0]);
    assert_eq!(hotel.balance().await, (400, 0));
    assert_books(&app).await;
}

#[tokio::test]
async fn a_month_that_starts_with_the_last_moment_of_the_entitlement_still_brings_credits() {
    let app = TestApp::start().await;
    let hotel = app.tenant(PlanType::Essential, "Asia/Tokyo").await;
    set_plan(&app, &hotel, PlanType::Essential, Some(at(MIDNIGHT))).await;

    app.clock.set(at("2027-01-05T00:00:00Z"));
    due(&app.app, &hotel).await;

    let rows = resets(&app, &hotel).await;
    let added: Vec<_> = rows.iter().map(|row| row.free_credits_added).collect();
    assert_eq!(added, [200, 200, 0]);
}

#[tokio::test]
async fn an_upgrade_tops_the_months_free_credits_up_and_once_only() {
    let app = TestApp::start().await;
    let hotel = subscriber(&app, PlanType::Essential).await;
    spend(&app.app, &hotel, 150).await;

    set_plan(&app, &hotel, PlanType::Professional, None).await;
    set_plan(&app, &hotel, PlanType::Professional, None).await;
    assert_eq!(hotel.balance().await, (850, 0));
    set_plan(&app, &hotel, PlanType::Essential, None).await;
    set_plan(&app, &hotel, PlanType::Professional, None).await;

    let account = hotel.account().await;
    assert_eq!(account.current_balance, 850);
    assert_eq!((account.plan_type, account.next_plan_type), (PlanType::Professional, None));
    assert_eq!(
        story(&app, &hotel).await,
        [("MONTHLY_RESET", 200), ("USAGE", -150), ("MONTHLY_RESET", 800)]
    );
    assert_eq!(reset_days(&app, &hotel).await, ["2026-11-01"]);
    assert_books(&app).await;
}

#[tokio::test]
async fn a_downgrade_waits_for_the_next_reset() {
    let app = TestApp::start().await;
    let hotel = subscriber(&app, PlanType::Professional).await;

    set_plan(&app, &hotel, PlanType::Essential, None).await;
    let before = hotel.account().await;
    assert_eq!((before.plan_type, before.current_balance), (PlanType::Professional, 1_000));
    assert_eq!(before.next_plan_type, Some(PlanType::Essential));
    app.clock.set(at(MIDNIGHT));
    due(&app.app, &hotel).await;

    let after = hotel.account().await;
    assert_eq!((after.plan_type, after.current_balance), (PlanType::Essential, 1_200));
    assert_eq!((after.next_plan_type, after.monthly_free_credits), (None, 200));
    let rows = resets(&app, &hotel).await;
    assert_eq!((rows[1].plan_type, rows[1].free_credits_added), (PlanType::Essential, 200));
}

#[tokio::test]
async fn a_months_score_counts_the_free_credits_of_that_month() {
    let app = TestApp::start().await;
    let hotel = subscriber(&app, PlanType::Professional).await;
    spend(&app.app, &hotel, 100).await;
    set_plan(&app, &hotel, PlanType::Essential, None).await;

    app.clock.set(at(MIDNIGHT));
    due(&app.app, &hotel).await;

    // 50 + 30 + 20 × 100/1000: the month had the larger plan's thousand.
    assert_eq!(resets(&app, &hotel).await[1].efficiency_score, Some(8_200));
}

#[tokio::test]
async fn a_plan_that_is_set_after_months_of_silence_resets_first() {
    let app = TestApp::start().await;
    let hotel = subscriber(&app, PlanType::Essential).await;
    app.clock.set(at("2027-01-20T00:00:00Z"));

    set_plan(&app, &hotel, PlanType::Professional, None).await;

    assert_eq!(free_grants(&app, &hotel).await, [200, 200, 200, 800]);
    assert_eq!(reset_days(&app, &hotel).await, ["2026-11-01", "2026-12-01", "2027-01-01"]);
    assert_books(&app).await;
}

#[tokio::test]
async fn the_warming_job_applies_what_is_due_on_every_account_once() {
    let app = TestApp::start().await;
    for _ in 0..3 {
        subscriber(&app, PlanType::Essential).await;
    }
    let nodes = [app.app.clone(), app.replica().await];
    app.clock.set(at(MIDNIGHT));

    let applied = join_all(nodes.iter().map(apply_all_due)).await;

    assert_eq!(applied.into_iter().map(Result::unwrap).sum::<usize>(), 3);
    assert_eq!(apply_all_due(&app.app).await.unwrap(), 0);
    assert_books(&app).await;
}
