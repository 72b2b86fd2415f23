//! Several nodes that count together, with Redis and without.

use std::time::Duration;

use musubi::app::App;
use musubi::limits::service::take;
use musubi::limits::table::Limit;
use musubi::limits::who::Who;
use tokio::task::JoinSet;

use super::{count_executions, set, until_shared};
use crate::ai::within;
use crate::support::redis_server::RedisServer;
use crate::support::{Setting, TestApp};

/// Two nodes on one Redis, which know it.
async fn two(redis: &RedisServer) -> (TestApp, App) {
    let app = Setting::default().real_time().limited().redis(redis.url()).start().await;
    let replica = app.replica().await;
    until_shared(&app.app, true).await;
    until_shared(&replica, true).await;
    (app, replica)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_nodes_share_the_hour_and_the_minute_of_a_member() {
    let redis = RedisServer::start().await;
    let (app, replica) = two(&redis).await;
    let hotel = app.hotel().await.with_credits(1_000).await;
    let mut calls = JoinSet::new();
    for number in 0..200 {
        let person = if number % 2 == 0 { hotel.user.clone() } else { hotel.user.on(&replica) };
        calls.spawn(async move { person.runs(&format!("shared-{number:04}")).await });
    }
    let payloads = within(calls.join_all()).await;
    let ran = payloads.iter().filter(|payload| !payload["execution"].is_null()).count();
    assert_eq!((ran, count_executions(&app.app).await), (100, 100));
    for person in [&hotel.user, &hotel.user.on(&replica)] {
        let (limit, remaining, resets_at) = person.left().await;
        assert_eq!((limit, remaining), (100, 0));
        assert!(resets_at.is_string());
    }
    let who = Who::actor(&hotel.admin.actor);
    take(&app.app, &who, Limit::Operations, 600).await.unwrap();
    take(&replica, &who, Limit::Operations, 400).await.unwrap();
    assert!(take(&app.app, &who, Limit::Operations, 1).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redis_may_die_and_come_back_and_no_call_more_or_less_passes() {
    let mut redis = RedisServer::start().await;
    let (app, replica) = two(&redis).await;
    let hotel = app.hotel().await.with_credits(1_000).await;
    let (here, there) = (hotel.user.clone(), hotel.user.on(&replica));
    here.runs_times(20, "before-here").await;
    there.runs_times(20, "before-there").await;

    redis.take_away();
    here.runs_times(15, "away-here").await;
    there.runs_times(15, "away-there").await;
    assert!(!app.app.meter.is_shared());
    assert_eq!(here.left().await.1, 30, "by the record of executions");
    let known = there.runs("before-here-0001").await;
    assert_eq!(known["execution"]["status"], "SUCCEEDED", "{known}");

    redis.bring_back().await;
    until_shared(&app.app, true).await;
    until_shared(&replica, true).await;
    assert_eq!(there.left().await.1, 30, "an empty Redis was told");
    here.runs_times(20, "after-here").await;
    there.runs_times(10, "after-there").await;
    there.is_limited("after-there-last").await;
    here.is_limited("after-here-last").await;
    assert_eq!(count_executions(&app.app).await, 100);
    assert!(app.drifts().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_redis_is_away_calls_at_once_on_one_node_do_not_pass_together() {
    let mut redis = RedisServer::start().await;
    let (app, replica) = two(&redis).await;
    let hotel = app.hotel().await.with_credits(1_000).await;
    let there = hotel.user.on(&replica);
    there.runs_times(40, "there").await;
    redis.take_away();

    let mut calls = JoinSet::new();
    for number in 0..120 {
        let person = hotel.user.clone();
        calls.spawn(async move { person.runs(&format!("away-{number:04}")).await });
    }
    let payloads = within(calls.join_all()).await;
    let ran = payloads.iter().filter(|payload| !payload["execution"].is_null()).count();
    assert_eq!((ran, count_executions(&app.app).await), (60, 100));
    there.is_limited("there-last").await;
}

#[tokio::test]
async fn a_redis_that_hangs_is_asked_once_and_then_left_alone() {
    let redis = RedisServer::start().await;
    let setting = Setting::default().real_time().limited().redis(redis.url());
    let app = setting.patience(Duration::from_millis(30)).start().await;
    until_shared(&app.app, true).await;
    let hotel = app.hotel().await.with_credits(1_000).await;
    redis.freeze();

    // The first to ask waits for 30 ms at most; after it nobody asks at all.
    let who = Who::actor(&hotel.user.actor);
    take(&app.app, &who, Limit::Operations, 1).await.unwrap();
    assert!(!app.app.meter.is_shared());
    for _ in 0..999 {
        take(&app.app, &who, Limit::Operations, 1).await.unwrap();
        assert!(!app.app.meter.is_shared());
    }
    assert!(take(&app.app, &who, Limit::Operations, 1).await.is_err());
    redis.thaw();
    until_shared(&app.app, true).await;
    assert!(take(&app.app, &who, Limit::Operations, 1).await.is_err(), "it was told");
}

#[tokio::test]
async fn a_tenants_own_hour_holds_on_every_node_from_the_next_call() {
    let redis = RedisServer::start().await;
    let (app, replica) = two(&redis).await;
    let hotel = app.hotel().await.with_credits(100).await;
    let root = app.platform_admin(None).await;
    set(&root, &hotel.id.to_string(), Some(2)).await;
    let there = hotel.user.on(&replica);
    there.runs_times(2, "there").await;
    hotel.user.is_limited("here-first").await;
    set(&root.on(&replica), &hotel.id.to_string(), Some(3)).await;
    hotel.user.runs_times(1, "here").await;
    there.is_limited("there-last").await;
}
