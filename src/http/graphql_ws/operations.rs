//! The operations of one socket. Each runs as its own task, so that a hot stream or a slow
//! resolver keeps none of the others waiting.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_graphql::{Response, ServerError};
use axum::extract::ws::Message;
use futures_util::FutureExt;
use futures_util::future::pending;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tracing::Instrument;

use crate::actor::Source;
use crate::error::{Code, Error, Lang};
use crate::graphql::caller::Caller;
use crate::graphql::engine::{Call, OperationKind, Prepared, ReadyOperation};
use crate::http::Shared;
use crate::http::documents::Sender;
use crate::http::graphql_ws::ANSWER_BYTES_MAX;
use crate::http::graphql_ws::outbox::{self, Outbox};
use crate::http::graphql_ws::protocol::{self, Close};
use crate::http::operation::{self, Asker, Verdict};
use crate::http::reply::{self, Body, Extent, our_error};
use crate::identity;
use crate::limits::who::Who;

/// Operations that may run at once on one socket. A mutation counts until it is over, even when
/// the client does not wait for it.
const RUNNING_MAX: usize = 50;
/// Queries among them that are executed at once, up to their place in the outbox. The others wait
/// for their turn, lest a few sockets full of costly queries take all processors for seconds.
const READING_MAX: usize = 4;

/// The operations of one socket; dropped, all but mutations end.
pub(super) struct Operations {
    shared: Shared,
    outbox: Outbox,
    sender: Sender,
    running: Arc<Running>,
    places: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    started: u64,
}

/// Operations by the client's ids.
#[derive(Default)]
struct Running(Mutex<HashMap<String, Operation>>);

struct Operation {
    /// Tells operations apart that used the same id one after the other.
    number: u64,
    /// Ends the operation early.
    end: oneshot::Sender<()>,
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
    pub(super) fn new(shared: Shared, outbox: Outbox, sender: Sender) -> Self {
        let places = Arc::new(Semaphore::new(RUNNING_MAX));
        let turns = Arc::new(Semaphore::new(READING_MAX));
        Self { shared, outbox, sender, running: Arc::default(), places, turns, started: 0 }
    }

    /// The source of the next operation: the socket's, and the operation's number.
    pub(super) fn source(&self, socket: &Source) -> Arc<Source> {
        let request_id = format!("{}.{}", socket.request_id, self.started + 1).into();
        Arc::new(Source { request_id, ..socket.clone() })
    }

    /// Begins an operation. An id that is in use ends the socket.
    pub(super) async fn begin(
        &mut self,
        id: String,
        call: Call,
        caller: Caller,
    ) -> Result<(), Close> {
        if self.running.lock().contains_key(&id) {
            return Err(Close::Duplicate(id));
        }
        self.started += 1;
        let number = self.started;
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let errors = [too_many(caller.lang, caller.request_id())];
            self.outbox.send(protocol::error(&id, &errors)).await;
            return Ok(());
        };
        let (end, ended) = oneshot::channel();
        self.running.lock().insert(id.clone(), Operation { number, end });
        let slot = Slot { id, number, running: Arc::clone(&self.running) };
        let span = tracing::info_span!("operation", request.id = caller.request_id());
        let asker = Asker::of(&caller);
        let work = Box::new(Work {
            shared: self.shared.clone(),
            outbox: self.outbox.clone(),
            sender: self.sender,
            turns: Arc::clone(&self.turns),
            asker,
            place: Some(place),
            slot,
        });
        let work = work.run(Box::new((call, caller))).instrument(span);
        self.shared.app().tasks.spawn(async move {
            tokio::select! {
                biased;
                // Freeing the id drops the sender: that is no end, the last message still goes.
                Ok(()) = ended => {}
                () = work => {}
            }
        });
        Ok(())
    }

    /// Ends an operation without a word, as the client wants. Unknown ids are over already.
    pub(super) fn end(&self, id: &str) {
        let operation = self.running.lock().remove(id);
        if let Some(operation) = operation {
            // An error means that it is over already.
            let _ = operation.end.send(());
        }
    }
}

impl Drop for Operations {
    fn drop(&mut self) {
        let running = std::mem::take(&mut *self.running.lock());
        for operation in running.into_values() {
            let _ = operation.end.send(());
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

/// What an operation works with. Thousands of them wait for their next event, hence what runs only
/// at first is in boxes, which are gone by then.
struct Work {
    shared: Shared,
    outbox: Outbox,
    sender: Sender,
    turns: Arc<Semaphore>,
    asker: Asker,
    /// Goes with a mutation, which may outlive all else.
    place: Option<OwnedSemaphorePermit>,
    slot: Slot,
}

impl Work {
    async fn run(mut self: Box<Self>, call: Box<(Call, Caller)>) {
        let execution = AssertUnwindSafe(self.execute(call)).catch_unwind();
        let end = execution.await.unwrap_or_else(|_| self.panicked());
        let Self { outbox, slot, place, .. } = *self;
        drop(place);
        // The client may use the id again as soon as it reads the last message.
        let id = slot.id.clone();
        drop(slot);
        match end {
            End::Complete => outbox.send(protocol::complete(&id)).await,
            End::Error(errors) => outbox.send(protocol::error(&id, &errors)).await,
        }
    }

    fn panicked(&self) -> End {
        End::Error(self.asker.panicked().response.errors)
    }

    async fn execute(&mut self, call: Box<(Call, Caller)>) -> End {
        let ready = match Box::pin(self.prepare(call)).await {
            Ok(ready) => ready,
            Err(errors) => return End::Error(errors),
        };
        if ready.kind == OperationKind::Subscription {
            self.stream(ready).await
        } else {
            Box::pin(self.answer(ready)).await
        }
    }

    async fn prepare(&self, call: Box<(Call, Caller)>) -> Result<ReadyOperation, Vec<ServerError>> {
        let (mut call, mut caller) = *call;
        // A socket lives for hours; rights are those of now, as over HTTP.
        if let Some(actor) = &caller.actor {
            let refreshed = identity::refresh(&caller.app, actor).await;
            let refused = |error| self.asker.outcome(&error, Verdict::Refused).response.errors;
            caller.actor = Some(refreshed.map_err(refused)?);
        }
        let app = self.shared.app();
        let who = Who::of(app, caller.actor.as_ref(), &caller.source);
        let asker = (&who, &self.asker);
        let sender = (caller.actor.as_ref(), self.sender);
        let admitted = self.shared.documents().admit(&self.shared, &mut call, sender).await;
        if let Err(denied) = admitted {
            let errors = vec![denied.error(self.asker.lang, &self.asker.request_id)];
            return Err(operation::refuse(app, asker, errors).await.response.errors);
        }
        match self.shared.engine().prepare(call, caller) {
            Prepared::Refused(refused) => {
                let errors = refused.response.errors;
                Err(operation::refuse(app, asker, errors).await.response.errors)
            }
            Prepared::Ready(ready) => {
                let limited = operation::limit(app, asker, ready.fields).await;
                limited.map(|()| ready).map_err(|limited| limited.response.errors)
            }
        }
    }

    /// Runs a query or a mutation.
    async fn answer(&mut self, ready: ReadyOperation) -> End {
        let turn = match ready.kind {
            // It is never closed.
            OperationKind::Query => Arc::clone(&self.turns).acquire_owned().await.ok(),
            OperationKind::Mutation | OperationKind::Subscription => None,
        };
        let room = match self.shared.room().for_operation(ready.kind) {
            Ok(room) => room,
            Err(full) => return End::Error(self.asker.shed(full)),
        };
        let held = (self.place.take(), room);
        let outcome = operation::run(&self.shared, ready, self.asker.clone(), held).await;
        let sent = match outcome.verdict {
            Verdict::Executed => {
                let response = outcome.response;
                let message = protocol::next(&self.slot.id, executed(&response));
                drop(response);
                self.send(message).await
            }
            Verdict::Refused | Verdict::Limited(_) | Verdict::TimedOut | Verdict::Failed => {
                Err(End::Error(outcome.response.errors))
            }
        };
        // A client that does not read has few answers that wait for room.
        drop(turn);
        sent.err().unwrap_or(End::Complete)
    }

    async fn stream(&self, ready: ReadyOperation) -> End {
        let mut events = Box::pin(self.shared.engine().subscribe(ready)).await;
        while let Some(answer) = events.next().await {
            if answer.is_failure() {
                return End::Error(answer.response.errors.clone());
            }
            let data = answer.json(|response| reply::to_json(&executed(response)));
            let message = protocol::next_written(&self.slot.id, data);
            drop(answer);
            // Its room is given back before the next wait.
            if let Err(end) = Box::pin(self.send(message)).await {
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

    /// Sends a result, unless it is too long for the socket's buffer.
    async fn send(&self, message: Message) -> Result<(), End> {
        if outbox::length(&message) > ANSWER_BYTES_MAX {
            tracing::error!("An answer was too long for a WebSocket");
            let Asker { lang, request_id, .. } = &self.asker;
            let error = our_error(&Error::broken("too long"), *lang, request_id);
            return Err(End::Error(vec![error]));
        }
        self.outbox.send(message).await;
        Ok(())
    }
}

fn executed(response: &Response) -> Body<'_> {
    Body::new(response, Extent::Executed)
}
