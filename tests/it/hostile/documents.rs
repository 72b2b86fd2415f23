//! Documents that ran are known: they are not parsed again.

use serde_json::json;

use crate::support::TestApp;
use crate::support::people::ask;

#[tokio::test]
async fn a_document_that_ran_for_somebody_is_known_by_its_exact_text() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let query = "query ($first: Int) { aiExecutions(first: $first) { nodes { id } } }";
    for first in [1, 2, 3] {
        hotel.admin.gets(query, json!({ "first": first })).await;
        hotel.user.gets(query, json!({ "first": first })).await;
        assert_eq!(app.engine.known_documents(), 1);
    }
    hotel.admin.gets(&format!("{query} "), json!({ "first": 1 })).await;
    assert_eq!(app.engine.known_documents(), 2);
}

#[tokio::test]
async fn a_known_document_is_judged_anew_for_each_call() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let query = "query A($v: Int) { aiExecutions(first: $v) { nodes { id } } }";
    hotel.admin.gets(query, json!({ "v": 1 })).await;
    let answer = hotel.admin.asks(query, json!({ "v": "x" })).await;
    assert_eq!(answer["errors"][0]["extensions"]["code"], "BAD_USER_INPUT");
    let answer = hotel.admin.asks(query, json!({ "v": 101 })).await;
    assert!(!answer["errors"].is_null(), "{answer}");

    // What a platform admin may spend is no measure for others.
    let costly = numbered_fields(18);
    let root = app.platform_admin(Some(hotel.id)).await;
    for _ in 0..2 {
        root.gets(&costly, json!({})).await;
        let answer = hotel.admin.asks(&costly, json!({})).await;
        assert_eq!(answer["errors"][0]["extensions"]["code"], "DOCUMENT_TOO_COMPLEX");
    }
}

/// So many lists of 100 executions with what belongs to each.
fn numbered_fields(count: usize) -> String {
    let list =
        |n| format!("a{n}: aiExecutions(first: 100) {{ nodes {{ charge {{ creditsUsed }} }} }} ");
    format!("{{ {} }}", (0..count).map(list).collect::<String>())
}

#[tokio::test]
async fn strangers_and_documents_in_error_make_nothing_known() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    for number in 0..50 {
        let query = format!("{{ __typename a{number}: viewer {{ role }} }}");
        let answer = ask(&app.app, &app.engine, None, &query, json!({})).await;
        assert!(answer["errors"].is_null(), "{answer}");
    }
    let long = format!("{{ __typename }} #{}", "x".repeat(16 * 1024));
    for query in ["{", "{ nothing }", "{ viewer }", "query ($v: Int!) { __typename }", &long] {
        hotel.admin.asks(query, json!({})).await;
    }
    assert_eq!(app.engine.known_documents(), 0);
}

#[tokio::test]
async fn known_documents_have_a_bound_in_memory() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let filler = "role ".repeat(1_500);
    for number in 0..200 {
        let query = format!("{{ a{number}: viewer {{ {filler} }} }}");
        hotel.admin.gets(&query, json!({})).await;
    }
    // 32 MiB by some 400 KB each.
    let known = app.engine.known_documents();
    assert!((1..=90).contains(&known), "{known} documents are known");
}
