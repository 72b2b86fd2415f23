//! One socket from its handshake to its goodbye: sign-in, reading, pings, the token's end.

use std::pin::pin;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, pending};
use futures_util::stream::SplitStream;
use serde_json::{Map, Value};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::actor::Actor;
use crate::error::{Error, Lang};
use crate::graphql::caller::Caller;
use crate::http::Shared;
use crate::http::access;
use crate::http::graphql_ws::operations::Operations;
use crate::http::graphql_ws::outbox::{self, Outbox};
use crate::http::graphql_ws::protocol::{self, Close, Incoming};

/// How long a peer may take to say goodbye after us.
const GOODBYE: Duration = Duration::from_secs(2);
/// Sockets close over such a time at a shutdown, lest all clients come back in one moment.
const RESTART_SPREAD_MS: u64 = 1_000;
/// A sign-in that takes longer has failed.
const SIGN_IN_PATIENCE: Duration = Duration::from_secs(10);

/// Who opened the socket, as far as the handshake tells.
pub(super) struct Client {
    pub(super) lang: Lang,
    pub(super) request_id: String,
}

/// Serves a socket until it ends.
pub(super) async fn run(shared: Shared, client: Client, socket: WebSocket) {
    let (sink, mut frames) = socket.split();
    let (outbox, inbox) = outbox::open();
    let (goodbye, said) = oneshot::channel();
    let mut writer = pin!(outbox::write(sink, inbox, said, shared.limits().write_timeout));
    let mut session = Session::new(shared, client, outbox);
    let close = tokio::select! {
        close = session.run(&mut frames) => close,
        () = &mut writer => None,
    };
    // Operations end now; what they still have to say is not waited for.
    drop(session);
    let Some(close) = close else { return };
    tracing::debug!("A socket is closed: {close:?}");
    if goodbye.send(close.frame()).is_ok() {
        writer.await;
        let _ = timeout(GOODBYE, linger(&mut frames, &close)).await;
    }
}

/// Reads on, as closing a socket with unread bytes would reset it and lose our close frame.
async fn linger(frames: &mut SplitStream<WebSocket>, close: &Close) {
    while let Some(Ok(_)) = frames.next().await {}
    if matches!(close, Close::TooLarge | Close::NotText) {
        // The library reads nothing after such a message; give the peer time to read ours.
        sleep(GOODBYE).await;
    }
}

/// How far the conversation is.
enum Phase {
    /// Before `connection_init`.
    Fresh,
    /// The token is being checked.
    SigningIn(BoxFuture<'static, Result<Option<Actor>, Error>>),
    /// Operations may come.
    Open(Option<Actor>),
}

struct Session {
    shared: Shared,
    client: Client,
    outbox: Outbox,
    operations: Operations,
    phase: Phase,
    opened: Instant,
    next_ping: Instant,
    /// Whether the peer was heard since the last ping.
    is_heard: bool,
}

impl Session {
    fn new(shared: Shared, client: Client, outbox: Outbox) -> Self {
        let operations = Operations::new(shared.clone(), outbox.clone());
        let opened = Instant::now();
        let mut session = Self {
            shared,
            client,
            outbox,
            operations,
            phase: Phase::Fresh,
            opened,
            next_ping: opened,
            is_heard: true,
        };
        session.plan_ping();
        session
    }

    /// Reads until we close (why) or the peer is gone (`None`).
    async fn run(&mut self, frames: &mut SplitStream<WebSocket>) -> Option<Close> {
        let stopping = self.shared.app().tasks.stopping();
        loop {
            let deadline = self.deadline();
            let step = tokio::select! {
                biased;
                () = stopping.cancelled() => return Some(restart().await),
                signed_in = signed_in(&mut self.phase) => self.open(signed_in).await,
                () = sleep_until(deadline) => match self.tick().await {
                    Some(step) => step,
                    None => return None,
                },
                frame = frames.next() => match frame? {
                    Ok(frame) => self.take(frame).await?,
                    Err(error) => return broken(error),
                },
            };
            if let Err(close) = step {
                return Some(close);
            }
        }
    }

    /// Handles a frame. `None`: the peer says goodbye.
    async fn take(&mut self, frame: Message) -> Option<Result<(), Close>> {
        self.is_heard = true;
        match frame {
            Message::Text(text) => Some(match protocol::read(text.as_str()) {
                Ok(message) => self.answer(message).await,
                Err(close) => Err(close),
            }),
            Message::Binary(_) => Some(Err(Close::Malformed("The message is not text."))),
            // The library answers pings itself.
            Message::Ping(_) | Message::Pong(_) => Some(Ok(())),
            Message::Close(_) => None,
        }
    }

    async fn answer(&mut self, message: Incoming) -> Result<(), Close> {
        match message {
            Incoming::Init(payload) => self.begin_sign_in(payload),
            Incoming::Ping(payload) => {
                self.outbox.send(protocol::pong(payload)).await;
                Ok(())
            }
            Incoming::Pong => Ok(()),
            Incoming::Subscribe { id, call } => {
                let Phase::Open(actor) = &self.phase else { return Err(Close::Unauthorized) };
                if self.is_over() {
                    return Err(Close::Forbidden);
                }
                let caller = Caller {
                    app: self.shared.app().clone(),
                    actor: actor.clone(),
                    lang: self.client.lang,
                    request_id: self.client.request_id.clone(),
                };
                self.operations.begin(id, call, caller).await
            }
            Incoming::Complete { id } => {
                self.operations.end(&id);
                Ok(())
            }
        }
    }

    fn begin_sign_in(&mut self, payload: Map<String, Value>) -> Result<(), Close> {
        let Phase::Fresh = self.phase else { return Err(Close::TooManyInits) };
        if let Some(header) = find(&payload, "accept-language").and_then(Value::as_str) {
            self.client.lang = Lang::from_accept_language(header);
        }
        let app = self.shared.app().clone();
        let lang = self.client.lang;
        let token = match find(&payload, "authorization") {
            None | Some(Value::Null) => None,
            Some(Value::String(token)) => Some(token.clone()),
            Some(_) => return Err(Close::Forbidden),
        };
        self.phase = Phase::SigningIn(Box::pin(async move {
            let Some(token) = token else { return Ok(None) };
            let sign_in = access::sign_in_with(&app, &token, lang);
            let answer = timeout(SIGN_IN_PATIENCE, sign_in).await;
            answer.unwrap_or(Err(Error::Timeout)).map(Some)
        }));
        Ok(())
    }

    async fn open(&mut self, signed_in: Result<Option<Actor>, Error>) -> Result<(), Close> {
        match signed_in {
            Ok(actor) => {
                self.phase = Phase::Open(actor);
                self.outbox.send(protocol::ack()).await;
                Ok(())
            }
            Err(Error::Unauthenticated | Error::Forbidden) => Err(Close::Forbidden),
            Err(error) => {
                tracing::warn!(%error, "A sign-in failed: {error}");
                Err(Close::Unavailable)
            }
        }
    }

    /// When there is something to do without the peer.
    fn deadline(&self) -> Instant {
        match &self.phase {
            Phase::Fresh => self.opened + self.shared.limits().init_timeout,
            Phase::SigningIn(_) | Phase::Open(None) => self.next_ping,
            Phase::Open(Some(_)) => {
                let left = self.left().unwrap_or_default();
                self.next_ping.min(Instant::now() + left.min(self.shared.limits().ping_pause))
            }
        }
    }

    /// What time demands. `None`: the peer is dead.
    async fn tick(&mut self) -> Option<Result<(), Close>> {
        if matches!(self.phase, Phase::Fresh) {
            return Some(Err(Close::InitTimeout));
        }
        if self.is_over() {
            return Some(Err(Close::Forbidden));
        }
        if Instant::now() < self.next_ping {
            return Some(Ok(()));
        }
        if !self.is_heard {
            tracing::debug!("A socket is dead");
            return None;
        }
        self.is_heard = false;
        self.plan_ping();
        self.outbox.send(Message::Ping(bytes::Bytes::new())).await;
        Some(Ok(()))
    }

    /// Pings come with some jitter, lest those of many sockets meet.
    fn plan_ping(&mut self) {
        let pause = self.shared.limits().ping_pause;
        self.next_ping = Instant::now() + pause + pause.mul_f32(fastrand::f32() / 4.0);
    }

    /// How long the token is still valid; `None` when it is over.
    fn left(&self) -> Option<Duration> {
        let Phase::Open(Some(actor)) = &self.phase else { return Some(Duration::MAX) };
        let left = actor.expires_at - self.shared.app().clock.now();
        left.to_std().ok().filter(|left| !left.is_zero())
    }

    fn is_over(&self) -> bool {
        self.left().is_none()
    }
}

/// The end of the sign-in that is under way; never, when there is none.
async fn signed_in(phase: &mut Phase) -> Result<Option<Actor>, Error> {
    match phase {
        Phase::SigningIn(sign_in) => sign_in.await,
        Phase::Fresh | Phase::Open(_) => pending().await,
    }
}

async fn restart() -> Close {
    sleep(Duration::from_millis(fastrand::u64(0..RESTART_SPREAD_MS))).await;
    Close::Restart
}

/// What a failed read means. The network's own failures leave nobody to speak to.
fn broken(error: axum::Error) -> Option<Close> {
    let error = error.into_inner();
    let mut causes =
        std::iter::successors(Some(error.as_ref() as &dyn std::error::Error), |e| e.source());
    if causes.any(|cause| cause.is::<std::io::Error>()) {
        return None;
    }
    // Text that is not UTF-8 has no cause of its own; the message that is too long has.
    if error.source().is_none() { Some(Close::NotText) } else { Some(Close::TooLarge) }
}

/// The member of this name in any case, at the top or within `headers`.
fn find<'a>(payload: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let within = |members: &'a Map<String, Value>| {
        members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    let headers = || payload.get("headers").and_then(Value::as_object).and_then(within);
    within(payload).or_else(headers)
}
