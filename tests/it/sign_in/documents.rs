//! In production a browser runs registered documents, and a platform admin whatever they like.

use musubi::documents;
use musubi::entity::registered_document;
use musubi::http::Limits;
use sea_orm::{EntityTrait, IntoActiveModel};
use serde_json::{Value, json};

use super::{begin, get, is_let_in, post};
use crate::http::Reply;
use crate::support::{Setting, TestServer};
use crate::ws::{Client, Seen};

const WRITTEN: &str = "query Who { viewer { role } }";

async fn stage() -> TestServer {
    let setting = Setting::default().real_time().production();
    let server = TestServer::start_with(setting, Limits::default()).await;
    let added = documents::register(&server.app.app, &[WRITTEN.to_owned()]).await.unwrap();
    assert_eq!(added, 1);
    server
}

async fn ask(server: &TestServer, body: Value, headers: &[(&str, &str)]) -> Reply {
    let bearer = format!("Bearer {}", server.token("admin"));
    let headers = [&[("authorization", bearer.as_str())], headers].concat();
    post(server, "/graphql", body, &headers).await
}

const PAGE: (&str, &str) = ("origin", "http://musubi.test");

#[tokio::test]
async fn a_page_runs_what_was_registered_by_text_or_by_id_and_nothing_else() {
    let server = stage().await;
    let role = |reply: &Reply| reply.json()["data"]["viewer"]["role"].clone();
    assert_eq!(role(&ask(&server, json!({ "query": WRITTEN }), &[PAGE]).await), "ADMIN");
    let id = documents::id_of(WRITTEN);
    for body in [
        json!({ "documentId": format!("sha256:{id}") }),
        json!({ "extensions": { "persistedQuery": { "version": 1, "sha256Hash": id } } }),
    ] {
        assert_eq!(role(&ask(&server, body, &[PAGE]).await), "ADMIN");
    }
    let other = "{ viewer { role } }";
    let refused = ask(&server, json!({ "query": other }), &[PAGE]).await;
    assert_eq!(refused.code(), "DOCUMENT_NOT_REGISTERED");
    let introspection = "{ __schema { types { name } } }";
    let refused = ask(&server, json!({ "query": introspection }), &[PAGE]).await;
    assert_eq!(refused.code(), "DOCUMENT_NOT_REGISTERED");
    // A browser that names no origin still names the site.
    let quiet = [("sec-fetch-site", "same-origin")];
    let refused = ask(&server, json!({ "query": other }), &quiet).await;
    assert_eq!(refused.code(), "DOCUMENT_NOT_REGISTERED");
    for id in ["00".repeat(32), "\0".to_owned(), "sha256:".to_owned(), "f".repeat(100_000)] {
        let unknown = json!({ "documentId": id });
        assert_eq!(ask(&server, unknown, &[]).await.code(), "PERSISTED_QUERY_NOT_FOUND");
    }
    assert_eq!(role(&ask(&server, json!({ "query": other }), &[]).await), "ADMIN", "a program");
}

#[tokio::test]
async fn a_platform_admin_explores_from_a_browser() {
    let server = stage().await;
    let root = server.app.platform_admin(Some(server.hotel.id)).await;
    let bearer = format!("Bearer {}", root.token);
    let body = json!({ "query": "{ __schema { queryType { name } } }" });
    let reply = post(&server, "/graphql", body, &[PAGE, ("authorization", &bearer)]).await;
    assert_eq!(reply.json()["data"]["__schema"]["queryType"]["name"], "Query");
}

#[tokio::test]
async fn sockets_of_pages_are_held_to_the_same() {
    let server = stage().await;
    let payload = json!({ "authorization": format!("Bearer {}", server.token("admin")) });
    let mut page = Client::open_from(&server, PAGE.1).await;
    page.init(payload.clone()).await;
    page.subscribe("a", "{ viewer { role } }").await;
    let refused = page.see_message().await;
    assert_eq!(refused["type"], "error");
    assert_eq!(refused["payload"][0]["extensions"]["code"], "DOCUMENT_NOT_REGISTERED");
    page.subscribe("b", WRITTEN).await;
    assert_eq!(page.see_message().await["payload"]["data"]["viewer"]["role"], "ADMIN");
    let Seen::Message(_) = page.see().await else { panic!("no end") };

    let mut program = Client::open(&server).await;
    program.init(payload).await;
    program.subscribe("a", "{ viewer { role } }").await;
    assert_eq!(program.see_message().await["payload"]["data"]["viewer"]["role"], "ADMIN");
}

#[tokio::test]
async fn graphiql_opens_for_a_platform_admins_cookie_and_is_nothing_to_others() {
    let server = stage().await;
    let root = server.app.platform_admin(Some(server.hotel.id)).await;
    let mut pages = Vec::new();
    for person in [&server.hotel.admin, &root] {
        let tokens = begin(&server.app, person.id, None).await;
        let own = format!("__Host-musubi={}", tokens.refresh);
        pages.push(get(&server, "/graphiql", &[("cookie", &own)]).await);
    }
    assert_eq!(get(&server, "/graphiql", &[]).await.status, 404);
    assert_eq!((pages[0].status, pages[1].status), (404, 200));
    let html = String::from_utf8(pages[1].body.clone()).unwrap();
    let (_, rest) = html.split_once("Bearer ").unwrap();
    assert!(is_let_in(&server, rest.split('"').next().unwrap()).await);
}

#[tokio::test]
async fn an_id_that_nobody_knows_is_looked_up_once_in_ten_seconds_and_runs_once_registered() {
    // The time stands still, so that nothing here depends on how fast it is.
    let server = TestServer::start_with(Setting::default().production(), Limits::default()).await;
    let app = &server.app.app;
    let other = "query Other { viewer { role } }";
    let asks = async |text: &str| {
        let by_id = json!({ "documentId": format!("sha256:{}", documents::id_of(text)) });
        let reply = ask(&server, by_id, &[PAGE]).await.json();
        reply["errors"][0]["extensions"]["code"].as_str().unwrap_or("OK").to_owned()
    };
    for text in [WRITTEN, other] {
        assert_eq!(asks(text).await, "PERSISTED_QUERY_NOT_FOUND");
    }
    // Written by a node that this one does not hear.
    let row = registered_document::Model {
        id: documents::id_of(WRITTEN),
        document: WRITTEN.to_owned(),
        registered_at: app.clock.db_now(),
    };
    let txn = app.db.begin().await.unwrap();
    let row = registered_document::Entity::insert(row.into_active_model());
    row.exec_without_returning(&*txn).await.unwrap();
    txn.commit().await.unwrap();
    for _ in 0..3 {
        assert_eq!(asks(WRITTEN).await, "PERSISTED_QUERY_NOT_FOUND", "the database was not read");
        server.app.clock.advance(chrono::TimeDelta::seconds(3));
    }
    server.app.clock.advance(chrono::TimeDelta::seconds(1));
    assert_eq!(asks(WRITTEN).await, "OK", "ten seconds later it was");

    assert_eq!(asks(other).await, "PERSISTED_QUERY_NOT_FOUND");
    documents::register(app, &[other.to_owned()]).await.unwrap();
    assert_eq!(asks(other).await, "OK", "what was registered here runs at once");
}
