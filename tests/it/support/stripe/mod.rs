//! A double of Stripe: a real HTTP server that speaks its protocol with its full object shapes
//! (`fixtures.json` has Stripe's own, MIT, © Stripe).
//!
//! It checks what Stripe checks: key, version, form, known fields. A write under a known key gets
//! the first answer, another body under it an error, one at the same time a 409. Events are made
//! as Stripe makes them, and delivered when, and as often as, a test says.

mod cards;
mod form;
mod intents;
mod invoices;
mod refunds;
mod subscriptions;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::hmac;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::Response;
use musubi::config::{Secret, StripeSettings};
use musubi::external::stripe::StripeOptions;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub(crate) use form::Form;

const SECRET_KEY: &str = "sk_test_double";
/// The secret that signs events; the settings have an older one before it.
pub(crate) const SIGNING_SECRET: &str = "whsec_double";

/// What the server does with a request other than answering it well.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Answers this status without doing anything; `Stripe-Should-Retry` when given.
    Status(u16, Option<bool>),
    /// Never answers, and does nothing.
    Silence,
    /// Does it, and never answers.
    SilenceAfter,
    /// Does it, and breaks the connection.
    ResetAfter,
    /// Does it, and waits until it is told to answer.
    WaitAfter,
}

/// The running server; dropping it closes its port.
pub(crate) struct StripeServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    _server: JoinSet<io::Result<()>>,
}

struct Shared {
    state: Mutex<Account>,
    requests: watch::Sender<usize>,
    /// Answers that wait are let go.
    gate: watch::Sender<bool>,
}

/// An account at Stripe.
#[derive(Default)]
struct Account {
    faults: VecDeque<(&'static str, Fault)>,
    /// Answers by key; none while the request is under way.
    keys: HashMap<String, (String, Option<(u16, Value)>)>,
    customers: BTreeMap<String, Value>,
    intents: BTreeMap<String, Value>,
    cards: BTreeMap<String, cards::Card>,
    setups: BTreeMap<String, Value>,
    /// Intents in the order of their making.
    order: Vec<String>,
    plans: subscriptions::Plans,
    events: Vec<Value>,
    papers: invoices::Papers,
    /// Refunds, oldest first.
    refunds: Vec<Value>,
    /// What its clock shows; none is some day.
    time: Option<i64>,
    requests: Vec<Asked>,
    made: usize,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) what: String,
    pub(crate) form: Form,
    pub(crate) key: Option<String>,
}

impl StripeServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            requests: watch::Sender::new(0),
            gate: watch::Sender::new(false),
        });
        let routes = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, routes).await });
        Self { address, shared, _server: server }
    }

    /// For `STRIPE_API_BASE`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How we are to ask it. Nothing is short of time unless a test wants an attempt to be.
    pub(crate) fn options(&self, attempt: Option<Duration>) -> StripeOptions {
        StripeOptions {
            attempt: attempt.unwrap_or(Duration::from_secs(60)),
            total: Duration::from_secs(180),
            pause: Duration::from_millis(20),
            ..StripeOptions::new(Secret(SECRET_KEY.to_owned()), Some(self.url()))
        }
    }

    pub(crate) fn settings(&self) -> StripeSettings {
        let secret = |text: &str| Secret(text.to_owned());
        StripeSettings {
            secret_key: Some(secret(SECRET_KEY)),
            publishable_key: Some("pk_test_double".to_owned()),
            webhook_secrets: vec![secret("whsec_older"), secret(SIGNING_SECRET)],
            api_base: Some(self.url()),
            ..StripeSettings::default()
        }
    }

    /// For a process of its own: the variables of `.env.example`.
    pub(crate) fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("STRIPE_SECRET_KEY", SECRET_KEY.to_owned()),
            ("STRIPE_PUBLISHABLE_KEY", "pk_test_double".to_owned()),
            ("STRIPE_WEBHOOK_SECRET", SIGNING_SECRET.to_owned()),
            ("STRIPE_API_BASE", self.url()),
        ]
    }

    /// Does this with the next request of a kind, such as `POST /payment_intents`.
    pub(crate) fn fails(&self, what: &'static str, fault: Fault) -> &Self {
        self.shared.state().faults.push_back((what, fault));
        self
    }

    /// Lets answers go that wait.
    pub(crate) fn open_gate(&self) {
        self.shared.gate.send_replace(true);
    }

    /// Answers that are to wait do so again.
    pub(crate) fn shut_gate(&self) {
        self.shared.gate.send_replace(false);
    }

    /// Requests of a kind so far, all attempts included.
    pub(crate) fn asked(&self, what: &str) -> Vec<Asked> {
        let state = self.shared.state();
        state.requests.iter().filter(|asked| asked.what == what).cloned().collect()
    }

    /// Waits until so many requests came.
    pub(crate) async fn wait_for_requests(&self, count: usize) {
        let mut seen = self.shared.requests.subscribe();
        let _ = seen.wait_for(|seen| *seen >= count).await;
    }

    /// Payments that were paid: what somebody's card was charged for.
    pub(crate) fn charges(&self) -> Vec<Value> {
        self.intents().into_iter().filter(|intent| intent["status"] == "succeeded").collect()
    }

    /// All payments, oldest first.
    pub(crate) fn intents(&self) -> Vec<Value> {
        let state = self.shared.state();
        state.order.iter().map(|id| state.intents[id].clone()).collect()
    }

    pub(crate) fn customers(&self) -> usize {
        self.shared.state().customers.len()
    }

    /// Events so far, oldest first.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.shared.state().events.clone()
    }

    /// The only event of a type.
    pub(crate) fn event(&self, kind: &str) -> Value {
        let mut events = self.events();
        events.retain(|event| event["type"] == kind);
        assert_eq!(events.len(), 1, "events {kind}");
        events.remove(0)
    }

    /// The buyer answers their bank, or does not.
    pub(crate) fn authenticate(&self, intent: &str, is_successful: bool) {
        self.shared.state().authenticate(intent, is_successful);
    }

    /// What Stripe's clock shows from now on.
    pub(crate) fn time_is(&self, time: chrono::DateTime<chrono::Utc>) {
        self.shared.state().time = Some(time.timestamp());
    }

    /// Changes a payment behind everybody's back.
    pub(crate) fn change(&self, intent: &str, change: impl FnOnce(&mut Value)) {
        change(self.shared.state().intents.get_mut(intent).unwrap());
    }

    /// Makes an event of an object, as it would come for one of its type.
    pub(crate) fn makes_event(&self, kind: &str, object: &Value) -> Value {
        self.shared.state().tell(kind, object.clone());
        self.events().pop().unwrap()
    }
}

/// `Stripe-Signature` for a body, signed now by the secret.
pub(crate) fn sign(body: &str, at: i64, secret: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{at}.{body}").as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    // Stripe signs with test keys of its own beside, and an old secret may still be in use.
    format!("t={at},v1={},v1={hex},v0=6ffbb59b2300aae63f272406069a9788598b792a", "0".repeat(64))
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, Account> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does what is asked to its end, as Stripe does, also when the asker is gone.
async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    tokio::spawn(answer_request(shared, method, uri, headers, body)).await.unwrap()
}

async fn answer_request(
    shared: Arc<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let form = Form::read(if method == Method::GET { uri.query() } else { None }, &body);
    let key = headers.get("idempotency-key").map(|key| key.to_str().unwrap().to_owned());
    let what = format!("{method} {}", generalise(uri.path()));
    let fault = {
        let mut state = shared.state();
        let asked = Asked { what: what.clone(), form: form.clone(), key: key.clone() };
        state.requests.push(asked);
        let at = state.faults.iter().position(|(at, _)| *at == what);
        at.and_then(|at| state.faults.remove(at)).map(|(_, fault)| fault)
    };
    shared.requests.send_modify(|count| *count += 1);
    match &fault {
        Some(Fault::Status(status, advice)) => return refused_by_fault(*status, *advice),
        Some(Fault::Silence) => std::future::pending().await,
        _ => {}
    }
    if let Some(refusal) = refuse(&method, &headers, key.as_deref()) {
        return reply(401, &refusal);
    }
    let (status, json) = match begin(&shared, key.as_deref(), (&what, &form)) {
        Some(known) => known,
        None => {
            // What goes on at the same time finds the key in use.
            tokio::task::yield_now().await;
            let done = shared.state().act(&method, uri.path(), &form);
            if let Some(key) = key {
                shared.state().keys.get_mut(&key).unwrap().1 = Some(done.clone());
            }
            done
        }
    };
    match fault {
        Some(Fault::SilenceAfter) => std::future::pending().await,
        Some(Fault::ResetAfter) => {
            let broken =
                futures_util::stream::once(async { Err::<Bytes, _>(io::Error::other("")) });
            Response::new(Body::from_stream(broken))
        }
        Some(Fault::WaitAfter) => {
            let mut gate = shared.gate.subscribe();
            let _ = gate.wait_for(|is_open| *is_open).await;
            reply(status, &json)
        }
        _ => reply(status, &json),
    }
}

/// The path without what is particular: `/payment_intents/ID`.
fn generalise(path: &str) -> String {
    let steps = path.trim_start_matches("/v1").split('/').skip(1);
    let ids =
        ["pi_", "seti_", "pm_", "cus_", "dp_", "in_", "price_", "re_", "sub_", "musubi_plan_"];
    let is_id = |step: &str| ids.iter().any(|it| step.starts_with(it));
    let steps = steps.map(|step| if is_id(step) { "ID" } else { step });
    steps.fold(String::new(), |path, step| format!("{path}/{step}"))
}

fn refuse(method: &Method, headers: &HeaderMap, key: Option<&str>) -> Option<Value> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let is_write = method == Method::POST;
    if header("authorization") != Some(&format!("Bearer {SECRET_KEY}")) {
        return Some(error("invalid_request_error", "api_key_invalid"));
    }
    assert!(header("stripe-version").is_some_and(|it| it.starts_with("20")), "no version");
    assert_eq!(key.is_some(), is_write, "a write has a key, a read has none");
    if is_write && header("content-type").is_some() {
        assert_eq!(header("content-type"), Some("application/x-www-form-urlencoded"));
    }
    None
}

/// The answer of a key that is known, or the right to make one.
fn begin(shared: &Shared, key: Option<&str>, (what, form): (&str, &Form)) -> Option<(u16, Value)> {
    let key = key?;
    let body = format!("{what} {form:?}");
    let mut state = shared.state();
    match state.keys.get(key) {
        None => {
            state.keys.insert(key.to_owned(), (body, None));
            None
        }
        Some((first, _)) if *first != body => {
            Some((400, error("idempotency_error", "idempotency_error")))
        }
        Some((_, None)) => Some((409, error("idempotency_error", "idempotency_key_in_use"))),
        Some((_, Some(answer))) => Some(answer.clone()),
    }
}

fn refused_by_fault(status: u16, advice: Option<bool>) -> Response {
    let json = error(if status == 429 { "rate_limit_error" } else { "api_error" }, "lock_timeout");
    let mut response = reply(status, &json);
    if let Some(advice) = advice {
        let advice = if advice { "true" } else { "false" };
        response.headers_mut().insert("stripe-should-retry", advice.parse().unwrap());
    }
    response
}

fn error(kind: &str, code: &str) -> Value {
    json!({ "error": { "type": kind, "code": code, "message": "The double says no.",
        "doc_url": "https://stripe.com/docs/error-codes", "request_log_url": "https://x.test" } })
}

fn reply(status: u16, json: &Value) -> Response {
    let mut response = Response::new(Body::from(serde_json::to_string_pretty(json).unwrap()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    response
}
