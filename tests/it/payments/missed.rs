//! A webhook that was down: what Stripe sent meanwhile is read from its list, once.

use chrono::TimeDelta;
use musubi::payments::missed::TYPES;
use musubi::payments::service::inbox::Receipt;
use musubi::payments::service::reconcile::reconcile;
use serde_json::json;

use super::{Shop, deliver};
use crate::support::stripe::Fault;

const LIST: &str = "GET /events";

impl Shop {
    async fn kept(&self) -> i64 {
        self.number("SELECT COUNT(*) AS number FROM stripe_events").await
    }
}

#[tokio::test]
async fn what_the_webhook_missed_is_learned_and_nothing_is_doubled() {
    let shop = Shop::open().await;
    shop.reconciles_after(TimeDelta::minutes(5)).await;
    let done = shop.buys("disputed-in-silence", json!({})).await;
    let intent = done["purchase"]["paymentIntentId"].as_str().unwrap();
    let heard = shop.stripe.event("payment_intent.succeeded");
    deliver(&shop.app.app, &heard).await;
    shop.works().await;

    // The webhook is down for two hours.
    shop.passes(TimeDelta::minutes(30));
    let (_, invoice) = shop.ordered("paid-in-silence").await;
    shop.passes(TimeDelta::minutes(30));
    shop.stripe.pay_invoice(&invoice);
    shop.stripe.dispute(intent, 200, "needs_response");
    shop.passes(TimeDelta::hours(1));
    let replica = shop.app.replica().await;
    tokio::join!(async { reconcile(shop.app.app.clone()).await.unwrap() }, async {
        reconcile(replica.clone()).await.unwrap()
    });
    tokio::join!(shop.works(), shop.works());

    let mut sent = shop.stripe.events();
    sent.retain(|event| TYPES.contains(&event["type"].as_str().unwrap()));
    assert_eq!(shop.kept().await, i64::try_from(sent.len()).unwrap());
    shop.adds_up(800, 2).await;
    // What comes late after all is known.
    let kept = shop.kept().await;
    for event in shop.stripe.events() {
        let receipt = deliver(&shop.app.app, &event).await;
        let is_ours = TYPES.contains(&event["type"].as_str().unwrap());
        assert_eq!(receipt, if is_ours { Receipt::Known } else { Receipt::Kept }, "{event}");
    }
    shop.works().await;
    assert!(shop.kept().await > kept);
    let said = shop.reconciles_after(TimeDelta::minutes(5)).await;
    assert!(said.contains("; 0 missed, "), "{said}");
    shop.adds_up(800, 2).await;
}

#[tokio::test]
async fn a_list_that_cannot_be_read_is_read_from_the_same_place_later() {
    let shop = Shop::open().await;
    shop.reconciles_after(TimeDelta::minutes(5)).await;
    let asked = shop.buys_with("the-bank-asks", "pm_card_authenticationRequired").await;
    shop.stripe.authenticate(asked["purchase"]["paymentIntentId"].as_str().unwrap(), true);
    for _ in 0..3 {
        shop.stripe.fails(LIST, Fault::Status(500, None));
    }
    let said = shop.reconciles_after(TimeDelta::hours(5)).await;
    assert!(said.contains("; 0 missed, "), "{said}");

    let said = shop.reconciles_after(TimeDelta::hours(5)).await;

    assert!(said.contains("; 2 missed, "), "{said}");
    shop.works().await;
    shop.adds_up(500, 1).await;
    let open = "SELECT COUNT(*) AS number FROM stripe_events WHERE processed_at IS NULL";
    assert_eq!(shop.number(open).await, 0);
}

#[tokio::test]
async fn more_than_a_list_holds_is_read_in_parts_and_as_far_as_one_run_goes() {
    let shop = Shop::open().await;
    shop.reconciles_after(TimeDelta::minutes(5)).await;
    let foreign = json!({ "object": "payment_intent", "livemode": false, "metadata": {} });
    for _ in 0..60 {
        shop.passes(TimeDelta::minutes(10));
        for _ in 0..25 {
            shop.stripe.makes_event("payment_intent.processing", &foreign);
        }
        shop.stripe.makes_event("balance.available", &json!({ "livemode": false }));
    }

    let said = shop.reconciles_after(TimeDelta::minutes(5)).await;

    assert!(said.contains("; 1500 missed, "), "{said}");
    assert_eq!(shop.kept().await, 1_500);
    let asked = shop.stripe.asked(LIST);
    assert!(asked.len() < 60, "{}", asked.len());
}

#[test]
fn the_types_that_are_read_are_those_to_subscribe_to() {
    let text = include_str!("../../../docs/payments.md");
    let (_, rest) = text.split_once("## Webhook types").unwrap();
    let list = rest.split("`TYPES`").next().unwrap();
    let mut named: Vec<&str> = list.split('`').skip(1).step_by(2).collect();
    named.sort_unstable();
    assert_eq!(named, TYPES);
}
