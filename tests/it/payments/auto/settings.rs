//! What an ADMIN decides about automatic purchase.

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::{STATE, updates};
use crate::payments::{Shop, package};

#[tokio::test]
async fn it_is_off_until_an_admin_switches_it_on_with_all_that_it_takes() {
    let shop = Shop::open().await;
    let admin = &shop.hotel.admin;
    let cap = json!({ "enabled": true, "monthlyCapYen": 10_000 });
    let before = &admin.gets(STATE, json!({})).await["creditAccount"]["autoPurchase"];
    assert_eq!((&before["enabled"], &before["threshold"]), (&json!(false), &json!(50)));
    assert_eq!(before["purchaseAmount"], 500);
    assert_eq!(before["state"]["monthlyCap"], Value::Null);

    let no_card = updates(admin, cap.clone()).await;
    shop.keeps("pm_card_visa", "print").await;
    let no_cap = updates(admin, json!({ "enabled": true })).await;
    let low_cap = updates(admin, json!({ "enabled": true, "monthlyCapYen": 499 })).await;
    let too_low = json!({ "enabled": true, "monthlyCapYen": 10_000, "threshold": 500,
                          "amount": 501 });
    let no_package = updates(admin, too_low).await;
    let done = updates(admin, cap).await;

    for (refused, code, field) in [
        (&no_card, "INVALID_STATE", "enabled"),
        (&no_cap, "INVALID_INPUT", "monthlyCapYen"),
        (&low_cap, "INVALID_INPUT", "monthlyCapYen"),
        (&no_package, "INVALID_STATE", "amount"),
    ] {
        let error = &refused["userErrors"][0];
        assert_eq!((&error["code"], &error["field"]), (&json!(code), &json!(["input", field])));
        assert_eq!(refused["autoPurchase"], Value::Null);
    }
    assert_eq!(done["userErrors"], json!([]));
    let now = &done["autoPurchase"];
    assert_eq!((&now["enabled"], &now["purchaseAmount"]), (&json!(true), &json!(500)));
    assert_eq!(now["state"]["monthlyCap"]["amount"], "10000");
}

#[tokio::test]
async fn numbers_that_make_no_sense_are_refused_with_their_paths() {
    let shop = Shop::open().await;
    for (input, field) in [
        (json!({ "threshold": -1 }), "threshold"),
        (json!({ "amount": 0 }), "amount"),
        (json!({ "amount": 50 }), "amount"),
        (json!({ "threshold": 500 }), "amount"),
        (json!({ "monthlyCapYen": 0 }), "monthlyCapYen"),
        (json!({ "monthlyCapYen": -5 }), "monthlyCapYen"),
        (json!({ "amount": 2_000_000_001 }), "amount"),
    ] {
        let refused = updates(&shop.hotel.admin, input.clone()).await;
        let error = &refused["userErrors"][0];
        assert_eq!(error["code"], "INVALID_INPUT", "{input}: {refused}");
        assert_eq!(error["field"], json!(["input", field]), "{input}");
    }
    let reserved = shop.buys("by-no-human-hand", json!({ "source": "AUTO_PURCHASE" })).await;
    assert_eq!(reserved["userErrors"][0]["field"], json!(["input", "source"]));
    shop.adds_up(0, 0).await;
}

#[tokio::test]
async fn the_record_tells_what_was_changed_and_what_stayed_is_left_out() {
    let shop = Shop::open().await;
    shop.buys_by_itself("pm_card_visa").await;
    updates(&shop.hotel.admin, json!({ "threshold": 80 })).await;
    updates(&shop.hotel.admin, json!({ "enabled": false })).await;

    let sql = "SELECT action AS kind, changes AS data FROM system_event
               WHERE action = 'AUTO_PURCHASE_CHANGED' ORDER BY occurred_at, id";
    let rows: Vec<crate::payments::Raised> =
        musubi::db::all(shop.app.app.db.primary(), sql, vec![]).await.unwrap();

    let changes: Vec<Value> = rows.into_iter().map(|row| row.data).collect();
    assert_eq!(
        changes,
        [
            json!({ "enabled": { "before": false, "after": true },
                    "monthlyCap": { "before": null, "after": 100_000 } }),
            json!({ "threshold": { "before": 50, "after": 80 } }),
            json!({ "enabled": { "before": true, "after": false } }),
        ]
    );
    let refused = shop.hotel.user.executes("hello", "after-it-was-switched-off").await;
    assert_eq!(refused["userErrors"][0]["code"], "INSUFFICIENT_CREDITS");
    shop.adds_up(0, 0).await;
}

#[tokio::test]
async fn the_smallest_package_with_as_many_credits_is_bought_else_the_largest() {
    let shop = Shop::open().await;
    for (credits, price) in [(100, 200), (1_000, 900), (5_000, 4_000)] {
        let change = json!({ "credits": credits, "priceYen": price });
        package(&shop.app, change).await;
    }
    shop.buys_by_itself("pm_card_visa").await;
    for (number, (amount, credits)) in [(100, 100), (501, 1_000), (9_000, 5_000)].iter().enumerate()
    {
        let input = json!({ "amount": amount, "threshold": 0 });
        assert_eq!(updates(&shop.hotel.admin, input).await["userErrors"], json!([]));
        let txn = shop.app.app.db.begin().await.unwrap();
        let sql = "UPDATE ai_credit_accounts SET auto_purchase_due_at = updated_at,
                   auto_purchase_threshold = current_balance + 1";
        musubi::db::execute(&*txn, sql, vec![]).await.unwrap();
        txn.commit().await.unwrap();

        shop.app.clock.advance(TimeDelta::minutes(11));
        shop.works_by_itself().await;

        assert_eq!(shop.stripe.charges().len(), number + 1);
        let bought = &shop.state().await["lastAttempt"]["purchase"]["credits"];
        assert_eq!(bought, credits, "for {amount}");
    }
}
