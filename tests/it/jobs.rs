//! Jobs: each slot once, whichever node comes first, and again when a run was cut off.

use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use futures_util::FutureExt;
use musubi::app::App;
use musubi::db;
use musubi::error::{Code, Error, Result};
use musubi::jobs::{self, JOBS, Job};
use sea_orm::FromQueryResult;

use crate::support::TestApp;

const TOKYO: Tz = Tz::Asia__Tokyo;
/// 00:00 in Tokyo on the first of the month.
const MONTHLY: &str = "0 0 1 * *";

/// A job that counts its runs in a counter of the test's own.
macro_rules! counting {
    ($runs:ident, $schedule:expr) => {
        Job {
            name: "count",
            schedule: $schedule,
            zone: TOKYO,
            run: |_| {
                async {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Ok(format!("run {}", $runs.fetch_add(1, Ordering::SeqCst) + 1))
                }
                .boxed()
            },
        }
    };
}

#[tokio::test]
async fn a_slot_is_run_once_and_its_summary_kept() {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let app = TestApp::start().await;
    let jobs = [counting!(RUNS, MONTHLY)];
    app.clock.set(at("2026-12-31T14:59:59.999999Z"));

    assert_eq!(run_due(&app.app, &jobs).await, 1);
    assert_eq!(run_due(&app.app, &jobs).await, 0);
    app.clock.set(at("2026-12-31T15:00:00Z"));
    assert_eq!(run_due(&app.app, &jobs).await, 1);
    app.clock.advance(TimeDelta::hours(5));
    assert_eq!(run_due(&app.app, &jobs).await, 0);

    let rows = rows(&app).await;
    let slots: Vec<_> = rows.iter().map(|row| row.slot).collect();
    assert_eq!(slots, [at("2026-11-30T15:00:00Z"), at("2026-12-31T15:00:00Z")]);
    assert_eq!(rows[1].state, "SUCCEEDED");
    assert_eq!(rows[1].summary.as_deref(), Some("run 2"));
    assert_eq!(rows[1].finished_at, Some(at("2026-12-31T15:00:00Z")));
}

#[tokio::test]
async fn three_nodes_run_a_slot_once() {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let app = TestApp::start().await;
    let nodes = [app.app.clone(), app.replica().await, app.replica().await];
    let jobs = [counting!(RUNS, MONTHLY)];

    let runs = nodes.iter().map(|node| run_due(node, &jobs));
    let runs: usize = futures_util::future::join_all(runs).await.into_iter().sum();

    assert_eq!((runs, RUNS.load(Ordering::SeqCst)), (1, 1));
}

#[tokio::test]
async fn after_a_downtime_only_the_latest_missed_slot_is_run() {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let app = TestApp::start().await;
    let jobs = [counting!(RUNS, "*/10 * * * *")];
    app.clock.set(at("2026-11-21T00:00:00Z"));
    run_due(&app.app, &jobs).await;

    app.clock.set(at("2026-11-21T03:25:30Z"));
    assert_eq!(run_due(&app.app, &jobs).await, 1);
    assert_eq!(run_due(&app.app, &jobs).await, 0);

    let slots: Vec<_> = rows(&app).await.iter().map(|row| row.slot).collect();
    assert_eq!(slots, [at("2026-11-21T00:00:00Z"), at("2026-11-21T03:20:00Z")]);
}

#[tokio::test]
async fn a_run_whose_node_died_is_taken_over_after_its_lease() {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let app = TestApp::start().await;
    let jobs = [counting!(RUNS, MONTHLY)];
    app.clock.set(at("2026-12-01T00:00:00Z"));
    run_due(&app.app, &jobs).await;
    die_during_the_last_run(&app, 1).await;

    assert_eq!(run_due(&app.app, &jobs).await, 0);
    app.clock.advance(TimeDelta::seconds(301));
    assert_eq!(run_due(&app.app, &jobs).await, 1);

    let rows = rows(&app).await;
    assert_eq!((rows[0].state.as_str(), rows[0].attempts), ("SUCCEEDED", 2));
}

#[tokio::test]
async fn a_run_that_was_cut_off_five_times_is_given_up() {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let app = TestApp::start().await;
    let jobs = [counting!(RUNS, MONTHLY)];
    app.clock.set(at("2026-12-01T00:00:00Z"));
    run_due(&app.app, &jobs).await;
    die_during_the_last_run(&app, 5).await;

    app.clock.advance(TimeDelta::seconds(301));
    assert_eq!(run_due(&app.app, &jobs).await, 0);

    assert_eq!(rows(&app).await[0].state, "FAILED");
}

#[tokio::test]
async fn a_run_that_fails_is_tried_again_five_times_at_most() {
    let app = TestApp::start().await;
    let run: fn(App) -> _ = |_| async { Err(Error::Unavailable("mail")) }.boxed();
    let jobs = [Job { name: "refuse", schedule: MONTHLY, zone: TOKYO, run }];
    app.clock.set(at("2026-12-01T00:00:00Z"));

    for attempt in 1..=5 {
        assert_eq!(run_due(&app.app, &jobs).await, 1, "attempt {attempt}");
        assert_eq!(run_due(&app.app, &jobs).await, 0, "no pause after attempt {attempt}");
        app.clock.advance(TimeDelta::minutes(10));
    }

    assert_eq!(run_due(&app.app, &jobs).await, 0);
    let rows = rows(&app).await;
    assert_eq!((rows[0].state.as_str(), rows[0].attempts), ("FAILED", 5));
    assert_eq!(rows[0].summary.as_deref(), Some("mail is unavailable"));
}

#[tokio::test]
async fn a_job_that_panics_hurts_itself_only() {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let app = TestApp::start().await;
    let panics = Job { name: "panic", schedule: MONTHLY, zone: TOKYO, run: |_| panic!("!") };
    let jobs = [panics, counting!(RUNS, MONTHLY)];

    assert_eq!(run_due(&app.app, &jobs).await, 2);

    assert_eq!(RUNS.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_new_slot_waits_while_an_older_one_runs_and_closes_it_when_it_was_left() {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let app = TestApp::start().await;
    let jobs = [counting!(RUNS, "* * * * *")];
    app.clock.set(at("2026-12-01T00:00:00Z"));
    run_due(&app.app, &jobs).await;
    die_during_the_last_run(&app, 1).await;

    app.clock.advance(TimeDelta::minutes(1));
    assert_eq!(run_due(&app.app, &jobs).await, 0);
    app.clock.advance(TimeDelta::minutes(5));
    assert_eq!(run_due(&app.app, &jobs).await, 1);

    let states: Vec<_> = rows(&app).await.into_iter().map(|row| row.state).collect();
    assert_eq!(states, ["FAILED", "SUCCEEDED"]);
}

#[tokio::test]
async fn a_job_can_be_run_by_hand() {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let app = TestApp::start().await;
    let refuses: fn(App) -> _ = |_| async { Err(Error::Forbidden) }.boxed();
    let refuses = Job { name: "refuse", schedule: MONTHLY, zone: TOKYO, run: refuses };
    let jobs = [counting!(RUNS, MONTHLY), refuses];

    assert_eq!(jobs::run_now(&app.app, &jobs, "count").await.unwrap(), "run 1");

    let rows_now = rows(&app).await;
    assert_eq!((rows_now.len(), rows_now[0].slot), (1, app.clock.db_now()));
    assert_eq!(code(jobs::run_now(&app.app, &jobs, "nothing").await), Code::NotFound);
    assert_eq!(code(jobs::run_now(&app.app, &jobs, "refuse").await), Code::Forbidden);
    assert_eq!(rows(&app).await[1].state, "FAILED");
}

#[tokio::test]
async fn the_runner_ends_with_the_shutdown() {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    static TABLE: [Job; 1] = [counting!(RUNS, MONTHLY)];
    let app = TestApp::start().await;

    app.app.tasks.spawn(jobs::run_forever(app.app.clone(), &TABLE));
    while rows(&app).await.first().is_none_or(|row| row.state != "SUCCEEDED") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    assert!(app.app.tasks.drain(Duration::from_secs(2)).await);
    assert_eq!(RUNS.load(Ordering::SeqCst), 1);
}

#[test]
fn every_job_has_a_name_of_its_own_and_a_schedule() {
    for (place, job) in JOBS.iter().enumerate() {
        assert!(croner::Cron::from_str(job.schedule).is_ok(), "{}: {}", job.name, job.schedule);
        assert!(JOBS.iter().skip(place + 1).all(|other| other.name != job.name), "{}", job.name);
    }
}

#[derive(FromQueryResult)]
struct Row {
    slot: DateTime<Utc>,
    state: String,
    attempts: i32,
    summary: Option<String>,
    finished_at: Option<DateTime<Utc>>,
}

async fn rows(app: &TestApp) -> Vec<Row> {
    let sql = "SELECT * FROM job_runs ORDER BY slot, id";
    db::all(app.app.db.primary(), sql, vec![]).await.unwrap()
}

async fn run_due(app: &App, jobs: &[Job]) -> usize {
    jobs::run_due(app, jobs, app.clock.db_now()).await.unwrap()
}

async fn die_during_the_last_run(app: &TestApp, attempts: i32) {
    let lease_until = app.clock.db_now() + TimeDelta::minutes(5);
    let values = vec![lease_until.into(), attempts.into()];
    let txn = app.app.db.begin().await.unwrap();
    let sql = "UPDATE job_runs SET state = 'RUNNING', finished_at = NULL, lease_until = $1,
                   attempts = $2";
    db::execute(&*txn, sql, values).await.unwrap();
    txn.commit().await.unwrap();
}

fn code(outcome: Result<String>) -> Code {
    outcome.expect_err("a refusal").code()
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}
