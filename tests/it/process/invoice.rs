//! `kill -9` between the steps of a purchase by invoice: whoever goes on makes one invoice of it,
//! which is sent once, and becomes credits once when it is paid.

use serde_json::{Value, json};

use super::shop::{COMPLETED, CUSTOMER, PURCHASE_ROWS, PURCHASES, Shop, Wish};
use crate::support::stripe::Fault;

const MAKE: &str = "POST /invoices";
const LINES: &str = "POST /invoices/ID/add_lines";
const SEND: &str = "POST /invoices/ID/send";
const VOID: &str = "POST /invoices/ID/void";
const DELETE: &str = "DELETE /invoices/ID";
/// The steps of an invoice, as Stripe is asked for them.
const STEPS: [&str; 6] =
    [CUSTOMER, MAKE, LINES, "POST /customers/ID", "POST /invoices/ID/finalize", SEND];
const LOOK: &str = "GET /invoices/ID";
const LIST: &str = "GET /invoices";
/// Nothing was done of a step; it was done, and the answer is lost.
const FAULTS: [Fault; 2] = [Fault::Silence, Fault::SilenceAfter];

const CONFIRM: &str = "mutation ($id: ID!) { creditPurchaseConfirm(id: $id) {
    purchase { id status } userErrors { code } } }";
const CANCEL: &str = "mutation ($id: ID!) { creditPurchaseCancel(id: $id) {
    purchase { id status } userErrors { code } } }";
const LAST: &str = "{ creditPurchases(first: 1) { nodes { id } } }";

/// Some minutes go by.
const MINUTES: &str = "UPDATE credit_invoices SET next_check_at = created_at";
/// So much time goes by that Stripe has forgotten the keys of what is not known here.
const DAYS: &str = "UPDATE credit_purchases SET created_at = '2025-06-01T00:00:00+00:00'
                    WHERE status = 'PENDING' AND payment_intent_id IS NULL";
const SENT: &str = "SELECT COUNT(*) FROM credit_invoices
                    WHERE status = 'OPEN' AND sent_at IS NOT NULL";
const PAID: &str = "SELECT COUNT(*) FROM credit_invoices i
                    JOIN credit_purchases p ON p.id = i.purchase_id
                    WHERE i.status = 'PAID' AND p.status = 'COMPLETED' AND i.sent_at IS NOT NULL";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_between_the_steps_of_an_invoice_makes_another_or_sends_it_twice() {
    let shop = Shop::open().await;
    // Whoever ordered it sends the key again each time.
    let order = order(&shop, "killed-at-every-step");
    for step in STEPS {
        for fault in FAULTS {
            shop.killed_at(step, fault, &order).await;
        }
    }
    let id = ordered(&shop, &order).await;
    assert_eq!(shop.number(SENT).await, 1);

    shop.stripe.pay_invoice(&is_sent(&shop, 1));
    let confirm = shop.wish(CONFIRM, json!({ "id": id }), "COMPLETED");
    shop.killed_at(LOOK, Fault::Silence, &confirm).await;
    let done = shop.serves(&confirm).await;
    assert_eq!(done["creditPurchaseConfirm"]["purchase"]["status"], "COMPLETED", "{done}");
    is_paid(&shop, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_of_the_reconciler_makes_another_invoice_or_sends_it_twice() {
    let shop = Shop::open().await;
    shop.killed_at(CUSTOMER, Fault::Silence, &order(&shop, "nobody-asks-again")).await;
    for step in STEPS {
        for fault in FAULTS {
            shop.passes(MINUTES).await;
            shop.job_killed_at(step, fault, PURCHASES).await;
        }
    }
    assert_eq!(looks(&shop).await, (1, 0));
    assert_eq!(shop.number(SENT).await, 1);

    shop.stripe.pay_invoice(&is_sent(&shop, 1));
    shop.passes(MINUTES).await;
    shop.job_killed_at(LOOK, Fault::Silence, PURCHASES).await;
    assert_eq!(looks(&shop).await, (1, 1));
    is_paid(&shop, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_makes_another_invoice_when_stripe_has_forgotten_the_key() {
    let shop = Shop::open().await;
    // What Stripe never got is over.
    for (step, key) in [(CUSTOMER, "for-no-customer"), (MAKE, "for-a-customer")] {
        shop.killed_at(step, Fault::Silence, &order(&shop, key)).await;
        shop.passes(DAYS).await;
        assert_eq!(looks(&shop).await, (1, 1), "{step}");
    }
    let over = "SELECT COUNT(*) FROM credit_purchases WHERE failure_code = 'NOT_STARTED'";
    assert_eq!(shop.number(over).await, 2);
    assert!(shop.stripe.invoices().is_empty());

    // What it has made is found by what is written on it.
    shop.killed_at(MAKE, Fault::SilenceAfter, &order(&shop, "made-and-forgotten")).await;
    shop.passes(DAYS).await;
    shop.passes(MINUTES).await;
    shop.job_killed_at(LIST, Fault::Silence, PURCHASES).await;
    let asked = shop.stripe.asked(MAKE).len();
    assert_eq!(looks(&shop).await, (1, 0));
    assert_eq!(shop.stripe.asked(MAKE).len(), asked, "it would be a second one");
    shop.stripe.pay_invoice(&is_sent(&shop, 1));
    assert_eq!(looks(&shop).await, (1, 1));
    is_paid(&shop, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_between_stripes_answer_and_ours_parts_an_invoice_and_its_purchase() {
    let shop = Shop::open().await;
    let order = order(&shop, "answered-and-not-kept");
    // It is made, and nobody here knows what it is called.
    shop.killed_before_it_keeps(MAKE, PURCHASE_ROWS, &order).await;
    let unnamed = "SELECT COUNT(*) FROM credit_invoices WHERE stripe_invoice_id IS NULL";
    assert_eq!((shop.number(unnamed).await, shop.stripe.invoices().len()), (1, 1));
    // It is sent, and nobody here knows.
    let paper_rows = "SELECT purchase_id FROM credit_invoices FOR UPDATE";
    shop.killed_before_it_keeps(SEND, paper_rows, &order).await;
    assert_eq!((shop.number(SENT).await, shop.stripe.mailed().len()), (0, 1));
    assert_eq!(looks(&shop).await, (1, 0));
    assert_eq!(shop.number(SENT).await, 1);

    // It is paid, and nobody here knows.
    let id = ordered(&shop, &order).await;
    shop.stripe.pay_invoice(&is_sent(&shop, 1));
    let confirm = shop.wish(CONFIRM, json!({ "id": id }), "COMPLETED");
    shop.killed_before_it_keeps(LOOK, PURCHASE_ROWS, &confirm).await;
    assert_eq!(shop.number(COMPLETED).await, 0);
    // The credits are there, and the buyer does not know.
    shop.killed_before_it_answers(&confirm, (COMPLETED, 1)).await;
    let done = shop.serves(&order).await;
    assert_eq!(done["creditPurchase"]["purchase"]["status"], "COMPLETED", "{done}");
    is_paid(&shop, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_between_an_event_and_what_it_means_parts_an_invoice_and_its_credits() {
    let shop = Shop::open().await;
    // The event is kept and answered, and not worked out.
    ordered(&shop, &order(&shop, "kept-and-not-worked-out")).await;
    shop.stripe.pay_invoice(&is_sent(&shop, 1));
    let event = shop.last_event("invoice.paid");
    shop.killed_before_it_works_out(&event, LOOK).await;
    assert_eq!(shop.number(COMPLETED).await, 0);
    shop.works_out_what_was_left(&event, (COMPLETED, 1)).await;
    shop.home.adds_up().await;

    // It is worked out, and nobody has noted that.
    ordered(&shop, &order(&shop, "worked-out-and-not-noted")).await;
    shop.stripe.pay_invoice(&is_sent(&shop, 2));
    let event = shop.last_event("invoice.paid");
    let notes = "SELECT id FROM stripe_events FOR UPDATE";
    shop.killed_before_it_notes(&event, (LOOK, notes), (COMPLETED, 2)).await;
    shop.works_out_what_was_left(&event, (COMPLETED, 2)).await;
    is_paid(&shop, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_of_a_cancellation_leaves_anything_to_be_paid() {
    let shop = Shop::open().await;
    let cancel = |id: &Value| shop.wish(CANCEL, json!({ "id": id }), "CANCELLED");
    let sent = ordered(&shop, &order(&shop, "given-up-when-it-is-sent")).await;
    given_up(&shop, VOID, &cancel(&sent)).await;
    shop.killed_at(LINES, Fault::Silence, &order(&shop, "given-up-as-a-draft")).await;
    let found = shop.serves(&shop.wish(LAST, json!({}), "none")).await;
    given_up(&shop, DELETE, &cancel(&found["creditPurchases"]["nodes"][0]["id"])).await;

    let cancelled = "SELECT COUNT(*) FROM credit_purchases p
                     JOIN credit_invoices i ON i.purchase_id = p.id
                     WHERE p.status = 'CANCELLED' AND i.status = 'VOID'";
    assert_eq!(shop.number(cancelled).await, 2);
    let left = shop.stripe.invoices();
    assert!(left.iter().all(|invoice| invoice["status"] == "void"), "{left:?}");
    shop.has(100).await;
}

/// Kills a server that takes an invoice back, and the reconciler that goes on with that.
async fn given_up(shop: &Shop, step: &'static str, cancel: &Wish) {
    shop.killed_at(step, Fault::Silence, cancel).await;
    shop.passes(MINUTES).await;
    shop.job_killed_at(step, Fault::SilenceAfter, PURCHASES).await;
    assert_eq!(looks(shop).await, (1, 1), "{step}");
}

fn order(shop: &Shop, key: &str) -> Wish {
    let paid = json!({ "paymentMethod": "INVOICE", "invoiceEmail": "keiri@ryokan.test" });
    shop.buying(paid, key)
}

/// Orders without being killed, or finds what was ordered under the key. The purchase's id.
async fn ordered(shop: &Shop, order: &Wish) -> Value {
    let done = shop.serves(order).await;
    let purchase = &done["creditPurchase"]["purchase"];
    assert_eq!(purchase["status"], "PENDING", "{done}");
    purchase["id"].clone()
}

/// Lets some minutes go by and has the reconciler look at invoices to its end. How many it looked
/// at, and how many ended.
async fn looks(shop: &Shop) -> (u32, u32) {
    let said = shop.later(MINUTES, PURCHASES).await;
    let invoices = said.split("; ").nth(1).unwrap();
    let mut numbers = invoices.split(' ').filter_map(|word| word.parse().ok());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// There are so many invoices at Stripe, each whole and sent once. The last one's id.
fn is_sent(shop: &Shop, count: usize) -> String {
    let invoices = shop.stripe.invoices();
    assert_eq!(invoices.len(), count, "{invoices:?}");
    let mailed: Vec<String> = shop.stripe.mailed().into_iter().map(|(id, _)| id).collect();
    let ids: Vec<&str> = invoices.iter().map(|invoice| invoice["id"].as_str().unwrap()).collect();
    assert_eq!(mailed, ids, "each is sent once");
    for invoice in &invoices {
        assert_eq!(invoice["lines"]["data"].as_array().unwrap().len(), 1, "{invoice}");
        assert_eq!(invoice["total"], 500, "{invoice}");
    }
    assert_eq!(shop.stripe.customers(), 1);
    ids[count - 1].to_owned()
}

/// So many invoices are paid, and their credits are here once.
async fn is_paid(shop: &Shop, count: usize) {
    is_sent(shop, count);
    assert_eq!(shop.stripe.charges().len(), count);
    let paid = i64::try_from(count).unwrap();
    assert_eq!(shop.number(PAID).await, paid);
    assert_eq!(shop.number(COMPLETED).await, paid);
    shop.has(100 + paid * 500).await;
}
