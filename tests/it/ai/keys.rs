//! One key, one call, one charge.

use musubi::entity::plan::PlanType;
use serde_json::json;
use tokio::task::JoinSet;

use super::{Gated, executions, short, within};
use crate::support::model_server::ModelServer;
use crate::support::{Setting, TestApp};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_key_sent_a_hundred_times_at_once_is_one_call_and_one_charge() {
    let server = ModelServer::start().await;
    let app = Setting::default().model_server(&server).start().await;
    let hotel = app.hotel().await.with_credits(100).await;

    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let person = hotel.user.clone();
        calls.spawn(async move { person.executes("When is breakfast?", "the-one-key").await });
    }
    let payloads = within(calls.join_all()).await;

    let first = &payloads[0]["execution"];
    assert_eq!(first["status"], "SUCCEEDED", "{first}");
    assert!(payloads.iter().all(|payload| payload["execution"] == *first));
    assert_eq!(server.calls(), 1);
    assert_eq!(executions(&app.app).await.len(), 1);
    assert_eq!(hotel.balance().await, (98, 0));
    assert!(app.drifts().await.is_empty());
}

#[tokio::test]
async fn a_key_with_another_body_is_a_conflict() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(100).await;
    hotel.user.executes("When is breakfast?", "one-key-1").await;

    let bodies = [
        json!({ "input": "When is dinner?", "maxTokens": 50 }),
        json!({ "input": "When is breakfast?", "maxTokens": 51 }),
        json!({ "input": "When is breakfast?", "maxTokens": 50, "temperature": 0 }),
        json!({ "input": "When is breakfast?", "maxTokens": 50, "model": "gpt-4o" }),
        json!({ "input": "When is breakfast?", "maxTokens": 50, "customOptions": { "seed": 1 } }),
    ];
    for body in bodies {
        let payload = hotel.user.executes_with(body.clone(), "one-key-1").await;
        let error = &payload["userErrors"][0];
        assert_eq!(error["code"], "IDEMPOTENCY_CONFLICT", "{body}: {payload}");
        assert_eq!(error["field"], json!(["input", "idempotencyKey"]));
        assert!(payload["execution"].is_null());
    }
    let mut tagged = short("When is breakfast?", "one-key-1");
    tagged["metadata"] = json!({ "tags": ["vip"] });
    let payload = hotel.user.starts(tagged).await;
    assert_eq!(payload["userErrors"][0]["code"], "IDEMPOTENCY_CONFLICT");

    assert_eq!(hotel.balance().await, (98, 0));
}

#[tokio::test]
async fn waiting_and_starting_share_their_keys() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(100).await;
    let gate = Gated::after(&["Seven."]);
    let node = gate.node(&app).await;
    let person = hotel.user.on(&node);
    let id = person.starts_one("shared-key").await;
    gate.reached(1).await;

    let joined = person.executes("When is breakfast?", "shared-key");
    let (joined, ()) = within(async { tokio::join!(joined, async { gate.open() }) }).await;
    let again = person.starts(short("When is breakfast?", "shared-key")).await;

    assert_eq!(joined["execution"]["id"], json!(id));
    assert_eq!(joined["execution"]["status"], "SUCCEEDED", "{joined}");
    assert_eq!(again["execution"]["id"], json!(id));
    assert_eq!(again["execution"]["status"], "SUCCEEDED");
    assert_eq!(gate.calls(), 1);
    assert_eq!(hotel.balance().await, (98, 0));
}

#[tokio::test]
async fn a_refused_call_leaves_no_key_behind() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(1).await;
    let refused = hotel.user.executes("When?", "bought-later").await;
    assert_eq!(refused["userErrors"][0]["code"], "INSUFFICIENT_CREDITS");

    hotel.buys(10, 100).await;
    let payload = hotel.user.executes("When?", "bought-later").await;

    assert_eq!(payload["execution"]["status"], "SUCCEEDED", "{payload}");
    assert_eq!(hotel.balance().await, (9, 0));
    assert!(app.drifts().await.is_empty());
}

#[tokio::test]
async fn a_failed_call_keeps_its_key() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(10).await;

    let first = hotel.user.executes("sandbox:fail-500", "failed-once").await;
    let again = hotel.user.executes("sandbox:fail-500", "failed-once").await;

    assert_eq!(first["execution"]["status"], "FAILED");
    assert_eq!(first["execution"], again["execution"]);
    assert_eq!(executions(&app.app).await.len(), 1);
}

#[tokio::test]
async fn a_key_belongs_to_one_person_of_one_tenant() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(100).await;
    let other = app.tenant(PlanType::Essential, "Asia/Tokyo").await;

    let mut ids = Vec::new();
    for person in [&hotel.user, &hotel.admin, &other.user] {
        let payload = person.executes("When?", "same-words").await;
        assert_eq!(payload["userErrors"], json!([]), "{payload}");
        ids.push(payload["execution"]["id"].to_string());
    }
    let conflict_free = other.admin.executes("Something else", "same-words").await;

    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3);
    assert_eq!(conflict_free["userErrors"], json!([]));
    assert_eq!(hotel.balance().await, (96, 0));
    assert_eq!(other.balance().await, (196, 0));
}

#[tokio::test]
async fn a_key_of_the_wrong_length_is_refused() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(10).await;

    for key in ["1234567".to_owned(), "k".repeat(256), String::new()] {
        let payload = hotel.user.executes("When?", &key).await;
        assert_eq!(payload["userErrors"][0]["code"], "INVALID_INPUT", "{payload}");
        assert_eq!(payload["userErrors"][0]["field"], json!(["input", "idempotencyKey"]));
    }
    for key in ["12345678".to_owned(), "鍵".repeat(255)] {
        let payload = hotel.user.executes("When?", &key).await;
        assert_eq!(payload["execution"]["status"], "SUCCEEDED", "{payload}");
    }

    assert_eq!(hotel.balance().await, (6, 0));
}
