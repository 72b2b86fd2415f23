//! What a failure costs, over the wire.

use std::time::Duration;

use musubi::external::models::{count_tokens, estimate_input_tokens};
use musubi::external::openai::Timeouts;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{alerts, call, until, within};
use crate::support::model_server::{ANSWER, Behaviour, ModelServer};
use crate::support::people::Hotel;
use crate::support::{Setting, TestApp};

const SET_PRICE: &str = "mutation ($input: AiPriceSetInput!) { aiPriceSet(input: $input) {
    price { version rateLimitCredits } userErrors { code field } } }";

/// Gives CHATBOT's default model a new price: two credits but for what the test changes.
pub(super) async fn set_price(app: &TestApp, change: Value) {
    let root = app.platform_admin(None).await;
    let mut input = json!({
        "functionType": "CHATBOT", "model": "gpt-4o-mini", "isDefault": true, "baseCredits": 2,
    });
    for (name, value) in change.as_object().unwrap() {
        input[name] = value.clone();
    }
    let payload = root.gets(SET_PRICE, json!({ "input": input })).await["aiPriceSet"].clone();
    assert_eq!(payload["userErrors"], json!([]), "{payload}");
}

/// About 1 240 tokens: with 4 000 of output the hold is 4 credits, with a few it costs 3.
fn long_input() -> String {
    "breakfast ".repeat(1_200)
}

const LONG_HOLD: i64 = 4;
const BROKEN_CHARGE: i64 = 3;

fn patience(first_token: u64, idle: u64) -> Timeouts {
    let millis = Duration::from_millis;
    Timeouts {
        connect: millis(2_000),
        first_token: millis(first_token),
        idle: millis(idle),
        total: millis(30_000),
    }
}

fn usual() -> Timeouts {
    patience(20_000, 20_000)
}

/// What a call came to.
struct Seen {
    execution: Value,
    calls: usize,
    app: TestApp,
}

/// Runs one call of a hundred credits' hotel, which must leave the books in order.
async fn run(behaviour: Behaviour, timeouts: Timeouts, parameters: Value) -> Seen {
    let server = ModelServer::start().await;
    server.respond_by_default(behaviour);
    let app = Setting::default().model_server_with(&server, timeouts).start().await;
    let hotel = app.hotel().await.with_credits(100).await;
    let execution = settle_one(&app, &hotel, parameters).await;
    Seen { execution, calls: server.calls(), app }
}

async fn settle_one(app: &TestApp, hotel: &Hotel, parameters: Value) -> Value {
    let payload = within(hotel.user.executes_with(parameters, "failing-call")).await;
    assert_eq!(payload["userErrors"], json!([]), "a provider's failure is no user error");
    let execution = payload["execution"].clone();
    let used = execution["charge"]["creditsUsed"].as_i64().unwrap();
    assert_eq!(hotel.balance().await, (100 - used, 0), "{execution}");
    assert_eq!(payload["balance"]["held"], 0);
    assert_eq!(payload["balance"]["current"], 100 - used);
    assert_eq!(app.drifts().await, [""; 0]);
    execution
}

fn long_call() -> Value {
    json!({ "input": long_input(), "maxTokens": 4_000 })
}

fn assert_failed(seen: &Seen, code: &str, is_retryable: bool, charge: i64, about: &str) {
    let execution = &seen.execution;
    let failure = &execution["failure"];
    assert_eq!(execution["status"], "FAILED", "{about}: {execution}");
    assert_eq!(failure["code"], code, "{about}: {execution}");
    assert_eq!(failure["retryable"], is_retryable, "{about}: {execution}");
    assert!(!failure["message"].as_str().unwrap().is_empty());
    assert_eq!(execution["charge"]["creditsHeld"], LONG_HOLD, "{about}");
    assert_eq!(execution["charge"]["creditsUsed"], charge, "{about}: {execution}");
    assert_eq!(execution["charge"]["transactionId"].is_null(), charge == 0, "{about}");
}

#[tokio::test]
async fn what_fails_before_a_word_came_costs_nothing_but_a_rate_limit_one_credit() {
    let quota = json!({ "error": { "type": "insufficient_quota", "code": "insufficient_quota" } });
    let bad = json!({ "error": { "type": "invalid_request_error", "code": "model_not_found" } });
    let limit = json!({ "code": 429, "message": "slow down" });
    let numeric = |status| Behaviour::NumericError { status };
    let early = |error: &Value| Behaviour::MidStreamError { pieces: 0, error: error.clone() };
    // Behaviour, code, retryable, credits, calls.
    let cases = [
        (Behaviour::rate_limit("86400"), "PROVIDER_RATE_LIMITED", true, 1, 1),
        (Behaviour::rate_limit("0"), "PROVIDER_RATE_LIMITED", true, 1, 2),
        (numeric(429), "PROVIDER_RATE_LIMITED", true, 1, 1),
        (early(&limit), "PROVIDER_RATE_LIMITED", true, 1, 1),
        (Behaviour::status(429, &quota), "PROVIDER_QUOTA", false, 0, 1),
        (Behaviour::status(402, &json!({})), "PROVIDER_QUOTA", false, 0, 1),
        (numeric(402), "PROVIDER_QUOTA", false, 0, 1),
        (Behaviour::status(400, &bad), "PROVIDER_REJECTED", false, 0, 1),
        (Behaviour::status(401, &json!({})), "PROVIDER_REJECTED", false, 0, 1),
        (Behaviour::status(500, &json!({})), "PROVIDER_UNAVAILABLE", true, 0, 2),
        (numeric(503), "PROVIDER_UNAVAILABLE", true, 0, 2),
        (early(&json!({ "code": 502 })), "PROVIDER_UNAVAILABLE", true, 0, 1),
        (Behaviour::NonJson, "PROVIDER_UNAVAILABLE", true, 0, 1),
        (Behaviour::Cut(0), "PROVIDER_UNAVAILABLE", true, 0, 1),
        (Behaviour::EmptyAnswer, "PROVIDER_EMPTY", true, 0, 1),
    ];
    for (behaviour, code, is_retryable, charge, calls) in cases {
        let about = format!("{behaviour:?}");
        let seen = run(behaviour, usual(), long_call()).await;
        assert_failed(&seen, code, is_retryable, charge, &about);
        assert_eq!(seen.calls, calls, "{about}");
        assert!(seen.execution["result"].is_null(), "{about}");
        assert_eq!(seen.execution["charge"]["billableUnits"], 0, "{about}");
    }
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_costs_nothing() {
    let server = ModelServer::start().await;
    let address = server.base_url().replace("http://", "").replace("/v1", "");
    let setting = Setting::default().model_server_with(&server, usual());
    drop(server);
    until("the port is closed", async || TcpStream::connect(&address).await.is_err()).await;
    let app = setting.start().await;
    let hotel = app.hotel().await.with_credits(100).await;

    let execution = settle_one(&app, &hotel, long_call()).await;

    let seen = Seen { execution, calls: 0, app };
    assert_failed(&seen, "PROVIDER_UNAVAILABLE", true, 0, "refused connection");
}

#[tokio::test]
async fn a_provider_that_never_answers_costs_nothing() {
    let seen = run(Behaviour::Hang, patience(400, 400), long_call()).await;
    assert_failed(&seen, "PROVIDER_TIMEOUT", true, 0, "hang");
    assert!(seen.execution["result"].is_null());
}

#[tokio::test]
async fn what_breaks_off_costs_its_input_and_what_was_delivered() {
    let error = json!({ "type": "server_error", "code": "server_error" });
    let limit = json!({ "code": 429, "type": "rate_limit_error" });
    let cases = [
        (Behaviour::HangAfter(2), patience(20_000, 400)),
        (Behaviour::Cut(3), usual()),
        (Behaviour::Reset(2), usual()),
        (Behaviour::MidStreamError { pieces: 2, error }, usual()),
        (Behaviour::MidStreamError { pieces: 1, error: limit }, usual()),
    ];
    for (behaviour, timeouts) in cases {
        let about = format!("{behaviour:?}");
        let seen = run(behaviour, timeouts, long_call()).await;

        assert_failed(&seen, "OUTPUT_BROKEN", true, BROKEN_CHARGE, &about);
        assert_eq!(seen.execution["result"]["output"], ANSWER, "{about}");
        let charge = &seen.execution["charge"];
        let input = estimate_input_tokens("gpt-4o-mini", None, &long_input());
        assert_eq!(charge["billableUnits"], input + count_tokens(ANSWER), "{about}");
        assert_eq!(charge["usageSource"], "COUNTED", "{about}");
        assert_eq!(seen.calls, 1, "{about}");
    }
}

#[tokio::test]
async fn a_break_may_cost_less_than_a_success_of_full_length_and_the_hold_goes_back() {
    // About 520 tokens of input and 800 of output are held at 3; what came fits the first tier.
    let parameters = json!({ "input": "breakfast ".repeat(500) });
    let seen = run(Behaviour::Cut(2), usual(), parameters).await;
    let charge = &seen.execution["charge"];
    assert_eq!((&charge["creditsHeld"], &charge["creditsUsed"]), (&json!(3), &json!(2)));
}

#[tokio::test]
async fn a_success_costs_by_the_providers_count_and_by_ours_when_there_is_none() {
    let zero = Behaviour::Answer {
        text: ANSWER.to_owned(),
        usage: Some((0, 0)),
        pieces: 2,
        delay: Duration::ZERO,
    };
    let input = estimate_input_tokens("gpt-4o-mini", None, &long_input());
    let counted = input + count_tokens(ANSWER);
    let json = Behaviour::Json { text: ANSWER.to_owned(), usage: Some((1_500, 3_000)) };
    // Behaviour, who counted, tokens, credits.
    let cases = [
        (Behaviour::answer(ANSWER), "PROVIDER", 46, 2),
        (json, "PROVIDER", 4_500, 4),
        (Behaviour::OmitUsage, "COUNTED", counted, 3),
        // Zero tokens are in the first tier, not replaced by a count of ours.
        (zero, "PROVIDER", 0, 2),
    ];
    for (behaviour, source, tokens, credits) in cases {
        let about = format!("{behaviour:?}");
        let execution = run(behaviour, usual(), long_call()).await.execution;
        assert_eq!(execution["status"], "SUCCEEDED", "{about}: {execution}");
        assert!(execution["failure"].is_null(), "{about}");
        assert_eq!(execution["result"]["output"], ANSWER, "{about}");
        let charge = &execution["charge"];
        assert_eq!(charge["usageSource"], source, "{about}");
        assert_eq!(charge["billableUnits"], tokens, "{about}");
        assert_eq!(charge["creditsUsed"], credits, "{about}");
        assert!(charge["transactionId"].is_string(), "{about}");
    }
}

#[tokio::test]
async fn a_charge_above_the_hold_is_capped_and_the_operators_are_told() {
    let absurd = |output| Behaviour::Answer {
        text: ANSWER.to_owned(),
        usage: Some((12, output)),
        pieces: 2,
        delay: Duration::ZERO,
    };
    let longer = "breakfast ".repeat(3_000);
    let events = vec![
        json!({ "choices": [{ "index": 0, "delta": { "content": longer } }] }).to_string(),
        json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] }).to_string(),
    ];
    // Behaviour and the credits that are ours to bear.
    let cases = [
        (absurd(90_000), 4),
        (absurd(u32::MAX - 12), 4),
        (Behaviour::Raw { events, stays_open: false }, 1),
    ];
    for (behaviour, shortfall) in cases {
        let parameters = json!({ "input": "When is breakfast?", "maxTokens": 50 });
        let seen = run(behaviour, usual(), parameters).await;

        let execution = &seen.execution;
        assert_eq!(execution["status"], "SUCCEEDED", "{execution}");
        assert_eq!(execution["charge"]["creditsHeld"], 2);
        assert_eq!(execution["charge"]["creditsUsed"], 2);
        let rows = super::executions(&seen.app.app).await;
        assert_eq!(rows[0].shortfall, shortfall);
        let alerts = alerts(&seen.app.app, "CHARGE_SHORTFALL").await;
        assert_eq!(alerts.len(), 1);
        assert_eq!(alerts[0].tenant_id, None);
        assert_eq!(alerts[0].data["shortfall"], shortfall);
        assert_eq!(alerts[0].data["execution"], execution["id"]);
    }
}

#[tokio::test]
async fn a_provider_that_ignores_the_limit_writes_on_at_its_own_cost() {
    let parameters = json!({ "input": "When is breakfast?", "maxTokens": 50 });
    let seen = run(Behaviour::IgnoreMaxTokens(20_000), usual(), parameters).await;
    let execution = &seen.execution;
    assert_eq!(execution["charge"]["creditsUsed"], 2, "{execution}");
    assert_eq!(execution["result"]["output"].as_str().unwrap().len(), 20_000);
}

#[tokio::test]
async fn a_price_may_switch_the_charge_of_a_rate_limit_off() {
    let server = ModelServer::start().await;
    server.respond_by_default(Behaviour::rate_limit("86400"));
    let app = Setting::default().model_server(&server).start().await;
    let hotel = app.hotel().await.with_credits(100).await;
    set_price(&app, json!({ "rateLimitCredits": 0 })).await;

    let execution = settle_one(&app, &hotel, long_call()).await;

    let seen = Seen { execution, calls: 1, app };
    assert_failed(&seen, "PROVIDER_RATE_LIMITED", true, 0, "switched off");
}

#[tokio::test]
async fn a_rate_limit_never_costs_more_than_the_hold() {
    let server = ModelServer::start().await;
    server.respond_by_default(Behaviour::rate_limit("86400"));
    let app = Setting::default().model_server(&server).start().await;
    let hotel = app.hotel().await.with_credits(100).await;
    set_price(&app, json!({ "rateLimitCredits": 50 })).await;

    let execution = settle_one(&app, &hotel, call(long_call(), "unused")["parameters"].clone());

    assert_eq!(execution.await["charge"]["creditsUsed"], LONG_HOLD);
}
