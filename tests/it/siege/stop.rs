//! The end of a process in the midst of many sockets and running executions.

use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::witness::{many_files, sized};
use crate::support::model_server::{ANSWER, Behaviour, ModelServer};
use crate::support::process::{
    Books, Client, EXECUTE, Home, Process, Seen, Watcher, execute_input, until,
};

const CREDITS: i64 = 10_000;
/// What a CHATBOT call of 46 tokens costs.
const CHARGE: i64 = 2;
const CHANGES: &str = "subscription { creditBalance { current held version } }";
const STEPS: &str = "subscription ($id: ID!) { aiExecutionEvents(executionId: $id) { seq } }";
const QUESTION: &str = "Where is the bath?";
const ACTIVE: &str = "SELECT COUNT(*) FROM ai_credit_holds WHERE state = 'ACTIVE'";
const RUNNING: &str = "SELECT COUNT(*) FROM ai_executions WHERE status = 'RUNNING'";
const SUCCEEDED: &str = "SELECT COUNT(*) FROM ai_executions WHERE status = 'SUCCEEDED'";
const CURRENT: &str = "SELECT current_balance FROM ai_credit_accounts";
const HELD: &str = "SELECT CAST(held AS BIGINT) FROM ai_credit_accounts";

/// An answer that takes some seconds, longer than a lease.
fn thinks() -> Behaviour {
    let delay = Duration::from_millis(500);
    Behaviour::Answer { text: ANSWER.to_owned(), usage: Some((12, 34)), pieces: 7, delay }
}

/// Sockets that have seen something: most watch the balance, the others one execution each.
async fn sockets(process: &Process, token: &str, count: usize, runs: &[Value]) -> Vec<Watcher> {
    let open = async |number: usize| {
        let run = runs.get(number).map(|run| json!({ "id": run["id"] }));
        let query = if run.is_some() { STEPS } else { CHANGES };
        let variables = run.unwrap_or_else(|| json!({}));
        let mut socket = Watcher::watch(process, token, query, variables).await;
        let seen = socket.next().await;
        assert!(matches!(seen, Seen::Data(_)), "{seen:?}");
        socket
    };
    stream::iter(0..count).map(open).buffer_unordered(50).collect().await
}

/// How sockets end that hear nothing but data before.
fn ends(sockets: Vec<Watcher>) -> JoinSet<Seen> {
    let end = |mut socket: Watcher| async move {
        loop {
            match socket.next().await {
                Seen::Data(_) => {}
                end => return end,
            }
        }
    };
    sockets.into_iter().map(end).collect()
}

async fn starts(client: &Client, count: usize, name: &str) -> Vec<Value> {
    let start = async |number| client.starts(QUESTION, &format!("{name}-{number}")).await;
    stream::iter(0..count).map(start).buffer_unordered(20).collect().await
}

/// What the books say when all is over: so many successes, all charged, nothing held.
async fn are_settled(home: &Home, successes: usize) {
    let books = home.connect().await;
    assert_eq!(books.number(ACTIVE).await, 0, "holds that are active");
    assert_eq!(books.number(RUNNING).await, 0, "executions that run");
    assert_eq!(books.number(HELD).await, 0, "held");
    assert_charged(&books, successes).await;
    books.close().await;
    home.adds_up().await;
}

async fn assert_charged(books: &Books, successes: usize) {
    let successes = i64::try_from(successes).unwrap();
    assert_eq!(books.number(SUCCEEDED).await, successes, "successes");
    assert_eq!(books.number(CURRENT).await, CREDITS - successes * CHARGE, "the balance");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_tells_every_socket_to_come_back_and_settles_all_that_runs() {
    many_files();
    let models = ModelServer::start().await;
    models.respond_by_default(thinks());
    let home = Home::hotel(CREDITS).await.with_models(&models);
    let mut process = home.serve().await;
    let token = &home.guests().admin;
    let client = process.client(token);
    let (crowd, running) = (sized(100, 1_000), sized(20, 100));
    let watching = sockets(&process, token, crowd - running / 2, &[]).await;
    let runs = starts(&client, running, "running").await;
    let following = sockets(&process, token, running / 2, &runs).await;
    let mut closed = ends(watching.into_iter().chain(following).collect());
    models.wait_for_calls(running / 2).await;

    let begun = Instant::now();
    process.terminate();
    let mut latest = Duration::ZERO;
    while let Some(end) = closed.join_next().await {
        assert_eq!(end.unwrap(), Seen::Closed(1012));
        latest = begun.elapsed();
    }
    let status = process.exit().await;
    let took = begun.elapsed();
    println!("{crowd} sockets closed after {latest:.1?}, {running} executions, exit {took:.1?}");
    assert_eq!(status.code(), Some(0), "{}", process.logged());
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert!(!process.logged().contains("did not end in time"), "{}", process.logged());
    are_settled(&home, running).await;
    assert_eq!((models.calls(), models.aborted()), (running, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_among_many_ends_at_once_and_the_next_start_clears_up() {
    many_files();
    let models = ModelServer::start().await;
    models.respond_by_default(Behaviour::HangAfter(2));
    let home = Home::hotel(CREDITS).await.with_models(&models);
    let mut process = home.serve().await;
    let token = &home.guests().admin;
    let (crowd, running) = (sized(100, 1_000), sized(20, 100));
    let watching = sockets(&process, token, crowd, &[]).await;
    let runs = starts(&process.client(token), running, "hanging").await;
    models.wait_for_calls(running).await;
    let mut closed = ends(watching);
    process.terminate();
    until("readiness turns", async || (!process.is_ready().await).then_some(())).await;
    let begun = Instant::now();
    process.terminate();
    let status = process.exit().await;
    println!("exit {:.1?} after the second signal", begun.elapsed());
    assert_eq!(status.code(), Some(1), "{}", process.logged());
    while let Some(end) = closed.join_next().await {
        let end = end.unwrap();
        assert!(matches!(end, Seen::Closed(1012) | Seen::Lost), "{end:?}");
    }
    let mut process = home.serve().await;
    let client = process.client(token);
    for run in join_all(runs.iter().map(|run| client.until_ended(&run["id"]))).await {
        assert_eq!(run["failure"]["code"], "INTERRUPTED", "{run}");
    }
    process.stop().await;
    are_settled(&home, 0).await;
}

/// How somebody was answered who asked while the process ended.
enum Answer {
    Succeeded,
    /// Refused, or not answered at all.
    Nothing,
}

async fn asks(client: Client, key: String) -> Answer {
    let Ok(reply) = client.tries(EXECUTE, execute_input(QUESTION, &key)).await else {
        return Answer::Nothing;
    };
    let execution = &reply["data"]["aiExecute"]["execution"];
    match execution["status"].as_str() {
        Some("SUCCEEDED") => Answer::Succeeded,
        None => Answer::Nothing,
        Some(other) => panic!("{other}: {reply}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_while_requests_queue_answers_each_in_full_or_leaves_no_trace_of_it() {
    let models = ModelServer::start().await;
    let delay = Duration::from_millis(20);
    let text = ANSWER.to_owned();
    models.respond_by_default(Behaviour::Answer { text, usage: Some((12, 34)), pieces: 4, delay });
    let home = Home::hotel(CREDITS).await.with_models(&models);
    let mut process = home.serve().await;
    let client = process.client(&home.guests().user);
    let requests = sized(200, 1_000);
    let key = |number| format!("queued-{number}");
    let asking: JoinSet<Answer> =
        (0..requests).map(|number| asks(client.clone(), key(number))).collect();
    models.wait_for_calls(requests / 10).await;
    process.terminate();
    let answers = asking.join_all().await;
    let status = process.exit().await;
    assert_eq!(status.code(), Some(0), "{}", process.logged());
    let told = answers.iter().filter(|answer| matches!(answer, Answer::Succeeded)).count();
    let books = home.connect().await;
    let kept = usize::try_from(books.number(SUCCEEDED).await).unwrap();
    println!("{told} of {requests} were answered, {kept} ran");
    assert!(kept >= told && kept >= requests / 10, "{kept} {told}");
    books.close().await;
    are_settled(&home, kept).await;

    // Everybody asks again with the same key: each is charged once.
    let mut process = home.serve().await;
    let client = process.client(&home.guests().user);
    let again = (0..requests).map(|number| asks(client.clone(), key(number)));
    for answer in again.collect::<JoinSet<_>>().join_all().await {
        assert!(matches!(answer, Answer::Succeeded));
    }
    process.stop().await;
    are_settled(&home, requests).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_among_sockets_and_executions_is_made_good_and_clients_come_back() {
    many_files();
    let models = ModelServer::start().await;
    models.respond_by_default(thinks());
    let home = Home::hotel(CREDITS).await.with_models(&models);
    let mut process = home.serve().await;
    let token = &home.guests().admin;
    let (crowd, running) = (sized(200, 1_000), sized(20, 100));
    let watching = sockets(&process, token, crowd, &[]).await;
    let runs = starts(&process.client(token), running, "killed").await;
    models.wait_for_calls(running / 2).await;
    sleep(Duration::from_millis(fastrand::u64(0..1_000))).await;
    let mut closed = ends(watching);
    process.kill();
    while let Some(end) = timeout(Duration::from_secs(60), closed.join_next()).await.unwrap() {
        assert_eq!(end.unwrap(), Seen::Lost);
    }

    let mut process = home.serve().await;
    let client = process.client(token);
    let back = sockets(&process, token, crowd, &[]).await;
    let mut successes = 0;
    for run in join_all(runs.iter().map(|run| client.until_ended(&run["id"]))).await {
        match run["status"].as_str() {
            Some("SUCCEEDED") => successes += 1,
            _ => assert_eq!(run["failure"]["code"], "INTERRUPTED", "{run}"),
        }
    }
    println!("{successes} of {running} had ended before the kill; {} sockets are back", back.len());
    // One more call is seen by all who came back.
    let balance = CREDITS - CHARGE * (i64::try_from(successes).unwrap() + 1);
    assert_eq!(client.executes(QUESTION, "after-the-kill").await["status"], "SUCCEEDED");
    let sees = async |mut socket: Watcher| loop {
        let seen = socket.next().await;
        let Seen::Data(data) = seen else { panic!("the subscription ended: {seen:?}") };
        if data["creditBalance"]["current"] == balance && data["creditBalance"]["held"] == 0 {
            return;
        }
    };
    join_all(back.into_iter().map(sees)).await;
    process.stop().await;
    are_settled(&home, successes + 1).await;
}
