//! Calls of functions: credit use by the minute, functions by the hour.

use musubi::actor::{Actor, Permission};
use musubi::error::Lang;
use musubi::identity;
use musubi::identity::service::key::{self, NewKey};
use serde_json::json;
use tokio::task::JoinSet;

use super::{count_executions, minutes, set};
use crate::ai::{START, short, within};
use crate::support::people::Person;
use crate::support::{Setting, TestApp};

/// A node whose limits go by the test's own clock.
async fn alone() -> TestApp {
    Setting::default().limited().alone().start().await
}

#[tokio::test]
async fn the_hundredth_call_of_an_hour_passes_and_the_next_one_does_not() {
    let app = alone().await;
    let hotel = app.hotel().await.with_credits(1_000).await;
    let person = &hotel.user;
    assert_eq!(person.left().await, (100, 100, json!(null)));

    person.runs_times(60, "first").await;
    app.clock.advance(minutes(10));
    person.runs_times(40, "second").await;

    let error = person.is_limited("third-0001").await;
    assert_eq!((&error["limit"], &error["remaining"]), (&json!(100), &json!(0)));
    assert_eq!(error["retryAfterSeconds"], 50 * 60);
    assert!(error["message"].as_str().unwrap().contains("100"), "{error}");
    assert_eq!(person.left().await, (100, 0, json!("2026-11-21T04:00:00Z")));
    assert_eq!(count_executions(&app.app).await, 100);
    assert_eq!(hotel.balance().await, (800, 0));

    // Another member has an hour of their own.
    hotel.admin.runs_times(1, "admin").await;
    app.clock.advance(minutes(50));
    assert_eq!(person.left().await, (100, 60, json!("2026-11-21T04:10:00Z")));
    person.runs_times(60, "later").await;
    person.is_limited("later-last").await;
}

#[tokio::test]
async fn the_hundredth_use_of_credits_in_a_minute_passes_and_the_next_one_does_not() {
    let app = alone().await;
    let hotel = app.hotel().await.with_credits(1_000).await;
    let root = app.platform_admin(Some(hotel.id)).await;
    set(&root, &hotel.id.to_string(), Some(1_000)).await;
    let person = &hotel.user;

    person.runs_times(100, "minute").await;
    let error = person.is_limited("minute-last").await;
    assert_eq!((&error["limit"], &error["remaining"]), (&json!(100), &json!(0)));
    let wait = error["retryAfterSeconds"].as_i64().unwrap();
    assert!((60..=61).contains(&wait), "{wait}");
    assert_eq!(person.left().await.1, 900, "the refused call took no place in the hour");

    app.clock.advance(chrono::TimeDelta::seconds(wait));
    person.runs_times(100, "next").await;
    person.is_limited("next-last").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_hundred_calls_at_once_exactly_a_hundred_run() {
    for setting in [Setting::default().limited().alone(), Setting::default().limited()] {
        let app = setting.start().await;
        if app.app.config.redis_url.is_some() {
            super::until_shared(&app.app, true).await;
        }
        let hotel = app.hotel().await.with_credits(1_000).await;
        let mut calls = JoinSet::new();
        for number in 0..200 {
            let person = hotel.user.clone();
            calls.spawn(async move { person.runs(&format!("at-once-{number}")).await });
        }
        let payloads = within(calls.join_all()).await;

        let ran = payloads.iter().filter(|payload| !payload["execution"].is_null()).count();
        let limited = payloads.iter().filter(|it| it["userErrors"][0]["code"] == "RATE_LIMITED");
        assert_eq!((ran, limited.count()), (100, 100));
        assert_eq!(count_executions(&app.app).await, 100);
        assert_eq!(hotel.balance().await, (800, 0));
        assert!(app.drifts().await.is_empty());
    }
}

#[tokio::test]
async fn a_key_that_is_known_is_answered_beyond_the_limit_and_takes_nothing() {
    let app = alone().await;
    let hotel = app.hotel().await.with_credits(1_000).await;
    let person = &hotel.user;
    let first = person.runs("the-one-key").await;
    for _ in 0..5 {
        assert_eq!(person.runs("the-one-key").await, first);
    }
    assert_eq!(person.left().await.1, 99);

    person.runs_times(99, "others").await;
    person.is_limited("others-last").await;
    assert_eq!(person.runs("the-one-key").await, first, "it is the answer to another question");
    let started = person.starts(short("When is breakfast?", "the-one-key")).await;
    assert_eq!(started["execution"]["id"], first["execution"]["id"]);
    let other = person.starts(short("When is dinner?", "the-one-key")).await;
    assert_eq!(other["userErrors"][0]["code"], "IDEMPOTENCY_CONFLICT");
    person.is_limited("others-last").await;
    assert_eq!(hotel.balance().await, (800, 0));
}

#[tokio::test]
async fn a_call_that_was_not_let_in_gives_its_place_in_the_hour_back() {
    let app = alone().await;
    let hotel = app.hotel().await.with_credits(2).await;
    let person = &hotel.user;
    person.runs_times(1, "paid").await;
    for number in 0..20 {
        let payload = person.runs(&format!("unpaid-{number}")).await;
        assert_eq!(payload["userErrors"][0]["code"], "INSUFFICIENT_CREDITS", "{payload}");
    }
    assert_eq!(person.left().await.1, 99);

    let hotel = hotel.with_credits(100).await;
    let conflict = hotel.user.starts(short("When is dinner?", "paid-0000")).await;
    assert_eq!(conflict["userErrors"][0]["code"], "IDEMPOTENCY_CONFLICT");
    assert_eq!(hotel.user.left().await.1, 99);
    hotel.user.asks("{ aiFunctions { baseCost } }", json!({})).await;
    assert_eq!(count_executions(&app.app).await, 1);
}

#[tokio::test]
async fn aliases_of_a_call_are_counted_one_by_one() {
    let app = alone().await;
    let hotel = app.hotel().await.with_credits(1_000).await;
    let person = &hotel.user;
    let call = |number: usize| {
        format!(
            "c{number}: aiExecutionStart(input: {{ functionType: CHATBOT,
               idempotencyKey: \"alias-{number:04}\",
               parameters: {{ input: \"When is breakfast?\", maxTokens: 50 }} }}) {{
               execution {{ id }} userErrors {{ code }} }}"
        )
    };
    person.runs_times(85, "before").await;
    let calls: Vec<String> = (0..20).map(call).collect();
    let data = person.gets(&format!("mutation {{ {} }}", calls.join(" ")), json!({})).await;
    let code = |number: usize| data[format!("c{number}")]["userErrors"][0]["code"].clone();
    assert!((0..15).all(|number| code(number).is_null()), "{data}");
    assert!((15..20).all(|number| code(number) == "RATE_LIMITED"), "{data}");
}

#[tokio::test]
async fn whoever_restarts_the_program_does_not_restart_the_hour() {
    let app = alone().await;
    let hotel = app.hotel().await.with_credits(1_000).await;
    hotel.user.runs_times(100, "before").await;

    let again = app.replica().await;
    let person = hotel.user.on(&again);
    assert_eq!(person.left().await, (100, 0, json!("2026-11-21T04:00:00Z")));
    person.is_limited("after-0001").await;
    app.clock.advance(minutes(60));
    person.runs_times(1, "after").await;
}

/// A server's key that may run functions for members.
async fn key_of(app: &TestApp, admin: &Person) -> Person {
    let permissions = vec![Permission::AiExecute, Permission::AiExecuteForOthers];
    let new = NewKey { name: "desk".to_owned(), permissions, expires_at: None };
    let (_, text) = key::create(&app.app, &admin.actor, new).await.unwrap();
    let actor: Actor = identity::authenticate(&app.app, &text, Lang::En).await.unwrap();
    admin.acting_as(actor)
}

#[tokio::test]
async fn a_call_for_a_member_takes_their_hour_and_the_callers_minute() {
    let app = alone().await;
    let hotel = app.hotel().await.with_credits(2_000).await;
    let key = key_of(&app, &hotel.admin).await;
    let run = |caller: Person, key: String| {
        let user = hotel.user.id.to_string();
        async move {
            let mut input = short("When is breakfast?", &key);
            input["metadata"] = json!({ "userId": user });
            let payload = caller.gets(START, json!({ "input": input })).await;
            payload["aiExecutionStart"]["userErrors"][0]["code"].clone()
        }
    };
    for number in 0..60 {
        assert!(run(key.clone(), format!("for-them-{number}")).await.is_null());
    }
    assert_eq!(hotel.user.left().await.1, 40);
    assert_eq!(hotel.admin.left().await.1, 100, "nothing of who asked");

    // The key has 40 more uses in this minute; its maker is somebody else.
    app.clock.advance(minutes(2));
    for number in 60..100 {
        assert!(run(hotel.admin.clone(), format!("for-them-{number}")).await.is_null());
    }
    assert_eq!(run(key.clone(), "for-them-last".to_owned()).await, "RATE_LIMITED");
    hotel.user.is_limited("for-myself-1").await;
    hotel.admin.runs_times(60, "for-me").await;
    let error = hotel.admin.is_limited("for-me-last").await;
    assert!(error["retryAfterSeconds"].as_i64().unwrap() <= 61, "the minute, not the hour");
}
