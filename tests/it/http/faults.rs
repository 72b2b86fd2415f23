//! Panics, timeouts and clients that leave.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use musubi::http::Limits;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use super::stage::Stage;
use super::{GRAPHQL, JSON, connect, post, query, request, send};

fn post_bytes(text: &str) -> Vec<u8> {
    request("POST", "/graphql", &[("content-type", JSON)], query(text).as_bytes())
}

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_panic_is_an_internal_error_and_one_id_names_it_everywhere() {
    let log = Log::default();
    let written = log.clone();
    let subscriber = tracing_subscriber::fmt().json().with_writer(move || written.clone()).finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let (server, _) = Stage::serve(Limits::default()).await;

    for (number, text) in ["{ panics }", "mutation { panics }"].into_iter().enumerate() {
        let id = format!("panic-number-{number}");
        let reply = post(&server, &[("x-request-id", &id)], query(text)).await;
        assert_eq!((reply.status, reply.code().as_str()), (500, "INTERNAL"), "{text}");
        assert!(reply.json().get("data").is_none(), "{text}");
        assert_eq!(reply.header("x-request-id"), Some(&*id));
        assert_eq!(reply.json()["errors"][0]["extensions"]["requestId"], *id);
        assert!(!String::from_utf8_lossy(&reply.body).contains("own fault"));
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut lines = lines.filter(|line| line["fields"]["request.id"] == *id);
        assert_eq!(lines.next().unwrap()["fields"]["message"], "A resolver panicked", "{log}");
    }
    assert_eq!(post(&server, &[], query("{ __typename }")).await.status, 200);
}

#[tokio::test]
async fn an_operation_that_takes_too_long_is_ended_with_504() {
    let limits = Limits { operation_timeout: Duration::from_millis(200), ..Limits::default() };
    let (server, stage) = Stage::serve(limits).await;
    for (ended, text) in ["{ waits }", "mutation { waits }"].into_iter().enumerate() {
        for (again, accept) in [JSON, GRAPHQL].into_iter().enumerate() {
            let reply = post(&server, &[("accept", accept)], query(text)).await;
            assert_eq!((reply.status, reply.code().as_str()), (504, "TIMEOUT"), "{text}");
            assert!(reply.json().get("data").is_none());
            stage.see_left(2 * ended + again + 1).await;
        }
    }
    assert_eq!(stage.finished(), 0);
}

#[tokio::test]
async fn a_query_ends_when_its_client_leaves() {
    let (server, stage) = Stage::serve(Limits::default()).await;
    let mut stream = connect(&server).await;
    stream.write_all(&post_bytes("{ waits }")).await.unwrap();
    stage.see_begun(1).await;
    drop(stream);
    stage.see_left(1).await;
    assert_eq!(stage.finished(), 0);
}

#[tokio::test]
async fn a_mutation_goes_on_when_its_client_leaves() {
    let (server, stage) = Stage::serve(Limits::default()).await;
    // A query of another client that leaves as well tells when the server has noticed.
    let mut streams = Vec::new();
    for (begun, text) in ["mutation { waits }", "{ waits }"].into_iter().enumerate() {
        let mut stream = connect(&server).await;
        stream.write_all(&post_bytes(text)).await.unwrap();
        stage.see_begun(begun + 1).await;
        streams.push(stream);
    }
    for stream in streams {
        drop(stream);
    }
    stage.see_left(1).await;
    stage.open_gate();
    stage.see_left(2).await;
    assert_eq!(stage.finished(), 1);
}

#[tokio::test]
async fn a_body_that_dribbles_is_refused_with_408() {
    let limits = Limits { body_timeout: Duration::from_millis(300), ..Limits::default() };
    let (server, _) = Stage::serve(limits).await;
    let headers = [("content-type", JSON), ("content-length", "100")];
    let reply = send(&server, "POST", "/graphql", &headers, "").await;
    assert_eq!((reply.status, reply.code().as_str()), (408, "REQUEST_TIMEOUT"));
    assert_eq!(reply.header("connection"), Some("close"));
}
