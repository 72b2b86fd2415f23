//! Reading the record: who may, in one list with the ledger, filtered, paged and exported.

use std::collections::BTreeSet;

use musubi::audit::entries::{self, Format};
use musubi::audit::{self, seal};
use musubi::entity::audit_entry;
use sea_orm::{ConnectionTrait, Order, PaginatorTrait};
use serde_json::{Value, json};

use super::{a_chain_of, runs};
use crate::support::TestApp;
use crate::support::database::is_postgres;
use crate::support::people::{Hotel, Person};

const EVENTS: &str = "query ($first: Int, $after: String, $where: AuditEventWhere,
    $orderBy: [AuditEventOrder!]) {
    auditEvents(first: $first, after: $after, where: $where, orderBy: $orderBy) {
        totalCount pageInfo { hasNextPage endCursor }
        nodes { id occurredAt eventType action status riskLevel times actor { name }
                apiKey { name } entityType entityId eventData changes requestId sourceSystem
                seq ipAddress userAgent transaction { credits } } } }";

async fn nodes(person: &Person, filter: Value) -> Vec<Value> {
    let variables = json!({ "first": 100, "where": filter });
    let answer = person.gets(EVENTS, variables).await;
    answer["auditEvents"]["nodes"].as_array().unwrap().clone()
}

fn actions(nodes: &[Value]) -> Vec<&str> {
    nodes.iter().map(|node| node["action"].as_str().unwrap()).collect()
}

/// A hotel where things happened: lines of the record and of the ledger.
async fn busy(app: &TestApp) -> Hotel {
    let hotel = app.hotel().await.with_credits(100).await;
    app.clock.advance(chrono::TimeDelta::seconds(1));
    hotel.user.executes("こんにちは", "run-number-1").await;
    app.clock.advance(chrono::TimeDelta::seconds(1));
    let locale = "mutation { tenantUpdate(input: { locale: \"en\" }) { userErrors { code } } }";
    hotel.admin.gets(locale, json!({})).await;
    app.clock.advance(chrono::TimeDelta::seconds(1));
    hotel.user.asks("{ tenants { totalCount } }", json!({})).await;
    audit::flush(&app.app).await.unwrap();
    seal::seal_all(&app.app).await.unwrap();
    hotel
}

#[tokio::test]
async fn the_record_and_the_ledger_are_one_list() {
    let app = TestApp::start().await;
    let hotel = busy(&app).await;
    busy(&app).await;
    let all = nodes(&hotel.admin, Value::Null).await;
    assert_eq!(actions(&all), ["ACCESS_REFUSED", "TENANT_UPDATED", "USAGE", "PURCHASE"]);
    let [refused, updated, usage, _] = &all[..] else { panic!("{all:?}") };
    assert_eq!(refused["status"], "FAILURE");
    assert_eq!(refused["riskLevel"], "MEDIUM");
    assert_eq!(refused["eventType"], "SECURITY");
    assert_eq!(refused["actor"]["name"], "USER");
    assert_eq!(refused["eventData"], json!({ "on": "tenants" }));
    assert_eq!(updated["changes"], json!({ "locale": { "before": "ja", "after": "en" } }));
    assert_eq!(updated["entityType"], "tenant");
    assert_eq!(updated["entityId"], hotel.id.to_string());
    assert_eq!(updated["requestId"], "test");
    assert_eq!((&updated["seq"], &refused["seq"]), (&json!(1), &json!(2)));
    assert_eq!(usage["eventType"], "CREDIT_TRANSACTION");
    assert_eq!(usage["transaction"]["credits"], usage["eventData"]["creditsAmount"]);
    assert_eq!(usage["eventData"]["functionType"], "CHATBOT");
    assert!(usage["id"].as_str().unwrap().starts_with("txn_"));
    assert_eq!(usage["seq"], Value::Null);
}

#[tokio::test]
async fn each_filter_lets_through_what_it_says() {
    let app = TestApp::start().await;
    let hotel = busy(&app).await;
    let user = hotel.user.id.to_string();
    let second = all_times(&hotel).await[1].clone();
    let cases = [
        (json!({ "eventType": { "eq": "SECURITY" } }), vec!["ACCESS_REFUSED"]),
        (json!({ "eventType": { "eq": "CREDIT_TRANSACTION" } }), vec!["USAGE", "PURCHASE"]),
        (json!({ "status": { "eq": "FAILURE" } }), vec!["ACCESS_REFUSED"]),
        (json!({ "riskLevel": { "in": ["MEDIUM", "HIGH"] } }), vec!["ACCESS_REFUSED"]),
        (json!({ "actorId": { "eq": user } }), vec!["ACCESS_REFUSED", "USAGE"]),
        (json!({ "action": { "startsWith": "tenant" } }), vec!["TENANT_UPDATED"]),
        (json!({ "entityType": { "eq": "tenant" } }), vec!["TENANT_UPDATED"]),
        (json!({ "entityId": { "eq": hotel.id.to_string() } }), vec!["TENANT_UPDATED"]),
        (json!({ "requestId": { "eq": "test" } }), vec!["ACCESS_REFUSED", "TENANT_UPDATED"]),
        (json!({ "occurredAt": { "gte": second } }), vec!["ACCESS_REFUSED", "TENANT_UPDATED"]),
        (
            json!({ "NOT": { "eventType": { "eq": "CREDIT_TRANSACTION" } },
                 "apiKeyId": { "isNull": true } }),
            vec!["ACCESS_REFUSED", "TENANT_UPDATED"],
        ),
    ];
    for (filter, expected) in cases {
        assert_eq!(actions(&nodes(&hotel.admin, filter.clone()).await), expected, "{filter}");
    }
}

async fn all_times(hotel: &Hotel) -> Vec<Value> {
    let all = nodes(&hotel.admin, Value::Null).await;
    all.iter().map(|node| node["occurredAt"].clone()).collect()
}

#[tokio::test]
async fn admins_see_their_own_record_and_platform_admins_the_platforms() {
    let app = TestApp::start().await;
    let (own, other) = (busy(&app).await, busy(&app).await);
    let root = app.platform_admin(None).await;
    let plan = "mutation { planUpdate(input: { planType: ESSENTIAL, priceYen: 7000,
        monthlyFreeCredits: 200, carryOver: ALL }) { userErrors { code } } }";
    root.gets(plan, json!({})).await;
    assert_eq!(actions(&nodes(&root, Value::Null).await), ["PLAN_UPDATED"]);
    let ids = |nodes: Vec<Value>| -> BTreeSet<String> {
        nodes.iter().map(|node| node["id"].as_str().unwrap().to_owned()).collect()
    };
    let own_ids = ids(nodes(&own.admin, Value::Null).await);
    assert!(own_ids.is_disjoint(&ids(nodes(&other.admin, Value::Null).await)));
    let visiting = app.platform_admin(Some(own.id)).await;
    assert_eq!(ids(nodes(&visiting, Value::Null).await), own_ids);
    for person in [&own.manager, &own.support, &own.user] {
        let reply = person.asks(EVENTS, json!({})).await;
        assert_eq!(reply["errors"][0]["extensions"]["code"], "FORBIDDEN");
    }
}

#[tokio::test]
async fn pages_walk_through_both_tables_without_a_gap_or_a_repetition() {
    let app = TestApp::start().await;
    let hotel = a_chain_of(&app, 60).await;
    // All at the same instant as the lines of the record.
    for number in 0..45 {
        hotel.buys(1, 10 + number).await;
    }
    for direction in ["ASC", "DESC"] {
        let (mut seen, mut after) = (Vec::new(), Value::Null);
        loop {
            let order = json!([{ "field": "OCCURRED_AT", "direction": direction }]);
            let variables = json!({ "first": 7, "after": after, "orderBy": order });
            let page = hotel.admin.gets(EVENTS, variables).await["auditEvents"].clone();
            assert_eq!(page["totalCount"], 105);
            let nodes = page["nodes"].as_array().unwrap();
            seen.extend(nodes.iter().map(|node| node["id"].as_str().unwrap().to_owned()));
            after = page["pageInfo"]["endCursor"].clone();
            if page["pageInfo"]["hasNextPage"] == false {
                break;
            }
        }
        assert_eq!(seen.len(), 105, "{direction}");
        assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 105, "{direction}");
    }
}

#[tokio::test]
async fn a_larger_page_takes_no_more_statements_than_a_small_one() {
    let app = TestApp::start().await;
    let hotel = a_chain_of(&app, 90).await;
    hotel.buys(1, 10).await;
    let mut costs = BTreeSet::new();
    for first in [5, 25, 80] {
        let before = app.app.db.statements();
        hotel.admin.gets(EVENTS, json!({ "first": first })).await;
        costs.insert(app.app.db.statements() - before);
    }
    assert!(costs.iter().max().unwrap() - costs.iter().min().unwrap() <= 1, "{costs:?}");
}

#[tokio::test]
async fn a_page_of_a_long_record_is_read_by_the_indexes_of_both_tables() {
    let app = TestApp::start().await;
    let hotel = a_chain_of(&app, 3_000).await;
    hotel.buys(5, 10).await;
    let account = hotel.account().await.id;
    let on = app.app.db.primary().get_database_backend();
    let select = audit_entry::Entity::of(on, hotel.id.0, Some(account), &Order::Desc);
    assert_eq!(select.clone().count(app.app.db.primary()).await.unwrap(), 3_001);
    for order in [Order::Desc, Order::Asc] {
        let plan = explain(&app, &hotel, &order).await;
        assert!(plan.contains("system_event_time"), "{plan}");
        // PostgreSQL rather sorts the few lines of this ledger than it uses the index.
        let ledger = if is_postgres() { "Merge Append" } else { "ai_credit_transactions_date" };
        assert!(plan.contains(ledger), "{plan}");
        assert!(!plan.contains("USE TEMP B-TREE FOR ORDER BY"), "{plan}");
    }
}

async fn explain(app: &TestApp, hotel: &Hotel, order: &Order) -> String {
    use sea_orm::{QueryOrder, QuerySelect, QueryTrait, Statement};
    let account = hotel.account().await.id;
    if is_postgres() {
        runs(app, "ANALYZE", vec![]).await;
    }
    let db = app.app.db.primary();
    let backend = db.get_database_backend();
    let select = audit_entry::Entity::of(backend, hotel.id.0, Some(account), order)
        .order_by(audit_entry::Column::OccurredAt, order.clone())
        .order_by(audit_entry::Column::Id, order.clone())
        .limit(26);
    let mut statement: Statement = select.build(backend);
    let words = if is_postgres() { "EXPLAIN" } else { "EXPLAIN QUERY PLAN" };
    statement.sql = format!("{words} {}", statement.sql);
    let rows = db.query_all_raw(statement).await.unwrap();
    let column = if is_postgres() { "QUERY PLAN" } else { "detail" };
    let lines = rows.iter().map(|row| row.try_get::<String>("", column).unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn an_export_comes_in_pieces_and_is_itself_recorded() {
    let app = TestApp::start().await;
    let hotel = a_chain_of(&app, 1_250).await;
    let document = "query ($after: String, $first: Int) {
        auditExport(format: JSONL, after: $after, first: $first,
            where: { action: { eq: \"SITE_UPDATED\" } }) {
            content count hasNextPage endCursor } }";
    let piece = async |after: Value| {
        let variables = json!({ "after": after });
        hotel.admin.gets(document, variables).await["auditExport"].clone()
    };
    let first = piece(Value::Null).await;
    assert_eq!((&first["count"], &first["hasNextPage"]), (&json!(1_000), &json!(true)));
    let second = piece(first["endCursor"].clone()).await;
    assert_eq!((&second["count"], &second["hasNextPage"]), (&json!(250), &json!(false)));
    let ids: BTreeSet<String> = [&first, &second]
        .iter()
        .flat_map(|piece| piece["content"].as_str().unwrap().lines())
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].to_string())
        .collect();
    assert_eq!(ids.len(), 1_250);
    let noted = nodes(&hotel.admin, json!({ "action": { "eq": "AUDIT_EXPORTED" } })).await;
    assert_eq!(noted[1]["eventData"], json!({ "lines": 1_000 }));
    let reply = hotel.admin.asks(document, json!({ "first": 1_001 })).await;
    assert_eq!(reply["errors"][0]["extensions"]["code"], "INVALID_INPUT");
}

#[tokio::test]
async fn what_a_spreadsheet_would_run_is_disarmed() {
    let app = TestApp::start().await;
    let hotel = a_chain_of(&app, 1).await;
    let select = entries::visible(&app.app, &hotel.admin.actor, true).await.unwrap();
    let row = select.one(app.app.db.primary()).await.unwrap().unwrap();
    for text in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"] {
        let row = audit_entry::Model { request_id: Some(text.to_owned()), ..row.clone() };
        let csv = entries::export([row].iter(), Format::Csv);
        let disarmed = format!("'{text}");
        assert!(csv.contains(&disarmed), "{csv}");
        assert!(!csv.contains(&format!(",{text},")), "{csv}");
    }
    let quoted = audit_entry::Model { request_id: Some("a\"b,c\nd".to_owned()), ..row };
    let csv = entries::export([quoted].iter(), Format::Csv);
    assert!(csv.contains("\"a\"\"b,c\nd\""), "{csv}");
    assert!(csv.starts_with("id,occurredAt,"), "{csv}");
}
