//! Every document made to harm is refused with a code, over both transports, and whoever asks
//! next is answered.

mod cases;
mod clients;
mod documents;

use std::time::Duration;

use async_graphql::Variables;
use musubi::graphql::guard::{CostTable, Limits, Weight, check};
use musubi::graphql::schema;
use serde_json::{Value, json};

use crate::support::TestServer;
use cases::{Case, cases};
use clients::{Seen, Socket, post};

/// Errors in one answer at most.
const ERRORS_MAX: usize = 20;
/// Bytes of a WebSocket's message at most.
const MESSAGE_BYTES: usize = 64 * 1024;

/// The code that a client meets.
fn code(met: &str) -> &'static str {
    match met {
        "SYNTAX" => "GRAPHQL_PARSE_FAILED",
        "MALFORMED" => "BAD_REQUEST",
        "INVALID_VARIABLE" => "BAD_USER_INPUT",
        "OPERATION_NOT_FOUND" | "OPERATION_NAME_REQUIRED" => "OPERATION_RESOLUTION_FAILURE",
        "PASSES"
        | "TOO_MANY_ERRORS"
        | "FRAGMENT_CYCLE"
        | "FIELD_CONFLICT"
        | "SUBSCRIPTION_ROOT_FIELDS"
        | "INVALID_VALUE" => "GRAPHQL_VALIDATION_FAILED",
        _ => "DOCUMENT_TOO_COMPLEX",
    }
}

/// Values that a body may hold.
const BODY_VALUES: usize = 20_000;

fn payload(case: &Case) -> String {
    let Case { query, operation, variables, .. } = case;
    let (query, operation) = (json!(query), json!(operation));
    format!(r#"{{"query":{query},"operationName":{operation},"variables":{variables}}}"#)
}

/// Coded errors, not too many, without `data` and without the number of any limit.
#[track_caller]
fn assert_refused(case: &Case, errors: &Value) {
    let errors = errors.as_array().unwrap_or_else(|| panic!("{}: no errors", case.name));
    assert!((1..=ERRORS_MAX).contains(&errors.len()), "{}: {} errors", case.name, errors.len());
    for error in errors {
        assert_eq!(error["extensions"]["code"], code(case.met), "{}: {error}", case.name);
        let message = error["message"].as_str().unwrap();
        assert!(message.chars().count() < 3_000, "{}: {message}", case.name);
        let limits = ["32", "30", "20", "50", "4000", "5000", "2000", "10000", "20000", "255"];
        let words = message.split(|letter: char| !letter.is_alphanumeric());
        let told: Vec<&str> = words.filter(|word| limits.contains(word)).collect();
        assert!(told.is_empty(), "{}: {message}", case.name);
    }
}

fn judged(case: &Case, table: &CostTable) -> Result<Weight, &'static str> {
    let Ok(json) = serde_json::from_str::<Value>(&case.variables) else { return Err("MALFORMED") };
    let variables = Variables::from_json(json);
    let operation = case.operation.as_deref();
    let checked = check(&case.query, operation, &variables, table, &Limits::default());
    checked.map(|(_, weight)| weight).map_err(|refusal| refusal.kind())
}

#[test]
fn the_guard_meets_each_hostile_document_as_foretold() {
    let table = CostTable::from_sdl(&schema::sdl()).unwrap();
    for case in cases() {
        let expected = if case.met == "RUNS" { "PASSES" } else { case.met };
        let met = judged(&case, &table).map_or_else(|kind| kind, |_| "PASSES");
        assert_eq!(met, expected, "{}", case.name);
    }
}

#[test]
fn whatever_passes_the_guard_was_seen_in_a_bounded_number_of_steps() {
    let table = CostTable::from_sdl(&schema::sdl()).unwrap();
    let limits = Limits::default();
    for case in cases() {
        let Ok(weight) = judged(&case, &table) else { continue };
        assert!(weight.visited <= limits.tokens, "{}: {weight:?}", case.name);
        assert!(weight.compared <= limits.comparisons, "{}: {weight:?}", case.name);
    }
}

async fn assert_alive(server: &TestServer, after: &str) {
    let answer = post(server, r#"{"query":"{__typename}"}"#).await;
    assert_eq!(answer["data"]["__typename"], "Query", "after {after}");
}

#[tokio::test]
async fn hostile_documents_are_refused_over_http_and_neighbours_are_answered() {
    let server = TestServer::start().await;
    for case in cases() {
        let answer = post(&server, payload(&case)).await;
        if case.variables.matches(',').count() > BODY_VALUES {
            // Refused by the transport, before the JSON is read.
            assert_eq!(answer["errors"][0]["extensions"]["code"], "BAD_REQUEST", "{}", case.name);
        } else if case.met == "RUNS" {
            assert!(answer.get("data").is_some(), "{}: {answer}", case.name);
        } else {
            assert!(answer.get("data").is_none(), "{}: {answer}", case.name);
            assert_refused(&case, &answer["errors"]);
        }
        assert_alive(&server, case.name).await;
    }
}

#[tokio::test]
async fn hostile_documents_are_refused_over_websocket_and_neighbours_are_answered() {
    let server = TestServer::start().await;
    let mut neighbour = Socket::open(&server).await;
    for case in cases() {
        let message = format!(r#"{{"type":"subscribe","id":"1","payload":{}}}"#, payload(&case));
        let mut client = Socket::open(&server).await;
        client.send(message.clone()).await;
        match client.see().await {
            Seen::Closed(1009) => assert!(message.len() > MESSAGE_BYTES, "{}", case.name),
            Seen::Closed(4400) => assert_eq!(case.met, "MALFORMED", "{}", case.name),
            Seen::Message(answer) if case.met == "RUNS" => {
                assert_eq!(answer["type"], "next", "{}: {answer}", case.name);
            }
            Seen::Message(answer) => {
                assert_eq!(answer["type"], "error", "{}: {answer}", case.name);
                assert_refused(&case, &answer["payload"]);
            }
            other => panic!("{}: {other:?}", case.name),
        }
        neighbour.send(r#"{"type":"ping"}"#).await;
        neighbour.expect("pong").await;
    }
    assert_alive(&server, "all of them").await;
}

/// Bodies that are no calls at all.
fn envelopes() -> Vec<(&'static str, Vec<u8>)> {
    let deep =
        |open: &str, close: &str| format!("{}1{}", open.repeat(50_000), close.repeat(50_000));
    let text = |text: String| text.into_bytes();
    vec![
        ("bad UTF-8", b"{\"query\":\"{ __typename } # \xff\xfe\"}".to_vec()),
        ("an overlong zero", b"{\"query\":\"{ \xc0\x80 }\"}".to_vec()),
        ("half a surrogate in bytes", b"{\"query\":\"{ \xed\xa0\x80 }\"}".to_vec()),
        ("half a surrogate", text(r#"{"query":"{ \ud800 }"}"#.to_owned())),
        ("a raw line end", b"{\"query\":\"{\n}\"}".to_vec()),
        ("a zero byte", b"{\"query\":\0}".to_vec()),
        ("deep lists", text(deep("[", "]"))),
        ("deep objects", text(deep("{\"a\":", "}"))),
        (
            "deep extensions",
            text(format!(r#"{{"query":"{{a}}","extensions":{}}}"#, deep("[", "]"))),
        ),
        ("deep unknown members", text(format!(r#"{{"query":"{{a}}","x":{}}}"#, deep("[", "]")))),
        ("lists that stay open", text("[".repeat(500_000))),
        ("a batch", text(format!("[{}]", vec![r#"{"query":"{a}"}"#; 1_000].join(",")))),
        ("an endless number", text(format!(r#"{{"query":{}}}"#, "9".repeat(100_000)))),
        ("no number", text(r#"{"query":"{a}","variables":{"v":NaN}}"#.to_owned())),
        ("two values", text(r#"{"query":"{a}"}{"query":"{a}"}"#.to_owned())),
    ]
}

#[tokio::test]
async fn hostile_envelopes_are_refused_over_http_and_close_a_websocket() {
    let server = TestServer::start().await;
    for (name, body) in envelopes() {
        let answer = post(&server, body.clone()).await;
        assert_eq!(answer["errors"][0]["extensions"]["code"], "BAD_REQUEST", "{name}: {answer}");
        assert_eq!(answer["errors"].as_array().unwrap().len(), 1, "{name}");
        assert_alive(&server, name).await;
        // A WebSocket's text is UTF-8 or nothing.
        let Ok(payload) = String::from_utf8(body) else { continue };
        let mut client = Socket::open(&server).await;
        let message = format!(r#"{{"type":"subscribe","id":"1","payload":{payload}}}"#);
        client.send(message.clone()).await;
        let expected = if message.len() > MESSAGE_BYTES { 1009 } else { 4400 };
        let seen = client.see().await;
        assert!(matches!(&seen, Seen::Closed(code) if *code == expected), "{name}: {seen:?}");
    }
    assert_alive(&server, "all of them").await;
}

#[tokio::test]
async fn many_hostile_documents_at_once_keep_nobody_waiting_for_long() {
    let server = TestServer::start().await;
    let bodies: Vec<String> = cases().iter().map(payload).collect();
    let flood =
        futures_util::future::join_all(bodies.iter().map(|body| post(&server, body.as_str())));
    let alive = async {
        for _ in 0..5 {
            assert_alive(&server, "the flood").await;
        }
    };
    let both = futures_util::future::join(flood, alive);
    tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
}
