//! Stored cards: charged without being typed again, and nobody else's.

use musubi::entity::stored_card::{self, CardBrand};
use musubi::ids::StoredCardId;
use sea_orm::{EntityTrait, IntoActiveModel};
use serde_json::{Value, json};

use super::Shop;

impl Shop {
    /// A card of the hotel's that Stripe treats as the test method of this name.
    async fn has_card(&self, name: &str) -> StoredCardId {
        let id = StoredCardId::new();
        let now = self.app.app.clock.db_now();
        let card = stored_card::Model {
            id,
            tenant_id: self.hotel.id,
            user_id: Some(self.hotel.admin.id),
            stripe_payment_method_id: name.to_owned(),
            brand: CardBrand::Visa,
            last4: "4242".to_owned(),
            exp_month: 12,
            exp_year: 2030,
            fingerprint: None,
            is_default: false,
            created_at: now,
            updated_at: now,
            removed_at: None,
        };
        let insert = stored_card::Entity::insert(card.into_active_model());
        insert.exec_without_returning(self.app.app.db.writer()).await.unwrap();
        id
    }

    async fn buys_by_card(&self, key: &str, card: &str) -> Value {
        let change = json!({ "paymentMethod": "STORED_CARD", "storedCardId": card,
            "stripePaymentMethodId": null });
        self.buys(key, change).await
    }
}

#[tokio::test]
async fn a_stored_card_is_charged_off_session() {
    let shop = Shop::open().await;
    let card = shop.has_card("pm_card_visa").await.to_string();

    let done = shop.buys_by_card("by-a-stored-card", &card).await;

    assert_eq!(done["purchase"]["status"], "COMPLETED", "{done}");
    let asked = shop.stripe.asked("POST /payment_intents").remove(0);
    assert_eq!(asked.form.get("payment_method"), Some("pm_card_visa"));
    assert_eq!(asked.form.get("off_session"), Some("true"));
    assert_eq!(shop.buys_by_card("by-a-stored-card", &card).await, done);
    shop.adds_up(500, 1).await;
}

#[tokio::test]
async fn a_bank_that_wants_the_buyer_of_a_stored_card_leaves_them_a_way() {
    let shop = Shop::open().await;
    let card = shop.has_card("pm_card_authenticationRequired").await.to_string();

    let asked = shop.buys_by_card("the-bank-wants-them", &card).await;

    let purchase = &asked["purchase"];
    assert_eq!(purchase["status"], "REQUIRES_ACTION", "{asked}");
    assert_eq!(asked["userErrors"], json!([]));
    assert!(purchase["clientSecret"].is_string());
    shop.hears(&shop.stripe.event("payment_intent.payment_failed")).await;
    shop.reconciles_after(chrono::TimeDelta::minutes(5)).await;
    assert_eq!(shop.purchase(&purchase["id"]).await["status"], "REQUIRES_ACTION");
    shop.adds_up(0, 0).await;

    // The page confirms the same payment with them, by the same card.
    let intent = purchase["paymentIntentId"].as_str().unwrap();
    shop.stripe.change(intent, |intent| intent["status"] = json!("requires_action"));
    shop.stripe.authenticate(intent, true);
    assert_eq!(shop.confirms(&purchase["id"]).await["purchase"]["status"], "COMPLETED");
    shop.adds_up(500, 1).await;
}

#[tokio::test]
async fn a_stored_card_goes_with_its_method_alone() {
    let shop = Shop::open().await;
    let card = shop.has_card("pm_card_visa").await.to_string();
    let page = json!("pm_card_visa");
    for (method, stored, of_page, field) in [
        ("STORED_CARD", Value::Null, Value::Null, "storedCardId"),
        ("STORED_CARD", json!(card), page.clone(), "stripePaymentMethodId"),
        ("STRIPE", json!(card), page, "storedCardId"),
    ] {
        let change = json!({ "paymentMethod": method, "storedCardId": stored,
            "stripePaymentMethodId": of_page });
        let refused = shop.buys("goes-with-its-method", change).await;
        let error = &refused["userErrors"][0];
        assert_eq!((&error["code"], &error["field"][1]), (&json!("INVALID_INPUT"), &json!(field)));
    }
    assert!(shop.stripe.asked("POST /payment_intents").is_empty());
}

#[tokio::test]
async fn a_strangers_card_looks_missing_and_a_removed_one_is_refused() {
    let shop = Shop::open().await;
    let stranger = shop.app.hotel().await;
    let card = shop.has_card("pm_card_visa").await;
    let theirs = card.to_string();
    let input = json!({ "packageId": shop.package, "paymentMethod": "STORED_CARD",
        "storedCardId": theirs, "idempotencyKey": "by-a-strangers-card" });
    let refused = super::buys(&stranger.admin, input).await;
    assert_eq!(refused["userErrors"][0]["code"], "NOT_FOUND", "{refused}");

    let sql = "UPDATE stored_cards SET removed_at = created_at WHERE id = $1";
    let txn = shop.app.app.db.begin().await.unwrap();
    musubi::db::execute(&*txn, sql, vec![card.into()]).await.unwrap();
    txn.commit().await.unwrap();
    let refused = shop.buys_by_card("by-a-removed-card", &theirs).await;
    assert_eq!(refused["userErrors"][0]["code"], "INVALID_STATE", "{refused}");
    assert!(shop.stripe.asked("POST /payment_intents").is_empty());
}
