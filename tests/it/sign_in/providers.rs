//! Discord and GitHub, from the button to the session.

use std::sync::Arc;

use musubi::entity::linked_account::Provider;
use musubi::external::oauth::Identity;
use musubi::http::Limits;
use musubi::identity::sign_in::provider;
use musubi::identity::sign_in::session::Visitor;
use musubi::{db, identity};
use sea_orm::EntityTrait;
use serde_json::json;

use super::removals::identity_of;
use super::{begin, get, is_let_in, mails_to, post, two_sites};
use crate::http::Reply;
use crate::support::doubles::OauthServer;
use crate::support::people::Person;
use crate::support::{Setting, TestApp, TestServer};

async fn stage() -> Option<(TestServer, OauthServer)> {
    let provider = OauthServer::start().await?;
    let setting = Setting::default().real_time().oauth(provider.providers());
    let setting = setting.allowed_origin("https://api.a.test");
    Some((TestServer::start_with(setting, Limits::default()).await, provider))
}

/// The cookie that binds a visit, and where the provider sends the browser back to.
async fn go(server: &TestServer, provider: &OauthServer, path: &str) -> (String, String) {
    let reply = get(server, path, &[]).await;
    assert_eq!(reply.status, 302, "{:?}", String::from_utf8_lossy(&reply.body));
    let visit = reply.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    assert!(visit.starts_with("__Host-musubi-visit="), "{visit}");
    let back = provider.follow(reply.header("location").unwrap()).await;
    (visit, format!("{}?{}", back.path(), back.query().unwrap()))
}

async fn come_back(server: &TestServer, path: &str, cookie: &str) -> Reply {
    let from_provider =
        [("cookie", cookie), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
    get(server, path, &from_provider).await
}

/// The refresh token that an answer sets, beside the end of the visit.
fn session(reply: &Reply) -> Option<String> {
    let mut lines = reply.headers("set-cookie");
    let line = lines.find(|line| line.starts_with("__Host-musubi="))?;
    Some(line.split(';').next().unwrap().to_owned())
}

async fn email_of(server: &TestServer, person: &Person) -> String {
    address_of(&server.app, person).await
}

async fn address_of(app: &TestApp, person: &Person) -> String {
    let app = &app.app;
    let rows = identity::users(app, &person.actor, &[person.id]).await.unwrap();
    identity::email_of(app, &rows[0]).unwrap()
}

/// The address of a person of the hotel counts as proved, or not.
async fn prove(server: &TestServer, is_proved: bool) {
    let app = &server.app.app;
    let at = is_proved.then(|| app.clock.db_now());
    let txn = app.db.begin().await.unwrap();
    let sql = "UPDATE users SET email_verified_at = $1 WHERE id = $2";
    let values = vec![at.into(), server.hotel.user.id.into()];
    db::execute(&*txn, sql, values).await.unwrap();
    txn.commit().await.unwrap();
}

#[tokio::test]
async fn a_known_person_signs_in_by_either_and_comes_back_to_where_they_were() {
    let Some((server, provider)) = stage().await else { return };
    let email = email_of(&server, &server.hotel.user).await;
    prove(&server, true).await;
    for name in ["discord", "github"] {
        provider.is("583231", "花子", Some(&email), true).await;
        let path = format!("/auth/{name}?returnTo=http%3A%2F%2Flocalhost%3A3200%2Fhere");
        let (visit, back) = go(&server, &provider, &path).await;
        let reply = come_back(&server, &back, &visit).await;
        assert_eq!(reply.status, 303, "{:?}", String::from_utf8_lossy(&reply.body));
        assert_eq!(reply.header("location"), Some("http://localhost:3200/here"));
        let own = session(&reply).unwrap();
        let reply = post(&server, "/auth/refresh", json!({}), &[("cookie", &own)]).await;
        let access = reply.json()["accessToken"].as_str().unwrap().to_owned();
        assert!(is_let_in(&server, &access).await);
        // A code is good once, and so is the visit.
        let again = come_back(&server, &back, &visit).await;
        assert_eq!((again.status, session(&again)), (400, None));
    }
    // Linked by now: the address no longer matters.
    provider.is("583231", "花子", Some("other@example.test"), false).await;
    let (visit, back) = go(&server, &provider, "/auth/github").await;
    assert_eq!(come_back(&server, &back, &visit).await.status, 303);
}

#[tokio::test]
async fn an_address_that_one_side_never_proved_takes_nobody_over() {
    let Some((server, provider)) = stage().await else { return };
    let email = email_of(&server, &server.hotel.user).await;
    for (is_verified_there, is_proved_here) in [(false, true), (true, false), (false, false)] {
        prove(&server, is_proved_here).await;
        provider.is("666", "Eve", Some(&email), is_verified_there).await;
        let (visit, back) = go(&server, &provider, "/auth/github").await;
        let reply = come_back(&server, &back, &visit).await;
        assert_eq!((reply.status, session(&reply)), (409, None));
    }
    let accounts = musubi::entity::linked_account::Entity::find();
    assert_eq!(accounts.all(server.app.app.db.primary()).await.unwrap(), []);
}

#[tokio::test]
async fn a_visit_that_another_browser_began_ends_there() {
    let Some((server, provider)) = stage().await else { return };
    let email = email_of(&server, &server.hotel.user).await;
    prove(&server, true).await;
    provider.is("583231", "花子", Some(&email), true).await;
    let (own, _) = go(&server, &provider, "/auth/github").await;
    let (_, back) = go(&server, &provider, "/auth/github").await;
    for cookie in [own.as_str(), "", "__Host-musubi-visit=x.y"] {
        let reply = come_back(&server, &back, cookie).await;
        assert_eq!((reply.status, session(&reply)), (400, None), "{cookie}");
    }
    // The state of one provider is not the other's.
    let (visit, back) = go(&server, &provider, "/auth/github").await;
    let crossed = back.replace("/auth/github/", "/auth/discord/");
    assert_eq!(come_back(&server, &crossed, &visit).await.status, 400);
}

#[tokio::test]
async fn a_newcomer_is_let_in_by_an_open_site_only() {
    let Some((server, provider)) = stage().await else { return };
    two_sites(&server.app, server.hotel.id, true).await;
    provider.is("77", "新\0人", Some("new@example.test"), true).await;
    let (visit, back) = go(&server, &provider, "/auth/discord").await;
    assert_eq!(come_back(&server, &back, &visit).await.status, 409, "nobody knows them");
    let path = "/auth/discord?returnTo=https%3A%2F%2Fa.test%2Fshop";
    let reply = crate::http::stage::eventually(async || {
        let (visit, back) = go(&server, &provider, path).await;
        let reply = come_back(&server, &back, &visit).await;
        (reply.status == 303).then_some(reply)
    })
    .await;
    assert_eq!(reply.header("location"), Some("https://a.test/shop"));

    // At the site's own host of ours, the browser comes back to that host, which has its cookie.
    let head = format!("GET {path} HTTP/1.1\r\nhost: api.a.test\r\n\r\n");
    let reply = crate::http::exchange(&server, head.as_bytes()).await;
    let location = reqwest::Url::parse(reply.header("location").unwrap()).unwrap();
    let redirect = crate::support::doubles::query(&location, "redirect_uri").unwrap();
    assert_eq!(redirect, "https://api.a.test/auth/discord/callback");
    let head = format!("GET {path} HTTP/1.1\r\nhost: evil.test\r\n\r\n");
    let reply = crate::http::exchange(&server, head.as_bytes()).await;
    let location = reqwest::Url::parse(reply.header("location").unwrap()).unwrap();
    let redirect = crate::support::doubles::query(&location, "redirect_uri").unwrap();
    assert_eq!(redirect, "http://localhost:3200/auth/discord/callback", "never what a header says");
    let head = format!("GET {path} HTTP/1.1\r\nhost: a.test\r\n\r\n");
    let reply = crate::http::exchange(&server, head.as_bytes()).await;
    let location = reqwest::Url::parse(reply.header("location").unwrap()).unwrap();
    let redirect = crate::support::doubles::query(&location, "redirect_uri").unwrap();
    assert_eq!(redirect, "http://localhost:3200/auth/discord/callback", "nor what a tenant says");
}

#[tokio::test]
async fn an_account_is_linked_by_who_is_signed_in_and_belongs_to_one_person() {
    let Some((server, provider)) = stage().await else { return };
    provider.is("99", "別名", Some("private@elsewhere.test"), true).await;
    let refused = get(&server, "/auth/github?link=1", &[]).await;
    assert_eq!(refused.status, 401, "nobody is signed in");
    for (person, status) in [(&server.hotel.user, 303), (&server.hotel.support, 409)] {
        let tokens = begin(&server.app, person.id, None).await;
        let own = format!("__Host-musubi={}", tokens.refresh);
        let reply = get(&server, "/auth/github?link=1", &[("cookie", &own)]).await;
        let visit = reply.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        let back = provider.follow(reply.header("location").unwrap()).await;
        let back = format!("{}?{}", back.path(), back.query().unwrap());
        assert_eq!(come_back(&server, &back, &visit).await.status, status);
    }
    let user = &server.hotel.user.actor;
    let listed = identity::sign_in::provider::list(&server.app.app, user).await.unwrap();
    let listed: Vec<_> = listed.iter().map(|row| row.provider).collect();
    assert_eq!(listed, [Provider::Github]);
}

#[tokio::test]
async fn a_person_who_says_no_and_a_provider_that_fails_sign_nobody_in() {
    let Some((server, provider)) = stage().await else { return };
    provider.control(json!({ "denies": true })).await;
    let (visit, back) = go(&server, &provider, "/auth/github").await;
    let reply = come_back(&server, &back, &visit).await;
    assert_eq!((reply.status, session(&reply)), (303, None), "back to where they were");
    provider.control(json!({ "denies": false })).await;
    for (kind, status) in [("500", 502), ("garbage", 502), ("huge", 502)] {
        provider.fails("user", kind).await;
        let (visit, back) = go(&server, &provider, "/auth/github").await;
        let reply = come_back(&server, &back, &visit).await;
        assert_eq!((reply.status, session(&reply)), (status, None), "{kind}");
    }
    assert_eq!(get(&server, "/auth/nobody", &[]).await.status, 404);
}

#[tokio::test]
async fn a_person_is_told_once_and_in_their_language_what_was_linked_and_unlinked() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let (user, other) = (&hotel.user, &hotel.support);
    let email = address_of(&app, user).await;
    let github = identity_of("99");
    for _ in 0..2 {
        provider::link(&app.app, (user.id, &Arc::default()), Provider::Github, &github)
            .await
            .unwrap();
    }
    let taken =
        provider::link(&app.app, (other.id, &Arc::default()), Provider::Github, &github).await;
    assert!(taken.is_err());
    let told = mails_to(&app, &email).await;
    assert_eq!(told.len(), 1, "what is linked already is no news");
    assert_eq!(told[0].subject, "GitHubと連携しました");
    assert!(told[0].text.contains("心当たりがない場合"), "{}", told[0].text);

    let txn = app.app.db.begin().await.unwrap();
    let sql = "UPDATE users SET locale = 'en', email_verified_at = $2 WHERE id = $1";
    let values = vec![user.id.into(), app.app.clock.db_now().into()];
    db::execute(&*txn, sql, values).await.unwrap();
    txn.commit().await.unwrap();
    let unlink = || provider::unlink(&app.app, &user.actor, Provider::Github);
    let (first, second) = futures_util::future::join(unlink(), unlink()).await;
    assert!(first.is_ok() != second.is_ok(), "two clicks: {first:?} {second:?}");
    let told = mails_to(&app, &email).await;
    assert_eq!(told.len(), 2);
    assert_eq!(told[1].subject, "GitHub was unlinked");
    assert!(told[1].text.contains("If it was not"), "{}", told[1].text);

    // A provider's word alone links an account of a known person, too.
    let named = |email: &str| Identity {
        email: Some(email.to_owned()),
        is_email_verified: true,
        ..identity_of("100")
    };
    let nowhere = || (None, Visitor::default());
    provider::sign_in(&app.app, Provider::Discord, &named(&email), nowhere()).await.unwrap();
    let told = mails_to(&app, &email).await;
    assert_eq!((told.len(), told[2].subject.as_str()), (3, "Discord was linked"));
    provider::sign_in(&app.app, Provider::Discord, &named(&email), nowhere()).await.unwrap();
    assert_eq!(mails_to(&app, &email).await.len(), 3);
    assert!(mails_to(&app, &address_of(&app, other).await).await.is_empty());
}
