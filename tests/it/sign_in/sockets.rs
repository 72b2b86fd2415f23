//! Sockets live as long as what let them in.

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
    session::sign_out(&server.app.app, &ending.refresh).await.unwrap();
    clients[0].see_closed(4403, "Forbidden").await;
    clients[1].see_nothing().await;
}
