//! Answers that are worth it are compressed, in what the client understands.

use super::stage::Stage;
use super::{Reply, post, query, send};
use crate::support::TestServer;
use musubi::http::Limits;

/// How each format's bytes begin; Brotli has no such mark.
const FORMATS: [(&str, &[u8]); 3] =
    [("gzip", &[0x1f, 0x8b]), ("zstd", &[0x28, 0xb5, 0x2f, 0xfd]), ("br", &[])];

async fn letters(server: &TestServer, count: usize, encodings: &str) -> Reply {
    let body = query(&format!("{{ letters(count: {count}) }}"));
    post(server, &[("accept-encoding", encodings)], body).await
}

#[tokio::test]
async fn a_long_answer_comes_in_each_format_that_clients_ask_for() {
    let (server, _) = Stage::serve(Limits::default()).await;
    for (format, mark) in FORMATS {
        let reply = letters(&server, 100_000, format).await;
        assert_eq!((reply.status, reply.header("content-encoding")), (200, Some(format)));
        assert!(reply.header("vary").is_some(), "{format}");
        assert!(reply.body.starts_with(mark) && reply.body.len() < 10_000, "{format}");
    }
    let plain = letters(&server, 100_000, "identity").await;
    assert_eq!(plain.header("content-encoding"), None);
    assert_eq!(plain.json()["data"]["letters"].as_str().unwrap().len(), 100_000);
}

#[tokio::test]
async fn a_short_answer_is_left_as_it_is() {
    let (server, _) = Stage::serve(Limits::default()).await;
    for (format, _) in FORMATS {
        let reply = letters(&server, 500, format).await;
        assert_eq!(reply.header("content-encoding"), None, "{format}");
        assert_eq!(reply.json()["data"]["letters"].as_str().unwrap().len(), 500);
    }
    let health = send(&server, "GET", "/health/live", &[("accept-encoding", "gzip")], "").await;
    assert_eq!(health.header("content-encoding"), None);
}

#[tokio::test]
async fn files_of_the_page_are_compressed_and_a_handshake_is_not() {
    let server = TestServer::start().await;
    let accept = ("accept-encoding", "gzip, br, zstd");
    let file = send(&server, "GET", "/graphiql/assets/graphiql.css", &[accept], "").await;
    assert!(file.header("content-encoding").is_some());

    let handshake = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "graphql-transport-ws"),
        accept,
    ];
    let reply = send(&server, "GET", "/graphql", &handshake, "").await;
    assert_eq!((reply.status, reply.header("content-encoding")), (101, None));
}
