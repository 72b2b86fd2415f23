//! `graphql-transport-ws`, message for message.

mod frames;
mod limits;
mod streams;

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::http::{Reply, address, exchange};
use crate::support::TestServer;

const PATIENCE: Duration = Duration::from_secs(10);
const IDLES: &str = "subscription { idles }";
const BALANCE: &str = "subscription { creditBalance { version } }";

/// What a client sees of a socket.
#[derive(Debug, PartialEq)]
pub(crate) enum Seen {
    Message(Value),
    Closed(u16, String),
    Lost,
}

pub(crate) struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    /// A socket before `connection_init`.
    pub(crate) async fn open(server: &TestServer) -> Self {
        Self::connect(server, None).await
    }

    /// The same from a page of this origin. The server is known to it as that host.
    pub(crate) async fn open_from(server: &TestServer, origin: &str) -> Self {
        Self::connect(server, Some(origin)).await
    }

    async fn connect(server: &TestServer, origin: Option<&str>) -> Self {
        let url = format!("ws://{}/graphql", address(server));
        let mut request = url.into_client_request().unwrap();
        if let Some(origin) = origin {
            let host = origin.split_once("://").unwrap().1;
            request.headers_mut().insert("origin", origin.parse().unwrap());
            request.headers_mut().insert("host", host.parse().unwrap());
        }
        let protocol = "graphql-transport-ws".parse().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", protocol);
        let (socket, response) = connect_async(request).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], "graphql-transport-ws");
        assert!(response.headers().get("content-encoding").is_none());
        Self(socket)
    }

    /// A socket whose operations are those of an admin.
    pub(crate) async fn signed_in(server: &TestServer) -> Self {
        let mut client = Self::open(server).await;
        let token = format!("Bearer {}", server.token("admin"));
        client.init(json!({ "authorization": token })).await;
        client
    }

    pub(crate) async fn init(&mut self, payload: Value) {
        self.send(json!({ "type": "connection_init", "payload": payload })).await;
        assert_eq!(self.see().await, Seen::Message(json!({ "type": "connection_ack" })));
    }

    pub(crate) async fn send(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    pub(crate) async fn subscribe(&mut self, id: &str, query: &str) {
        self.send(json!({ "type": "subscribe", "id": id, "payload": { "query": query } })).await;
    }

    /// The next thing that is more than a ping or pong of WebSocket itself.
    pub(crate) async fn see(&mut self) -> Seen {
        loop {
            match timeout(PATIENCE, self.0.next()).await.unwrap() {
                Some(Ok(Message::Text(text))) => {
                    return Seen::Message(serde_json::from_str(&text).unwrap());
                }
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Seen::Closed(frame.code.into(), frame.reason.to_string());
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return Seen::Lost,
            }
        }
    }

    pub(crate) async fn see_message(&mut self) -> Value {
        match self.see().await {
            Seen::Message(message) => message,
            other => panic!("expected a message, saw {other:?}"),
        }
    }

    /// Skips what still comes, up to the answer to this ping.
    pub(crate) async fn see_quiet(&mut self) {
        self.send(json!({ "type": "ping", "payload": { "is": "quiet" } })).await;
        while self.see_message().await["type"] != "pong" {}
    }

    /// Nothing may have come before the answer to this ping.
    pub(crate) async fn see_nothing(&mut self) {
        self.send(json!({ "type": "ping", "payload": { "is": "quiet" } })).await;
        let pong = json!({ "type": "pong", "payload": { "is": "quiet" } });
        assert_eq!(self.see().await, Seen::Message(pong));
    }

    pub(crate) async fn see_closed(&mut self, code: u16, reason: &str) {
        assert_eq!(self.see().await, Seen::Closed(code, reason.to_owned()));
    }

    async fn send_raw(&mut self, message: Message) {
        // The server may hang up while a long message is still on its way.
        let _ = self.0.send(message).await;
    }
}

fn typename(id: &str) -> Value {
    let payload = json!({ "data": { "__typename": "Query" }, "extensions": { "cost": 0 } });
    json!({ "type": "next", "id": id, "payload": payload })
}

async fn handshake(server: &TestServer, headers: &str) -> Reply {
    let head = format!(
        "GET /graphql HTTP/1.1\r\nhost: musubi.test\r\nconnection: upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    exchange(server, head.as_bytes()).await
}

#[tokio::test]
async fn only_the_one_subprotocol_is_spoken() {
    let server = TestServer::start().await;
    let protocol = |name: &str| format!("sec-websocket-protocol: {name}\r\n");
    assert_eq!(handshake(&server, "").await.status, 400);
    assert_eq!(handshake(&server, &protocol("graphql-ws")).await.status, 400);
    let both = handshake(&server, &protocol("graphql-ws, graphql-transport-ws")).await;
    assert_eq!(both.status, 101);
    assert_eq!(both.header("sec-websocket-protocol"), Some("graphql-transport-ws"));
}

#[tokio::test]
async fn a_page_of_another_site_gets_no_socket() {
    let server = TestServer::start().await;
    let headers = "sec-websocket-protocol: graphql-transport-ws\r\norigin: ";
    assert_eq!(handshake(&server, &format!("{headers}https://evil.test\r\n")).await.status, 403);
    assert_eq!(handshake(&server, &format!("{headers}null\r\n")).await.status, 403);
    assert_eq!(handshake(&server, &format!("{headers}http://musubi.test\r\n")).await.status, 101);
}

#[tokio::test]
async fn a_second_init_closes_the_socket() {
    let server = TestServer::start().await;
    let mut after = Client::open(&server).await;
    after.init(json!(null)).await;
    after.send(json!({ "type": "connection_init" })).await;
    after.see_closed(4429, "Too many initialisation requests").await;
}

#[tokio::test]
async fn an_operation_before_the_ack_closes_the_socket() {
    let server = TestServer::start().await;
    let mut client = Client::open(&server).await;
    client.subscribe("1", "{ __typename }").await;
    client.see_closed(4401, "Unauthorized").await;
}

#[tokio::test]
async fn a_malformed_message_closes_the_socket_and_is_not_repeated() {
    let server = TestServer::start().await;
    let long = "x".repeat(1_000);
    let messages = [
        "not json".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        json!({ "type": 7 }).to_string(),
        json!({ "type": long }).to_string(),
        json!({ "type": "next", "id": "1", "payload": {} }).to_string(),
        json!({ "type": "connection_init", "payload": "x" }).to_string(),
        json!({ "type": "ping", "payload": [long] }).to_string(),
        json!({ "type": "subscribe", "payload": { "query": "{ __typename }" } }).to_string(),
        json!({ "type": "subscribe", "id": "", "payload": { "query": "{ a }" } }).to_string(),
        json!({ "type": "subscribe", "id": long, "payload": { "query": "{ a }" } }).to_string(),
        json!({ "type": "subscribe", "id": "1" }).to_string(),
        json!({ "type": "subscribe", "id": "1", "payload": { "query": 7 } }).to_string(),
        json!({ "type": "complete" }).to_string(),
    ];
    for message in messages {
        let mut client = Client::open(&server).await;
        client.send_raw(Message::text(message.clone())).await;
        match client.see().await {
            Seen::Closed(4400, reason) => {
                assert!(!reason.is_empty() && reason.len() <= 123 && !reason.contains("xxx"));
            }
            other => panic!("{message} led to {other:?}"),
        }
    }
    let mut client = Client::open(&server).await;
    client.send_raw(Message::binary(vec![1_u8])).await;
    assert!(matches!(client.see().await, Seen::Closed(4400, _)));
}

#[tokio::test]
async fn a_bad_token_closes_the_socket_as_forbidden() {
    let server = TestServer::start().await;
    let payloads = [
        json!({ "authorization": "Bearer not.a.token" }),
        json!({ "Authorization": "Basic YTpi" }),
        json!({ "authorization": 7 }),
        json!({ "headers": { "AUTHORIZATION": "Bearer not.a.token" } }),
    ];
    for payload in payloads {
        let mut client = Client::open(&server).await;
        client.send(json!({ "type": "connection_init", "payload": payload })).await;
        client.see_closed(4403, "Forbidden").await;
    }
}

#[tokio::test]
async fn a_token_may_come_at_the_top_or_within_headers() {
    let server = TestServer::start().await;
    let token = format!("Bearer {}", server.token("admin"));
    for payload in [
        json!({ "Authorization": token }),
        json!({ "headers": { "authorization": token }, "accept-language": "en" }),
    ] {
        let mut client = Client::open(&server).await;
        client.init(payload).await;
        client.subscribe("1", BALANCE).await;
        assert_eq!(client.see_message().await["type"], "next");
    }
}

#[tokio::test]
async fn an_anonymous_socket_opens_and_its_operations_are_refused() {
    let server = TestServer::start().await;
    let mut client = Client::open(&server).await;
    client.init(json!({})).await;
    client.subscribe("1", BALANCE).await;
    let error = client.see_message().await;
    assert_eq!((&error["type"], &error["id"]), (&json!("error"), &json!("1")));
    assert_eq!(error["payload"][0]["extensions"]["code"], "UNAUTHENTICATED");
    client.see_nothing().await;
}

#[tokio::test]
async fn a_query_answers_next_and_complete() {
    let server = TestServer::start().await;
    let mut client = Client::signed_in(&server).await;
    // The same id again: it is free as soon as `complete` was read.
    for _ in 0..3 {
        client.subscribe("a", "{ __typename }").await;
        assert_eq!(client.see_message().await, typename("a"));
        assert_eq!(client.see_message().await, json!({ "type": "complete", "id": "a" }));
    }
    client.see_nothing().await;
}

#[tokio::test]
async fn a_refused_document_answers_error_and_the_socket_lives_on() {
    let server = TestServer::start().await;
    let mut client = Client::signed_in(&server).await;
    let documents = ["{", "", "{ noSuchField }", "query($n: Int!) { __type(name: $n) { name } }"];
    for document in documents {
        client.subscribe("1", document).await;
        let error = client.see_message().await;
        assert_eq!((&error["type"], &error["id"]), (&json!("error"), &json!("1")), "{document}");
        assert!(!error["payload"].as_array().unwrap().is_empty());
        client.see_nothing().await;
    }
}

#[tokio::test]
async fn an_id_that_is_in_use_closes_the_socket() {
    let server = TestServer::start().await;
    for id in ["1".to_owned(), "長".repeat(80)] {
        let mut client = Client::signed_in(&server).await;
        client.subscribe(&id, BALANCE).await;
        assert_eq!(client.see_message().await["type"], "next");
        client.subscribe(&id, "{ __typename }").await;
        let Seen::Closed(4409, reason) = client.see().await else { panic!("not closed") };
        assert!(reason.len() <= 123);
        assert!(reason.starts_with("Subscriber for ") && reason.ends_with(" already exists"));
    }
}

#[tokio::test]
async fn completing_an_operation_gets_no_answer_and_frees_its_id() {
    let server = TestServer::start().await;
    let mut client = Client::signed_in(&server).await;
    client.send(json!({ "type": "complete", "id": "unknown" })).await;
    client.subscribe("1", BALANCE).await;
    assert_eq!(client.see_message().await["type"], "next");
    client.send(json!({ "type": "complete", "id": "1" })).await;
    client.see_nothing().await;
    client.subscribe("1", "{ __typename }").await;
    assert_eq!(client.see_message().await, typename("1"));
}

#[tokio::test]
async fn a_ping_is_answered_with_its_payload_and_a_pong_is_ignored() {
    let server = TestServer::start().await;
    let mut client = Client::open(&server).await;
    client.send(json!({ "type": "ping" })).await;
    assert_eq!(client.see_message().await, json!({ "type": "pong" }));
    client.send(json!({ "type": "pong", "payload": { "a": 1 } })).await;
    client.send(json!({ "type": "ping", "payload": { "a": 1 } })).await;
    assert_eq!(client.see_message().await, json!({ "type": "pong", "payload": { "a": 1 } }));
}

#[tokio::test]
async fn a_socket_runs_fifty_operations_and_refuses_the_next() {
    let server = TestServer::start().await;
    let mut client = Client::signed_in(&server).await;
    for id in 0..50 {
        client.subscribe(&id.to_string(), BALANCE).await;
        assert_eq!(client.see_message().await["type"], "next");
    }
    client.subscribe("50", "{ __typename }").await;
    let error = client.see_message().await;
    assert_eq!((&error["type"], &error["id"]), (&json!("error"), &json!("50")));
    assert_eq!(error["payload"][0]["extensions"]["code"], "RATE_LIMITED");
    client.send(json!({ "type": "complete", "id": "0" })).await;
    client.see_nothing().await;
    // An ended operation leaves its place a moment later.
    tokio::time::sleep(Duration::from_millis(100)).await;
    client.subscribe("50", "{ __typename }").await;
    assert_eq!(client.see_message().await, typename("50"));
}

#[tokio::test]
async fn a_message_over_64_kib_closes_the_socket() {
    let server = TestServer::start().await;
    for length in [64 * 1024 + 1, 3 * 1024 * 1024] {
        let mut client = Client::open(&server).await;
        client.send_raw(Message::text(" ".repeat(length))).await;
        client.see_closed(1009, "Message too large").await;
    }
    let mut client = Client::open(&server).await;
    let ping = json!({ "type": "ping" }).to_string();
    let padding = " ".repeat(64 * 1024 - ping.len());
    client.send_raw(Message::text(ping + &padding)).await;
    assert_eq!(client.see_message().await, json!({ "type": "pong" }));
}

#[tokio::test]
async fn a_shutdown_closes_sockets_so_that_clients_come_back() {
    let server = TestServer::start().await;
    let mut client = Client::signed_in(&server).await;
    client.subscribe("1", BALANCE).await;
    assert_eq!(client.see_message().await["type"], "next");

    let stopping = tokio::spawn(server.shut_down());

    // 1012 is retried by clients; a `complete` would tell them that the stream is over.
    match client.see().await {
        Seen::Closed(code, _) => assert_eq!(code, 1012),
        other => panic!("expected a close, saw {other:?}"),
    }
    stopping.await.unwrap();
}
