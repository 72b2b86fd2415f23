//! Running an execution: a tracked task that outlives the request and opens no transaction while
//! the model is being called.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::ai::input::Parameters;
use crate::ai::service::finish::{self, Ending};
use crate::ai::service::history;
use crate::ai::service::start::lease;
use crate::ai::turn;
use crate::app::App;
use crate::credits::service::admit;
use crate::db;
use crate::entity::{execution, function_price};
use crate::error::{Error, Result};
use crate::events::ExecutionChanged;
use crate::external::models::{ChatEvent, ChatRequest, Usage};
use crate::ids::{AccountId, HoldId};
use crate::tasks::Registration;

/// How often a run looks whether it was cancelled.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The pause after the first departure that the database did not take; it doubles with each.
const DEPART_PAUSE: Duration = Duration::from_millis(100);

/// An execution that was paid for and is to run.
#[derive(Clone, Debug)]
pub struct Job {
    /// The row.
    pub execution: execution::Model,
    /// What pays for it.
    pub hold: HoldId,
    /// The price that it was held at.
    pub price: Arc<function_price::Model>,
    /// What the function is given.
    pub parameters: Arc<Parameters>,
}

/// What came out of the model so far.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// The text.
    pub text: String,
    /// The provider's own count.
    pub usage: Option<Usage>,
}

/// Runs the job in the background. Shutdown waits for it. Tells how it ended, unless its hold was
/// lost on the way.
pub fn spawn(app: &App, job: Job) -> oneshot::Receiver<execution::Model> {
    let (tell, ended) = oneshot::channel();
    let registration = app.tasks.register(job.execution.id.0);
    let node = app.clone();
    app.tasks.spawn(async move {
        if let Some(row) = run(node, registration, job).await {
            // The caller may have left.
            let _ = tell.send(row);
        }
    });
    ended
}

async fn run(app: App, registration: Registration, job: Job) -> Option<execution::Model> {
    let begun = Instant::now();
    let driven = AssertUnwindSafe(drive(&app, &registration, &job)).catch_unwind().await;
    let (ending, output) = match driven {
        // None: the hold is no longer ours, somebody else has answered the execution.
        Ok(end) => end?,
        Err(_) => {
            tracing::error!(execution.id = %job.execution.id, "An execution panicked");
            (Ending::Panicked, Output::default())
        }
    };
    let time_ms = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
    finish::finish(&app, job, ending, (output, time_ms)).await
}

/// Calls the model and gathers its answer. None: the hold was lost on the way.
async fn drive(app: &App, registration: &Registration, job: &Job) -> Option<(Ending, Output)> {
    let mut output = Output::default();
    let asked = Instant::now();
    match mark_in_flight(app, job).await {
        Ok(true) => {}
        Ok(false) => return None,
        Err(error) => {
            tracing::warn!(
                %error, execution.id = %job.execution.id,
                "An execution could not begin: {error}"
            );
            return Some((Ending::NotSent, output));
        }
    }
    let half = app.config.hold_lease / 2;
    // A departure that had to wait has used up some of the lease that began with the reserve.
    if asked.elapsed() > half / 2
        && let Renewal::Lost = renew(app, job).await
    {
        return None;
    }
    let mut renewal = interval_at(Instant::now() + half, half);
    renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut look = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stream = app.models.chat(request_of(job));
    loop {
        let event = tokio::select! {
            biased;
            () = registration.cancelled() => return Some((Ending::Cancelled, output)),
            _ = renewal.tick() => match renew(app, job).await {
                Renewal::Kept => continue,
                Renewal::Cancelled => return Some((Ending::Cancelled, output)),
                Renewal::Lost => return None,
            },
            _ = look.tick() => {
                if is_cancel_wished(app, job).await {
                    return Some((Ending::Cancelled, output));
                }
                continue;
            }
            event = stream.next() => event,
        };
        match event {
            Some(Ok(ChatEvent::Text(piece))) => output.text.push_str(&piece),
            Some(Ok(ChatEvent::Usage(usage))) => output.usage = Some(usage),
            Some(Ok(ChatEvent::Finished(_))) => return Some((Ending::Finished, output)),
            Some(Err(failure)) => {
                tracing::info!(
                    execution.id = %job.execution.id,
                    "The provider failed an execution: {failure}"
                );
                return Some((Ending::Failed(failure.kind), output));
            }
            None => return Some((Ending::CutOff, output)),
        }
    }
}

fn request_of(job: &Job) -> ChatRequest {
    ChatRequest {
        execution_id: job.execution.id.to_string(),
        model: job.execution.model.clone(),
        system: job.parameters.context.clone(),
        input: job.parameters.input.clone(),
        temperature: job.parameters.temperature,
        max_tokens: u32::try_from(job.execution.max_tokens).unwrap_or(u32::MAX),
        options: job.parameters.options.clone(),
    }
}

/// A call that is about to leave: from here on a crash may have cost us something.
#[derive(Clone)]
pub(crate) struct Departure {
    /// What pays for it.
    pub(crate) hold: HoldId,
    /// Who pays.
    pub(crate) account: AccountId,
    /// What those who watch are told.
    pub(crate) change: ExecutionChanged,
}

/// Marks the call as leaving. A database that does not answer for a moment is asked again, within
/// half of the lease: the call is paid for, and marking it twice is marking it once.
async fn mark_in_flight(app: &App, job: &Job) -> Result<bool> {
    let execution = &job.execution;
    let change = ExecutionChanged {
        execution: execution.id,
        tenant: execution.tenant_id,
        is_finished: false,
    };
    let departure = Departure { hold: job.hold, account: execution.account_id, change };
    let give_up = Instant::now() + app.config.hold_lease / 2;
    let mut pause = DEPART_PAUSE;
    loop {
        match turn::depart(app, departure.clone()).await {
            Err(Error::Unavailable(_)) if Instant::now() + pause < give_up => {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            told => return told,
        }
    }
}

/// Whether somebody asked to cancel it: the event that says so may be lost. A database that does
/// not answer is asked again.
async fn is_cancel_wished(app: &App, job: &Job) -> bool {
    let id = job.execution.id;
    match history::row(app, job.execution.tenant_id, id).await {
        Ok(row) => row.cancel_requested_at.is_some(),
        Err(error) => {
            tracing::debug!(%error, execution.id = %id, "An execution could not be read: {error}");
            false
        }
    }
}

/// What became of a renewal.
pub(crate) enum Renewal {
    /// The hold is ours.
    Kept,
    /// It is, and somebody wants the run to end.
    Cancelled,
    /// It is not.
    Lost,
}

/// Renews the lease; a database that does not answer leaves it as it is until the next try.
pub(crate) async fn renew(app: &App, job: &Job) -> Renewal {
    match try_renew(app, job).await {
        Ok(renewal) => renewal,
        Err(error) => {
            tracing::warn!(
                %error, execution.id = %job.execution.id,
                "A lease was not renewed: {error}"
            );
            Renewal::Kept
        }
    }
}

async fn try_renew(app: &App, job: &Job) -> Result<Renewal> {
    #[derive(sea_orm::FromQueryResult)]
    struct Wish {
        cancel_requested_at: Option<chrono::DateTime<chrono::Utc>>,
    }
    let txn = app.db.begin().await?;
    let until = app.clock.db_now() + lease(app);
    let is_ours = admit::renew(&txn, job.hold, until).await?;
    let sql = "SELECT cancel_requested_at FROM ai_executions WHERE id = $1";
    let wish: Option<Wish> = db::one(&*txn, sql, vec![job.execution.id.into()]).await?;
    txn.commit().await?;
    let is_cancelled = wish.is_some_and(|wish| wish.cancel_requested_at.is_some());
    Ok(match (is_ours, is_cancelled) {
        (false, _) => Renewal::Lost,
        (true, true) => Renewal::Cancelled,
        (true, false) => Renewal::Kept,
    })
}
