//! Runs documents for both transports: guard, then execution, then error codes.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use async_graphql::parser::types::OperationType;
use async_graphql::{
    ObjectType, Request, Response, Schema, ServerError, SubscriptionType, Value, Variables,
};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;

use crate::actor::Permission;
use crate::graphql::caller::Caller;
use crate::graphql::guard::{CostTable, Document, Limits, Refusal, Weight};
use crate::graphql::live::{Fact, Handover, Moment, Source, Told};
use crate::graphql::loader;
use crate::graphql::schema;

/// Errors in one response at most.
const ERRORS_MAX: usize = 20;
/// A longer document is parsed each time; clients that matter send short ones.
const KNOWN_TEXT_MAX: usize = 16 * 1024;
/// What known documents may take together in memory, in bytes.
const KNOWN_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Documents that the first allocation has room for.
const KNOWN_USUAL: usize = 1_000;
/// Memory of a parsed document for each of its tokens, in bytes; a field is one token or more.
const BYTES_PER_TOKEN: usize = 256;
/// What answers to events may take together in memory, in bytes, while subscribers come for them.
const EVENTS_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Memory of an answer for each of its document's tokens, in bytes, with its text.
const EVENT_BYTES_PER_TOKEN: usize = 512;

/// The schema with its limits. Clones share it.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

/// What runs documents that the guard let through: our schema, or one that a test made.
pub trait Runner: Send + Sync + 'static {
    /// The schema as text.
    fn sdl(&self) -> String;
    /// Runs a query or a mutation.
    fn execute(&self, request: Request) -> BoxFuture<'_, Response>;
    /// Runs a subscription.
    fn stream(&self, request: Request) -> BoxStream<'static, Response>;
}

impl<Q, M, S> Runner for Schema<Q, M, S>
where
    Q: ObjectType + 'static,
    M: ObjectType + 'static,
    S: SubscriptionType + 'static,
{
    fn sdl(&self) -> String {
        Self::sdl(self)
    }

    fn execute(&self, request: Request) -> BoxFuture<'_, Response> {
        Self::execute(self, request).boxed()
    }

    fn stream(&self, request: Request) -> BoxStream<'static, Response> {
        self.execute_stream(request).boxed()
    }
}

struct Inner {
    schema: Box<dyn Runner>,
    table: CostTable,
    limits: Limits,
    admin_limits: Limits,
    known: Cache<Box<str>, Arc<Document>, Memory>,
    answers: Cache<AnswerKey, Arc<Answer>, Memory>,
    /// The turn to answer with the schema.
    introspecting: Semaphore,
}

/// Documents that ran for somebody who was signed in, by their exact text, so that they are not
/// parsed again. What was asked for twice outlives any flood of what was asked for once.
#[derive(Clone)]
struct Memory;

impl Weighter<Box<str>, Arc<Document>> for Memory {
    fn weight(&self, text: &Box<str>, document: &Arc<Document>) -> u64 {
        let bytes = text.len().saturating_add(document.tokens().saturating_mul(BYTES_PER_TOKEN));
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

/// An event of a document without variables: all that its answer depends on.
struct AnswerKey {
    document: Arc<Document>,
    operation_name: Option<Box<str>>,
    fact: Arc<dyn Fact>,
}

impl PartialEq for AnswerKey {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.document, &other.document)
            && self.operation_name == other.operation_name
            && self.fact.as_ref().is_same(other.fact.as_ref())
    }
}

impl Eq for AnswerKey {}

impl Hash for AnswerKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.document).hash(state);
        self.operation_name.hash(state);
        self.fact.as_ref().digest(state);
    }
}

impl Weighter<AnswerKey, Arc<Answer>> for Memory {
    fn weight(&self, key: &AnswerKey, _: &Arc<Answer>) -> u64 {
        let bytes = key.document.tokens().saturating_mul(EVENT_BYTES_PER_TOKEN);
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

/// What came of an event. Subscribers who get the same share it, and its text.
pub struct Answer {
    /// The answer.
    pub response: Response,
    json: OnceLock<Box<str>>,
}

impl Answer {
    fn new(response: Response) -> Arc<Self> {
        Arc::new(Self { response, json: OnceLock::new() })
    }

    /// Its text, written once.
    pub fn json(&self, write: impl FnOnce(&Response) -> String) -> &str {
        self.json.get_or_init(|| write(&self.response).into_boxed_str())
    }

    /// Whether the event failed as a whole: roots of subscriptions are not nullable.
    pub fn is_failure(&self) -> bool {
        is_request_error(&self.response)
    }
}

/// The events of a subscription.
pub struct Events(Kind);

enum Kind {
    /// The library has the source.
    Library(Box<(BoxStream<'static, Response>, Caller)>),
    /// We have it.
    Live(Box<Live>),
}

struct Live {
    source: Source,
    engine: Engine,
    document: Arc<Document>,
    operation_name: Option<Box<str>>,
    variables: Variables,
    caller: Caller,
}

impl Events {
    /// The next; none at the end.
    pub async fn next(&mut self) -> Option<Arc<Answer>> {
        match &mut self.0 {
            Kind::Library(library) => {
                let (responses, caller) = library.as_mut();
                let response = responses.next().await?;
                Some(Answer::new(finish(response, caller)))
            }
            Kind::Live(live) => {
                let told = live.source.next().await?;
                Box::pin(live.answer(told)).await
            }
        }
    }
}

impl Live {
    /// Executes an event, unless it was executed already for another subscriber.
    async fn answer(&mut self, told: Told) -> Option<Arc<Answer>> {
        let key = match &told {
            Ok(fact) if self.variables.is_empty() => AnswerKey {
                document: Arc::clone(&self.document),
                operation_name: self.operation_name.clone(),
                fact: Arc::clone(fact),
            },
            Ok(_) | Err(_) => return Some(Answer::new(self.execute(told).await?)),
        };
        if let Some(answer) = self.engine.0.answers.get(&key) {
            return Some(answer);
        }
        let response = self.execute(told).await?;
        // An error names its request.
        let is_everybodys = response.errors.is_empty();
        let answer = Answer::new(response);
        if is_everybodys {
            self.engine.0.answers.insert(key, Arc::clone(&answer));
        }
        Some(answer)
    }

    async fn execute(&mut self, told: Told) -> Option<Response> {
        let mut request =
            Request::new(String::new()).variables(self.variables.clone()).data(Moment::new(told));
        request.operation_name = self.operation_name.as_deref().map(str::to_owned);
        request.set_parsed_query(self.document.parsed().clone());
        let response = self.engine.0.schema.stream(request).next().await?;
        Some(finish(response, &self.caller))
    }
}

/// A call as the client sent it.
#[derive(Debug)]
pub struct Call {
    /// The document.
    pub query: String,
    /// The operation to run, when the document has several.
    pub operation_name: Option<String>,
    /// Values for its variables.
    pub variables: Variables,
    /// What the client sent beside.
    pub extensions: serde_json::Map<String, serde_json::Value>,
    /// The id of a registered document, when `query` is empty.
    pub document_id: Option<String>,
}

/// What kind of operation a document runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationKind {
    /// Reads.
    Query,
    /// Changes.
    Mutation,
    /// Watches.
    Subscription,
}

/// A call after the guard.
pub enum Prepared {
    /// It may run.
    Ready(ReadyOperation),
    /// It may not.
    Refused(Box<RefusedDocument>),
}

/// A call that may run.
pub struct ReadyOperation {
    /// What it does.
    pub kind: OperationKind,
    /// Root fields that it executes: aliases count, what `@skip` leaves out does not.
    pub fields: usize,
    parts: Box<Parts>,
}

struct Parts {
    request: Request,
    caller: Caller,
    cost: usize,
    /// Whether it asks for the schema.
    introspects: bool,
    document: Arc<Document>,
    /// The text to remember the document by when it turns out to be sound.
    fresh: Option<Box<str>>,
}

/// A call that was refused before it ran.
pub struct RefusedDocument {
    /// The text is no GraphQL document.
    pub is_syntax: bool,
    /// The operation to run cannot be told.
    pub is_operation_name: bool,
    /// The answer; without `data`.
    pub response: Response,
}

/// What came of a query or a mutation.
pub struct Executed {
    /// The answer.
    pub response: Response,
    /// Validation or coercion failed: no field ran, and there is no `data`.
    pub is_request_error: bool,
}

impl Engine {
    /// Runs our schema.
    pub fn new(limits: Limits) -> Result<Self, crate::error::Error> {
        Self::over(schema::build(), limits)
    }

    /// Runs a schema; reads the costs of its fields.
    pub fn over(schema: impl Runner, limits: Limits) -> Result<Self, crate::error::Error> {
        let table = CostTable::from_sdl(&schema.sdl()).map_err(crate::error::Error::broken)?;
        let admin_limits = limits.for_platform_admin();
        let known = Cache::with_weighter(KNOWN_USUAL, KNOWN_BYTES_MAX, Memory);
        let schema = Box::new(schema);
        let answers = Cache::with_weighter(KNOWN_USUAL, EVENTS_BYTES_MAX, Memory);
        let introspecting = Semaphore::new(1);
        Ok(Self(Arc::new(Inner {
            schema,
            table,
            limits,
            admin_limits,
            known,
            answers,
            introspecting,
        })))
    }

    /// What is wrong with a document by itself, whatever it is called with.
    pub fn fault_of(&self, text: &str) -> Option<String> {
        let refused = Document::read(text, &self.0.limits).err()?;
        Some(refused.to_server_error().message)
    }

    /// Documents that need not be parsed again.
    pub fn known_documents(&self) -> usize {
        self.0.known.len()
    }

    /// Judges a document. Never executes anything.
    pub fn prepare(&self, call: Call, caller: Caller) -> Prepared {
        let inner = &self.0;
        let is_admin = caller.actor.as_ref().is_some_and(|actor| actor.may(Permission::Platform));
        let limits = if is_admin { &inner.admin_limits } else { &inner.limits };
        let known = inner.known.get(call.query.as_str());
        let is_known = known.is_some();
        let judged = known
            .map_or_else(|| Document::read(&call.query, limits).map(Arc::new), Ok)
            .and_then(|document| {
                let weight = inner.weigh(&document, &call, limits)?;
                let name = call.operation_name.as_deref();
                Ok((weight, document.count_roots(name, &call.variables)?, document))
            });
        let (weight, fields, document) = match judged {
            Ok(judged) => judged,
            Err(refusal) => return Prepared::Refused(Box::new(refused(&refusal, &caller))),
        };
        // The library reads nothing but the parsed document.
        let mut request = Request::new(String::new())
            .variables(call.variables)
            .data(loader::new(&caller))
            .data(caller.clone());
        if let Some(name) = call.operation_name {
            request = request.operation_name(name);
        }
        request.set_parsed_query(document.parsed().clone());
        // Strangers use what is known and add nothing to it.
        let is_worth_it = !is_known && caller.actor.is_some() && call.query.len() <= KNOWN_TEXT_MAX;
        let fresh = is_worth_it.then(|| call.query.into_boxed_str());
        let (cost, introspects) = (weight.cost, weight.introspects);
        let parts = Box::new(Parts { request, caller, cost, introspects, document, fresh });
        Prepared::Ready(ReadyOperation { kind: kind_of(&weight), fields, parts })
    }

    /// Runs a query or a mutation.
    pub async fn execute(&self, ready: ReadyOperation) -> Executed {
        let Parts { request, caller, cost, introspects, document, fresh } = *ready.parts;
        let fresh = fresh.map(|text| (text, document));
        // The whole schema is written without a pause: one at a time leaves the other threads to
        // neighbours. Whoever asked waits no longer than their operation may take.
        let turn = if introspects { self.0.introspecting.acquire().await.ok() } else { None };
        let response = self.0.schema.execute(request).await;
        drop(turn);
        let is_request_error = is_request_error(&response);
        let mut response = finish(response, &caller);
        if !is_request_error {
            response = response.extension("cost", Value::from(cost));
            if let Some((text, document)) = fresh {
                self.0.remember(text, document);
            }
        }
        Executed { response, is_request_error }
    }

    /// Runs a subscription until its first event. A document that fails validation comes as a
    /// single answer without data.
    pub async fn subscribe(&self, ready: ReadyOperation) -> Events {
        let Parts { request, caller, document, fresh, .. } = *ready.parts;
        let operation_name = request.operation_name.as_deref().map(Box::from);
        let variables = request.variables.clone();
        let handover = Handover::default();
        let mut responses = self.0.schema.stream(request.data(handover.clone()));
        let first = responses.next().await;
        let Some(source) = handover.take() else {
            let responses = stream::iter(first).chain(responses).boxed();
            return Events(Kind::Library(Box::new((responses, caller))));
        };
        let document = match fresh {
            Some(text) => self.0.remember(text, document),
            None => document,
        };
        let engine = self.clone();
        let live = Live { source, engine, document, operation_name, variables, caller };
        Events(Kind::Live(Box::new(live)))
    }
}

impl Inner {
    fn weigh(&self, document: &Document, call: &Call, limits: &Limits) -> Result<Weight, Refusal> {
        document.weigh(call.operation_name.as_deref(), &call.variables, &self.table, limits)
    }

    /// Remembers a sound document by its text; answers the one that is known by it, so that
    /// subscribers who come at once share one.
    fn remember(&self, text: Box<str>, document: Arc<Document>) -> Arc<Document> {
        if let Some(known) = self.known.get(text.as_ref()) {
            return known;
        }
        self.known.insert(text, Arc::clone(&document));
        document
    }
}

/// All root fields are nullable, so that only a request that never ran has no data.
fn is_request_error(response: &Response) -> bool {
    response.data == Value::Null && !response.errors.is_empty()
}

/// Gives every error its code; those of the library are about the document.
fn finish(mut response: Response, caller: &Caller) -> Response {
    // The library reports every unknown field; nobody reads thousands of errors.
    response.errors.truncate(ERRORS_MAX);
    let mut response = caller.finish(response);
    for error in &mut response.errors {
        let is_coded = error.extensions.as_ref().is_some_and(|known| known.get("code").is_some());
        if !is_coded {
            set_code(error, "GRAPHQL_VALIDATION_FAILED", caller.request_id());
        }
    }
    response
}

fn refused(refusal: &Refusal, caller: &Caller) -> RefusedDocument {
    let mut error = refusal.to_server_error();
    let code = match refusal {
        Refusal::Syntax { .. } => "GRAPHQL_PARSE_FAILED",
        Refusal::OperationNotFound | Refusal::OperationNameRequired => {
            "OPERATION_RESOLUTION_FAILURE"
        }
        Refusal::InvalidVariable { .. } => "BAD_USER_INPUT",
        Refusal::FragmentCycle { .. }
        | Refusal::FieldConflict { .. }
        | Refusal::SubscriptionRootFields { .. }
        | Refusal::TooManyErrors { .. }
        | Refusal::InvalidValue { .. } => "GRAPHQL_VALIDATION_FAILED",
        Refusal::TooLarge
        | Refusal::TooManyTokens { .. }
        | Refusal::NameTooLong { .. }
        | Refusal::TooDeep { .. }
        | Refusal::TooManyDirectives { .. }
        | Refusal::TooManyAliases { .. }
        | Refusal::TooManyRootFields { .. }
        | Refusal::TooManySelections { .. }
        | Refusal::TooManyValues { .. }
        | Refusal::TooCostly { .. } => "DOCUMENT_TOO_COMPLEX",
    };
    set_code(&mut error, code, caller.request_id());
    RefusedDocument {
        is_syntax: !refusal.is_validation(),
        is_operation_name: matches!(
            refusal,
            Refusal::OperationNotFound | Refusal::OperationNameRequired
        ),
        response: Response::from_errors(vec![error]),
    }
}

fn set_code(error: &mut ServerError, code: &str, request_id: &str) {
    let extensions = error.extensions.get_or_insert_default();
    extensions.set("code", code);
    extensions.set("requestId", request_id);
}

fn kind_of(weight: &Weight) -> OperationKind {
    match weight.kind {
        OperationType::Query => OperationKind::Query,
        OperationType::Mutation => OperationKind::Mutation,
        OperationType::Subscription => OperationKind::Subscription,
    }
}
