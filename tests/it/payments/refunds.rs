//! Money that goes back takes what is unspent of its credits along.

use serde_json::{Value, json};

use super::Shop;

/// The charge of the only payment, of which so much went back.
pub(super) fn charge(shop: &Shop, refunded: i64) -> Value {
    let paid = shop.stripe.charges().remove(0);
    let mut charge: Value = serde_json::from_str::<Value>(include_str!(
        "../support/stripe/fixtures.json"
    ))
    .unwrap()["charge"]
        .clone();
    for field in ["amount", "currency", "livemode", "metadata"] {
        charge[field] = paid[field].clone();
    }
    charge["payment_intent"] = paid["id"].clone();
    charge["amount_refunded"] = json!(refunded);
    charge["refunded"] = json!(refunded == paid["amount"].as_i64().unwrap());
    charge
}

pub(super) async fn hears_of_refund(shop: &Shop, refunded: i64) {
    let event = shop.stripe.makes_event("charge.refunded", &charge(shop, refunded));
    shop.hears(&event).await;
}

#[tokio::test]
async fn a_refund_takes_its_share_of_the_credits_once_in_any_order() {
    for order in [[100, 300], [300, 100]] {
        let shop = Shop::open().await;
        let done = shop.buys("to-be-refunded", json!({})).await;
        for refunded in order {
            hears_of_refund(&shop, refunded).await;
            hears_of_refund(&shop, refunded).await;
        }
        assert_eq!(shop.hotel.balance().await, (200, 0), "{order:?}");
        let id = &done["purchase"]["id"];
        assert_eq!(shop.purchase(id).await["status"], "COMPLETED");
        hears_of_refund(&shop, 500).await;
        assert_eq!(shop.purchase(id).await["status"], "REFUNDED");
        // Late news of the payment changes nothing any more.
        shop.hears(&shop.stripe.event("payment_intent.succeeded")).await;
        assert_eq!(shop.confirms(id).await["purchase"]["status"], "REFUNDED");
        shop.adds_up(0, 1).await;
    }
}

#[tokio::test]
async fn a_refund_takes_no_more_than_is_unspent() {
    let shop = Shop::open().await;
    shop.buys("partly-spent", json!({})).await;
    shop.hotel.user.executes("こんにちは", "spends-a-little").await;
    let spent = 500 - shop.hotel.balance().await.0;
    assert!(spent > 0);

    hears_of_refund(&shop, 500).await;

    shop.adds_up(0, 1).await;
}

#[tokio::test]
async fn a_refund_told_before_its_payment_waits_for_it() {
    let shop = Shop::open().await;
    let asked = shop.buys_with("the-bank-asks", "pm_card_authenticationRequired").await;
    shop.stripe.authenticate(asked["purchase"]["paymentIntentId"].as_str().unwrap(), true);
    hears_of_refund(&shop, 500).await;
    assert_eq!(shop.purchase(&asked["purchase"]["id"]).await["status"], "REQUIRES_ACTION");

    shop.hears(&shop.stripe.event("payment_intent.succeeded")).await;
    shop.app.clock.advance(chrono::TimeDelta::seconds(10));
    shop.works().await;

    assert_eq!(shop.purchase(&asked["purchase"]["id"]).await["status"], "REFUNDED");
    shop.adds_up(0, 1).await;
}

#[tokio::test]
async fn a_refund_that_is_not_as_recorded_takes_nothing_and_alarms() {
    let shop = Shop::open().await;
    shop.buys("not-refunded-at-all", json!({})).await;
    for (field, value, differs) in [
        ("amount", json!(501), "amount"),
        ("amount_refunded", json!(600), "amount"),
        ("currency", json!("usd"), "currency"),
        ("livemode", json!(true), "livemode"),
        ("payment_intent", json!("pi_of_somebody"), "payment"),
    ] {
        let mut charge = charge(&shop, 500);
        charge[field] = value;
        let before = shop.alerts().await.len();
        shop.hears(&shop.stripe.makes_event("charge.refunded", &charge)).await;
        let alerts = shop.alerts().await;
        let known = ("PAYMENT_MISMATCH".to_owned(), json!([differs]));
        assert!(alerts.contains(&known) && alerts.len() >= before, "{field}: {alerts:?}");
    }
    shop.adds_up(500, 1).await;
}
