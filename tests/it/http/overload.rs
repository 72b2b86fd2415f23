//! More work than fits: reading is refused at once, paying goes on.

use musubi::http::Limits;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::stage::Stage;
use super::{GRAPHQL, JSON, Reply, connect, post, query, read_reply, request, send};
use crate::support::TestServer;
use crate::ws::Client;

/// Sends an operation without waiting for its answer.
async fn begin(server: &TestServer, text: &str) -> TcpStream {
    let mut stream = connect(server).await;
    let headers = [("content-type", JSON)];
    let bytes = request("POST", "/graphql", &headers, query(text).as_bytes());
    stream.write_all(&bytes).await.unwrap();
    stream
}

fn assert_shed(reply: &Reply) {
    assert_eq!((reply.status, reply.code().as_str()), (503, "UNAVAILABLE"));
    let seconds: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=3).contains(&seconds));
    let error = &reply.json()["errors"][0];
    assert_eq!(error["extensions"]["retryAfterMs"], seconds * 1_000);
    assert_eq!(error["extensions"]["requestId"], reply.header("x-request-id").unwrap());
    assert!(reply.json().get("data").is_none());
}

#[tokio::test]
async fn queries_beyond_their_bound_are_refused_while_mutations_and_health_go_on() {
    let (server, stage) = Stage::serve(Limits { queries_max: 2, ..Limits::default() }).await;
    let mut running = Vec::new();
    for begun in 0..2 {
        running.push(begin(&server, "{ waits }").await);
        stage.see_begun(begun + 1).await;
    }

    // The word alone does not make it a mutation.
    for text in ["{ __typename }", "query mutation { __typename }", "{ waits }"] {
        for accept in [JSON, GRAPHQL] {
            assert_shed(&post(&server, &[("accept", accept)], query(text)).await);
        }
    }
    let path = "/graphql?query={__typename}";
    assert_shed(&send(&server, "GET", path, &[("accept", JSON)], "").await);
    let mutation = post(&server, &[], query("mutation { __typename }")).await;
    assert_eq!(mutation.json()["data"], json!({ "__typename": "Mutation" }));
    for path in ["/health", "/health/live", "/health/ready"] {
        assert_eq!(send(&server, "GET", path, &[], "").await.status, 200, "{path}");
    }

    stage.open_gate();
    for mut stream in running {
        assert_eq!(read_reply(&mut stream).await.json()["data"]["waits"], true);
    }
    assert_eq!(post(&server, &[], query("{ __typename }")).await.status, 200);
}

#[tokio::test]
async fn mutations_have_a_bound_of_their_own() {
    let (server, stage) = Stage::serve(Limits { mutations_max: 1, ..Limits::default() }).await;
    let mut running = begin(&server, "mutation { waits }").await;
    stage.see_begun(1).await;
    assert_shed(&post(&server, &[], query("mutation { waits }")).await);
    assert_eq!(post(&server, &[], query("{ __typename }")).await.status, 200);
    stage.open_gate();
    assert_eq!(read_reply(&mut running).await.json()["data"]["waits"], true);
    assert_eq!(stage.finished(), 1);
}

#[tokio::test]
async fn a_socket_is_told_when_to_try_again_and_its_mutations_pass() {
    let (server, stage) = Stage::serve(Limits { queries_max: 1, ..Limits::default() }).await;
    let mut client = Client::signed_in(&server).await;
    client.subscribe("idle", "subscription { idles }").await;
    assert_eq!(client.see_message().await["type"], "next");
    client.subscribe("slow", "{ waits }").await;
    stage.see_begun(1).await;

    client.subscribe("shed", "{ __typename }").await;
    let refused = client.see_message().await;
    assert_eq!((&refused["type"], &refused["id"]), (&json!("error"), &json!("shed")));
    let extensions = &refused["payload"][0]["extensions"];
    assert_eq!(extensions["code"], "UNAVAILABLE");
    assert!((1_000..=3_000).contains(&extensions["retryAfterMs"].as_u64().unwrap()));

    client.subscribe("paid", "mutation { __typename }").await;
    assert_eq!(client.see_message().await["payload"]["data"]["__typename"], "Mutation");
    assert_eq!(client.see_message().await, json!({ "type": "complete", "id": "paid" }));
    stage.open_gate();
    assert_eq!(client.see_message().await["payload"]["data"]["waits"], true);
}
