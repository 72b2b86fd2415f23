//! Runs queries and mutations for both transports: in time, and without letting a panic out.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_graphql::{Pos, Response, ServerError};
use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::Instrument;

use crate::actor::{Actor, Source};
use crate::app::App;
use crate::audit::{self, Action, Attempt};
use crate::error::{Code, Error, Lang};
use crate::graphql::caller::Caller;
use crate::graphql::engine::{OperationKind, ReadyOperation};
use crate::graphql::payload::top_level;
use crate::http::Shared;
use crate::http::overload::Full;
use crate::http::reply::{our_error, retry_after_seconds, set_retry_after};
use crate::limits;
use crate::limits::table::Limit;
use crate::limits::who::Who;

/// How an operation ended.
pub(super) struct Outcome {
    pub(super) response: Response,
    pub(super) verdict: Verdict,
}

/// What an answer means to the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Fields were executed.
    Executed,
    /// The document or its variables were refused; nothing was executed.
    Refused,
    /// The caller has asked too often; nothing was executed. They may come back after so many
    /// seconds.
    Limited(u32),
    /// It took too long.
    TimedOut,
    /// A fault of ours.
    Failed,
}

/// Whom an operation is for, in its errors and in the record.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    pub(super) lang: Lang,
    pub(super) request_id: String,
    actor: Option<Actor>,
    source: Arc<Source>,
}

impl Asker {
    pub(super) fn of(caller: &Caller) -> Self {
        Self {
            lang: caller.lang,
            request_id: caller.request_id().to_owned(),
            actor: caller.actor.clone(),
            source: Arc::clone(&caller.source),
        }
    }

    /// The answer to a fault of ours or to what took too long.
    pub(super) fn outcome(&self, error: &Error, verdict: Verdict) -> Outcome {
        let error = our_error(error, self.lang, &self.request_id);
        Outcome { response: Response::from_errors(vec![error]), verdict }
    }

    /// The errors of an operation for which there is no room.
    pub(super) fn shed(&self, full: Full) -> Vec<ServerError> {
        let mut error = our_error(&Error::Unavailable("room"), self.lang, &self.request_id);
        set_retry_after(&mut error, full.retry_after_seconds);
        vec![error]
    }

    /// The answer to a panic. The panic itself was written by the hook, under our span.
    pub(super) fn panicked(&self) -> Outcome {
        tracing::error!(request.id = self.request_id, "A resolver panicked");
        self.outcome(&Error::broken("panic"), Verdict::Failed)
    }
}

/// Counts so many fields against what the caller may execute; the answer to one who may not.
pub(super) async fn limit(
    app: &App,
    (who, asker): (&Who, &Asker),
    fields: usize,
) -> Result<(), Outcome> {
    let fields = i64::try_from(fields).unwrap_or(i64::MAX);
    let Err(error) = limits::service::take(app, who, Limit::Operations, fields).await else {
        return Ok(());
    };
    let actor = asker.actor.as_ref();
    if error.code() == Code::RateLimited {
        let (action, source) = (Action::RateLimited, &asker.source);
        audit::attempt(app, Attempt { action, what: "operation", actor, tenant: None, source });
    }
    let mut shown =
        top_level(&error, asker.lang, &asker.request_id).into_server_error(Pos::default());
    shown.locations.clear();
    let verdict = Verdict::Limited(retry_after_seconds(&error));
    Err(Outcome { response: Response::from_errors(vec![shown]), verdict })
}

/// The answer to a document that does not run: it was read at our expense, and counts as one field.
pub(super) async fn refuse(
    app: &App,
    (who, asker): (&Who, &Asker),
    errors: Vec<ServerError>,
) -> Outcome {
    let response = Response::from_errors(errors);
    let limited = limit(app, (who, asker), 1).await.err();
    limited.unwrap_or(Outcome { response, verdict: Verdict::Refused })
}

/// Runs a query or a mutation. `held` is let go when the work is over, which for a mutation may be
/// after the caller has gone.
pub(super) async fn run(
    shared: &Shared,
    ready: ReadyOperation,
    asker: Asker,
    held: impl Send + 'static,
) -> Outcome {
    if ready.kind != OperationKind::Mutation {
        let outcome = attempt(shared.clone(), ready, asker).await;
        drop(held);
        return outcome;
    }
    // The client may hang up, but a purchase that has begun must not stop halfway.
    let (answer, outcome) = oneshot::channel();
    let fault = asker.clone();
    let work = attempt(shared.clone(), ready, asker).in_current_span();
    shared.app().tasks.spawn(async move {
        let outcome = work.await;
        drop(held);
        // Nobody listens when the client has gone.
        let _ = answer.send(outcome);
    });
    outcome.await.unwrap_or_else(|_| fault.panicked())
}

async fn attempt(shared: Shared, ready: ReadyOperation, asker: Asker) -> Outcome {
    let patience = shared.limits().operation_timeout;
    let work = AssertUnwindSafe(shared.engine().execute(ready)).catch_unwind();
    match timeout(patience, work).await {
        Ok(Ok(executed)) => {
            let verdict =
                if executed.is_request_error { Verdict::Refused } else { Verdict::Executed };
            Outcome { response: executed.response, verdict }
        }
        Ok(Err(_)) => asker.panicked(),
        Err(_) => {
            tracing::warn!(request.id = asker.request_id, "An operation took too long");
            asker.outcome(&Error::Timeout, Verdict::TimedOut)
        }
    }
}
