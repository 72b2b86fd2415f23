//! `kill -9` between the steps of a purchase: after a restart and the reconciler's run, what was
//! paid is granted, and nothing else is.

use serde_json::json;

use crate::support::process::{Client, Home, until};
use crate::support::stripe::{Fault, StripeServer};

const BUY: &str = "mutation ($input: CreditPurchaseInput!) { creditPurchase(input: $input) {
    purchase { id status } userErrors { code } } }";
const CUSTOMER: &str = "POST /customers";
const PAYMENT: &str = "POST /payment_intents";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_between_the_steps_of_a_purchase_parts_payment_and_credits() {
    let stripe = StripeServer::start().await;
    let mut home = Home::hotel(100).await;
    for (name, value) in stripe.environment() {
        home = home.with(name, &value);
    }
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
    for (number, (what, fault)) in steps.into_iter().enumerate() {
        let asked = stripe.asked(what).len();
        stripe.fails(what, fault);
        killed_at(&home, &stripe, (number, what, asked)).await;
    }
    // A purchase as it should be, and one killed wherever it is when it has been charged.
    let mut process = home.serve().await;
    let client = process.client(&home.guests().admin);
    let input = input(&home, "without-a-kill");
    let done = client.gets(BUY, json!({ "input": input })).await;
    assert_eq!(done["creditPurchase"]["purchase"]["status"], "COMPLETED", "{done}");
    process.stop().await;

    let paid = stripe.charges().len();
    assert_eq!(paid, 2, "one that was killed, and the last");
    assert_eq!(stripe.customers(), 1);
    let books = home.connect().await;
    let granted = "SELECT COUNT(*) FROM credit_purchases WHERE status = 'COMPLETED'";
    assert_eq!(books.number(granted).await, 2);
    let open = "SELECT COUNT(*) FROM credit_purchases WHERE status = 'PENDING'";
    assert_eq!(books.number(open).await, 0);
    let balance = "SELECT current_balance FROM ai_credit_accounts";
    assert_eq!(books.number(balance).await, 100 + 2 * 500);
    books.close().await;
    home.adds_up().await;
}

/// Kills a server when its purchase has come to a request, then has the reconciler look, late
/// enough that nobody can still be asking.
async fn killed_at(
    home: &Home,
    stripe: &StripeServer,
    (number, what, asked): (usize, &str, usize),
) {
    let mut process = home.serve().await;
    let client = Client::new(process.address(), &home.guests().admin);
    let input = input(home, &format!("killed-at-step-{number}"));
    let buying = tokio::spawn(async move { client.tries(BUY, json!({ "input": input })).await });
    until("Stripe is asked", async || (stripe.asked(what).len() > asked).then_some(())).await;
    process.kill();
    assert!(buying.await.unwrap().is_err(), "nobody answers");

    let books = home.connect().await;
    let sql = "UPDATE credit_purchases SET created_at = '2025-06-01T00:00:00+00:00',
               checked_at = '2025-06-01T00:00:00+00:00' WHERE status = 'PENDING'";
    assert_eq!(books.execute(sql).await.unwrap(), 1, "written down before Stripe is asked");
    // The server may have been killed in the middle of this very job; its lease ends by then.
    let sql = "UPDATE job_runs SET lease_until = started_at WHERE state = 'RUNNING'";
    books.execute(sql).await.unwrap();
    books.close().await;
    let said = home.gets(&["job", "payments-reconcile"]).await;
    assert!(said.starts_with("1 open purchases, 1 ended"), "{said}");
    home.adds_up().await;
}

fn input(home: &Home, key: &str) -> serde_json::Value {
    json!({ "packageId": home.guests().package, "paymentMethod": "STRIPE",
        "stripePaymentMethodId": "pm_card_visa", "idempotencyKey": key })
}
