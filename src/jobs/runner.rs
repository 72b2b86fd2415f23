//! Runs jobs: each scheduled instant (a slot) once, whichever node comes first.
//!
//! A row of `job_runs` is the claim. Its lease is renewed while the job runs; when the node dies,
//! or the run fails, another attempt takes the row over after the lease's end. After a downtime
//! only the latest slot is run. Of one job one slot runs at a time.

use std::panic::AssertUnwindSafe;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use croner::Cron;
use futures_util::future::{FutureExt, join_all};
use sea_orm::FromQueryResult;
use tokio::time::{Instant, interval_at, sleep, timeout};
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::app::App;
use crate::db;
use crate::error::{Error, Result};
use crate::ids::new_uuid;
use crate::jobs::Job;

const LEASE: TimeDelta = TimeDelta::minutes(5);
const RENEW_EVERY: Duration = Duration::from_secs(60);
/// How long one attempt may take.
const ATTEMPT_PATIENCE: Duration = Duration::from_secs(3_600);
const ATTEMPTS_MAX: i32 = 5;
/// The pause after the first failed attempt; each further one adds as much.
const PAUSE: TimeDelta = TimeDelta::minutes(1);
/// The longest sleep, so that other nodes' failed runs are taken over soon.
const SLEEP_MAX: Duration = Duration::from_secs(30);
const SUMMARY_CHARS_MAX: usize = 500;

/// Runs every job by its schedule until shutdown begins; each keeps its own time.
pub async fn run_forever(app: App, jobs: &[Job]) {
    join_all(jobs.iter().map(|job| keep(&app, job))).await;
}

/// Runs what is due at `now` and nobody has run yet. How many jobs that were; how they ended is in
/// `job_runs`.
pub async fn run_due(app: &App, jobs: &[Job], now: DateTime<Utc>) -> Result<usize> {
    let runs = join_all(jobs.iter().map(|job| run_latest(app, job, now))).await;
    let runs = runs.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(runs.into_iter().filter(|was_run| *was_run).count())
}

/// Runs a job outside its schedule. What it did, or why it failed.
pub async fn run_now(app: &App, jobs: &[Job], name: &str) -> Result<String> {
    let job = jobs.iter().find(|job| job.name == name).ok_or(Error::NotFound("job"))?;
    let now = app.clock.db_now();
    let Some(claim) = claim(app, job, now, now).await? else {
        return Err(Error::Unavailable("the job, which runs already,"));
    };
    let outcome = attempt(app, job, &claim).await;
    finish(app, &claim, &outcome, Retry::Never).await?;
    outcome
}

async fn keep(app: &App, job: &Job) {
    let stopping = app.tasks.stopping();
    while !stopping.is_cancelled() {
        if let Err(error) = run_latest(app, job, app.clock.db_now()).await {
            warn!(job.name, %error, "Job {} cannot be looked after: {error}", job.name);
        }
        let pause = until_next(job, app.clock.db_now()).unwrap_or(SLEEP_MAX);
        tokio::select! {
            () = stopping.cancelled() => {}
            () = sleep(pause) => {}
        }
    }
}

/// Runs the latest slot, unless somebody did. Whether it ran here.
async fn run_latest(app: &App, job: &Job, now: DateTime<Utc>) -> Result<bool> {
    let slot = latest_slot(job, now)?;
    // A look first: a claim writes, and most looks find nothing to do.
    if !is_open(app, job, slot, now).await? {
        return Ok(false);
    }
    let Some(claim) = claim(app, job, slot, now).await? else { return Ok(false) };
    let outcome = attempt(app, job, &claim).await;
    match &outcome {
        Ok(summary) => info!(job.name, "Ran {} for {slot}: {summary}", job.name),
        Err(error) => error!(job.name, %error, "Job {} failed for {slot}: {error}", job.name),
    }
    finish(app, &claim, &outcome, Retry::Later).await?;
    Ok(true)
}

/// The last scheduled instant up to `now`.
fn latest_slot(job: &Job, now: DateTime<Utc>) -> Result<DateTime<Utc>> {
    let now = now.trunc_subsecs(0).with_timezone(&job.zone);
    let slot = schedule(job)?.find_previous_occurrence(&now, true).map_err(Error::broken)?;
    Ok(slot.to_utc())
}

/// The first scheduled instant of a job after `now`.
pub(super) fn next_slot(jobs: &[Job], name: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>> {
    let job = jobs.iter().find(|job| job.name == name).ok_or(Error::NotFound("job"))?;
    let local = now.with_timezone(&job.zone);
    let next = schedule(job)?.find_next_occurrence(&local, false).map_err(Error::broken)?;
    Ok(next.to_utc())
}

fn until_next(job: &Job, now: DateTime<Utc>) -> Result<Duration> {
    let local = now.with_timezone(&job.zone);
    let next = schedule(job)?.find_next_occurrence(&local, false).map_err(Error::broken)?;
    Ok((next.to_utc() - now).to_std().map_or(SLEEP_MAX, |pause| pause.min(SLEEP_MAX)))
}

fn schedule(job: &Job) -> Result<Cron> {
    Cron::from_str(job.schedule).map_err(Error::broken)
}

/// The right to run a slot, for this attempt.
#[derive(FromQueryResult)]
struct Claim {
    id: Uuid,
    attempts: i32,
}

#[derive(FromQueryResult)]
struct Run {
    state: String,
    lease_until: DateTime<Utc>,
}

async fn is_open(app: &App, job: &Job, slot: DateTime<Utc>, now: DateTime<Utc>) -> Result<bool> {
    let sql = "SELECT state, lease_until FROM job_runs WHERE name = $1 AND slot = $2";
    let run: Option<Run> =
        db::one(app.db.primary(), sql, vec![job.name.into(), slot.into()]).await?;
    Ok(run.is_none_or(|run| run.state == "RUNNING" && run.lease_until < now))
}

/// Claims the slot, new or left behind. None when it is somebody else's or done.
async fn claim(
    app: &App,
    job: &Job,
    slot: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Option<Claim>> {
    let txn = app.db.begin().await?;
    let values = vec![job.name.into(), slot.into(), now.into(), ATTEMPTS_MAX.into()];
    db::execute(&*txn, GIVE_UP, values).await?;
    let lease_until = now + LEASE;
    let values = vec![
        job.name.into(),
        slot.into(),
        now.into(),
        lease_until.into(),
        app.node.into(),
        new_uuid().into(),
    ];
    let mut claim = db::one(&*txn, CLAIM_NEW, values).await?;
    if claim.is_none() {
        let values =
            vec![job.name.into(), slot.into(), now.into(), lease_until.into(), app.node.into()];
        claim = db::one(&*txn, TAKE_OVER, values).await?;
    }
    txn.commit().await?;
    Ok(claim)
}

/// Closes runs whose lease ended and that nobody takes over: older slots, and too many attempts.
const GIVE_UP: &str = "
UPDATE job_runs SET state = 'FAILED', finished_at = $3
WHERE name = $1 AND state = 'RUNNING' AND lease_until < $3 AND (slot < $2 OR attempts >= $4)";

const CLAIM_NEW: &str = "
INSERT INTO job_runs (id, name, slot, state, attempts, lease_until, leased_by, started_at)
SELECT $6, $1, $2, 'RUNNING', 1, $4, $5, $3
WHERE NOT EXISTS (
    SELECT 1 FROM job_runs
    WHERE name = $1 AND slot <> $2 AND state = 'RUNNING' AND lease_until >= $3
)
ON CONFLICT (name, slot) DO NOTHING
RETURNING id, attempts";

const TAKE_OVER: &str = "
UPDATE job_runs SET attempts = attempts + 1, lease_until = $4, leased_by = $5, started_at = $3
WHERE name = $1 AND slot = $2 AND state = 'RUNNING' AND lease_until < $3
RETURNING id, attempts";

/// One attempt, with its lease renewed. A lost lease ends it: somebody else runs the slot.
async fn attempt(app: &App, job: &Job, claim: &Claim) -> Result<String> {
    // The job's own first lines, too, may panic.
    let work = async { (job.run)(app.clone()).await };
    let work = timeout(ATTEMPT_PATIENCE, AssertUnwindSafe(work).catch_unwind());
    tokio::select! {
        outcome = work => match outcome {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Error::broken("the job panicked")),
            Err(_) => Err(Error::Timeout),
        },
        () = renew_until_lost(app, claim) => Err(Error::broken("the lease was lost")),
    }
}

async fn renew_until_lost(app: &App, claim: &Claim) {
    let mut ticks = interval_at(Instant::now() + RENEW_EVERY, RENEW_EVERY);
    loop {
        ticks.tick().await;
        match renew(app, claim).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => warn!(run.id = %claim.id, %error, "A lease was not renewed: {error}"),
        }
    }
}

async fn renew(app: &App, claim: &Claim) -> Result<bool> {
    let values = vec![
        (app.clock.db_now() + LEASE).into(),
        claim.id.into(),
        app.node.into(),
        claim.attempts.into(),
    ];
    let txn = app.db.begin().await?;
    let renewed = db::execute(&*txn, RENEW, values).await?;
    txn.commit().await?;
    Ok(renewed > 0)
}

const RENEW: &str = "
UPDATE job_runs SET lease_until = $1
WHERE id = $2 AND leased_by = $3 AND attempts = $4 AND state = 'RUNNING'";

/// Whether a failed run is tried again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Retry {
    Later,
    Never,
}

/// Records the end of an attempt, if its lease was not lost. A failed run that is tried again stays
/// RUNNING with a short lease, at whose end it is taken over.
async fn finish(app: &App, claim: &Claim, outcome: &Result<String>, retry: Retry) -> Result<()> {
    let now = app.clock.db_now();
    let is_retried = retry == Retry::Later && claim.attempts < ATTEMPTS_MAX;
    let (state, lease_until, summary) = match outcome {
        Ok(summary) => ("SUCCEEDED", now, summary.clone()),
        Err(error) if is_retried => ("RUNNING", now + PAUSE * claim.attempts, error.to_string()),
        Err(error) => ("FAILED", now, error.to_string()),
    };
    let finished_at = (state != "RUNNING").then_some(now);
    let summary: String = summary.chars().take(SUMMARY_CHARS_MAX).collect();
    let values = vec![
        state.into(),
        lease_until.into(),
        summary.into(),
        finished_at.into(),
        claim.id.into(),
        app.node.into(),
        claim.attempts.into(),
    ];
    let txn = app.db.begin().await?;
    db::execute(&*txn, FINISH, values).await?;
    txn.commit().await
}

const FINISH: &str = "
UPDATE job_runs SET state = $1, lease_until = $2, summary = $3, finished_at = $4
WHERE id = $5 AND leased_by = $6 AND attempts = $7 AND state = 'RUNNING'";
