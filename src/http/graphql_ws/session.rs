//! One socket from its handshake to its goodbye: sign-in, reading, pings, the token's end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, pending};
use futures_util::stream::{SplitSink, SplitStream};
use serde_json::{Map, Value};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tungstenite::error::ProtocolError;

use crate::actor::{Actor, Credential, Source};
use crate::error::{Error, Lang};
use crate::graphql::caller::Caller;
use crate::http::Shared;
use crate::http::access;
use crate::http::documents::Sender;
use crate::http::graphql_ws::operations::Operations;
use crate::http::graphql_ws::outbox::{self, Outbox};
use crate::http::graphql_ws::protocol::{self, Close, Incoming};
use crate::http::overload::CallerPlace;
use crate::http::presence::Attendance;
use crate::identity;

/// How long a peer may take to say goodbye after us.
const GOODBYE: Duration = Duration::from_secs(2);
/// Sockets close over such a time at a shutdown, lest all clients come back in one moment.
const RESTART_SPREAD_MS: u64 = 1_000;
/// A sign-in that takes longer has failed.
const SIGN_IN_PATIENCE: Duration = Duration::from_secs(10);

/// How often it is asked whether a caller may still be here.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Who opened the socket, as far as the handshake tells.
pub(super) struct Client {
    pub(super) lang: Lang,
    pub(super) source: Arc<Source>,
    pub(super) sender: Sender,
}

/// How a conversation ends.
enum Ending {
    /// We close the socket.
    Ours(Close),
    /// The peer says goodbye, and waits for ours.
    Theirs,
    /// There is nobody any more.
    Lost,
}

impl From<Close> for Ending {
    fn from(close: Close) -> Self {
        Self::Ours(close)
    }
}

/// Serves a socket until it ends.
pub(super) fn run(
    shared: Shared,
    client: Client,
    socket: WebSocket,
) -> impl Future<Output = ()> + Send {
    // Before the task begins, which would keep room for all that it is begun with. What happens
    // rarely is in boxes for the same reason.
    let (sink, frames) = socket.split();
    converse(shared, client, sink, frames)
}

async fn converse(
    shared: Shared,
    client: Client,
    sink: SplitSink<WebSocket, Message>,
    mut frames: SplitStream<WebSocket>,
) {
    let (outbox, inbox) = outbox::open();
    let mut writer = pin!(outbox::write(sink, inbox, shared.limits().write_timeout));
    let mut session = Session::new(shared, client, outbox.clone());
    let ending = tokio::select! {
        ending = session.run(&mut frames) => ending,
        () = &mut writer => Ending::Lost,
    };
    // Operations end now; what they still have to say is not waited for.
    drop(session);
    match ending {
        Ending::Ours(close) => {
            tracing::debug!("A socket is closed: {close:?}");
            outbox.close(close.frame());
            writer.await;
            let _ = Box::pin(timeout(GOODBYE, linger(&mut frames, &close))).await;
        }
        // Reading on lets the library send its goodbye.
        Ending::Theirs => {
            let _ = Box::pin(timeout(GOODBYE, frames.next())).await;
        }
        Ending::Lost => {}
    }
}

/// Reads on, as closing a socket with unread bytes would reset it and lose our close frame.
async fn linger(frames: &mut SplitStream<WebSocket>, close: &Close) {
    while let Some(Ok(_)) = frames.next().await {}
    if matches!(close, Close::Broken | Close::TooLarge | Close::NotText) {
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
    /// Among all sockets of the node, and among those of the caller.
    places: (Option<OwnedSemaphorePermit>, Option<CallerPlace>),
    /// Tells when what let the caller in has ended.
    attendance: Option<Attendance>,
    opened: Instant,
    next_ping: Instant,
    /// When it is asked again whether the caller may still be here.
    next_look: Instant,
    /// Whether the peer was heard since the last ping.
    is_heard: bool,
}

impl Session {
    fn new(shared: Shared, client: Client, outbox: Outbox) -> Self {
        let operations = Operations::new(shared.clone(), outbox.clone(), client.sender);
        let opened = Instant::now();
        let mut session = Self {
            shared,
            client,
            outbox,
            operations,
            phase: Phase::Fresh,
            places: (None, None),
            attendance: None,
            opened,
            next_ping: opened,
            next_look: opened,
            is_heard: true,
        };
        session.plan_ping();
        session
    }

    /// Converses until something ends it.
    async fn run(&mut self, frames: &mut SplitStream<WebSocket>) -> Ending {
        let Ok(place) = self.shared.room().for_socket() else {
            return Close::Overloaded.into();
        };
        self.places.0 = Some(place);
        let stopping = self.shared.app().tasks.stopping();
        loop {
            let deadline = self.deadline();
            let step = tokio::select! {
                biased;
                () = stopping.cancelled() => return Box::pin(restart()).await.into(),
                () = ended(&self.attendance) => return Close::Forbidden.into(),
                signed_in = signed_in(&mut self.phase) => Box::pin(self.open(signed_in)).await,
                () = sleep_until(deadline) => Box::pin(self.tick()).await,
                frame = frames.next() => match frame {
                    Some(Ok(frame)) => Box::pin(self.take(frame)).await,
                    Some(Err(error)) => Err(broken(error)),
                    None => Err(Ending::Lost),
                },
            };
            if let Err(ending) = step {
                return ending;
            }
        }
    }

    async fn take(&mut self, frame: Message) -> Result<(), Ending> {
        self.is_heard = true;
        match frame {
            Message::Text(text) => {
                let message = protocol::read(text.as_str())?;
                Ok(self.answer(message).await?)
            }
            Message::Binary(_) => Err(Close::Malformed("The message is not text.").into()),
            // The library answers pings itself.
            Message::Ping(_) | Message::Pong(_) => Ok(()),
            Message::Close(_) => Err(Ending::Theirs),
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
                let source = self.operations.source(&self.client.source);
                let app = self.shared.app().clone();
                let caller = Caller::new(app, actor.clone(), self.client.lang, source);
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
        let (lang, source) = (self.client.lang, Arc::clone(&self.client.source));
        let token = match find(&payload, "authorization") {
            None | Some(Value::Null) => None,
            Some(Value::String(token)) => Some(token.clone()),
            Some(_) => return Err(Close::Forbidden),
        };
        self.phase = Phase::SigningIn(Box::pin(async move {
            let Some(token) = token else { return Ok(None) };
            let sign_in = access::sign_in_with(&app, &token, lang);
            let answer = timeout(SIGN_IN_PATIENCE, sign_in).await;
            let signed_in = answer.unwrap_or(Err(Error::Timeout));
            signed_in.inspect_err(|error| access::note_refused(&app, error, &source)).map(Some)
        }));
        Ok(())
    }

    async fn open(&mut self, signed_in: Result<Option<Actor>, Error>) -> Result<(), Ending> {
        match signed_in {
            Ok(actor) => {
                let user = actor.as_ref().map(|actor| actor.user_id);
                let place = self.shared.room().for_caller(user).map_err(|_| Close::Overloaded)?;
                self.places.1 = Some(place);
                self.attendance = actor.as_ref().and_then(|it| self.shared.presence().attend(it));
                self.next_look = Instant::now() + LOOK_EVERY;
                self.phase = Phase::Open(actor);
                self.outbox.send(protocol::ack()).await;
                Ok(())
            }
            Err(Error::Unauthenticated | Error::Forbidden) => Err(Close::Forbidden.into()),
            Err(error) => {
                tracing::warn!(%error, "A sign-in failed: {error}");
                Err(Close::Unavailable.into())
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

    /// What time demands.
    async fn tick(&mut self) -> Result<(), Ending> {
        if matches!(self.phase, Phase::Fresh) {
            return Err(Close::InitTimeout.into());
        }
        if self.is_over() {
            return Err(Close::Forbidden.into());
        }
        if Instant::now() < self.next_ping {
            return Ok(());
        }
        if !self.is_heard {
            tracing::debug!("A socket is dead");
            return Err(Ending::Lost);
        }
        if Instant::now() >= self.next_look {
            self.next_look = Instant::now() + LOOK_EVERY;
            Box::pin(self.look()).await?;
        }
        self.is_heard = false;
        self.plan_ping();
        self.outbox.send(Message::Ping(bytes::Bytes::new())).await;
        Ok(())
    }

    /// Asks whether the caller may still be here: the word that a session ended may get lost.
    async fn look(&mut self) -> Result<(), Close> {
        let Phase::Open(Some(actor)) = &self.phase else { return Ok(()) };
        match timeout(SIGN_IN_PATIENCE, identity::refresh(self.shared.app(), actor)).await {
            Ok(Err(Error::Unauthenticated | Error::Forbidden)) => Err(Close::Forbidden),
            // A database that is away for a moment ends nothing.
            Ok(Ok(_) | Err(_)) | Err(_) => Ok(()),
        }
    }

    /// Pings come with some jitter, lest those of many sockets meet.
    fn plan_ping(&mut self) {
        let pause = self.shared.limits().ping_pause;
        self.next_ping = Instant::now() + pause + pause.mul_f32(fastrand::f32() / 4.0);
    }

    /// How long the token is still valid; `None` when it is over.
    fn left(&self) -> Option<Duration> {
        let Phase::Open(Some(actor)) = &self.phase else { return Some(Duration::MAX) };
        if let Credential::Session(_) = actor.credential {
            // It goes on as long as the session, whose first token it showed in time.
            return Some(Duration::MAX);
        }
        let left = actor.expires_at - self.shared.app().clock.now();
        left.to_std().ok().filter(|left| !left.is_zero())
    }

    fn is_over(&self) -> bool {
        self.left().is_none()
    }
}

/// The end of the session or the API key; never, when there is none.
async fn ended(attendance: &Option<Attendance>) {
    match attendance {
        Some(attendance) => attendance.ended().await,
        None => pending().await,
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
fn broken(error: axum::Error) -> Ending {
    use tungstenite::Error as Failure;
    match error.into_inner().downcast::<Failure>().map(|failure| *failure) {
        Ok(Failure::Capacity(_)) => Close::TooLarge.into(),
        Ok(Failure::Utf8(_)) => Close::NotText.into(),
        Ok(Failure::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => Ending::Lost,
        Ok(Failure::Protocol(_)) => Close::Broken.into(),
        // The library has more variants with more of its features.
        Ok(_) | Err(_) => Ending::Lost,
    }
}

/// The member of this name in any case, at the top or within `headers`.
fn find<'a>(payload: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let within = |members: &'a Map<String, Value>| {
        members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    let headers = || payload.get("headers").and_then(Value::as_object).and_then(within);
    within(payload).or_else(headers)
}
