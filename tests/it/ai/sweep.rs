//! What dead processes left behind, and results that come after the sweep.

use std::time::Duration;

use chrono::TimeDelta;
use musubi::ai::service::finish::{self, Ending};
use musubi::ai::service::run::Output;
use musubi::ai::service::sweep::sweep;
use musubi::credits::service::admit;
use musubi::credits::service::settle::{Resolution, Resolved, settle};
use musubi::db;
use musubi::entity::credit_hold::HoldState;
use musubi::ids::{HoldId, new_uuid};
use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{Gated, hold_of, holds, reserve_one, until, within};
use crate::support::people::{Hotel, Person};
use crate::support::{Setting, TestApp};

const TOO_LONG: TimeDelta = TimeDelta::minutes(3);

async fn mark_in_flight(app: &TestApp, hold: HoldId) {
    let txn = app.app.db.begin().await.unwrap();
    let ours = admit::mark_in_flight(&txn, &[hold], app.clock.db_now()).await.unwrap();
    assert!(ours.contains(&hold));
    txn.commit().await.unwrap();
}

/// The execution's status, failure and charge.
async fn ending_of(person: &Person, id: &str) -> (String, String, i64) {
    let execution = person.execution(id).await;
    (
        execution["status"].as_str().unwrap().to_owned(),
        execution["failure"]["code"].as_str().unwrap_or("none").to_owned(),
        execution["charge"]["creditsUsed"].as_i64().unwrap(),
    )
}

fn interrupted(charge: i64) -> (String, String, i64) {
    ("FAILED".to_owned(), "INTERRUPTED".to_owned(), charge)
}

async fn stage() -> (TestApp, Hotel) {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(1_000).await;
    (app, hotel)
}

#[tokio::test]
async fn a_call_that_never_left_expires_and_costs_nothing() {
    let (app, hotel) = stage().await;
    let job = reserve_one(&app.app, &hotel, "dead-before").await;
    let id = job.execution.id.to_string();
    assert_eq!(hotel.balance().await, (1_000, 2));

    app.clock.advance(TimeDelta::seconds(119));
    assert_eq!(sweep(&app.app).await.unwrap(), 0, "the lease has not ended");
    assert_eq!(hotel.balance().await, (1_000, 2));
    app.clock.advance(TimeDelta::seconds(2));
    assert_eq!(sweep(&app.app).await.unwrap(), 1);

    assert_eq!(hold_of(&app.app, &id).await.state, HoldState::Expired);
    assert_eq!(ending_of(&hotel.user, &id).await, interrupted(0));
    assert_eq!(hotel.user.execution(&id).await["failure"]["retryable"], true);
    assert_eq!(hotel.balance().await, (1_000, 0));
    assert_eq!(app.drifts().await, [""; 0]);
    assert_eq!(sweep(&app.app).await.unwrap(), 0);
}

#[tokio::test]
async fn a_call_that_was_in_flight_is_released_and_costs_nothing() {
    let (app, hotel) = stage().await;
    let job = reserve_one(&app.app, &hotel, "dead-during").await;
    mark_in_flight(&app, job.hold).await;

    app.clock.advance(TOO_LONG);
    let replica = app.replica().await;
    assert_eq!(sweep(&replica).await.unwrap(), 1);

    let id = job.execution.id.to_string();
    assert_eq!(hold_of(&app.app, &id).await.state, HoldState::Released);
    assert_eq!(ending_of(&hotel.user, &id).await, interrupted(0));
    assert_eq!(hotel.balance().await, (1_000, 0));
    assert_eq!(app.drifts().await, [""; 0]);
}

#[tokio::test]
async fn a_call_with_stored_output_is_charged_at_its_watermark() {
    let (app, hotel) = stage().await;
    let job = reserve_one(&app.app, &hotel, "dead-late").await;
    mark_in_flight(&app, job.hold).await;
    let txn = app.app.db.begin().await.unwrap();
    let sql = "UPDATE ai_credit_holds SET watermark = 1 WHERE id = $1";
    db::execute(&*txn, sql, vec![job.hold.into()]).await.unwrap();
    txn.commit().await.unwrap();

    app.clock.advance(TOO_LONG);
    assert_eq!(sweep(&app.app).await.unwrap(), 1);

    let id = job.execution.id.to_string();
    assert_eq!(hold_of(&app.app, &id).await.state, HoldState::Settled);
    assert_eq!(ending_of(&hotel.user, &id).await, interrupted(1));
    assert_eq!(hotel.balance().await, (999, 0));
    assert_eq!(app.drifts().await, [""; 0]);
}

#[tokio::test]
async fn a_result_that_comes_after_the_sweep_is_void() {
    let (app, hotel) = stage().await;
    let gate = Gated::after(&["Seven."]);
    let (owner, other) = (gate.node(&app).await, app.replica().await);
    let id = hotel.user.on(&owner).starts_one("too-late-1").await;
    gate.reached(1).await;
    app.clock.advance(TOO_LONG);
    assert_eq!(sweep(&other).await.unwrap(), 1);
    let swept = hotel.user.execution(&id).await;
    let account = hotel.account().await;

    gate.open();
    until("the owner is done", async || owner.tasks.count_running() == 0).await;

    assert_eq!(ending_of(&hotel.user, &id).await, interrupted(0));
    assert_eq!(hotel.user.execution(&id).await, swept);
    assert_eq!(hotel.account().await, account);
    let again = hotel.user.on(&owner).executes("When is breakfast?", "too-late-1").await;
    assert_eq!(again["execution"]["failure"]["code"], "INTERRUPTED", "{again}");
    assert_eq!(app.drifts().await, [""; 0]);
}

#[tokio::test]
async fn the_caller_who_still_waits_hears_of_the_sweep() {
    let (app, hotel) = stage().await;
    let gate = Gated::after(&[]);
    let (owner, other) = (gate.node(&app).await, app.replica().await);
    let person = hotel.user.on(&owner);
    let sweeping = async {
        gate.reached(1).await;
        app.clock.advance(TOO_LONG);
        sweep(&other).await.unwrap()
    };

    let waiting = person.executes("When?", "waiting-on");
    let (payload, swept) = Box::pin(within(async { tokio::join!(waiting, sweeping) })).await;

    assert_eq!(swept, 1);
    assert_eq!(payload["execution"]["failure"]["code"], "INTERRUPTED", "{payload}");
    gate.open();
}

#[tokio::test]
async fn a_call_that_was_swept_before_it_left_is_not_sent() {
    let (app, hotel) = stage().await;
    let job = reserve_one(&app.app, &hotel, "slow-start").await;
    app.clock.advance(TOO_LONG);
    assert_eq!(sweep(&app.app).await.unwrap(), 1);
    let gate = Gated::after(&["Seven."]);
    let owner = gate.node(&app).await;

    musubi::ai::service::run::spawn(&owner, job.clone());
    until("the owner is done", async || owner.tasks.count_running() == 0).await;

    assert_eq!(gate.calls(), 0);
    assert_eq!(ending_of(&hotel.user, &job.execution.id.to_string()).await, interrupted(0));
    assert_eq!(app.drifts().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sweepers_on_several_nodes_share_the_work() {
    let (app, hotel) = stage().await;
    let other = app.hotel().await.with_credits(1_000).await;
    for number in 0..260 {
        let payer = if number % 2 == 0 { &hotel } else { &other };
        let job = reserve_one(&app.app, payer, &format!("dead-{number:04}")).await;
        if number % 3 == 0 {
            mark_in_flight(&app, job.hold).await;
        }
    }
    app.clock.advance(TOO_LONG);

    let mut sweepers = JoinSet::new();
    for _ in 0..4 {
        let node = app.replica().await;
        sweepers.spawn(async move { sweep(&node).await.unwrap() });
    }
    let swept: usize = within(sweepers.join_all()).await.into_iter().sum();

    assert_eq!(swept, 260);
    assert_eq!(hotel.balance().await, (1_000, 0));
    assert_eq!(other.balance().await, (1_000, 0));
    assert_eq!(app.drifts().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn when_owner_and_sweeper_meet_one_of_them_settles() {
    let (app, hotel) = stage().await;
    let gate = Gated::after(&["Seven."]);
    let (owner, other) = (gate.node(&app).await, app.replica().await);
    for number in 0..60 {
        hotel.user.on(&owner).starts_one(&format!("meeting-{number:04}")).await;
    }
    gate.reached(60).await;
    app.clock.advance(TOO_LONG);

    gate.open();
    let first = sweep(&other).await.unwrap();
    until("the owner is done", async || owner.tasks.count_running() == 0).await;
    let rest = sweep(&other).await.unwrap();

    let settled = holds(&app.app).await.iter().filter(|hold| hold.charge == 2).count();
    assert_eq!(rest, 0);
    assert_eq!(settled + first, 60);
    assert_eq!(hotel.balance().await, (1_000 - 2 * settled as i64, 0));
    assert_eq!(app.drifts().await, [""; 0]);
}

#[tokio::test]
async fn an_owner_who_lives_keeps_its_lease() {
    let app = Setting::default().lease(Duration::from_secs(1)).start().await;
    let hotel = app.hotel().await.with_credits(1_000).await;
    let gate = Gated::after(&["Seven."]);
    let owner = gate.node(&app).await;
    let id = hotel.user.on(&owner).starts_one("kept-alive").await;
    gate.reached(1).await;
    let before = hold_of(&app.app, &id).await.lease_until;

    app.clock.advance(TimeDelta::milliseconds(900));
    until("it is renewed", async || hold_of(&app.app, &id).await.lease_until > before).await;
    app.clock.advance(TimeDelta::milliseconds(900));
    let swept = sweep(&app.app).await.unwrap();

    assert_eq!(swept, 0);
    gate.open();
    assert_eq!(hotel.user.sees_end_of(&id).await["status"], "SUCCEEDED");
    assert_eq!(app.drifts().await, [""; 0]);
}

#[tokio::test]
async fn the_owner_of_a_swept_hold_stops_calling_the_provider() {
    let app = Setting::default().lease(Duration::from_secs(1)).start().await;
    let hotel = app.hotel().await.with_credits(1_000).await;
    let gate = Gated::after(&["Seven."]);
    let owner = gate.node(&app).await;
    let id = hotel.user.on(&owner).starts_one("given-up").await;
    gate.reached(1).await;
    app.clock.advance(TOO_LONG);
    // The owner may have renewed its lease with the new time; then the sweep waits for the next.
    until("it is swept", async || {
        app.clock.advance(TOO_LONG);
        sweep(&app.app).await.unwrap() == 1
    })
    .await;

    until("the owner stops by itself", async || owner.tasks.count_running() == 0).await;

    assert_eq!(ending_of(&hotel.user, &id).await, interrupted(0));
    assert_eq!(app.drifts().await, [""; 0]);
}

fn resolution(hold: HoldId, attempt: Uuid, charge: i64) -> Resolution {
    Resolution { hold, attempt, charge, is_success: true, params: json!({}), time_ms: 5 }
}

#[tokio::test]
async fn an_attempt_to_settle_that_is_made_again_is_found_done() {
    let (app, hotel) = stage().await;
    let job = reserve_one(&app.app, &hotel, "settled-once").await;
    let attempt = new_uuid();
    // Without its execution the books would differ, so that is written as the service does.
    let output = Output { text: "Seven.".to_owned(), usage: None };
    finish::finish(&app.app, job.clone(), Ending::Finished, (output.clone(), 5)).await;
    let account = hotel.account().await;
    let done_by = hold_of(&app.app, &job.execution.id.to_string()).await.resolved_by.unwrap();

    let mut txn = app.app.db.begin().await.unwrap();
    let now = app.clock.db_now();
    let same = settle(&mut txn, &[resolution(job.hold, done_by, 2)], now).await.unwrap();
    let other = settle(&mut txn, &[resolution(job.hold, attempt, 1)], now).await.unwrap();
    txn.commit().await.unwrap();
    finish::finish(&app.app, job.clone(), Ending::Cancelled, (output, 5)).await;

    assert!(matches!(same[..], [Resolved::Done]), "{same:?}");
    assert!(matches!(other[..], [Resolved::ByOther]), "{other:?}");
    assert_eq!(hotel.account().await, account);
    let id = job.execution.id.to_string();
    assert_eq!(hotel.user.execution(&id).await["status"], "SUCCEEDED");
    assert_eq!(hotel.balance().await, (998, 0));
    assert_eq!(app.drifts().await, [""; 0]);
}

#[tokio::test]
async fn a_slice_of_settlements_gives_each_its_own_line() {
    let (app, hotel) = stage().await;
    let mut jobs = Vec::new();
    for number in 0..10 {
        jobs.push(reserve_one(&app.app, &hotel, &format!("slice-{number:04}")).await);
    }
    let resolutions: Vec<_> =
        jobs.iter().rev().map(|job| resolution(job.hold, new_uuid(), 1)).collect();

    let mut txn = app.app.db.begin().await.unwrap();
    let answers = settle(&mut txn, &resolutions, app.clock.db_now()).await.unwrap();
    let sql = "UPDATE ai_executions SET status = 'SUCCEEDED', credits_used = 1";
    db::execute(&*txn, sql, vec![]).await.unwrap();
    txn.commit().await.unwrap();

    for (resolution, answer) in resolutions.iter().zip(&answers) {
        let Resolved::Now(settlement) = answer else { panic!("{answer:?}") };
        assert_eq!(settlement.hold.id, resolution.hold);
    }
    assert_eq!(hotel.balance().await, (990, 0));
    assert_eq!(app.drifts().await, [""; 0]);
}
