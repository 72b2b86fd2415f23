//! Every field of every object, asked by everybody over HTTP and over sockets.

use chrono::TimeDelta;
use musubi::actor::Role;
use musubi::http::Limits;
use musubi::identity;
use serde_json::{Value, json};

use super::super::map::{self, Map, code};
use super::stage::Stage;
use super::table::{self, CALLERS, Group, Mark};
use super::voice::{self, Transport};
use super::way::Way;
use crate::support::{Setting, TestServer};
use crate::ws::Client;

/// Fields that one document asks, and what becomes of each.
struct Question<'a> {
    fields: Vec<(&'a str, Mark)>,
    document: String,
    /// A refused field of an object that is not.
    is_apart: bool,
}

/// The documents for one caller: a refused object or field takes the whole answer away, so it is
/// asked by itself; all others are asked together.
fn questions<'a>(map: &Map, way: &Way, group: &'a Group, column: usize) -> Vec<Question<'a>> {
    let marks = group.fields.iter().map(|(name, row)| (name.as_str(), row[column]));
    let is_whole = group.object[column] != Mark::Value;
    let (apart, together): (Vec<_>, Vec<_>) =
        marks.partition(|(_, mark)| mark.code().is_some() && !is_whole);
    let apart = apart.into_iter().map(|field| (vec![field], true));
    let batches = apart.chain([(together, false)]).filter(|(fields, _)| !fields.is_empty());
    let with_document = batches.map(|(fields, is_apart)| {
        let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
        Question { document: way.document(map, &names), fields, is_apart }
    });
    with_document.collect()
}

impl Question<'_> {
    /// What a reply should have been and is not.
    fn fault(&self, way: &Way, reply: &Value) -> Option<String> {
        let refusal = self.fields.iter().find_map(|(_, mark)| mark.code());
        let found = refusal_of(way, reply);
        if found != refusal.unwrap_or("OK") {
            return Some(format!("{} instead of {}", found, refusal.unwrap_or("OK")));
        }
        let path = &reply["errors"][0]["path"];
        let is_there = path[0] == "it" && (!self.is_apart || ends_with(path, self.fields[0].0));
        if !path.is_null() && !is_there {
            return Some(format!("refused at {path}"));
        }
        let is_empty = self.fields.iter().all(|(_, mark)| *mark == Mark::Nothing);
        if refusal.is_some() || is_empty {
            return shown(&reply["data"]).map(|value| format!("{value} is shown"));
        }
        let Some(object) = way.end(reply) else { return Some("there is no object".to_owned()) };
        self.fields.iter().find_map(|(name, mark)| {
            let got = mark_of(&object[name]);
            (got != *mark).then(|| format!("{name} is {got:?} and not {mark:?}: {}", object[name]))
        })
    }
}

fn ends_with(path: &Value, step: &str) -> bool {
    path.as_array().and_then(|path| path.last()).is_some_and(|last| last == step)
}

/// The code at the top, or else of the payload; `OK` when there is none.
fn refusal_of<'a>(way: &Way, reply: &'a Value) -> &'a str {
    let in_payload = way.end(reply).map(|object| &object["userErrors"][0]["code"]);
    let at_top = reply["errors"][0]["extensions"]["code"].as_str();
    at_top.or(in_payload.and_then(Value::as_str)).unwrap_or("OK")
}

/// What a value that came without an error is.
fn mark_of(value: &Value) -> Mark {
    let is_hidden = |text: &str| text.contains("***");
    match value {
        Value::Null => Mark::Nothing,
        Value::Array(items) if items.is_empty() => Mark::Nothing,
        Value::String(text) if is_hidden(text) => Mark::Masked,
        _ => Mark::Value,
    }
}

/// Anything that tells more than that there is a type and a refusal.
fn shown(value: &Value) -> Option<&Value> {
    match value {
        Value::Null => None,
        Value::Array(items) => items.iter().find_map(shown),
        Value::Object(members) => {
            let told = |key: &str| !matches!(key, "__typename" | "userErrors");
            members.iter().filter(|(key, _)| told(key)).find_map(|(_, value)| shown(value))
        }
        plain => Some(plain),
    }
}

#[tokio::test]
async fn every_field_answers_everybody_as_the_table_says() {
    let stage = Stage::build().await;
    let (map, nodes) = (Map::read(), Stage::nodes());
    let mut voices = stage.voices().await;
    let mut faults = Vec::new();
    let no_variables = json!({});
    for expired in &stage.expired {
        voice::is_turned_away_at_sockets(&stage.server, expired).await;
    }
    for group in table::read() {
        let way = Way::read(&map, &nodes, &group.way, &group.owner);
        let names: Vec<&str> = group.fields.iter().map(|(name, _)| name.as_str()).collect();
        let all = stage.fill(0, &way.document(&map, &names)).await;
        for expired in &stage.expired {
            voice::is_turned_away(&stage.server, expired, &all).await;
        }
        for (column, voice) in voices.iter_mut().enumerate() {
            for question in questions(&map, &way, &group, column) {
                for transport in [Transport::Http, Transport::Socket] {
                    if way.is_live() && transport == Transport::Http {
                        continue;
                    }
                    let document = stage.fill(column, &question.document).await;
                    let asked = (document.as_str(), &no_variables);
                    let reply = voice.asks(&stage.server, transport, asked).await;
                    let leak = stage.leak(column, &reply).map(|id| format!("{id} is told"));
                    if let Some(fault) = question.fault(&way, &reply).or(leak) {
                        let (owner, caller) = (&group.owner, CALLERS[column]);
                        faults.push(format!(
                            "{owner} for {caller} over {transport:?}: {fault}\n    {document}"
                        ));
                    }
                }
            }
        }
    }
    assert!(faults.is_empty(), "{} differences:\n{}", faults.len(), faults.join("\n"));
}

#[tokio::test]
async fn a_member_who_acts_elsewhere_reads_of_a_tenant_what_everybody_may() {
    let stage = Stage::build().await;
    let app = &stage.server.app.app;
    let other = CALLERS.iter().position(|caller| *caller == "OTHER").unwrap();
    let hotel = stage.server.hotel.id;
    let txn = app.db.begin().await.unwrap();
    let place = (hotel, stage.people[other].unwrap());
    identity::add_member(&txn, place, Role::User, app.clock.db_now()).await.unwrap();
    txn.commit().await.unwrap();
    let mut voice = stage.voices().await.swap_remove(other);
    let secrets = ["billingEmail", "slackChannel", "slackWebhookUrl", "stripeCustomerId"];
    let lists =
        ["apiKeys { id }", "invitations { totalCount }", "members { totalCount }", "sites { id }"];
    for transport in [Transport::Http, Transport::Socket] {
        let document = format!(
            "{{ it: viewer {{ memberships {{ tenant {{ id {} }} }} }} }}",
            secrets.join(" ")
        );
        let reply = voice.asks(&stage.server, transport, (&document, &json!({}))).await;
        let places = reply["data"]["it"]["memberships"].as_array().unwrap();
        let is_here = |place: &&Value| place["tenant"]["id"] == hotel.to_string();
        let (here, there): (Vec<_>, Vec<_>) = places.iter().partition(is_here);
        assert_eq!((here.len(), there.len()), (1, 1), "{reply}");
        assert!(secrets.iter().all(|secret| here[0]["tenant"][secret].is_null()), "{reply}");
        assert!(there[0]["tenant"]["billingEmail"].is_string(), "{reply}");
        for list in lists {
            let document = format!("{{ it: viewer {{ memberships {{ tenant {{ {list} }} }} }} }}");
            let reply = voice.asks(&stage.server, transport, (&document, &json!({}))).await;
            assert_eq!(code(&reply), "FORBIDDEN", "{list}: {reply}");
        }
    }
}

#[tokio::test]
async fn an_open_socket_whose_token_ended_answers_no_field_any_more() {
    // The clock stands still until it is moved.
    let server = TestServer::start_with(Setting::default(), Limits::default()).await;
    let (map, nodes) = (Map::read(), Stage::nodes());
    let mut documents = Vec::new();
    for (root, field) in map.root_fields() {
        let id = |_: &str| server.hotel.id.to_string();
        documents.push(map::Question::with(&map, root, field, &id).document);
    }
    for group in table::read() {
        let way = Way::read(&map, &nodes, &group.way, &group.owner);
        let names: Vec<&str> = group.fields.iter().map(|(name, _)| name.as_str()).collect();
        documents.push(way.document(&map, &names));
    }
    let mut sockets = Vec::new();
    for _ in &documents {
        sockets.push(Client::signed_in(&server).await);
    }
    server.app.clock.advance(TimeDelta::hours(12));
    for (socket, document) in sockets.iter_mut().zip(&documents) {
        socket.subscribe("q", document).await;
        socket.see_closed(4403, "Forbidden").await;
    }
}
