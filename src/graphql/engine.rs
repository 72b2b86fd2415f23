//! Runs documents for both transports: guard, then execution, then error codes.

use std::sync::Arc;

use async_graphql::parser::types::OperationType;
use async_graphql::{
    ObjectType, Request, Response, Schema, ServerError, SubscriptionType, Value, Variables,
};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::actor::Permission;
use crate::graphql::caller::Caller;
use crate::graphql::guard::{CostTable, Document, Limits, Refusal, Weight};
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

/// A call as the client sent it.
#[derive(Debug)]
pub struct Call {
    /// The document.
    pub query: String,
    /// The operation to run, when the document has several.
    pub operation_name: Option<String>,
    /// Values for its variables.
    pub variables: Variables,
    /// What the client sent beside; nothing reads it today.
    pub extensions: serde_json::Map<String, serde_json::Value>,
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
    parts: Box<Parts>,
}

struct Parts {
    request: Request,
    caller: Caller,
    cost: usize,
    /// The document to remember when it turns out to be sound.
    fresh: Option<(Box<str>, Arc<Document>)>,
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
        Ok(Self(Arc::new(Inner { schema, table, limits, admin_limits, known })))
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
            .and_then(|document| Ok((inner.weigh(&document, &call, limits)?, document)));
        let (weight, document) = match judged {
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
        let fresh = is_worth_it.then(|| (call.query.into_boxed_str(), document));
        let parts = Box::new(Parts { request, caller, cost: weight.cost, fresh });
        Prepared::Ready(ReadyOperation { kind: kind_of(&weight), parts })
    }

    /// Runs a query or a mutation.
    pub async fn execute(&self, ready: ReadyOperation) -> Executed {
        let Parts { request, caller, cost, fresh } = *ready.parts;
        let response = self.0.schema.execute(request).await;
        let is_request_error = is_request_error(&response);
        let mut response = finish(response, &caller);
        if !is_request_error {
            response = response.extension("cost", Value::from(cost));
            if let Some((text, document)) = fresh {
                self.0.known.insert(text, document);
            }
        }
        Executed { response, is_request_error }
    }

    /// Runs a subscription. A document that fails validation comes as a single answer without data.
    pub fn stream(&self, ready: ReadyOperation) -> BoxStream<'static, Response> {
        let Parts { request, caller, .. } = *ready.parts;
        let responses = self.0.schema.stream(request);
        responses.map(move |response| finish(response, &caller)).boxed()
    }
}

impl Inner {
    fn weigh(&self, document: &Document, call: &Call, limits: &Limits) -> Result<Weight, Refusal> {
        document.weigh(call.operation_name.as_deref(), &call.variables, &self.table, limits)
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
            set_code(error, "GRAPHQL_VALIDATION_FAILED", &caller.request_id);
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
    set_code(&mut error, code, &caller.request_id);
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
