//! Operations beside one another: hot streams, slow readers, panics, and ends of all kinds.

use std::time::Duration;

use musubi::http::Limits;
use serde_json::{Value, json};

use super::frames::Raw;
use super::{Client, IDLES, typename};
use crate::http::stage::Stage;

/// As much as may lie between a hot stream and its client: our queue, and the system's buffers.
const BETWEEN_BYTES: usize = 32 * 1024 * 1024;

/// Reads on until an operation other than the stream `hot` says something.
async fn see_beside_the_stream(client: &mut Client) -> Value {
    for _ in 0..50_000 {
        let message = client.see_message().await;
        if message["id"] != "hot" {
            return message;
        }
    }
    panic!("the stream left no room for others");
}

fn ended(id: &str) -> Value {
    json!({ "type": "complete", "id": id })
}

#[tokio::test]
async fn a_hot_stream_starves_neither_its_own_socket_nor_others() {
    let (server, stage) = Stage::serve(Limits::default()).await;
    let mut hot = Client::signed_in(&server).await;
    hot.subscribe("hot", "subscription { pours(count: 1000) }").await;
    assert_eq!(hot.see_message().await["payload"]["data"]["pours"], "x".repeat(1_000));
    let mut other = Client::signed_in(&server).await;

    for round in 0..3 {
        let id = format!("query {round}");
        hot.subscribe(&id, "{ __typename }").await;
        assert_eq!(see_beside_the_stream(&mut hot).await, typename(&id));
        assert_eq!(see_beside_the_stream(&mut hot).await, ended(&id));
        hot.send(json!({ "type": "ping" })).await;
        assert_eq!(see_beside_the_stream(&mut hot).await, json!({ "type": "pong" }));

        other.subscribe(&id, "{ __typename }").await;
        assert_eq!(other.see_message().await, typename(&id));
        assert_eq!(other.see_message().await, ended(&id));
    }
    hot.send(json!({ "type": "complete", "id": "hot" })).await;
    stage.see_left(1).await;
}

#[tokio::test]
async fn a_reader_that_is_too_slow_costs_bounded_memory_and_is_closed() {
    let limits = Limits { write_timeout: Duration::from_millis(500), ..Limits::default() };
    let (server, stage) = Stage::serve(limits).await;
    let mut other = Client::signed_in(&server).await;
    let slow = Raw::subscribed(&server, "subscription { pours(count: 50000) }").await;
    stage.see_left(1).await;
    assert!(stage.poured() * 50_000 < BETWEEN_BYTES, "{} events", stage.poured());
    drop(slow);
    other.see_nothing().await;
}

#[tokio::test]
async fn a_panic_ends_one_operation_and_leaves_its_neighbours() {
    let (server, stage) = Stage::serve(Limits::default()).await;
    let mut client = Client::signed_in(&server).await;
    client.subscribe("neighbour", "{ waits }").await;
    stage.see_begun(1).await;
    for (id, text) in [("1", "{ panics }"), ("2", "mutation { panics }")] {
        client.subscribe(id, text).await;
        let error = client.see_message().await;
        assert_eq!((&error["type"], &error["id"]), (&json!("error"), &json!(id)), "{text}");
        assert_eq!(error["payload"][0]["extensions"]["code"], "INTERNAL");
        assert!(!error.to_string().contains("own fault"));
    }
    client.subscribe("3", "subscription { breaks }").await;
    assert_eq!(client.see_message().await["payload"]["data"]["breaks"], true);
    let error = client.see_message().await;
    assert_eq!((&error["type"], &error["id"]), (&json!("error"), &json!("3")));
    assert_eq!(error["payload"][0]["extensions"]["code"], "INTERNAL");

    stage.open_gate();
    assert_eq!(client.see_message().await["payload"]["data"]["waits"], true);
    assert_eq!(client.see_message().await, ended("neighbour"));
    client.see_nothing().await;
}

#[tokio::test]
async fn an_operation_that_takes_too_long_answers_error_and_the_socket_lives_on() {
    let limits = Limits { operation_timeout: Duration::from_millis(200), ..Limits::default() };
    let (server, stage) = Stage::serve(limits).await;
    let mut client = Client::signed_in(&server).await;
    for id in ["1", "2"] {
        client.subscribe(id, "{ waits }").await;
        let error = client.see_message().await;
        assert_eq!((&error["type"], &error["id"]), (&json!("error"), &json!(id)));
        assert_eq!(error["payload"][0]["extensions"]["code"], "TIMEOUT");
    }
    stage.see_left(2).await;
    // A subscription has no end of its own.
    client.subscribe("3", IDLES).await;
    assert_eq!(client.see_message().await["payload"]["data"]["idles"], true);
    tokio::time::sleep(Duration::from_millis(500)).await;
    client.see_nothing().await;
}

#[tokio::test]
async fn an_answer_that_is_too_long_for_a_socket_is_an_error() {
    let (server, _) = Stage::serve(Limits::default()).await;
    let mut client = Client::signed_in(&server).await;
    client.subscribe("fits", "{ letters(count: 4000000) }").await;
    let answer = client.see_message().await;
    assert_eq!(answer["payload"]["data"]["letters"].as_str().unwrap().len(), 4_000_000);
    assert_eq!(client.see_message().await, ended("fits"));
    client.subscribe("long", "{ letters(count: 5000000) }").await;
    let error = client.see_message().await;
    assert_eq!((&error["type"], &error["id"]), (&json!("error"), &json!("long")));
    client.see_nothing().await;
}

#[tokio::test]
async fn what_the_client_completes_is_ended_except_a_mutation() {
    let (server, stage) = Stage::serve(Limits::default()).await;
    let mut client = Client::signed_in(&server).await;
    client.subscribe("paid", "mutation { waits }").await;
    stage.see_begun(1).await;
    client.subscribe("read", "{ waits }").await;
    stage.see_begun(2).await;
    for id in ["paid", "read"] {
        client.send(json!({ "type": "complete", "id": id })).await;
    }
    stage.see_left(1).await;
    stage.open_gate();
    stage.see_left(2).await;
    assert_eq!(stage.finished(), 1);
    client.see_nothing().await;
}

#[tokio::test]
async fn a_mutation_goes_on_when_its_socket_ends() {
    let (server, stage) = Stage::serve(Limits::default()).await;
    let mut client = Client::signed_in(&server).await;
    client.subscribe("paid", "mutation { waits }").await;
    stage.see_begun(1).await;
    client.subscribe("read", "{ waits }").await;
    stage.see_begun(2).await;
    drop(client);
    stage.see_left(1).await;
    stage.open_gate();
    stage.see_left(2).await;
    assert_eq!(stage.finished(), 1);
}
