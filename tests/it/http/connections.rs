//! Connections that are slow, idle or too many.

use std::time::Duration;

use musubi::http::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use super::stage::{Stage, until};
use super::{JSON, connect, query, read_reply, request, see_end, send};
use crate::support::TestServer;

/// Nothing that a test waits for comes by itself in this time.
const NEVER: Duration = Duration::from_secs(3_600);

fn hello() -> Vec<u8> {
    request("POST", "/graphql", &[("content-type", JSON)], query("{ __typename }").as_bytes())
}

async fn serve(limits: Limits) -> TestServer {
    Stage::serve(limits).await.0
}

#[tokio::test]
async fn a_connection_that_sends_no_whole_head_is_closed() {
    let limits = Limits {
        header_timeout: Duration::from_millis(300),
        idle_timeout: NEVER,
        ..Limits::default()
    };
    let server = serve(limits).await;
    see_end(&mut connect(&server).await).await;

    // Each byte comes in time, the head does not.
    let mut slow = connect(&server).await;
    let dribble = async {
        for byte in b"POST /graphql HTTP/1.1\r\nx-slow: ".iter().chain([b'a'; 10_000].iter()) {
            if slow.write_all(&[*byte]).await.is_err() {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("the server waited for ever");
    };
    timeout(Duration::from_secs(20), dribble).await.unwrap();
}

#[tokio::test]
async fn a_second_head_has_its_time_too_and_a_kept_connection_more() {
    let limits = Limits {
        header_timeout: Duration::from_millis(200),
        idle_timeout: NEVER,
        ..Limits::default()
    };
    let server = serve(limits).await;
    let mut stream = connect(&server).await;
    for _ in 0..3 {
        stream.write_all(&hello()).await.unwrap();
        assert_eq!(read_reply(&mut stream).await.status, 200);
        // Far longer than a head may take, and yet nothing has begun.
        sleep(Duration::from_millis(600)).await;
    }
    stream.write_all(b"POST /graphql HT").await.unwrap();
    see_end(&mut stream).await;
}

#[tokio::test]
async fn a_connection_without_requests_is_closed_after_a_while() {
    let limits = Limits { idle_timeout: Duration::from_millis(300), ..Limits::default() };
    let server = serve(limits).await;
    let mut stream = connect(&server).await;
    stream.write_all(&hello()).await.unwrap();
    assert_eq!(read_reply(&mut stream).await.status, 200);
    see_end(&mut stream).await;
}

#[tokio::test]
async fn a_request_that_runs_longer_than_connections_may_idle_is_answered() {
    let limits = Limits { idle_timeout: Duration::from_millis(100), ..Limits::default() };
    let (server, stage) = Stage::serve(limits).await;
    let mut stream = connect(&server).await;
    let body = query("{ waits }");
    let bytes = request("POST", "/graphql", &[("content-type", JSON)], body.as_bytes());
    stream.write_all(&bytes).await.unwrap();
    stage.see_begun(1).await;
    sleep(Duration::from_millis(500)).await;
    stage.open_gate();
    assert_eq!(read_reply(&mut stream).await.json()["data"]["waits"], true);
}

#[tokio::test]
async fn a_peer_that_takes_nothing_of_its_answer_is_let_go() {
    let limits = Limits {
        connections_max: 1,
        write_timeout: Duration::from_millis(300),
        idle_timeout: NEVER,
        ..Limits::default()
    };
    let server = serve(limits).await;
    let mut deaf = connect(&server).await;
    // More than all buffers between the two hold.
    let body = query("{ letters(count: 30000000) }");
    let bytes = request("POST", "/graphql", &[("content-type", JSON)], body.as_bytes());
    deaf.write_all(&bytes).await.unwrap();
    let mut first = [0; 16];
    deaf.read_exact(&mut first).await.unwrap();
    assert!(first.starts_with(b"HTTP/1.1 200"));

    // There is one place, and the deaf peer has it until it is let go.
    assert_eq!(send(&server, "GET", "/health/live", &[], "").await.status, 200);
}

#[tokio::test]
async fn a_peer_that_takes_its_answer_slowly_gets_all_of_it() {
    let limits = Limits {
        write_timeout: Duration::from_millis(500),
        idle_timeout: Duration::from_millis(500),
        ..Limits::default()
    };
    let server = serve(limits).await;
    let mut slow = connect(&server).await;
    let body = query("{ letters(count: 30000000) }");
    let headers = [("content-type", JSON), ("connection", "close")];
    let bytes = request("POST", "/graphql", &headers, body.as_bytes());
    slow.write_all(&bytes).await.unwrap();
    let (mut seen, began) = (0, Instant::now());
    let mut piece = vec![0; 2 * 1024 * 1024];
    loop {
        let read = timeout(Duration::from_secs(20), slow.read(&mut piece)).await.unwrap().unwrap();
        if read == 0 {
            break;
        }
        seen += read;
        // Slow enough that the whole takes longer than a write or an idle connection may.
        if began.elapsed() < Duration::from_millis(1_500) {
            sleep(Duration::from_millis(50)).await;
        }
    }
    assert!(seen > 30_000_000, "{seen} bytes");
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_for_a_place() {
    let limits = Limits { connections_max: 2, ..Limits::default() };
    let server = serve(limits).await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut stream = connect(&server).await;
        stream.write_all(&hello()).await.unwrap();
        assert_eq!(read_reply(&mut stream).await.status, 200);
        kept.push(stream);
    }
    let mut third = connect(&server).await;
    third.write_all(&hello()).await.unwrap();
    let early = timeout(Duration::from_millis(300), third.readable()).await;
    assert!(early.is_err(), "the third connection was served beside the other two");
    drop(kept.pop());
    assert_eq!(read_reply(&mut third).await.status, 200);
}

#[tokio::test]
async fn a_place_is_free_again_when_its_socket_ends() {
    let limits = Limits { connections_max: 1, ..Limits::default() };
    let server = serve(limits).await;
    let client = crate::ws::Client::open(&server).await;
    drop(client);
    until("the place is free", async || {
        send(&server, "GET", "/health/live", &[], "").await.status == 200
    })
    .await;
}
