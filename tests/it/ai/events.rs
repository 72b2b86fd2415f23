//! Following an execution live.

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use musubi::ai::service::watch;
use musubi::db;
use serde_json::{Value, json};

use super::{Gated, error_code, within};
use crate::support::people::{Hotel, Person};
use crate::support::redis_server::RedisServer;
use crate::support::{Setting, TestApp};

const EVENTS: &str = "subscription ($id: ID!, $after: Int) {
    aiExecutionEvents(executionId: $id, after: $after) {
      __typename seq executionId at
      ... on AiExecutionStarted { creditsHeld }
      ... on AiExecutionFinished { execution { id status result { output }
                                   charge { creditsUsed } } } } }";

fn follow(person: &Person, id: &str, after: Option<i32>) -> BoxStream<'static, Value> {
    person.watches(EVENTS, json!({ "id": id, "after": after }))
}

async fn next(events: &mut BoxStream<'static, Value>) -> Option<Value> {
    within(events.next()).await
}

async fn next_event(events: &mut BoxStream<'static, Value>) -> Value {
    let reply = next(events).await.expect("one more event");
    assert!(reply["errors"].is_null(), "{reply}");
    reply["data"]["aiExecutionEvents"].clone()
}

async fn stage() -> (TestApp, Hotel, Gated) {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(100).await;
    (app, hotel, Gated::after(&["Seven."]))
}

#[tokio::test]
async fn an_execution_is_started_then_finished_then_over() {
    let (app, hotel, gate) = stage().await;
    let node = gate.node(&app).await;
    let person = hotel.user.on(&node);
    let id = person.starts_one("followed-1").await;
    let mut events = follow(&person, &id, None);

    let started = next_event(&mut events).await;
    gate.open();
    let finished = next_event(&mut events).await;

    assert_eq!(started["__typename"], "AiExecutionStarted");
    assert_eq!((&started["seq"], &started["executionId"]), (&json!(1), &json!(id)));
    assert_eq!(started["creditsHeld"], 2);
    assert_eq!(finished["__typename"], "AiExecutionFinished");
    assert_eq!((&finished["seq"], &finished["executionId"]), (&json!(2), &json!(id)));
    assert_eq!(finished["execution"]["status"], "SUCCEEDED");
    assert_eq!(finished["execution"]["result"]["output"], "Seven.");
    assert_eq!(finished["execution"]["charge"]["creditsUsed"], 2);
    assert_eq!(next(&mut events).await, None);
}

#[tokio::test]
async fn a_client_goes_on_after_the_last_event_that_it_has() {
    let (app, hotel, gate) = stage().await;
    let node = gate.node(&app).await;
    let person = hotel.user.on(&node);
    let id = person.starts_one("followed-1").await;
    let mut running = follow(&person, &id, Some(1));

    gate.open();
    assert_eq!(next_event(&mut running).await["seq"], 2);
    assert_eq!(next(&mut running).await, None);

    let mut late = follow(&person, &id, None);
    assert_eq!(next_event(&mut late).await["seq"], 1);
    assert_eq!(next_event(&mut late).await["seq"], 2);
    assert_eq!(next(&mut late).await, None);
    let mut later = follow(&person, &id, Some(1));
    assert_eq!(next_event(&mut later).await["seq"], 2);
    assert_eq!(next(&mut later).await, None);
    assert_eq!(next(&mut follow(&person, &id, Some(2))).await, None);
}

#[tokio::test]
async fn a_stranger_finds_no_execution_to_follow() {
    let (app, hotel, gate) = stage().await;
    let stranger = app.hotel().await;
    let node = gate.node(&app).await;
    let id = hotel.user.on(&node).starts_one("followed-1").await;

    for person in [&stranger.admin, &stranger.user, &hotel.support] {
        let mut events = follow(person, &id, None);
        let reply = next(&mut events).await.expect("an error");
        assert_eq!(error_code(&reply), "NOT_FOUND", "{reply}");
        assert_eq!(next(&mut events).await, None);
    }
    let mut wrong = follow(&hotel.user, &hotel.id.to_string(), None);
    let reply = next(&mut wrong).await.expect("an error");
    assert_eq!(error_code(&reply), "INVALID_ID", "{reply}");
    let mut manager = follow(&hotel.manager, &id, None);
    assert_eq!(next_event(&mut manager).await["seq"], 1);
    gate.open();
}

#[tokio::test]
async fn the_end_is_told_though_its_event_is_lost() {
    // No wire between the nodes.
    let lost = RedisServer::absent();
    let app = Setting::default().redis(lost.url()).start().await;
    let hotel = app.hotel().await.with_credits(100).await;
    let gate = Gated::after(&["Seven."]);
    let (owner, other) = (gate.node(&app).await, app.replica().await);
    let id = hotel.user.on(&owner).starts_one("followed-1").await;
    let mut events = follow(&hotel.user.on(&other), &id, None);
    assert_eq!(next_event(&mut events).await["seq"], 1);

    gate.open();
    let (finished, ()) = within(async {
        tokio::join!(next_event(&mut events), async {
            hotel.user.sees_end_of(&id).await;
            watch::reread(&other).await.unwrap();
        })
    })
    .await;

    assert_eq!(finished["seq"], 2);
    assert_eq!(next(&mut events).await, None);
}

#[tokio::test]
async fn a_manager_who_is_one_no_more_sees_no_result_of_others() {
    let (app, hotel, gate) = stage().await;
    let node = gate.node(&app).await;
    let id = hotel.user.on(&node).starts_one("followed-1").await;
    let mut events = follow(&hotel.manager.on(&node), &id, None);
    assert_eq!(next_event(&mut events).await["seq"], 1);

    let txn = app.app.db.begin().await.unwrap();
    let sql = "UPDATE memberships SET role = 'USER' WHERE user_id = $1";
    db::execute(&*txn, sql, vec![hotel.manager.id.into()]).await.unwrap();
    txn.commit().await.unwrap();
    gate.open();

    let reply = next(&mut events).await.expect("an error");
    assert_eq!(error_code(&reply), "FORBIDDEN", "{reply}");
    assert!(!reply.to_string().contains("Seven."));
    assert_eq!(next(&mut events).await, None);
}

#[tokio::test]
async fn a_member_who_was_removed_sees_no_further_event() {
    let (app, hotel, gate) = stage().await;
    let node = gate.node(&app).await;
    let person = hotel.user.on(&node);
    let id = person.starts_one("followed-1").await;
    let mut events = follow(&person, &id, None);
    assert_eq!(next_event(&mut events).await["seq"], 1);

    let txn = app.app.db.begin().await.unwrap();
    let sql = "DELETE FROM memberships WHERE user_id = $1";
    db::execute(&*txn, sql, vec![hotel.user.id.into()]).await.unwrap();
    txn.commit().await.unwrap();
    gate.open();

    let reply = next(&mut events).await.expect("an error");
    assert_eq!(error_code(&reply), "UNAUTHENTICATED", "{reply}");
    assert_eq!(next(&mut events).await, None);
}
