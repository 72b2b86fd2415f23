//! API keys: a server acts by one, sees what it lists, and is out when the key ends.

use chrono::TimeDelta;
use futures_util::future::join_all;
use musubi::entity::system_event;
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};
use serde_json::{Value, json};

use super::members::place;
use super::{is_refused, refusal, top, with};
use crate::support::TestApp;
use crate::support::people::{Hotel, Person};

const CREATE: &str = "mutation ($input: ApiKeyCreateInput!) { apiKeyCreate(input: $input) {
    apiKey { id name prefix permissions createdBy { id } expiresAt lastUsedAt revokedAt } key
    userErrors { code field message } } }";
const REVOKE: &str = "mutation ($id: ID!) { apiKeyRevoke(id: $id) {
    apiKey { id revokedAt } userErrors { code } } }";
const LEDGER: &str = "{ creditAccount { transactions { totalCount } } }";

async fn creates(hotel: &Hotel, input: Value) -> Value {
    hotel.admin.gets(CREATE, json!({ "input": input })).await["apiKeyCreate"].clone()
}

async fn server(app: &TestApp, hotel: &Hotel, permissions: Value) -> (Person, Value) {
    let made = creates(hotel, json!({ "name": "予約サーバー", "permissions": permissions })).await;
    assert_eq!(refusal(&made), "OK", "{made}");
    (with(app, &hotel.admin, made["key"].as_str().unwrap()).await, made)
}

#[tokio::test]
async fn a_server_runs_ai_by_its_key_and_sees_only_what_the_key_lists() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(100).await;
    let (server, made) = server(&app, &hotel, json!(["AI_EXECUTE", "CREDITS_READ"])).await;

    let run = server.executes("チェックインは何時ですか？", "by-a-server").await;
    let viewer = server
        .gets(
            "{ viewer { user { id } role permissions profile { id } sessions { id }
                memberships { role } tenant { id slackChannel } } }",
            json!({}),
        )
        .await;
    let ledger = server.asks(LEDGER, json!({})).await;
    let members = server.asks("{ viewer { tenant { members { totalCount } } } }", json!({})).await;
    let another = server
        .asks(
            CREATE,
            json!({ "input": {
        "name": "もう一つ", "permissions": ["AI_EXECUTE"] } }),
        )
        .await;

    assert_eq!(run["execution"]["status"], "SUCCEEDED", "{run}");
    let viewer = &viewer["viewer"];
    assert_eq!(viewer["permissions"], json!(["AI_EXECUTE", "CREDITS_READ"]));
    assert_eq!(viewer["tenant"]["id"], hotel.id.to_string());
    for field in ["user", "role", "profile"] {
        assert!(viewer[field].is_null(), "{field}: {viewer}");
    }
    assert_eq!((&viewer["sessions"], &viewer["memberships"]), (&json!([]), &json!([])));
    for refused in [&ledger, &members, &another] {
        assert_eq!(top(refused), "FORBIDDEN", "{refused}");
    }
    assert_eq!(made["apiKey"]["createdBy"]["id"], hotel.admin.id.to_string());
    assert!(app.drifts().await.is_empty());
}

#[tokio::test]
async fn a_key_is_shown_once_and_out_when_it_is_revoked() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(100).await;
    let (_, made) = server(&app, &hotel, json!(["AI_EXECUTE"])).await;
    let key = made["key"].as_str().unwrap();
    let id = json!({ "id": made["apiKey"]["id"] });
    let list = "{ viewer { tenant { apiKeys { id prefix revokedAt } } } }";

    let listed = hotel.admin.gets(list, json!({})).await;
    let first = hotel.admin.gets(REVOKE, id.clone()).await["apiKeyRevoke"].clone();
    let second = hotel.admin.gets(REVOKE, id.clone()).await["apiKeyRevoke"].clone();
    let by_manager = hotel.manager.asks(REVOKE, id).await;

    let shown = &listed["viewer"]["tenant"]["apiKeys"][0];
    assert!(key.starts_with(shown["prefix"].as_str().unwrap()));
    assert!(!listed.to_string().contains(key));
    assert!(first["apiKey"]["revokedAt"].is_string(), "{first}");
    assert_eq!(second, first);
    assert_eq!(top(&by_manager), "FORBIDDEN");
    assert!(is_refused(&app, key).await);
}

#[tokio::test]
async fn a_key_is_out_when_its_time_is_over() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let ends = app.clock.db_now() + TimeDelta::hours(1);
    let input = json!({ "name": "一時間", "permissions": ["CREDITS_READ"],
        "expiresAt": ends.to_rfc3339() });

    let made = creates(&hotel, input).await;
    let key = made["key"].as_str().unwrap();
    let before = is_refused(&app, key).await;
    app.clock.advance(TimeDelta::minutes(61));

    assert!(!before);
    assert!(is_refused(&app, key).await);
}

#[tokio::test]
async fn a_key_cannot_be_given_what_people_decide() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let input = json!({ "name": " ", "permissions": ["AI_EXECUTE", "MEMBERS_MANAGE"],
        "expiresAt": "2020-01-01T00:00:00Z" });

    let made = creates(&hotel, input).await;

    let errors = made["userErrors"].as_array().unwrap();
    let fields: Vec<_> = errors.iter().map(|error| error["field"][1].as_str().unwrap()).collect();
    assert_eq!(fields, ["name", "permissions", "expiresAt"], "{made}");
    assert!(made["key"].is_null() && made["apiKey"].is_null());
}

#[tokio::test]
async fn a_key_sees_the_runs_that_it_asked_for_and_none_of_its_makers() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(100).await;
    let (server, _) = server(&app, &hotel, json!(["AI_EXECUTE"])).await;
    let (other, _) = self::server(&app, &hotel, json!(["AI_EXECUTE"])).await;
    let own = server.executes("空室はありますか？", "by-a-server").await;
    hotel.admin.executes("社外秘です", "by-the-admin").await;
    let of_other = other.executes("別の用件です", "by-a-server").await;
    let list = "{ aiExecutions { nodes { id } } }";
    let seen = server.gets(list, json!({})).await;
    assert_eq!(seen["aiExecutions"]["nodes"], json!([{ "id": own["execution"]["id"] }]));
    let one = "query ($id: ID!) { it: aiExecution(id: $id) { id } }";
    let asked = server.asks(one, json!({ "id": of_other["execution"]["id"] })).await;
    assert_eq!(top(&asked), "NOT_FOUND", "{asked}");
}

/// The hotel's MANAGER as an ADMIN, and their membership.
async fn second_admin(app: &TestApp, hotel: &Hotel) -> (Person, Value) {
    let id = place(hotel, hotel.manager.id).await;
    let change = json!({ "input": { "id": id, "role": "ADMIN" } });
    let promote = "mutation ($input: MembershipRoleChangeInput!) {
        membershipRoleChange(input: $input) { userErrors { code } } }";
    hotel.admin.gets(promote, change).await;
    (with(app, &hotel.manager, &hotel.manager.token).await, id)
}

async fn makes(by: &Person, name: &str) -> Value {
    let input = json!({ "name": name, "permissions": ["CREDITS_READ"] });
    by.gets(CREATE, json!({ "input": input })).await["apiKeyCreate"].clone()
}

#[tokio::test]
async fn keys_end_with_the_place_of_who_made_them_unless_they_are_to_stay() {
    let app = TestApp::start().await;
    let remove = "mutation ($input: MembershipRemoveInput!) {
        membershipRemove(input: $input) { userErrors { code } } }";
    let list = "{ viewer { tenant { apiKeys { name createdBy { id } revokedAt } } } }";
    for is_to_stay in [false, true] {
        let hotel = app.hotel().await;
        let (second, id) = second_admin(&app, &hotel).await;
        let theirs = [makes(&second, "一").await, makes(&second, "二").await];
        let other = makes(&hotel.admin, "三").await;
        let input = if is_to_stay {
            json!({ "id": id, "revokeApiKeys": false })
        } else {
            json!({ "id": id })
        };

        let gone = hotel.admin.gets(remove, json!({ "input": input })).await;
        let late = second.asks(
            CREATE,
            json!({ "input": { "name": "四",
            "permissions": ["CREDITS_READ"] } }),
        );

        assert_eq!(refusal(&gone["membershipRemove"]), "OK", "{gone}");
        assert_eq!(top(&late.await), "FORBIDDEN", "with the rights of before");
        for made in &theirs {
            let is_out = is_refused(&app, made["key"].as_str().unwrap()).await;
            assert_eq!(is_out, !is_to_stay);
        }
        assert!(!is_refused(&app, other["key"].as_str().unwrap()).await);
        let listed = hotel.admin.gets(list, json!({})).await;
        let listed = listed["viewer"]["tenant"]["apiKeys"].as_array().unwrap().clone();
        let of_gone: Vec<_> = listed.iter().filter(|key| key["name"] != "三").collect();
        assert_eq!(of_gone.len(), 2);
        for key in of_gone {
            assert!(key["createdBy"].is_null(), "{key}");
            assert_eq!(key["revokedAt"].is_null(), is_to_stay, "{key}");
        }
        let recorded = system_event::Entity::find()
            .filter(system_event::Column::TenantId.eq(hotel.id))
            .filter(system_event::Column::UserId.eq(hotel.admin.id))
            .filter(system_event::Column::Action.eq("API_KEY_REVOKED"));
        let recorded = recorded.count(app.app.db.primary()).await.unwrap();
        assert_eq!(recorded, if is_to_stay { 0 } else { 2 });
    }
}

#[tokio::test]
async fn a_tenant_has_a_hundred_keys_in_force_whoever_makes_them_at_once() {
    let app = TestApp::start().await;
    let there = app.replica().await;
    let hotel = app.hotel().await;
    let first = makes(&hotel.admin, "初").await;
    for _ in 0..97 {
        assert_eq!(refusal(&makes(&hotel.admin, "鍵").await), "OK");
    }
    let elsewhere = hotel.admin.on(&there);
    let tries = (0..6).map(|n| makes(if n % 2 == 0 { &hotel.admin } else { &elsewhere }, "鍵"));
    let made = join_all(tries).await;
    let refused = made.iter().filter(|payload| refusal(payload) == "LIMIT_REACHED").count();
    assert_eq!(refused, 4, "{made:?}");

    // One that ends makes room; those over do not hide those in force.
    let list = "{ viewer { tenant { apiKeys { id revokedAt } } } }";
    for _ in 0..3 {
        let listed = hotel.admin.gets(list, json!({})).await;
        let listed = listed["viewer"]["tenant"]["apiKeys"].as_array().unwrap().clone();
        let newest = listed[0]["id"].clone();
        assert_eq!(listed.iter().filter(|key| key["revokedAt"].is_null()).count(), 100);
        assert!(listed[99]["revokedAt"].is_null() && listed[99]["id"] == first["apiKey"]["id"]);
        hotel.admin.gets(REVOKE, json!({ "id": newest })).await;
        assert_eq!(refusal(&makes(&hotel.admin, "鍵").await), "OK");
    }
}
