//! Readers that take in one byte a second of what others would read at once.

use std::time::Duration;

use futures_util::future::{join_all, pending};
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::wire::Wire;
use super::witness::{Footprint, Witness, many_files, sized};
use crate::support::process::{Home, Process};

const SLOWLY: Duration = Duration::from_secs(1);
/// Answers that one connection asks for, one behind the other. Each is some megabytes, so that
/// together they are more than the system keeps for a connection.
const ANSWERS: usize = 8;
/// Queries that one socket asks for: at most fifty run at once.
const QUERIES: usize = 45;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_an_answer_byte_by_byte_is_disconnected_and_costs_little() {
    many_files();
    let home = Home::hotel(1_000).await;
    let mut process = home.serve().await;
    let witness = Witness::begin(&process, &home.guests().admin).await;
    witness.calm().await;
    let before = Footprint::of(&process);
    let asks = "GET /graphiql/assets/graphiql.js HTTP/1.1\r\nhost: x\r\n\r\n".repeat(ANSWERS);
    let readers = sized(20, 200);
    let sips = async || {
        let mut wire = Wire::narrow(&process).await;
        wire.say(asks.as_bytes()).await.unwrap();
        wire.sips(SLOWLY).await
    };
    let looks = async {
        sleep(Duration::from_secs(5)).await;
        let during = Footprint::of(&process);
        println!("{readers} slow readers: {during:?}");
        // The file itself is in the program once; nobody has a copy of it.
        assert!(during.memory_mb < before.memory_mb + 64 + readers as u64, "{during:?}");
        witness.tells("while they read").await;
        before.comes_back(&process, "slow readers").await;
    };
    // What the system holds for a reader is still there when the server has gone, so that only
    // the server's own files tell.
    let all = join_all((0..readers).map(|_| sips()));
    tokio::select! {
        () = async { all.await; pending().await } => {}
        () = looks => {}
    }
    witness.ends("to the end").await;
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_a_socket_is_disconnected_and_costs_little() {
    many_files();
    let home = Home::hotel(1_000).await;
    let mut process = home.serve().await;
    let token = &home.guests().admin;
    let witness = Witness::begin(&process, token).await;
    witness.calm().await;
    let before = Footprint::of(&process);
    let readers = sized(20, 200);
    let reads = async || {
        let mut socket = open(&process, token).await;
        for id in 0..QUERIES {
            // A socket that is closed meanwhile has served its purpose.
            let _ = socket.send(Message::text(big_query(id))).await;
        }
        Wire::of(socket.into_inner()).sips(SLOWLY).await
    };
    let looks = async {
        sleep(Duration::from_secs(5)).await;
        let during = Footprint::of(&process);
        println!("{readers} sockets that are not read: {during:?}");
        // An outbox of 1 MiB, an answer that waits for room, and what is being made.
        assert!(during.memory_mb < before.memory_mb + 64 + 4 * readers as u64, "{during:?}");
        witness.tells("while they do not read").await;
        before.comes_back(&process, "sockets that are not read").await;
    };
    let all = join_all((0..readers).map(|_| reads()));
    tokio::select! {
        () = async { all.await; pending().await } => {}
        () = looks => {}
    }
    witness.ends("to the end").await;
    process.stop().await;
}

/// A socket that is signed in, over a connection whose reader takes in next to nothing.
async fn open(process: &Process, token: &str) -> WebSocketStream<TcpStream> {
    let stream = Wire::narrow(process).await.into_stream();
    let url = format!("ws://{}/graphql", process.address());
    let mut request = url.into_client_request().unwrap();
    let protocol = "graphql-transport-ws".parse().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", protocol);
    let (mut socket, _) = client_async(request, stream).await.unwrap();
    let bearer = json!({ "authorization": format!("Bearer {token}") });
    let init = json!({ "type": "connection_init", "payload": bearer });
    socket.send(Message::text(init.to_string())).await.unwrap();
    let ack = socket.next().await.unwrap().unwrap();
    assert!(ack.to_text().unwrap().contains("connection_ack"), "{ack}");
    socket
}

/// The longest answer that a document of a few bytes asks for: the schema with all it says.
fn big_query(id: usize) -> String {
    let query = "{ __schema { types { name description inputFields { name description }
        fields { name description args { name description } }
        enumValues { name description } } } }";
    let payload = json!({ "query": query });
    json!({ "type": "subscribe", "id": id.to_string(), "payload": payload }).to_string()
}
