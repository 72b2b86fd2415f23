//! The only room that knows axum: sockets, headers and statuses around the GraphQL engine.
//!
//! `server` accepts connections and ends them in order; `envelope` wraps every request (its id, its
//! span, a panic's end); `graphql_http` and `graphql_ws` speak the two transports to the letter of
//! GraphQL-over-HTTP and graphql-transport-ws; both run operations through `operation`, and what is
//! too much is refused by `overload`.
//!
//! What a client can meet here, beside the codes of `error::Code`:
//!
//! | HTTP | `extensions.code` | Why |
//! |---|---|---|
//! | 200 | of the document | `application/json`: also a document that was refused has 200 |
//! | 400 | of the document | `application/graphql-response+json`: the document was refused |
//! | 400 | `BAD_REQUEST` | not JSON, a batch, parameters of a wrong type, a subscription |
//! | 401 | `UNAUTHENTICATED` | the token is not valid |
//! | 403 | `FORBIDDEN` | a page of another site |
//! | 404 | `NOT_FOUND` | no such path |
//! | 405 | `METHOD_NOT_ALLOWED` | another method, or a mutation by GET; `Allow` says which |
//! | 406 | `NOT_ACCEPTABLE` | no media type of ours is accepted, or a GET names none |
//! | 408 | `REQUEST_TIMEOUT` | the body did not arrive in time |
//! | 413 | `PAYLOAD_TOO_LARGE` | the body is too long |
//! | 415 | `UNSUPPORTED_MEDIA_TYPE` | a body that says it is no JSON, as any site's form can send |
//! | 429 | `RATE_LIMITED` | the caller has asked too often (200 as above): `Retry-After` |
//! | 500 | `INTERNAL` | a fault of ours, such as a resolver's panic |
//! | 503 | `UNAVAILABLE` | too much at once, or no database: `Retry-After`, `retryAfterMs` |
//! | 504 | `TIMEOUT` | the operation took too long |
//!
//! The codes that close a WebSocket are those of `graphql_ws::protocol::Close`. Messages of the
//! transport itself are English, for those who write clients.

mod access;
mod auth;
mod body;
mod client;
mod documents;
mod envelope;
mod graphiql;
mod graphql_http;
mod graphql_ws;
mod health;
mod limits;
mod operation;
mod overload;
mod perimeter;
mod presence;
mod receipt;
mod reply;
mod server;
mod webhook;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use http::{StatusCode, header};
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;

use crate::app::App;
use crate::graphql::engine::Engine;
use documents::Documents;
use envelope::RequestId;
pub use graphiql::{Prefill, Prefiller};
pub use health::Probe;
pub use limits::Limits;
use overload::Room;
use perimeter::Perimeter;
use presence::Presence;
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
    /// Fills GraphiQL in; without it the page is for platform admins only.
    pub graphiql: Option<Prefiller>,
    /// The services that health reports, in their order.
    pub probes: Vec<Probe>,
}

/// What every handler shares.
#[derive(Clone)]
struct Shared(Arc<Inner>);

struct Inner {
    app: App,
    engine: Engine,
    limits: Limits,
    room: Room,
    perimeter: Perimeter,
    documents: Documents,
    presence: Arc<Presence>,
    printing: receipt::Printing,
    graphiql: Option<Prefiller>,
    health: health::Health,
    is_draining: AtomicBool,
}

impl Shared {
    fn new(setup: Setup) -> Self {
        Self(Arc::new(Inner {
            health: health::Health::new(setup.app.clone(), setup.probes),
            documents: Documents::new(&setup.app),
            app: setup.app,
            engine: setup.engine,
            room: Room::new(&setup.limits),
            perimeter: Perimeter::default(),
            presence: Arc::default(),
            printing: receipt::Printing::default(),
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

    /// What runs here, against its bounds.
    fn room(&self) -> &Room {
        &self.0.room
    }

    /// The sites whose pages may come.
    fn perimeter(&self) -> &Perimeter {
        &self.0.perimeter
    }

    /// Which documents callers may run.
    fn documents(&self) -> &Documents {
        &self.0.documents
    }

    /// The drawing of receipts.
    fn printing(&self) -> &receipt::Printing {
        &self.0.printing
    }

    /// Who has sockets open here.
    fn presence(&self) -> &Arc<Presence> {
        &self.0.presence
    }

    /// Where the forms of our small pages may lead, as a policy says it: a person's way goes on to
    /// the site that they came from.
    fn targets(&self) -> &'static str {
        if self.app().config.is_production() {
            "https:"
        } else {
            "https: http://localhost:* http://127.0.0.1:*"
        }
    }

    /// Starts what follows the database beside requests.
    async fn follow(&self) {
        self.perimeter().load(self.app()).await;
        let tasks = &self.app().tasks;
        let shared = self.clone();
        tasks.spawn(async move { shared.perimeter().follow(shared.app()).await });
        let shared = self.clone();
        tasks.spawn(async move { shared.presence().listen(shared.app()).await });
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

/// Shorter answers are not compressed: they fit into one packet either way.
const ANSWER_BYTES_MIN: u64 = 1024;

/// All routes.
fn router(shared: &Shared) -> Router {
    let mut routes = Router::new()
        .merge(auth::routes())
        .route("/", get(front))
        .route("/graphql", any(graphql_http::answer))
        .route("/graphiql", get(graphiql::page))
        .route("/graphiql/assets/{name}", get(graphiql::asset))
        .route("/receipt", get(receipt::download))
        .route("/webhook/stripe", post(webhook::stripe))
        .route("/health", get(health::report))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready));
    if shared.app().config.public_url.starts_with("https:") {
        routes = routes.layer(from_fn(envelope::stay_secure));
    }
    routes
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .with_state(shared.clone())
        .layer(from_fn(envelope::wrap))
        // A handshake's 101 has no body, so the size alone keeps it out.
        .layer(CompressionLayer::new().compress_when(SizeAbove::new(ANSWER_BYTES_MIN)))
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
