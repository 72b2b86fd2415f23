//! All operations of a caller, analytics, and who is a caller at all.

use std::net::IpAddr;

use musubi::http::Limits;
use musubi::limits::service::take;
use musubi::limits::table::Limit;
use musubi::limits::who::Who;
use serde_json::{Value, json};

use crate::audit::lines_of;
use crate::http::{Reply, send};
use crate::support::{Setting, TestServer};
use crate::ws::Client;

const GRAPHQL: &str = "application/graphql-response+json";
const ANALYTICS: &str = "creditAnalytics(from: \"2026-11-01\", to: \"2026-11-20\") {
    totalCreditsUsed }";

/// A server that goes by the test's clock.
async fn serve() -> TestServer {
    TestServer::start_with(Setting::default().limited().alone(), Limits::default()).await
}

async fn ask(server: &TestServer, headers: &[(&str, &str)], body: Value) -> Reply {
    let headers = [&[("content-type", "application/json")], headers].concat();
    send(server, "POST", "/graphql", &headers, body.to_string()).await
}

/// Takes so many operations of a caller at once.
async fn spend(server: &TestServer, who: &Who, count: i64) {
    take(&server.app.app, who, Limit::Operations, count).await.unwrap();
}

fn bearer(server: &TestServer, role: &str) -> String {
    format!("Bearer {}", server.token(role))
}

fn local(server: &TestServer) -> Who {
    Who::address(&server.app.app, Some(IpAddr::from([127, 0, 0, 1])))
}

#[tokio::test]
async fn the_thousandth_operation_of_a_minute_passes_and_the_next_one_does_not() {
    let server = serve().await;
    let query = json!({ "query": "{ viewer { role } }" });
    let token = bearer(&server, "user");
    let own = [("authorization", token.as_str())];
    for number in 0..1_000 {
        let reply = ask(&server, &own, query.clone()).await;
        assert_eq!((reply.status, &reply.json()["errors"]), (200, &Value::Null), "{number}");
    }
    let reply = ask(&server, &own, query.clone()).await;
    assert_eq!(reply.status, 200, "application/json says so of every refused document");
    let error = &reply.json()["errors"][0];
    assert!(reply.json().get("data").is_none());
    let extensions = &error["extensions"];
    assert_eq!(extensions["code"], "RATE_LIMITED");
    assert_eq!((&extensions["limit"], &extensions["remaining"]), (&json!(1_000), &json!(0)));
    let wait = extensions["retryAfterMs"].as_i64().unwrap();
    assert!((60_000..=61_000).contains(&wait), "{wait}");
    assert!(extensions["requestId"].is_string());
    assert!(error.get("path").is_none());
    let seconds = (wait + 999) / 1_000;
    assert_eq!(reply.header("retry-after"), Some(seconds.to_string().as_str()));

    let strict = [own[0], ("accept", GRAPHQL)];
    let reply = ask(&server, &strict, query.clone()).await;
    assert_eq!((reply.status, reply.code().as_str()), (429, "RATE_LIMITED"));
    assert!(reply.header("retry-after").is_some());

    // What was refused is in the record, summed up: the first at once, the others as one.
    let refused = lines_of(&server.app, "RATE_LIMITED").await;
    assert!(refused.iter().all(|line| line.user_id == Some(server.hotel.user.id)), "{refused:?}");
    assert_eq!(refused.iter().map(|line| line.times).sum::<i64>(), 2, "{refused:?}");

    // Others are others, and the minute ends.
    let other = bearer(&server, "admin");
    let reply = ask(&server, &[("authorization", &other)], query.clone()).await;
    assert!(reply.json()["errors"].is_null());
    server.app.clock.advance(chrono::TimeDelta::milliseconds(wait));
    assert!(ask(&server, &own, query).await.json()["errors"].is_null());
}

#[tokio::test]
async fn thirty_aliases_count_thirty_and_what_is_skipped_counts_nothing() {
    let server = serve().await;
    let token = bearer(&server, "manager");
    let own = [("authorization", token.as_str()), ("accept", GRAPHQL)];
    let who = Who::actor(&server.hotel.manager.actor);
    let aliases: Vec<String> =
        (0..30).map(|number| format!("a{number}: viewer {{ role }}")).collect();
    let thirty = json!({ "query": format!("{{ {} }}", aliases.join(" ")) });

    spend(&server, &who, 970).await;
    assert_eq!(ask(&server, &own, thirty.clone()).await.status, 200);
    let one = json!({ "query": "{ viewer { role } }" });
    assert_eq!(ask(&server, &own, one.clone()).await.status, 429, "970 and 30");

    server.app.clock.advance(chrono::TimeDelta::minutes(2));
    spend(&server, &who, 971).await;
    let reply = ask(&server, &own, thirty).await;
    assert_eq!(reply.status, 429, "all or nothing");
    assert_eq!(reply.json()["errors"][0]["extensions"]["remaining"], 29);
    let skipping = json!({
        "query": "query ($no: Boolean!, $yes: Boolean = true) {
            viewer { role } one: viewer { role }
            two: viewer @include(if: $no) { role } three: viewer @skip(if: true) { role }
            four: viewer @skip(if: $yes) { role }
            ... on Query @include(if: $no) { five: viewer { role } six: viewer { role } }
            ...rest @skip(if: $yes) }
            fragment rest on Query { seven: viewer { role } }",
        "variables": { "no": false },
    });
    for _ in 0..14 {
        assert_eq!(ask(&server, &own, skipping.clone()).await.status, 200);
    }
    assert_eq!(ask(&server, &own, skipping).await.status, 429);
    assert_eq!(ask(&server, &own, one.clone()).await.status, 200, "28 and one");
    assert_eq!(ask(&server, &own, one).await.status, 429);
}

#[tokio::test]
async fn a_socket_and_requests_share_one_count_and_events_are_not_counted() {
    let server = serve().await;
    let who = Who::actor(&server.hotel.admin.actor);
    let mut socket = Client::signed_in(&server).await;
    spend(&server, &who, 996).await;

    socket.subscribe("1", "subscription { creditBalance { current } }").await;
    assert_eq!(socket.see_message().await["type"], "next");
    for number in 0..5 {
        server.hotel.buys(10, 100).await;
        let balance = socket.see_message().await["payload"]["data"]["creditBalance"].clone();
        assert_eq!(balance["current"], 10_010 + 10 * number);
    }
    socket.subscribe("2", "{ __typename again: __typename }").await;
    assert_eq!(socket.see_message().await["type"], "next");
    assert_eq!(socket.see_message().await["type"], "complete");
    let token = bearer(&server, "admin");
    let own = [("authorization", token.as_str()), ("accept", GRAPHQL)];
    let one = json!({ "query": "{ __typename }" });
    assert_eq!(ask(&server, &own, one.clone()).await.status, 200);
    assert_eq!(ask(&server, &own, one).await.status, 429, "996 and 1 and 2 and 1");

    for (id, document) in
        [("3", "{ __typename }"), ("4", "subscription { creditBalance { held } }")]
    {
        socket.subscribe(id, document).await;
        let message = socket.see_message().await;
        assert_eq!((&message["type"], &message["id"]), (&json!("error"), &json!(id)));
        let extensions = &message["payload"][0]["extensions"];
        assert_eq!(extensions["code"], "RATE_LIMITED");
        assert!(extensions["retryAfterMs"].as_i64().unwrap() > 0);
    }
    server.hotel.buys(10, 100).await;
    assert_eq!(socket.see_message().await["type"], "next", "what runs goes on");
}

#[tokio::test]
async fn strangers_are_counted_by_their_address_and_households_as_one() {
    let server = serve().await;
    let app = &server.app.app;
    let one = json!({ "query": "{ __typename }" });
    let strict = [("accept", GRAPHQL)];
    spend(&server, &local(&server), 999).await;
    assert_eq!(ask(&server, &strict, one.clone()).await.status, 200);
    assert_eq!(ask(&server, &strict, one.clone()).await.status, 429);
    let mut socket = Client::open(&server).await;
    socket.init(json!({})).await;
    socket.subscribe("1", "{ __typename }").await;
    assert_eq!(socket.see_message().await["type"], "error");
    let token = bearer(&server, "user");
    let own = [("authorization", token.as_str()), ("accept", GRAPHQL)];
    assert_eq!(ask(&server, &own, one).await.status, 200, "who is signed in is somebody else");

    let at = |text: &str| Who::address(app, Some(text.parse().unwrap()));
    assert_eq!(at("2001:db8:1:2::1"), at("2001:db8:1:2:ffff::9"));
    assert_ne!(at("2001:db8:1:2::1"), at("2001:db8:1:3::1"));
    assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
    assert_ne!(at("192.0.2.1"), at("192.0.2.2"));
}

#[tokio::test]
async fn a_document_that_is_refused_counts_one() {
    let server = serve().await;
    let strict = [("accept", GRAPHQL)];
    spend(&server, &local(&server), 997).await;
    let unknown = json!({ "documentId": "0".repeat(64) });
    assert_eq!(ask(&server, &strict, unknown.clone()).await.status, 400);
    assert_eq!(ask(&server, &strict, json!({ "query": "{ nothing }" })).await.status, 400);
    assert_eq!(ask(&server, &strict, json!({ "query": "{" })).await.status, 400);
    assert_eq!(ask(&server, &strict, json!({ "query": "{" })).await.status, 429);
    assert_eq!(ask(&server, &strict, unknown).await.status, 429);
}

#[tokio::test]
async fn the_fiftieth_analytics_of_a_minute_pass_and_the_next_ones_do_not() {
    let app = Setting::default().limited().alone().start().await;
    let hotel = app.hotel().await;
    let aliases = |count: usize| {
        let fields: Vec<String> =
            (0..count).map(|number| format!("a{number}: {ANALYTICS}")).collect();
        format!("{{ {} }}", fields.join(" "))
    };
    for _ in 0..3 {
        hotel.manager.gets(&aliases(16), json!({})).await;
    }
    let document = format!("{{ a: {ANALYTICS} b: {ANALYTICS} c: {ANALYTICS} viewer {{ role }} }}");
    let reply = hotel.manager.asks(&document, json!({})).await;
    let errors = reply["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 1, "{reply}");
    assert_eq!(errors[0]["extensions"]["code"], "RATE_LIMITED");
    assert_eq!(errors[0]["extensions"]["limit"], 50);
    let path = errors[0]["path"][0].as_str().unwrap();
    let nulls = ["a", "b", "c"].into_iter().filter(|name| reply["data"][name].is_null());
    assert_eq!(nulls.collect::<Vec<_>>(), [path]);
    assert_eq!(reply["data"]["viewer"]["role"], "MANAGER");

    hotel.admin.gets(&aliases(1), json!({})).await;
    let forbidden = hotel.user.asks(&aliases(16), json!({})).await;
    assert_eq!(forbidden["errors"][0]["extensions"]["code"], "FORBIDDEN");
}

#[tokio::test]
async fn the_tenth_purchase_of_a_minute_passes_and_the_next_one_does_not() {
    let app = Setting::default().limited().alone().start().await;
    let hotel = app.hotel().await;
    let who = Who::actor(&hotel.admin.actor);
    for _ in 0..10 {
        take(&app.app, &who, Limit::Purchases, 1).await.unwrap();
    }
    let refused = take(&app.app, &who, Limit::Purchases, 1).await.unwrap_err();
    assert_eq!(refused.code().as_str(), "RATE_LIMITED");
}

#[tokio::test]
async fn nobody_is_limited_where_limits_are_off() {
    let app = Setting::default().alone().start().await;
    let hotel = app.hotel().await.with_credits(1_000).await;
    hotel.user.runs_times(101, "free").await;
    assert_eq!(hotel.user.left().await, (100, 100, json!(null)));
    let who = Who::actor(&hotel.user.actor);
    take(&app.app, &who, Limit::Operations, 100_000).await.unwrap();
}
