//! The client leaves in the middle: the call goes on, is paid for once, and its result is kept.

use std::time::Duration;

use chrono::TimeDelta;
use futures_util::FutureExt;
use musubi::ai::service::sweep::sweep;
use musubi::http::Limits;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{Gated, executions, short, until, within};
use crate::http::address;
use crate::support::model_server::{ANSWER, Behaviour, ModelServer};
use crate::support::people::EXECUTE;
use crate::support::{Setting, TestApp, TestServer};

#[tokio::test]
async fn a_caller_who_stops_waiting_finds_the_result_by_id_and_by_key() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(100).await;
    let gate = Gated::after(&["Seven."]);
    let node = gate.node(&app).await;
    let person = hotel.user.on(&node);
    tokio::select! {
        payload = person.executes("When is breakfast?", "left-alone") => panic!("{payload}"),
        () = gate.reached(1) => {}
    }

    gate.open();
    let key = "left-alone";
    until("it ends", async || {
        person.executions_of_key(key).await["nodes"][0]["status"] == "SUCCEEDED"
    })
    .await;

    let found = person.executions_of_key(key).await;
    assert_eq!(found["totalCount"], 1);
    let execution = &found["nodes"][0];
    assert_eq!(execution["result"]["output"], "Seven.");
    assert_eq!(execution["charge"]["creditsUsed"], 2);
    assert_eq!(person.execution(execution["id"].as_str().unwrap()).await, *execution);
    let again = person.executes("When is breakfast?", key).await;
    assert_eq!(again["execution"]["id"], execution["id"]);
    assert_eq!(gate.calls(), 1);
    assert_eq!(hotel.balance().await, (98, 0));
    assert_eq!(app.drifts().await, [""; 0]);
}

#[tokio::test]
async fn a_client_that_hangs_up_has_paid_once_and_has_its_answer() {
    let server = ModelServer::start().await;
    server.respond_by_default(Behaviour::Answer {
        text: ANSWER.to_owned(),
        usage: Some((12, 34)),
        pieces: 4,
        delay: Duration::from_millis(100),
    });
    let setting = Setting::default().real_time().model_server(&server);
    let serving = TestServer::start_with(setting, Limits::default()).await;
    let body = json!({ "query": EXECUTE, "variables": { "input": short("When?", "hung-up-1") } });
    let body = body.to_string();
    let request = format!(
        "POST /graphql HTTP/1.1\r\nhost: musubi.test\r\ncontent-type: application/json\r\n\
         authorization: Bearer {}\r\ncontent-length: {}\r\n\r\n{body}",
        serving.token("user"),
        body.len()
    );

    let mut connection = TcpStream::connect(address(&serving)).await.unwrap();
    connection.write_all(request.as_bytes()).await.unwrap();
    within(server.wait_for_calls(1)).await;
    drop(connection);
    let user = &serving.hotel.user;
    let first = async || user.executions_of_key("hung-up-1").await["nodes"][0].clone();
    until("it ends", async || first().await["status"] == "SUCCEEDED").await;

    let execution = first().await;
    assert_eq!(execution["result"]["output"], ANSWER);
    assert_eq!((server.calls(), server.aborted()), (1, 0));
    assert_eq!(serving.hotel.balance().await, (9_998, 0));
    let again: Value = user.executes("When?", "hung-up-1").await;
    assert_eq!(again["execution"]["id"], execution["id"]);
    assert_eq!(server.calls(), 1);
    assert_eq!(serving.app.drifts().await, [""; 0]);
}

#[tokio::test]
async fn wherever_a_call_is_let_go_the_books_are_in_order() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(1_000).await;

    for polls in 0..150 {
        let key = format!("let-go-{polls:04}");
        let mut call = Box::pin(hotel.user.executes("When?", &key));
        for _ in 0..polls {
            if call.as_mut().now_or_never().is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        drop(call);
    }
    until("all work is over", async || app.app.tasks.count_running() == 0).await;
    // What was let go in the middle of its commit is the sweep's.
    app.clock.advance(TimeDelta::minutes(3));
    let orphans = sweep(&app.app).await.unwrap();

    println!("{orphans} calls were reserved and never run");
    let rows = executions(&app.app).await;
    let used: i64 = rows.iter().map(|row| row.credits_used).sum();
    assert_eq!(hotel.balance().await, (1_000 - used, 0));
    assert_eq!(app.drifts().await, [""; 0]);
    assert!(rows.len() > 10, "{}", rows.len());
}
