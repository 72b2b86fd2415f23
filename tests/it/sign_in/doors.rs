//! Whose pages may ask, and the way from one site to another.

use std::sync::Arc;

use musubi::entity::cross_site_activity;
use musubi::http::Limits;
use musubi::identity::sign_in::session;
use musubi::ids::UserId;
use sea_orm::EntityTrait;
use serde_json::{Value, json};

use super::{begin, cookie, post, two_sites};
use crate::http::{Reply, exchange, request};
use crate::support::{Setting, TestServer};

/// A server whose hotel has two sites, known to the perimeter.
async fn stage() -> TestServer {
    let setting = Setting::default().real_time().allowed_origin("https://api.b.test");
    let server = TestServer::start_with(setting, Limits::default()).await;
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
        let (server, body) = (&server, json!({ "code": code, "unbound": true }));
        async move { post(server, "/auth/hand-over/redeem", body, &[("origin", origin)]).await }
    };
    assert_eq!(redeem("https://a.test").await.status, 409, "bound to its target");
    let reply = redeem("https://b.test").await;
    assert_eq!(reply.status, 200);
    assert!(!cookie(&reply).is_empty());
    assert_eq!(redeem("https://b.test").await.status, 409, "once");

    let first = &tokens.refresh;
    let redeemed = cookie(&reply);
    musubi::identity::sign_in::session::sign_out(&server.app.app, first, &Arc::default())
        .await
        .unwrap();
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
    let body = json!({ "code": code, "unbound": true });
    let reply = post(&server, "/auth/hand-over/redeem", body, &there).await;
    assert_eq!(reply.status, 409);
}

/// A page of `b.test` posts to that site's own host of ours, with its browser's cookies.
async fn at_b(server: &TestServer, path: &str, body: Value, cookies: &[String]) -> Reply {
    let body = body.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: api.b.test\r\norigin: https://b.test\r\n\
         content-type: application/json\r\ncookie: {}\r\ncontent-length: {}\r\n\r\n{body}",
        cookies.join("; "),
        body.len(),
    );
    exchange(server, head.as_bytes()).await
}

/// A code for `b.test` that somebody gets on `a.test`.
async fn code_of(server: &TestServer, person: UserId, challenge: Option<&str>) -> String {
    let tokens = begin(&server.app, person, None).await;
    let bearer = format!("Bearer {}", tokens.access);
    let here = [("origin", "https://a.test"), ("authorization", bearer.as_str())];
    let body = json!({ "target": "https://b.test", "consent": true, "challenge": challenge });
    let reply = post(server, "/auth/hand-over", body, &here).await;
    assert_eq!(reply.status, 200, "{}", reply.json());
    reply.json()["code"].as_str().unwrap().to_owned()
}

async fn redeems(server: &TestServer, body: Value, cookies: &[String]) -> Reply {
    at_b(server, "/auth/hand-over/redeem", body, cookies).await
}

/// A browser that begins at `b.test`: its cookie and the challenge.
async fn begins(server: &TestServer, cookies: &[String]) -> (String, String) {
    let reply = at_b(server, "/auth/hand-over/begin", json!({}), cookies).await;
    assert_eq!(reply.status, 200, "{}", reply.json());
    let line = reply.header("set-cookie").unwrap();
    assert!(line.starts_with("__Host-musubi-hand-over="), "{line}");
    for word in ["Path=/", "Secure", "HttpOnly", "SameSite=Strict", "Max-Age=600"] {
        assert!(line.contains(word), "{line} lacks {word}");
    }
    let cookie = line.split(';').next().unwrap().to_owned();
    (cookie, reply.json()["challenge"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_code_is_for_the_browser_that_began_and_for_no_other() {
    let server = stage().await;
    let person = server.hotel.user.id;
    let (own, challenge) = begins(&server, &[]).await;
    let (other, another) = begins(&server, &[]).await;
    let (same, again) = begins(&server, std::slice::from_ref(&own)).await;
    assert_ne!((&other, &another), (&own, &challenge));
    assert_eq!((same, &again), (own.clone(), &challenge), "tabs of one browser share it");
    assert!(!own.contains(&challenge), "the cookie is the secret of the two");

    let code = code_of(&server, person, Some(&challenge)).await;
    let no_cookie: Vec<String> = Vec::new();
    for cookies in [no_cookie.clone(), vec![other], vec!["__Host-musubi-hand-over=x".into()]] {
        for body in [json!({ "code": code }), json!({ "code": code, "unbound": true })] {
            let refused = redeems(&server, body, &cookies).await;
            assert_eq!((refused.status, refused.header("set-cookie")), (409, None), "{cookies:?}");
        }
    }
    let body = || json!({ "code": code });
    let browser = [own.clone()];
    let tries = futures_util::future::join_all((0..4).map(|_| redeems(&server, body(), &browser)));
    let tries = tries.await;
    let taken: Vec<_> = tries.iter().filter(|reply| reply.status == 200).collect();
    assert_eq!(taken.len(), 1, "nothing was consumed before, and once now");
    let cookies: Vec<_> = taken[0].headers("set-cookie").collect();
    assert!(cookies[1].starts_with("__Host-musubi-hand-over=;"), "{cookies:?}");

    // A browser that has begun takes no code that is for any; one that has not, if its page wants.
    let free = code_of(&server, person, None).await;
    let body = json!({ "code": free, "unbound": true });
    assert_eq!(redeems(&server, body.clone(), &browser).await.status, 409);
    assert_eq!(redeems(&server, json!({ "code": free }), &no_cookie).await.status, 409);
    assert_eq!(redeems(&server, body, &no_cookie).await.status, 200);
}

#[tokio::test]
async fn what_is_no_challenge_and_who_is_no_page_of_a_site_begin_nothing() {
    let server = stage().await;
    let outside = post(&server, "/auth/hand-over/begin", json!({}), &[]).await;
    assert_eq!((outside.status, outside.header("set-cookie")), (403, None));
    let tokens = begin(&server.app, server.hotel.user.id, None).await;
    let bearer = format!("Bearer {}", tokens.access);
    let here = [("origin", "https://a.test"), ("authorization", bearer.as_str())];
    for challenge in [json!(""), json!("x"), json!("!".repeat(43)), json!(7), json!([])] {
        let body = json!({ "target": "https://b.test", "consent": true, "challenge": challenge });
        let refused = post(&server, "/auth/hand-over", body, &here).await;
        assert_eq!(refused.code(), "INVALID_INPUT", "{challenge}");
    }
}

#[tokio::test]
async fn a_code_replaces_the_session_of_somebody_else_only_when_the_page_says_so() {
    let server = stage().await;
    let victim = begin(&server.app, server.hotel.support.id, Some(server.hotel.id)).await;
    let of_victim = format!("__Host-musubi={}", victim.refresh);
    let (begun, challenge) = begins(&server, &[]).await;
    let browser = [begun, of_victim.clone()];
    let code = code_of(&server, server.hotel.user.id, Some(&challenge)).await;

    let refused = redeems(&server, json!({ "code": code }), &browser).await;
    let body = json!({ "code": code, "replace": "yes" });
    let vague = redeems(&server, body, &browser).await;
    let open = session::peek(&server.app.app, &victim.refresh).await;
    let body = json!({ "code": code, "replace": true });
    let replaced = redeems(&server, body, &browser).await;
    let ended = session::peek(&server.app.app, &victim.refresh).await;

    for refused in [refused, vague] {
        assert_eq!((refused.status, refused.code().as_str()), (409, "SIGNED_IN_AS_ANOTHER"));
        assert_eq!(refused.header("set-cookie"), None);
    }
    assert!(open.is_ok(), "the session went on");
    assert_eq!(replaced.status, 200, "nothing was consumed before");
    assert!(ended.is_err(), "who was replaced is signed out");

    // The same person, and somebody whose session is over.
    let own = format!("__Host-musubi={}", cookie(&replaced));
    for before in [own, of_victim] {
        let (begun, challenge) = begins(&server, &[]).await;
        let code = code_of(&server, server.hotel.user.id, Some(&challenge)).await;
        let reply = redeems(&server, json!({ "code": code }), &[begun, before]).await;
        assert_eq!(reply.status, 200);
    }
}
