//! GraphQL over WebSocket: the subprotocol `graphql-transport-ws` and no other.
//! <https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md>

mod operations;
mod outbox;
mod protocol;
mod session;

use axum::extract::FromRequestParts;
use axum::extract::ws::WebSocketUpgrade;
use axum::response::Response;
use http::header;
use http::request::Parts;

use crate::http::Shared;
use crate::http::envelope::{self, RequestId};
use crate::http::reply::Refusal;
use crate::http::server::Place;
use crate::http::{access, client};

const SUBPROTOCOL: &str = "graphql-transport-ws";
/// The longest message that a client may send, in bytes.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// The longest message that we send. A longer answer becomes an error.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Set aside for every socket as long as it lives; the library's own choice is 128 KiB. Most
/// messages of clients are shorter, and longer ones are read in several steps.
const READ_BUFFER_BYTES: usize = 1024;
/// Messages that leave together are gathered up to here.
const WRITE_BUFFER_BYTES: usize = 4 * 1024;

/// Whether the request wants to become a WebSocket.
pub(super) fn is_upgrade(parts: &Parts) -> bool {
    let is_websocket =
        |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
    parts.headers.get(header::UPGRADE).is_some_and(is_websocket)
}

/// Answers the handshake. Its origin was judged before.
pub(super) async fn upgrade(shared: &Shared, mut parts: Parts, id: &RequestId) -> Response {
    let place = parts.extensions.get::<Place>().cloned();
    let offered = parts.headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let mut offered = offered.filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
    if !offered.any(|protocol| protocol.trim() == SUBPROTOCOL) {
        let message = "Offer the WebSocket subprotocol graphql-transport-ws.";
        return Refusal::malformed(message).reply(id);
    }
    let Ok(upgrade) = WebSocketUpgrade::from_request_parts(&mut parts, shared).await else {
        return Refusal::malformed("This is not a WebSocket handshake of version 13.").reply(id);
    };
    let client = session::Client {
        lang: envelope::lang(&parts.headers),
        source: client::source(shared, &parts, id),
        sender: access::sender(&parts.headers),
    };
    let shared = shared.clone();
    upgrade
        .protocols([SUBPROTOCOL])
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX)
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        // The frame's head comes on top of the message.
        .max_write_buffer_size(ANSWER_BYTES_MAX + 2 * WRITE_BUFFER_BYTES)
        .on_failed_upgrade(|error| tracing::debug!(%error, "A handshake failed: {error}"))
        .on_upgrade(async move |socket| {
            let tasks = shared.app().tasks.clone();
            // Tracked from here on, so that a shutdown waits for the goodbye.
            tasks.spawn(async move {
                session::run(shared, client, socket).await;
                drop(place);
            });
        })
}
