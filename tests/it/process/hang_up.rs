//! Clients that hang up in the middle: the call was paid for, so it goes on, once.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::model_server::{ANSWER, Behaviour, ModelServer};
use crate::support::process::{EXECUTE, Home, Process, execute_input};

const QUESTION: &str = "Is there a lift?";

#[tokio::test]
async fn who_hangs_up_finds_the_result_later_and_pays_once() {
    let (models, home) = slow_hotel().await;
    let mut process = home.serve().await;
    let client = process.client(&home.guests().user);
    let mut connection = call(&process, &home.guests().user, "hung-up-0001").await;
    connection.flush().await.unwrap();
    models.wait_for_calls(1).await;
    drop(connection);

    let found = client.executions_of("hung-up-0001").await;
    assert_eq!(found.len(), 1, "it can be found by its key while it runs");
    let execution = client.until_ended(&found[0]["id"]).await;
    assert_eq!(execution["status"], "SUCCEEDED", "{execution}");
    assert_eq!(execution["result"]["output"], ANSWER);
    assert_eq!(execution["charge"]["creditsUsed"], 2);
    assert_eq!(client.executions_of("hung-up-0001").await, std::slice::from_ref(&execution));
    assert_eq!(client.executes(QUESTION, "hung-up-0001").await, execution);
    assert_eq!(models.calls(), 1);
    assert_eq!(models.aborted(), 0, "the provider's answer was read to its end");
    assert_eq!(client.balance().await, (998, 0));
    process.stop().await;
    home.adds_up().await;
}

#[tokio::test]
async fn whenever_one_hangs_up_the_same_key_pays_once() {
    let (models, home) = slow_hotel().await;
    let mut process = home.serve().await;
    let client = process.client(&home.guests().user);
    let rounds = 12;
    for round in 0..rounds {
        let key = format!("hung-up-{round:04}");
        let connection = call(&process, &home.guests().user, &key).await;
        // Now and then before the server has seen it, now and then after.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..60))).await;
        drop(connection);
        let answer = client.executes(QUESTION, &key).await;
        assert_eq!(answer["status"], "SUCCEEDED", "{answer}");
    }
    assert_eq!(models.calls(), rounds);
    assert_eq!(client.balance().await, (1_000 - 2 * i64::try_from(rounds).unwrap(), 0));
    process.stop().await;
    home.adds_up().await;
}

#[tokio::test]
async fn half_a_request_starts_nothing() {
    let (models, home) = slow_hotel().await;
    let mut process = home.serve().await;
    let client = process.client(&home.guests().user);
    let request = request(&home.guests().user, "half-0001");
    for end in [10, request.len() / 2, request.len() - 1] {
        let mut connection = TcpStream::connect(process.address()).await.unwrap();
        connection.write_all(&request.as_bytes()[..end]).await.unwrap();
        connection.shutdown().await.unwrap();
    }
    assert_eq!(client.executes(QUESTION, "whole-001").await["status"], "SUCCEEDED");
    process.stop().await;
    assert_eq!(models.calls(), 1);
    let books = home.connect().await;
    assert_eq!(books.number("SELECT COUNT(*) FROM ai_executions").await, 1);
    assert_eq!(books.number("SELECT COUNT(*) FROM idempotency_keys").await, 1);
}

async fn slow_hotel() -> (ModelServer, Home) {
    let models = ModelServer::start().await;
    models.respond_by_default(Behaviour::Answer {
        text: ANSWER.to_owned(),
        usage: Some((12, 34)),
        pieces: 4,
        delay: Duration::from_millis(50),
    });
    let home = Home::hotel(1_000).await.with_models(&models);
    (models, home)
}

/// Sends `aiExecute` and reads nothing.
async fn call(process: &Process, token: &str, key: &str) -> TcpStream {
    let mut connection = TcpStream::connect(process.address()).await.unwrap();
    connection.write_all(request(token, key).as_bytes()).await.unwrap();
    connection
}

fn request(token: &str, key: &str) -> String {
    let variables = execute_input(QUESTION, key);
    let body = serde_json::json!({ "query": EXECUTE, "variables": variables }).to_string();
    format!(
        "POST /graphql HTTP/1.1\r\nhost: musubi.test\r\ncontent-type: application/json\r\n\
         authorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}
