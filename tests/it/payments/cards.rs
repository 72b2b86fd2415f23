//! Stored cards: set up, listed, changed, removed; told of in any order, and stored once.

use chrono::TimeDelta;
use futures_util::future::join_all;
use musubi::payments::service::inbox::Receipt;
use serde_json::{Value, json};

use super::{Shop, deliver, deliver_often};
use crate::support::TestApp;
use crate::support::people::Person;
use crate::support::stripe::Fault;

pub(super) const CARD: &str = "id brand last4 expMonth expYear isDefault isExpired createdAt";
const DETACH: &str = "POST /payment_methods/ID/detach";

/// The payload of a setup that somebody begins.
pub(crate) async fn begins(person: &Person, input: Value) -> Value {
    let query = format!(
        "mutation ($input: CardSetupBeginInput!) {{ cardSetupBegin(input: $input) {{
         setup {{ id clientSecret status }} card {{ {CARD} }} userErrors {{ code message }} }} }}"
    );
    person.gets(&query, json!({ "input": input })).await["cardSetupBegin"].clone()
}

async fn confirms(person: &Person, setup: &Value) -> Value {
    let query = format!(
        "mutation ($id: String!) {{ cardSetupConfirm(setupIntentId: $id) {{
         setup {{ id clientSecret status }} card {{ {CARD} }} userErrors {{ code message }} }} }}"
    );
    person.gets(&query, json!({ "id": setup })).await["cardSetupConfirm"].clone()
}

async fn changes(person: &Person, field: &str, id: &Value) -> Value {
    let query = format!(
        "mutation ($id: ID!) {{ it: {field}(id: $id) {{
         card {{ {CARD} }} userErrors {{ code message }} }} }}"
    );
    person.gets(&query, json!({ "id": id })).await["it"].clone()
}

pub(super) async fn listed(person: &Person) -> Vec<Value> {
    let query = format!("{{ storedCards {{ {CARD} }} }}");
    person.gets(&query, json!({})).await["storedCards"].as_array().unwrap().clone()
}

impl Shop {
    /// A card of the hotel's that Stripe treats as the test method of this name.
    pub(super) async fn stores(&self, name: &str) -> Value {
        let key = format!("stores-{}", musubi::ids::new_uuid());
        let begun = begins(&self.hotel.admin, json!({ "idempotencyKey": key })).await;
        let setup = &begun["setup"]["id"];
        self.stripe.page_gives(setup.as_str().unwrap(), name);
        if name == "pm_card_authenticationRequired" {
            self.stripe.authenticate_setup(setup.as_str().unwrap());
        }
        let done = confirms(&self.hotel.admin, setup).await;
        assert_eq!(done["userErrors"], json!([]), "{done}");
        done["card"].clone()
    }

    pub(super) async fn cards(&self) -> Vec<Value> {
        listed(&self.hotel.admin).await
    }

    pub(super) async fn removes(&self, card: &Value) -> Value {
        changes(&self.hotel.admin, "cardRemove", &card["id"]).await
    }

    /// Stripe's ids of the cards that are stored, the newest first.
    pub(super) async fn methods(&self) -> Vec<String> {
        #[derive(sea_orm::FromQueryResult)]
        struct Row {
            stripe_payment_method_id: String,
        }
        let sql = "SELECT stripe_payment_method_id FROM stored_cards ORDER BY id DESC";
        let rows: Vec<Row> = musubi::db::all(self.app.app.db.primary(), sql, vec![]).await.unwrap();
        rows.into_iter().map(|row| row.stripe_payment_method_id).collect()
    }

    async fn stored(&self) -> i64 {
        self.number("SELECT COUNT(*) AS number FROM stored_cards").await
    }
}

#[tokio::test]
async fn a_card_that_the_page_gives_to_stripe_is_stored_and_listed() {
    let shop = Shop::open().await;
    let admin = &shop.hotel.admin;

    let begun = begins(admin, json!({ "idempotencyKey": "stores-a-card" })).await;
    let setup = &begun["setup"];
    assert_eq!(
        (&setup["status"], &begun["card"]),
        (&json!("REQUIRES_PAYMENT_METHOD"), &Value::Null)
    );
    let id = setup["id"].as_str().unwrap();
    assert_eq!(setup["clientSecret"], format!("{id}_secret_double"));
    let asked = shop.stripe.asked("POST /setup_intents").remove(0);
    assert_eq!(asked.form.get("metadata[musubi_tenant]"), Some(&*shop.hotel.id.to_string()));
    assert_eq!(asked.form.get("customer"), Some(&*shop.stripe.customer()));
    assert_eq!(confirms(admin, &setup["id"]).await["card"], Value::Null, "too early");
    // The same key begins nothing new, and tells how it stands.
    let again = begins(admin, json!({ "idempotencyKey": "stores-a-card" })).await;
    assert_eq!(again["setup"], *setup);

    shop.stripe.page_gives(id, "pm_card_visa");
    let done = confirms(admin, &setup["id"]).await;

    let card = &done["card"];
    assert_eq!(done["setup"]["status"], "SUCCEEDED", "{done}");
    assert_eq!((&card["brand"], &card["last4"]), (&json!("VISA"), &json!("4242")));
    assert_eq!((&card["expMonth"], &card["expYear"]), (&json!(8), &json!(2030)));
    assert_eq!((&card["isDefault"], &card["isExpired"]), (&json!(true), &json!(false)));
    assert_eq!(confirms(admin, &setup["id"]).await, done);
    let again = begins(admin, json!({ "idempotencyKey": "stores-a-card" })).await;
    assert_eq!(again, done);
    let second = shop.stores("pm_card_mastercard").await;
    assert_eq!((&second["brand"], &second["isDefault"]), (&json!("MASTERCARD"), &json!(false)));
    assert_eq!(shop.cards().await, [second, card.clone()]);
    assert_eq!(shop.stripe.customers(), 1);
}

#[tokio::test]
async fn a_card_is_stored_once_whoever_tells_of_it_first() {
    let shop = Shop::open().await;
    let admin = &shop.hotel.admin;
    let replica = shop.app.replica().await;
    let begun = begins(admin, json!({ "idempotencyKey": "told-by-everybody" })).await;
    let setup = &begun["setup"]["id"];
    shop.stripe.page_gives(setup.as_str().unwrap(), "pm_card_visa");
    let event = shop.stripe.event("setup_intent.succeeded");
    let other = shop.stripe.makes_event("setup_intent.succeeded", &event["data"]["object"]);
    let there = admin.on(&replica);

    deliver_often(&shop.app.app, &event, 30).await;
    deliver(&replica, &other).await;
    tokio::join!(
        shop.works(),
        shop.works(),
        join_all((0..4).map(|_| confirms(admin, setup))),
        join_all((0..4).map(|_| confirms(&there, setup))),
    );

    assert_eq!(shop.stored().await, 1);
    assert_eq!(shop.cards().await[0]["isDefault"], true);
    let lines = "SELECT COUNT(*) AS number FROM system_event WHERE action = 'CARD_STORED'";
    assert_eq!(shop.number(lines).await, 1);
}

#[tokio::test]
async fn a_card_that_the_page_has_confirmed_is_set_up_at_once() {
    let shop = Shop::open().await;
    let admin = &shop.hotel.admin;
    let input = json!({ "stripeConfirmationTokenId": "ctoken_1a2B", "idempotencyKey": "by-a-token",
        "returnUrl": "https://app.example/cards" });
    let done = begins(admin, input).await;
    assert_eq!(
        (&done["setup"]["status"], &done["card"]["last4"]),
        (&json!("SUCCEEDED"), &json!("4242"))
    );

    let input = json!({ "stripePaymentMethodId": "pm_card_authenticationRequired",
        "idempotencyKey": "the-bank-asks" });
    let asked = begins(admin, input).await;
    let setup = &asked["setup"];
    assert_eq!((&setup["status"], &asked["card"]), (&json!("REQUIRES_ACTION"), &Value::Null));
    shop.stripe.authenticate_setup(setup["id"].as_str().unwrap());
    assert_eq!(confirms(admin, &setup["id"]).await["card"]["last4"], "3184");

    let input = json!({ "stripePaymentMethodId": "pm_card_chargeDeclined",
        "idempotencyKey": "is-declined" });
    for _ in 0..2 {
        let refused = begins(admin, input.clone()).await;
        assert_eq!(refused["userErrors"][0]["code"], "PAYMENT_FAILED", "{refused}");
    }
    assert_eq!(shop.stored().await, 2);
}

#[tokio::test]
async fn bad_values_and_strangers_setups_are_refused() {
    let shop = Shop::open().await;
    let admin = &shop.hotel.admin;
    for change in [
        json!({ "stripePaymentMethodId": "4242424242424242" }),
        json!({ "stripeConfirmationTokenId": "pm_1" }),
        json!({ "stripePaymentMethodId": "pm_1", "stripeConfirmationTokenId": "ctoken_1" }),
        json!({ "returnUrl": "javascript:alert(1)" }),
        json!({ "idempotencyKey": "short" }),
    ] {
        let mut input = json!({ "idempotencyKey": "of-bad-values" });
        input.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let refused = begins(admin, input).await;
        assert_eq!(refused["userErrors"][0]["code"], "INVALID_INPUT", "{change}");
    }
    assert_eq!(shop.stripe.customers(), 0);
    let begun = begins(admin, json!({ "idempotencyKey": "the-hotels-own" })).await;
    let id = begun["setup"]["id"].as_str().unwrap().to_owned();
    shop.stripe.page_gives(&id, "pm_card_visa");
    let stranger = shop.app.hotel().await;
    let asked = shop.stripe.asked("GET /setup_intents/ID").len();
    for unknown in ["seti_1/cancel", "seti_あ", "pi_1", "", "../customers"] {
        let refused = confirms(admin, &json!(unknown)).await;
        assert_eq!(refused["userErrors"][0]["code"], "NOT_FOUND", "{unknown}");
    }
    assert_eq!(shop.stripe.asked("GET /setup_intents/ID").len(), asked, "nobody is asked");
    for id in [id.as_str(), "seti_of_nobody"] {
        let refused = confirms(&stranger.admin, &json!(id)).await;
        assert_eq!(refused["userErrors"][0]["code"], "NOT_FOUND", "{id}");
    }
    // Events of setups that are not ours, or of other money.
    let told = shop.stripe.event("setup_intent.succeeded")["data"]["object"].clone();
    for (field, value) in [("livemode", json!(true)), ("metadata", json!({})), ("id", Value::Null)]
    {
        let mut foreign = told.clone();
        foreign[field] = value;
        shop.hears(&shop.stripe.makes_event("setup_intent.succeeded", &foreign)).await;
    }
    let mut of_stranger = told;
    of_stranger["metadata"]["musubi_tenant"] = json!(stranger.id.to_string());
    shop.hears(&shop.stripe.makes_event("setup_intent.succeeded", &of_stranger)).await;
    assert_eq!(shop.stored().await, 0);
}

#[tokio::test]
async fn twenty_who_begin_at_once_on_two_nodes_share_one_customer() {
    let shop = Shop::open().await;
    let replica = shop.app.replica().await;
    let there = shop.hotel.admin.on(&replica);
    let begin = |number: usize| {
        let person = if number.is_multiple_of(2) { &shop.hotel.admin } else { &there };
        let query = "mutation ($input: CardSetupBeginInput!) { cardSetupBegin(input: $input) {
            setup { id } } }";
        let input = json!({ "idempotencyKey": format!("card-number-{number}") });
        async move {
            let reply = person.asks(query, json!({ "input": input })).await;
            reply["data"]["cardSetupBegin"]["setup"]["id"].as_str().map(str::to_owned)
        }
    };

    let begun = join_all((0..20).map(&begin)).await;
    // Who was told that Stripe is busy asks again with their key.
    let again = join_all((0..20).map(&begin)).await;

    assert!(begun.iter().any(Option::is_some));
    assert!(again.iter().all(Option::is_some));
    for (first, second) in begun.iter().zip(&again) {
        assert!(first.is_none() || first == second);
    }
    assert_eq!(shop.stripe.customers(), 1);
}

#[tokio::test]
async fn a_tenant_has_twenty_cards_at_most() {
    let shop = Shop::open().await;
    let admin = &shop.hotel.admin;
    let begun = begins(admin, json!({ "idempotencyKey": "begun-in-time" })).await;
    for _ in 0..20 {
        crate::schema::ids::a_card(&shop.app.app, &shop.hotel).await;
    }

    let refused = begins(admin, json!({ "idempotencyKey": "one-too-many" })).await;
    assert_eq!(refused["userErrors"][0]["code"], "LIMIT_REACHED", "{refused}");
    let refused = shop.buys("keeps-one-too-many", json!({ "saveCard": true })).await;
    assert_eq!(refused["userErrors"][0]["code"], "LIMIT_REACHED", "{refused}");

    // One that was begun before is given up by Stripe again.
    let setup = &begun["setup"]["id"];
    shop.stripe.page_gives(setup.as_str().unwrap(), "pm_card_visa");
    assert_eq!(confirms(admin, setup).await["userErrors"][0]["code"], "LIMIT_REACHED");
    shop.hears(&shop.stripe.event("setup_intent.succeeded")).await;
    assert_eq!((shop.cards().await.len(), shop.stored().await), (20, 20));
    assert_eq!(shop.stripe.attached(), Vec::<String>::new());
    shop.adds_up(0, 0).await;
}

#[tokio::test]
async fn the_default_moves_as_it_is_told_and_when_it_is_removed() {
    let shop = Shop::open().await;
    let admin = &shop.hotel.admin;
    let (first, second, third) = (
        shop.stores("pm_card_visa").await,
        shop.stores("pm_card_mastercard").await,
        shop.stores("pm_card_visa").await,
    );
    let defaults = async || -> Vec<Value> {
        let cards = shop.cards().await;
        let defaults = cards.iter().filter(|card| card["isDefault"] == true);
        defaults.map(|card| card["id"].clone()).collect()
    };

    let set = changes(admin, "cardDefaultSet", &second["id"]).await;
    assert_eq!(set["card"]["isDefault"], true, "{set}");
    assert_eq!(changes(admin, "cardDefaultSet", &second["id"]).await["userErrors"], json!([]));
    assert_eq!(defaults().await, [second["id"].clone()]);

    let removed = shop.removes(&second).await;
    assert_eq!(removed["userErrors"], json!([]));
    assert_eq!(defaults().await, [third["id"].clone()]);
    assert_eq!(shop.cards().await.len(), 2);
    assert_eq!(shop.stripe.attached().len(), 3, "Stripe is told by the queue");
    assert_eq!(shop.removes(&second).await["card"]["id"], second["id"]);
    shop.works().await;
    assert_eq!(shop.stripe.attached().len(), 2);
    assert_eq!(shop.stripe.asked(DETACH).len(), 1);
    let refused = changes(admin, "cardDefaultSet", &second["id"]).await;
    assert_eq!(refused["userErrors"][0]["code"], "INVALID_STATE");

    tokio::join!(shop.removes(&third), shop.removes(&first), shop.removes(&third));
    shop.works().await;
    assert_eq!((shop.cards().await, shop.stripe.attached()), (vec![], vec![]));
    assert_eq!(shop.stores("pm_card_visa").await["isDefault"], true);
}

#[tokio::test]
async fn a_card_that_stripe_gives_up_is_removed_in_every_order_of_events() {
    for order in [[0, 1], [1, 0]] {
        let shop = Shop::open().await;
        let begun = begins(&shop.hotel.admin, json!({ "idempotencyKey": "comes-and-goes" })).await;
        shop.stripe.page_gives(begun["setup"]["id"].as_str().unwrap(), "pm_card_visa");
        let set_up = shop.stripe.event("setup_intent.succeeded");
        let detached = shop.stripe.detaches(&shop.stripe.attached()[0]);
        let events = [set_up, detached];
        for number in order {
            shop.hears(&events[number]).await;
            assert_eq!(deliver(&shop.app.app, &events[number]).await, Receipt::Known);
        }
        assert_eq!(shop.cards().await, Vec::<Value>::new(), "{order:?}");
    }
    let shop = Shop::open().await;
    let card = shop.stores("pm_card_visa").await;
    let other = shop.stores("pm_card_mastercard").await;
    let method = shop.methods().await.pop().unwrap();
    shop.hears(&shop.stripe.detaches(&method)).await;
    assert_eq!(shop.cards().await.len(), 1);
    assert_eq!(shop.cards().await[0]["id"], other["id"]);
    assert_eq!(shop.cards().await[0]["isDefault"], true, "in place of {card}");
    // Late news of it stores nothing.
    let set_up =
        shop.stripe.events().into_iter().find(|event| event["type"] == "setup_intent.succeeded");
    shop.hears(&set_up.unwrap()).await;
    assert_eq!(shop.cards().await.len(), 1);
}

#[tokio::test]
async fn what_stripe_does_not_answer_is_stored_and_given_up_later() {
    let shop = Shop::open().await;
    let away = |what: &'static str| {
        for _ in 0..3 {
            shop.stripe.fails(what, Fault::Status(503, None));
        }
    };
    shop.buys("keeps-its-card", json!({ "saveCard": true })).await;
    away("GET /customers/ID/payment_methods/ID");
    shop.works().await;
    assert!(shop.cards().await.is_empty());
    shop.app.clock.advance(TimeDelta::seconds(10));
    shop.works().await;
    let card = shop.cards().await.remove(0);

    away(DETACH);
    shop.removes(&card).await;
    shop.works().await;
    assert!(shop.cards().await.is_empty(), "here it is removed at once");
    assert_eq!(shop.stripe.attached().len(), 1);
    shop.app.clock.advance(TimeDelta::seconds(10));
    shop.works().await;
    assert!(shop.stripe.attached().is_empty());
}

#[tokio::test]
async fn what_changes_of_a_card_at_stripe_changes_here() {
    let shop = Shop::open().await;
    shop.stores("pm_card_visa").await;
    let method = shop.methods().await.remove(0);
    let fingerprints = async |fingerprint: &str| {
        let sql = format!(
            "SELECT COUNT(*) AS number FROM stored_cards WHERE fingerprint = '{fingerprint}'"
        );
        shop.number(&sql).await
    };
    assert_eq!(fingerprints("AOB934RVNwzk6xtn").await, 1);
    let older = shop.stripe.updates_card(&method, |card| card["exp_month"] = json!(10));
    let newer = shop.stripe.updates_card(&method, |card| {
        card["exp_year"] = json!(2026);
        card["fingerprint"] = json!("newNUMBER12");
        card["last4"] = json!("1881");
    });

    // The older one comes last.
    shop.hears(&newer).await;
    shop.hears(&older).await;

    let card = shop.cards().await.remove(0);
    assert_eq!((&card["expMonth"], &card["expYear"]), (&json!(10), &json!(2026)));
    assert_eq!((&card["last4"], &card["isExpired"]), (&json!("1881"), &json!(true)));
    assert_eq!(fingerprints("newNUMBER12").await, 1);
    shop.hears(&shop.stripe.updates_card(&method, |card| card["exp_month"] = json!(11))).await;
    assert_eq!(shop.cards().await[0]["isExpired"], false, "its month is not over");

    let foreign = json!({ "object": "payment_method", "id": "pm_of_a_shop", "livemode": false });
    for kind in ["payment_method.updated", "payment_method.detached"] {
        shop.hears(&shop.stripe.makes_event(kind, &foreign)).await;
    }
    assert_eq!(shop.cards().await.len(), 1);
}

#[tokio::test]
async fn no_column_can_hold_a_card_number() {
    let shop = Shop::open().await;
    shop.stores("pm_card_visa").await;
    let number = "4242424242424242";
    for change in [
        format!("last4 = '{number}'"),
        "last4 = '12a4'".to_owned(),
        format!("brand = '{number}'"),
        format!("fingerprint = '{number}'"),
        format!("stripe_payment_method_id = '{number}'"),
        "exp_month = 13".to_owned(),
        "is_default = TRUE, removed_at = created_at".to_owned(),
    ] {
        let txn = shop.app.app.db.begin().await.unwrap();
        let sql = format!("UPDATE stored_cards SET {change}");
        assert!(musubi::db::execute(&*txn, sql, vec![]).await.is_err(), "{change}");
    }
}

#[tokio::test]
async fn the_sandbox_stores_cards_by_stripes_test_names() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let admin = &hotel.admin;
    let begin = async |name: Value| {
        let key = format!("sandbox-{name}");
        begins(admin, json!({ "stripePaymentMethodId": name, "idempotencyKey": key })).await
    };

    let visa = begin(json!("pm_card_visa")).await;
    assert_eq!(visa["card"]["isDefault"], true, "{visa}");
    let asked = begin(json!("pm_card_authenticationRequired")).await;
    assert_eq!(asked["setup"]["status"], "REQUIRES_ACTION");
    assert_eq!(confirms(admin, &asked["setup"]["id"]).await["card"]["last4"], "3184");
    let declined = begin(json!("pm_card_chargeDeclined")).await;
    assert_eq!(declined["userErrors"][0]["code"], "PAYMENT_FAILED");
    let open = begin(Value::Null).await;
    assert_eq!(open["setup"]["status"], "REQUIRES_PAYMENT_METHOD");
    assert_eq!(confirms(admin, &open["setup"]["id"]).await["card"]["last4"], "4242");
    begin(json!("pm_card_chargeCustomerFail")).await;

    let package = super::package(&app, json!({})).await;
    let cards = listed(admin).await;
    for (last4, status) in [("3184", "REQUIRES_ACTION"), ("0341", "FAILED"), ("4242", "COMPLETED")]
    {
        let card = cards.iter().find(|card| card["last4"] == last4).unwrap();
        let input = json!({ "packageId": package, "paymentMethod": "STORED_CARD",
            "storedCardId": card["id"], "idempotencyKey": format!("by-the-card-{last4}") });
        let done = super::buys(admin, input).await;
        assert_eq!(done["purchase"]["status"], status, "{last4}: {done}");
    }
    let asked = "{ creditPurchases(where: { status: { eq: REQUIRES_ACTION } }) { nodes { id } } }";
    let asked = admin.gets(asked, json!({})).await["creditPurchases"]["nodes"][0].clone();
    let query = "mutation ($id: ID!) { creditPurchaseConfirm(id: $id) { purchase { status } } }";
    let done = admin.gets(query, json!({ "id": asked["id"] })).await;
    assert_eq!(done["creditPurchaseConfirm"]["purchase"]["status"], "COMPLETED");
    assert_eq!(hotel.balance().await, (1_000, 0));
    assert_eq!(app.drifts().await, Vec::<String>::new());
}
