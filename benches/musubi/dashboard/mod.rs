//! The dashboard's query beside a bare handler that returns the same data as JSON.

pub(crate) mod peer;

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream;
use musubi::ai::service::start::execute;
use musubi::ids::new_uuid;
use serde_json::{Value, json};

use crate::Scale;
use crate::load::{Connection, Requests, Target, post};
use crate::pairs::{InstantModel, wish};
use crate::process::Process;
use crate::stage::{self, Stage};
use crate::table::{Table, histogram, median, percentiles, short};

/// The peer's role.
pub(crate) const PEER: &str = "dashboard";
/// Kept connections.
const CLIENTS: usize = 32;
/// Lines in the ledger.
const LINES: usize = 500;

const QUERY: &str = "{ creditAccount {
    balance { current held available version at }
    transactions(first: 20) {
      nodes { id type credits balanceAfter totalCost { amount currency } createdAt }
      pageInfo { hasNextPage endCursor } } } }";

pub(crate) async fn measure(scale: Scale) -> Table {
    let mut table = Table::default();
    let stage = Stage::create("dashboard").await;
    let app = stage.app(Arc::new(InstantModel)).await;
    let hotel = stage::hotels(&app, 1, 1, 1_000_000).await.remove(0);
    let actor = stage::actor(&app, &hotel).await;
    let calls = stream::iter(0..LINES).for_each_concurrent(16, |_| async {
        let key = new_uuid().to_string();
        Box::pin(execute(&app, &actor, wish(), &key)).await.unwrap();
    });
    calls.await;
    let token = stage::token(&app, hotel.people[0], hotel.tenant).await;
    stage::close(app).await;

    let musubi = Process::musubi(&stage, "http://127.0.0.1:9/v1").await;
    let bare = Process::peer(PEER, &[&stage.url]).await;
    let body = json!({ "query": QUERY }).to_string();
    let target = |process: &Process| {
        let request = post("/graphql", &token, &body);
        let requests: Requests = Arc::new(move || request.clone());
        Target { address: process.address, requests, mark: b"creditAccount" }
    };
    let (ours, peer) = (target(&musubi), target(&bare));
    assert_eq!(data(&ours).await, data(&peer).await, "both return the same data");
    for side in [&ours, &peer] {
        side.closed(CLIENTS, scale.seconds / 2.0).await;
    }
    let (mut our_rates, mut peer_rates) = (Vec::new(), Vec::new());
    let (mut our_times, mut peer_times) = (histogram(), histogram());
    for _ in 0..scale.rounds {
        let turn = ours.closed(CLIENTS, scale.seconds).await;
        our_rates.push(turn.rate);
        our_times.add(turn.latency).unwrap();
        let turn = peer.closed(CLIENTS, scale.seconds).await;
        peer_rates.push(turn.rate);
        peer_times.add(turn.latency).unwrap();
    }
    let (our_rate, peer_rate) = (median(&our_rates), median(&peer_rates));
    table.beside(
        &format!("dashboard query, closed loop of {CLIENTS}, beside bare axum + sqlx"),
        (
            format!("{}/s ({})", short(our_rate), percentiles(&our_times)),
            format!("{}/s ({})", short(peer_rate), percentiles(&peer_times)),
        ),
        our_rate / peer_rate,
        "≥ 0.9",
    );
    table
}

/// What a server answers.
async fn data(target: &Target) -> Value {
    let mut connection = Connection::open(target.address).await.unwrap();
    connection.ask(&(target.requests)()).await.unwrap();
    let mut answer: Value = serde_json::from_slice(connection.body()).unwrap();
    assert!(answer["data"]["creditAccount"].is_object(), "{answer}");
    answer["data"].take()
}
