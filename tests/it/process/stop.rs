//! SIGTERM: what runs is finished and paid for, then the program ends.

use std::time::Duration;

use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::model_server::{ANSWER, Behaviour, ModelServer};
use crate::support::process::{Home, Seen, Watcher, until};

const BALANCE: &str = "subscription { creditBalance { current held version } }";
const EVENTS: &str = "subscription ($id: ID!) { aiExecutionEvents(executionId: $id) { seq } }";

#[tokio::test]
async fn a_stop_lets_executions_finish_and_settles_them() {
    let models = ModelServer::start().await;
    // Longer than the lease: it must go on being renewed during the shutdown.
    models.respond_by_default(Behaviour::Answer {
        text: ANSWER.to_owned(),
        usage: Some((12, 34)),
        pieces: 7,
        delay: Duration::from_millis(400),
    });
    let home = Home::hotel(1_000).await.with_models(&models);
    let mut process = home.serve().await;
    let token = &home.guests().admin;
    let client = process.client(token);
    let mut balance = Watcher::watch(&process, token, BALANCE, json!({})).await;
    assert!(matches!(balance.next().await, Seen::Data(_)));

    let mut started = Vec::new();
    for number in 0..2 {
        started.push(client.starts("Where is the bath?", &format!("started-{number}")).await);
    }
    let id = json!({ "id": started[0]["id"] });
    let mut events = Watcher::watch(&process, token, EVENTS, id).await;
    assert!(matches!(events.next().await, Seen::Data(_)));
    let mut waiting = JoinSet::new();
    for number in 0..4 {
        let client = client.clone();
        waiting.spawn(async move {
            client.executes("Where is the bath?", &format!("waiting-{number}")).await
        });
    }
    models.wait_for_calls(6).await;
    process.terminate();

    assert_eq!(balance.closes().await, Seen::Closed(1012));
    assert_eq!(events.closes().await, Seen::Closed(1012));
    until("readiness turns", async || (!process.is_ready().await).then_some(())).await;
    let refused = client.tries("{ __typename }", json!({})).await;
    assert!(refused.is_err() || refused.is_ok_and(|reply| reply["data"].is_null()));

    for answer in waiting.join_all().await {
        assert_eq!(answer["status"], "SUCCEEDED", "{answer}");
        assert_eq!(answer["result"]["output"], ANSWER);
        assert_eq!(answer["charge"]["creditsUsed"], 2);
    }
    let status = process.exit().await;
    assert_eq!(status.code(), Some(0), "{}", process.logged());
    assert!(!process.logged().contains("did not end in time"), "{}", process.logged());

    let books = home.connect().await;
    let settled = "SELECT COUNT(*) FROM ai_credit_holds WHERE state = 'SETTLED'";
    let settled = books.number(settled).await;
    assert_eq!(settled, 6, "settled before the end, not swept after it");
    let ended = "SELECT COUNT(*) FROM ai_executions WHERE status = 'SUCCEEDED'";
    assert_eq!(books.number(ended).await, 6);
    let balance = "SELECT current_balance FROM ai_credit_accounts";
    assert_eq!(books.number(balance).await, 1_000 - 6 * 2);
    home.adds_up().await;
    assert_eq!(models.aborted(), 0);
}

#[tokio::test]
async fn a_second_signal_ends_at_once_and_the_next_start_clears_up() {
    let models = ModelServer::start().await;
    models.respond(Behaviour::HangAfter(2));
    let home = Home::hotel(1_000).await.with_models(&models);
    let mut process = home.serve().await;
    let client = process.client(&home.guests().user);
    let execution = client.starts("Where is the bath?", "never-ends").await;
    models.wait_for_calls(1).await;
    process.terminate();
    until("readiness turns", async || (!process.is_ready().await).then_some(())).await;
    process.terminate();
    let status = process.exit().await;
    assert_eq!(status.code(), Some(1), "{}", process.logged());

    let mut process = home.serve().await;
    let client = process.client(&home.guests().user);
    let execution = client.until_ended(&execution["id"]).await;
    assert_eq!(execution["failure"]["code"], "INTERRUPTED");
    assert_eq!(execution["charge"]["creditsUsed"], 0);
    assert_eq!(client.balance().await, (1_000, 0));
    process.stop().await;
    home.adds_up().await;
}

#[tokio::test]
async fn an_idle_program_stops_at_once() {
    let home = Home::hotel(10).await;
    let mut process = home.serve().await;
    // Connected and silent, and connected by keep-alive.
    let silent = TcpStream::connect(process.address()).await.unwrap();
    let client = process.client(&home.guests().user);
    assert_eq!(client.balance().await, (10, 0));
    process.stop().await;
    assert!(!process.logged().contains("did not end in time"), "{}", process.logged());
    drop((silent, client));
    home.adds_up().await;
}
