//! Reserve and settle: pairs per second through the program's own entry point, beside the same
//! statements sent through the bare driver.

mod driver;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use hdrhistogram::Histogram;
use musubi::actor::Actor;
use musubi::ai::input::Wish;
use musubi::ai::service::start::execute;
use musubi::app::App;
use musubi::entity::execution::ExecutionStatus;
use musubi::entity::function_price::AiFunctionType;
use musubi::external::models::{
    ChatEvent, ChatModel, ChatRequest, FinishReason, ModelFailure, Usage,
};
use musubi::ids::new_uuid;
use tokio::task::JoinSet;

use crate::stage::{self, Hotel, Stage};
use crate::table::{Table, histogram, median, percentiles, record, short};
use crate::{Scale, load::Load};

/// Accounts of the wide case.
const ACCOUNTS: usize = 1_000;
/// Clients that each side may choose from; it gets the number that suits it best.
const CLIENTS: [usize; 5] = [4, 16, 64, 256, 512];

/// Does a pair on some account; shared by all clients.
type Pair = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// A model that has its answer ready.
pub(crate) struct InstantModel;

/// What every double answers.
pub(crate) const ANSWER: &str = "Breakfast is served from seven to ten in the garden room.";

impl ChatModel for InstantModel {
    fn provider(&self) -> &str {
        "instant"
    }

    fn chat(&self, _: ChatRequest) -> BoxStream<'static, Result<ChatEvent, ModelFailure>> {
        let usage = Usage { input_tokens: 24, output_tokens: 14 };
        let events = [
            ChatEvent::Text(ANSWER.to_owned()),
            ChatEvent::Usage(usage),
            ChatEvent::Finished(FinishReason::Stop),
        ];
        stream::iter(events.map(Ok)).boxed()
    }
}

/// The call that every pair makes.
pub(crate) fn wish() -> Wish {
    Wish {
        function: AiFunctionType::Chatbot,
        input: "朝食は何時から何時までですか？".to_owned(),
        model: None,
        temperature: None,
        max_tokens: Some(200),
        custom_options: None,
        user: None,
        context: None,
        tags: Vec::new(),
    }
}

pub(crate) async fn measure(scale: Scale) -> Table {
    let mut table = Table::default();
    let stage = Stage::create("pairs").await;
    let app = stage.app(Arc::new(InstantModel)).await;
    let hotels = stage::hotels(&app, ACCOUNTS, 1, 1_000_000).await;
    let mut actors = Vec::with_capacity(hotels.len());
    for hotel in &hotels {
        actors.push((stage::actor(&app, hotel).await, hotel.clone()));
    }
    // The driver's rows are made like one of ours.
    let model = execute(&app, &actors[0].0, wish(), "the-first-pair").await.unwrap();
    let driver = Arc::new(driver::Driver::connect(&stage, model).await);
    for (name, accounts) in [("1 account", 1), ("1 000 accounts", ACCOUNTS)] {
        let chosen = Arc::new(actors[..accounts].to_vec());
        let ours = our_pair(&app, Arc::clone(&chosen));
        let peer = driver.pair(chosen);
        compare(&mut table, (name, scale), &ours, &peer).await;
    }
    stage::prove(&app).await;
    driver.close().await;
    stage::close(app).await;
    table
}

fn our_pair(app: &App, actors: Arc<Vec<(Actor, Hotel)>>) -> Pair {
    let app = app.clone();
    Arc::new(move || {
        let (app, actors) = (app.clone(), Arc::clone(&actors));
        Box::pin(async move {
            let (actor, _) = &actors[fastrand::usize(..actors.len())];
            let key = new_uuid().to_string();
            let ended = Box::pin(execute(&app, actor, wish(), &key)).await.unwrap();
            assert_eq!(ended.status, ExecutionStatus::Succeeded);
        })
    })
}

async fn compare(table: &mut Table, (name, scale): (&str, Scale), ours: &Pair, peer: &Pair) {
    let our_clients = best(ours, scale).await;
    let peer_clients = best(peer, scale).await;
    let (mut our_rates, mut peer_rates) = (Vec::new(), Vec::new());
    let (mut our_times, mut peer_times) = (histogram(), histogram());
    for _ in 0..scale.rounds {
        let turn = run(ours, our_clients, scale.seconds).await;
        our_rates.push(turn.rate);
        our_times.add(turn.latency).unwrap();
        let turn = run(peer, peer_clients, scale.seconds).await;
        peer_rates.push(turn.rate);
        peer_times.add(turn.latency).unwrap();
    }
    let cell = |rate: f64, clients: usize, times: &Histogram<u64>| {
        format!("{}/s ({clients} callers; {})", short(rate), percentiles(times))
    };
    let (our_rate, peer_rate) = (median(&our_rates), median(&peer_rates));
    table.beside(
        &format!("reserve+settle pairs on {name}, beside the driver"),
        (cell(our_rate, our_clients, &our_times), cell(peer_rate, peer_clients, &peer_times)),
        our_rate / peer_rate,
        "",
    );
}

/// The number of clients with the highest rate; this also warms everything up.
async fn best(pair: &Pair, scale: Scale) -> usize {
    let mut best = (0.0, CLIENTS[0]);
    for clients in CLIENTS {
        let rate = run(pair, clients, scale.seconds / 3.0).await.rate;
        if scale.is_verbose {
            println!("    {clients} callers: {}/s", short(rate));
        }
        if rate > best.0 {
            best = (rate, clients);
        }
    }
    best.1
}

/// Clients that each do one pair at a time. Only pairs that ended in time count.
async fn run(pair: &Pair, clients: usize, seconds: f64) -> Load {
    let mut running = JoinSet::new();
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    for _ in 0..clients {
        let pair = Arc::clone(pair);
        running.spawn(async move {
            let mut latency = histogram();
            loop {
                let begun = Instant::now();
                pair().await;
                if Instant::now() > end {
                    return latency;
                }
                record(&mut latency, begun.elapsed());
            }
        });
    }
    let mut latency = histogram();
    while let Some(one) = running.join_next().await {
        latency.add(one.expect("a client goes on")).unwrap();
    }
    Load { rate: latency.len() as f64 / seconds, latency }
}
