//! What Stripe tells: any number of times, in any order, late or early; and what is not so.

use futures_util::future::join_all;
use musubi::payments::service::inbox::Receipt;
use serde_json::{Value, json};

use super::{Shop, deliver, deliver_often};
use crate::support::stripe::Fault;

/// Orders of three events: those in which Stripe may tell them.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

#[tokio::test]
async fn a_payment_told_a_hundred_times_before_its_late_answer_is_granted_once() {
    let shop = Shop::open().await;
    shop.stripe.fails("POST /payment_intents", Fault::WaitAfter);

    let buying = shop.buys("the-answer-is-late", json!({}));
    let telling = async {
        while shop.stripe.charges().is_empty() {
            tokio::task::yield_now().await;
        }
        let event = shop.stripe.event("payment_intent.succeeded");
        let replica = shop.app.replica().await;
        // The same event a hundred times, and ten events of the same payment, on two nodes.
        let others: Vec<Value> = (0..10)
            .map(|_| {
                let paid = shop.stripe.charges().remove(0);
                shop.stripe.makes_event("payment_intent.succeeded", &paid)
            })
            .collect();
        tokio::join!(
            deliver_often(&shop.app.app, &event, 60),
            deliver_often(&replica, &event, 40),
            join_all(others.iter().map(|event| deliver(&replica, event))),
        );
        tokio::join!(shop.works(), shop.works());
        assert_eq!(shop.hotel.balance().await, (500, 0), "granted before the answer");
        shop.stripe.open_gate();
    };
    let (done, ()) = tokio::join!(buying, telling);

    assert_eq!(done["purchase"]["status"], "COMPLETED", "{done}");
    assert_eq!(shop.number("SELECT COUNT(*) AS number FROM stripe_events").await, 11);
    let open = "SELECT COUNT(*) AS number FROM stripe_events WHERE processed_at IS NULL";
    assert_eq!(shop.number(open).await, 0);
    shop.adds_up(500, 1).await;
}

#[tokio::test]
async fn events_of_a_payment_end_the_same_in_every_order() {
    for order in ORDERS {
        let shop = Shop::open().await;
        let card = "pm_card_authenticationRequired";
        let asked = shop.buys_with("the-bank-asks", card).await;
        let intent = asked["purchase"]["paymentIntentId"].as_str().unwrap().to_owned();
        let asks = shop.stripe.event("payment_intent.requires_action");
        shop.stripe.authenticate(&intent, false);
        let fails = shop.stripe.event("payment_intent.payment_failed");
        shop.stripe.change(&intent, |intent| {
            intent["status"] = json!("succeeded");
            intent["amount_received"] = json!(500);
        });
        let paid = shop.stripe.charges().remove(0);
        let succeeds = shop.stripe.makes_event("payment_intent.succeeded", &paid);
        let events = [asks, fails, succeeds];

        for number in order {
            shop.hears(&events[number]).await;
        }

        let purchase = shop.purchase(&asked["purchase"]["id"]).await;
        assert_eq!(purchase["status"], "COMPLETED", "{order:?}");
        shop.adds_up(500, 1).await;
    }
}

#[tokio::test]
async fn a_bank_that_was_answered_is_learned_from_the_event_alone() {
    let shop = Shop::open().await;
    let asked = shop.buys_with("the-bank-asks", "pm_card_authenticationRequired").await;
    let purchase = &asked["purchase"];
    let query = "subscription ($id: ID!) { it: creditPurchaseChanged(id: $id) {
        status version transaction { credits } } }";
    let mut changes = shop.hotel.admin.watches(query, json!({ "id": purchase["id"] }));
    let next = async |changes: &mut futures_util::stream::BoxStream<'static, Value>| {
        futures_util::StreamExt::next(changes).await.unwrap()["data"]["it"].clone()
    };
    assert_eq!(next(&mut changes).await["status"], "REQUIRES_ACTION");

    shop.stripe.authenticate(purchase["paymentIntentId"].as_str().unwrap(), true);
    shop.hears(&shop.stripe.event("payment_intent.succeeded")).await;

    let done = next(&mut changes).await;
    assert_eq!(
        (&done["status"], &done["transaction"]["credits"]),
        (&json!("COMPLETED"), &json!(500))
    );
    assert!(done["version"].as_i64() > purchase["version"].as_i64());
    shop.adds_up(500, 1).await;
}

#[tokio::test]
async fn a_payment_that_is_not_as_recorded_grants_nothing_and_alarms() {
    type Change = fn(&mut Value, &Shop, &str);
    let cases: [(&str, Change); 7] = [
        ("amount", |intent, _, _| intent["amount"] = json!(50_000)),
        ("received", |intent, _, _| intent["amount_received"] = json!(499)),
        ("currency", |intent, _, _| intent["currency"] = json!("usd")),
        ("livemode", |intent, _, _| intent["livemode"] = json!(true)),
        ("account", |intent, _, other| intent["metadata"]["musubi_account"] = json!(other)),
        ("payment", |intent, _, _| intent["id"] = json!("pi_of_somebody_else")),
        ("purchase", |intent, _, _| {
            let nobodys = musubi::ids::PurchaseId::new().to_string();
            intent["metadata"]["musubi_purchase"] = json!(nobodys);
        }),
    ];
    for (differs, change) in cases {
        let shop = Shop::open().await;
        let stranger = shop.app.hotel().await;
        let others = stranger.account().await.id.to_string();
        let asked = shop.buys_with("the-bank-asks", "pm_card_authenticationRequired").await;
        let purchase = &asked["purchase"];
        let intent = purchase["paymentIntentId"].as_str().unwrap();
        let mut paid = shop.stripe.intents().remove(0);
        paid["status"] = json!("succeeded");
        paid["amount_received"] = json!(500);
        change(&mut paid, &shop, &others);

        let event = shop.stripe.makes_event("payment_intent.succeeded", &paid);
        shop.hears(&event).await;
        let again = shop.stripe.makes_event("payment_intent.succeeded", &paid);
        shop.hears(&again).await;

        let alert = ("PAYMENT_MISMATCH".to_owned(), json!([differs]));
        assert_eq!(shop.alerts().await, [alert], "{differs}");
        assert_eq!(shop.purchase(&purchase["id"]).await["status"], "REQUIRES_ACTION", "{differs}");
        assert_eq!(stranger.balance().await, (0, 0));
        shop.adds_up(0, 0).await;

        // What is right is granted after all.
        shop.stripe.authenticate(intent, true);
        shop.hears(&shop.stripe.events().pop().unwrap()).await;
        shop.adds_up(500, 1).await;
    }
}

#[tokio::test]
async fn an_answer_that_is_not_as_recorded_grants_nothing_either() {
    let shop = Shop::open().await;
    let asked = shop.buys_with("the-bank-asks", "pm_card_authenticationRequired").await;
    let purchase = &asked["purchase"];
    let intent = purchase["paymentIntentId"].as_str().unwrap();
    shop.stripe.authenticate(intent, true);
    shop.stripe.change(intent, |intent| intent["amount_received"] = json!(1));

    let confirmed = shop.confirms(&purchase["id"]).await;

    assert_eq!(confirmed["purchase"]["status"], "REQUIRES_ACTION");
    assert_eq!(shop.alerts().await, [("PAYMENT_MISMATCH".to_owned(), json!(["received"]))]);
    shop.adds_up(0, 1).await;
}

#[tokio::test]
async fn an_account_that_takes_no_credits_is_paid_for_with_an_alarm_until_it_does() {
    let shop = Shop::open().await;
    let asked = shop.buys_with("the-bank-asks", "pm_card_authenticationRequired").await;
    let purchase = &asked["purchase"];
    shop.stripe.authenticate(purchase["paymentIntentId"].as_str().unwrap(), true);
    let close = async |at: &str| {
        let sql = format!("UPDATE ai_credit_accounts SET deleted_at = {at}");
        let txn = shop.app.app.db.begin().await.unwrap();
        musubi::db::execute(&*txn, sql, vec![]).await.unwrap();
        txn.commit().await.unwrap();
    };

    close("created_at").await;
    shop.hears(&shop.stripe.event("payment_intent.succeeded")).await;
    assert_eq!(shop.alerts().await, [("PAYMENT_UNGRANTED".to_owned(), json!(["account"]))]);
    assert_eq!(shop.purchase(&purchase["id"]).await["status"], "REQUIRES_ACTION");

    close("NULL").await;
    shop.reconciles_after(chrono::TimeDelta::minutes(5)).await;
    assert_eq!(shop.purchase(&purchase["id"]).await["status"], "COMPLETED");
    shop.adds_up(500, 1).await;
}

#[tokio::test]
async fn what_is_not_ours_or_not_understood_is_kept_and_changes_nothing() {
    let shop = Shop::open().await;
    let mut foreign = json!({ "object": "payment_intent", "id": "pi_of_a_shop", "livemode": false,
        "status": "succeeded", "amount": 500, "amount_received": 500, "currency": "jpy",
        "metadata": {} });
    for (kind, object) in [
        ("payment_intent.succeeded", foreign.clone()),
        ("payment_intent.payment_failed", foreign.clone()),
        ("payment_intent.succeeded", json!({ "object": "charge", "livemode": false })),
        ("customer.subscription.trial_will_end", json!({ "livemode": false })),
        ("something.of.next_year", json!({ "livemode": false })),
    ] {
        let event = shop.stripe.makes_event(kind, &object);
        shop.hears(&event).await;
        assert_eq!(deliver(&shop.app.app, &event).await, Receipt::Known);
    }
    // A payment that is gone by now: nothing to learn.
    foreign["metadata"]["musubi_purchase"] = json!(musubi::ids::PurchaseId::new().to_string());
    shop.hears(&shop.stripe.makes_event("payment_intent.payment_failed", &foreign)).await;

    let done = "SELECT COUNT(*) AS number FROM stripe_events
                WHERE processed_at IS NOT NULL AND outcome IS NOT NULL AND last_error IS NULL";
    assert_eq!(shop.number(done).await, 6);
    assert!(shop.alerts().await.is_empty());
    shop.adds_up(0, 0).await;
}

#[tokio::test]
async fn an_event_waits_for_a_stripe_that_does_not_answer() {
    let shop = Shop::open().await;
    let asked = shop.buys_with("the-bank-asks", "pm_card_authenticationRequired").await;
    let purchase = &asked["purchase"];
    shop.stripe.authenticate(purchase["paymentIntentId"].as_str().unwrap(), false);
    for _ in 0..3 {
        shop.stripe.fails("GET /payment_intents/ID", Fault::Status(503, None));
    }

    shop.hears(&shop.stripe.event("payment_intent.payment_failed")).await;
    assert_eq!(shop.purchase(&purchase["id"]).await["status"], "REQUIRES_ACTION");
    shop.app.clock.advance(chrono::TimeDelta::seconds(10));
    shop.works().await;

    assert_eq!(shop.purchase(&purchase["id"]).await["status"], "FAILED");
    let tries = "SELECT CAST(attempts AS bigint) AS number FROM stripe_events";
    assert_eq!(shop.number(tries).await, 2);
    shop.adds_up(0, 0).await;
}
