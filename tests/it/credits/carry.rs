//! What becomes of unused free credits at a reset: all stay, none stay, or up to a cap.

use musubi::entity::plan::{CarryOver, PlanType};

use super::{
    assert_books, at, due, give_bonus, hold, left, release, resets, set_carry_over, settle, spend,
    story, subscriber, withdrawals,
};
use crate::support::TestApp;

const MIDNIGHT: &str = "2026-11-30T15:00:00Z";

#[tokio::test]
async fn none_takes_unused_free_credits_and_leaves_the_bought_and_given() {
    let app = TestApp::start().await;
    let hotel = subscriber(&app, PlanType::Essential).await;
    let root = app.platform_admin(None).await;
    set_carry_over(&app, PlanType::Essential, CarryOver::None, None).await;
    hotel.buys(100, 1_000).await;
    give_bonus(&app, (&root, &hotel), 30, None).await;
    spend(&app.app, &hotel, 50).await;

    app.clock.set(at(MIDNIGHT));
    due(&app.app, &hotel).await;

    assert_eq!(hotel.balance().await, (330, 0));
    let row = &resets(&app, &hotel).await[1];
    assert_eq!((row.previous_balance, row.carried_over_credits), (280, 0));
    assert_eq!(
        story(&app, &hotel).await[3..],
        [("USAGE", -50), ("EXPIRY", -150), ("MONTHLY_RESET", 200)]
    );
    assert_books(&app).await;
}

#[tokio::test]
async fn a_cap_keeps_so_many_and_takes_the_oldest() {
    let app = TestApp::start().await;
    let hotel = subscriber(&app, PlanType::Essential).await;
    app.clock.set(at(MIDNIGHT));
    due(&app.app, &hotel).await;
    set_carry_over(&app, PlanType::Essential, CarryOver::Cap, Some(250)).await;

    app.clock.set(at("2026-12-31T15:00:00Z"));
    due(&app.app, &hotel).await;

    assert_eq!(left(&app, &hotel).await, [("FREE", 50, 0), ("FREE", 200, 0), ("FREE", 200, 0)]);
    let row = &resets(&app, &hotel).await[2];
    assert_eq!((row.previous_balance, row.carried_over_credits), (400, 250));
    assert_books(&app).await;
}

#[tokio::test]
async fn a_cap_above_what_is_left_takes_nothing() {
    let app = TestApp::start().await;
    let hotel = subscriber(&app, PlanType::Essential).await;
    set_carry_over(&app, PlanType::Essential, CarryOver::Cap, Some(200)).await;

    app.clock.set(at(MIDNIGHT));
    due(&app.app, &hotel).await;

    assert_eq!(left(&app, &hotel).await, [("FREE", 200, 0), ("FREE", 200, 0)]);
    assert_eq!(withdrawals(&app, &hotel).await, []);
}

#[tokio::test]
async fn a_new_rule_counts_from_the_next_reset_on() {
    let app = TestApp::start().await;
    let hotel = subscriber(&app, PlanType::Essential).await;

    set_carry_over(&app, PlanType::Essential, CarryOver::None, None).await;
    assert_eq!(hotel.balance().await, (200, 0));
    app.clock.set(at(MIDNIGHT));
    due(&app.app, &hotel).await;
    set_carry_over(&app, PlanType::Essential, CarryOver::All, None).await;
    app.clock.set(at("2026-12-31T15:00:00Z"));
    due(&app.app, &hotel).await;

    let carried: Vec<_> =
        resets(&app, &hotel).await.iter().map(|row| row.carried_over_credits).collect();
    assert_eq!(carried, [0, 0, 200]);
    assert_eq!(hotel.balance().await, (400, 0));
}

#[tokio::test]
async fn credits_held_over_midnight_go_when_the_run_ends() {
    let app = TestApp::start().await;
    let hotel = subscriber(&app, PlanType::Essential).await;
    set_carry_over(&app, PlanType::Essential, CarryOver::None, None).await;
    let job = hold(&app.app, &hotel, 120).await;

    app.clock.set(at(MIDNIGHT));
    due(&app.app, &hotel).await;
    assert_eq!(hotel.balance().await, (320, 120));
    settle(&app.app, &job, 70).await;

    assert_eq!(hotel.balance().await, (200, 0));
    assert_eq!(left(&app, &hotel).await, [("FREE", 0, 0), ("FREE", 200, 0)]);
    assert_books(&app).await;
}

#[tokio::test]
async fn a_hold_over_two_missed_months_does_not_save_credits_from_the_cap() {
    let app = TestApp::start().await;
    let hotel = subscriber(&app, PlanType::Essential).await;
    set_carry_over(&app, PlanType::Essential, CarryOver::Cap, Some(150)).await;
    let job = hold(&app.app, &hotel, 200).await;

    app.clock.set(at("2027-01-10T00:00:00Z"));
    due(&app.app, &hotel).await;
    release(&app.app, &job).await;

    // 150 carried over and January's own 200.
    let rows = resets(&app, &hotel).await;
    assert_eq!((rows[1].carried_over_credits, rows[2].carried_over_credits), (150, 150));
    assert_eq!(hotel.balance().await, (350, 0));
    assert_books(&app).await;
}
