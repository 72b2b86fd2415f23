//! Subscribers that do as little as a client can.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use tokio_util::sync::CancellationToken;

/// How long anything may take before the benchmark gives up; never a measure of speed.
const PATIENCE: Duration = Duration::from_secs(60);
/// Sockets that come at once.
const AT_ONCE: usize = 64;

const SUBSCRIPTION: &str = "subscription { creditBalance { current held available version at } }";

/// Many subscribers.
pub(super) struct Crowd {
    size: usize,
    seen: tokio::sync::Mutex<mpsc::UnboundedReceiver<(i64, i64)>>,
    leaving: CancellationToken,
    all: JoinSet<()>,
}

type Socket = WebSocketStream<TcpStream>;

impl Crowd {
    /// Connects and subscribes them all, and waits until each has its snapshot.
    pub(super) async fn come(address: SocketAddr, size: usize, tokens: &[String]) -> Self {
        let (see, seen) = mpsc::unbounded_channel();
        let leaving = CancellationToken::new();
        let mut all = JoinSet::new();
        for start in (0..size).step_by(AT_ONCE) {
            let mut coming = JoinSet::new();
            for number in start..(start + AT_ONCE).min(size) {
                let token = tokens[number % tokens.len()].clone();
                coming.spawn(async move {
                    let subscribed = tokio::time::timeout(PATIENCE, subscribe(address, &token));
                    subscribed.await.expect("a subscriber gets its snapshot")
                });
            }
            while let Some(socket) = coming.join_next().await {
                let (see, leaving) = (see.clone(), leaving.clone());
                all.spawn(watch(socket.unwrap(), see, leaving));
            }
        }
        Self { size, seen: tokio::sync::Mutex::new(seen), leaving, all }
    }

    /// Waits until everybody has this version; answers when each got it, in microseconds since
    /// 1970.
    pub(super) async fn receive(&self, version: i64) -> Vec<i64> {
        let mut receipts = Vec::with_capacity(self.size);
        let mut seen = self.seen.lock().await;
        while receipts.len() < self.size {
            let next = tokio::time::timeout(PATIENCE, seen.recv()).await;
            let (seen, at) = next.expect("everybody gets it").expect("they are there");
            if seen == version {
                receipts.push(at);
            }
        }
        receipts
    }

    /// Everybody says goodbye.
    pub(super) async fn leave(mut self) {
        self.leaving.cancel();
        while self.all.join_next().await.is_some() {}
    }
}

async fn subscribe(address: SocketAddr, token: &str) -> Socket {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut request = format!("ws://{address}/graphql").into_client_request().unwrap();
    let protocol = "graphql-transport-ws".parse().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", protocol);
    let config = WebSocketConfig::default().read_buffer_size(4 * 1024).write_buffer_size(0);
    let (mut socket, _) =
        client_async_with_config(request, stream, Some(config)).await.expect("a handshake");
    let bearer = json!({ "authorization": format!("Bearer {token}") });
    let hello = json!({ "type": "connection_init", "payload": bearer });
    let ask = json!({ "type": "subscribe", "id": "1", "payload": { "query": SUBSCRIPTION } });
    for message in [hello, ask] {
        socket.send(Message::text(message.to_string())).await.unwrap();
        let Some(Ok(Message::Text(_))) = socket.next().await else { panic!("no answer") };
    }
    socket
}

async fn watch(
    mut socket: Socket,
    see: mpsc::UnboundedSender<(i64, i64)>,
    leaving: CancellationToken,
) {
    loop {
        let message = tokio::select! {
            () = leaving.cancelled() => break,
            message = socket.next() => message,
        };
        match message {
            Some(Ok(Message::Text(text))) => match version(&text) {
                Some(version) => {
                    if see.send((version, now())).is_err() {
                        break;
                    }
                }
                None if text.contains("\"ping\"") => {
                    socket.send(Message::text("{\"type\":\"pong\"}")).await.unwrap();
                }
                None => panic!("{text}"),
            },
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return,
        }
    }
    let _ = socket.close(None).await;
    while let Some(Ok(_)) = socket.next().await {}
}

/// The version in a message.
fn version(text: &str) -> Option<i64> {
    let (_, rest) = text.split_once("\"version\":")?;
    let end = rest.find(|letter: char| !letter.is_ascii_digit())?;
    rest[..end].parse().ok()
}

/// A message as the program sends it.
pub(super) fn message(version: i64) -> String {
    format!(
        "{{\"type\":\"next\",\"id\":\"1\",\"payload\":{{\"data\":{{\"creditBalance\":{{\
         \"current\":1000000,\"held\":0,\"available\":1000000,\"version\":{version},\
         \"at\":\"2026-11-21T03:00:00.123456Z\"}}}}}}}}"
    )
}

/// Microseconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_micros()).unwrap()
}
