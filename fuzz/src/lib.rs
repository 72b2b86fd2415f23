//! The guard of documents, before the library's own validation, for fuzzers and measurements.
//!
//! The guard is compiled from the program's own files, so that a build takes seconds and not all
//! of the program. What stands behind it is a schema of the same types whose fields are all null.

pub mod double;
pub mod grammar;
#[path = "../../src/graphql/guard/mod.rs"]
pub mod guard;

use std::sync::LazyLock;

use async_graphql::parser::types::OperationType;
use async_graphql::{Request, Response, Variables, dynamic};
use futures_executor::{block_on, block_on_stream};

use guard::{CostTable, Limits, Refusal, Weight};

/// The committed schema.
pub const SDL: &str = include_str!("../../schema.graphql");

/// The program's own judgement.
pub struct Gate {
    pub table: CostTable,
    pub limits: Limits,
    pub schema: dynamic::Schema,
}

/// One for the process.
pub static GATE: LazyLock<Gate> = LazyLock::new(|| {
    let table = CostTable::from_sdl(SDL).expect("the committed schema parses");
    Gate { table, limits: Limits::default(), schema: double::schema(SDL) }
});

/// How a call was met.
pub enum Met {
    Refused(Refusal),
    Answered(Weight, Box<Response>),
}

/// Guards, validates and runs a document, as the engine does.
pub fn meet(gate: &Gate, text: &str, name: Option<&str>, variables: Variables) -> Met {
    let checked = guard::check(text, name, &variables, &gate.table, &gate.limits);
    let (document, weight) = match checked {
        Ok(checked) => checked,
        Err(refusal) => return Met::Refused(refusal),
    };
    let mut request = Request::new(text).variables(variables);
    if let Some(name) = name {
        request = request.operation_name(name);
    }
    request.set_parsed_query(document);
    let response = match weight.kind {
        OperationType::Subscription => block_on_stream(gate.schema.execute_stream(request)).next(),
        OperationType::Query | OperationType::Mutation => {
            Some(block_on(gate.schema.execute(request)))
        }
    };
    Met::Answered(weight, Box::new(response.unwrap_or_default()))
}

/// What must hold of every call; panics otherwise. A call is a document, then, each behind a zero
/// byte, its variables as JSON and the operation to run; both may be missing.
pub fn hold(call: &str) {
    let gate = &*GATE;
    let mut parts = call.split('\0');
    let text = parts.next().unwrap_or_default();
    let json = parts.next().and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    let name = parts.next();
    let variables = Variables::from_json(json);
    match meet(gate, text, name, variables) {
        Met::Refused(refusal) => {
            let said = refusal.to_string();
            assert!(said.chars().count() <= 2_500, "a long refusal: {said}");
        }
        Met::Answered(weight, response) => {
            assert!(weight.visited <= gate.limits.tokens, "visited {}", weight.visited);
            assert!(weight.compared <= gate.limits.comparisons, "compared {}", weight.compared);
            assert!(weight.selections <= gate.limits.selections);
            let many = gate.limits.tokens + gate.limits.literals;
            assert!(response.errors.len() <= many, "{} errors", response.errors.len());
            for error in &response.errors {
                assert!(!error.message.contains("recursion depth"), "{}", error.message);
            }
            let document = guard::Document::read(text, &gate.limits);
            let none = Variables::default();
            if let (Ok(document), true) = (document, name.is_none()) {
                let weigh = || document.weigh(None, &none, &gate.table, &gate.limits);
                assert_eq!(weigh(), weigh(), "a second look sees something else");
            }
        }
    }
}
