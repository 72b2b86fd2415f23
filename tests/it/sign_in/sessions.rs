//! Refresh tokens and the ends of sessions.

use std::sync::Arc;

use futures_util::future::join_all;
use musubi::error::{Error, Lang};
use musubi::identity::sign_in::session;
use musubi::identity::{self};

use super::{begin, cookie, is_let_in, minutes, post};
use crate::support::{TestApp, TestServer};
use serde_json::json;

#[tokio::test]
async fn a_refresh_token_is_good_once_and_its_successor_follows() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let first = begin(&app, hotel.user.id, None).await;
    assert_eq!(first.session.tenant_id, Some(hotel.id), "the person's own tenant");
    let second = session::renew(&app.app, &first.refresh, &Arc::default()).await.unwrap();
    assert_ne!(second.refresh, first.refresh);
    let third = session::renew(&app.app, &second.refresh, &Arc::default()).await.unwrap();
    assert_eq!(third.session.id, first.session.id);
    let actor = identity::authenticate(&app.app, &third.access, Lang::En).await.unwrap();
    assert_eq!((actor.user_id, actor.tenant_id), (hotel.user.id, Some(hotel.id)));
    assert_eq!(third.access_ends_at - app.clock.now(), minutes(15));
}

#[tokio::test]
async fn two_tabs_that_refresh_at_once_get_the_same_successor() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let first = begin(&app, hotel.user.id, None).await;
    let source = Arc::default();
    let renewals =
        join_all((0..8).map(|_| session::renew(&app.app, &first.refresh, &source))).await;
    let successors: Vec<String> = renewals.into_iter().map(|it| it.unwrap().refresh).collect();
    assert!(successors.iter().all(|it| *it == successors[0]));
    // An answer that was lost: the same again, as long as the grace lasts.
    app.clock.advance(chrono::TimeDelta::seconds(20));
    assert_eq!(
        session::renew(&app.app, &first.refresh, &Arc::default()).await.unwrap().refresh,
        successors[0]
    );
    session::renew(&app.app, &successors[0], &Arc::default()).await.unwrap();
}

#[tokio::test]
async fn a_stolen_refresh_token_that_is_used_later_ends_the_session_for_both() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let stolen = begin(&app, hotel.user.id, None).await;
    let other = begin(&app, hotel.user.id, None).await;
    let own = session::renew(&app.app, &stolen.refresh, &Arc::default()).await.unwrap();
    app.clock.advance(chrono::TimeDelta::seconds(21));
    let refused = session::renew(&app.app, &stolen.refresh, &Arc::default()).await;
    assert!(matches!(refused, Err(Error::Unauthenticated)));
    let refused = session::renew(&app.app, &own.refresh, &Arc::default()).await;
    assert!(matches!(refused, Err(Error::Unauthenticated)), "the owner has to sign in again");
    let refused = identity::authenticate(&app.app, &own.access, Lang::En).await;
    assert!(matches!(refused, Err(Error::Unauthenticated)), "access tokens end at once, too");
    session::renew(&app.app, &other.refresh, &Arc::default())
        .await
        .expect("another session goes on");
}

#[tokio::test]
async fn a_refresh_token_with_one_letter_changed_ends_nothing() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let tokens = begin(&app, hotel.user.id, None).await;
    for at in [5, 20, 30, 40, 60, tokens.refresh.len() - 2] {
        let mut forged = tokens.refresh.clone().into_bytes();
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(forged).unwrap();
        let refused = session::renew(&app.app, &forged, &Arc::default()).await;
        assert!(matches!(refused, Err(Error::Unauthenticated)), "letter {at}");
    }
    session::renew(&app.app, &tokens.refresh, &Arc::default()).await.unwrap();
}

#[tokio::test]
async fn a_session_that_is_not_used_for_thirty_days_is_over() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let tokens = begin(&app, hotel.user.id, None).await;
    app.clock.advance(chrono::TimeDelta::days(29));
    let tokens = session::renew(&app.app, &tokens.refresh, &Arc::default()).await.unwrap();
    app.clock.advance(chrono::TimeDelta::days(30));
    let refused = session::renew(&app.app, &tokens.refresh, &Arc::default()).await;
    assert!(matches!(refused, Err(Error::Unauthenticated)));
}

#[tokio::test]
async fn a_browser_refreshes_by_its_cookie_and_signs_out() {
    let server = TestServer::start().await;
    let tokens = begin(&server.app, server.hotel.user.id, None).await;
    let own = format!("__Host-musubi={}", tokens.refresh);
    let reply = post(&server, "/auth/refresh", json!({}), &[("cookie", &own)]).await;
    assert_eq!(reply.status, 200, "{:?}", String::from_utf8_lossy(&reply.body));
    let body = reply.json();
    assert!(body.get("refreshToken").is_none(), "a script never sees it");
    let access = body["accessToken"].as_str().unwrap().to_owned();
    assert!(is_let_in(&server, &access).await);
    let next = format!("__Host-musubi={}", cookie(&reply));

    let stranger = [("cookie", next.as_str()), ("origin", "https://evil.test")];
    assert_eq!(post(&server, "/auth/refresh", json!({}), &stranger).await.status, 403);
    let crossing = [("cookie", next.as_str()), ("sec-fetch-site", "cross-site")];
    assert_eq!(post(&server, "/auth/sign-out", json!({}), &crossing).await.status, 403);

    let reply = post(&server, "/auth/sign-out", json!({}), &[("cookie", &next)]).await;
    assert_eq!((reply.status, cookie(&reply)), (204, String::new()));
    assert!(!is_let_in(&server, &access).await, "the access token ends with its session");
    let reply = post(&server, "/auth/refresh", json!({}), &[("cookie", &next)]).await;
    assert_eq!((reply.status, cookie(&reply)), (401, String::new()));
}

#[tokio::test]
async fn a_program_refreshes_by_the_body_and_gets_no_cookie() {
    let server = TestServer::start().await;
    let tokens = begin(&server.app, server.hotel.user.id, None).await;
    let body = json!({ "refreshToken": tokens.refresh });
    let reply = post(&server, "/auth/refresh", body, &[]).await;
    assert_eq!(reply.status, 200);
    assert!(reply.header("set-cookie").is_none());
    let next = reply.json()["refreshToken"].as_str().unwrap().to_owned();
    let reply = post(&server, "/auth/sign-out", json!({ "refreshToken": next }), &[]).await;
    assert_eq!(reply.status, 204);
    let reply = post(&server, "/auth/refresh", json!({ "refreshToken": next }), &[]).await;
    assert_eq!((reply.status, reply.code().as_str()), (401, "UNAUTHENTICATED"));
}

#[tokio::test]
async fn somebody_who_signs_in_everywhere_keeps_fifty_sessions() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let oldest = begin(&app, hotel.user.id, None).await;
    for _ in 0..50 {
        app.clock.advance(chrono::TimeDelta::seconds(1));
        begin(&app, hotel.user.id, None).await;
    }
    let sessions = session::list(&app.app, &hotel.user.actor).await.unwrap();
    assert_eq!(sessions.len(), 50);
    assert!(sessions.iter().all(|it| it.id != oldest.session.id));
    assert_eq!(session::revoke(&app.app, &hotel.user.actor, None).await.unwrap(), 50);
    assert!(session::list(&app.app, &hotel.user.actor).await.unwrap().is_empty());
}
