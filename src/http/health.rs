//! Whether the process lives, whether it should get requests, and how its services are.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, SecondsFormat, Utc};
use futures_util::future::{BoxFuture, join_all};
use http::{StatusCode, header};
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::app::App;
use crate::error::Result;
use crate::http::{Shared, reply};

/// A service that does not answer in this time is down.
const PATIENCE: Duration = Duration::from_secs(1);
/// The report is public: however often it is asked for, services are asked so seldom.
const REPORT_AGE_MAX: Duration = Duration::from_secs(5);
/// Readiness must follow the database quickly.
const READY_AGE_MAX: Duration = Duration::from_secs(1);

/// Asks one service whether it is up.
type Check = fn(App) -> BoxFuture<'static, Result<()>>;

/// How to ask one service whether it is up. It must cost nothing: no call of an AI provider.
#[derive(Clone)]
pub struct Probe {
    name: &'static str,
    weight: Weight,
    check: Check,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Weight {
    Essential,
    Optional,
}

impl Probe {
    /// A service without which no request can be served.
    pub fn essential(name: &'static str, check: Check) -> Self {
        Self { name, weight: Weight::Essential, check }
    }

    /// A service whose loss only takes something away.
    pub fn optional(name: &'static str, check: Check) -> Self {
        Self { name, weight: Weight::Optional, check }
    }
}

/// Asks the services and remembers their answers for a moment.
pub(super) struct Health {
    app: App,
    probes: Vec<Probe>,
    // Whoever holds it asks; the others wait for the answer instead of asking too.
    last: Mutex<Option<Arc<Report>>>,
}

struct Report {
    asked: Instant,
    at: DateTime<Utc>,
    services: Vec<(&'static str, Weight, bool)>,
}

impl Report {
    /// Whether all services of this weight are up.
    fn is_up(&self, weight: Weight) -> bool {
        self.services.iter().all(|(_, its_weight, is_up)| *is_up || *its_weight != weight)
    }
}

impl Health {
    pub(super) fn new(app: App, probes: Vec<Probe>) -> Self {
        Self { app, probes, last: Mutex::new(None) }
    }

    /// A report that is at most so old.
    async fn report(&self, age_max: Duration) -> Arc<Report> {
        let mut last = self.last.lock().await;
        if let Some(report) = last.as_ref().filter(|report| report.asked.elapsed() < age_max) {
            return Arc::clone(report);
        }
        let services = join_all(self.probes.iter().map(|probe| self.ask(probe))).await;
        let at = self.app.clock.now();
        let report = Arc::new(Report { asked: Instant::now(), at, services });
        *last = Some(Arc::clone(&report));
        report
    }

    async fn ask(&self, probe: &Probe) -> (&'static str, Weight, bool) {
        let answer = timeout(PATIENCE, (probe.check)(self.app.clone())).await;
        if let Ok(Err(error)) = &answer {
            tracing::warn!(%error, "{} is down: {error}", probe.name);
        }
        (probe.name, probe.weight, matches!(answer, Ok(Ok(()))))
    }
}

/// The process answers: it needs no restart.
pub(super) async fn live() -> Response {
    answer(StatusCode::OK, json!({ "status": "ok" }))
}

/// Whether requests should be sent here.
pub(super) async fn ready(State(shared): State<Shared>) -> Response {
    if shared.is_draining() {
        return answer(StatusCode::SERVICE_UNAVAILABLE, json!({ "status": "draining" }));
    }
    if shared.0.health.report(READY_AGE_MAX).await.is_up(Weight::Essential) {
        answer(StatusCode::OK, json!({ "status": "ok" }))
    } else {
        answer(StatusCode::SERVICE_UNAVAILABLE, json!({ "status": "down" }))
    }
}

/// How the services are, for anyone.
pub(super) async fn report(State(shared): State<Shared>) -> Response {
    let report = shared.0.health.report(REPORT_AGE_MAX).await;
    let (code, status) = match (report.is_up(Weight::Essential), report.is_up(Weight::Optional)) {
        (true, true) => (StatusCode::OK, "ok"),
        (true, false) => (StatusCode::OK, "degraded"),
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "down"),
    };
    let state = |is_up: bool| Value::from(if is_up { "up" } else { "down" });
    let services: Map<_, _> = report
        .services
        .iter()
        .map(|(name, _, is_up)| ((*name).to_owned(), state(*is_up)))
        .collect();
    let timestamp = report.at.to_rfc3339_opts(SecondsFormat::Millis, true);
    answer(code, json!({ "status": status, "services": services, "timestamp": timestamp }))
}

fn answer(status: StatusCode, body: Value) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, reply::to_json(&body)).into_response()
}
