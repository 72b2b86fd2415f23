//! Buying with a card: what is asked of Stripe, what comes back, what the buyer is told.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{Shop, buys, package};
use crate::support::TestApp;

#[tokio::test]
async fn what_is_paid_becomes_credits_and_500_yen_arrive_as_500() {
    let shop = Shop::open().await;

    let done = shop.buys("the-first-purchase", json!({})).await;

    let purchase = &done["purchase"];
    assert_eq!(done["userErrors"], json!([]));
    assert_eq!(purchase["status"], "COMPLETED");
    assert_eq!(purchase["price"], json!({ "amount": "500", "currency": "JPY" }));
    let line = json!({ "type": "PURCHASE", "credits": 500, "balanceAfter": 500 });
    assert_eq!(purchase["transaction"], line);
    assert_eq!(done["balance"]["current"], 500);
    assert_eq!(purchase["clientSecret"], Value::Null);
    let charge = &shop.stripe.charges()[0];
    assert_eq!((&charge["amount"], &charge["currency"]), (&json!(500), &json!("jpy")));
    assert_eq!(charge["id"], purchase["paymentIntentId"]);
    assert_eq!(charge["metadata"]["musubi_purchase"], purchase["id"]);
    let account = shop.hotel.account().await.id.to_string();
    assert_eq!(charge["metadata"]["musubi_account"], account);
    shop.adds_up(500, 1).await;
}

#[tokio::test]
async fn the_same_key_buys_once_however_often_and_at_once() {
    let shop = Shop::open().await;

    let asks = (0..20).map(|_| shop.buys("pressed-many-times", json!({})));
    let answers = join_all(asks).await;
    let again = shop.buys("pressed-many-times", json!({})).await;
    let other = shop.buys("pressed-many-times", json!({ "source": "LOW_BALANCE_PROMPT" })).await;

    for answer in &answers {
        assert_eq!(answer["purchase"]["id"], again["purchase"]["id"]);
    }
    assert_eq!(again["purchase"]["status"], "COMPLETED");
    assert_eq!(other["userErrors"][0]["code"], "IDEMPOTENCY_CONFLICT");
    assert_eq!(shop.number("SELECT COUNT(*) AS number FROM credit_purchases").await, 1);
    shop.adds_up(500, 1).await;
}

#[tokio::test]
async fn many_first_purchases_at_once_make_one_customer() {
    let shop = Shop::open().await;
    let replica = shop.app.replica().await;
    let there = shop.hotel.admin.on(&replica);

    let keys: Vec<String> = (0..12).map(|number| format!("purchase-number-{number}")).collect();
    let asks = keys.iter().enumerate().map(|(number, key)| {
        let person = if number % 2 == 0 { &shop.hotel.admin } else { &there };
        buys(person, shop.input(key, json!({})))
    });
    let answers = join_all(asks).await;

    let is_done = |answer: &&Value| answer["purchase"]["status"] == "COMPLETED";
    let done = answers.iter().filter(is_done).count();
    // Who was told that the key is in use waits for the reconciler.
    shop.reconciles_after(chrono::TimeDelta::minutes(3)).await;
    assert!(done > 0);
    assert_eq!(shop.stripe.customers(), 1);
    let charges = shop.stripe.charges().len();
    shop.adds_up(500 * i64::try_from(charges).unwrap(), charges).await;
}

#[tokio::test]
async fn a_declined_card_says_why_and_costs_nothing() {
    let shop = Shop::open().await;
    for (card, code) in [
        ("pm_card_chargeDeclined", "CARD_DECLINED"),
        ("pm_card_chargeDeclinedInsufficientFunds", "INSUFFICIENT_FUNDS"),
        ("pm_card_chargeDeclinedExpiredCard", "EXPIRED_CARD"),
        ("pm_card_chargeDeclinedIncorrectCvc", "INCORRECT_CARD"),
        ("pm_card_chargeDeclinedProcessingError", "PROCESSING_ERROR"),
        ("pm_card_unheardOf", "CARD_DECLINED"),
        ("pm_used_up", "PAYMENT_REFUSED"),
    ] {
        let key = format!("a-purchase-by-{card}");
        let refused = shop.buys_with(&key, card).await;
        assert_eq!(refused["userErrors"][0]["code"], "PAYMENT_FAILED", "{card}: {refused}");
        let purchase = &refused["purchase"];
        assert_eq!(
            (&purchase["status"], &purchase["failureCode"]),
            (&json!("FAILED"), &json!(code))
        );
        assert_eq!(purchase["errorMessage"], refused["userErrors"][0]["message"]);
        assert_eq!(purchase["transaction"], Value::Null);
        // The key keeps its answer, and asks nobody for it.
        let asked = shop.stripe.asked("POST /payment_intents").len();
        assert_eq!(shop.buys_with(&key, card).await, refused);
        assert_eq!(shop.stripe.asked("POST /payment_intents").len(), asked);
    }
    shop.adds_up(0, 0).await;

    let paid = shop.buys("with-another-card", json!({})).await;
    assert_eq!(paid["purchase"]["status"], "COMPLETED");
    shop.adds_up(500, 1).await;
}

#[tokio::test]
async fn a_bank_that_asks_is_answered_and_the_purchase_confirmed() {
    let shop = Shop::open().await;

    let asked = shop.buys_with("the-bank-asks", "pm_card_authenticationRequired").await;
    let purchase = &asked["purchase"];
    assert_eq!(
        (&purchase["status"], &asked["userErrors"]),
        (&json!("REQUIRES_ACTION"), &json!([]))
    );
    let intent = purchase["paymentIntentId"].as_str().unwrap();
    assert_eq!(purchase["clientSecret"], format!("{intent}_secret_double"));
    let too_early = shop.confirms(&purchase["id"]).await;
    assert_eq!(too_early["purchase"]["status"], "REQUIRES_ACTION");
    shop.adds_up(0, 0).await;
    let clear = shop.number(
        "SELECT COUNT(*) AS number FROM credit_purchases WHERE CAST(client_secret AS text)
         LIKE '%secret_double%'",
    );
    assert_eq!(clear.await, 0, "the secret is sealed");

    shop.stripe.authenticate(intent, true);
    let done = shop.confirms(&purchase["id"]).await;
    assert_eq!(done["purchase"]["status"], "COMPLETED");
    assert_eq!(done["purchase"]["clientSecret"], Value::Null);
    assert_eq!(shop.confirms(&purchase["id"]).await, done);
    shop.adds_up(500, 1).await;
}

#[tokio::test]
async fn a_buyer_who_fails_their_bank_pays_nothing_and_may_still_pay_later() {
    let shop = Shop::open().await;
    let asked = shop.buys_with("the-bank-asks", "pm_card_authenticationRequired").await;
    let purchase = &asked["purchase"];
    let intent = purchase["paymentIntentId"].as_str().unwrap();

    shop.stripe.authenticate(intent, false);
    let failed = shop.confirms(&purchase["id"]).await;
    assert_eq!(failed["purchase"]["failureCode"], "AUTHENTICATION_FAILED");
    assert_eq!(failed["userErrors"][0]["code"], "PAYMENT_FAILED");
    shop.adds_up(0, 0).await;

    // The page tries the same payment with another card.
    shop.stripe.change(intent, |intent| {
        intent["status"] = json!("succeeded");
        intent["amount_received"] = json!(500);
        intent["last_payment_error"] = Value::Null;
    });
    let event = shop.stripe.makes_event("payment_intent.succeeded", &shop.stripe.intents()[0]);
    shop.hears(&event).await;
    assert_eq!(shop.purchase(&purchase["id"]).await["status"], "COMPLETED");
    shop.adds_up(500, 1).await;
}

#[tokio::test]
async fn what_the_page_confirmed_is_paid_and_its_card_kept_when_asked() {
    let shop = Shop::open().await;
    let input = json!({ "stripePaymentMethodId": null, "stripeConfirmationTokenId": "ctoken_1a2B",
        "saveCard": true, "returnUrl": "https://app.example/credits?done=1" });

    let done = shop.buys("by-a-confirmation-token", input).await;

    assert_eq!(done["purchase"]["status"], "COMPLETED", "{done}");
    let asked = shop.stripe.asked("POST /payment_intents").remove(0);
    assert_eq!(asked.form.get("confirmation_token"), Some("ctoken_1a2B"));
    assert_eq!(asked.form.get("payment_method"), None);
    assert_eq!(asked.form.get("setup_future_usage"), Some("off_session"));
    assert_eq!(asked.form.get("return_url"), Some("https://app.example/credits?done=1"));
    assert_eq!(asked.key.as_deref(), done["purchase"]["id"].as_str());
    shop.adds_up(500, 1).await;
}

#[tokio::test]
async fn bad_values_are_refused_with_their_paths_and_nobody_is_asked() {
    let shop = Shop::open().await;
    for (change, field) in [
        (json!({ "stripePaymentMethodId": null }), "stripePaymentMethodId"),
        (json!({ "stripeConfirmationTokenId": "ctoken_1" }), "stripePaymentMethodId"),
        (json!({ "stripePaymentMethodId": "4242424242424242" }), "stripePaymentMethodId"),
        (json!({ "stripePaymentMethodId": "pm_1&amount=1" }), "stripePaymentMethodId"),
        (
            json!({ "stripePaymentMethodId": format!("pm_{}", "1".repeat(300)) }),
            "stripePaymentMethodId",
        ),
        (json!({ "returnUrl": "javascript:alert(1)" }), "returnUrl"),
        (json!({ "returnUrl": "https://user:word@evil.test/" }), "returnUrl"),
        (json!({ "returnUrl": "https://evil.test\\@app.example/" }), "returnUrl"),
        (json!({ "idempotencyKey": "short" }), "idempotencyKey"),
    ] {
        let refused = shop.buys("a-key-of-its-own", change.clone()).await;
        let error = &refused["userErrors"][0];
        assert_eq!(error["code"], "INVALID_INPUT", "{change}: {refused}");
        assert_eq!(error["field"], json!(["input", field]), "{change}: {refused}");
    }
    assert!(shop.stripe.asked("POST /payment_intents").is_empty());
    assert_eq!(shop.number("SELECT COUNT(*) AS number FROM credit_purchases").await, 0);
}

#[tokio::test]
async fn a_package_that_is_not_on_sale_is_not_sold() {
    let shop = Shop::open().await;
    let coming = package(&shop.app, json!({ "validFrom": "2027-01-01" })).await;
    let others = package(&shop.app, json!({ "planType": "ENTERPRISE" })).await;
    for id in [&coming, &others] {
        let refused = shop.buys("not-for-sale-here", json!({ "packageId": id })).await;
        assert_eq!(refused["userErrors"][0]["code"], "INVALID_STATE", "{refused}");
    }
    // The price is the row's at the time of the purchase, whatever becomes of it.
    let done = shop.buys("at-the-old-price", json!({})).await;
    let root = shop.app.platform_admin(None).await;
    let query = "mutation ($id: ID!) { creditPackageUpdate(input: { id: $id, priceYen: 900 }) {
        package { version } } }";
    root.gets(query, json!({ "id": shop.package })).await;
    let purchase = shop.purchase(&done["purchase"]["id"]).await;
    assert_eq!(purchase["price"]["amount"], "500");
    let next = shop.buys("at-the-new-price", json!({})).await;
    assert_eq!(next["purchase"]["price"]["amount"], "900");
    assert_eq!(shop.stripe.charges()[1]["amount"], 900);
    shop.adds_up(1_000, 2).await;
}

#[tokio::test]
async fn a_quote_tells_what_is_in_the_price_and_buys_nothing() {
    let shop = Shop::open().await;
    let change = json!({ "credits": 1_000, "priceYen": 8_800, "discountRate": "12" });
    let package = package(&shop.app, change).await;
    let query = "query ($id: ID!) { creditPurchaseQuote(packageId: $id) { package { credits }
        subtotal { amount } discount { type amount { amount } percentage } tax { amount } taxRate
        total { amount } runwayAfter { daysLeft } } }";

    let quote = shop.hotel.admin.gets(query, json!({ "id": package })).await;

    let expected = json!({ "package": { "credits": 1_000 }, "subtotal": { "amount": "10000" },
        "discount": { "type": "PACKAGE", "amount": { "amount": "1200" }, "percentage": "12" },
        "tax": { "amount": "800" }, "taxRate": "10", "total": { "amount": "8800" },
        "runwayAfter": { "daysLeft": null } });
    assert_eq!(quote["creditPurchaseQuote"], expected);
    assert!(shop.stripe.asked("POST /customers").is_empty());
    shop.adds_up(0, 0).await;
}

#[tokio::test]
async fn without_a_key_the_sandbox_plays_stripe() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let package = package(&app, json!({})).await;
    let input = |key: &str, card: &str| {
        json!({ "packageId": package, "paymentMethod": "STRIPE", "stripePaymentMethodId": card,
                "idempotencyKey": key })
    };
    let buys = async |card: &str| buys(&hotel.admin, input(&format!("key-{card}"), card)).await;

    assert_eq!(buys("pm_card_visa").await["purchase"]["status"], "COMPLETED");
    let declined = buys("pm_card_chargeDeclinedInsufficientFunds").await;
    assert_eq!(declined["purchase"]["failureCode"], "INSUFFICIENT_FUNDS");
    let asked = buys("pm_card_authenticationRequired").await;
    assert_eq!(asked["purchase"]["status"], "REQUIRES_ACTION");
    assert!(asked["purchase"]["clientSecret"].is_string());
    let query = "mutation ($id: ID!) { creditPurchaseConfirm(id: $id) { purchase { status } } }";
    let done = hotel.admin.gets(query, json!({ "id": asked["purchase"]["id"] })).await;
    assert_eq!(done["creditPurchaseConfirm"]["purchase"]["status"], "COMPLETED");
    assert_eq!(hotel.balance().await, (1_000, 0));
    assert_eq!(app.drifts().await, Vec::<String>::new());
}

#[tokio::test]
async fn the_buyer_is_told_by_mail_once_that_the_credits_are_there() {
    let shop = Shop::open().await;
    let done = shop.buys("tell-me-by-mail", json!({})).await;
    shop.hears(&shop.stripe.event("payment_intent.succeeded")).await;
    shop.buys_with("not-paid-at-all", "pm_card_chargeDeclined").await;

    shop.app.send_mails().await;

    let mails = shop.app.outbox.mails();
    assert_eq!(mails.len(), 1);
    let people = [shop.hotel.admin.id];
    let found = musubi::identity::users(&shop.app.app, &shop.hotel.admin.actor, &people);
    let admin = found.await.unwrap().remove(0);
    assert_eq!(mails[0].to, musubi::identity::email_of(&shop.app.app, &admin).unwrap());
    let id = done["purchase"]["id"].as_str().unwrap();
    assert!(mails[0].text.contains("500クレジット") && mails[0].text.contains(id));
}
