//! What limits add to an `aiExecute`: its operation, its use of credits and its place in the hour,
//! one call after the other, in microseconds and statements. In memory and in Redis.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use musubi::app::{App, External};
use musubi::clock::Clock;
use musubi::config::{LimitSettings, Secret};
use musubi::entity::function_price::AiFunctionType;
use musubi::ids::{ExecutionId, TenantId, UserId};
use musubi::limits::function;
use musubi::limits::service::{Run, take, take_run};
use musubi::limits::table::Limit;
use musubi::limits::who::Who;

use crate::Scale;
use crate::pairs::InstantModel;
use crate::stage::{self, Stage};
use crate::table::{Table, histogram, record};

/// Calls of each caller; fewer than any limit.
const CALLS: usize = 50;

/// Times and statements of callers' first calls, and of the others.
struct Figures {
    times: Histogram<u64>,
    statements: u64,
    calls: u64,
}

impl Figures {
    fn new() -> Self {
        Self { times: histogram(), statements: 0, calls: 0 }
    }

    fn text(&self) -> String {
        let at = |quantile| self.times.value_at_quantile(quantile);
        let statements = self.statements as f64 / self.calls.max(1) as f64;
        format!("p50 {} µs, p99 {} µs; {statements:.2} statements", at(0.5), at(0.99))
    }
}

pub(crate) async fn measure(scale: Scale) -> Table {
    let mut table = Table::default();
    let stage = Stage::create("limits").await;
    let redis = redis();
    for (name, is_on, url) in [
        ("off", false, None),
        ("in memory", true, None),
        ("in Redis", true, Some(redis.clone())),
        ("Redis away", true, Some("redis://127.0.0.1:9".to_owned())),
    ] {
        let app = start(&stage, is_on, url).await;
        if name == "in Redis" && !reach(&app).await {
            println!("  Redis does not answer at {redis}");
            stage::close(app).await;
            continue;
        }
        let callers = if scale.is_quick { 20 } else { 200 };
        let (first, next) = call(&app, callers).await;
        table.alone(&format!("limits {name}: a caller's first call"), first.text(), "");
        table.alone(&format!("limits {name}: every other"), next.text(), "");
        stage::close(app).await;
    }
    table
}

/// Where Redis is.
pub(crate) fn redis() -> String {
    let named = std::env::var("MUSUBI_TEST_REDIS");
    named.unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned())
}

/// The program with its limits, on a database that another may use, too.
pub(crate) async fn start(stage: &Stage, is_on: bool, redis: Option<String>) -> App {
    let mut config = stage::config(&stage.url);
    config.limits = LimitSettings { is_on, ..LimitSettings::default() };
    config.redis_url = redis.map(Secret);
    let models = Arc::new(InstantModel);
    let external = External { models, ..External::sandbox(&config).unwrap() };
    App::start(config, Clock::system(), external).await.unwrap()
}

/// Waits for Redis. Whether it came.
pub(crate) async fn reach(app: &App) -> bool {
    for _ in 0..100 {
        if app.meter.is_shared() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

async fn call(app: &App, callers: usize) -> (Figures, Figures) {
    let (mut first, mut next) = (Figures::new(), Figures::new());
    let function = AiFunctionType::Chatbot;
    for _ in 0..callers {
        let (tenant, user) = (TenantId::new(), UserId::new());
        let caller = Who::member(tenant, user);
        for number in 0..CALLS {
            let figures = if number == 0 { &mut first } else { &mut next };
            let (before, begun) = (app.db.statements(), Instant::now());
            take(app, &caller, Limit::Operations, 1).await.unwrap();
            let per_hour = function::per_hour(app, tenant, function).await.unwrap();
            let caller = caller.clone();
            let run = Run { caller, tenant, user, function, per_hour, id: ExecutionId::new() };
            take_run(app, &run).await.unwrap();
            record(&mut figures.times, begun.elapsed());
            figures.statements += app.db.statements() - before;
            figures.calls += 1;
        }
    }
    (first, next)
}
