//! Bounds of sockets, and what time does to them.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::TimeDelta;
use musubi::http::Limits;
use serde_json::{Value, json};

use super::{BALANCE, Client, IDLES, Seen, typename};
use crate::http::stage::{Stage, until};
use crate::support::{Setting, TestServer};

async fn serve(limits: Limits) -> TestServer {
    TestServer::start_with(Setting::default().real_time(), limits).await
}

#[tokio::test]
async fn a_socket_that_says_nothing_is_closed() {
    assert_eq!(Limits::default().init_timeout, Duration::from_secs(5));
    let limits = Limits { init_timeout: Duration::from_millis(200), ..Limits::default() };
    let server = serve(limits).await;
    let mut client = Client::open(&server).await;
    client.see_closed(4408, "Connection initialisation timeout").await;

    // One that spoke in time may then be silent.
    let mut client = Client::signed_in(&server).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    client.see_nothing().await;
}

#[tokio::test]
async fn a_socket_beyond_the_nodes_bound_is_told_to_come_back() {
    let server = serve(Limits { sockets_max: 2, ..Limits::default() }).await;
    let mut first = Client::signed_in(&server).await;
    let mut second = Client::open(&server).await;
    second.init(json!({})).await;
    Client::open(&server).await.see_closed(1013, "Too many connections").await;

    first.see_nothing().await;
    drop(second);
    until("there is room again", async || {
        let mut next = Client::open(&server).await;
        next.send(json!({ "type": "ping" })).await;
        next.see().await == Seen::Message(json!({ "type": "pong" }))
    })
    .await;
}

#[tokio::test]
async fn nobody_takes_all_sockets_of_a_node() {
    let server = serve(Limits { sockets_per_user_max: 1, ..Limits::default() }).await;
    let token = |role: &str| json!({ "authorization": format!("Bearer {}", server.token(role)) });
    let mut admin = Client::open(&server).await;
    admin.init(token("admin")).await;
    let mut anonymous = Client::open(&server).await;
    anonymous.init(json!({})).await;

    for payload in [token("admin"), json!({})] {
        let mut one_more = Client::open(&server).await;
        one_more.send(json!({ "type": "connection_init", "payload": payload })).await;
        one_more.see_closed(1013, "Too many connections").await;
    }
    Client::open(&server).await.init(token("user")).await;
    admin.see_nothing().await;

    drop(admin);
    until("there is room again", async || {
        let mut next = Client::open(&server).await;
        next.send(json!({ "type": "connection_init", "payload": token("admin") })).await;
        next.see().await == Seen::Message(json!({ "type": "connection_ack" }))
    })
    .await;
}

#[tokio::test]
async fn a_socket_ends_with_its_token() {
    // The clock stands still until it is moved.
    let limits = Limits { ping_pause: Duration::from_secs(1), ..Limits::default() };
    let server = TestServer::start_with(Setting::default(), limits).await;
    let mut client = Client::signed_in(&server).await;
    client.subscribe("1", BALANCE).await;
    assert_eq!(client.see_message().await["type"], "next");

    server.app.clock.advance(TimeDelta::hours(12));
    // A balance that is read again may refuse just before.
    until("the socket closes", async || match client.see().await {
        Seen::Closed(code, reason) => {
            assert_eq!((code, reason.as_str()), (4403, "Forbidden"));
            true
        }
        Seen::Message(message) => {
            assert_eq!(message["type"], "error");
            assert_eq!(message["payload"][0]["extensions"]["code"], "UNAUTHENTICATED");
            false
        }
        Seen::Lost => panic!("no goodbye"),
    })
    .await;

    let late: Value = json!({ "authorization": format!("Bearer {}", server.token("admin")) });
    let mut client = Client::open(&server).await;
    client.send(json!({ "type": "connection_init", "payload": late })).await;
    client.see_closed(4403, "Forbidden").await;
}

#[tokio::test]
async fn a_second_init_closes_the_socket_also_while_the_first_is_pending() {
    let server = serve(Limits::default()).await;
    let mut client = Client::open(&server).await;
    let payload = json!({ "authorization": format!("Bearer {}", server.token("admin")) });
    for _ in 0..2 {
        client.send(json!({ "type": "connection_init", "payload": payload })).await;
    }
    let mut seen = client.see().await;
    if seen == Seen::Message(json!({ "type": "connection_ack" })) {
        seen = client.see().await;
    }
    assert_eq!(seen, Seen::Closed(4429, "Too many initialisation requests".to_owned()));
}

#[tokio::test]
async fn four_queries_of_a_socket_run_at_once_and_the_others_wait_and_are_answered() {
    let (server, stage) = Stage::serve(Limits::default()).await;
    let mut client = Client::signed_in(&server).await;
    for id in 0..50 {
        client.subscribe(&id.to_string(), "{ waits }").await;
    }
    client.subscribe("one more", "{ __typename }").await;
    let error = client.see_message().await;
    assert_eq!((&error["type"], &error["id"]), (&json!("error"), &json!("one more")));
    assert_eq!(error["payload"][0]["extensions"]["code"], "RATE_LIMITED");
    stage.see_begun(4).await;
    client.see_nothing().await;
    let mut other = Client::signed_in(&server).await;
    other.subscribe("1", "{ __typename }").await;
    assert_eq!(other.see_message().await, typename("1"));
    stage.see_begun(4).await;

    stage.open_gate();
    let mut answered = BTreeSet::new();
    while answered.len() < 50 {
        let message = client.see_message().await;
        match message["type"].as_str() {
            Some("next") => assert_eq!(message["payload"]["data"]["waits"], true),
            Some("complete") => assert!(answered.insert(message["id"].to_string())),
            _ => panic!("{message}"),
        }
    }
    stage.see_begun(50).await;
    client.see_nothing().await;
}

#[tokio::test]
async fn waiting_queries_hold_up_neither_mutations_nor_subscriptions_and_leave_when_told() {
    let (server, stage) = Stage::serve(Limits::default()).await;
    let mut client = Client::signed_in(&server).await;
    for id in 0..6 {
        client.subscribe(&id.to_string(), "{ waits }").await;
    }
    stage.see_begun(4).await;
    client.subscribe("live", IDLES).await;
    assert_eq!(client.see_message().await["payload"]["data"]["idles"], true);
    client.subscribe("paid", "mutation { waits }").await;
    stage.see_begun(5).await;

    // One that waits gives up its place in the queue, then one that runs gives up its turn. Which
    // of the six run is chance only as long as they are not asked for one by one.
    client.send(json!({ "type": "complete", "id": "5" })).await;
    client.see_nothing().await;
    client.send(json!({ "type": "complete", "id": "0" })).await;
    stage.see_left(1).await;
    stage.see_begun(6).await;

    stage.open_gate();
    let mut answered = BTreeSet::new();
    while answered.len() < 5 {
        let message = client.see_message().await;
        if message["type"] == "complete" {
            answered.insert(message["id"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(answered, ["1", "2", "3", "4", "paid"].map(str::to_owned).into());
    client.see_nothing().await;
}
