//! Clients that send any bytes.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::support::TestServer;

const PATIENCE: Duration = Duration::from_secs(20);

/// Posts a body as an admin; the answer's JSON.
pub(super) async fn post(server: &TestServer, body: impl Into<Vec<u8>>) -> Value {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client
        .post(format!("{}/graphql", server.url()))
        .header("content-type", "application/json")
        .bearer_auth(server.token("admin"))
        .body(body.into());
    let reply = timeout(PATIENCE, request.send()).await.unwrap().unwrap();
    let bytes = reply.bytes().await.unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// What a client sees of its socket.
#[derive(Debug)]
pub(super) enum Seen {
    Message(Value),
    Closed(u16),
    Lost,
}

/// A socket whose operations are those of an admin.
pub(super) struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub(super) async fn open(server: &TestServer) -> Self {
        let url = format!("{}/graphql", server.url().replacen("http", "ws", 1));
        let mut request = url.into_client_request().unwrap();
        let protocol = "graphql-transport-ws".parse().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", protocol);
        let mut socket = Self(connect_async(request).await.unwrap().0);
        let payload = json!({ "authorization": format!("Bearer {}", server.token("admin")) });
        socket.send(json!({ "type": "connection_init", "payload": payload }).to_string()).await;
        socket.expect("connection_ack").await;
        socket
    }

    pub(super) async fn send(&mut self, text: impl Into<String>) {
        // The server may hang up while a long message is still on its way.
        let _ = self.0.send(Message::text(text.into())).await;
    }

    pub(super) async fn see(&mut self) -> Seen {
        loop {
            match timeout(PATIENCE, self.0.next()).await.unwrap() {
                Some(Ok(Message::Text(text))) => {
                    return Seen::Message(serde_json::from_str(&text).unwrap());
                }
                Some(Ok(Message::Close(Some(frame)))) => return Seen::Closed(frame.code.into()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return Seen::Lost,
            }
        }
    }

    /// The next message must be of this type.
    pub(super) async fn expect(&mut self, kind: &str) {
        match self.see().await {
            Seen::Message(message) if message["type"] == kind => {}
            other => panic!("expected {kind}, saw {other:?}"),
        }
    }
}
