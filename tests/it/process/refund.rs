//! `kill -9` between the steps of a refund: what Stripe gave back has gone once, and its credits
//! with it; the credits of what Stripe did not give back are there.

use serde_json::{Value, json};

use super::shop::{PURCHASE_ROWS, PURCHASES, Shop, Wish};
use crate::support::stripe::Fault;

const REFUND: &str = "POST /refunds";
const LOOK: &str = "GET /refunds/ID";
const LIST: &str = "GET /refunds";

const GIVE_BACK: &str = "mutation ($input: CreditPurchaseRefundInput!) {
    creditPurchaseRefund(input: $input) { refund { status stripeRefundId } userErrors { code } } }";

/// Some minutes go by.
const MINUTES: &str = "UPDATE purchase_refunds SET next_check_at = created_at
                       WHERE status = 'PENDING'";
/// So much time goes by that Stripe has forgotten the keys.
const DAYS: &str = "UPDATE purchase_refunds SET created_at = '2025-06-01T00:00:00+00:00',
                    next_check_at = '2025-06-01T00:00:00+00:00' WHERE status = 'PENDING'";
const BALANCE: &str = "SELECT current_balance FROM ai_credit_accounts";
const UNANSWERED: &str = "SELECT COUNT(*) FROM purchase_refunds
                          WHERE status = 'PENDING' AND stripe_refund_id IS NULL";
const SUCCEEDED: &str = "SELECT COUNT(*) FROM purchase_refunds WHERE status = 'SUCCEEDED'";
const FAILED: &str = "SELECT COUNT(*) FROM purchase_refunds WHERE status = 'FAILED'";
const NOTES: &str = "SELECT id FROM stripe_events FOR UPDATE";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_between_the_steps_of_a_refund_gives_back_twice() {
    let shop = Shop::open().await;
    let sold = sold(&shop, "pm_card_pendingRefund").await;
    // Whoever gives back sends the key again each time.
    let wish = giving_back(&shop, &sold, 200, "killed-at-every-step");
    for fault in [Fault::Silence, Fault::SilenceAfter] {
        shop.killed_at(REFUND, fault, &wish).await;
        assert_eq!(shop.number(BALANCE).await, 100 + 300, "the credits go first, and once");
    }
    let refund = shop.serves(&wish).await["creditPurchaseRefund"]["refund"].clone();
    assert_eq!(refund["status"], "PENDING", "its bank is slow");

    shop.stripe.ends_refund(refund["stripeRefundId"].as_str().unwrap(), "succeeded", None);
    shop.killed_at(LOOK, Fault::Silence, &wish).await;
    assert_eq!(status(&shop.serves(&wish).await), "SUCCEEDED");
    gave_back(&shop, &[200]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_of_a_refund_or_of_the_reconciler_parts_money_and_credits() {
    let shop = Shop::open().await;
    let sold = sold(&shop, "pm_card_visa").await;
    for (key, fault, time, again) in [
        ("soon-and-not-made", Fault::Silence, MINUTES, (REFUND, Fault::Silence)),
        ("soon-and-made-then", Fault::Silence, MINUTES, (REFUND, Fault::SilenceAfter)),
        ("soon-and-made", Fault::SilenceAfter, MINUTES, (REFUND, Fault::Silence)),
        ("late-and-made", Fault::SilenceAfter, DAYS, (LIST, Fault::Silence)),
        ("late-and-not-made", Fault::Silence, DAYS, (LIST, Fault::Silence)),
    ] {
        let before = shop.number(BALANCE).await;
        shop.killed_at(REFUND, fault, &giving_back(&shop, &sold, 50, key)).await;
        assert_eq!((shop.number(BALANCE).await, shop.number(UNANSWERED).await), (before - 50, 1));
        shop.passes(time).await;
        shop.job_killed_at(again.0, again.1, PURCHASES).await;
        looks(&shop, time).await;
        shop.home.adds_up().await;
    }
    assert_eq!((shop.number(SUCCEEDED).await, shop.number(FAILED).await), (4, 1));
    gave_back(&shop, &[50, 50, 50, 50]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_between_stripes_answer_and_ours_parts_money_and_credits() {
    let shop = Shop::open().await;
    let sold = sold(&shop, "pm_card_visa").await;
    // It is made, and nobody here knows.
    let first = giving_back(&shop, &sold, 100, "made-and-not-kept");
    shop.killed_before_it_keeps(REFUND, PURCHASE_ROWS, &first).await;
    assert_eq!((shop.number(UNANSWERED).await, shop.stripe.refunds().len()), (1, 1));
    looks(&shop, MINUTES).await;
    assert_eq!(status(&shop.serves(&first).await), "SUCCEEDED");
    // It is known, and whoever asked may not know.
    let second = giving_back(&shop, &sold, 50, "kept-and-not-answered");
    shop.killed_when_it_is_there(&second, (SUCCEEDED, 2)).await;
    assert_eq!(status(&shop.serves(&second).await), "SUCCEEDED");
    gave_back(&shop, &[100, 50]).await;

    // Stripe refuses, and nobody has looked whether it has made it before; then nobody here knows.
    let payment = shop.stripe.charges()[0]["id"].clone();
    shop.stripe.dispute(payment.as_str().unwrap(), 500, "needs_response");
    let third = giving_back(&shop, &sold, 70, "refused-and-not-kept");
    shop.killed_at(LIST, Fault::Silence, &third).await;
    shop.killed_before_it_keeps(LIST, PURCHASE_ROWS, &third).await;
    assert_eq!((shop.number(UNANSWERED).await, shop.number(BALANCE).await), (1, 600 - 150 - 70));
    looks(&shop, MINUTES).await;
    assert_eq!(status(&shop.serves(&third).await), "FAILED");
    gave_back(&shop, &[100, 50]).await;
    // The credits are back, and whoever asked may not know.
    let fourth = giving_back(&shop, &sold, 30, "put-back-and-not-answered");
    shop.killed_when_it_is_there(&fourth, (FAILED, 2)).await;
    assert_eq!(status(&shop.serves(&fourth).await), "FAILED");
    gave_back(&shop, &[100, 50]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_between_an_event_and_what_it_means_parts_money_and_credits() {
    let shop = Shop::open().await;
    let sold = sold(&shop, "pm_card_visa").await;
    // Of one that was made at Stripe the event is kept and answered, and not worked out.
    let payment = shop.stripe.charges()[0]["id"].clone();
    let event = shop.stripe.refunds_there(payment.as_str().unwrap(), 100);
    shop.killed_before_it_works_out(&event, LIST).await;
    assert_eq!(shop.number(BALANCE).await, 600);
    shop.works_out_what_was_left(&event, (SUCCEEDED, 1)).await;
    gave_back(&shop, &[100]).await;

    // Of one of ours it is worked out, and nobody has noted that.
    let ours = giving_back(&shop, &sold, 50, "made-and-forgotten");
    shop.killed_at(REFUND, Fault::SilenceAfter, &ours).await;
    let event = shop.last_event("charge.refunded");
    shop.killed_before_it_notes(&event, (LIST, NOTES), (SUCCEEDED, 2)).await;
    shop.works_out_what_was_left(&event, (SUCCEEDED, 2)).await;
    assert_eq!(status(&shop.serves(&ours).await), "SUCCEEDED");
    gave_back(&shop, &[100, 50]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_puts_the_credits_of_a_refund_that_fails_back_twice_or_never() {
    let shop = Shop::open().await;
    let sold = sold(&shop, "pm_card_pendingRefund").await;
    for (credits, key) in [(100, "kept-and-not-worked-out"), (70, "worked-out-and-not-noted")] {
        let given = shop.serves(&giving_back(&shop, &sold, credits, key)).await;
        assert_eq!(status(&given), "PENDING");
    }
    assert_eq!(shop.number(BALANCE).await, 600 - 170);
    let refunds = shop.stripe.refunds();
    let fails = |place: usize| {
        let id = refunds[place]["id"].as_str().unwrap();
        shop.stripe.ends_refund(id, "failed", Some("expired_or_canceled_card"))
    };

    let first = fails(0);
    shop.killed_before_it_works_out(&first, LIST).await;
    assert_eq!(shop.number(FAILED).await, 0);
    shop.works_out_what_was_left(&first, (FAILED, 1)).await;
    shop.has(600 - 70).await;

    let second = fails(1);
    shop.killed_before_it_notes(&second, (LIST, NOTES), (FAILED, 2)).await;
    shop.works_out_what_was_left(&second, (FAILED, 2)).await;
    gave_back(&shop, &[]).await;
}

/// Buys the package of 500 credits for as many yen with a card. The purchase's id.
async fn sold(shop: &Shop, card: &str) -> Value {
    let paid = json!({ "paymentMethod": "STRIPE", "stripePaymentMethodId": card });
    let done = shop.serves(&shop.buying(paid, "to-be-given-back")).await;
    let purchase = &done["creditPurchase"]["purchase"];
    assert_eq!(purchase["status"], "COMPLETED", "{done}");
    shop.has(600).await;
    purchase["id"].clone()
}

/// A platform admin gives so many credits of a purchase back.
fn giving_back(shop: &Shop, purchase: &Value, credits: i64, key: &str) -> Wish {
    let guests = shop.home.guests();
    let input = json!({ "tenantId": guests.tenant, "purchaseId": purchase, "credits": credits,
        "idempotencyKey": key });
    let wish = shop.wish(GIVE_BACK, json!({ "input": input }), "SUCCEEDED");
    Wish { token: guests.root.clone(), ..wish }
}

/// The refund's status in an answer.
fn status(data: &Value) -> &str {
    data["creditPurchaseRefund"]["refund"]["status"].as_str().unwrap()
}

/// Lets time go by and has the reconciler look at the one refund that is under way.
async fn looks(shop: &Shop, time: &str) {
    let said = shop.later(time, PURCHASES).await;
    assert!(said.contains("; 1 refunds under way, 1 ended;"), "{said}");
}

/// Stripe gave back these amounts and no other, one refund each, and their credits have gone; no
/// other credits have.
async fn gave_back(shop: &Shop, amounts: &[i64]) {
    let mut made = shop.stripe.refunds();
    made.retain(|refund| refund["status"] != "failed");
    let made: Vec<i64> = made.iter().map(|refund| refund["amount"].as_i64().unwrap()).collect();
    assert_eq!(made, amounts);
    let gone: i64 = amounts.iter().sum();
    let refunded = "SELECT refunded FROM credit_purchases";
    assert_eq!(shop.number(refunded).await, gone);
    assert_eq!(shop.number(UNANSWERED).await, 0);
    shop.has(600 - gone).await;
}
