//! Durable work: pushed with its cause, done at least once, given up at last.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt;
use musubi::app::App;
use musubi::crypto::Sealed;
use musubi::db;
use musubi::queue::{self, Handler, NewItem, Parts};
use sea_orm::FromQueryResult;
use serde_json::{Value, json};

use crate::support::TestApp;

/// What the handlers did.
type Diary = Arc<Mutex<Vec<Value>>>;

const HANDLERS: &[Handler<Diary>] = &[
    Handler { kind: "note", run: |diary, payload| note(diary, payload).boxed(), attempts_max: 3 },
    Handler {
        kind: "refuse",
        run: |diary, payload| {
            async move {
                diary.lock().unwrap().push(payload);
                Err(musubi::error::Error::broken("é".repeat(2_000)))
            }
            .boxed()
        },
        attempts_max: 3,
    },
    Handler { kind: "panic", run: |_, _| panic!("on purpose"), attempts_max: 2 },
];

async fn note(diary: Diary, payload: Value) -> musubi::error::Result<()> {
    tokio::time::sleep(Duration::from_millis(2)).await;
    diary.lock().unwrap().push(payload);
    Ok(())
}

#[tokio::test]
async fn work_is_done_once_after_the_commit() {
    let app = TestApp::start().await;
    let diary = Diary::default();

    push(&app, "note", json!({"to": "花子"})).await;
    let mut txn = app.app.db.begin().await.unwrap();
    let payload = json!("never");
    let item = item(&app, "note", &payload);
    assert!(queue::push(&mut txn, item, &app.app.crypto).await.unwrap());
    txn.rollback().await.unwrap();

    assert_eq!(work(&app.app, &diary).await, 1);
    assert_eq!(work(&app.app, &diary).await, 0);
    assert_eq!(*diary.lock().unwrap(), [json!({"to": "花子"})]);
    let row = only_row(&app).await;
    assert_eq!((row.state.as_str(), row.attempts, row.last_error), ("DONE", 1, None));
    assert_eq!(row.finished_at, Some(app.clock.db_now()));
}

#[tokio::test]
async fn work_is_not_begun_before_its_time() {
    let app = TestApp::start().await;
    let diary = Diary::default();
    let payload = json!("later");
    let run_at = app.clock.db_now() + TimeDelta::minutes(10);
    let later = NewItem { run_at, ..item(&app, "note", &payload) };
    let mut txn = app.app.db.begin().await.unwrap();
    queue::push(&mut txn, later, &app.app.crypto).await.unwrap();
    txn.commit().await.unwrap();

    assert_eq!(work(&app.app, &diary).await, 0);
    app.clock.advance(TimeDelta::minutes(10));
    assert_eq!(work(&app.app, &diary).await, 1);
}

#[tokio::test]
async fn work_with_a_known_key_is_not_pushed_again() {
    let app = TestApp::start().await;
    let diary = Diary::default();
    let payload = json!(1);
    let mut pushed = Vec::new();
    for _ in 0..2 {
        let dedupe_key = Some("welcome:user_1".to_owned());
        let keyed = NewItem { dedupe_key, ..item(&app, "note", &payload) };
        let mut txn = app.app.db.begin().await.unwrap();
        pushed.push(queue::push(&mut txn, keyed, &app.app.crypto).await.unwrap());
        txn.commit().await.unwrap();
    }

    assert_eq!(pushed, [true, false]);
    assert_eq!(work(&app.app, &diary).await, 1);
}

#[tokio::test]
async fn a_payload_is_sealed_for_its_row() {
    let app = TestApp::start().await;
    push(&app, "note", json!({"to": "hanako@example.jp"})).await;

    let row = only_row(&app).await;
    let is_plain = row.payload.0.windows(6).any(|window| window == b"hanako");
    assert!(!is_plain);
}

#[tokio::test]
async fn work_that_fails_is_tried_again_and_given_up_at_last() {
    let app = TestApp::start().await;
    let diary = Diary::default();
    push(&app, "refuse", json!(1)).await;

    let mut pauses = Vec::new();
    for attempt in 1..=3 {
        assert_eq!(work(&app.app, &diary).await, 1);
        assert_eq!(work(&app.app, &diary).await, 0, "no pause after attempt {attempt}");
        let row = only_row(&app).await;
        assert_eq!(row.attempts, attempt);
        assert_eq!(row.last_error.unwrap().chars().count(), 500);
        pauses.push((row.run_at - app.clock.db_now()).num_milliseconds());
        app.clock.advance(TimeDelta::hours(1));
    }

    assert!((2_500..=5_000).contains(&pauses[0]), "{pauses:?}");
    assert!((5_000..=10_000).contains(&pauses[1]), "{pauses:?}");
    let row = only_row(&app).await;
    assert_eq!(row.state, "DEAD");
    assert!(row.finished_at.is_some());
    assert_eq!(work(&app.app, &diary).await, 0);
    assert_eq!(diary.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_handler_that_panics_hurts_its_own_row_only() {
    let app = TestApp::start().await;
    let diary = Diary::default();
    push(&app, "panic", json!(1)).await;
    push(&app, "note", json!(2)).await;

    assert_eq!(work(&app.app, &diary).await, 2);

    assert_eq!(*diary.lock().unwrap(), [json!(2)]);
    app.clock.advance(TimeDelta::hours(1));
    assert_eq!(work(&app.app, &diary).await, 1);
    app.clock.advance(TimeDelta::hours(1));
    assert_eq!(work(&app.app, &diary).await, 0);
}

#[tokio::test]
async fn work_of_a_kind_nobody_knows_waits_for_a_newer_release() {
    let app = TestApp::start().await;
    push(&app, "tomorrow", json!(1)).await;

    assert_eq!(work(&app.app, &Diary::default()).await, 0);

    let row = only_row(&app).await;
    assert_eq!((row.state.as_str(), row.attempts), ("READY", 0));
}

#[tokio::test]
async fn several_nodes_never_do_the_same_work_twice() {
    let app = TestApp::start().await;
    let diary = Diary::default();
    for number in 0..60 {
        push(&app, "note", json!(number)).await;
    }
    let nodes = [app.app.clone(), app.replica().await, app.replica().await];

    let worked = nodes.iter().map(|node| async {
        // A node may find all rows leased by another while some are left.
        for _ in 0..40 {
            work(node, &diary).await;
        }
    });
    futures_util::future::join_all(worked).await;

    let mut done: Vec<i64> = diary.lock().unwrap().iter().map(|it| it.as_i64().unwrap()).collect();
    done.sort_unstable();
    assert_eq!(done, (0..60).collect::<Vec<_>>());
}

#[tokio::test]
async fn work_of_a_node_that_died_is_repeated_after_its_lease() {
    let app = TestApp::start().await;
    let diary = Diary::default();
    push(&app, "note", json!(1)).await;
    die_with_everything_leased(&app, 1).await;

    assert_eq!(work(&app.app, &diary).await, 0);
    app.clock.advance(TimeDelta::seconds(121));
    assert_eq!(work(&app.app, &diary).await, 1);

    assert_eq!(only_row(&app).await.state, "DONE");
}

#[tokio::test]
async fn work_that_kills_every_node_is_given_up_without_another_try() {
    let app = TestApp::start().await;
    let diary = Diary::default();
    push(&app, "note", json!(1)).await;
    die_with_everything_leased(&app, 3).await;

    app.clock.advance(TimeDelta::seconds(121));
    work(&app.app, &diary).await;

    assert_eq!(only_row(&app).await.state, "DEAD");
    assert!(diary.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_worker_begins_at_once_and_ends_with_the_shutdown() {
    let app = TestApp::start().await;
    let diary = Diary::default();
    app.app.tasks.spawn(queue::run(parts(&app.app), Arc::clone(&diary), HANDLERS));
    tokio::time::sleep(Duration::from_millis(200)).await;

    for number in 0..20 {
        push(&app, "note", json!(number)).await;
    }

    let is_done = async {
        while diary.lock().unwrap().len() < 20 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(4), is_done).await.expect("woken by the push");
    assert!(app.app.tasks.drain(Duration::from_secs(3)).await);
}

#[derive(FromQueryResult)]
struct Row {
    payload: Sealed,
    state: String,
    attempts: i32,
    run_at: DateTime<Utc>,
    last_error: Option<String>,
    finished_at: Option<DateTime<Utc>>,
}

async fn only_row(app: &TestApp) -> Row {
    let rows = db::all(app.app.db.primary(), "SELECT * FROM queue_items", vec![]).await.unwrap();
    assert_eq!(rows.len(), 1);
    rows.into_iter().next().unwrap()
}

fn item<'a>(app: &TestApp, kind: &'static str, payload: &'a Value) -> NewItem<'a> {
    NewItem { kind, payload, dedupe_key: None, run_at: app.clock.db_now() }
}

async fn push(app: &TestApp, kind: &'static str, payload: Value) {
    let mut txn = app.app.db.begin().await.unwrap();
    let item = item(app, kind, &payload);
    assert!(queue::push(&mut txn, item, &app.app.crypto).await.unwrap());
    txn.commit().await.unwrap();
}

async fn work(app: &App, diary: &Diary) -> usize {
    queue::work_once(&parts(app), diary, HANDLERS).await.unwrap()
}

fn parts(app: &App) -> Parts {
    Parts {
        db: app.db.clone(),
        clock: app.clock.clone(),
        crypto: app.crypto.clone(),
        events: app.events.clone(),
        tasks: app.tasks.clone(),
        node: app.node,
    }
}

async fn die_with_everything_leased(app: &TestApp, attempts: i32) {
    let lease_until = app.clock.db_now() + TimeDelta::seconds(120);
    let values = vec![lease_until.into(), musubi::ids::new_uuid().into(), attempts.into()];
    let txn = app.app.db.begin().await.unwrap();
    let sql = "UPDATE queue_items SET lease_until = $1, leased_by = $2, attempts = $3";
    db::execute(&*txn, sql, values).await.unwrap();
    txn.commit().await.unwrap();
}
