//! The order in which a server ends.

use std::time::Duration;

use musubi::http::Limits;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::stage::{Stage, until};
use super::{JSON, address, connect, query, read_reply, request, see_end, send};
use crate::ws::{Client, Seen};

fn post_bytes(text: &str) -> Vec<u8> {
    request("POST", "/graphql", &[("content-type", JSON)], query(text).as_bytes())
}

#[tokio::test]
async fn readiness_turns_first_then_sockets_close_and_what_runs_is_answered() {
    let limits = Limits { drain_notice: Duration::from_millis(800), ..Limits::default() };
    let (server, stage) = Stage::serve(limits).await;
    let mut socket = Client::signed_in(&server).await;
    socket.subscribe("1", "subscription { idles }").await;
    assert_eq!(socket.see_message().await["type"], "next");
    let mut kept = connect(&server).await;
    kept.write_all(&post_bytes("{ __typename }")).await.unwrap();
    assert_eq!(read_reply(&mut kept).await.header("connection"), None);
    let mut running = Vec::new();
    for (begun, text) in ["{ waits }", "mutation { waits }"].into_iter().enumerate() {
        let mut stream = connect(&server).await;
        stream.write_all(&post_bytes(text)).await.unwrap();
        stage.see_begun(begun + 1).await;
        running.push(stream);
    }
    let address = address(&server);

    server.begin_shut_down();
    // Balancers still get in, and are told to send nobody else.
    until("readiness turns", async || {
        let ready = send(&server, "GET", "/health/ready", &[], "").await;
        ready.status == 503 && ready.json()["status"] == "draining"
    })
    .await;
    assert_eq!(send(&server, "GET", "/health/live", &[], "").await.status, 200);
    assert!(matches!(socket.see().await, Seen::Closed(1012, _)));
    see_end(&mut kept).await;
    until("nobody is let in", async || TcpStream::connect(&address).await.is_err()).await;

    let stopping = tokio::spawn(server.shut_down());
    stage.open_gate();
    for mut stream in running {
        let reply = read_reply(&mut stream).await;
        assert_eq!(reply.header("connection"), Some("close"));
        assert_eq!(reply.json()["data"]["waits"], true);
        see_end(&mut stream).await;
    }
    stopping.await.unwrap();
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_ever() {
    let limits = Limits { drain_patience: Duration::from_millis(300), ..Limits::default() };
    let (server, stage) = Stage::serve(limits).await;
    let mut stream = connect(&server).await;
    stream.write_all(&post_bytes("{ waits }")).await.unwrap();
    stage.see_begun(1).await;
    timeout(Duration::from_secs(20), server.shut_down()).await.unwrap();
    see_end(&mut stream).await;
    assert_eq!(stage.finished(), 0);
}
