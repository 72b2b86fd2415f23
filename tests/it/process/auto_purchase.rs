//! `kill -9` in the middle of an automatic purchase: the server that comes after it goes on under
//! the same key, and the card is charged once.

use serde_json::json;

use crate::support::process::{Home, until};
use crate::support::stripe::{Fault, StripeServer};

const SWITCH_ON: &str = "mutation { creditAutoPurchaseUpdate(input: {
    enabled: true, monthlyCapYen: 10000 }) { autoPurchase { enabled } userErrors { code } } }";
const CARD: &str =
    "INSERT INTO stored_cards (id, tenant_id, stripe_payment_method_id, brand, last4,
    exp_month, exp_year, fingerprint, is_default, created_at, updated_at)
    SELECT id, tenant_id, 'pm_card_visa', 'VISA', '4242', 12, 2030, 'print', TRUE, created_at,
    created_at FROM ai_credit_accounts";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_within_an_automatic_purchase_charges_twice_or_grants_nothing() {
    let stripe = StripeServer::start().await;
    let mut home = Home::hotel(52).await;
    for (name, value) in stripe.environment() {
        home = home.with(name, &value);
    }
    let books = home.connect().await;
    assert_eq!(books.execute(CARD).await.unwrap(), 1);
    books.close().await;
    let steps = [
        // The attempt is written down, and no more.
        ("POST /customers", Fault::Silence),
        // Stripe knows nothing of the payment.
        ("POST /payment_intents", Fault::Silence),
        // The card is charged, and nobody here knows.
        ("POST /payment_intents", Fault::SilenceAfter),
    ];
    for (number, (what, fault)) in steps.into_iter().enumerate() {
        let asked = stripe.asked(what).len();
        stripe.fails(what, fault);
        let mut process = home.serve().await;
        let client = process.client(&home.guests().admin);
        if number == 0 {
            let done = client.gets(SWITCH_ON, json!({})).await;
            assert_eq!(done["creditAutoPurchaseUpdate"]["autoPurchase"]["enabled"], true, "{done}");
            client.executes("hello", "the-call-that-leaves-50").await;
        }
        until("Stripe is asked", async || (stripe.asked(what).len() > asked).then_some(())).await;
        process.kill();
        process.exit().await;
        // A minute goes by.
        let books = home.connect().await;
        let sql = "UPDATE ai_credit_accounts SET auto_purchase_due_at = created_at
                   WHERE auto_purchase_due_at IS NOT NULL";
        assert_eq!(books.execute(sql).await.unwrap(), 1, "it is not forgotten");
        books.close().await;
    }
    let mut process = home.serve().await;
    let client = process.client(&home.guests().admin);
    until("the credits are there", async || (client.balance().await.0 == 550).then_some(())).await;
    process.stop().await;

    assert_eq!(stripe.charges().len(), 1);
    let books = home.connect().await;
    for (sql, number) in [
        ("SELECT COUNT(*) FROM auto_purchase_attempts WHERE state = 'SUCCEEDED'", 1),
        ("SELECT COUNT(*) FROM auto_purchase_attempts", 1),
        ("SELECT COUNT(*) FROM credit_purchases WHERE status = 'COMPLETED'", 1),
        ("SELECT COUNT(*) FROM credit_purchases", 1),
    ] {
        assert_eq!(books.number(sql).await, number, "{sql}");
    }
    books.close().await;
    home.adds_up().await;
}
