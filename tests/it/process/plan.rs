//! `kill -9` between the steps of a plan's subscription and of its change: there is one
//! subscription at Stripe and one here, each month is paid once, and the plan is what was paid.

use serde_json::{Value, json};

use super::shop::{CUSTOMER, Shop, Wish};
use crate::support::stripe::Fault;

const PRODUCT: &str = "POST /products";
const SUBSCRIBE: &str = "POST /subscriptions";
const CHANGE: &str = "POST /subscriptions/ID";
const LOOK: &str = "GET /subscriptions/ID";
const LIST: &str = "GET /subscriptions";
/// Nothing was done of a step; it was done, and the answer is lost.
const FAULTS: [Fault; 2] = [Fault::Silence, Fault::SilenceAfter];

const BEGIN: &str = "mutation ($input: PlanSubscribeInput!) { planSubscribe(input: $input) {
    subscription { status plan } userErrors { code } } }";
const CONFIRM: &str = "mutation { planSubscriptionConfirm {
    subscription { status plan } userErrors { code } } }";
const UPGRADE: &str = "mutation ($input: PlanChangeInput!) { planChange(input: $input) {
    subscription { status plan } userErrors { code } } }";

const PLANS: &str = "plans-reconcile";
/// So much time goes by that nobody can still be asking.
const TIME: &str = "UPDATE tenant_subscriptions SET created_at = '2025-06-01T00:00:00+00:00',
                    check_at = '2025-06-01T00:00:00+00:00',
                    change_at = CASE WHEN change_id IS NULL THEN change_at
                                     ELSE '2025-06-01T00:00:00+00:00' END
                    WHERE ended_at IS NULL";
/// What the learning of a subscription locks.
const ROWS: &str = "SELECT id FROM tenant_subscriptions FOR UPDATE";
const ACTIVE: &str = "SELECT COUNT(*) FROM tenant_subscriptions WHERE status = 'ACTIVE'";
const UPGRADED: &str = "SELECT COUNT(*) FROM ai_credit_accounts WHERE plan_type = 'PROFESSIONAL'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_between_the_steps_of_a_subscription_makes_another() {
    let shop = Shop::open().await;
    // Whoever subscribed sends the key again each time.
    let begin = begin(&shop, "killed-at-every-step");
    for step in [CUSTOMER, PRODUCT, SUBSCRIBE] {
        for fault in FAULTS {
            shop.killed_at(step, fault, &begin).await;
        }
    }
    shop.killed_at(LOOK, Fault::Silence, &begin).await;
    assert_eq!(told(&shop.serves(&begin).await), ("INCOMPLETE", "ESSENTIAL"));
    is_one(&shop, "incomplete", 0).await;

    shop.stripe.pays_open_invoice(&subscription(&shop));
    let confirm = shop.wish(CONFIRM, json!({}), "ACTIVE");
    shop.killed_at(LOOK, Fault::Silence, &confirm).await;
    assert_eq!(told(&shop.serves(&confirm).await), ("ACTIVE", "ESSENTIAL"));
    is_one(&shop, "active", 1).await;
    shop.has(100 + 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_between_the_steps_of_an_upgrade_pays_twice_or_for_nothing() {
    let shop = Shop::open().await;
    subscribed(&shop).await;
    let upgrade = upgrade(&shop, "killed-at-every-step");
    shop.killed_at(LOOK, Fault::Silence, &upgrade).await;
    for step in [PRODUCT, CHANGE] {
        for fault in FAULTS {
            shop.killed_at(step, fault, &upgrade).await;
        }
    }
    // It is paid, and nobody here has learned it.
    assert_eq!(shop.number(UPGRADED).await, 0);
    shop.killed_at(LOOK, Fault::Silence, &upgrade).await;
    assert_eq!(told(&shop.serves(&upgrade).await), ("ACTIVE", "PROFESSIONAL"));
    is_upgraded(&shop).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_of_a_subscription_or_of_the_reconciler_makes_another() {
    let shop = Shop::open().await;
    // What Stripe never got is over, and another can begin.
    for (step, fault, key) in [
        (CUSTOMER, Fault::Silence, "for-no-customer"),
        (CUSTOMER, Fault::SilenceAfter, "for-a-customer-unknown-here"),
        (SUBSCRIBE, Fault::Silence, "for-a-customer"),
    ] {
        shop.killed_at(step, fault, &begin(&shop, key)).await;
        let said = shop.later(TIME, PLANS).await;
        assert!(said.starts_with("1 subscriptions, 1 ended, 0 not answered"), "{key}: {said}");
    }
    assert!(shop.stripe.subscriptions().is_empty());

    // What it has made is found by what is written on it.
    shop.killed_at(SUBSCRIBE, Fault::SilenceAfter, &begin(&shop, "made-and-forgotten")).await;
    for step in [LIST, LOOK] {
        shop.passes(TIME).await;
        shop.job_killed_at(step, Fault::Silence, PLANS).await;
    }
    looks(&shop).await;
    is_one(&shop, "incomplete", 0).await;
    shop.stripe.pays_open_invoice(&subscription(&shop));
    shop.passes(TIME).await;
    shop.job_killed_at(LOOK, Fault::Silence, PLANS).await;
    looks(&shop).await;
    is_one(&shop, "active", 1).await;
    shop.has(100 + 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_of_an_upgrade_or_of_the_reconciler_pays_twice_or_for_nothing() {
    let shop = Shop::open().await;
    subscribed(&shop).await;
    // What Stripe never got keeps no other change away.
    shop.killed_at(CHANGE, Fault::Silence, &upgrade(&shop, "never-got-there")).await;
    looks(&shop).await;
    is_one(&shop, "active", 1).await;
    shop.has(100 + 200).await;

    // What it has done counts.
    shop.killed_at(CHANGE, Fault::SilenceAfter, &upgrade(&shop, "paid-and-forgotten")).await;
    shop.passes(TIME).await;
    shop.job_killed_at(LOOK, Fault::Silence, PLANS).await;
    looks(&shop).await;
    is_upgraded(&shop).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_between_stripes_answer_and_ours_parts_a_payment_and_its_plan() {
    let shop = Shop::open().await;
    // It is made, and nobody here knows what it is called.
    let begin = begin(&shop, "answered-and-not-kept");
    shop.killed_before_it_keeps(LOOK, ROWS, &Wish { done: "INCOMPLETE", ..begin }).await;
    let unnamed = "SELECT COUNT(*) FROM tenant_subscriptions WHERE stripe_id IS NULL";
    assert_eq!((shop.number(unnamed).await, shop.stripe.subscriptions().len()), (1, 1));
    looks(&shop).await;
    is_one(&shop, "incomplete", 0).await;
    // It is paid, and nobody here knows.
    shop.stripe.pays_open_invoice(&subscription(&shop));
    let confirm = shop.wish(CONFIRM, json!({}), "ACTIVE");
    shop.killed_before_it_keeps(LOOK, ROWS, &confirm).await;
    assert_eq!(shop.number(ACTIVE).await, 0);
    // The plan is there, and the buyer may not know.
    shop.killed_when_it_is_there(&confirm, (ACTIVE, 1)).await;
    is_one(&shop, "active", 1).await;

    // The upgrade is paid, and nobody here knows.
    let upgrade = upgrade(&shop, "paid-and-not-kept");
    shop.killed_before_it_keeps(CHANGE, ROWS, &upgrade).await;
    assert_eq!((shop.number(UPGRADED).await, shop.stripe.paid_invoices().len()), (0, 2));
    // It counts, and the buyer may not know; the change may still stand open.
    shop.killed_when_it_is_there(&upgrade, (UPGRADED, 1)).await;
    looks(&shop).await;
    is_upgraded(&shop).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_between_an_event_and_what_it_means_parts_a_payment_and_its_plan() {
    let shop = Shop::open().await;
    // The event is kept, answered and handed on, and not worked out.
    shop.serves(&begin(&shop, "kept-and-not-worked-out")).await;
    shop.stripe.pays_open_invoice(&subscription(&shop));
    let event = shop.last_event("invoice.paid");
    shop.killed_before_it_works_out(&event, LOOK).await;
    assert_eq!(shop.number(ACTIVE).await, 0);
    shop.works_out_what_was_left(&event, (ACTIVE, 1)).await;
    is_one(&shop, "active", 1).await;
    shop.has(100 + 200).await;

    // It is worked out, and nobody has noted that.
    shop.killed_at(CHANGE, Fault::SilenceAfter, &upgrade(&shop, "worked-out-and-not-noted")).await;
    let event = shop.last_event("customer.subscription.updated");
    let notes = "SELECT id FROM queue_items FOR UPDATE";
    shop.killed_before_it_notes(&event, (LOOK, notes), (UPGRADED, 1)).await;
    shop.works_out_what_was_left(&event, (UPGRADED, 1)).await;
    looks(&shop).await;
    is_upgraded(&shop).await;
}

fn begin(shop: &Shop, key: &str) -> Wish {
    let input = json!({ "planType": "ESSENTIAL", "idempotencyKey": key });
    shop.wish(BEGIN, json!({ "input": input }), "ACTIVE")
}

fn upgrade(shop: &Shop, key: &str) -> Wish {
    let input = json!({ "planType": "PROFESSIONAL", "idempotencyKey": key });
    shop.wish(UPGRADE, json!({ "input": input }), "PROFESSIONAL")
}

/// A hotel that pays for the smallest plan.
async fn subscribed(shop: &Shop) {
    shop.serves(&begin(shop, "the-first-subscription")).await;
    shop.stripe.pays_open_invoice(&subscription(shop));
    let done = shop.serves(&shop.wish(CONFIRM, json!({}), "ACTIVE")).await;
    assert_eq!(told(&done), ("ACTIVE", "ESSENTIAL"));
}

/// Status and plan in an answer.
#[track_caller]
fn told(data: &Value) -> (&str, &str) {
    let payload = data.as_object().unwrap().values().next().unwrap();
    assert_eq!(payload["userErrors"], json!([]), "{data}");
    let text = |name: &str| payload["subscription"][name].as_str().unwrap();
    (text("status"), text("plan"))
}

/// Stripe's id of the only subscription.
#[track_caller]
fn subscription(shop: &Shop) -> String {
    let all = shop.stripe.subscriptions();
    assert_eq!(all.len(), 1, "{all:?}");
    all[0]["id"].as_str().unwrap().to_owned()
}

/// Lets time go by and has the reconciler look at the one subscription that is open.
async fn looks(shop: &Shop) {
    let said = shop.later(TIME, PLANS).await;
    assert!(said.starts_with("1 subscriptions, 0 ended, 0 not answered"), "{said}");
}

/// There is one subscription, at Stripe and open here, which says the same; so many months of it
/// were paid.
async fn is_one(shop: &Shop, status: &str, months: usize) {
    let id = subscription(shop);
    assert_eq!(shop.stripe.subscriptions()[0]["status"], status);
    assert_eq!(shop.stripe.paid_invoices().len(), months);
    assert_eq!(shop.stripe.customers(), 1);
    let open = "SELECT COUNT(*) FROM tenant_subscriptions WHERE ended_at IS NULL";
    assert_eq!(shop.number(open).await, 1);
    let same = format!(
        "SELECT COUNT(*) FROM tenant_subscriptions WHERE stripe_id = '{id}'
         AND status = '{}' AND change_id IS NULL",
        status.to_uppercase()
    );
    assert_eq!(shop.number(&same).await, 1, "{same}");
}

/// The larger plan was paid once, and its free credits came once.
async fn is_upgraded(shop: &Shop) {
    is_one(shop, "active", 2).await;
    assert_eq!(shop.number(UPGRADED).await, 1);
    shop.has(100 + 1_000).await;
}
