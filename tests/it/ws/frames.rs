//! WebSocket below its messages: bytes that are no frames, goodbyes, and peers that vanish.

use std::time::Duration;

use musubi::http::Limits;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Client, IDLES, PATIENCE, Seen};
use crate::http::address;
use crate::http::stage::{Stage, until};
use crate::support::TestServer;

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// A client that writes its frames byte by byte.
pub(super) struct Raw(TcpStream);

impl Raw {
    pub(super) async fn open(server: &TestServer) -> Self {
        let mut stream = TcpStream::connect(address(server)).await.unwrap();
        let head = "GET /graphql HTTP/1.1\r\nhost: musubi.test\r\nconnection: upgrade\r\n\
            upgrade: websocket\r\nsec-websocket-version: 13\r\n\
            sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
            sec-websocket-protocol: graphql-transport-ws\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 101"));
        Self(stream)
    }

    /// A socket whose one operation has begun.
    pub(super) async fn subscribed(server: &TestServer, query: &str) -> Self {
        let mut raw = Self::open(server).await;
        let token = format!("Bearer {}", server.token("admin"));
        let payload = json!({ "authorization": token });
        raw.says(&json!({ "type": "connection_init", "payload": payload })).await;
        assert_eq!(raw.see().await.0, TEXT);
        let payload = json!({ "query": query });
        raw.says(&json!({ "type": "subscribe", "id": "1", "payload": payload })).await;
        raw
    }

    async fn says(&mut self, message: &Value) {
        self.sends(&frame(TEXT, message.to_string().as_bytes())).await;
    }

    async fn sends(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// The next frame: its first byte and what it carries.
    async fn see(&mut self) -> (u8, Vec<u8>) {
        let read = async {
            let first = self.0.read_u8().await.unwrap();
            let length = match self.0.read_u8().await.unwrap() {
                126 => usize::from(self.0.read_u16().await.unwrap()),
                length => usize::from(length),
            };
            let mut payload = vec![0; length];
            self.0.read_exact(&mut payload).await.unwrap();
            (first, payload)
        };
        timeout(PATIENCE, read).await.unwrap()
    }

    async fn see_closed(&mut self, code: u16, what: &str) {
        let (first, payload) = self.see().await;
        assert_eq!(first, CLOSE, "{what}");
        assert_eq!(u16::from_be_bytes([payload[0], payload[1]]), code, "{what}");
    }

    async fn see_end(&mut self) {
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, self.0.read_to_end(&mut rest)).await.unwrap();
    }
}

/// A frame as clients send it, with a mask that changes nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = match payload.len() {
        length if length < 126 => vec![0x80 | length as u8],
        length => [&[0x80 | 126][..], &(length as u16).to_be_bytes()].concat(),
    };
    [&[first], &length[..], &[0; 4], payload].concat()
}

#[tokio::test]
async fn what_is_no_frame_closes_the_socket_with_1002() {
    let server = TestServer::start().await;
    let cases = [
        ("no mask", vec![TEXT, 2, b'{', b'}']),
        ("a reserved bit", frame(TEXT | 0x40, b"{}")),
        ("an unknown kind", frame(0x83, b"{}")),
        ("an unknown control frame", frame(0x8b, b"")),
        ("a ping in pieces", frame(0x09, b"")),
        ("a long ping", frame(PING, &[b'x'; 126])),
        ("a continuation of nothing", frame(0x80, b"{}")),
        ("a message within another", [frame(0x01, b"{"), frame(TEXT, b"{}")].concat()),
        ("a goodbye of one byte", frame(CLOSE, &[3])),
        ("a goodbye with a code that is none", frame(CLOSE, &[0, 1])),
    ];
    for (what, bytes) in cases {
        let mut raw = Raw::open(&server).await;
        raw.sends(&bytes).await;
        raw.see_closed(1002, what).await;
    }
}

#[tokio::test]
async fn text_that_is_not_utf8_closes_the_socket_with_1007() {
    let server = TestServer::start().await;
    let mut raw = Raw::open(&server).await;
    raw.sends(&frame(TEXT, b"{\"type\":\"\xff\"}")).await;
    raw.see_closed(1007, "bytes that are no text").await;
}

#[tokio::test]
async fn too_long_a_message_closes_the_socket_with_1009_before_it_is_there() {
    let server = TestServer::start().await;
    let mut announced = Raw::open(&server).await;
    let length = (64 * 1024 + 1_u64).to_be_bytes();
    announced.sends(&[&[TEXT, 0x80 | 127], &length[..], &[0; 4]].concat()).await;
    announced.see_closed(1009, "one frame").await;

    let mut pieces = Raw::open(&server).await;
    pieces.sends(&frame(0x01, &[b' '; 40_000])).await;
    pieces.sends(&frame(0x80, &[b' '; 40_000])).await;
    pieces.see_closed(1009, "two frames").await;
}

#[tokio::test]
async fn a_message_may_come_in_pieces() {
    let server = TestServer::start().await;
    let mut raw = Raw::open(&server).await;
    raw.sends(&frame(0x01, br#"{"type":"#)).await;
    // Control frames may come in between.
    raw.sends(&frame(PING, b"are you there")).await;
    raw.sends(&frame(0x80, br#""ping"}"#)).await;
    assert_eq!(raw.see().await, (PONG, b"are you there".to_vec()));
    assert_eq!(raw.see().await, (TEXT, br#"{"type":"pong"}"#.to_vec()));
}

#[tokio::test]
async fn a_goodbye_is_answered_and_ends_what_runs() {
    let (server, stage) = Stage::serve(Limits::default()).await;
    let mut raw = Raw::subscribed(&server, IDLES).await;
    assert_eq!(raw.see().await.0, TEXT);
    raw.sends(&frame(CLOSE, &[&1000_u16.to_be_bytes()[..], b"bye"].concat())).await;
    raw.see_closed(1000, "the answer").await;
    raw.see_end().await;
    stage.see_left(1).await;
}

#[tokio::test]
async fn a_peer_that_is_lost_leaves_its_place_at_once() {
    let (server, stage) = Stage::serve(Limits { sockets_max: 1, ..Limits::default() }).await;
    let mut raw = Raw::subscribed(&server, IDLES).await;
    assert_eq!(raw.see().await.0, TEXT);
    drop(raw);
    stage.see_left(1).await;
    until("the place is free", async || {
        let mut next = Client::open(&server).await;
        next.send(json!({ "type": "ping" })).await;
        next.see().await == Seen::Message(json!({ "type": "pong" }))
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_dead_and_one_that_does_lives_on() {
    let limits = Limits { ping_pause: Duration::from_secs(1), ..Limits::default() };
    let (server, stage) = Stage::serve(limits).await;
    let mut dead = Raw::subscribed(&server, IDLES).await;
    let mut alive = Raw::subscribed(&server, IDLES).await;
    assert_eq!(dead.see().await.0, TEXT);
    assert_eq!(alive.see().await.0, TEXT);
    for _ in 0..3 {
        let (first, payload) = alive.see().await;
        assert_eq!(first, PING);
        alive.sends(&frame(PONG, &payload)).await;
    }
    stage.see_left(1).await;
    dead.see_end().await;
    alive.sends(&frame(TEXT, br#"{"type":"ping"}"#)).await;
    until("the pong", async || alive.see().await == (TEXT, br#"{"type":"pong"}"#.to_vec())).await;
}
