//! Waiting for executions, and following them live.

use std::time::Duration;

use futures_util::{Stream, stream};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::actor::{Actor, Permission};
use crate::ai::service::history;
use crate::app::App;
use crate::entity::execution;
use crate::entity::execution::ExecutionStatus;
use crate::error::{Error, Result};
use crate::events::{Event, ExecutionChanged, Signal, Subscription, Topic};
use crate::identity;

/// How often a waiting caller looks again by itself.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long a stream waits when the database does not answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Waits until an execution has ended, at most until the deadline; answers it as it stands then.
pub(crate) async fn finished(
    app: &App,
    execution: execution::Model,
    deadline: Instant,
) -> Result<execution::Model> {
    let (tenant, id) = (execution.tenant_id, execution.id);
    let mut changes = app.events.subscribe(Topic::Execution(id));
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once: it may have ended before we subscribed.
    loop {
        let is_late = tokio::select! {
            biased;
            () = tokio::time::sleep_until(deadline) => true,
            () = until_finished(&mut changes) => false,
            _ = look.tick() => false,
        };
        let row = history::row(app, tenant, id).await?;
        if is_late || row.status != ExecutionStatus::Running {
            return Ok(row);
        }
    }
}

/// Waits until an execution that runs on this node has ended, as its run tells it. A run that lost
/// its hold tells nothing, so the row is looked at now and then.
pub(crate) async fn told(
    app: &App,
    execution: execution::Model,
    mut ended: oneshot::Receiver<execution::Model>,
    deadline: Instant,
) -> Result<execution::Model> {
    loop {
        let is_late = tokio::select! {
            biased;
            ended = &mut ended => match ended {
                Ok(row) => return Ok(row),
                Err(_) => return finished(app, execution, deadline).await,
            },
            () = tokio::time::sleep_until(deadline) => true,
            () = tokio::time::sleep(LOOK_EVERY) => false,
        };
        let row = history::row(app, execution.tenant_id, execution.id).await?;
        if is_late || row.status != ExecutionStatus::Running {
            return Ok(row);
        }
    }
}

async fn until_finished(changes: &mut Subscription) {
    loop {
        match changes.next().await {
            Some(Signal::Event(event)) => {
                if let Event::Execution(ExecutionChanged { is_finished: true, .. }) = event.as_ref()
                {
                    return;
                }
            }
            Some(Signal::Resync) => return,
            // Shutdown: the caller's own clock goes on.
            None => std::future::pending().await,
        }
    }
}

/// A step of an execution.
#[derive(Clone, Debug)]
pub enum Step {
    /// Its credits are held and it runs. The first of every execution.
    Started(execution::Model),
    /// It has ended. The last of every execution.
    Finished(execution::Model),
}

impl Step {
    /// The place in the execution's sequence, from 1.
    pub fn seq(&self) -> i32 {
        match self {
            Self::Started(_) => 1,
            Self::Finished(_) => 2,
        }
    }
}

/// Follows an execution from a place in its sequence on, until it has ended.
pub async fn follow(
    app: &App,
    actor: &Actor,
    id: crate::ids::ExecutionId,
    after: i32,
) -> Result<impl Stream<Item = Result<Step>> + Send + use<>> {
    // Subscribed before the row is read, so that no change falls between the two.
    let changes = app.events.subscribe(Topic::Execution(id));
    let row = history::get(app, actor, id).await?;
    let follow = Follow {
        app: app.clone(),
        actor: actor.clone(),
        row,
        changes,
        after,
        is_stale: false,
        is_over: false,
    };
    Ok(stream::unfold(follow, Follow::step))
}

struct Follow {
    app: App,
    actor: Actor,
    row: execution::Model,
    changes: Subscription,
    /// The place of the last step that the client has.
    after: i32,
    /// A change may have been missed while the database did not answer.
    is_stale: bool,
    is_over: bool,
}

impl Follow {
    async fn step(mut self) -> Option<(Result<Step>, Self)> {
        if self.is_over || self.after >= 2 {
            return None;
        }
        loop {
            let step = match self.next().await? {
                // In boxes here and below: what waits is not to keep room for what it rarely does.
                Ok(step) => Box::pin(self.allow(step)).await,
                Err(error) => Err(error),
            };
            match step {
                // The database does not answer for a moment: the stream stays and looks again.
                Err(Error::Unavailable(_)) => {
                    self.is_stale = true;
                    tokio::time::sleep(RETRY_AFTER).await;
                }
                Ok(step) => {
                    self.after = step.seq();
                    return Some((Ok(step), self));
                }
                Err(error) => {
                    self.is_over = true;
                    return Some((Err(error), self));
                }
            }
        }
    }

    /// The step, if the actor may still see it.
    async fn allow(&self, step: Step) -> Result<Step> {
        identity::recheck(&self.app, &self.actor, self.permission()).await?;
        Ok(step)
    }

    /// What it takes to see this execution: those of others are for whoever sees all.
    fn permission(&self) -> Permission {
        if history::is_own(&self.actor, &self.row) {
            Permission::AiExecute
        } else {
            Permission::AiReadAll
        }
    }

    async fn next(&mut self) -> Option<Result<Step>> {
        if self.after < 1 {
            return Some(Ok(Step::Started(self.row.clone())));
        }
        while self.row.status == ExecutionStatus::Running {
            if !std::mem::take(&mut self.is_stale) {
                match self.changes.next().await? {
                    Signal::Event(_) | Signal::Resync => {}
                }
            }
            match Box::pin(history::row(&self.app, self.row.tenant_id, self.row.id)).await {
                Ok(row) => self.row = row,
                Err(error) => return Some(Err(error)),
            }
        }
        Some(Ok(Step::Finished(self.row.clone())))
    }
}

/// Reads the executions that have subscribers here again, in one query: a lost publish leaves no
/// gap to see. Done every 5 s.
pub async fn reread(app: &App) -> Result<()> {
    let watched = app.events.subscribed_executions();
    for ids in watched.chunks(1_000) {
        let ended = execution::Entity::find()
            .filter(execution::Column::Id.is_in(ids.iter().copied()))
            .filter(execution::Column::Status.ne(ExecutionStatus::Running))
            .all(app.db.primary())
            .await?;
        for row in ended {
            app.events.publish_local(Event::Execution(ExecutionChanged {
                execution: row.id,
                tenant: row.tenant_id,
                is_finished: true,
            }));
        }
    }
    Ok(())
}
