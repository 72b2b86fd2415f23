//! Another tenant's ids in every place that takes one, over HTTP and over sockets: the same answer
//! as for an id that nobody has.

use musubi::ids::TenantId;
use serde_json::{Value, json};

use super::super::ids::{self, Kind, Missing, Who};
use super::super::map::code;
use super::key_of;
use super::voice::{Transport, Voice, without_request_ids};
use crate::support::TestServer;

/// Those who ask in [`ids::PLACES`], and others of the same tenant.
struct Askers {
    admin: Voice,
    in_session: Voice,
    platform: Voice,
    others: Vec<Voice>,
    variables: Value,
}

impl Askers {
    async fn of(server: &TestServer) -> Self {
        let (app, hotel) = (&server.app, &server.hotel);
        let root = app.platform_admin(Some(hotel.id)).await;
        let session = ids::begin_session(&app.app, hotel.admin.id, hotel.id).await;
        let execution = ids::id_of(app, hotel, Kind::Execution).await;
        let purchase = ids::id_of(app, hotel, Kind::Purchase).await;
        let key = key_of(app, hotel).await;
        let mut others = Vec::new();
        for person in [&hotel.user, &hotel.support, &hotel.manager, &key] {
            others.push(Voice::of(server, Some(&person.token)).await);
        }
        Self {
            others,
            admin: Voice::of(server, Some(&hotel.admin.token)).await,
            in_session: Voice::of(server, Some(&session.access)).await,
            platform: Voice::of(server, Some(&root.token)).await,
            variables: json!({ "tenant": hotel.id.to_string(), "execution": execution,
                "purchase": purchase }),
        }
    }

    fn who(&mut self, who: Who) -> &mut Voice {
        match who {
            Who::Admin => &mut self.admin,
            Who::InSession => &mut self.in_session,
            Who::Platform => &mut self.platform,
        }
    }

    /// What a document is told for an id.
    fn variables(&self, document: &str, id: &str) -> Value {
        let mut variables = json!({ "id": id });
        for word in ["tenant", "execution", "purchase"] {
            if document.contains(&format!("${word}")) {
                variables[word] = self.variables[word].clone();
            }
        }
        variables
    }
}

/// The answers for two ids, which must be the same; that answer.
async fn same(
    (server, transport): (&TestServer, Transport),
    voice: &mut Voice,
    document: &str,
    ids: [&Value; 2],
) -> Value {
    let [first, second] = ids;
    let expected = voice.asks(server, transport, (document, first)).await;
    let expected = without_request_ids(expected);
    let reply = voice.asks(server, transport, (document, second)).await;
    assert_eq!(without_request_ids(reply), expected, "{document}: {first}, {second}");
    expected
}

#[tokio::test]
async fn a_strangers_object_looks_missing_over_http_and_sockets() {
    let server = TestServer::start().await;
    let strange = server.app.hotel().await.with_credits(1_000).await;
    for hotel in [&server.hotel, &strange] {
        hotel.user.executes("こんにちは", "their-first-run").await;
        ids::buys_a_package(&server.app, hotel).await;
    }
    let mut askers = Askers::of(&server).await;
    for (path, kinds, missing, who, document) in ids::PLACES {
        for transport in [Transport::Http, Transport::Socket] {
            if document.starts_with("subscription") && transport == Transport::Http {
                continue;
            }
            let stage = (&server, transport);
            for kind in *kinds {
                let nobodys = ids::missing_id(*kind);
                // What belongs to nobody is there for everybody.
                let theirs = match kind {
                    Kind::Package | Kind::Plan | Kind::Price => ids::missing_id(*kind),
                    _ => ids::id_of(&server.app, &strange, *kind).await,
                };
                let [nobodys, theirs] = [nobodys, theirs].map(|id| askers.variables(document, &id));
                let reply = same(stage, askers.who(*who), document, [&nobodys, &theirs]).await;
                let refusal = if *missing == Missing::Refused { "NOT_FOUND" } else { "OK" };
                assert_eq!(code(&reply), refusal, "{path}: {kind:?}, {transport:?}");
                for voice in &mut askers.others {
                    same(stage, voice, document, [&nobodys, &theirs]).await;
                }
            }
            if kinds.is_empty() {
                let id = match path.contains("tenantId") {
                    true => TenantId::new().to_string(),
                    false => ids::missing_id(Kind::Package),
                };
                let variables = askers.variables(document, &id);
                let asked = (*document, &variables);
                let reply = askers.who(*who).asks(&server, transport, asked).await;
                assert_eq!(code(&reply), "NOT_FOUND", "{path}, {transport:?}: {reply}");
            }
        }
    }
}
