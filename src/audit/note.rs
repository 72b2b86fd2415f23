//! What is written beside requests: refused attempts, which no transaction keeps, and changes that
//! wrote no line of their own.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::actor::{Actor, Source};
use crate::app::App;
use crate::audit::record::{by, chain_of, line, named, note, request_of, write};
use crate::audit::{Action, Subject};
use crate::entity::system_event;
use crate::error::Result;
use crate::ids::TenantId;
use crate::journal::{Note, Sum};

/// How often waiting lines are written.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// How often it is told that lines were dropped.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Something that was refused.
#[derive(Clone, Debug)]
pub struct Attempt<'a> {
    /// What was refused: [`Action::AccessRefused`] and its like.
    pub action: Action,
    /// What it was tried on: a field of the schema or a path of ours, never text of a caller.
    pub what: &'a str,
    /// Who is signed in.
    pub actor: Option<&'a Actor>,
    /// The tenant that it concerns, where nobody is signed in.
    pub tenant: Option<TenantId>,
    /// Where the request came from.
    pub source: &'a Arc<Source>,
}

/// Notes an attempt. It waits to be written, outside of any transaction; what one caller repeats
/// within a minute is summed up in one line after the first.
pub fn attempt(app: &App, attempt: Attempt<'_>) {
    let now = app.clock.db_now();
    let sum = Sum {
        caller: Some(caller(&attempt)),
        action: attempt.action.as_str(),
        what: attempt.what.into(),
    };
    app.journal.sum(sum, |sum| {
        let subject = Subject::kind("attempt").with(json!({ "on": attempt.what }));
        if sum.caller.is_none() {
            // Too many callers to be told apart: one line by nobody for all of them.
            let subject = subject.with(json!({ "on": attempt.what, "callers": "many" }));
            let row = line(attempt.action, subject, now);
            return note(row, &Source::default());
        }
        let row = match attempt.actor {
            Some(actor) => by(actor, line(attempt.action, subject, now)),
            None => system_event::Model {
                tenant_id: attempt.tenant,
                chain_id: chain_of(attempt.tenant),
                request_id: request_of(attempt.source),
                ..line(attempt.action, subject, now)
            },
        };
        note(row, attempt.source)
    });
}

/// Who tries: the key or the person in their tenant, else the household of the address.
fn caller(attempt: &Attempt<'_>) -> Box<str> {
    let text = match (attempt.actor, attempt.source.address) {
        (Some(actor), _) => format!("{} {}", actor.principal(), chain_of(actor.tenant_id)),
        (None, Some(IpAddr::V6(address))) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}")
        }
        (None, Some(IpAddr::V4(address))) => address.to_string(),
        (None, None) => String::new(),
    };
    text.into()
}

/// Notes that a mutation of this name was done, for one that wrote no line of its own.
pub fn note_change(app: &App, actor: &Actor, field: &str) {
    let row = named(field, Subject::kind("mutation"), app.clock.db_now());
    let row = by(actor, row);
    app.journal.push(note(row, &actor.source));
    actor.source.records.add();
}

/// Writes what waits, every second, until shutdown begins.
pub async fn write_forever(app: App) {
    let stopping = app.tasks.stopping();
    let mut told = Instant::now();
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            () = sleep(WRITE_EVERY) => {}
        }
        let mut due = app.journal.take_due();
        if told.elapsed() >= TELL_EVERY {
            due.extend(dropped(&app));
            told = Instant::now();
        }
        if let Err(error) = write_all(&app, due).await {
            tracing::warn!(%error, "Lines of the audit record wait on: {error}");
        }
    }
}

/// Writes all that waits now, sums that are not complete, too: before the program ends.
pub async fn flush(app: &App) -> Result<()> {
    let mut notes = app.journal.take_all();
    notes.extend(dropped(app));
    write_all(app, notes).await
}

async fn write_all(app: &App, notes: Vec<Note>) -> Result<()> {
    if notes.is_empty() {
        return Ok(());
    }
    let written = async {
        let txn = app.db.begin().await?;
        write(app, &txn, notes.clone()).await?;
        txn.commit().await
    };
    let outcome = written.await;
    if outcome.is_err() {
        app.journal.put_back(notes);
    }
    outcome
}

/// Says that lines were lost, if any were.
fn dropped(app: &App) -> Option<Note> {
    let dropped = app.journal.take_dropped();
    if dropped == 0 {
        return None;
    }
    tracing::error!(dropped, "{dropped} lines of the audit record were dropped: too many waited");
    let subject = Subject::kind("system_event").with(json!({ "dropped": dropped }));
    let row = line(Action::RecordsDropped, subject, app.clock.db_now());
    Some(note(row, &Source::default()))
}
