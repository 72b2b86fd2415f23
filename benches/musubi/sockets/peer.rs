//! The limit: a bare WebSocket server that sends what it is given to everybody, with the same
//! library and buffers as the program, and asks nobody whether they may.

use std::net::Ipv4Addr;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::{any, post};
use tokio::net::TcpListener;
use tokio::sync::broadcast;

use super::client::{message, now};

/// The program's own.
const BUFFER_BYTES: usize = 4 * 1024;

/// Serves until it is killed.
pub(crate) async fn serve() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    let routes = Router::new()
        .route("/graphql", any(join))
        .route("/publish", post(publish))
        .with_state(broadcast::Sender::new(16));
    axum::serve(listener, routes).await.unwrap();
}

/// Answers the instant just before the first socket is woken.
async fn publish(State(sender): State<broadcast::Sender<Utf8Bytes>>, body: String) -> String {
    let at = now();
    sender.send(body.into()).unwrap();
    at.to_string()
}

async fn join(
    State(sender): State<broadcast::Sender<Utf8Bytes>>,
    up: WebSocketUpgrade,
) -> Response {
    up.protocols(["graphql-transport-ws"])
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .on_upgrade(move |socket| run(socket, sender.subscribe()))
}

async fn run(mut socket: WebSocket, mut messages: broadcast::Receiver<Utf8Bytes>) {
    loop {
        let answer = tokio::select! {
            text = messages.recv() => match text {
                Ok(text) => Message::Text(text),
                Err(_) => return,
            },
            frame = socket.recv() => match frame {
                Some(Ok(Message::Text(text))) if text.contains("connection_init") => {
                    Message::text("{\"type\":\"connection_ack\"}")
                }
                Some(Ok(Message::Text(_))) => Message::text(message(0)),
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => return,
            },
        };
        if socket.send(answer).await.is_err() {
            return;
        }
    }
}
