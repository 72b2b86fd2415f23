//! Cancelling: from the same node, from another one, and when the event is lost.

use std::time::Duration;

use serde_json::json;

use super::{BY_ID, CANCEL, Gated, error_code, until, within};
use crate::support::redis_server::RedisServer;
use crate::support::{Setting, TestApp};

const PIECES: [&str; 2] = ["Breakfast is served ", "from seven"];
const DELIVERED: &str = "Breakfast is served from seven";

#[tokio::test]
async fn a_cancelled_call_costs_its_input_and_what_was_delivered() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(100).await;
    let gate = Gated::after(&PIECES);
    let node = gate.node(&app).await;
    musubi::jobs::start(&node);
    let person = hotel.user.on(&node);
    let id = person.starts_one("cancelled-1").await;
    gate.reached(1).await;

    let payload = within(person.cancels(&id)).await;

    let execution = &payload["execution"];
    assert_eq!(execution["status"], "CANCELLED", "{payload}");
    assert_eq!(execution["failure"]["code"], "CANCELLED");
    assert_eq!(execution["failure"]["retryable"], false);
    assert_eq!(execution["result"]["output"], DELIVERED);
    assert_eq!(execution["charge"]["creditsUsed"], 2);
    assert_eq!(execution["charge"]["usageSource"], "COUNTED");
    assert_eq!(payload["balance"], json!({ "current": 98, "held": 0 }));
    assert_eq!(app.drifts().await, [""; 0]);
}

#[tokio::test]
async fn a_call_cancelled_before_its_first_word_costs_nothing() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(100).await;
    let gate = Gated::after(&[]);
    let node = gate.node(&app).await;
    musubi::jobs::start(&node);
    let person = hotel.user.on(&node);
    let id = person.starts_one("cancelled-1").await;
    gate.reached(1).await;

    let payload = within(person.cancels(&id)).await;

    assert_eq!(payload["execution"]["status"], "CANCELLED", "{payload}");
    assert!(payload["execution"]["result"].is_null());
    assert_eq!(hotel.balance().await, (100, 0));
    assert_eq!(app.drifts().await, [""; 0]);
}

#[tokio::test]
async fn a_cancel_on_another_node_is_obeyed_though_its_event_is_lost() {
    // The nodes have no common wire: on SQLite none, on PostgreSQL one that is down.
    let lost = RedisServer::absent();
    let setting = Setting::default().lease(Duration::from_secs(1)).redis(lost.url());
    let app = setting.start().await;
    let hotel = app.hotel().await.with_credits(100).await;
    let gate = Gated::after(&PIECES);
    let (owner, other) = (gate.node(&app).await, app.replica().await);
    musubi::jobs::start(&owner);
    let id = hotel.user.on(&owner).starts_one("cancelled-1").await;
    gate.reached(1).await;

    let payload = within(hotel.user.on(&other).cancels(&id)).await;

    assert_eq!(payload["execution"]["status"], "CANCELLED", "{payload}");
    assert_eq!(payload["execution"]["result"]["output"], DELIVERED);
    assert_eq!(payload["execution"]["charge"]["creditsUsed"], 2);
    assert_eq!(hotel.balance().await, (98, 0));
    assert_eq!(app.drifts().await, [""; 0]);
}

#[tokio::test]
async fn a_cancel_on_another_node_comes_over_the_wire() {
    let wire = RedisServer::start().await;
    let app = Setting::default().redis(wire.url()).start().await;
    let hotel = app.hotel().await.with_credits(100).await;
    let gate = Gated::after(&PIECES);
    let (owner, other) = (gate.node(&app).await, app.replica().await);
    musubi::jobs::start(&owner);
    until("both hear", async || {
        [&owner, &other].iter().all(|node| node.events.is_connected() == Some(true))
    })
    .await;
    let id = hotel.user.on(&owner).starts_one("cancelled-1").await;
    gate.reached(1).await;

    // The lease is two minutes: its renewal comes far too late to help.
    let payload = within(hotel.user.on(&other).cancels(&id)).await;

    assert_eq!(payload["execution"]["status"], "CANCELLED", "{payload}");
    assert_eq!(hotel.balance().await, (98, 0));
}

#[tokio::test]
async fn cancelling_twice_or_too_late_changes_nothing() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(100).await;
    let gate = Gated::after(&PIECES);
    let node = gate.node(&app).await;
    musubi::jobs::start(&node);
    let person = hotel.user.on(&node);
    let id = person.starts_one("cancelled-1").await;
    gate.reached(1).await;
    let (first, second) =
        within(async { tokio::join!(person.cancels(&id), person.cancels(&id)) }).await;
    let third = person.cancels(&id).await;

    let done = hotel.user.executes("When?", "finished-1").await["execution"].clone();
    let after_the_end = hotel.user.cancels(done["id"].as_str().unwrap()).await;

    assert_eq!(first["execution"], second["execution"]);
    assert_eq!(first["execution"], third["execution"]);
    assert_eq!(first["execution"]["status"], "CANCELLED", "{first}");
    assert_eq!(after_the_end["execution"]["status"], "SUCCEEDED", "{after_the_end}");
    assert_eq!(after_the_end["execution"]["charge"]["creditsUsed"], 2);
    assert_eq!(hotel.balance().await, (96, 0));
    assert_eq!(app.drifts().await, [""; 0]);
}

#[tokio::test]
async fn only_its_owner_and_those_who_see_all_may_cancel() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(100).await;
    let stranger = app.hotel().await;
    let gate = Gated::after(&PIECES);
    let node = gate.node(&app).await;
    musubi::jobs::start(&node);
    let id = hotel.user.on(&node).starts_one("cancelled-1").await;
    gate.reached(1).await;

    for person in [&hotel.support, &stranger.admin, &stranger.user] {
        let payload = within(person.on(&node).cancels(&id)).await;
        assert_eq!(payload["userErrors"][0]["code"], "NOT_FOUND", "{payload}");
        let reply = person.asks(BY_ID, json!({ "id": id })).await;
        assert_eq!(error_code(&reply), "NOT_FOUND");
    }
    let malformed = hotel.user.asks(CANCEL, json!({ "id": hotel.id.to_string() })).await;
    assert_eq!(malformed["data"]["aiExecutionCancel"]["userErrors"][0]["code"], "INVALID_ID");
    assert_eq!(hotel.user.execution(&id).await["status"], "RUNNING");

    let payload = within(hotel.manager.on(&node).cancels(&id)).await;
    assert_eq!(payload["execution"]["status"], "CANCELLED", "{payload}");
}
