//! Automatic purchase: one charge closes the gap, whatever wants it, and however it is answered.

mod guards;
mod settings;

use std::time::Duration;

use chrono::TimeDelta;
use futures_util::future::{join, join_all};
use musubi::app::App;
use musubi::entity::stored_card::{self, CardBrand};
use musubi::ids::{StoredCardId, TenantId};
use musubi::payments::auto::work::work;
use sea_orm::{EntityTrait, IntoActiveModel};
use serde_json::{Value, json};

use super::{Shop, package};
use crate::support::Setting;
use crate::support::people::{EXECUTE, Person};
use crate::support::stripe::Fault;

const MAKE: &str = "POST /payment_intents";
const STATE: &str =
    "query { creditAccount { autoPurchase { enabled threshold purchaseAmount state {
    monthlyCap { amount } spentThisMonth { amount } isSuspended blockedReason blockedAt
    nextAttemptAt
    lastAttempt { cause balanceBefore heldBefore threshold needed status reason endedAt
                  purchase { id status source paymentMethod credits } } } } } }";

/// Stores a card as what Stripe told of it; it is charged from now on.
pub(crate) async fn stores_card(app: &App, tenant: TenantId, method: &str, fingerprint: &str) {
    let now = app.clock.db_now();
    let txn = app.db.begin().await.unwrap();
    let sql = "UPDATE stored_cards SET is_default = FALSE WHERE tenant_id = $1";
    musubi::db::execute(&*txn, sql, vec![tenant.into()]).await.unwrap();
    let row = stored_card::Model {
        id: StoredCardId::new(),
        tenant_id: tenant,
        user_id: None,
        stripe_payment_method_id: method.to_owned(),
        brand: CardBrand::Visa,
        last4: "4242".to_owned(),
        exp_month: 12,
        exp_year: 2_030,
        fingerprint: Some(fingerprint.to_owned()),
        is_default: true,
        created_at: now,
        updated_at: now,
        removed_at: None,
    };
    let row = stored_card::Entity::insert(row.into_active_model());
    row.exec_without_returning(&*txn).await.unwrap();
    txn.commit().await.unwrap();
}

/// Changes the settings; answers the payload.
async fn updates(person: &Person, input: Value) -> Value {
    let query = "mutation ($input: CreditAutoPurchaseUpdateInput!) {
        creditAutoPurchaseUpdate(input: $input) {
        autoPurchase { enabled threshold purchaseAmount state { monthlyCap { amount } } }
        userErrors { code field message } } }";
    person.gets(query, json!({ "input": input })).await["creditAutoPurchaseUpdate"].clone()
}

impl Shop {
    /// Stores a card, as the page does, that is the default and that Stripe treats as this test
    /// method from now on. Answers Stripe's id of it.
    async fn keeps(&self, name: &str, fingerprint: &str) -> String {
        let card = self.stores("pm_card_visa").await;
        let method = self.methods().await.remove(0);
        self.stripe.turns(&method, name);
        let sql = "UPDATE stored_cards SET fingerprint = $2 WHERE stripe_payment_method_id = $1";
        let txn = self.app.app.db.begin().await.unwrap();
        let values = vec![method.clone().into(), fingerprint.to_owned().into()];
        musubi::db::execute(&*txn, sql, values).await.unwrap();
        txn.commit().await.unwrap();
        let query = "mutation ($id: ID!) { cardDefaultSet(id: $id) { userErrors { code } } }";
        let done = self.hotel.admin.gets(query, json!({ "id": card["id"] })).await;
        assert_eq!(done["cardDefaultSet"]["userErrors"], json!([]));
        method
    }

    /// Stores a card and switches automatic purchase on: 500 credits at 50 or fewer.
    async fn buys_by_itself(&self, card: &str) -> &Self {
        self.keeps(card, &format!("print-of-{card}")).await;
        let input = json!({ "enabled": true, "monthlyCapYen": 100_000 });
        let done = updates(&self.hotel.admin, input).await;
        assert_eq!(done["userErrors"], json!([]), "{done}");
        self
    }

    async fn state(&self) -> Value {
        let data = self.hotel.admin.gets(STATE, json!({})).await;
        data["creditAccount"]["autoPurchase"]["state"].clone()
    }

    /// Whether there is an attempt of this status.
    async fn attempts(&self, status: &str) -> i64 {
        let sql = format!(
            "SELECT COUNT(*) AS number FROM auto_purchase_attempts WHERE state = '{status}'"
        );
        self.number(&sql).await
    }

    /// What the worker does, until nothing is under way.
    async fn works_by_itself(&self) {
        work(&self.app.app).await.unwrap();
        self.until_nothing_is_under_way().await;
    }

    async fn until_nothing_is_under_way(&self) {
        while self.attempts("OPEN").await > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Actions of automatic purchase in the record, oldest first, with their reasons.
    async fn recorded(&self) -> Vec<(String, Value)> {
        let sql = "SELECT action AS kind, event_data AS data FROM system_event
                   WHERE action IN ('AUTO_PURCHASED', 'AUTO_PURCHASE_FAILED',
                   'AUTO_PURCHASE_RESUMED') ORDER BY occurred_at, id";
        let rows: Vec<super::Raised> =
            musubi::db::all(self.app.app.db.primary(), sql, vec![]).await.unwrap();
        rows.into_iter().map(|row| (row.kind, row.data["reason"].clone())).collect()
    }

    /// How many urgent alerts there are.
    async fn warned(&self) -> i64 {
        let sql = "SELECT COUNT(*) AS number FROM alerts
                   WHERE kind = 'AUTO_PURCHASE_FAILED' AND severity = 'CRITICAL'";
        self.number(sql).await
    }
}

#[tokio::test]
async fn a_charge_that_leaves_few_credits_buys_once_and_tells() {
    let shop = Shop::open().await;
    shop.hotel.buys(52, 520).await;
    shop.buys_by_itself("pm_card_visa").await;
    work(&shop.app.app).await.unwrap();
    assert!(shop.stripe.intents().is_empty(), "52 are enough");

    let spent = shop.hotel.user.executes("hello", "the-call-that-leaves-50").await;
    assert_eq!(spent["balance"]["current"], 50, "{spent}");
    shop.works_by_itself().await;
    for _ in 0..3 {
        shop.works_by_itself().await;
    }

    shop.adds_up(550, 1).await;
    let asked = shop.stripe.asked(MAKE).remove(0);
    assert_eq!(asked.form.get("payment_method"), Some(&*shop.methods().await[0]));
    assert_eq!(asked.form.get("off_session"), Some("true"));
    let state = shop.state().await;
    assert_eq!(state["spentThisMonth"]["amount"], "500");
    let attempt = &state["lastAttempt"];
    assert_eq!((&attempt["cause"], &attempt["status"]), (&json!("CHARGE"), &json!("SUCCEEDED")));
    assert_eq!((&attempt["balanceBefore"], &attempt["threshold"]), (&json!(50), &json!(50)));
    let purchase = &attempt["purchase"];
    assert_eq!(purchase["source"], "AUTO_PURCHASE");
    assert_eq!(purchase["paymentMethod"], "STORED_CARD");
    assert_eq!(shop.recorded().await, [("AUTO_PURCHASED".to_owned(), Value::Null)]);
    shop.hears(&shop.stripe.event("payment_intent.succeeded")).await;
    shop.app.send_mails().await;
    let mails = shop.app.outbox.mails();
    assert_eq!(mails.len(), 1);
    assert!(mails[0].subject.contains("自動購入") && mails[0].text.contains("500"));
    assert_eq!(shop.warned().await, 0);
}

#[tokio::test]
async fn a_call_without_credits_buys_and_runs() {
    let shop = Shop::open().await;
    shop.buys_by_itself("pm_card_visa").await;

    let done = shop.hotel.user.executes("hello", "a-call-with-nothing").await;

    assert_eq!(done["userErrors"], json!([]), "{done}");
    assert_eq!(done["execution"]["status"], "SUCCEEDED");
    shop.adds_up(498, 1).await;
    let attempt = &shop.state().await["lastAttempt"];
    assert_eq!((&attempt["cause"], &attempt["needed"]), (&json!("RESERVE"), &json!(2)));
}

#[tokio::test]
async fn a_call_that_would_be_shortened_buys_first() {
    let shop = Shop::open().await;
    shop.hotel.buys(3, 30).await;
    shop.buys_by_itself("pm_card_visa").await;

    let parameters = json!({ "input": "hello", "maxTokens": 4_000 });
    let done = shop.hotel.user.executes_with(parameters, "a-long-answer").await;

    assert_eq!(done["execution"]["maxTokens"], 4_000, "{done}");
    assert_eq!(shop.stripe.charges().len(), 1);
}

#[tokio::test]
async fn without_it_a_call_is_shortened_and_refused_as_ever() {
    let shop = Shop::open().await;
    shop.keeps("pm_card_visa", "print").await;
    shop.hotel.buys(2, 20).await;

    let parameters = json!({ "input": "hello", "maxTokens": 4_000 });
    let done = shop.hotel.user.executes_with(parameters.clone(), "a-long-answer").await;
    let refused = shop.hotel.user.executes_with(parameters, "another-answer").await;

    assert_ne!(done["execution"]["maxTokens"], 4_000);
    assert_eq!(refused["userErrors"][0]["code"], "INSUFFICIENT_CREDITS");
    shop.works_by_itself().await;
    shop.adds_up(0, 0).await;
}

#[tokio::test]
async fn a_thousand_causes_at_once_on_two_nodes_buy_once() {
    let shop = Shop::open().await;
    let large = json!({ "credits": 20_000, "priceYen": 20_000 });
    package(&shop.app, large).await;
    shop.hotel.buys(60, 600).await;
    shop.keeps("pm_card_visa", "print").await;
    let input = json!({ "enabled": true, "monthlyCapYen": 1_000_000, "amount": 20_000 });
    assert_eq!(updates(&shop.hotel.admin, input).await["userErrors"], json!([]));
    let replica = shop.app.replica().await;
    let nodes = [&shop.hotel.user, &shop.hotel.user.on(&replica)];

    let keys: Vec<String> = (0..1_000).map(|number| format!("cause-number-{number}")).collect();
    let calls = keys.iter().enumerate().map(|(number, key)| nodes[number % 2].executes("go", key));
    let rounds = join_all((0..20).map(async |number| {
        tokio::time::sleep(Duration::from_millis(50 * number)).await;
        let node = if number % 2 == 0 { &shop.app.app } else { &replica };
        work(node).await.unwrap();
    }));
    let (answers, _) = join(join_all(calls), rounds).await;
    shop.works_by_itself().await;

    let refused: Vec<_> = answers.iter().filter(|it| it["userErrors"] != json!([])).collect();
    assert!(refused.is_empty(), "{} were refused: {}", refused.len(), refused[0]);
    assert_eq!(shop.number("SELECT COUNT(*) AS number FROM auto_purchase_attempts").await, 1);
    shop.adds_up(20_060 - 2_000, 1).await;
}

#[tokio::test]
async fn an_answer_lost_after_its_effect_is_one_charge_and_is_granted() {
    let shop = Shop::open_within(Some(Duration::from_millis(300))).await;
    shop.hotel.buys(52, 520).await;
    shop.buys_by_itself("pm_card_visa").await;
    for _ in 0..3 {
        shop.stripe.fails(MAKE, Fault::ResetAfter);
    }
    shop.hotel.user.executes("hello", "the-call-that-leaves-50").await;

    work(&shop.app.app).await.unwrap();
    while shop.stripe.asked(MAKE).len() < 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Nobody heard that it was paid. More causes wait for the same payment.
    shop.hotel.user.executes("hello", "another-call").await;
    work(&shop.app.app).await.unwrap();
    assert_eq!(shop.attempts("OPEN").await, 1);
    shop.adds_up(48, 1).await;
    shop.reconciles_after(TimeDelta::minutes(3)).await;

    assert_eq!(shop.attempts("SUCCEEDED").await, 1);
    shop.adds_up(548, 1).await;
}

#[tokio::test]
async fn what_a_node_left_behind_another_goes_on_with_under_the_same_key() {
    let shop = Shop::open().await;
    shop.hotel.buys(52, 520).await;
    shop.buys_by_itself("pm_card_visa").await;
    for _ in 0..3 {
        shop.stripe.fails(MAKE, Fault::ResetAfter);
    }
    shop.hotel.user.executes("hello", "the-call-that-leaves-50").await;
    work(&shop.app.app).await.unwrap();
    while shop.stripe.asked(MAKE).len() < 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let replica = shop.app.replica().await;

    assert_eq!(work(&replica).await.unwrap(), 0, "the first node may still be at it");
    shop.app.clock.advance(TimeDelta::seconds(61));
    assert_eq!(work(&replica).await.unwrap(), 1);
    shop.until_nothing_is_under_way().await;

    let keys: Vec<_> = shop.stripe.asked(MAKE).into_iter().map(|asked| asked.key).collect();
    assert!(keys.len() == 4 && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    shop.adds_up(550, 1).await;
}

#[tokio::test]
async fn calls_wait_for_a_slow_stripe_no_longer_than_they_may() {
    let shop = Shop::open().await;
    shop.buys_by_itself("pm_card_visa").await;
    shop.stripe.fails(MAKE, Fault::WaitAfter);

    let keys: Vec<String> = (0..20).map(|number| format!("waiting-{number}")).collect();
    let calls = join_all(keys.iter().map(|key| shop.hotel.user.executes("hello", key)));
    let answers = tokio::time::timeout(Duration::from_secs(60), calls).await.unwrap();

    for answer in answers {
        assert_eq!(answer["userErrors"][0]["code"], "INSUFFICIENT_CREDITS", "{answer}");
    }
    assert_eq!(shop.attempts("OPEN").await, 1);
    shop.stripe.open_gate();
    shop.until_nothing_is_under_way().await;
    shop.adds_up(500, 1).await;
    let done = shop.hotel.user.executes("hello", "waiting-0").await;
    assert_eq!(done["execution"]["status"], "SUCCEEDED", "the key was not used up");
}

#[tokio::test]
async fn a_charge_that_starts_a_purchase_takes_no_statement_more() {
    let shop = Shop::open().await;
    shop.hotel.buys(200, 2_000).await;
    let counts = async |key: &str| {
        let before = shop.app.app.db.statements();
        let input = json!({ "functionType": "CHATBOT", "idempotencyKey": key,
            "parameters": { "input": "hello", "maxTokens": 50 } });
        shop.hotel.user.gets(EXECUTE, json!({ "input": input })).await;
        shop.app.app.db.statements() - before
    };
    counts("the-first-of-all").await;
    let off = counts("it-is-switched-off").await;
    shop.buys_by_itself("pm_card_visa").await;
    let above = counts("there-is-enough").await;
    let low = json!({ "threshold": 195, "amount": 500 });
    assert_eq!(updates(&shop.hotel.admin, low).await["userErrors"], json!([]));

    let starting = counts("this-one-starts-it").await;
    let after = counts("and-this-one-comes-after").await;

    assert_eq!((above, starting, after), (off, off, off));
    assert_eq!(work(&shop.app.app).await.unwrap(), 1);
    shop.until_nothing_is_under_way().await;
    assert_eq!(shop.stripe.charges().len(), 1);
}

#[tokio::test]
async fn without_a_key_the_sandbox_plays_stripe() {
    let app = Setting::default().start().await;
    let hotel = app.hotel().await;
    package(&app, json!({})).await;
    stores_card(&app.app, hotel.id, "pm_card_visa", "print").await;
    let input = json!({ "enabled": true, "monthlyCapYen": 100_000 });
    assert_eq!(updates(&hotel.admin, input).await["userErrors"], json!([]));

    let done = hotel.user.executes("hello", "a-call-with-nothing").await;

    assert_eq!(done["execution"]["status"], "SUCCEEDED", "{done}");
    assert_eq!(hotel.balance().await, (498, 0));
    assert_eq!(app.drifts().await, Vec::<String>::new());
}
