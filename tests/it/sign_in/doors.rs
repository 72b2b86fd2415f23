//! Whose pages may ask, and the way from one site to another.

use musubi::entity::cross_site_activity;
use sea_orm::EntityTrait;
use serde_json::json;

use super::{begin, cookie, post, two_sites};
use crate::http::{exchange, request};
use crate::support::TestServer;

/// A server whose hotel has two sites, known to the perimeter.
async fn stage() -> TestServer {
    let server = TestServer::start().await;
    two_sites(&server.app, server.hotel.id, false).await;
    crate::http::stage::until("the sites are known", async || {
        let query = json!({ "query": "{ __typename }" });
        post(&server, "/graphql", query, &[("origin", "https://a.test")]).await.status == 200
    })
    .await;
    server
}

#[tokio::test]
async fn pages_of_a_tenants_sites_may_ask_and_others_may_not() {
    let server = stage().await;
    let query = json!({ "query": "{ __typename }" });
    for origin in ["https://a.test", "https://A.test", "https://a.test:443", "https://api.b.test"] {
        let reply = post(&server, "/graphql", query.clone(), &[("origin", origin)]).await;
        assert_eq!(reply.status, 200, "{origin}");
        assert_eq!(reply.header("access-control-allow-origin"), Some(origin));
        assert_eq!(reply.header("access-control-allow-credentials"), Some("true"));
        assert!(reply.headers("vary").any(|value| value.eq_ignore_ascii_case("origin")));
    }
    let strangers = [
        "http://a.test",
        "https://a.test:8443",
        "https://a.test.evil.test",
        "https://evil-a.test",
        "https://x.a.test",
        "null",
        "https://",
    ];
    for origin in strangers {
        let reply = post(&server, "/graphql", query.clone(), &[("origin", origin)]).await;
        assert_eq!(reply.status, 403, "{origin}");
        assert_eq!(reply.header("access-control-allow-origin"), None, "{origin}");
    }
    let asked = [
        ("origin", "https://b.test"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type"),
    ];
    for path in ["/graphql", "/auth/refresh"] {
        let reply = exchange(&server, &request("OPTIONS", path, &asked, b"")).await;
        assert_eq!(reply.status, 204, "{path}");
        assert_eq!(reply.header("access-control-allow-origin"), Some("https://b.test"));
        assert_eq!(reply.header("access-control-allow-credentials"), Some("true"));
    }
}

#[tokio::test]
async fn a_person_goes_on_to_the_other_site_once_with_consent_and_it_is_recorded() {
    let server = stage().await;
    let tokens = begin(&server.app, server.hotel.user.id, None).await;
    let bearer = format!("Bearer {}", tokens.access);
    let here = [("origin", "https://a.test"), ("authorization", bearer.as_str())];
    let ask = |target: &'static str, consent: bool| {
        let body = json!({ "target": target, "consent": consent });
        let (server, here) = (&server, &here);
        async move { post(server, "/auth/hand-over", body, here).await }
    };
    assert_eq!(ask("https://b.test", false).await.code(), "INVALID_INPUT");
    assert_eq!(ask("https://evil.test", true).await.code(), "NOT_FOUND");
    assert_eq!(ask("https://a.test", true).await.code(), "NOT_FOUND", "they are there already");

    let reply = ask("https://b.test", true).await;
    assert_eq!(reply.status, 200);
    let code = reply.json()["code"].as_str().unwrap().to_owned();
    assert_eq!(reply.json()["url"], format!("https://b.test/#hand-over={code}"));
    let redeem = |origin: &'static str| {
        let (server, body) = (&server, json!({ "code": code }));
        async move { post(server, "/auth/hand-over/redeem", body, &[("origin", origin)]).await }
    };
    assert_eq!(redeem("https://a.test").await.status, 409, "bound to its target");
    let reply = redeem("https://b.test").await;
    assert_eq!(reply.status, 200);
    assert!(!cookie(&reply).is_empty());
    assert_eq!(redeem("https://b.test").await.status, 409, "once");

    let first = &tokens.refresh;
    let redeemed = cookie(&reply);
    musubi::identity::sign_in::session::sign_out(&server.app.app, first).await.unwrap();
    let own = format!("__Host-musubi={redeemed}");
    let over = post(&server, "/auth/refresh", json!({}), &[("cookie", &own)]).await;
    assert_eq!(over.status, 401, "it ends with the session that it came from");

    let rows = cross_site_activity::Entity::find().all(server.app.app.db.primary()).await.unwrap();
    let rows: Vec<_> = rows.iter().map(|row| (row.from_domain.as_str(), row.user_id)).collect();
    assert_eq!(rows, [("a.test", server.hotel.user.id)]);
}

#[tokio::test]
async fn a_code_whose_session_has_ended_is_void() {
    let server = stage().await;
    let tokens = begin(&server.app, server.hotel.user.id, None).await;
    let bearer = format!("Bearer {}", tokens.access);
    let here = [("origin", "https://a.test"), ("authorization", bearer.as_str())];
    let body = json!({ "target": "https://b.test", "consent": true });
    let reply = post(&server, "/auth/hand-over", body, &here).await;
    let code = reply.json()["code"].as_str().unwrap().to_owned();
    post(&server, "/auth/sign-out", json!({ "refreshToken": tokens.refresh }), &[]).await;
    let there = [("origin", "https://b.test")];
    let reply = post(&server, "/auth/hand-over/redeem", json!({ "code": code }), &there).await;
    assert_eq!(reply.status, 409);
}
