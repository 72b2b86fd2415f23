//! Somebody who asks the server as a client does: over HTTP, and over a socket.

use serde_json::{Map, Value, json};

use crate::http::{exchange, request};
use crate::support::TestServer;
use crate::ws::{Client, Seen};

/// How somebody asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Http,
    Socket,
}

/// A caller with a socket that stays open.
pub(super) struct Voice {
    token: Option<String>,
    socket: Client,
}

impl Voice {
    /// Somebody with a token or an API key; nobody without.
    pub(super) async fn of(server: &TestServer, token: Option<&str>) -> Self {
        let mut socket = Client::open(server).await;
        let payload = token.map(|token| json!({ "authorization": format!("Bearer {token}") }));
        socket.init(json!(payload)).await;
        Self { token: token.map(str::to_owned), socket }
    }

    /// The response; of a subscription, which only sockets carry, the first event.
    pub(super) async fn asks(
        &mut self,
        server: &TestServer,
        transport: Transport,
        (document, variables): (&str, &Value),
    ) -> Value {
        match transport {
            Transport::Socket => self.over_socket(document, variables).await,
            Transport::Http => {
                let question = (document, variables);
                let (status, reply) = over_http(server, self.token.as_deref(), question).await;
                assert_eq!(status, 200, "{document}: {reply}");
                reply
            }
        }
    }

    async fn over_socket(&mut self, document: &str, variables: &Value) -> Value {
        let payload = json!({ "query": document, "variables": variables });
        self.socket.send(json!({ "type": "subscribe", "id": "q", "payload": payload })).await;
        let first = self.socket.see_message().await;
        match first["type"].as_str().unwrap() {
            "error" => json!({ "errors": first["payload"] }),
            "next" if document.starts_with("subscription") => {
                self.socket.send(json!({ "type": "complete", "id": "q" })).await;
                // The end may have been on its way; nothing of this id comes after the next answer.
                self.socket.see_quiet().await;
                first["payload"].clone()
            }
            "next" => {
                let end = json!({ "type": "complete", "id": "q" });
                assert_eq!(self.socket.see_message().await, end, "{document}");
                first["payload"].clone()
            }
            other => panic!("{other}: {first}"),
        }
    }
}

/// The status and the response of a POST.
pub(super) async fn over_http(
    server: &TestServer,
    token: Option<&str>,
    (document, variables): (&str, &Value),
) -> (u16, Value) {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
    let body = json!({ "query": document, "variables": variables }).to_string();
    let reply = exchange(server, &request("POST", "/graphql", &headers, body.as_bytes())).await;
    (reply.status, reply.json())
}

/// A token that is no longer good opens no socket, so that nothing can be asked there.
pub(super) async fn is_turned_away(server: &TestServer, token: &str, document: &str) {
    let (status, reply) = over_http(server, Some(token), (document, &json!({}))).await;
    assert_eq!((status, super::code(&reply)), (401, "UNAUTHENTICATED"), "{document}: {reply}");
    assert!(reply.get("data").is_none(), "{document}: {reply}");
}

/// The same at a socket.
pub(super) async fn is_turned_away_at_sockets(server: &TestServer, token: &str) {
    let mut client = Client::open(server).await;
    let payload = json!({ "authorization": format!("Bearer {token}") });
    client.send(json!({ "type": "connection_init", "payload": payload })).await;
    let seen = client.see().await;
    assert!(matches!(seen, Seen::Closed(4403, _)), "{seen:?}");
}

/// A response without what is another in each, as are the names of requests.
pub(super) fn without_request_ids(reply: Value) -> Value {
    let kept = |(key, value): (String, Value)| match key.as_str() {
        "requestId" => None,
        _ => Some((key, without_request_ids(value))),
    };
    match reply {
        Value::Object(members) => {
            Value::Object(members.into_iter().filter_map(kept).collect::<Map<_, _>>())
        }
        Value::Array(items) => items.into_iter().map(without_request_ids).collect(),
        plain => plain,
    }
}
