//! `kill -9` in the middle of an automatic purchase: the server that comes after it goes on under
//! the same key, and the card is charged once.

use serde_json::json;

use crate::support::process::{Home, until};
use crate::support::stripe::{Fault, StripeServer};

const SWITCH_ON: &str = "mutation { creditAutoPurchaseUpdate(input: {
    enabled: true, monthlyCapYen: 10000 }) { autoPurchase { enabled } userErrors { code } } }";
const BEGIN: &str = "mutation { cardSetupBegin(input: { idempotencyKey: \"stores-a-card\" }) {
    setup { id } userErrors { code } } }";
const CONFIRM: &str = "mutation ($id: String!) { cardSetupConfirm(setupIntentId: $id) {
    card { isDefault } userErrors { code } } }";
const PAYMENT: &str = "POST /payment_intents";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_within_an_automatic_purchase_charges_twice_or_grants_nothing() {
    let stripe = StripeServer::start().await;
    let mut home = Home::hotel(52).await;
    for (name, value) in stripe.environment() {
        home = home.with(name, &value);
    }
    // Stripe knows nothing of the payment; then the card is charged, and nobody here knows.
    for (number, fault) in [Fault::Silence, Fault::SilenceAfter].into_iter().enumerate() {
        let asked = stripe.asked(PAYMENT).len();
        stripe.fails(PAYMENT, fault);
        let mut process = home.serve().await;
        let client = process.client(&home.guests().admin);
        if number == 0 {
            let begun = client.gets(BEGIN, json!({})).await;
            let setup = &begun["cardSetupBegin"]["setup"]["id"];
            stripe.page_gives(setup.as_str().unwrap(), "pm_card_visa");
            let kept = client.gets(CONFIRM, json!({ "id": setup })).await;
            assert_eq!(kept["cardSetupConfirm"]["card"]["isDefault"], true, "{kept}");
            let done = client.gets(SWITCH_ON, json!({})).await;
            assert_eq!(done["creditAutoPurchaseUpdate"]["autoPurchase"]["enabled"], true, "{done}");
            client.executes("hello", "the-call-that-leaves-50").await;
        }
        until("Stripe is asked", async || (stripe.asked(PAYMENT).len() > asked).then_some(()))
            .await;
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
