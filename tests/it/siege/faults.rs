//! PostgreSQL cuts connections under load, and Redis comes and goes meanwhile: no call is lost,
//! none is charged twice, and streams go on.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::witness::{many_files, sized};
use crate::support::database::is_postgres;
use crate::support::model_server::{ANSWER, Behaviour, ModelServer};
use crate::support::process::{
    Books, Client, EXECUTE, Home, Process, Seen, Watcher, execute_input, until,
};
use crate::support::redis_server::RedisServer;

const CREDITS: i64 = 100_000;
/// What a CHATBOT call of 46 tokens costs.
const CHARGE: i64 = 2;
const CHANGES: &str = "subscription { creditBalance { current held version } }";
const STEPS: &str = "subscription ($id: ID!) { aiExecutionEvents(executionId: $id) { seq } }";
const QUESTION: &str = "Is there parking?";
/// All connections of the program to its database, and of nobody else.
const CUT: &str = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()";

fn answers_in(pieces: usize, delay: Duration) -> Behaviour {
    Behaviour::Answer { text: ANSWER.to_owned(), usage: Some((12, 34)), pieces, delay }
}

/// Cuts all connections at random moments, and does something to Redis now and then.
async fn storm(books: &Books, redis: &mut RedisServer, over: &CancellationToken) -> i64 {
    let mut cut = 0;
    for round in 0.. {
        cut += books.number(CUT).await;
        match round % 8 {
            1 => redis.freeze(),
            3 => redis.thaw(),
            5 => redis.take_away(),
            7 => redis.bring_back().await,
            _ => {}
        }
        let is_over = over.is_cancelled() && round % 8 == 7;
        if is_over {
            return cut;
        }
        // Now and then longer than a call takes on a slow machine: what never gets through shows
        // nothing.
        sleep(Duration::from_millis(fastrand::u64(20..1_000))).await;
    }
    cut
}

/// Asks one question after the other, each until it is answered. Says how many succeeded.
async fn customer(client: Client, number: usize, questions: usize) -> i64 {
    let mut successes = 0;
    for question in 0..questions {
        let key = format!("customer-{number}-{question}");
        let answer = until("a key is answered", async || ask(&client, &key).await).await;
        let status = answer["status"].as_str().unwrap();
        match (status, answer["failure"]["code"].as_str()) {
            ("SUCCEEDED", None) => {
                assert_eq!(answer["charge"]["creditsUsed"], CHARGE, "{answer}");
                successes += 1;
            }
            ("FAILED", Some("INTERRUPTED" | "INTERNAL")) => {
                assert_eq!(answer["charge"]["creditsUsed"], 0, "{answer}");
            }
            (_, _) => panic!("{key}: {answer}"),
        }
    }
    successes
}

/// None: not answered yet.
async fn ask(client: &Client, key: &str) -> Option<Value> {
    let reply = client.tries(EXECUTE, execute_input(QUESTION, key)).await.unwrap();
    if reply["errors"][0]["extensions"]["code"] == "UNAVAILABLE" {
        sleep(Duration::from_millis(50)).await;
        return None;
    }
    assert!(reply["errors"].is_null(), "{key}: {reply}");
    let payload = &reply["data"]["aiExecute"];
    assert_eq!(payload["userErrors"], json!([]), "{key}: {payload}");
    let execution = payload["execution"].clone();
    (execution["status"] != "RUNNING").then_some(execution)
}

/// Follows the balance, versions rising, until it comes to this with nothing held.
async fn comes_to(mut socket: Watcher, mut current: tokio::sync::watch::Receiver<Option<i64>>) {
    let mut version = -1;
    let mut latest = (-1, -1);
    loop {
        let goal = *current.borrow_and_update();
        if goal == Some(latest.0) && latest.1 == 0 {
            return;
        }
        tokio::select! {
            seen = socket.next() => {
                let Seen::Data(data) = seen else { panic!("the subscription ended: {seen:?}") };
                let balance = &data["creditBalance"];
                let number = |name: &str| balance[name].as_i64().unwrap();
                assert!(number("version") > version, "{data} after {version}");
                version = number("version");
                latest = (number("current"), number("held"));
            }
            Ok(()) = current.changed() => {}
        }
    }
}

async fn watch(process: &Process, token: &str, count: usize) -> Vec<Watcher> {
    let watch = || Watcher::watch(process, token, CHANGES, json!({}));
    join_all((0..count).map(|_| watch())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_cut_lose_no_call_and_end_no_stream() {
    if !is_postgres() {
        return;
    }
    many_files();
    let models = ModelServer::start().await;
    models.respond_by_default(answers_in(4, Duration::from_millis(10)));
    let mut redis = RedisServer::start().await;
    let home = Home::hotel(CREDITS).await.with_models(&models).with("REDIS_URL", &redis.url());
    let (mut one, mut other) = (home.serve().await, home.serve().await);
    let token = &home.guests().admin;
    let (told, goal) = tokio::sync::watch::channel(None);
    let mut sockets = watch(&one, token, 5).await;
    sockets.extend(watch(&other, token, 5).await);
    let watching: JoinSet<()> =
        sockets.into_iter().map(|socket| comes_to(socket, goal.clone())).collect();

    let books = home.connect().await;
    let over = CancellationToken::new();
    let (customers, questions) = (8, sized(8, 100));
    let asks = join_all((0..customers).map(|number| {
        let process = if number % 2 == 0 { &one } else { &other };
        customer(process.client(token), number, questions)
    }));
    let asked = async {
        let successes: i64 = asks.await.into_iter().sum();
        over.cancel();
        successes
    };
    let (cut, successes) = tokio::join!(storm(&books, &mut redis, &over), asked);
    println!("{successes} of {} succeeded while {cut} connections were cut", customers * questions);
    books.until_nothing_is_held().await;
    let balance = CREDITS - successes * CHARGE;
    assert_eq!(books.number("SELECT current_balance FROM ai_credit_accounts").await, balance);
    let running = "SELECT COUNT(*) FROM ai_executions WHERE status = 'RUNNING'";
    assert_eq!(books.number(running).await, 0);
    told.send_replace(Some(balance));
    watching.join_all().await;
    for process in [&mut one, &mut other] {
        assert!(!process.logged().contains("panicked"), "{}", process.logged());
        process.stop().await;
    }
    home.adds_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_an_execution_sees_its_end_though_connections_are_cut() {
    if !is_postgres() {
        return;
    }
    let models = ModelServer::start().await;
    models.respond_by_default(answers_in(5, Duration::from_millis(500)));
    let home = Home::hotel(CREDITS).await.with_models(&models);
    let mut process = home.serve().await;
    let token = &home.guests().admin;
    let client = process.client(token);
    let mut sockets = Vec::new();
    for number in 0..sized(5, 50) {
        let run = client.starts(QUESTION, &format!("followed-{number}")).await;
        let id = json!({ "id": run["id"] });
        let mut socket = Watcher::watch(&process, token, STEPS, id).await;
        assert_eq!(socket.next().await, Seen::Data(json!({ "aiExecutionEvents": { "seq": 1 } })));
        sockets.push(socket);
    }
    let books = home.connect().await;
    let follows = join_all(sockets.into_iter().map(async |mut socket: Watcher| {
        assert_eq!(socket.next().await, Seen::Data(json!({ "aiExecutionEvents": { "seq": 2 } })));
        assert_eq!(socket.next().await, Seen::Complete);
    }));
    let cuts = async {
        for _ in 0..40 {
            books.number(CUT).await;
            sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::join!(follows, cuts);
    books.until_nothing_is_held().await;
    process.stop().await;
    home.adds_up().await;
}
