//! Durable work: rows that are written with what caused them and done at least once.
//!
//! A row is pushed inside the cause's transaction, so that both are there or neither. Every node's
//! worker leases due rows, runs them and tries again later when they fail. A node that dies in the
//! middle loses its lease; another one repeats the work, so handlers must bear being run twice.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::{BoxFuture, FutureExt, join_all};
use sea_orm::FromQueryResult;
use serde_json::Value as Json;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{error, warn};
use uuid::Uuid;

use crate::clock::Clock;
use crate::crypto::{Crypto, Place, Sealed};
use crate::db::{self, Db, Txn};
use crate::error::{Error, Result};
use crate::events::{Events, WorkPushed};
use crate::ids::new_uuid;
use crate::tasks::Tasks;

/// Rows in work on one node at most. Every leased row starts at once, well inside its lease.
const RUNNING_MAX: usize = 8;
/// How long one attempt may take; less than the lease.
const ATTEMPT_PATIENCE: Duration = Duration::from_secs(60);
const LEASE: TimeDelta = TimeDelta::seconds(120);
/// How often the table is looked at when nobody tells of new work.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The pause after the first failed attempt; it doubles with each.
const PAUSE_FIRST: TimeDelta = TimeDelta::seconds(5);
const PAUSE_MAX: TimeDelta = TimeDelta::hours(1);
/// Characters of an error that are kept.
const ERROR_CHARS_MAX: usize = 500;

/// Work to push.
pub struct NewItem<'a> {
    /// Names the handler.
    pub kind: &'static str,
    /// What the handler needs; stored sealed.
    pub payload: &'a Json,
    /// Work with a key that is there already is not pushed again.
    pub dedupe_key: Option<String>,
    /// When it may start.
    pub run_at: DateTime<Utc>,
}

/// Does one kind of work. `C` is what handlers need: the program's `App`.
pub struct Handler<C> {
    /// The kind that it does.
    pub kind: &'static str,
    /// Does it once.
    pub run: fn(C, Json) -> BoxFuture<'static, Result<()>>,
    /// Attempts before the row is given up.
    pub attempts_max: i32,
}

/// Why no other attempt would help. A row whose handler answers this is given up at once.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Hopeless(pub String);

impl From<Hopeless> for Error {
    fn from(hopeless: Hopeless) -> Self {
        Self::broken(hopeless)
    }
}

/// What a worker needs.
#[derive(Clone)]
pub struct Parts {
    /// The database.
    pub db: Db,
    /// The time.
    pub clock: Clock,
    /// Opens payloads.
    pub crypto: Crypto,
    /// Tells of new work on this node.
    pub events: Events,
    /// Tells of the shutdown.
    pub tasks: Tasks,
    /// This process, in leases.
    pub node: Uuid,
}

/// Pushes work, done after the transaction's commit. False when its `dedupe_key` is there already.
pub async fn push(txn: &mut Txn, item: NewItem<'_>, crypto: &Crypto) -> Result<bool> {
    let id = new_uuid();
    let payload = crypto.seal(place(id), &item.payload.to_string())?;
    let values = vec![
        id.into(),
        item.kind.into(),
        payload.into(),
        item.dedupe_key.into(),
        item.run_at.into(),
        made_at(id).into(),
    ];
    let pushed = db::execute(&**txn, PUSH, values).await?;
    if pushed > 0 {
        txn.announce(Box::new(WorkPushed));
    }
    Ok(pushed > 0)
}

/// Works until shutdown begins. What is running then is waited for by `Tasks::drain`.
pub async fn run<C>(parts: Parts, context: C, handlers: &'static [Handler<C>])
where
    C: Clone + Send + 'static,
{
    let stopping = parts.tasks.stopping();
    let slots = Arc::new(Semaphore::new(RUNNING_MAX));
    let mut may_have_due = true;
    while !stopping.is_cancelled() {
        let free = slots.available_permits();
        if may_have_due && free > 0 {
            let leased = lease(&parts, handlers, free).await.unwrap_or_else(|error| {
                warn!(%error, "The queue cannot be read: {error}");
                Vec::new()
            });
            may_have_due = leased.len() == free;
            for row in leased {
                start(&parts, context.clone(), handlers, row, &slots);
            }
        }
        tokio::select! {
            () = stopping.cancelled() => {}
            _ = slots.acquire(), if may_have_due => {}
            () = parts.events.work_pushed() => may_have_due = true,
            () = sleep(LOOK_EVERY) => may_have_due = true,
        }
    }
}

/// Leases one batch of due rows and runs it. How many rows that were.
pub async fn work_once<C: Clone>(
    parts: &Parts,
    context: &C,
    handlers: &[Handler<C>],
) -> Result<usize> {
    let leased = lease(parts, handlers, RUNNING_MAX).await?;
    let count = leased.len();
    join_all(leased.into_iter().map(|row| attempt(parts, context.clone(), handlers, row))).await;
    Ok(count)
}

const PUSH: &str = "
INSERT INTO queue_items (id, kind, payload, dedupe_key, state, run_at, created_at)
VALUES ($1, $2, $3, $4, 'READY', $5, $6)
ON CONFLICT (dedupe_key) DO NOTHING";

#[derive(FromQueryResult)]
struct Leased {
    id: Uuid,
    kind: String,
    payload: Sealed,
    /// This attempt included.
    attempts: i32,
}

/// Takes due rows for this node, at most `count`. Kinds that no handler knows are a newer
/// release's and stay.
async fn lease<C>(parts: &Parts, handlers: &[Handler<C>], count: usize) -> Result<Vec<Leased>> {
    if handlers.is_empty() {
        return Ok(Vec::new());
    }
    let now = parts.clock.db_now();
    let mut values = vec![now.into(), (now + LEASE).into(), parts.node.into()];
    values.extend(handlers.iter().map(|handler| handler.kind.into()));
    let kinds = db::tuples(1, handlers.len(), 4);
    let txn = parts.db.begin().await?;
    // The conditions stand twice: whoever waited for another node's lease checks the row again.
    let sql = format!(
        "UPDATE queue_items SET lease_until = $2, leased_by = $3, attempts = attempts + 1
         WHERE id IN (
             SELECT id FROM queue_items
             WHERE state = 'READY' AND run_at <= $1 AND kind IN {kinds}
               AND (lease_until IS NULL OR lease_until < $1)
             ORDER BY run_at LIMIT {count}
         ) AND state = 'READY' AND run_at <= $1 AND (lease_until IS NULL OR lease_until < $1)
         RETURNING id, kind, payload, attempts"
    );
    let leased = db::all(&*txn, sql, values).await?;
    txn.commit().await?;
    Ok(leased)
}

/// Starts an attempt as a task of its own: polled by the worker only between its own statements, it
/// could hold the connection that the worker waits for.
fn start<C>(
    parts: &Parts,
    context: C,
    handlers: &'static [Handler<C>],
    row: Leased,
    slots: &Arc<Semaphore>,
) where
    C: Send + 'static,
{
    let slot = Arc::clone(slots).try_acquire_owned();
    let parts = parts.clone();
    parts.tasks.clone().spawn(async move {
        attempt(&parts, context, handlers, row).await;
        drop(slot);
    });
}

/// One attempt with its record. A fault of the record leaves the row to the end of its lease.
async fn attempt<C>(parts: &Parts, context: C, handlers: &[Handler<C>], row: Leased) {
    let Some(handler) = handlers.iter().find(|handler| handler.kind == row.kind) else { return };
    let outcome = if row.attempts > handler.attempts_max {
        // The nodes that tried died of it, or could not record it.
        Err(Error::broken("every attempt was cut off"))
    } else {
        try_once(parts, context, handler, &row).await
    };
    if let Err(error) = record(parts, handler, &row, outcome).await {
        warn!(item.id = %row.id, %error, "Work {} cannot be recorded: {error}", row.id);
    }
}

async fn try_once<C>(parts: &Parts, context: C, handler: &Handler<C>, row: &Leased) -> Result<()> {
    let payload = serde_json::from_str(&parts.crypto.open(place(row.id), &row.payload)?)?;
    // The handler's own first lines, too, may panic.
    let work = async { (handler.run)(context, payload).await };
    match timeout(ATTEMPT_PATIENCE, AssertUnwindSafe(work).catch_unwind()).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(Error::broken("the handler panicked")),
        Err(_) => Err(Error::Timeout),
    }
}

async fn record<C>(
    parts: &Parts,
    handler: &Handler<C>,
    row: &Leased,
    outcome: Result<()>,
) -> Result<()> {
    let now = parts.clock.db_now();
    let (state, run_at, last_error) = match outcome {
        Ok(()) => ("DONE", None, None),
        Err(error) if row.attempts >= handler.attempts_max || is_hopeless(&error) => {
            let id = row.id;
            error!(item.id = %id, %error, "Gave up {} {id}: {error}", row.kind);
            ("DEAD", None, Some(shorten(&error)))
        }
        Err(error) => {
            let (id, count) = (row.id, row.attempts);
            warn!(item.id = %id, %error, "Attempt {count} at {} {id} failed: {error}", row.kind);
            ("READY", Some(now + pause_after(row.attempts)), Some(shorten(&error)))
        }
    };
    let finished_at = run_at.is_none().then_some(now);
    let values = vec![
        state.into(),
        run_at.into(),
        last_error.into(),
        finished_at.into(),
        row.id.into(),
        parts.node.into(),
        row.attempts.into(),
    ];
    let txn = parts.db.begin().await?;
    db::execute(&*txn, RECORD, values).await?;
    txn.commit().await
}

fn is_hopeless(error: &Error) -> bool {
    matches!(error, Error::Broken(cause) if cause.is::<Hopeless>())
}

/// Only the attempt that still has the lease is recorded.
const RECORD: &str = "
UPDATE queue_items
SET state = $1, run_at = COALESCE($2, run_at), last_error = $3, finished_at = $4,
    lease_until = NULL, leased_by = NULL
WHERE id = $5 AND leased_by = $6 AND attempts = $7 AND state = 'READY'";

/// Doubles from attempt to attempt; half of it is chance, so that failures do not return at once.
fn pause_after(attempts: i32) -> TimeDelta {
    let doublings = u32::try_from(attempts - 1).unwrap_or(0).min(10);
    let full = (PAUSE_FIRST * (1 << doublings)).min(PAUSE_MAX).num_milliseconds();
    TimeDelta::milliseconds(full / 2 + fastrand::i64(0..=full / 2))
}

fn shorten(error: &Error) -> String {
    error.to_string().chars().take(ERROR_CHARS_MAX).collect()
}

fn place(id: Uuid) -> Place {
    Place { table: "queue_items", column: "payload", row: id }
}

/// The time in the id of a new row.
fn made_at(id: Uuid) -> DateTime<Utc> {
    let time = id.get_timestamp().map(|timestamp| timestamp.to_unix());
    time.and_then(|(seconds, nanos)| DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanos))
        .unwrap_or(DateTime::UNIX_EPOCH)
}
