//! `kill -9` between the steps of a purchase: after a restart and the reconciler's run, what was
//! paid is granted, and nothing else is.

use serde_json::{Value, json};

use super::shop::{COMPLETED, CUSTOMER, PURCHASE_ROWS, PURCHASES, Shop, Wish};
use crate::support::process::until;
use crate::support::stripe::Fault;

const PAYMENT: &str = "POST /payment_intents";
const LOOK: &str = "GET /payment_intents/ID";
const PENDING: &str = "SELECT COUNT(*) FROM credit_purchases WHERE status = 'PENDING'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_between_the_steps_of_a_purchase_parts_payment_and_credits() {
    let shop = Shop::open().await;
    let steps = [
        // The purchase is written down, and no more.
        (CUSTOMER, Fault::Silence),
        // Stripe has made a customer that we do not know of.
        (CUSTOMER, Fault::SilenceAfter),
        // Stripe knows nothing of the payment.
        (PAYMENT, Fault::Silence),
        // The card is charged, and nobody here knows.
        (PAYMENT, Fault::SilenceAfter),
    ];
    for (number, (step, fault)) in steps.into_iter().enumerate() {
        shop.killed_at(step, fault, &card(&shop, &format!("killed-at-step-{number}"))).await;
        reconciles(&shop).await;
        shop.home.adds_up().await;
    }
    // A purchase as it should be, and one killed wherever it is when it has been charged.
    buys(&shop, "without-a-kill").await;

    let paid = shop.stripe.charges().len();
    assert_eq!(paid, 2, "one that was killed, and the last");
    assert_eq!(shop.stripe.customers(), 1);
    assert_eq!(shop.number(COMPLETED).await, 2);
    assert_eq!(shop.number(PENDING).await, 0);
    shop.has(100 + 2 * 500).await;
}

/// Lets so much time go by that nobody can still be asking, and has the reconciler look at the one
/// purchase that is open: it was written down before Stripe was asked.
async fn reconciles(shop: &Shop) {
    let passes = "UPDATE credit_purchases SET created_at = '2025-06-01T00:00:00+00:00',
                  checked_at = '2025-06-01T00:00:00+00:00' WHERE status = 'PENDING'";
    let said = shop.later(passes, PURCHASES).await;
    assert!(said.starts_with("1 open purchases, 1 ended"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_between_stripes_answer_and_ours_parts_payment_and_credits() {
    let shop = Shop::open().await;
    // Stripe has answered, and the database does not take what we learn.
    let first = card(&shop, "answered-and-not-kept");
    shop.killed_before_it_keeps(PAYMENT, PURCHASE_ROWS, &first).await;
    assert_eq!((shop.number(PENDING).await, shop.stripe.charges().len()), (1, 1));
    reconciles(&shop).await;
    shop.home.adds_up().await;

    // The credits are there, and the buyer does not know.
    let second = card(&shop, "kept-and-not-answered");
    shop.killed_before_it_answers(&second, (COMPLETED, 2)).await;

    // Whoever sends the key again finds it done.
    buys(&shop, "answered-and-not-kept").await;
    buys(&shop, "kept-and-not-answered").await;
    assert_eq!(shop.stripe.charges().len(), 2);
    shop.has(100 + 2 * 500).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_between_an_event_and_what_it_means_parts_payment_and_credits() {
    let shop = Shop::open().await;
    // The event is kept and answered, and not worked out.
    let first = charged_and_forgotten(&shop, "kept-and-not-worked-out").await;
    let event = shop.stripe.makes_event("payment_intent.processing", &first);
    shop.killed_before_it_works_out(&event, LOOK).await;
    assert_eq!((shop.number(PENDING).await, shop.number(COMPLETED).await), (1, 0));
    shop.works_out_what_was_left(&event, (COMPLETED, 1)).await;
    assert_eq!(shop.number("SELECT COUNT(*) FROM stripe_events").await, 1);
    shop.home.adds_up().await;

    // It is worked out, and nobody has noted that.
    let second = charged_and_forgotten(&shop, "worked-out-and-not-noted").await;
    let event = shop.stripe.makes_event("payment_intent.processing", &second);
    let notes = "SELECT id FROM stripe_events FOR UPDATE";
    shop.killed_before_it_notes(&event, (LOOK, notes), (COMPLETED, 2)).await;
    shop.works_out_what_was_left(&event, (COMPLETED, 2)).await;
    assert_eq!(shop.stripe.charges().len(), 2);
    shop.has(100 + 2 * 500).await;
}

/// A payment that Stripe has made, and of which the killed server learned nothing.
async fn charged_and_forgotten(shop: &Shop, key: &str) -> Value {
    let charged = shop.stripe.charges().len();
    shop.killed_at(PAYMENT, Fault::SilenceAfter, &card(shop, key)).await;
    until("it is charged", async || shop.stripe.charges().get(charged).cloned()).await
}

fn card(shop: &Shop, key: &str) -> Wish {
    let paid = json!({ "paymentMethod": "STRIPE", "stripePaymentMethodId": "pm_card_visa" });
    shop.buying(paid, key)
}

/// Buys without being killed, or finds what was bought under the key.
async fn buys(shop: &Shop, key: &str) {
    let done = shop.serves(&card(shop, key)).await;
    assert_eq!(done["creditPurchase"]["purchase"]["status"], "COMPLETED", "{done}");
}
