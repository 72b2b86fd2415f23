//! Executions as a list: filters, order, pages, and who sees whose.

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::{error_code, short};
use crate::support::TestApp;
use crate::support::people::{Hotel, Person};

const LIST: &str = "query ($where: AiExecutionWhere, $order: [AiExecutionOrder!], $first: Int,
                           $after: String, $last: Int, $before: String) {
    aiExecutions(where: $where, orderBy: $order, first: $first, after: $after, last: $last,
                 before: $before) {
      totalCount nodes { idempotencyKey }
      pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }";

async fn list(person: &Person, variables: Value) -> Value {
    person.gets(LIST, variables).await["aiExecutions"].clone()
}

fn keys(list: &Value) -> Vec<String> {
    let nodes = list["nodes"].as_array().unwrap();
    nodes.iter().map(|node| node["idempotencyKey"].as_str().unwrap().to_owned()).collect()
}

async fn found(person: &Person, filter: Value) -> Vec<String> {
    keys(&list(person, json!({ "where": filter })).await)
}

/// Five executions, a minute apart: of the user, a failure, a long one, one with two labels, and
/// one of the admin.
async fn stage() -> (TestApp, Hotel) {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(1_000).await;
    let mut inputs = vec![
        (&hotel.user, short("When is breakfast?", "the-first")),
        (&hotel.user, short("sandbox:fail-500", "the-second")),
        (&hotel.user, short(&"breakfast ".repeat(1_500), "the-third")),
        (&hotel.user, short("When is dinner?", "the-fourth")),
        (&hotel.admin, short("When is lunch?", "the-fifth")),
    ];
    inputs[2].1["metadata"] = json!({ "tags": ["vip"] });
    inputs[3].1["metadata"] = json!({ "tags": ["vip", "dinner"] });
    for (person, input) in inputs {
        let id = person.starts(input).await["execution"]["id"].as_str().unwrap().to_owned();
        person.sees_end_of(&id).await;
        app.clock.advance(TimeDelta::minutes(1));
    }
    (app, hotel)
}

#[tokio::test]
async fn executions_are_found_by_what_they_are() {
    let (_app, hotel) = stage().await;
    let all = ["the-fifth", "the-fourth", "the-third", "the-second", "the-first"];
    let vip = json!({ "tags": { "has": "vip" } });
    let cases = [
        (json!({}), all.to_vec()),
        (json!({ "status": { "eq": "FAILED" } }), vec!["the-second"]),
        (json!({ "status": { "in": ["RUNNING", "CANCELLED"] } }), vec![]),
        (json!({ "functionType": { "eq": "CHATBOT" } }), all.to_vec()),
        (json!({ "functionType": { "ne": "CHATBOT" } }), vec![]),
        (vip.clone(), vec!["the-fourth", "the-third"]),
        (json!({ "tags": { "has": "VIP" } }), vec![]),
        (json!({ "tags": { "hasAny": ["dinner", "none"] } }), vec!["the-fourth"]),
        (json!({ "tags": { "hasAny": ["dinner", "vip"] } }), vec!["the-fourth", "the-third"]),
        (json!({ "tags": { "hasAny": [] } }), vec![]),
        (json!({ "tags": { "has": "vip", "hasAny": ["dinner"] } }), vec!["the-fourth"]),
        (json!({ "NOT": vip, "status": { "eq": "SUCCEEDED" } }), vec!["the-fifth", "the-first"]),
        (json!({ "idempotencyKey": { "eq": "the-third" } }), vec!["the-third"]),
        (
            json!({ "idempotencyKey": { "startsWith": "the-f" } }),
            vec!["the-fifth", "the-fourth", "the-first"],
        ),
        (
            json!({ "createdAt": { "gte": "2026-11-21T03:03:00Z" } }),
            vec!["the-fifth", "the-fourth"],
        ),
        (
            json!({ "createdAt": {
                "gt": "2026-11-21T03:00:00Z", "lt": "2026-11-21T12:02:00+09:00",
            } }),
            vec!["the-second"],
        ),
        (
            json!({ "creditsUsed": { "gte": 1 }, "userId": { "eq": hotel.admin.id.to_string() } }),
            vec!["the-fifth"],
        ),
    ];
    for (filter, expected) in cases {
        assert_eq!(found(&hotel.manager, filter.clone()).await, expected, "{filter}");
    }
}

#[tokio::test]
async fn more_labels_than_may_be_asked_for_are_refused_and_not_forgotten() {
    let (_app, hotel) = stage().await;
    let mut labels: Vec<String> = (0..10).map(|number| format!("none-{number}")).collect();
    labels.push("vip".to_owned());

    let ten = found(&hotel.manager, json!({ "tags": { "hasAny": &labels[1..] } })).await;
    assert_eq!(ten, ["the-fourth", "the-third"]);
    let nul = json!({ "tags": { "has": "with-\0" } });
    let reply = hotel.manager.asks(LIST, json!({ "where": nul })).await;
    assert_eq!(error_code(&reply), "INVALID_INPUT", "{reply}");
    let filter = json!({ "tags": { "hasAny": labels } });
    let reply = hotel.manager.asks(LIST, json!({ "where": filter })).await;

    assert_eq!(error_code(&reply), "INVALID_INPUT", "{reply}");
    let violation = &reply["errors"][0]["extensions"]["violations"][0];
    assert_eq!(violation["field"], json!(["where", "tags", "hasAny"]), "{reply}");
}

#[tokio::test]
async fn executions_come_in_the_asked_order_page_by_page() {
    let (_app, hotel) = stage().await;
    let oldest = json!([{ "field": "CREATED_AT", "direction": "ASC" }]);
    let dearest = json!([{ "field": "CREDITS_USED", "direction": "DESC" }]);

    let by_cost = list(&hotel.manager, json!({ "order": dearest })).await;
    assert_eq!(keys(&by_cost).first().unwrap(), "the-third");
    assert_eq!(keys(&by_cost).last().unwrap(), "the-second");

    let mut seen = Vec::new();
    let mut after = Value::Null;
    loop {
        let variables = json!({ "order": oldest, "first": 2, "after": after });
        let page = list(&hotel.manager, variables).await;
        assert_eq!(page["totalCount"], 5);
        seen.extend(keys(&page));
        after = page["pageInfo"]["endCursor"].clone();
        if page["pageInfo"]["hasNextPage"] == false {
            break;
        }
    }
    assert_eq!(seen, ["the-first", "the-second", "the-third", "the-fourth", "the-fifth"]);

    let last = list(&hotel.manager, json!({ "order": oldest, "last": 2 })).await;
    assert_eq!(keys(&last), ["the-fourth", "the-fifth"]);
    assert_eq!(last["pageInfo"]["hasPreviousPage"], true);
    let before = json!({ "order": oldest, "last": 2, "before": last["pageInfo"]["startCursor"] });
    assert_eq!(keys(&list(&hotel.manager, before).await), ["the-second", "the-third"]);

    let other_sort = json!({ "order": dearest, "first": 2, "after": after });
    assert_eq!(error_code(&hotel.manager.asks(LIST, other_sort).await), "INVALID_INPUT");
    let too_many = hotel.manager.asks(LIST, json!({ "first": 101 })).await;
    assert_eq!(error_code(&too_many), "INVALID_INPUT", "{too_many}");
}

#[tokio::test]
async fn a_user_sees_their_own_and_a_manager_everything_of_the_tenant() {
    let (app, hotel) = stage().await;
    let stranger = app.hotel().await;
    let own = ["the-fourth", "the-third", "the-second", "the-first"];

    assert_eq!(found(&hotel.user, json!({})).await, own);
    let of_admin = json!({ "userId": { "eq": hotel.admin.id.to_string() } });
    assert!(found(&hotel.user, of_admin.clone()).await.is_empty());
    let either = json!({ "OR": [of_admin, { "idempotencyKey": { "eq": "the-first" } }] });
    assert_eq!(found(&hotel.user, either).await, ["the-first"]);
    assert!(found(&hotel.support, json!({})).await.is_empty());
    assert_eq!(found(&hotel.manager, json!({})).await.len(), 5);
    assert_eq!(found(&hotel.admin, json!({})).await.len(), 5);
    assert!(found(&stranger.admin, json!({})).await.is_empty());

    let of_tenant = super::executions(&app.app).await;
    let fifth = of_tenant.iter().find(|row| row.idempotency_key == "the-fifth").unwrap();
    let id = json!({ "id": fifth.id.to_string() });
    let node = "query ($id: ID!) { node(id: $id) { id } }";
    for person in [&hotel.user, &hotel.support, &stranger.admin] {
        assert_eq!(error_code(&person.asks(super::BY_ID, id.clone()).await), "NOT_FOUND");
        let reply = person.asks(node, id.clone()).await;
        assert!(reply["data"]["node"].is_null(), "{reply}");
    }
    assert_eq!(hotel.manager.gets(node, id.clone()).await["node"]["id"], id["id"]);
}
