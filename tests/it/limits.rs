//! Limits: the last call that may passes, the next one does not, whoever counts.

mod admin;
mod calls;
mod doors;
mod meter;
mod nodes;
mod operations;

use chrono::TimeDelta;
use musubi::app::App;
use musubi::entity::function_price::AiFunctionType;
use serde_json::{Value, json};

use crate::support::people::Person;

/// `aiExecute` with the numbers of a refusal.
const EXECUTE: &str = "mutation ($input: AiExecuteInput!) { aiExecute(input: $input) {
    execution { id status }
    userErrors { __typename code field message
      ... on RateLimited { limit remaining retryAfterSeconds } } } }";
/// What a caller has left.
const LEFT: &str = "{ aiFunctions { functionType hourlyLimit remainingThisHour resetsAt } }";
/// Sets a tenant's own limit.
const SET: &str = "mutation ($input: TenantFunctionLimitSetInput!) {
    tenantFunctionLimitSet(input: $input) {
        functionLimit { functionType perHour } userErrors { code field message } } }";

impl Person {
    /// Runs CHATBOT; answers the payload.
    async fn runs(&self, key: &str) -> Value {
        let input = json!({ "functionType": "CHATBOT", "idempotencyKey": key,
            "parameters": { "input": "When is breakfast?", "maxTokens": 50 } });
        self.gets(EXECUTE, json!({ "input": input })).await["aiExecute"].clone()
    }

    /// Runs CHATBOT so many times, each of which must pass.
    async fn runs_times(&self, times: usize, tag: &str) {
        for number in 0..times {
            let payload = self.runs(&format!("{tag}-{number:04}")).await;
            assert_eq!(payload["execution"]["status"], "SUCCEEDED", "{number}: {payload}");
        }
    }

    /// Runs CHATBOT, which must be refused by a limit; answers the refusal.
    async fn is_limited(&self, key: &str) -> Value {
        let payload = self.runs(key).await;
        assert!(payload["execution"].is_null(), "{payload}");
        let error = payload["userErrors"][0].clone();
        assert_eq!(error["__typename"], "RateLimited", "{payload}");
        assert_eq!(error["code"], "RATE_LIMITED");
        error
    }

    /// What is left of CHATBOT: limit, remaining, and when the oldest call leaves.
    async fn left(&self) -> (i64, i64, Value) {
        let function = self.gets(LEFT, json!({})).await["aiFunctions"][0].clone();
        assert_eq!(function["functionType"], "CHATBOT");
        let number = |name: &str| function[name].as_i64().unwrap();
        (number("hourlyLimit"), number("remainingThisHour"), function["resetsAt"].clone())
    }
}

/// Sets a tenant's limit of CHATBOT.
async fn set(root: &Person, tenant: &str, per_hour: Option<i64>) {
    let input = json!({ "tenantId": tenant, "functionType": "CHATBOT", "perHour": per_hour });
    let payload = root.gets(SET, json!({ "input": input })).await;
    assert_eq!(payload["tenantFunctionLimitSet"]["userErrors"], json!([]), "{payload}");
}

/// Rows of executions.
async fn count_executions(app: &App) -> usize {
    crate::ai::executions(app).await.len()
}

/// Waits until a node counts together with the others, or alone.
async fn until_shared(app: &App, is_shared: bool) {
    crate::ai::until("the node hears of Redis", async || app.meter.is_shared() == is_shared).await;
}

fn minutes(count: i64) -> TimeDelta {
    TimeDelta::minutes(count)
}

#[test]
fn functions_have_the_hours_that_were_agreed() {
    let hours =
        AiFunctionType::ALL.iter().map(|function| musubi::limits::table::per_hour(*function));
    assert_eq!(hours.collect::<Vec<_>>(), [100, 50, 20, 10, 10]);
}
