//! Changes of a plan: what waits for its payment counts when it is paid, and not before.

use chrono::TimeDelta;
use musubi::entity::plan::PlanType::{Enterprise, Essential, Professional};
use serde_json::{Value, json};

use super::{Inn, asks, refused};
use crate::support::stripe::Fault;

#[tokio::test]
async fn a_larger_plan_counts_when_the_bank_was_answered_and_not_before() {
    let mut inn = Inn::subscribed("ESSENTIAL").await;
    inn.stripe.card_asks(true);
    let asked = inn.changes("ENTERPRISE", "more-with-a-bank").await;
    let subscription = &asked["subscription"];
    let plans = (&subscription["plan"], &subscription["pendingPlan"]);
    assert_eq!(plans, (&json!("ESSENTIAL"), &json!("ENTERPRISE")), "{asked}");
    assert!(subscription["clientSecret"].is_string(), "{asked}");
    inn.hears().await;
    inn.has(Essential, None, 200).await;
    refused(&inn.changes("PROFESSIONAL", "another-one-meanwhile").await, "INVALID_STATE");

    inn.stripe.pays_open_invoice(&inn.id());
    inn.hears().await;
    let seen = inn.sees().await;
    assert_eq!((&seen["plan"], &seen["pendingPlan"]), (&json!("ENTERPRISE"), &Value::Null));
    assert_eq!(seen["clientSecret"], Value::Null);
    inn.has(Enterprise, None, 5_000).await;
}

#[tokio::test]
async fn a_change_takes_a_price_that_is_made_once() {
    let inn = Inn::subscribed("ESSENTIAL").await;
    inn.changes("ENTERPRISE", "up-for-once").await;
    inn.time_passes(TimeDelta::hours(30));
    let other = inn.app.tenant(Essential, "Asia/Tokyo").await;
    super::does(
        &other,
        "planSubscribe",
        Some(json!({ "planType": "ESSENTIAL",
        "idempotencyKey": "a-second-inn" })),
    )
    .await;
    let theirs = inn.stripe.subscriptions().pop().unwrap()["id"].as_str().unwrap().to_owned();
    inn.stripe.pays_open_invoice(&theirs);
    super::does(&other, "planSubscriptionConfirm", None).await;
    let up = json!({ "planType": "ENTERPRISE", "idempotencyKey": "up-for-others" });
    let changed = super::does(&other, "planChange", Some(up)).await;
    assert_eq!(changed["subscription"]["plan"], "ENTERPRISE", "{changed}");

    assert_eq!(inn.stripe.asked("POST /prices").len(), 1);
    let prices: Vec<Value> = inn
        .stripe
        .subscriptions()
        .iter()
        .map(|subscription| subscription["items"]["data"][0]["price"]["id"].clone())
        .collect();
    assert_eq!(prices[0], prices[1]);
}

#[tokio::test]
async fn a_change_to_a_price_of_another_amount_is_refused_and_charges_nothing() {
    let mut inn = Inn::subscribed("ESSENTIAL").await;
    inn.stripe.has_price("price_enterprise", 598_800);
    let root = inn.app.platform_admin(None).await;
    let update = "mutation { it: planUpdate(input: { planType: ENTERPRISE, priceYen: 49800,
        monthlyFreeCredits: 5000, carryOver: ALL, stripePriceId: \"price_enterprise\" }) {
        userErrors { code } } }";
    assert_eq!(root.gets(update, json!({})).await["it"]["userErrors"], json!([]));

    refused(&inn.changes("ENTERPRISE", "at-a-wrong-price").await, "PAYMENT_FAILED");

    inn.hears().await;
    inn.has(Essential, None, 200).await;
    assert_eq!(inn.stripe.paid_invoices(), [7_800]);
}

#[tokio::test]
async fn a_larger_plan_that_nobody_pays_is_forgotten() {
    let mut inn = Inn::subscribed("ESSENTIAL").await;
    inn.stripe.card_asks(true);
    inn.changes("PROFESSIONAL", "more-with-a-bank").await;
    inn.time_passes(TimeDelta::hours(23));
    inn.stripe.forgets_change(&inn.id());
    inn.hears().await;
    let seen = inn.sees().await;
    assert_eq!((&seen["plan"], &seen["pendingPlan"]), (&json!("ESSENTIAL"), &Value::Null));
    assert_eq!((&seen["status"], &seen["clientSecret"]), (&json!("ACTIVE"), &Value::Null));
    inn.has(Essential, None, 200).await;
    assert_eq!(inn.stripe.paid_invoices(), [7_800]);
}

#[tokio::test]
async fn a_smaller_plan_can_be_taken_back_before_the_month_ends() {
    let mut inn = Inn::subscribed("PROFESSIONAL").await;
    inn.changes("ESSENTIAL", "less-for-the-inn").await;
    refused(&inn.changes("ESSENTIAL", "less-once-more").await, "INVALID_STATE");
    refused(&inn.changes("ENTERPRISE", "more-after-all").await, "INVALID_STATE");
    let preview = inn.previews("ENTERPRISE").await;
    assert_eq!(preview["errors"][0]["extensions"]["code"], "INVALID_STATE", "{preview}");

    let back = inn.changes("PROFESSIONAL", "as-it-was-before").await;
    let subscription = &back["subscription"];
    let plans = (&subscription["plan"], &subscription["pendingPlan"]);
    assert_eq!(plans, (&json!("PROFESSIONAL"), &Value::Null), "{back}");
    inn.time_is("2026-12-21T03:00:01Z");
    inn.stripe.month_ends(&inn.id(), true);
    inn.hears().await;
    inn.time_is("2027-01-01T00:00:00Z");
    inn.has(Professional, None, 3_000).await;
    assert_eq!(inn.stripe.paid_invoices(), [19_800, 19_800]);
}

#[tokio::test]
async fn a_month_that_was_learned_late_keeps_the_plan_that_was_paid_for_it() {
    let mut inn = Inn::subscribed("ENTERPRISE").await;
    // The whole month, its renewal and the smaller plan are learned at once.
    inn.time_is("2026-12-21T03:00:01Z");
    inn.stripe.month_ends(&inn.id(), true);
    inn.changes("ESSENTIAL", "less-for-the-inn").await;
    inn.hears().await;
    let seen = inn.sees().await;
    assert_eq!((&seen["plan"], &seen["pendingPlan"]), (&json!("ENTERPRISE"), &json!("ESSENTIAL")));
    inn.has(Enterprise, None, 10_000).await;
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_is_made_and_paid_once() {
    let refusal = Fault::Status(500, Some(false));
    for (fault, times) in [(Fault::ResetAfter, 3), (refusal, 1), (Fault::Status(409, None), 3)] {
        let mut inn = Inn::subscribed("ESSENTIAL").await;
        for _ in 0..times {
            inn.stripe.fails("POST /subscriptions/ID", fault.clone());
        }
        let input = json!({ "planType": "PROFESSIONAL", "idempotencyKey": "lost-on-its-way" });
        let lost = asks(&inn.hotel, "planChange", Some(input.clone())).await;
        assert_eq!(lost["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{fault:?}: {lost}");
        let mut other = input.clone();
        other["idempotencyKey"] = json!("another-at-once");
        let other = asks(&inn.hotel, "planChange", Some(other)).await;
        // Either it is done already, or it is on its way.
        refused(&other["data"]["planChange"], "INVALID_STATE");

        let found = inn.changes("PROFESSIONAL", "lost-on-its-way").await;
        assert_eq!(found["subscription"]["plan"], "PROFESSIONAL", "{fault:?}: {found}");
        assert_eq!(inn.stripe.paid_invoices(), [7_800, 19_800 - 7_800], "{fault:?}");
        inn.hears().await;
        inn.has(Professional, None, 1_000).await;
        assert_eq!(inn.row().await.change_id, None);
    }
}

#[tokio::test]
async fn a_change_that_nobody_goes_on_with_keeps_no_other_away() {
    let mut inn = Inn::subscribed("ESSENTIAL").await;
    for _ in 0..3 {
        inn.stripe.fails("POST /subscriptions/ID", Fault::Status(503, None));
    }
    let input = json!({ "planType": "PROFESSIONAL", "idempotencyKey": "given-up-by-its-client" });
    asks(&inn.hotel, "planChange", Some(input)).await;
    assert!(inn.row().await.change_id.is_some());
    inn.time_passes(TimeDelta::minutes(11));
    inn.reconciles().await;
    assert_eq!(inn.row().await.change_id, None);

    let changed = inn.changes("ENTERPRISE", "another-after-it").await;
    assert_eq!(changed["subscription"]["plan"], "ENTERPRISE", "{changed}");
    // The first key was answered by what is there; nothing more is paid for it.
    inn.changes("PROFESSIONAL", "given-up-by-its-client").await;
    assert_eq!(inn.stripe.paid_invoices().len(), 2);
    inn.hears().await;
    inn.has(Enterprise, None, 5_000).await;
}

#[tokio::test]
async fn a_change_at_once_by_two_people_is_paid_once() {
    let mut inn = Inn::subscribed("ESSENTIAL").await;
    let (one, two) = tokio::join!(
        inn.changes("PROFESSIONAL", "by-one-of-them"),
        inn.changes("PROFESSIONAL", "by-the-other-one"),
    );
    let done = [&one, &two].into_iter().filter(|payload| payload["userErrors"] == json!([]));
    assert_eq!(done.count(), 1, "{one} {two}");
    assert_eq!(inn.stripe.paid_invoices(), [7_800, 12_000]);
    inn.hears().await;
    inn.has(Professional, None, 1_000).await;
}
