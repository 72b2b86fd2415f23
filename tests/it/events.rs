//! Live events: on one node, across nodes, and with Redis away.

use std::time::{Duration, Instant};

use musubi::config::{Config, Secret};
use musubi::events::{
    self, BalanceChanged, Event, Events, ExecutionChanged, Signal, Subscription, Topic,
};
use musubi::ids::{AccountId, AlertId, ExecutionId, TenantId, new_uuid};
use musubi::tasks::Tasks;

use crate::support::TestApp;
use crate::support::redis_server::RedisServer;

#[tokio::test]
async fn an_event_reaches_its_watcher_after_the_commit_and_not_before() {
    let app = TestApp::start().await;
    let account = AccountId::new();
    let mut watcher = app.app.events.subscribe(Topic::Balance(account));

    let mut txn = app.app.db.begin().await.unwrap();
    events::announce(&mut txn, balance(account, 1));
    assert_silent(&mut watcher).await;
    txn.commit().await.unwrap();

    assert_eq!(next(&mut watcher).await, balance(account, 1));
}

#[tokio::test]
async fn a_transaction_that_is_rolled_back_announces_nothing() {
    let app = TestApp::start().await;
    let account = AccountId::new();
    let mut watcher = app.app.events.subscribe(Topic::Balance(account));

    let mut txn = app.app.db.begin().await.unwrap();
    events::announce(&mut txn, balance(account, 1));
    txn.rollback().await.unwrap();
    let mut txn = app.app.db.begin().await.unwrap();
    events::announce(&mut txn, balance(account, 2));
    drop(txn);

    assert_silent(&mut watcher).await;
}

#[tokio::test]
async fn watchers_hear_their_own_topic_only() {
    let (events, _) = alone().await;
    let (account, execution, tenant) = (AccountId::new(), ExecutionId::new(), TenantId::new());
    let topics = [
        Topic::Balance(account),
        Topic::Execution(execution),
        Topic::Cancels,
        Topic::Alerts(tenant),
        Topic::Catalog,
    ];
    let mut watchers = topics.map(|topic| events.subscribe(topic));
    let changed = ExecutionChanged { execution, tenant, is_finished: true };
    let told = [
        balance(account, 7),
        Event::Execution(changed),
        Event::CancelRequested(execution),
        Event::Alert { alert: AlertId::new(), tenant: Some(tenant) },
        Event::CatalogChanged,
    ];

    events.publish(balance(AccountId::new(), 1));
    events.publish(Event::Alert { alert: AlertId::new(), tenant: Some(TenantId::new()) });
    events.publish(Event::Alert { alert: AlertId::new(), tenant: None });
    for event in &told {
        events.publish(event.clone());
    }

    for (watcher, event) in watchers.iter_mut().zip(told) {
        assert_eq!(next(watcher).await, event);
        assert_silent(watcher).await;
    }
}

#[tokio::test]
async fn a_watcher_that_falls_behind_is_told_to_take_a_fresh_snapshot() {
    let (events, _) = alone().await;
    let account = AccountId::new();
    let mut watcher = events.subscribe(Topic::Balance(account));

    for version in 0..1_000 {
        events.publish(balance(account, version));
    }

    assert_eq!(signal(&mut watcher).await, Signal::Resync);
    assert_silent(&mut watcher).await;
    events.publish(balance(account, 1_000));
    assert_eq!(next(&mut watcher).await, balance(account, 1_000));
}

#[tokio::test]
async fn a_topic_is_forgotten_when_its_last_watcher_leaves() {
    let (events, _) = alone().await;
    let (account, execution) = (AccountId::new(), ExecutionId::new());
    let first = events.subscribe(Topic::Balance(account));
    let second = events.subscribe(Topic::Balance(account));
    let third = events.subscribe(Topic::Execution(execution));
    assert_eq!(events.subscribed_accounts(), [account]);
    assert_eq!(events.subscribed_executions(), [execution]);

    drop((first, third));
    assert_eq!(events.subscribed_accounts(), [account]);
    assert!(events.subscribed_executions().is_empty());
    drop(second);
    assert!(events.subscribed_accounts().is_empty());

    let workers = (0..8).map(|_| {
        let events = events.clone();
        std::thread::spawn(move || {
            for _ in 0..2_000 {
                drop(events.subscribe(Topic::Balance(account)));
            }
        })
    });
    workers.collect::<Vec<_>>().into_iter().for_each(|worker| worker.join().unwrap());
    assert!(events.subscribed_accounts().is_empty());
}

#[tokio::test]
async fn watching_ends_when_shutdown_begins() {
    let (events, tasks) = alone().await;
    let mut watcher = events.subscribe(Topic::Catalog);

    assert!(tasks.drain(Duration::from_secs(1)).await);

    assert_eq!(watcher.next().await, None);
}

#[tokio::test]
async fn one_node_needs_no_redis() {
    let (events, _) = alone().await;
    assert_eq!(events.is_connected(), None);
}

#[tokio::test]
async fn an_address_that_cannot_be_leaves_the_node_alone() {
    let (events, _) = node(&config(Some("no address".to_owned())).await);
    assert_eq!(events.is_connected(), Some(false));
    let mut watcher = events.subscribe(Topic::Catalog);
    events.publish(Event::CatalogChanged);
    assert_eq!(next(&mut watcher).await, Event::CatalogChanged);
}

#[tokio::test]
async fn events_reach_every_node_once() {
    let redis = RedisServer::start().await;
    let config = config(Some(redis.url())).await;
    let ((here, tasks), (there, _)) = (node(&config), node(&config));
    connected(&[&here, &there]).await;
    let account = AccountId::new();
    let mut watchers = [&here, &there].map(|node| node.subscribe(Topic::Balance(account)));

    for version in 0..50 {
        here.publish(balance(account, version));
    }
    here.publish_local(balance(account, 50));

    for version in 0..50 {
        for watcher in &mut watchers {
            assert_eq!(next(watcher).await, balance(account, version));
        }
    }
    assert_eq!(next(&mut watchers[0]).await, balance(account, 50));
    for watcher in &mut watchers {
        assert_silent(watcher).await;
    }

    here.publish(balance(account, 51));
    assert!(tasks.drain(Duration::from_secs(2)).await);
    assert_eq!(next(&mut watchers[1]).await, balance(account, 51));
}

#[tokio::test]
async fn two_installations_on_one_redis_do_not_hear_each_other() {
    let redis = RedisServer::start().await;
    let ours = config(Some(redis.url())).await;
    let theirs = Config { index_key: [9; 32], ..ours.clone() };
    let ((here, _), (there, _)) = (node(&ours), node(&theirs));
    connected(&[&here, &there]).await;
    let mut watcher = there.subscribe(Topic::Catalog);

    here.publish(Event::CatalogChanged);

    assert_silent(&mut watcher).await;
}

#[tokio::test]
async fn a_node_starts_without_redis_and_joins_when_it_comes() {
    let mut redis = RedisServer::absent();
    let config = config(Some(redis.url())).await;
    let ((here, _), (there, _)) = (node(&config), node(&config));
    let mut watcher = there.subscribe(Topic::Catalog);
    assert_eq!(here.is_connected(), Some(false));

    redis.bring_back().await;
    connected(&[&here, &there]).await;

    assert_eq!(signal(&mut watcher).await, Signal::Resync);
    here.publish(Event::CatalogChanged);
    assert_eq!(next(&mut watcher).await, Event::CatalogChanged);
}

#[tokio::test]
async fn an_outage_delays_nobody_and_ends_with_a_fresh_snapshot() {
    let mut redis = RedisServer::start().await;
    let config = config(Some(redis.url())).await;
    let ((here, _), (there, _)) = (node(&config), node(&config));
    connected(&[&here, &there]).await;
    let account = AccountId::new();
    let mut watcher = there.subscribe(Topic::Balance(account));

    redis.take_away();
    let before = Instant::now();
    for version in 0..20_000 {
        here.publish(balance(account, version));
    }
    assert!(before.elapsed() < Duration::from_secs(2), "publishing waited for Redis");
    disconnected(&there).await;
    redis.bring_back().await;

    assert_eq!(signal(&mut watcher).await, Signal::Resync);
    reaches(&here, &mut watcher, account).await;
}

#[tokio::test]
async fn a_redis_that_hangs_is_noticed() {
    let redis = RedisServer::start().await;
    let config = config(Some(redis.url())).await;
    let ((here, _), (there, _)) = (node(&config), node(&config));
    connected(&[&here, &there]).await;
    let account = AccountId::new();
    let mut watcher = there.subscribe(Topic::Balance(account));

    redis.freeze();
    disconnected(&there).await;
    redis.thaw();

    connected(&[&here, &there]).await;
    assert_eq!(signal(&mut watcher).await, Signal::Resync);
    reaches(&here, &mut watcher, account).await;
}

fn balance(account: AccountId, version: i64) -> Event {
    let at = chrono::DateTime::from_timestamp_micros(1_800_000_000_123_456).unwrap();
    let tenant = TenantId(account.0);
    Event::Balance(BalanceChanged { account, tenant, current: 100, held: 40, version, at })
}

async fn config(redis_url: Option<String>) -> Config {
    let app = TestApp::start().await;
    Config { redis_url: redis_url.map(Secret), ..(*app.app.config).clone() }
}

fn node(config: &Config) -> (Events, Tasks) {
    let tasks = Tasks::default();
    (Events::start(config, new_uuid(), &tasks), tasks)
}

async fn alone() -> (Events, Tasks) {
    node(&config(None).await)
}

async fn connected(nodes: &[&Events]) {
    eventually(|| nodes.iter().all(|node| node.is_connected() == Some(true))).await;
}

async fn disconnected(node: &Events) {
    eventually(|| node.is_connected() == Some(false)).await;
}

/// The speaker's break lasts a second, so the first events after an outage may be dropped.
async fn reaches(from: &Events, watcher: &mut Subscription, account: AccountId) {
    for version in 100_000..100_100 {
        from.publish(balance(account, version));
        let waited = tokio::time::timeout(Duration::from_millis(100), watcher.next()).await;
        if let Ok(Some(Signal::Event(event))) = waited {
            assert!(matches!(&*event, Event::Balance(change) if change.account == account));
            return;
        }
    }
    panic!("no event came through after the outage");
}

async fn eventually(is_so: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come true within 10 s");
}

async fn next(watcher: &mut Subscription) -> Event {
    match signal(watcher).await {
        Signal::Event(event) => (*event).clone(),
        Signal::Resync => panic!("a fresh snapshot was asked for"),
    }
}

async fn signal(watcher: &mut Subscription) -> Signal {
    let waited = tokio::time::timeout(Duration::from_secs(10), watcher.next()).await;
    waited.expect("a signal in time").expect("no shutdown")
}

async fn assert_silent(watcher: &mut Subscription) {
    let waited = tokio::time::timeout(Duration::from_millis(100), watcher.next()).await;
    assert!(waited.is_err(), "heard {waited:?}");
}
