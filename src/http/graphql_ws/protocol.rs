//! The messages of `graphql-transport-ws`, and the codes that close a socket.

use std::borrow::Cow;

use async_graphql::ServerError;
use axum::extract::ws::{CloseFrame, Message};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::graphql::engine::Call;
use crate::http::graphql_http::from_object;
use crate::http::reply::to_json;

/// A close frame holds so many bytes beside its code (RFC 6455 §5.5); a longer reason would make
/// the frame invalid.
const REASON_BYTES_MAX: usize = 123;
/// The longest id of an operation, in bytes. It comes back with every message.
const ID_BYTES_MAX: usize = 255;

/// Why we close a socket. `graphql-ws` clients connect again after 1012, 1013, 4403 and 4408, and
/// take all others of these as final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Close {
    /// The message is not of the protocol. The reason says what is wrong and repeats nothing.
    Malformed(&'static str),
    /// An operation before `connection_ack`.
    Unauthorized,
    /// The token is bad, or has come to its end. Clients may connect again with another.
    Forbidden,
    /// No `connection_init` in time.
    InitTimeout,
    /// A second `connection_init`.
    TooManyInits,
    /// An operation of this id is still running.
    Duplicate(String),
    /// The bytes are no frames of WebSocket.
    Broken,
    /// The bytes are not text in UTF-8.
    NotText,
    /// A message is too long.
    TooLarge,
    /// This server goes away; another will answer.
    Restart,
    /// A part that we need does not answer. Clients may connect again.
    Unavailable,
    /// This node has too many sockets, or the caller has. Not final, as another node may have
    /// room, and as the caller's old sockets, lost with their network, end within two pings.
    Overloaded,
}

impl Close {
    pub(super) fn frame(&self) -> CloseFrame {
        let (code, reason): (u16, Cow<'_, str>) = match self {
            Self::Malformed(what) => (4400, (*what).into()),
            Self::Unauthorized => (4401, "Unauthorized".into()),
            Self::Forbidden => (4403, "Forbidden".into()),
            Self::InitTimeout => (4408, "Connection initialisation timeout".into()),
            Self::Duplicate(id) => (4409, duplicate(id).into()),
            Self::TooManyInits => (4429, "Too many initialisation requests".into()),
            Self::Broken => (1002, "Not a WebSocket frame".into()),
            Self::NotText => (1007, "Not valid UTF-8".into()),
            Self::TooLarge => (1009, "Message too large".into()),
            Self::Restart => (1012, "Service restart".into()),
            Self::Unavailable => (1013, "Try again later".into()),
            Self::Overloaded => (1013, "Too many connections".into()),
        };
        CloseFrame { code, reason: reason.as_ref().into() }
    }
}

/// The protocol's own words; an id that is too long for the frame is cut.
fn duplicate(id: &str) -> String {
    let room = REASON_BYTES_MAX - "Subscriber for  already exists".len();
    let end = (0..=room.min(id.len())).rev().find(|end| id.is_char_boundary(*end)).unwrap_or(0);
    format!("Subscriber for {} already exists", &id[..end])
}

/// What a client says.
pub(super) enum Incoming {
    /// Begins the conversation, with what may hold a token.
    Init(Map<String, Value>),
    /// Wants a pong with the same payload.
    Ping(Option<Value>),
    /// Answers a ping, or just says that it lives.
    Pong,
    /// Begins an operation.
    Subscribe { id: String, call: Call },
    /// Ends an operation.
    Complete { id: String },
}

/// Reads a message.
pub(super) fn read(text: &str) -> Result<Incoming, Close> {
    let Ok(Value::Object(mut message)) = serde_json::from_str(text) else {
        return Err(Close::Malformed("The message is not a JSON object."));
    };
    let Some(Value::String(kind)) = message.remove("type") else {
        return Err(Close::Malformed("The message has no type."));
    };
    match kind.as_str() {
        "connection_init" => Ok(Incoming::Init(payload(&mut message)?.unwrap_or_default())),
        "ping" => Ok(Incoming::Ping(payload(&mut message)?.map(Value::Object))),
        "pong" => payload(&mut message).map(|_| Incoming::Pong),
        "subscribe" => {
            let id = id(&mut message)?;
            let members = payload(&mut message)?
                .ok_or(Close::Malformed("The subscription has no payload."))?;
            let call = from_object(members).map_err(Close::Malformed)?;
            Ok(Incoming::Subscribe { id, call })
        }
        "complete" => Ok(Incoming::Complete { id: id(&mut message)? }),
        _ => Err(Close::Malformed("A client may not send messages of this type.")),
    }
}

fn payload(message: &mut Map<String, Value>) -> Result<Option<Map<String, Value>>, Close> {
    match message.remove("payload") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(members)) => Ok(Some(members)),
        Some(_) => Err(Close::Malformed("The payload is not an object.")),
    }
}

fn id(message: &mut Map<String, Value>) -> Result<String, Close> {
    match message.remove("id") {
        Some(Value::String(id)) if id.is_empty() => Err(Close::Malformed("The id is empty.")),
        Some(Value::String(id)) if id.len() <= ID_BYTES_MAX => Ok(id),
        Some(Value::String(_)) => Err(Close::Malformed("The id is longer than 255 bytes.")),
        Some(_) | None => Err(Close::Malformed("The message has no id.")),
    }
}

#[derive(Serialize)]
struct Outgoing<'a, P> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<P>,
}

fn message<P: Serialize>(kind: &'static str, id: Option<&str>, payload: Option<P>) -> Message {
    Message::text(to_json(&Outgoing { kind, id, payload }))
}

/// The conversation may begin.
pub(super) fn ack() -> Message {
    message::<()>("connection_ack", None, None)
}

/// The answer to a ping.
pub(super) fn pong(payload: Option<Value>) -> Message {
    message("pong", None, payload)
}

/// A result.
pub(super) fn next(id: &str, body: impl Serialize) -> Message {
    message("next", Some(id), Some(body))
}

/// A result whose payload is JSON already.
pub(super) fn next_written(id: &str, payload: &str) -> Message {
    let id = to_json(&id);
    Message::text(format!(r#"{{"type":"next","id":{id},"payload":{payload}}}"#))
}

/// The end of an operation that failed as a whole.
pub(super) fn error(id: &str, errors: &[ServerError]) -> Message {
    message("error", Some(id), Some(errors))
}

/// The end of an operation.
pub(super) fn complete(id: &str) -> Message {
    message::<()>("complete", Some(id), None)
}
