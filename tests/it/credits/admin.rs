//! What platform admins do with a tenant's credits, through the API; and what nobody can do.

use chrono::TimeDelta;
use futures_util::future::join_all;
use musubi::entity::plan::PlanType;
use serde_json::{Value, json};

use super::{assert_books, lines, put_back, reset_days, spend, story, subscriber, take_away};
use crate::support::TestApp;
use crate::support::people::{Hotel, Person};

const BONUS: &str = "mutation ($input: CreditBonusGrantInput!) { creditBonusGrant(input: $input) {
    grant { id kind granted remaining expiresAt description } balance { current version }
    userErrors { code field message } } }";

const REFUND: &str = "mutation ($input: CreditRefundInput!) { creditRefund(input: $input) {
    transaction { id type credits balanceAfter execution { id } totalCost { amount } }
    balance { current } userErrors { code field message } } }";

const PLAN_SET: &str = "mutation ($input: TenantPlanSetInput!) { tenantPlanSet(input: $input) {
    account { planType nextPlanType entitledUntil monthlyFreeCredits balance { current } }
    userErrors { code field } } }";

async fn gives(person: &Person, input: Value) -> Value {
    person.gets(BONUS, json!({ "input": input })).await["creditBonusGrant"].clone()
}

async fn refunds(person: &Person, input: Value) -> Value {
    person.gets(REFUND, json!({ "input": input })).await["creditRefund"].clone()
}

fn bonus(hotel: &Hotel, credits: i64, key: &str) -> Value {
    json!({ "tenantId": hotel.id.to_string(), "credits": credits, "idempotencyKey": key })
}

#[tokio::test]
async fn a_bonus_is_given_once_for_a_key_and_another_body_is_refused() {
    let app = TestApp::start().await;
    let (hotel, root) = (app.hotel().await, app.platform_admin(None).await);
    let mut wish = bonus(&hotel, 50, "sorry-for-the-outage");
    wish["expiresAt"] = json!("2026-12-01T00:00:00Z");
    wish["description"] = json!("障害のお詫び");

    let first = gives(&root, wish.clone()).await;
    let again = gives(&root, wish.clone()).await;
    wish["credits"] = json!(51);
    let other = gives(&root, wish).await;

    assert_eq!(first["userErrors"], json!([]));
    assert_eq!(
        (&first["grant"]["kind"], &first["grant"]["granted"]),
        (&json!("BONUS"), &json!(50))
    );
    assert_eq!(first["grant"]["description"], "障害のお詫び");
    assert_eq!(again, first);
    assert_eq!(other["userErrors"][0]["code"], "IDEMPOTENCY_CONFLICT", "{other}");
    assert_eq!((&other["grant"], hotel.balance().await), (&Value::Null, (50, 0)));
    assert_books(&app).await;
}

#[tokio::test]
async fn a_key_answers_its_bonus_even_after_that_expired() {
    let app = TestApp::start().await;
    let (hotel, root) = (app.hotel().await, app.platform_admin(None).await);
    let mut wish = bonus(&hotel, 50, "only-for-an-hour");
    wish["expiresAt"] = json!("2026-11-21T04:00:00Z");
    let first = gives(&root, wish.clone()).await;

    app.clock.advance(TimeDelta::hours(2));
    let again = gives(&root, wish).await;

    assert_eq!(again["userErrors"], json!([]), "{again}");
    assert_eq!(again["grant"]["id"], first["grant"]["id"]);
    assert_books(&app).await;
}

#[tokio::test]
async fn fifty_bonuses_at_once_with_one_key_are_one() {
    let app = TestApp::start().await;
    let (hotel, root) = (app.hotel().await, app.platform_admin(None).await);
    let nodes = [app.app.clone(), app.replica().await, app.replica().await];

    let replies = join_all((0..50).map(|number| {
        let (root, wish) = (root.on(&nodes[number % 3]), bonus(&hotel, 7, "fifty-at-once"));
        async move { gives(&root, wish).await }
    }))
    .await;

    for reply in &replies {
        assert_eq!(reply["grant"]["id"], replies[0]["grant"]["id"], "{reply}");
        assert_eq!(reply["userErrors"], json!([]));
    }
    assert_eq!(hotel.balance().await, (7, 0));
    assert_eq!(story(&app, &hotel).await, [("BONUS", 7)]);
    assert_books(&app).await;
}

#[tokio::test]
async fn fifty_bonuses_at_once_with_keys_of_their_own_are_fifty() {
    let app = TestApp::start().await;
    let (hotel, root) = (app.hotel().await, app.platform_admin(None).await);
    let nodes = [app.app.clone(), app.replica().await, app.replica().await];

    join_all((0..50).map(|number| {
        let key = format!("of-its-own-{number}");
        let (root, wish) = (root.on(&nodes[number % 3]), bonus(&hotel, 7, &key));
        async move { assert_eq!(gives(&root, wish).await["userErrors"], json!([])) }
    }))
    .await;

    assert_eq!(hotel.balance().await, (350, 0));
    assert_books(&app).await;
}

#[tokio::test]
async fn a_bonus_with_values_out_of_range_names_each_and_gives_nothing() {
    let app = TestApp::start().await;
    let (hotel, root) = (app.hotel().await, app.platform_admin(None).await);
    let mut wish = bonus(&hotel, 0, "nothing-at-all");
    wish["expiresAt"] = json!("2026-11-21T03:00:00Z");
    wish["description"] = json!("あ".repeat(501));

    let reply = gives(&root, wish).await;
    let short = gives(&root, bonus(&hotel, 1, "short")).await;
    let mut lost = bonus(&hotel, 1, "to-nobody");
    lost["tenantId"] = json!(hotel.user.id.to_string());
    let wrong = gives(&root, lost).await;

    let mut fields: Vec<_> = reply["userErrors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["field"][1].as_str().unwrap())
        .collect();
    fields.sort_unstable();
    assert_eq!(fields, ["credits", "description", "expiresAt"], "{reply}");
    assert_eq!(short["userErrors"][0]["field"], json!(["input", "idempotencyKey"]));
    assert_eq!(wrong["userErrors"][0]["code"], "INVALID_ID");
    assert_eq!(hotel.balance().await, (0, 0));
}

#[tokio::test]
async fn a_tenants_own_admin_may_do_nothing_of_this() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(10).await;
    let job = spend(&app.app, &hotel, 5).await;
    let tenant = hotel.id.to_string();
    let refund = json!({ "tenantId": tenant, "executionId": job.execution.id.to_string(),
        "idempotencyKey": "give-me-it-back" });
    let plan = json!({ "tenantId": tenant, "planType": "ENTERPRISE" });

    for (query, input) in
        [(BONUS, bonus(&hotel, 50, "for-myself-please")), (REFUND, refund), (PLAN_SET, plan)]
    {
        let reply = hotel.admin.asks(query, json!({ "input": input })).await;
        assert_eq!(reply["errors"][0]["extensions"]["code"], "FORBIDDEN", "{reply}");
        assert!(reply["data"].as_object().unwrap().values().all(Value::is_null), "{reply}");
    }

    assert_eq!(hotel.balance().await, (5, 0));
    assert_eq!(hotel.account().await.plan_type, PlanType::Essential);
}

#[tokio::test]
async fn an_execution_is_refunded_in_parts_up_to_its_charge() {
    let app = TestApp::start().await;
    let root = app.platform_admin(None).await;
    let hotel = app.hotel().await.with_credits(100).await;
    let other = app.hotel().await;
    let job = spend(&app.app, &hotel, 30).await;
    let wish = |credits: Option<i64>, key: &str| {
        json!({ "tenantId": hotel.id.to_string(), "executionId": job.execution.id.to_string(),
            "credits": credits, "idempotencyKey": key })
    };

    let part = refunds(&root, wish(Some(10), "the-first-part")).await;
    let again = refunds(&root, wish(Some(10), "the-first-part")).await;
    let conflict = refunds(&root, wish(Some(11), "the-first-part")).await;
    let much = refunds(&root, wish(Some(21), "more-than-is-left")).await;
    let rest = refunds(&root, wish(None, "all-that-is-left")).await;
    let none = refunds(&root, wish(None, "nothing-is-left")).await;
    let mut theirs = wish(None, "of-somebody-else");
    theirs["tenantId"] = json!(other.id.to_string());
    let foreign = refunds(&root, theirs).await;

    assert_eq!(part["transaction"]["credits"], 10, "{part}");
    assert_eq!(part["transaction"]["totalCost"]["amount"], "100");
    assert_eq!(
        (&part["balance"]["current"], &again["transaction"]["id"]),
        (&json!(80), &part["transaction"]["id"])
    );
    assert_eq!(conflict["userErrors"][0]["code"], "IDEMPOTENCY_CONFLICT");
    assert_eq!(much["userErrors"][0]["code"], "INVALID_STATE", "{much}");
    assert_eq!(
        (&rest["transaction"]["credits"], &rest["balance"]["current"]),
        (&json!(20), &json!(100))
    );
    assert_eq!(none["userErrors"][0]["code"], "INVALID_STATE", "{none}");
    assert_eq!(foreign["userErrors"][0]["code"], "NOT_FOUND", "{foreign}");
    assert_books(&app).await;
}

#[tokio::test]
async fn twenty_refunds_at_once_give_back_no_more_than_the_charge() {
    let app = TestApp::start().await;
    let root = app.platform_admin(None).await;
    let hotel = app.hotel().await.with_credits(100).await;
    let job = spend(&app.app, &hotel, 30).await;
    let nodes = [app.app.clone(), app.replica().await, app.replica().await];

    let replies = join_all((0..20).map(|number| {
        let root = root.on(&nodes[number % 3]);
        let wish = json!({ "tenantId": hotel.id.to_string(), "credits": 4,
            "executionId": job.execution.id.to_string(),
            "idempotencyKey": format!("part-number-{number}"),
        });
        async move { refunds(&root, wish).await }
    }))
    .await;

    let done = replies.iter().filter(|reply| reply["userErrors"] == json!([])).count();
    assert_eq!((done, hotel.balance().await), (7, (98, 0)));
    assert_books(&app).await;
}

#[tokio::test]
async fn a_tenants_plan_is_set_with_its_end_and_tops_up() {
    let app = TestApp::start().await;
    let (hotel, root) = (app.hotel().await, app.platform_admin(None).await);
    let wish = json!({ "tenantId": hotel.id.to_string(), "planType": "PROFESSIONAL",
        "entitledUntil": "2027-03-31T15:00:00Z" });

    let reply = root.gets(PLAN_SET, json!({ "input": wish })).await["tenantPlanSet"].clone();

    assert_eq!(reply["userErrors"], json!([]));
    let account = &reply["account"];
    assert_eq!(
        (&account["planType"], &account["nextPlanType"]),
        (&json!("PROFESSIONAL"), &Value::Null)
    );
    assert_eq!(account["balance"]["current"], 1_000);
    let until = account["entitledUntil"].as_str().unwrap();
    assert_eq!(super::at(until), super::at("2027-03-31T15:00:00Z"));
    let viewer = hotel.user.gets("{ viewer { tenant { planType } } }", json!({})).await;
    assert_eq!(viewer["viewer"]["tenant"]["planType"], "PROFESSIONAL");
    assert_eq!(reset_days(&app, &hotel).await, ["2026-11-01"]);
    assert_books(&app).await;
}

#[tokio::test]
async fn ten_upgrades_at_once_top_up_once() {
    let app = TestApp::start().await;
    let (hotel, root) =
        (subscriber(&app, PlanType::Essential).await, app.platform_admin(None).await);
    let nodes = [app.app.clone(), app.replica().await, app.replica().await];

    join_all((0..10).map(|number| {
        let root = root.on(&nodes[number % 3]);
        let wish = json!({ "tenantId": hotel.id.to_string(), "planType": "ENTERPRISE" });
        async move { root.gets(PLAN_SET, json!({ "input": wish })).await }
    }))
    .await;

    assert_eq!(story(&app, &hotel).await, [("MONTHLY_RESET", 200), ("MONTHLY_RESET", 4_800)]);
    assert_books(&app).await;
}

#[tokio::test]
async fn a_dispute_of_unknown_credits_or_of_another_account_is_refused() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(10).await;
    let other = app.hotel().await;
    let bought = super::grants(&app, &hotel).await[0].id;
    let reason = musubi::entity::credit_withdrawal::WithdrawalReason::Dispute;
    let row = take_away(&app.app, &hotel, (bought, 4), reason).await;

    let now = app.clock.db_now();
    let theirs = other.account().await.id;
    let mut txn = app.app.db.begin().await.unwrap();
    let foreign = musubi::credits::service::withdraw::put_back(&mut txn, theirs, row.id, now).await;
    txn.rollback().await.unwrap();
    put_back(&app.app, &row).await;

    assert!(matches!(foreign, Err(musubi::error::Error::NotFound(_))), "{foreign:?}");
    assert_eq!((hotel.balance().await, other.balance().await), ((10, 0), (0, 0)));
    assert_books(&app).await;
}

#[tokio::test]
async fn the_database_itself_refuses_to_change_or_remove_a_line_of_the_ledger() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(10).await;
    spend(&app.app, &hotel, 4).await;
    let before = lines(&app, &hotel).await;

    for text in [
        "UPDATE ai_credit_transactions SET credits_amount = 1000000",
        "UPDATE ai_credit_transactions SET description = 'x' WHERE version > 0",
        "DELETE FROM ai_credit_transactions",
        "DELETE FROM ai_credit_transactions WHERE transaction_type = 'USAGE'",
    ] {
        let txn = app.app.db.begin().await.unwrap();
        let refused = musubi::db::execute(&*txn, text, vec![]).await.unwrap_err();
        txn.rollback().await.unwrap();
        assert!(format!("{refused:?}").contains("append-only"), "{text}: {refused:?}");
    }

    assert_eq!(lines(&app, &hotel).await, before);
    assert_books(&app).await;
}

#[tokio::test]
async fn a_purchase_is_granted_once() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let account = hotel.account().await.id;
    let reference = musubi::ids::new_uuid();
    let buy = async || {
        let purchase = musubi::credits::service::grant::Purchase {
            account,
            credits: 10,
            price: 100,
            reference,
        };
        let mut txn = app.app.db.begin().await.unwrap();
        let now = app.clock.db_now();
        let granted = musubi::credits::service::grant::grant_purchase(&mut txn, purchase, now);
        let granted = granted.await.unwrap();
        txn.commit().await.unwrap();
        granted.id
    };

    let first = buy().await;
    let second = buy().await;

    assert_eq!(first, second);
    assert_eq!(hotel.balance().await, (10, 0));
    assert_eq!(hotel.account().await.total_purchased_credits, 10);
    assert_books(&app).await;
}
