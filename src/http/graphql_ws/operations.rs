//! The operations of one socket. Each runs as its own task, so that a hot stream or a slow
//! resolver keeps none of the others waiting.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_graphql::{ServerError, Value};
use futures_util::future::pending;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::Instrument;

use crate::error::{Code, Error, Lang};
use crate::graphql::caller::Caller;
use crate::graphql::engine::{Call, OperationKind, Prepared, ReadyOperation};
use crate::http::Shared;
use crate::http::graphql_ws::ANSWER_BYTES_MAX;
use crate::http::graphql_ws::outbox::{self, Outbox};
use crate::http::graphql_ws::protocol::{self, Close};
use crate::http::operation::{self, Asker, Outcome, Verdict};
use crate::http::reply::{self, Body, Extent, our_error};
use crate::identity;

/// Operations that may run at once on one socket. A mutation counts until it is over, even when
/// the client does not wait for it.
const RUNNING_MAX: usize = 50;

/// The operations of one socket; dropped, all but mutations end.
pub(super) struct Operations {
    shared: Shared,
    outbox: Outbox,
    running: Arc<Running>,
    places: Arc<Semaphore>,
    started: u64,
    all: CancellationToken,
    _end: DropGuard,
}

/// Operations by the client's ids.
#[derive(Default)]
struct Running(Mutex<HashMap<String, Operation>>);

struct Operation {
    /// Tells operations apart that used the same id one after the other.
    number: u64,
    cancel: CancellationToken,
}

impl Running {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Operation>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An id in use; dropped, the client may use it again.
struct Slot {
    id: String,
    number: u64,
    running: Arc<Running>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut running = self.running.lock();
        if running.get(&self.id).is_some_and(|operation| operation.number == self.number) {
            running.remove(&self.id);
        }
    }
}

impl Operations {
    pub(super) fn new(shared: Shared, outbox: Outbox) -> Self {
        let all = CancellationToken::new();
        Self {
            shared,
            outbox,
            running: Arc::default(),
            places: Arc::new(Semaphore::new(RUNNING_MAX)),
            started: 0,
            _end: all.clone().drop_guard(),
            all,
        }
    }

    /// Begins an operation. An id that is in use ends the socket.
    pub(super) async fn begin(
        &mut self,
        id: String,
        call: Call,
        mut caller: Caller,
    ) -> Result<(), Close> {
        if self.running.lock().contains_key(&id) {
            return Err(Close::Duplicate(id));
        }
        self.started += 1;
        let number = self.started;
        caller.request_id = format!("{}.{number}", caller.request_id);
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let errors = [too_many(caller.lang, &caller.request_id)];
            self.outbox.send(protocol::error(&id, &errors)).await;
            return Ok(());
        };
        let cancel = self.all.child_token();
        let operation = Operation { number, cancel: cancel.clone() };
        self.running.lock().insert(id.clone(), operation);
        let slot = Slot { id, number, running: Arc::clone(&self.running) };
        let span = tracing::info_span!("operation", request.id = caller.request_id);
        let work = Work { shared: self.shared.clone(), outbox: self.outbox.clone(), place };
        let work = work.run(slot, call, caller).instrument(span);
        self.shared.app().tasks.spawn(async move {
            tokio::select! {
                biased;
                () = cancel.cancelled() => {}
                () = work => {}
            }
        });
        Ok(())
    }

    /// Ends an operation without a word, as the client wants. Unknown ids are over already.
    pub(super) fn end(&self, id: &str) {
        let operation = self.running.lock().remove(id);
        if let Some(operation) = operation {
            operation.cancel.cancel();
        }
    }
}

fn too_many(lang: Lang, request_id: &str) -> ServerError {
    let message = lang.pick(
        format!("1つの接続で同時に実行できる操作は{RUNNING_MAX}件までです。"),
        format!("One socket runs at most {RUNNING_MAX} operations at once."),
    );
    reply::graphql_error(Code::RateLimited.as_str(), &message, request_id)
}

/// How an operation ends for the client.
enum End {
    Complete,
    Error(Vec<ServerError>),
}

/// What an operation works with.
struct Work {
    shared: Shared,
    outbox: Outbox,
    place: OwnedSemaphorePermit,
}

impl Work {
    async fn run(self, slot: Slot, call: Call, caller: Caller) {
        let asker = Asker::of(&caller);
        let outbox = self.outbox.clone();
        let id = slot.id.clone();
        let execution = AssertUnwindSafe(self.execute(&id, call, caller, asker.clone()));
        let end = match execution.catch_unwind().await {
            Ok(end) => end,
            Err(_) => End::Error(asker.panicked().response.errors),
        };
        // The client may use the id again as soon as it reads the last message.
        drop(slot);
        match end {
            End::Complete => outbox.send(protocol::complete(&id)).await,
            End::Error(errors) => outbox.send(protocol::error(&id, &errors)).await,
        }
    }

    async fn execute(self, id: &str, call: Call, mut caller: Caller, asker: Asker) -> End {
        // A socket lives for hours; rights are those of now, as over HTTP.
        if let Some(actor) = &caller.actor {
            match identity::refresh(&caller.app, actor).await {
                Ok(actor) => caller.actor = Some(actor),
                Err(error) => {
                    return End::Error(asker.outcome(&error, Verdict::Refused).response.errors);
                }
            }
        }
        match self.shared.engine().prepare(call, caller) {
            Prepared::Refused(refused) => End::Error(refused.response.errors),
            Prepared::Ready(ready) if ready.kind == OperationKind::Subscription => {
                self.stream(id, ready, &asker).await
            }
            Prepared::Ready(ready) => {
                let Self { shared, outbox, place } = self;
                let outcome = operation::run(&shared, ready, asker.clone(), place).await;
                answer(&outbox, id, outcome, &asker).await
            }
        }
    }

    async fn stream(&self, id: &str, ready: ReadyOperation, asker: &Asker) -> End {
        let mut events = self.shared.engine().stream(ready);
        while let Some(response) = events.next().await {
            // Roots of subscriptions are not nullable: no data means that the whole event failed.
            if response.data == Value::Null && !response.errors.is_empty() {
                return End::Error(response.errors);
            }
            if let Err(end) = send_next(&self.outbox, id, &response, asker).await {
                return end;
            }
        }
        if self.shared.app().tasks.stopping().is_cancelled() {
            // Sources end with the process. A client that read `complete` would not come back for
            // more; the close frame, which ends this operation too, tells it to.
            pending::<()>().await;
        }
        End::Complete
    }
}

async fn answer(outbox: &Outbox, id: &str, outcome: Outcome, asker: &Asker) -> End {
    match outcome.verdict {
        Verdict::Executed => match send_next(outbox, id, &outcome.response, asker).await {
            Ok(()) => End::Complete,
            Err(end) => end,
        },
        Verdict::Refused | Verdict::TimedOut | Verdict::Failed => {
            End::Error(outcome.response.errors)
        }
    }
}

/// Sends a result, unless it is too long for the socket's buffer.
async fn send_next(
    outbox: &Outbox,
    id: &str,
    response: &async_graphql::Response,
    asker: &Asker,
) -> Result<(), End> {
    let message = protocol::next(id, Body::new(response, Extent::Executed));
    if outbox::length(&message) > ANSWER_BYTES_MAX {
        tracing::error!("An answer was too long for a WebSocket");
        let error = our_error(&Error::broken("too long"), asker.lang, &asker.request_id);
        return Err(End::Error(vec![error]));
    }
    outbox.send(message).await;
    Ok(())
}
