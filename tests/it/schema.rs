//! The whole surface, read off the schema: what is written down, who may ask, what strangers see.

pub(crate) mod ids;
mod lists;
mod map;
mod rights;

use async_graphql::parser::types::{BaseType, Type, TypeKind};
use musubi::error::Lang;
use serde_json::{Value, json};

use crate::support::TestApp;
use map::{Map, Question, code, reply, reply_in};

/// Lists that are no pages: short ones that their owner bounds.
const SHORT_LISTS: &[(&str, &str)] = &[
    ("AuditReport.days", "at most 366 days"),
    ("AuditReport.functions", "the functions that there are"),
    ("AuditReport.hours", "at most 24"),
    ("AuditReport.recommendations", "each at most once"),
    ("AuditSecurity.events", "at most 100"),
    ("Compliance.checks", "always four"),
    ("CreditPurchase.refunds", "at most 100"),
    ("ComplianceCheck.reasons", "at most 20"),
    ("AiFunction.models", "the models of one function"),
    ("AiPrice.tiers", "always four"),
    ("AnomalyBlock.signals", "one of each kind"),
    ("AnomalyScore.signals", "one of each kind"),
    ("ApiKey.permissions", "the permissions that there are"),
    ("CreditAccount.grants", "at most 100"),
    ("CreditAccount.holds", "at most 100"),
    ("CreditAnalytics.functions", "the functions that there are"),
    ("CreditRunway.projection", "at most 366 days"),
    ("CreditTransaction.draws", "the grants of one charge"),
    ("CreditUsage.dailyUsage", "at most 366 days"),
    ("CreditUsage.topFunctions", "the functions that there are"),
    ("DailyUsage.byFunction", "the functions that there are"),
    ("PlanOptimization.comparison", "the plans that there are"),
    ("ClientConfig.locales", "the languages that there are"),
    ("ClientConfig.signInProviders", "the providers that there are"),
    ("Query.aiFunctions", "the functions that there are"),
    ("Query.creditPackages", "at most 100"),
    ("Query.storedCards", "at most 20"),
    ("Query.nodes", "at most 100 ids"),
    ("Query.plans", "the plans that there are"),
    ("Site.origins", "at most 10"),
    ("Tenant.apiKeys", "at most 200"),
    ("Tenant.sites", "at most 20"),
    ("Viewer.accounts", "one of each provider"),
    ("Viewer.memberships", "at most 100"),
    ("Viewer.permissions", "the permissions that there are"),
    ("Viewer.sessions", "at most 50"),
];

#[test]
fn the_committed_schema_is_the_one_that_is_served() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema.graphql");
    let committed = std::fs::read_to_string(path).unwrap();
    let is_current = committed == musubi::graphql::schema::sdl();
    assert!(is_current, "schema.graphql is old: run `cargo run -- schema > schema.graphql`");
}

#[test]
fn everything_in_the_schema_is_described() {
    let mut bare = Vec::new();
    for ty in Map::read().types() {
        let owner = ty.name.node.as_str();
        let mut see = |path: String, is_described: bool| {
            if !is_described {
                bare.push(path);
            }
        };
        see(owner.to_owned(), ty.description.is_some());
        match &ty.kind {
            TypeKind::Scalar | TypeKind::Union(_) => {}
            TypeKind::Enum(kind) => {
                for value in &kind.values {
                    let path = format!("{owner}.{}", value.node.value.node);
                    see(path, value.node.description.is_some());
                }
            }
            TypeKind::InputObject(kind) => {
                for field in &kind.fields {
                    let path = format!("{owner}.{}", field.node.name.node);
                    see(path, field.node.description.is_some());
                }
            }
            TypeKind::Object(_) | TypeKind::Interface(_) => {
                for field in map::fields(ty) {
                    let path = format!("{owner}.{}", field.name.node);
                    for argument in &field.arguments {
                        let path = format!("{path}({})", argument.node.name.node);
                        see(path, argument.node.description.is_some());
                    }
                    see(path, field.description.is_some());
                }
            }
        }
    }
    assert!(bare.is_empty(), "without a description: {}", bare.join(", "));
}

#[test]
fn a_failing_root_field_can_be_null_and_an_event_cannot() {
    let map = Map::read();
    for (root, field) in map.root_fields() {
        let is_nullable = root != "Subscription";
        assert_eq!(field.ty.node.nullable, is_nullable, "{root}.{}", field.name.node);
    }
}

#[test]
fn every_list_is_a_page_or_known_to_be_short() {
    let map = Map::read();
    let mut known: Vec<&str> = SHORT_LISTS.iter().map(|(path, _)| *path).collect();
    let mut long = Vec::new();
    for ty in map.types() {
        let owner = ty.name.node.as_str();
        for field in map::fields(ty) {
            let path = format!("{owner}.{}", field.name.node);
            let (is_list, target) = element(&field.ty.node);
            if target.ends_with("Connection") {
                assert_is_paged(&path, field);
            } else if is_list && !is_part_of_the_shell(owner, &field.name.node) {
                let count = known.len();
                known.retain(|listed| *listed != path);
                if known.len() == count {
                    long.push(path);
                }
            }
        }
    }
    assert!(long.is_empty(), "neither pages nor known to be short: {long:?}");
    assert!(known.is_empty(), "no longer there: {known:?}");
}

/// The entries of a page, and the reasons of a refusal.
fn is_part_of_the_shell(owner: &str, field: &str) -> bool {
    let is_page = owner.ends_with("Connection") && matches!(field, "edges" | "nodes");
    is_page || field == "userErrors" || field == "field"
}

fn assert_is_paged(path: &str, field: &async_graphql::parser::types::FieldDefinition) {
    for name in ["first", "after", "last", "before"] {
        let is_there = field.arguments.iter().any(|argument| argument.node.name.node == name);
        assert!(is_there, "{path} takes no {name}");
    }
}

fn element(ty: &Type) -> (bool, &str) {
    match &ty.base {
        BaseType::Named(name) => (false, name),
        BaseType::List(inner) => (true, element(inner).1),
    }
}

#[tokio::test]
async fn every_root_field_refuses_anonymous_callers() {
    let app = TestApp::start().await;
    let map = Map::read();
    // Neither good nor bad ids tell an anonymous caller anything.
    for id in ["no-id", "exec_00000000000000000000000000"] {
        for (root, field) in map.root_fields() {
            let path = format!("{root}.{}", field.name.node);
            let question = Question::with(&map, root, field, &|_| id.to_owned());
            let reply = reply(&app, None, &question.document, json!({})).await;
            if path == "Query.clientConfig" {
                assert_eq!(reply["data"]["it"]["__typename"], "ClientConfig", "{reply}");
            } else if path == "Query.viewer" {
                assert_eq!(reply["data"], json!({ "it": null }), "{reply}");
                assert!(reply["errors"].is_null(), "{reply}");
            } else {
                assert_eq!(code(&reply), "UNAUTHENTICATED", "{path}: {reply}");
                let is_shown = !reply["data"]["it"].is_null();
                assert!(!is_shown, "{path}: {reply}");
            }
        }
    }
}

#[tokio::test]
async fn a_failing_field_leaves_its_siblings_alone() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(100).await;
    let query = "{ bad: aiExecution(id: \"no-id\") { id } plans { planType }
                   worse: creditAnalytics(from: \"2026-01-01\", to: \"2025-01-01\") { averageDaily }
                   creditAccount { balance { current } } }";
    let reply = hotel.admin.asks(query, json!({})).await;
    assert_eq!(reply["data"]["bad"], Value::Null);
    assert_eq!(reply["data"]["worse"], Value::Null);
    assert_eq!(reply["data"]["plans"].as_array().unwrap().len(), 3, "{reply}");
    assert_eq!(reply["data"]["creditAccount"]["balance"]["current"], 100);
    let mut codes: Vec<_> = reply["errors"].as_array().unwrap().iter().map(code_at).collect();
    codes.sort();
    assert_eq!(codes, ["bad INVALID_ID", "worse INVALID_INPUT"]);

    let mutation = "mutation ($input: AiExecuteInput!) {
        forbidden: creditPackageRetire(input: { id: \"no-id\" }) { userErrors { code } }
        plan: planUpdate(input: { planType: ESSENTIAL, priceYen: 1, monthlyFreeCredits: 1,
                                  carryOver: ALL }) { userErrors { code } }
        good: aiExecute(input: $input) { execution { status } userErrors { code } } }";
    let input = json!({ "functionType": "CHATBOT", "parameters": { "input": "こんにちは" },
                        "idempotencyKey": "beside-a-failure" });
    let reply = hotel.user.asks(mutation, json!({ "input": input })).await;
    assert_eq!(reply["data"]["plan"], Value::Null, "{reply}");
    assert_eq!(reply["data"]["good"]["execution"]["status"], "SUCCEEDED", "{reply}");
    let errors = reply["errors"].as_array().unwrap();
    assert!(errors.iter().any(|error| code_at(error) == "plan FORBIDDEN"), "{reply}");
}

fn code_at(error: &Value) -> String {
    let path = error["path"][0].as_str().unwrap_or_default();
    format!("{path} {}", error["extensions"]["code"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn people_are_told_in_japanese_unless_they_prefer_english() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let cancel = "mutation { it: aiExecutionCancel(id: \"no-id\") { userErrors { message } } }";
    let speaks = [
        ("", Lang::Ja),
        ("fr-FR, de;q=0.8", Lang::Ja),
        ("en;q=0.5, ja;q=0.9", Lang::Ja),
        ("en-US, en;q=0.9", Lang::En),
        ("fr, en;q=0.3", Lang::En),
    ];
    for (header, lang) in speaks {
        assert_eq!(Lang::from_accept_language(header), lang, "{header}");
        let lang = Lang::from_accept_language(header);
        let nobody = reply_in(&app, lang, None, "{ plans { planType } }", json!({})).await;
        let somebody = Some(hotel.user.actor.clone());
        let refused = reply_in(&app, lang, somebody, cancel, json!({})).await;
        let texts = [
            nobody["errors"][0]["message"].as_str().unwrap(),
            refused["data"]["it"]["userErrors"][0]["message"].as_str().unwrap(),
        ];
        for text in texts {
            assert_eq!(text.is_ascii(), lang == Lang::En, "{header}: {text}");
        }
    }
}
