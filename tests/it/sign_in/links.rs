//! Links in mails, and invitations.

use musubi::error::Lang;
use musubi::identity;
use musubi::identity::sign_in::link::{self, LinkRequest};
use musubi::identity::sign_in::session::Visitor;
use serde_json::json;

use super::{
    begin, cookie, get, is_let_in, mail_to, mails_to, minutes, post, press, token_of, two_sites,
};
use crate::support::{TestApp, TestServer};

/// The address of the harness's person in a role.
pub(crate) async fn address_of(app: &TestApp, person: &crate::support::people::Person) -> String {
    let rows = identity::users(&app.app, &person.actor, &[person.id]).await.unwrap();
    identity::email_of(&app.app, &rows[0]).unwrap()
}

#[tokio::test]
async fn a_link_is_answered_alike_for_the_known_and_the_unknown() {
    let app = crate::support::Setting::default().start().await;
    let hotel = app.hotel().await;
    let known = address_of(&app, &hotel.user).await;
    let mut statements = Vec::new();
    for email in [known.as_str(), "nobody@nowhere.test"] {
        let before = app.app.db.statements();
        let asked = LinkRequest {
            email,
            tenant: Some(hotel.id),
            base: "https://musubi.test",
            return_to: None,
            lang: Lang::En,
        };
        link::request(&app.app, asked).await.unwrap();
        statements.push(app.app.db.statements() - before);
    }
    assert_eq!(statements[0], statements[1], "the same work");
    let mails = mails_to(&app, &known).await;
    assert_eq!(mails.len(), 1);
    assert!(mails[0].text.contains("https://musubi.test/auth/email?token="));
    let mails = mails_to(&app, "nobody@nowhere.test").await;
    assert_eq!(mails.len(), 1);
    assert!(!mails[0].text.contains("token="), "no way in for them");
}

#[tokio::test]
async fn an_address_gets_five_links_in_a_quarter_of_an_hour() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let email = address_of(&app, &hotel.user).await;
    let ask = || async {
        let asked = LinkRequest {
            email: &email,
            tenant: None,
            base: "https://musubi.test",
            return_to: None,
            lang: Lang::Ja,
        };
        link::request(&app.app, asked).await.unwrap();
    };
    for _ in 0..7 {
        ask().await;
    }
    assert_eq!(mails_to(&app, &email).await.len(), 5);
    app.clock.advance(minutes(15));
    ask().await;
    assert_eq!(mails_to(&app, &email).await.len(), 6);
}

#[tokio::test]
async fn a_scanner_that_follows_the_link_uses_nothing_up_and_the_button_works_once() {
    let server = TestServer::start().await;
    let email = address_of(&server.app, &server.hotel.user).await;
    let body = json!({ "email": email, "returnTo": "http://localhost:3200/after" });
    assert_eq!(post(&server, "/auth/email", body, &[]).await.status, 202);
    let body = json!({ "email": "no address" });
    assert_eq!(post(&server, "/auth/email", body, &[]).await.code(), "INVALID_INPUT");

    let mail = mail_to(&server.app, &email).await;
    let token = token_of(&mail);
    for _ in 0..3 {
        let page = get(&server, &format!("/auth/email?token={token}"), &[]).await;
        assert_eq!(page.status, 200);
        let html = String::from_utf8(page.body.clone()).unwrap();
        assert!(
            html.contains(&format!("value=\"{token}\"")) && html.contains("<button>"),
            "{html}"
        );
        let policy = page.header("content-security-policy").unwrap();
        assert!(
            policy.contains("default-src 'none'") && !policy.contains("script-src"),
            "{policy}"
        );
    }
    let reply = press(&server, "/auth/email/confirm", &token).await;
    assert_eq!(
        (reply.status, reply.header("location")),
        (303, Some("http://localhost:3200/after"))
    );
    let session = format!("__Host-musubi={}", cookie(&reply));
    let reply = post(&server, "/auth/refresh", json!({}), &[("cookie", &session)]).await;
    let access = reply.json()["accessToken"].as_str().unwrap().to_owned();
    assert!(is_let_in(&server, &access).await);

    let again = press(&server, "/auth/email/confirm", &token).await;
    assert_eq!(again.status, 409);
    assert!(again.header("set-cookie").is_none());
    let again = post(&server, "/auth/email/confirm", json!({ "token": token }), &[]).await;
    assert_eq!((again.status, again.code().as_str()), (409, "INVALID_STATE"));
}

#[tokio::test]
async fn a_link_leads_only_to_pages_of_ours() {
    let server = TestServer::start().await;
    let people = [&server.hotel.user, &server.hotel.support, &server.hotel.manager];
    let people = people.into_iter().chain([&server.hotel.admin]);
    let addresses = ["https://evil.test/", "//evil.test", "javascript:alert(1)", "/somewhere"];
    for (person, address) in people.zip(addresses) {
        let email = address_of(&server.app, person).await;
        let body = json!({ "email": email, "returnTo": address });
        assert_eq!(post(&server, "/auth/email", body, &[]).await.status, 202);
        let mail = mail_to(&server.app, &email).await;
        let reply = press(&server, "/auth/email/confirm", &token_of(&mail)).await;
        assert_eq!(reply.header("location"), Some("http://localhost:3200/"), "{address}");
    }
}

#[tokio::test]
async fn a_link_is_over_after_a_quarter_of_an_hour() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let email = address_of(&app, &hotel.user).await;
    let asked = LinkRequest {
        email: &email,
        tenant: None,
        base: "https://musubi.test",
        return_to: None,
        lang: Lang::Ja,
    };
    link::request(&app.app, asked).await.unwrap();
    let token = token_of(&mails_to(&app, &email).await[0]);
    app.clock.advance(minutes(15));
    let refused = link::redeem(&app.app, &token, Visitor::default()).await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn a_newcomer_of_an_open_site_becomes_a_user_and_of_a_closed_one_nothing() {
    let server = TestServer::start().await;
    let tenant = server.hotel.id;
    two_sites(&server.app, tenant, true).await;
    let fan = "fan@example.test";
    let from_site = [("origin", "https://a.test")];
    let reply = crate::http::stage::eventually(async || {
        let reply = post(&server, "/auth/email", json!({ "email": fan }), &from_site).await;
        (reply.status == 202).then_some(reply)
    })
    .await;
    assert_eq!(reply.header("access-control-allow-origin"), Some("https://a.test"));
    let mail = mail_to(&server.app, fan).await;
    let reply = press(&server, "/auth/email/confirm", &token_of(&mail)).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some("https://a.test")));
    let session = format!("__Host-musubi={}", cookie(&reply));
    let reply = post(&server, "/auth/refresh", json!({}), &[("cookie", &session)]).await;
    let bearer = format!("Bearer {}", reply.json()["accessToken"].as_str().unwrap());
    let query = json!({ "query": "{ viewer { role tenant { id } user { email } } }" });
    let reply = post(&server, "/graphql", query, &[("authorization", &bearer)]).await;
    let viewer = &reply.json()["data"]["viewer"];
    assert_eq!(viewer["role"], "USER");
    assert_eq!(viewer["tenant"]["id"], tenant.to_string());
    assert_eq!(viewer["user"]["email"], fan);

    // The same address from nowhere in particular, and another from nowhere.
    let reply = post(&server, "/auth/email", json!({ "email": "other@example.test" }), &[]).await;
    assert_eq!(reply.status, 202);
    let mail = mail_to(&server.app, "other@example.test").await;
    assert!(!mail.text.contains("token="));
}

#[tokio::test]
async fn a_session_of_one_person_says_nothing_about_another() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let tokens = begin(&app, hotel.user.id, None).await;
    let refused = musubi::identity::sign_in::session::revoke(
        &app.app,
        &hotel.admin.actor,
        Some(tokens.session.id),
    )
    .await;
    assert!(matches!(refused, Err(musubi::error::Error::NotFound(_))));
}

#[tokio::test]
async fn a_link_never_leads_to_a_host_that_only_a_tenant_named() {
    let server = TestServer::start().await;
    two_sites(&server.app, server.hotel.id, true).await;
    let victim = address_of(&server.app, &server.hotel.admin).await;
    let body = json!({ "email": victim }).to_string();
    let head = format!(
        "POST /auth/email HTTP/1.1\r\nhost: a.test\r\norigin: https://a.test\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    crate::http::stage::until("the site is known", async || {
        crate::http::exchange(&server, head.as_bytes()).await.status == 202
    })
    .await;
    let mail = mail_to(&server.app, &victim).await;
    assert!(mail.text.contains("http://localhost:3200/auth/email?token="), "ours alone");
}

#[tokio::test]
async fn a_session_of_a_site_is_for_its_tenant_alone_and_for_no_platform() {
    let app = TestApp::start().await;
    let (site, elsewhere) = (app.hotel().await, app.hotel().await);
    let root = app.platform_admin(None).await;
    let confined = begin(&app, root.id, Some(site.id)).await;
    let actor = identity::authenticate(&app.app, &confined.access, Lang::En).await;
    assert!(actor.is_err(), "without a place there, a platform admin has none on a site");

    let person = &elsewhere.admin;
    let txn = app.app.db.begin().await.unwrap();
    let now = app.clock.now();
    let role = musubi::actor::Role::User;
    identity::add_member(&txn, (site.id, person.id), role, now).await.unwrap();
    txn.commit().await.unwrap();
    let confined = begin(&app, person.id, Some(site.id)).await;
    let actor = identity::authenticate(&app.app, &confined.access, Lang::En).await.unwrap();
    let away =
        musubi::identity::sign_in::session::switch_tenant(&app.app, &actor, elsewhere.id).await;
    assert!(matches!(away, Err(musubi::error::Error::NotFound(_))));
    let free = begin(&app, person.id, None).await;
    let actor = identity::authenticate(&app.app, &free.access, Lang::En).await.unwrap();
    for tenant in [site.id, elsewhere.id] {
        musubi::identity::sign_in::session::switch_tenant(&app.app, &actor, tenant).await.unwrap();
    }
}
