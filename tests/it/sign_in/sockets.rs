//! Sockets live as long as what let them in.

use std::sync::Arc;

use musubi::actor::Permission;
use musubi::identity::service::key::{self, NewKey};
use musubi::identity::sign_in::session;
use serde_json::json;

use super::begin;
use crate::support::TestServer;
use crate::ws::Client;

#[tokio::test]
async fn a_socket_ends_with_its_session_and_others_go_on() {
    let server = TestServer::start().await;
    let ending = begin(&server.app, server.hotel.user.id, None).await;
    let staying = begin(&server.app, server.hotel.user.id, None).await;
    let mut clients = Vec::new();
    for tokens in [&ending, &staying] {
        let mut client = Client::open(&server).await;
        client.init(json!({ "authorization": format!("Bearer {}", tokens.access) })).await;
        client.subscribe("b", "subscription { creditBalance { current } }").await;
        assert_eq!(client.see_message().await["type"], "next");
        clients.push(client);
    }
    session::sign_out(&server.app.app, &ending.refresh, &Arc::default()).await.unwrap();
    clients[0].see_closed(4403, "Forbidden").await;
    clients[1].see_nothing().await;
}

#[tokio::test]
async fn a_session_that_ends_on_another_node_ends_its_sockets_here() {
    let server = TestServer::start().await;
    if server.app.app.config.redis_url.is_none() {
        // Nodes of one SQLite file hear nothing of each other; a socket looks each minute.
        return;
    }
    let tokens = begin(&server.app, server.hotel.user.id, None).await;
    let mut client = Client::open(&server).await;
    client.init(json!({ "authorization": format!("Bearer {}", tokens.access) })).await;
    let other = server.app.replica().await;
    session::sign_out(&other, &tokens.refresh, &Arc::default()).await.unwrap();
    client.see_closed(4403, "Forbidden").await;
}

#[tokio::test]
async fn a_revoked_key_loses_its_sockets_and_is_refused_everywhere() {
    let server = TestServer::start().await;
    let app = &server.app.app;
    let admin = &server.hotel.admin.actor;
    let permissions = vec![Permission::CreditsRead];
    let new = NewKey { name: "desk".to_owned(), permissions, expires_at: None };
    let (row, text) = key::create(app, admin, new).await.unwrap();
    let mut client = Client::open(&server).await;
    client.init(json!({ "authorization": format!("Bearer {text}") })).await;
    client.subscribe("b", "subscription { creditBalance { current } }").await;
    assert_eq!(client.see_message().await["type"], "next");
    client.subscribe("x", "mutation { sessionEndAll { ended } }").await;
    let refused = client.see_message().await;
    assert_eq!(refused["payload"]["errors"][0]["extensions"]["code"], "FORBIDDEN", "{refused}");
    let shown = super::post(
        &server,
        "/graphql",
        json!({ "query": "{ viewer { user { id } permissions } }" }),
        &[("authorization", &format!("Bearer {text}"))],
    )
    .await;
    let viewer = json!({ "user": null, "permissions": ["CREDITS_READ"] });
    assert_eq!(shown.json()["data"]["viewer"], viewer);

    key::revoke(app, admin, row.id).await.unwrap();
    let seen = loop {
        match client.see().await {
            crate::ws::Seen::Message(_) => {}
            other => break other,
        }
    };
    assert_eq!(seen, crate::ws::Seen::Closed(4403, "Forbidden".to_owned()));
    assert!(!super::is_let_in(&server, &text).await);
}

#[tokio::test]
async fn the_socket_of_a_key_ends_when_its_maker_is_taken_out() {
    let server = TestServer::start().await;
    let (app, hotel) = (&server.app.app, &server.hotel);
    let maker = super::removals::promoted(&server.app, hotel).await;
    let permissions = vec![Permission::CreditsRead];
    let new = NewKey { name: "desk".to_owned(), permissions, expires_at: None };
    let (_, text) = key::create(app, &maker.actor, new).await.unwrap();
    let mut client = Client::open(&server).await;
    client.init(json!({ "authorization": format!("Bearer {text}") })).await;
    client.subscribe("b", "subscription { creditBalance { current } }").await;
    assert_eq!(client.see_message().await["type"], "next");

    super::removals::takes_out(app, hotel, maker.id).await;

    client.see_closed(4403, "Forbidden").await;
    assert!(!super::is_let_in(&server, &text).await);
}
