//! `aiExecute` over HTTP with a model that answers at once: requests per second, and the latency
//! that the program adds to the model's own.

mod double;

use std::sync::Arc;

use musubi::ids::new_uuid;
use serde_json::json;

use crate::Scale;
use crate::load::{Requests, Target, post};
use crate::pairs::{InstantModel, wish};
use crate::process::Process;
use crate::stage::{self, Stage};
use crate::table::{Table, at, histogram, median, percentiles, short};

/// Kept connections of both loops.
const CLIENTS: usize = 64;
/// Hotels that ask.
const HOTELS: usize = 100;

const MUTATION: &str = "mutation ($input: AiExecuteInput!) { aiExecute(input: $input) {
    execution { id status result { output } charge { creditsUsed } } userErrors { code } } }";

pub(crate) async fn measure(scale: Scale) -> Table {
    let mut table = Table::default();
    let stage = Stage::create("execute").await;
    let app = stage.app(Arc::new(InstantModel)).await;
    let hotels = stage::hotels(&app, HOTELS, 1, 1_000_000).await;
    let mut tokens = Vec::with_capacity(hotels.len());
    for hotel in &hotels {
        tokens.push(stage::token(&app, hotel.people[0], hotel.tenant).await);
    }
    let model = double::start().await;
    let musubi = Process::musubi(&stage, &format!("http://{model}/v1")).await;
    let ours = Target { address: musubi.address, requests: calls(tokens), mark: b"SUCCEEDED" };
    let direct = post("/v1/chat/completions", "bench-key", &double::request());
    let direct: Requests = Arc::new(move || direct.clone());
    let direct = Target { address: model, requests: direct, mark: b"[DONE]" };

    ours.closed(CLIENTS, scale.seconds / 2.0).await;
    direct.closed(CLIENTS, scale.seconds / 4.0).await;
    let mut rates = Vec::new();
    let mut busy = histogram();
    for _ in 0..scale.rounds {
        let turn = ours.closed(CLIENTS, scale.seconds).await;
        rates.push(turn.rate);
        busy.add(turn.latency).unwrap();
    }
    let most = median(&rates);
    table.alone(
        &format!("aiExecute over HTTP, closed loop of {CLIENTS}"),
        format!("{}/s ({})", short(most), percentiles(&busy)),
        "",
    );
    latency(&mut table, scale, (&ours, &direct), most / 2.0).await;
    drop(musubi);
    stage::prove(&app).await;
    stage::close(app).await;
    table
}

/// Both at the same steady rate, in turns.
async fn latency(table: &mut Table, scale: Scale, (ours, direct): (&Target, &Target), rate: f64) {
    let (mut our_times, mut direct_times) = (histogram(), histogram());
    for _ in 0..scale.rounds {
        our_times.add(ours.open(CLIENTS, rate, scale.seconds).await.latency).unwrap();
        direct_times.add(direct.open(CLIENTS, rate, scale.seconds).await.latency).unwrap();
    }
    let added = |quantile| at(&our_times, quantile) - at(&direct_times, quantile);
    let added = format!("{} / {} ms", short(added(0.5)), short(added(0.99)));
    table.alone(
        &format!("aiExecute's added latency p50 / p99 at {} req/s (50 %)", short(rate)),
        format!(
            "{added} ({} less the model's {})",
            percentiles(&our_times),
            percentiles(&direct_times)
        ),
        "",
    );
}

/// A call of a random hotel with a key of its own.
fn calls(tokens: Vec<String>) -> Requests {
    let wish = wish();
    Arc::new(move || {
        let token = &tokens[fastrand::usize(..tokens.len())];
        let parameters = json!({ "input": wish.input, "maxTokens": wish.max_tokens });
        let input = json!({ "functionType": "CHATBOT", "parameters": parameters,
            "idempotencyKey": new_uuid().to_string() });
        let body = json!({ "query": MUTATION, "variables": { "input": input } });
        post("/graphql", token, &body.to_string())
    })
}
