//! Ways in: tries by address, links and invitations by mail.

use futures_util::future::join_all;
use musubi::actor::Role;
use musubi::error::{Code, Error, Lang};
use musubi::identity::service::invitation::{Invite, invite};
use musubi::identity::sign_in::link::{self, LinkRequest};
use musubi::limits::service::take;
use musubi::limits::table::Limit;
use musubi::limits::who::Who;
use serde_json::json;

use super::minutes;
use crate::http::send;
use crate::support::{Setting, TestApp, TestServer};

async fn post(server: &TestServer, path: &str, body: serde_json::Value) -> crate::http::Reply {
    let headers = [("content-type", "application/json")];
    send(server, "POST", path, &headers, body.to_string()).await
}

#[tokio::test]
async fn an_address_asks_for_thirty_links_and_tries_six_hundred_times() {
    // Also where limits are off.
    let setting = Setting::default().alone();
    let server = TestServer::start_with(setting, musubi::http::Limits::default()).await;
    let ask =
        async || post(&server, "/auth/email", json!({ "email": "nobody@nowhere.test" })).await;
    for number in 0..30 {
        assert_eq!(ask().await.status, 202, "{number}");
    }
    let reply = ask().await;
    assert_eq!((reply.status, reply.code().as_str()), (429, "RATE_LIMITED"));
    assert!(reply.header("retry-after").is_some());
    let confirm = async || post(&server, "/auth/email/confirm", json!({ "token": "x" })).await;
    assert_eq!(confirm().await.status, 409);

    let here = Who::address(&server.app.app, Some(std::net::Ipv4Addr::LOCALHOST.into()));
    take(&server.app.app, &here, Limit::SignInTries, 568).await.unwrap();
    assert_eq!(confirm().await.status, 429, "31 and 1 and 568");
    server.app.clock.advance(minutes(16));
    assert_eq!(confirm().await.status, 409);
    assert_eq!(ask().await.status, 202);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn posts_at_the_same_moment_get_five_links_together() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let replica = app.replica().await;
    let known = crate::sign_in::links::address_of(&app, &hotel.user).await;
    for email in [known.as_str(), "nobody@nowhere.test"] {
        let asks = (0..40).map(|number| {
            let app = if number % 2 == 0 { &app.app } else { &replica };
            let asked = LinkRequest {
                email,
                tenant: None,
                base: "https://musubi.test",
                return_to: None,
                lang: Lang::En,
            };
            link::request(app, asked)
        });
        for asked in join_all(asks).await {
            asked.unwrap();
        }
        assert_eq!(crate::sign_in::mails_to(&app, email).await.len(), 5, "{email}");
    }
}

#[tokio::test]
async fn a_tenant_sends_fifty_invitations_an_hour_and_three_a_day_to_an_address() {
    let app = Setting::default().limited().alone().start().await;
    let (hotel, other) = (app.hotel().await, app.hotel().await);
    let ask = async |email: &str| {
        let wanted = Invite { email: email.to_owned(), role: Role::User };
        invite(&app.app, &hotel.admin.actor, wanted).await.map(|_| ())
    };
    let is_limited =
        |done: Result<(), Error>| matches!(done, Err(error) if error.code() == Code::RateLimited);
    for _ in 0..3 {
        ask("guest@example.test").await.unwrap();
    }
    assert!(is_limited(ask("Guest@Example.test").await));
    let theirs = Invite { email: "guest@example.test".to_owned(), role: Role::User };
    invite(&app.app, &other.admin.actor, theirs).await.unwrap();

    // What sends no mail is not counted.
    let member = crate::sign_in::links::address_of(&app, &hotel.user).await;
    for _ in 0..5 {
        let refused = ask(&member).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidState);
    }
    for number in 3..50 {
        ask(&format!("guest-{number}@example.test")).await.unwrap();
    }
    assert!(is_limited(ask("guest-50@example.test").await));
    app.clock.advance(minutes(62));
    ask("guest-50@example.test").await.unwrap();
    assert!(is_limited(ask("guest@example.test").await), "a day is longer");
    app.clock.advance(minutes(24 * 60));
    ask("guest@example.test").await.unwrap();
}
