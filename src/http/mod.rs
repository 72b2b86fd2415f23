//! The only room that knows axum: sockets, headers and statuses around the GraphQL engine.
//!
//! `server` accepts connections and ends them in order; `envelope` wraps every request (its id, its
//! span, a panic's end); `graphql_http` and `graphql_ws` speak the two transports to the letter of
//! GraphQL-over-HTTP and graphql-transport-ws; both run operations through `operation`.

mod access;
mod envelope;
mod graphiql;
mod graphql_http;
mod graphql_ws;
mod health;
mod operation;
mod reply;
mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use http::{StatusCode, header};
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;

use crate::app::App;
use crate::graphql::engine::Engine;
use envelope::RequestId;
pub use graphiql::{Prefill, Prefiller};
pub use health::Probe;
use reply::Refusal;
pub use server::{serve, serve_until_signalled};

/// What the server is made of.
pub struct Setup {
    /// The program's parts.
    pub app: App,
    /// Runs GraphQL documents.
    pub engine: Engine,
    /// Bounds and patience.
    pub limits: Limits,
    /// Fills GraphiQL in; without it the page is not served.
    pub graphiql: Option<Prefiller>,
    /// The services that health reports, in their order.
    pub probes: Vec<Probe>,
}

/// Bounds and patience of the server. The defaults are for production; tests shorten them.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at once, WebSockets included. More wait in the system's backlog.
    pub connections_max: usize,
    /// How long the head of a request may take, and a connection may stay without any request.
    pub header_timeout: Duration,
    /// How long the body of a request may take.
    pub body_timeout: Duration,
    /// The longest body of a request, in bytes.
    pub body_bytes_max: usize,
    /// How long a query or a mutation may run. `aiExecute` alone waits up to 60 s.
    pub operation_timeout: Duration,
    /// Connections without a request for so long are closed (HTTP/1 already after the head's).
    pub idle_timeout: Duration,
    /// How long a WebSocket may wait before `connection_init`.
    pub init_timeout: Duration,
    /// The pause between pings to a WebSocket. A peer silent for two of them is dead.
    pub ping_pause: Duration,
    /// How long one message to a WebSocket may take to be written.
    pub write_timeout: Duration,
    /// Between readiness turning 503 and the end of accepting, for balancers to notice.
    pub drain_notice: Duration,
    /// How long a shutdown waits for requests, and then again for background work.
    pub drain_patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            body_bytes_max: 1024 * 1024,
            operation_timeout: Duration::from_secs(75),
            idle_timeout: Duration::from_secs(75),
            init_timeout: Duration::from_secs(5),
            ping_pause: Duration::from_secs(12),
            write_timeout: Duration::from_secs(10),
            drain_notice: Duration::ZERO,
            drain_patience: Duration::from_secs(25),
        }
    }
}

/// What every handler shares.
#[derive(Clone)]
struct Shared(Arc<Inner>);

struct Inner {
    app: App,
    engine: Engine,
    limits: Limits,
    graphiql: Option<Prefiller>,
    health: health::Health,
    is_draining: AtomicBool,
}

impl Shared {
    fn new(setup: Setup) -> Self {
        Self(Arc::new(Inner {
            health: health::Health::new(setup.app.clone(), setup.probes),
            app: setup.app,
            engine: setup.engine,
            limits: setup.limits,
            graphiql: setup.graphiql,
            is_draining: AtomicBool::new(false),
        }))
    }

    fn app(&self) -> &App {
        &self.0.app
    }

    fn engine(&self) -> &Engine {
        &self.0.engine
    }

    fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Whether a shutdown has begun.
    fn is_draining(&self) -> bool {
        self.0.is_draining.load(Ordering::Relaxed)
    }

    /// Turns readiness to 503, before anything else of a shutdown.
    fn begin_draining(&self) {
        self.0.is_draining.store(true, Ordering::Relaxed);
    }
}

/// All routes.
fn router(shared: &Shared) -> Router {
    let mut routes = Router::new()
        .route("/", get(front))
        .route("/graphql", any(graphql_http::answer))
        .route("/health", get(health::report))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready));
    if shared.0.graphiql.is_some() {
        routes = routes
            .route("/graphiql", get(graphiql::page))
            .route("/graphiql/assets/{name}", get(graphiql::asset));
    }
    routes
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .with_state(shared.clone())
        .layer(from_fn(envelope::wrap))
        // A handshake's 101 has no body, so the size alone keeps it out.
        .layer(CompressionLayer::new().compress_when(SizeAbove::new(1024)))
}

/// People who open the address in development want GraphiQL.
async fn front(State(shared): State<Shared>) -> Response {
    if shared.0.graphiql.is_some() {
        (StatusCode::FOUND, [(header::LOCATION, "/graphiql")]).into_response()
    } else {
        "Musubi\n".into_response()
    }
}

async fn unknown(id: RequestId) -> Response {
    Refusal::not_found().reply(&id)
}

async fn wrong_method(id: RequestId) -> Response {
    // axum itself adds `Allow` with the route's methods.
    Refusal::method().reply(&id)
}
