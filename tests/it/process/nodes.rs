//! Two processes on one database; on PostgreSQL also with Redis, which comes and goes.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::database::is_postgres;
use crate::support::model_server::{ANSWER, Behaviour, ModelServer};
use crate::support::process::{Client, Home, Process, Seen, Watcher, until};
use crate::support::redis_server::RedisServer;

const BALANCE: &str = "subscription { creditBalance { current held version } }";
const CANCEL: &str = "mutation ($id: ID!) { aiExecutionCancel(id: $id)
    { execution { status } userErrors { code } } }";

/// A balance as it is watched; its versions must rise.
struct Balance {
    watcher: Watcher,
    version: i64,
}

impl Balance {
    async fn watch(process: &Process, token: &str) -> Self {
        let watcher = Watcher::watch(process, token, BALANCE, json!({})).await;
        Self { watcher, version: -1 }
    }

    /// Waits for this balance with nothing held.
    async fn comes_to(&mut self, current: i64) {
        loop {
            let seen = self.watcher.next().await;
            let Seen::Data(data) = seen else { panic!("the subscription ended: {seen:?}") };
            let balance = &data["creditBalance"];
            let version = balance["version"].as_i64().unwrap();
            assert!(version > self.version, "version {version} came after {}", self.version);
            self.version = version;
            if balance["current"] == current && balance["held"] == 0 {
                return;
            }
        }
    }
}

#[tokio::test]
async fn a_subscriber_sees_the_other_nodes_charges_with_redis_and_without() {
    if !is_postgres() {
        return;
    }
    let models = ModelServer::start().await;
    let mut redis = RedisServer::start().await;
    let home = Home::hotel(1_000).await.with_models(&models).with("REDIS_URL", &redis.url());
    let (mut one, mut other) = (home.serve().await, home.serve().await);
    let token = &home.guests().admin;
    let client = one.client(token);
    let mut balance = Balance::watch(&other, token).await;
    balance.comes_to(1_000).await;
    let mut left = 1_000;
    let mut charge = async |name: &str| {
        let execution = client.executes("Is there parking?", &format!("charge-{name}")).await;
        assert_eq!(execution["status"], "SUCCEEDED", "{execution}");
        left -= 2;
        left
    };

    wait_for_redis(&[&one, &other], "up").await;
    let left = charge("connected").await;
    balance.comes_to(left).await;

    // Gone without a goodbye; the publish is lost at once.
    redis.take_away();
    let left = charge("just-gone").await;
    balance.comes_to(left).await;
    wait_for_redis(&[&one, &other], "down").await;
    let left = charge("gone").await;
    balance.comes_to(left).await;
    assert!(one.is_ready().await && other.is_ready().await, "Redis is optional");

    redis.bring_back().await;
    wait_for_redis(&[&one, &other], "up").await;
    let left = charge("back").await;
    balance.comes_to(left).await;

    // Lost between two looks.
    redis.take_away();
    let left = charge("lost").await;
    redis.bring_back().await;
    balance.comes_to(left).await;

    // Connected and silent.
    redis.freeze();
    let left = charge("frozen").await;
    balance.comes_to(left).await;
    redis.thaw();
    wait_for_redis(&[&one, &other], "up").await;
    let left = charge("thawed").await;
    balance.comes_to(left).await;

    one.stop().await;
    other.stop().await;
    home.adds_up().await;
}

#[tokio::test]
async fn a_key_and_a_cancel_work_across_nodes() {
    if !is_postgres() {
        return;
    }
    let models = ModelServer::start().await;
    let mut redis = RedisServer::start().await;
    let home = Home::hotel(1_000).await.with_models(&models).with("REDIS_URL", &redis.url());
    let (mut one, mut other) = (home.serve().await, home.serve().await);
    let token = &home.guests().user;
    let (here, there) = (one.client(token), other.client(token));

    models.respond(slow_answer());
    let (a, b) = tokio::join!(
        here.executes("Is there parking?", "same-key-1"),
        there.executes("Is there parking?", "same-key-1"),
    );
    assert_eq!(a, b);
    assert_eq!((models.calls(), &a["status"]), (1, &json!("SUCCEEDED")));

    for is_redis_there in [true, false] {
        if !is_redis_there {
            redis.take_away();
        }
        let calls = models.calls() + 1;
        models.respond(Behaviour::Hang);
        let key = format!("cancelled-{is_redis_there}");
        let execution = here.starts("Is there parking?", &key).await;
        models.wait_for_calls(calls).await;
        let cancelled = cancel(&there, &execution["id"]).await;
        assert_eq!(cancelled["userErrors"], json!([]));
        let execution = there.until_ended(&execution["id"]).await;
        assert_eq!(execution["status"], "CANCELLED", "{execution}");
        assert_eq!(execution["charge"]["creditsUsed"], 0);
    }
    assert_eq!(there.balance().await, (998, 0));
    one.stop().await;
    other.stop().await;
    home.adds_up().await;
}

#[tokio::test]
async fn a_node_clears_up_after_another_that_was_killed() {
    if !is_postgres() {
        return;
    }
    let models = ModelServer::start().await;
    let home = Home::hotel(1_000).await.with_models(&models);
    let (mut one, mut other) = (home.serve().await, home.serve().await);
    let token = &home.guests().user;
    let mut balance = Balance::watch(&other, token).await;
    balance.comes_to(1_000).await;
    models.respond(Behaviour::HangAfter(1));
    let execution = one.client(token).starts("Is there parking?", "orphan-01").await;
    models.wait_for_calls(1).await;
    one.kill();
    let there = other.client(token);
    let (ended, ()) = tokio::join!(there.until_ended(&execution["id"]), balance.comes_to(1_000));
    assert_eq!(ended["failure"]["code"], "INTERRUPTED");
    assert_eq!(there.executes("Is there parking?", "orphan-01").await, ended);
    other.stop().await;
    home.adds_up().await;
}

#[tokio::test]
async fn two_processes_may_share_a_database_without_redis() {
    let models = ModelServer::start().await;
    let home = Home::hotel(1_000).await.with_models(&models).without("REDIS_URL");
    let (mut one, mut other) = (home.serve().await, home.serve().await);
    let token = &home.guests().user;
    let mut balance = Balance::watch(&other, token).await;
    balance.comes_to(1_000).await;
    let (here, there) = (one.client(token), other.client(token));
    for number in 0..10 {
        let (own, shared) = (format!("own-key-{number}"), format!("shared-key-{number}"));
        let (a, b, c) = tokio::join!(
            here.executes("Is there parking?", &shared),
            there.executes("Is there parking?", &shared),
            there.executes("Is there parking?", &own),
        );
        assert_eq!(a, b);
        assert_eq!((&a["status"], &c["status"]), (&json!("SUCCEEDED"), &json!("SUCCEEDED")));
    }
    assert_eq!(models.calls(), 20);
    balance.comes_to(1_000 - 20 * 2).await;
    one.stop().await;
    other.stop().await;
    home.adds_up().await;
}

#[tokio::test]
async fn what_a_stopping_node_settles_is_seen_on_the_other() {
    if !is_postgres() {
        return;
    }
    let models = ModelServer::start().await;
    models.respond_by_default(slow_answer());
    let home = Home::hotel(1_000).await.with_models(&models);
    let (mut one, mut other) = (home.serve().await, home.serve().await);
    let token = &home.guests().user;
    let mut balance = Balance::watch(&other, token).await;
    balance.comes_to(1_000).await;
    one.client(token).starts("Is there parking?", "stopping-1").await;
    models.wait_for_calls(1).await;
    one.stop().await;
    balance.comes_to(998).await;
    other.stop().await;
    home.adds_up().await;
}

fn slow_answer() -> Behaviour {
    let delay = Duration::from_millis(200);
    Behaviour::Answer { text: ANSWER.to_owned(), usage: Some((12, 34)), pieces: 4, delay }
}

async fn cancel(client: &Client, id: &Value) -> Value {
    client.gets(CANCEL, json!({ "id": id })).await["aiExecutionCancel"].clone()
}

async fn wait_for_redis(processes: &[&Process], state: &str) {
    for process in processes {
        until("health tells how Redis is", async || {
            let (_, body) = process.fetch("/health").await?;
            let report: Value = serde_json::from_str(&body).unwrap();
            (report["services"]["redis"] == state).then_some(())
        })
        .await;
    }
}
