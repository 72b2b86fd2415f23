//! Purchases by stored cards, purchases that store theirs, and customers that Stripe loses.

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::{Shop, buys};
use crate::support::stripe::Fault;

const MAKE: &str = "POST /payment_intents";

impl Shop {
    async fn buys_by_card(&self, key: &str, card: &Value) -> Value {
        let change = json!({ "paymentMethod": "STORED_CARD", "storedCardId": card["id"],
            "stripePaymentMethodId": null });
        self.buys(key, change).await
    }
}

#[tokio::test]
async fn a_stored_card_is_charged_off_session() {
    let shop = Shop::open().await;
    let card = shop.stores("pm_card_visa").await;

    let done = shop.buys_by_card("by-a-stored-card", &card).await;

    assert_eq!(done["purchase"]["status"], "COMPLETED", "{done}");
    let asked = shop.stripe.asked(MAKE).remove(0);
    assert_eq!(asked.form.get("payment_method"), Some(&*shop.methods().await[0]));
    assert_eq!(asked.form.get("off_session"), Some("true"));
    assert_eq!(asked.form.get("setup_future_usage"), None);
    // The key keeps its answer, also when the card is gone.
    shop.removes(&card).await;
    assert_eq!(shop.buys_by_card("by-a-stored-card", &card).await, done);
    shop.adds_up(500, 1).await;
}

#[tokio::test]
async fn a_bank_that_wants_the_buyer_of_a_stored_card_leaves_them_a_way() {
    for is_successful in [true, false] {
        let shop = Shop::open().await;
        let card = shop.stores("pm_card_authenticationRequired").await;

        let asked = shop.buys_by_card("the-bank-wants-them", &card).await;

        let purchase = &asked["purchase"];
        assert_eq!(purchase["status"], "REQUIRES_ACTION", "{asked}");
        assert_eq!(asked["userErrors"], json!([]));
        assert!(purchase["clientSecret"].is_string());
        let query = "query ($id: ID!) { creditPurchase(id: $id) { stripePaymentMethodId } }";
        let shown = shop.hotel.admin.gets(query, json!({ "id": purchase["id"] })).await;
        let method = &shown["creditPurchase"]["stripePaymentMethodId"];
        assert_eq!(method, &shop.methods().await[0]);
        // Whoever else tells of it tells the same.
        shop.hears(&shop.stripe.event("payment_intent.payment_failed")).await;
        shop.reconciles_after(TimeDelta::minutes(5)).await;
        assert_eq!(shop.purchase(&purchase["id"]).await["status"], "REQUIRES_ACTION");
        shop.adds_up(0, 0).await;

        // The page confirms the same payment with them, by the same card.
        let intent = purchase["paymentIntentId"].as_str().unwrap();
        shop.stripe.page_confirms(intent, is_successful);
        let ended = shop.confirms(&purchase["id"]).await["purchase"].clone();
        if is_successful {
            assert_eq!(ended["status"], "COMPLETED");
            shop.adds_up(500, 1).await;
        } else {
            assert_eq!(ended["failureCode"], "AUTHENTICATION_FAILED");
            shop.adds_up(0, 0).await;
        }
    }
}

#[tokio::test]
async fn a_buyer_of_a_stored_card_who_never_comes_is_given_up() {
    let shop = Shop::open().await;
    let card = shop.stores("pm_card_authenticationRequired").await;
    let asked = shop.buys_by_card("never-comes", &card).await;

    shop.reconciles_after(TimeDelta::hours(25)).await;

    assert_eq!(shop.purchase(&asked["purchase"]["id"]).await["status"], "CANCELLED");
    assert_eq!(shop.stripe.intents()[0]["status"], "canceled");
}

#[tokio::test]
async fn a_stored_card_that_is_declined_says_why() {
    let shop = Shop::open().await;
    let card = shop.stores("pm_card_chargeCustomerFail").await;
    let refused = shop.buys_by_card("is-declined", &card).await;
    assert_eq!(refused["purchase"]["failureCode"], "CARD_DECLINED", "{refused}");
    assert_eq!(refused["userErrors"][0]["code"], "PAYMENT_FAILED");
    shop.adds_up(0, 0).await;
}

#[tokio::test]
async fn a_stored_card_goes_with_its_method_alone() {
    let shop = Shop::open().await;
    let card = shop.stores("pm_card_visa").await["id"].clone();
    let page = json!("pm_card_visa");
    for (method, stored, of_page, field) in [
        ("STORED_CARD", Value::Null, Value::Null, "storedCardId"),
        ("STORED_CARD", card.clone(), page.clone(), "stripePaymentMethodId"),
        ("STRIPE", card, page, "storedCardId"),
    ] {
        let change = json!({ "paymentMethod": method, "storedCardId": stored,
            "stripePaymentMethodId": of_page });
        let refused = shop.buys("goes-with-its-method", change).await;
        let error = &refused["userErrors"][0];
        assert_eq!((&error["code"], &error["field"][1]), (&json!("INVALID_INPUT"), &json!(field)));
    }
    assert!(shop.stripe.asked(MAKE).is_empty());
}

#[tokio::test]
async fn a_strangers_card_looks_missing_and_a_removed_one_is_refused() {
    let shop = Shop::open().await;
    let stranger = shop.app.hotel().await;
    let card = shop.stores("pm_card_visa").await;
    let input = json!({ "packageId": shop.package, "paymentMethod": "STORED_CARD",
        "storedCardId": card["id"], "idempotencyKey": "by-a-strangers-card" });
    let refused = buys(&stranger.admin, input).await;
    assert_eq!(refused["userErrors"][0]["code"], "NOT_FOUND", "{refused}");

    shop.removes(&card).await;
    let refused = shop.buys_by_card("by-a-removed-card", &card).await;
    assert_eq!(refused["userErrors"][0]["code"], "INVALID_STATE", "{refused}");
    assert!(shop.stripe.asked(MAKE).is_empty());
}

#[tokio::test]
async fn a_card_that_is_removed_while_it_pays_ends_the_payment_one_way() {
    // Stripe has charged it already, and answers later.
    let shop = Shop::open().await;
    let card = shop.stores("pm_card_visa").await;
    shop.stripe.fails(MAKE, Fault::WaitAfter);
    let removing = async {
        while shop.stripe.charges().is_empty() {
            tokio::task::yield_now().await;
        }
        shop.removes(&card).await;
        shop.works().await;
        assert!(shop.stripe.attached().is_empty());
        shop.stripe.open_gate();
    };
    let (done, ()) = tokio::join!(shop.buys_by_card("is-removed-late", &card), removing);
    assert_eq!(done["purchase"]["status"], "COMPLETED", "{done}");
    shop.adds_up(500, 1).await;

    // Stripe has not been reached, and has given the card up by then.
    let shop = Shop::open().await;
    let card = shop.stores("pm_card_visa").await;
    for _ in 0..3 {
        shop.stripe.fails(MAKE, Fault::Status(503, None));
    }
    let pending = shop.buys_by_card("is-removed-early", &card).await;
    assert_eq!(pending["purchase"]["status"], "PENDING");
    shop.removes(&card).await;
    shop.works().await;
    let refused = shop.buys_by_card("is-removed-early", &card).await;
    assert_eq!(refused["purchase"]["failureCode"], "PAYMENT_REFUSED", "{refused}");
    shop.adds_up(0, 0).await;
}

#[tokio::test]
async fn a_purchase_that_keeps_its_card_stores_it_once_it_is_paid() {
    // Learned from the answer, then told by events.
    let shop = Shop::open().await;
    let done = shop.buys("keeps-its-card", json!({ "saveCard": true })).await;
    assert_eq!(done["purchase"]["status"], "COMPLETED");
    shop.works().await;
    shop.hears(&shop.stripe.event("payment_intent.succeeded")).await;
    let cards = shop.cards().await;
    assert_eq!((cards.len(), &cards[0]["isDefault"]), (1, &json!(true)));
    assert_eq!(shop.methods().await, shop.stripe.attached());
    shop.buys("keeps-none", json!({})).await;
    shop.works().await;
    assert_eq!(shop.cards().await.len(), 1);
    let by_card = shop.buys_by_card("and-by-it", &cards[0]).await;
    assert_eq!(by_card["purchase"]["status"], "COMPLETED", "{by_card}");
    shop.adds_up(1_500, 3).await;

    // Told by the event alone; nothing before it is paid.
    let shop = Shop::open().await;
    let change = json!({ "saveCard": true,
        "stripePaymentMethodId": "pm_card_authenticationRequired" });
    let asked = shop.buys("keeps-it-later", change).await;
    shop.works().await;
    assert!(shop.cards().await.is_empty());
    shop.stripe.authenticate(asked["purchase"]["paymentIntentId"].as_str().unwrap(), true);
    shop.hears(&shop.stripe.event("payment_intent.succeeded")).await;
    assert_eq!(shop.cards().await[0]["last4"], "3184");

    // Nothing when it is declined.
    let change = json!({ "saveCard": true, "stripePaymentMethodId": "pm_card_chargeDeclined" });
    shop.buys("keeps-no-declined-card", change).await;
    shop.works().await;
    assert_eq!(shop.cards().await.len(), 1);
}

#[tokio::test]
async fn a_customer_that_is_deleted_is_forgotten_with_its_cards() {
    let shop = Shop::open().await;
    let card = shop.stores("pm_card_visa").await;
    let gone = shop.stripe.customer();
    let deleted = shop.stripe.deletes_customer(&gone);

    shop.hears(&deleted).await;

    assert!(shop.cards().await.is_empty());
    let refused = shop.buys_by_card("by-a-lost-card", &card).await;
    assert_eq!(refused["userErrors"][0]["code"], "INVALID_STATE");
    let next = shop.stores("pm_card_mastercard").await;
    let customer = shop.stripe.customer();
    assert_ne!(customer, gone);
    // Late news of the old one changes nothing.
    let again = shop.stripe.makes_event("customer.deleted", &deleted["data"]["object"]);
    shop.hears(&again).await;
    let done = shop.buys_by_card("by-the-next-card", &next).await;
    assert_eq!(done["purchase"]["status"], "COMPLETED", "{done}");
    assert_eq!(shop.stripe.customer(), customer);
    shop.adds_up(500, 1).await;
}

#[tokio::test]
async fn a_customer_that_stripe_no_longer_has_is_replaced_and_paid_for_once() {
    let shop = Shop::open().await;
    shop.stores("pm_card_visa").await;
    // Nobody tells us.
    shop.stripe.deletes_customer(&shop.stripe.customer());
    for _ in 0..3 {
        shop.stripe.fails(MAKE, Fault::ResetAfter);
    }

    // Stripe's refusal does not reach us, and the same key asks again.
    let pending = shop.buys("with-a-new-customer", json!({})).await;
    let id = &pending["purchase"]["id"];
    shop.buys("with-a-new-customer", json!({})).await;
    shop.reconciles_after(TimeDelta::minutes(3)).await;

    assert_eq!(shop.purchase(id).await["status"], "COMPLETED", "{pending}");
    let keys: Vec<_> = shop.stripe.asked(MAKE).into_iter().filter_map(|asked| asked.key).collect();
    let second = format!("{}:2", id.as_str().unwrap());
    assert!(keys.iter().all(|key| *key == second || key == id.as_str().unwrap()), "{keys:?}");
    assert!(keys.contains(&second));
    assert_eq!(shop.stripe.customers(), 1);
    assert!(shop.cards().await.is_empty(), "they went with their customer");
    shop.adds_up(500, 1).await;
}

#[tokio::test]
async fn a_payment_whose_customer_is_deleted_before_its_answer_is_not_made_again() {
    let shop = Shop::open().await;
    for _ in 0..3 {
        shop.stripe.fails(MAKE, Fault::ResetAfter);
    }
    let pending = shop.buys("paid-and-then-deleted", json!({})).await;
    assert_eq!(pending["purchase"]["status"], "PENDING");
    let deleted = shop.stripe.deletes_customer(&shop.stripe.customer());
    shop.hears(&deleted).await;

    let done = shop.buys("paid-and-then-deleted", json!({})).await;

    assert_eq!(done["purchase"]["status"], "COMPLETED", "{done}");
    shop.adds_up(500, 1).await;
    // The next purchase has a customer of its own.
    shop.buys("by-the-next-customer", json!({})).await;
    shop.adds_up(1_000, 2).await;
}
