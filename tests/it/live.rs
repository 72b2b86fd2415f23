//! The balance as it moves, on one node and across nodes.

use std::sync::Arc;

use chrono::TimeDelta;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use musubi::app::App;
use musubi::credits::watch;
use musubi::db;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::ai::{Gated, error_code, until, within};
use crate::support::database::is_postgres;
use crate::support::people::{Hotel, Person};
use crate::support::redis_server::RedisServer;
use crate::support::{Setting, TestApp};

const BALANCE: &str = "subscription { creditBalance { current held available version at } }";

type Balances = BoxStream<'static, Value>;

fn watch_balance(person: &Person) -> Balances {
    person.watches(BALANCE, json!({}))
}

async fn next(balances: &mut Balances) -> Value {
    let reply = within(balances.next()).await.expect("one more balance");
    assert!(reply["errors"].is_null(), "{reply}");
    reply["data"]["creditBalance"].clone()
}

/// Reads on until the balance is this; answers all that came.
async fn read_until(balances: &mut Balances, current: i64, held: i64) -> Vec<Value> {
    let mut seen = Vec::new();
    loop {
        let balance = next(balances).await;
        let is_it = balance["current"] == current && balance["held"] == held;
        seen.push(balance);
        if is_it {
            return seen;
        }
    }
}

fn assert_versions_rise(balances: &[Value]) {
    let versions: Vec<i64> =
        balances.iter().map(|balance| balance["version"].as_i64().unwrap()).collect();
    assert!(versions.is_sorted_by(|one, next| one < next), "{versions:?}");
}

/// Ends with this error and says nothing more.
async fn assert_ends(balances: &mut Balances, code: &str) {
    let reply = within(balances.next()).await.expect("an error");
    assert_eq!(error_code(&reply), code, "{reply}");
    assert!(reply["data"]["creditBalance"].is_null(), "{reply}");
    assert_eq!(within(balances.next()).await, None);
}

async fn runs(person: &Person, key: &str) {
    let payload = within(person.executes("When?", key)).await;
    assert_eq!(payload["execution"]["status"], "SUCCEEDED", "{payload}");
}

async fn connected(nodes: &[&App]) {
    until("all nodes hear", async || {
        nodes.iter().all(|node| node.events.is_connected() == Some(true))
    })
    .await;
}

async fn stage() -> (TestApp, Hotel) {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(1_000).await;
    (app, hotel)
}

#[tokio::test]
async fn a_snapshot_comes_first_and_current_keeps_what_is_on_hold() {
    let (app, hotel) = stage().await;
    let gate = Gated::after(&["Seven."]);
    let node = gate.node(&app).await;
    let person = hotel.user.on(&node);
    let mut balances = watch_balance(&person);

    let snapshot = next(&mut balances).await;
    person.starts_one("on-hold-1").await;
    let held = next(&mut balances).await;
    gate.open();
    let settled = next(&mut balances).await;

    let numbers = |balance: &Value| {
        ["current", "held", "available"].map(|name| balance[name].as_i64().unwrap())
    };
    assert_eq!(numbers(&snapshot), [1_000, 0, 1_000]);
    assert_eq!(numbers(&held), [1_000, 2, 998]);
    assert_eq!(numbers(&settled), [998, 0, 998]);
    assert_versions_rise(&[snapshot, held, settled]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn versions_rise_strictly_while_a_hundred_calls_run() {
    let (app, hotel) = stage().await;
    let mut watchers = JoinSet::new();
    for person in [&hotel.user, &hotel.admin, &hotel.support] {
        let mut balances = watch_balance(person);
        let snapshot = next(&mut balances).await;
        watchers.spawn(async move {
            let mut seen = vec![snapshot];
            seen.extend(read_until(&mut balances, 800, 0).await);
            seen
        });
    }
    let mut calls = JoinSet::new();
    for number in 0..100 {
        let person = hotel.user.clone();
        calls.spawn(async move { runs(&person, &format!("loaded-{number:04}")).await });
    }
    within(calls.join_all()).await;

    let all = within(watchers.join_all()).await;

    let account = hotel.account().await;
    for seen in all {
        assert_versions_rise(&seen);
        assert_eq!(seen[0]["current"], 1_000);
        assert_eq!(seen.last().unwrap()["version"], account.version);
        let mut last = 1_000;
        for balance in &seen {
            let [current, held, available] =
                ["current", "held", "available"].map(|name| balance[name].as_i64().unwrap());
            assert_eq!(available, current - held);
            assert!(current <= last && (0..=current).contains(&held), "{balance}");
            last = current;
        }
    }
    assert_eq!(app.drifts().await, [""; 0]);
}

#[tokio::test]
async fn a_charge_on_one_node_is_seen_on_the_other() {
    if !is_postgres() {
        // Two programs on one file have no wire; the run on PostgreSQL has Redis.
        return;
    }
    let (app, hotel) = stage().await;
    let other = app.replica().await;
    connected(&[&app.app, &other]).await;
    let mut here = watch_balance(&hotel.user);
    let mut there = watch_balance(&hotel.user.on(&other));
    assert_eq!(next(&mut here).await, next(&mut there).await);

    runs(&hotel.user, "on-this-node").await;
    runs(&hotel.user.on(&other), "on-the-other").await;

    let (here, there) = tokio::join!(read_until(&mut here, 996, 0), read_until(&mut there, 996, 0));
    assert_versions_rise(&here);
    assert_versions_rise(&there);
    assert_eq!(here.last(), there.last());
}

#[tokio::test]
async fn a_lost_event_is_made_good_by_reading_again() {
    // No wire between the nodes.
    let lost = RedisServer::absent();
    let app = Setting::default().redis(lost.url()).start().await;
    let hotel = app.hotel().await.with_credits(1_000).await;
    let other = app.replica().await;
    let mut balances = watch_balance(&hotel.user.on(&other));
    let snapshot = next(&mut balances).await;
    runs(&hotel.user, "unheard-of").await;

    watch::reread(&other).await.unwrap();
    let balance = next(&mut balances).await;
    // Reading once more says nothing new: the next event is of the next charge.
    watch::reread(&other).await.unwrap();
    runs(&hotel.user, "unheard-too").await;
    watch::reread(&other).await.unwrap();
    let next = next(&mut balances).await;

    assert_eq!((&balance["current"], &balance["held"]), (&json!(998), &json!(0)));
    assert_eq!((&next["current"], &next["held"]), (&json!(996), &json!(0)));
    assert_versions_rise(&[snapshot, balance, next]);
}

#[tokio::test]
async fn nodes_go_on_while_redis_is_away_and_catch_up_when_it_is_back() {
    let mut wire = RedisServer::start().await;
    let app = Setting::default().redis(wire.url()).start().await;
    let hotel = app.hotel().await.with_credits(1_000).await;
    let other = app.replica().await;
    connected(&[&app.app, &other]).await;
    let mut here = watch_balance(&hotel.user);
    let mut there = watch_balance(&hotel.user.on(&other));
    next(&mut here).await;
    next(&mut there).await;

    runs(&hotel.user, "with-the-wire").await;
    let before = read_until(&mut there, 998, 0).await;
    wire.take_away();
    until("both know", async || {
        [&app.app, &other].iter().all(|node| node.events.is_connected() == Some(false))
    })
    .await;
    runs(&hotel.user, "without-wire").await;
    runs(&hotel.user.on(&other), "without-wire-there").await;
    let alone = read_until(&mut here, 996, 0).await;
    wire.bring_back().await;
    let caught_up = read_until(&mut there, 994, 0).await;
    let rest = read_until(&mut here, 994, 0).await;
    connected(&[&app.app, &other]).await;
    // The first words after a break may still be lost on the way out: the re-read, which every
    // process runs, makes that good.
    musubi::jobs::go_rounds(&app.app);
    runs(&hotel.user.on(&other), "with-it-again").await;
    let after = read_until(&mut here, 992, 0).await;

    assert_versions_rise(&[before, caught_up].concat());
    assert_versions_rise(&[alone, rest, after].concat());
    assert_eq!(app.drifts().await, [""; 0]);
}

#[tokio::test]
async fn every_role_of_the_tenant_may_watch_and_nobody_sees_another_tenant() {
    let (app, hotel) = stage().await;
    let stranger = app.hotel().await.with_credits(7).await;
    let mut theirs = watch_balance(&stranger.user);
    assert_eq!(next(&mut theirs).await["current"], 7);
    for person in [&hotel.user, &hotel.support, &hotel.manager, &hotel.admin] {
        assert_eq!(next(&mut watch_balance(person)).await["current"], 1_000);
    }

    runs(&hotel.user, "not-theirs").await;
    runs(&stranger.user, "their-own-1").await;

    // What the stranger sees next is their own call: held, or charged already.
    let balance = next(&mut theirs).await;
    let seen = (balance["current"].as_i64().unwrap(), balance["held"].as_i64().unwrap());
    assert!([(7, 2), (5, 0)].contains(&seen), "{seen:?}");
}

#[tokio::test]
async fn a_token_that_has_ended_ends_the_stream() {
    let (app, hotel) = stage().await;
    let mut balances = watch_balance(&hotel.user);
    assert_eq!(next(&mut balances).await["current"], 1_000);

    app.clock.advance(TimeDelta::hours(13));
    runs(&hotel.admin, "after-the-end").await;

    assert_ends(&mut balances, "UNAUTHENTICATED").await;
}

#[tokio::test]
async fn a_member_who_was_removed_sees_no_further_balance() {
    let (app, hotel) = stage().await;
    let mut balances = watch_balance(&hotel.user);
    assert_eq!(next(&mut balances).await["current"], 1_000);

    let txn = app.app.db.begin().await.unwrap();
    let sql = "DELETE FROM memberships WHERE user_id = $1";
    db::execute(&*txn, sql, vec![hotel.user.id.into()]).await.unwrap();
    txn.commit().await.unwrap();
    runs(&hotel.admin, "after-removal").await;

    assert_ends(&mut balances, "UNAUTHENTICATED").await;
    let mut again = watch_balance(&hotel.user);
    assert_ends(&mut again, "UNAUTHENTICATED").await;
}

#[tokio::test]
async fn each_subscriber_gets_an_event_as_their_own_document_asks_for_it() {
    let (_app, hotel) = stage().await;
    let person = &hotel.user;
    let plain = "subscription { creditBalance { available } }";
    let fragment = "subscription { it: creditBalance { ...Some kind: __typename } }
        fragment Some on CreditBalance { left: available ... { held } }";
    let variable = "subscription ($less: Boolean!) {
        creditBalance { current available @skip(if: $less) } }";
    let mut all = [
        (person.watches(plain, json!({})), json!({ "creditBalance": { "available": 998 } })),
        (hotel.admin.watches(plain, json!({})), json!({ "creditBalance": { "available": 998 } })),
        (
            person.watches(fragment, json!({})),
            json!({ "it": { "left": 998, "held": 0, "kind": "CreditBalance" } }),
        ),
        (
            person.watches(variable, json!({ "less": true })),
            json!({ "creditBalance": { "current": 998 } }),
        ),
        (
            person.watches(variable, json!({ "less": false })),
            json!({ "creditBalance": { "current": 998, "available": 998 } }),
        ),
    ];
    for (events, _) in &mut all {
        let snapshot = within(events.next()).await.unwrap();
        assert!(snapshot["errors"].is_null(), "{snapshot}");
    }
    runs(person, "for-all-of-them").await;

    for (events, expected) in &mut all {
        // The hold comes first; its event may be skipped.
        let mut last = within(events.next()).await.unwrap();
        if last["data"] != *expected {
            last = within(events.next()).await.unwrap();
        }
        assert_eq!(last["data"], *expected);
    }
}

#[tokio::test]
async fn who_may_not_see_an_event_gets_nothing_of_what_others_share() {
    let (app, hotel) = stage().await;
    let document = "subscription { it: creditBalance { current } }";
    let mut removed = hotel.user.watches(document, json!({}));
    let mut stays = hotel.support.watches(document, json!({}));
    for events in [&mut removed, &mut stays] {
        let snapshot = within(events.next()).await.unwrap();
        assert_eq!(snapshot["data"], json!({ "it": { "current": 1_000 } }));
    }
    let txn = app.app.db.begin().await.unwrap();
    let sql = "DELETE FROM memberships WHERE user_id = $1";
    db::execute(&*txn, sql, vec![hotel.user.id.into()]).await.unwrap();
    txn.commit().await.unwrap();
    runs(&hotel.admin, "not-for-everybody").await;

    let shared = within(stays.next()).await.unwrap();
    assert!(shared["errors"].is_null() && shared["data"]["it"]["current"].is_i64(), "{shared}");
    let refused = within(removed.next()).await.unwrap();
    assert!(refused["data"].is_null(), "{refused}");
    let error = &refused["errors"][0];
    assert_eq!((&error["path"], error_code(&refused)), (&json!(["it"]), "UNAUTHENTICATED"));
    assert_eq!(error["extensions"]["requestId"], "test");
    assert_eq!(within(removed.next()).await, None);
}

#[tokio::test]
async fn subscribers_to_the_same_share_one_document_and_one_answer() {
    let (app, hotel) = stage().await;
    let before = app.engine.known_documents();
    let mut answers = Vec::new();
    for person in [&hotel.user, &hotel.admin] {
        let ready = person.prepares(BALANCE, json!({}));
        let mut events = app.engine.subscribe(ready).await;
        answers.push(within(events.next()).await.unwrap());
    }
    assert_eq!(app.engine.known_documents(), before + 1);
    assert!(Arc::ptr_eq(&answers[0], &answers[1]));
}
