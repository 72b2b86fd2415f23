//! AI calls: what runs was paid for, what fails costs nothing it should not.

mod cancel;
mod events;
mod failures;
mod history;
mod keys;
mod leaving;
mod shrink;
mod statements;
mod sweep;
mod turns;
mod validation;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use musubi::ai::input::Parameters;
use musubi::ai::pricing;
use musubi::ai::service::reserve::{Answer, Request, reserve};
use musubi::ai::service::run::Job;
use musubi::app::{App, External};
use musubi::crypto::Place;
use musubi::entity::execution::{self, ExecutionStatus};
use musubi::entity::function_price::AiFunctionType;
use musubi::entity::{alert, credit_hold};
use musubi::external::models::{
    ChatEvent, ChatModel, ChatRequest, FinishReason, ModelFailure, Usage,
};
use musubi::idempotency::Key;
use musubi::ids::{ExecutionId, TypedId};
use rust_decimal::Decimal;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::model_server::ModelServer;
use crate::support::people::{Hotel, Person};
use crate::support::{Setting, TestApp};

/// All that a test looks at of an execution.
macro_rules! with_execution {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " id status maxTokens requestedMaxTokens idempotencyKey user { id }
              result { output } failure { code message retryable }
              charge { creditsHeld creditsUsed billableUnits usageSource transactionId } ",
            $after
        )
    };
}

pub(crate) const START: &str = with_execution!(
    "mutation ($input: AiExecuteInput!) { aiExecutionStart(input: $input) { execution {",
    "} balance { current held available version }
     userErrors { code field message ... on InsufficientCredits { needed available held } } } }"
);
const CANCEL: &str = with_execution!(
    "mutation ($id: ID!) { aiExecutionCancel(id: $id) { execution {",
    "} balance { current held } userErrors { code field } } }"
);
const BY_ID: &str = with_execution!("query ($id: ID!) { aiExecution(id: $id) {", "} }");
const BY_KEY: &str = with_execution!(
    "query ($key: String!) {
       aiExecutions(where: { idempotencyKey: { eq: $key } }) { totalCount nodes {",
    "} } }"
);

/// A test that waits longer than this is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Waits, but not for ever.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it did not come in time")
}

/// Looks again until something is so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let looking = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// A call of CHATBOT.
pub(crate) fn call(parameters: Value, key: &str) -> Value {
    json!({ "functionType": "CHATBOT", "parameters": parameters, "idempotencyKey": key })
}

/// A short call of CHATBOT: two credits.
pub(crate) fn short(text: &str, key: &str) -> Value {
    call(json!({ "input": text, "maxTokens": 50 }), key)
}

impl Person {
    /// `aiExecutionStart`; answers the payload.
    pub(crate) async fn starts(&self, input: Value) -> Value {
        self.gets(START, json!({ "input": input })).await["aiExecutionStart"].clone()
    }

    /// Starts a short call that must be let in; answers the id.
    pub(crate) async fn starts_one(&self, key: &str) -> String {
        let payload = self.starts(short("When is breakfast?", key)).await;
        assert_eq!(payload["userErrors"], json!([]), "{payload}");
        payload["execution"]["id"].as_str().unwrap().to_owned()
    }

    async fn cancels(&self, id: &str) -> Value {
        self.gets(CANCEL, json!({ "id": id })).await["aiExecutionCancel"].clone()
    }

    pub(crate) async fn execution(&self, id: &str) -> Value {
        self.gets(BY_ID, json!({ "id": id })).await["aiExecution"].clone()
    }

    async fn executions_of_key(&self, key: &str) -> Value {
        self.gets(BY_KEY, json!({ "key": key })).await["aiExecutions"].clone()
    }

    pub(crate) async fn sees_end_of(&self, id: &str) -> Value {
        until("the execution ends", async || self.execution(id).await["status"] != "RUNNING").await;
        self.execution(id).await
    }
}

/// The code of the first top-level error.
pub(crate) fn error_code(reply: &Value) -> &str {
    reply["errors"][0]["extensions"]["code"].as_str().unwrap_or("none")
}

/// Rows of a table that a test counts or reads.
pub(crate) async fn holds(app: &App) -> Vec<credit_hold::Model> {
    credit_hold::Entity::find().all(app.db.primary()).await.unwrap()
}

pub(crate) async fn executions(app: &App) -> Vec<execution::Model> {
    execution::Entity::find().all(app.db.primary()).await.unwrap()
}

async fn hold_of(app: &App, id: &str) -> credit_hold::Model {
    let id = ExecutionId::parse(id).unwrap();
    let hold = credit_hold::Entity::find().filter(credit_hold::Column::ExecutionId.eq(id));
    hold.one(app.db.primary()).await.unwrap().unwrap()
}

async fn alerts(app: &App, kind: &str) -> Vec<alert::Model> {
    let alerts = alert::Entity::find().filter(alert::Column::Kind.eq(kind));
    alerts.all(app.db.primary()).await.unwrap()
}

/// A model that writes its pieces, tells that they were taken, and ends when it is let.
#[derive(Clone)]
pub(crate) struct Gated(Arc<Gate>);

struct Gate {
    pieces: Vec<String>,
    reached: watch::Sender<usize>,
    open: watch::Sender<bool>,
}

impl Gated {
    pub(crate) fn after(pieces: &[&str]) -> Self {
        Self(Arc::new(Gate {
            pieces: pieces.iter().map(|piece| (*piece).to_owned()).collect(),
            reached: watch::Sender::new(0),
            open: watch::Sender::new(false),
        }))
    }

    /// Waits until so many calls have taken all their pieces.
    pub(crate) async fn reached(&self, calls: usize) {
        let mut reached = self.0.reached.subscribe();
        within(reached.wait_for(|reached| *reached >= calls)).await.unwrap();
    }

    fn calls(&self) -> usize {
        *self.0.reached.borrow()
    }

    pub(crate) fn open(&self) {
        self.0.open.send_replace(true);
    }

    /// A node of its own whose model this is.
    pub(crate) async fn node(&self, app: &TestApp) -> App {
        let config = app.app.config.as_ref().clone();
        let external = External { models: Arc::new(self.clone()), ..app.external() };
        App::start(config, app.clock.clone(), external).await.unwrap()
    }
}

impl ChatModel for Gated {
    fn provider(&self) -> &'static str {
        "gated"
    }

    fn chat(&self, _: ChatRequest) -> BoxStream<'static, Result<ChatEvent, ModelFailure>> {
        let pieces: Vec<_> =
            self.0.pieces.iter().map(|piece| Ok(ChatEvent::Text(piece.clone()))).collect();
        let gate = Arc::clone(&self.0);
        let end = stream::once(async move {
            gate.reached.send_modify(|reached| *reached += 1);
            let mut open = gate.open.subscribe();
            let _ = open.wait_for(|is_open| *is_open).await;
            Ok(ChatEvent::Usage(Usage { input_tokens: 12, output_tokens: 34 }))
        });
        let finish = stream::once(async { Ok(ChatEvent::Finished(FinishReason::Stop)) });
        stream::iter(pieces).chain(end).chain(finish).boxed()
    }
}

/// What `aiExecute` of a short call would reserve.
pub(crate) async fn request(app: &App, hotel: &Hotel, key: &str) -> (Request, Job) {
    let price = pricing::in_force(app, AiFunctionType::Chatbot, None).await.unwrap();
    let account = hotel.account().await;
    let (id, now) = (ExecutionId::new(), app.clock.db_now());
    let parameters = Parameters {
        input: "When is breakfast?".to_owned(),
        context: None,
        temperature: Decimal::ONE,
        options: Map::new(),
    };
    let place = Place { table: "ai_executions", column: "parameters", row: id.0 };
    let text = serde_json::to_string(&parameters).unwrap();
    let row = execution::Model {
        id,
        tenant_id: hotel.id,
        account_id: account.id,
        user_id: hotel.user.id,
        requested_by: hotel.user.id,
        api_key_id: None,
        idempotency_key: key.to_owned(),
        function_type: AiFunctionType::Chatbot,
        model: price.model.clone(),
        provider: "test".to_owned(),
        price_id: price.id,
        status: ExecutionStatus::Running,
        parameters: Some(app.crypto.seal(place, &text).unwrap()),
        result: None,
        max_tokens: 50,
        requested_max_tokens: 50,
        estimated_tokens: 24,
        input_tokens: None,
        output_tokens: None,
        usage_source: None,
        credits_held: 0,
        credits_used: 0,
        credits_refunded: 0,
        shortfall: 0,
        total_cost_yen: None,
        transaction_id: None,
        failure_code: None,
        prompt_digest: 0,
        anomaly_score: 0,
        anomaly_signals: json!([]),
        cancel_requested_at: None,
        execution_time_ms: None,
        created_at: now,
        finished_at: None,
    };
    let body = json!([key]);
    let whose = (hotel.id, hotel.user.id.0);
    let key = Key::new(&app.crypto, whose, "aiExecute", (key, &body), id.0).unwrap();
    let request = Request {
        execution: row.clone(),
        key,
        tags: Vec::new(),
        options: pricing::hold_options(&price, 24, 50),
        lease: chrono::TimeDelta::from_std(app.config.hold_lease).unwrap(),
    };
    let hold = musubi::ids::HoldId::new();
    let (price, parameters) = (Arc::new(price), Arc::new(parameters));
    (request, Job { execution: row, hold, price, parameters })
}

/// Reserves for a process that dies before it runs anything.
pub(crate) async fn reserve_one(app: &App, hotel: &Hotel, key: &str) -> Job {
    let (request, job) = request(app, hotel, key).await;
    let mut txn = app.db.begin().await.unwrap();
    let answers = reserve(&mut txn, &[request], app.clock.db_now()).await.unwrap();
    txn.commit().await.unwrap();
    match answers.into_iter().next() {
        Some(Answer::Reserved(execution, hold)) => Job { execution: *execution, hold, ..job },
        other => panic!("not reserved: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_calls_at_once_on_credits_for_a_hundred_and_fifty_run_a_hundred_and_fifty() {
    let server = ModelServer::start().await;
    let app = Setting::default().model_server(&server).start().await;
    let hotel = app.hotel().await.with_credits(300).await;

    let mut calls = JoinSet::new();
    for number in 0..1_000 {
        let person = if number % 2 == 0 { hotel.user.clone() } else { hotel.admin.clone() };
        calls.spawn(async move { person.executes("When?", &format!("thousand-{number}")).await });
    }
    let payloads = within(calls.join_all()).await;

    let (ran, refused): (Vec<_>, Vec<_>) =
        payloads.iter().partition(|payload| payload["userErrors"] == json!([]));
    assert_eq!((ran.len(), refused.len()), (150, 850));
    for payload in ran {
        let execution = &payload["execution"];
        assert_eq!(execution["status"], "SUCCEEDED", "{payload}");
        assert_eq!(execution["charge"]["creditsHeld"], 2);
        assert_eq!(execution["charge"]["creditsUsed"], 2);
    }
    for payload in refused {
        let error = &payload["userErrors"][0];
        assert_eq!(error["code"], "INSUFFICIENT_CREDITS", "{payload}");
        assert_eq!((&error["needed"], &error["available"]), (&json!(2), &json!(0)), "{payload}");
        let held = error["held"].as_i64().unwrap();
        assert!((0..=300).contains(&held) && held % 2 == 0, "{payload}");
        assert!(payload["execution"].is_null());
    }
    assert_eq!(server.calls(), 150);
    assert_eq!(hotel.balance().await, (0, 0));
    assert_eq!((executions(&app.app).await.len(), holds(&app.app).await.len()), (150, 150));
    assert!(app.drifts().await.is_empty(), "{:?}", app.drifts().await);
}

#[tokio::test]
async fn a_call_says_what_it_needs_what_is_there_and_what_others_hold() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(3).await;
    let gate = Gated::after(&[]);
    let node = gate.node(&app).await;

    hotel.user.on(&node).starts_one("holder-1").await;
    let payload = hotel.user.executes("When?", "refused-1").await;

    let error = &payload["userErrors"][0];
    assert_eq!(error["code"], "INSUFFICIENT_CREDITS");
    let numbers = ["needed", "available", "held"].map(|name| error[name].as_i64().unwrap());
    assert_eq!(numbers, [2, 1, 2], "{payload}");
    gate.open();
}

#[tokio::test]
async fn a_model_without_a_price_to_pay_runs_on_an_empty_account() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    failures::set_price(&app, json!({ "baseCredits": 0 })).await;

    let payload = hotel.user.executes("When?", "for-nothing").await;

    assert_eq!(payload["execution"]["status"], "SUCCEEDED", "{payload}");
    assert_eq!(payload["execution"]["charge"]["creditsUsed"], 0);
    assert_eq!(hotel.balance().await, (0, 0));
    assert!(app.drifts().await.is_empty(), "{:?}", app.drifts().await);
}

#[tokio::test]
async fn executions_charge_by_the_price_that_they_were_held_at() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(100).await;
    let gate = Gated::after(&["Seven."]);
    let node = gate.node(&app).await;
    let id = hotel.user.on(&node).starts_one("old-price").await;

    failures::set_price(&app, json!({ "baseCredits": 9 })).await;
    gate.open();

    let charge = hotel.user.sees_end_of(&id).await["charge"].clone();
    assert_eq!((&charge["creditsHeld"], &charge["creditsUsed"]), (&json!(2), &json!(2)));
    let next = hotel.user.executes("When?", "new-price").await;
    assert_eq!(next["execution"]["charge"]["creditsUsed"], 9, "{next}");
    assert!(app.drifts().await.is_empty());
}
