//! Cancelling: the row is flagged, and its owner, on whatever node, ends the run.

use std::time::Duration;

use tokio::time::Instant;

use crate::actor::{Actor, Permission};
use crate::ai::service::{history, watch};
use crate::app::App;
use crate::audit::{self, Action, Subject};
use crate::db;
use crate::entity::execution;
use crate::entity::execution::ExecutionStatus;
use crate::error::Result;
use crate::events::{self, Event, Signal, Topic};
use crate::ids::ExecutionId;

/// How long a cancel waits for the end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks a running execution to end; what was delivered is charged. Waits at most 5 s for its end.
/// An execution that has ended is answered as it is.
pub async fn cancel(app: &App, actor: &Actor, id: ExecutionId) -> Result<execution::Model> {
    actor.require(Permission::AiExecute)?;
    let execution = history::get(app, actor, id).await?;
    if execution.status != ExecutionStatus::Running {
        return Ok(execution);
    }
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await?;
    let sql = "UPDATE ai_executions SET cancel_requested_at = $2
               WHERE id = $1 AND status = 'RUNNING' AND cancel_requested_at IS NULL";
    if db::execute(&*txn, sql, vec![id.into(), now.into()]).await? > 0 {
        let subject = Subject::of("execution", id.0).in_tenant(execution.tenant_id);
        audit::record(app, &txn, actor, Action::AiExecutionCancelled, subject).await?;
    }
    events::announce(&mut txn, Event::CancelRequested(id));
    txn.commit().await?;
    watch::finished(app, execution, Instant::now() + PATIENCE).await
}

/// Ends runs of this node when somebody asks for it, until shutdown. A lost event is made good when
/// the run renews its lease.
pub async fn obey_forever(app: App) {
    let stopping = app.tasks.stopping();
    let mut cancels = app.events.subscribe(Topic::Cancels);
    loop {
        let signal = tokio::select! {
            () = stopping.cancelled() => return,
            signal = cancels.next() => signal,
        };
        match signal {
            None => return,
            Some(Signal::Resync) => {}
            Some(Signal::Event(event)) => {
                if let Event::CancelRequested(id) = event.as_ref()
                    && let Some(running) = app.tasks.running(id.0)
                {
                    running.cancel.cancel();
                }
            }
        }
    }
}
