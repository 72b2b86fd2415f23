//! Runs queries and mutations for both transports: in time, and without letting a panic out.

use std::panic::AssertUnwindSafe;

use async_graphql::{Response, ServerError};
use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::Instrument;

use crate::error::{Error, Lang};
use crate::graphql::caller::Caller;
use crate::graphql::engine::{OperationKind, ReadyOperation};
use crate::http::Shared;
use crate::http::overload::Full;
use crate::http::reply::{our_error, set_retry_after};

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
    /// It took too long.
    TimedOut,
    /// A fault of ours.
    Failed,
}

/// Whom an operation is for, in its errors.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    pub(super) lang: Lang,
    pub(super) request_id: String,
}

impl Asker {
    pub(super) fn of(caller: &Caller) -> Self {
        Self { lang: caller.lang, request_id: caller.request_id.clone() }
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
