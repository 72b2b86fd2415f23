//! What limits and the anomaly score add to an execution: a look at a person with a history, and
//! whole executions with both off and on, one after the other, in microseconds and statements.

use std::sync::Arc;
use std::time::Instant;

use hdrhistogram::Histogram;
use musubi::actor::{Actor, Source};
use musubi::ai::service::start::execute;
use musubi::anomaly::{baseline, watch};
use musubi::app::App;
use musubi::credits::period;
use musubi::entity::execution::ExecutionStatus;
use musubi::ids::new_uuid;
use sqlx::Executor;

use crate::Scale;
use crate::limits;
use crate::pairs::{InstantModel, wish};
use crate::stage::{self, Hotel, Stage};
use crate::table::{Table, histogram, median, record};

/// Each person's runs in the last hour; as usual as the baseline says.
const RUNS: u32 = 60;
/// Executions of each person, each way; the limits let all of them pass.
const CALLS: usize = 8;

pub(crate) async fn measure(scale: Scale) -> Table {
    let mut table = Table::default();
    let stage = Stage::create("brakes").await;
    let off = stage.app(Arc::new(InstantModel)).await;
    let people = if scale.is_quick { 10 } else { 100 };
    let hotel = stage::hotels(&off, 1, people, 10_000_000).await.remove(0);
    let actors = actors(&off, &hotel).await;
    remember(&stage, &off, (&hotel, &actors[0])).await;
    for (name, redis) in [("in memory", None), ("in Redis", Some(limits::redis()))] {
        let on = limits::start(&stage, true, redis.clone()).await;
        if redis.is_some() && !limits::reach(&on).await {
            println!("  Redis does not answer");
            stage::close(on).await;
            continue;
        }
        if redis.is_none() {
            baseline::compute_all(&on).await.unwrap();
            look(&mut table, &on, &actors).await;
        }
        compare(&mut table, name, (&off, &on), &actors).await;
        stage::close(on).await;
    }
    // What was remembered never ran, and is no part of the books.
    let unreal = "DELETE FROM ai_executions e
                  WHERE NOT EXISTS (SELECT 1 FROM ai_credit_holds h WHERE h.execution_id = e.id)";
    stage.connect().await.execute(unreal).await.unwrap();
    stage::prove(&off).await;
    stage::close(off).await;
    table
}

async fn actors(app: &App, hotel: &Hotel) -> Vec<Actor> {
    let mut actors = Vec::with_capacity(hotel.people.len());
    for user in &hotel.people {
        let alone = Hotel { people: vec![*user], ..hotel.clone() };
        actors.push(stage::actor(app, &alone).await);
    }
    actors
}

/// Gives each person 56 days of use, and the last hour's runs.
async fn remember(stage: &Stage, app: &App, (hotel, actor): (&Hotel, &Actor)) {
    execute(app, actor, wish(), "the-first").await.unwrap();
    let mut books = stage.connect().await;
    let hours = "INSERT INTO usage_hourly
        (account_id, user_id, function_type, hour, runs, failures, credits)
        SELECT $1, u.id, 'CHATBOT', date_trunc('hour', now()) - n * interval '1 hour', $2, 0, $2 * 2
        FROM users u, generate_series(2, 56 * 24) n";
    let hours = sqlx::query(hours).bind(hotel.account.0).bind(i64::from(RUNS));
    books.execute(hours).await.unwrap();
    let runs = "INSERT INTO ai_executions SELECT (jsonb_populate_record(e, jsonb_build_object(
            'id', gen_random_uuid(), 'user_id', u.id, 'prompt_digest', n,
            'created_at', e.created_at - n * interval '55 seconds'))).*
        FROM ai_executions e, users u, generate_series(1, $1) n";
    books.execute(sqlx::query(runs).bind(i64::from(RUNS))).await.unwrap();
    books.execute("ANALYZE").await.unwrap();
}

/// What a look at a person and the score take by themselves.
async fn look(table: &mut Table, app: &App, actors: &[Actor]) {
    let mut times = histogram();
    let mut statements = 0;
    let source = Arc::new(Source::default());
    let zone = period::zone("Asia/Tokyo");
    for actor in actors.iter().cycle().take(actors.len() * CALLS) {
        let (tenant, user) = (actor.tenant().unwrap(), actor.user_id);
        let prompt = watch::digest(app, &wish().input);
        let subject = watch::Subject { tenant, user, prompt };
        let (before, begun) = (app.db.statements(), Instant::now());
        let seen = watch::look(app, subject).await.unwrap().expect("it is on");
        let call = watch::Coming { subject, credits: 3, zone };
        let score = watch::judge(app, seen, call, &source).await.unwrap();
        record(&mut times, begun.elapsed());
        statements += app.db.statements() - before;
        assert!(score.total < 70, "usual use scores {}", score.total);
    }
    let calls = (actors.len() * CALLS) as f64;
    let text = format!("{}; {:.2} statements", micros(&times), statements as f64 / calls);
    table.alone(&format!("score of somebody with {RUNS} runs in the hour"), text, "");
}

/// Whole executions, one after the other, in turns.
async fn compare(table: &mut Table, name: &str, (off, on): (&App, &App), actors: &[Actor]) {
    let mut ways = [(off, histogram(), 0), (on, histogram(), 0)];
    let mut added = Vec::new();
    for actor in actors.iter().cycle().take(actors.len() * CALLS) {
        let mut turn = [0.0; 2];
        for (place, (app, times, statements)) in ways.iter_mut().enumerate() {
            let (key, before) = (new_uuid().to_string(), app.db.statements());
            let begun = Instant::now();
            let ended = Box::pin(execute(app, actor, wish(), &key)).await.unwrap();
            turn[place] = begun.elapsed().as_secs_f64() * 1e6;
            record(times, begun.elapsed());
            *statements += app.db.statements() - before;
            assert_eq!(ended.status, ExecutionStatus::Succeeded);
        }
        added.push(turn[1] - turn[0]);
    }
    let calls = (actors.len() * CALLS) as f64;
    let text = |(_, times, statements): &(&App, Histogram<u64>, u64)| {
        format!("{}; {:.1} statements", micros(times), *statements as f64 / calls)
    };
    let ratio = ways[1].1.value_at_quantile(0.5) as f64 / ways[0].1.value_at_quantile(0.5) as f64;
    let what = format!("an execution, limits {name} and score; beside both off");
    table.beside(&what, (text(&ways[1]), text(&ways[0])), ratio, "");
    let added = format!("{:.0} µs", median(&added));
    table.alone(&format!("what they add, limits {name}: median of the differences"), added, "");
}

fn micros(times: &Histogram<u64>) -> String {
    let at = |quantile| times.value_at_quantile(quantile);
    format!("p50 {} µs, p99 {} µs", at(0.5), at(0.99))
}
