//! Who may ask what: the whole table, tried out for every root field.

use std::collections::BTreeMap;

use musubi::ids::{
    ApiKeyId, ExecutionId, InvitationId, MembershipId, PackageId, SessionId, SiteId,
};

use futures_util::future::join_all;
use musubi::actor::Permission;
use musubi::error::Lang;
use musubi::identity;
use musubi::identity::service::key::{self, NewKey};
use serde_json::{Value, json};

use super::map::{self, Map, Question, code, reply};
use crate::http::{exchange, request};
use crate::support::people::{Hotel, Person};
use crate::support::{TestApp, TestServer};
use crate::ws::Client;

/// `+` may, `-` is refused as FORBIDDEN. PLATFORM is a platform admin who acts in the tenant, KEY
/// an API key with all that keys can have. Fields of `CreditAccount` and `Tenant` are listed when
/// not every member may ask them. `tenantSwitch` needs a session, which nobody has here.
const RIGHTS: &str = "
                                        USER  SUPPORT  MANAGER  ADMIN  PLATFORM  KEY
    Query.aiExecution                   +     +        +        +      +         +
    Query.aiExecutionQuote              +     +        +        +      +         +
    Query.aiExecutions                  +     +        +        +      +         +
    Query.aiFunctions                   +     +        +        +      +         +
    Query.clientConfig                  +     +        +        +      +         +
    Query.creditAccount                 +     +        +        +      +         +
    Query.creditAnalytics               -     -        +        +      +         +
    Query.creditPackages                +     +        +        +      +         +
    Query.node                          +     +        +        +      +         +
    Query.nodes                         +     +        +        +      +         +
    Query.plans                         +     +        +        +      +         +
    Query.tenants                       -     -        -        -      +         -
    Query.viewer                        +     +        +        +      +         +
    CreditAccount.resets                -     -        +        +      +         +
    CreditAccount.transactions          -     -        +        +      +         +
    CreditAccount.usage                 -     -        +        +      +         +
    Tenant.apiKeys                      -     -        -        +      +         -
    Tenant.invitations                  -     -        -        +      +         -
    Tenant.members                      -     +        +        +      +         -
    Mutation.accountUnlink              +     +        +        +      +         -
    Mutation.aiExecute                  +     +        +        +      +         +
    Mutation.aiExecutionCancel          +     +        +        +      +         +
    Mutation.aiExecutionStart           +     +        +        +      +         +
    Mutation.aiPriceSet                 -     -        -        -      +         -
    Mutation.apiKeyCreate               -     -        -        +      +         -
    Mutation.apiKeyRevoke               -     -        -        +      +         -
    Mutation.creditBonusGrant           -     -        -        -      +         -
    Mutation.creditPackageCreate        -     -        -        -      +         -
    Mutation.creditPackageRetire        -     -        -        -      +         -
    Mutation.creditPackageUpdate        -     -        -        -      +         -
    Mutation.creditRefund               -     -        -        -      +         -
    Mutation.membershipInvite           -     -        -        +      +         -
    Mutation.membershipInvitationRevoke -     -        -        +      +         -
    Mutation.membershipRemove           +     +        +        +      +         -
    Mutation.membershipRoleChange       -     -        -        +      +         -
    Mutation.planUpdate                 -     -        -        -      +         -
    Mutation.profileUpdate              +     +        +        +      +         -
    Mutation.sessionEnd                 +     +        +        +      +         -
    Mutation.sessionEndAll              +     +        +        +      +         -
    Mutation.siteCreate                 -     -        -        +      +         -
    Mutation.siteRemove                 -     -        -        +      +         -
    Mutation.siteUpdate                 -     -        -        +      +         -
    Mutation.tenantClose                -     -        -        +      +         -
    Mutation.tenantCreate               -     -        -        -      +         -
    Mutation.tenantPlanSet              -     -        -        -      +         -
    Mutation.tenantSwitch               -     -        -        -      -         -
    Mutation.tenantUpdate               -     -        -        +      +         -
    Subscription.aiExecutionEvents      +     +        +        +      +         +
    Subscription.creditBalance          +     +        +        +      +         +
";

/// The table: for each field, whether each column may.
fn rights() -> BTreeMap<&'static str, Vec<bool>> {
    let rows = RIGHTS.trim_matches('\n').lines().skip(1).map(str::split_whitespace);
    let rights = rows.filter_map(|mut row| {
        let field = row.next()?;
        Some((field, row.map(|mark| mark == "+").collect()))
    });
    rights.collect()
}

#[tokio::test]
async fn each_role_may_ask_what_the_table_says() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(1_000).await;
    let root = app.platform_admin(Some(hotel.id)).await;
    let key = key_of(&app, &hotel).await;
    let people = [&hotel.user, &hotel.support, &hotel.manager, &hotel.admin, &root, &key];
    let account = hotel.account().await.id.to_string();
    let tenant = hotel.id.to_string();
    let id = |path: &str| id_for(path, &account, &tenant);
    let map = Map::read();
    let mut rights = rights();
    for (root, field) in map.root_fields() {
        let path = format!("{root}.{}", field.name.node);
        let row = rights.remove(path.as_str());
        let row = row.unwrap_or_else(|| panic!("{path} is missing in the table of rights"));
        let question = Question::with(&map, root, field, &id);
        try_out(&app, &people, (&path, &question), &row).await;
    }
    for (owner, place) in [("CreditAccount", "creditAccount"), ("Tenant", "viewer.tenant")] {
        for field in map::fields(map.get(owner).unwrap()) {
            let path = format!("{owner}.{}", field.name.node);
            let row = rights.remove(path.as_str()).unwrap_or_else(|| vec![true; 6]);
            let question = Question::within(&map, place, field);
            try_out(&app, &people, (&path, &question), &row).await;
        }
    }
    assert!(rights.is_empty(), "no longer there: {rights:?}");
}

/// An id of the right kind for an argument: of the tenant where there is one, of nobody else.
fn id_for(path: &str, account: &str, tenant: &str) -> String {
    match path {
        "node.id" | "nodes.ids" => account.to_owned(),
        "tenantClose.input.id" => tenant.to_owned(),
        path if path.ends_with(".tenantId") => tenant.to_owned(),
        "apiKeyRevoke.id" => ApiKeyId::new().to_string(),
        "membershipInvitationRevoke.id" => InvitationId::new().to_string(),
        path if path.starts_with("membership") => MembershipId::new().to_string(),
        "sessionEnd.id" => SessionId::new().to_string(),
        path if path.starts_with("site") => SiteId::new().to_string(),
        path if path.starts_with("creditPackage") => PackageId::new().to_string(),
        _ => ExecutionId::new().to_string(),
    }
}

/// Somebody who asks by an API key with all that keys can have.
async fn key_of(app: &TestApp, hotel: &Hotel) -> Person {
    let all = Permission::ALL.iter().copied().filter(|it| it.is_for_keys()).collect();
    let new = NewKey { name: "server".to_owned(), permissions: all, expires_at: None };
    let (_, text) = key::create(&app.app, &hotel.admin.actor, new).await.unwrap();
    let actor = identity::authenticate(&app.app, &text, Lang::En).await.unwrap();
    let mut person = hotel.admin.acting_as(actor);
    person.token = text;
    person
}

async fn try_out(
    app: &TestApp,
    people: &[&Person; 6],
    (path, question): (&str, &Question),
    row: &[bool],
) {
    assert_eq!(row.len(), people.len(), "{path} has a column too few or too many");
    for (column, (person, may)) in people.iter().zip(row).enumerate() {
        let actor = Some(person.actor.clone());
        let reply = reply(app, actor, &question.document, serde_json::json!({})).await;
        let is_allowed = code(&reply) != "FORBIDDEN";
        assert_eq!(is_allowed, *may, "{path}, column {column}: {reply}");
        assert_ne!(code(&reply), "INTERNAL", "{path}, column {column}: {reply}");
    }
}

#[tokio::test]
async fn a_platform_admin_without_a_tenant_acts_only_across_tenants() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let root = app.platform_admin(None).await;
    let ask = |document: &'static str| {
        reply(&app, Some(root.actor.clone()), document, serde_json::json!({}))
    };
    assert_eq!(code(&ask("{ it: creditAccount { id } }").await), "FORBIDDEN");
    assert_eq!(code(&ask("subscription { it: creditBalance { current } }").await), "FORBIDDEN");
    let viewer = ask("{ it: viewer { isPlatformAdmin role tenant { id } permissions } }").await;
    let expected = serde_json::json!({
        "isPlatformAdmin": true, "role": null, "tenant": null,
        "permissions": ["OWN_DATA", "PLATFORM"],
    });
    assert_eq!(viewer["data"]["it"], expected);
    let bonus = "mutation ($tenant: ID!) { it: creditBonusGrant(input: { tenantId: $tenant,
        credits: 7, idempotencyKey: \"a-bonus-for-them\" }) {
        balance { current } userErrors { code } } }";
    let variables = serde_json::json!({ "tenant": hotel.id.to_string() });
    let given = reply(&app, Some(root.actor.clone()), bonus, variables).await;
    assert_eq!(given["data"]["it"]["balance"]["current"], 7, "{given}");
}

/// What stands in the way of a question, over HTTP; none when nothing does.
async fn over_http(server: &TestServer, token: Option<&str>, document: &str) -> (u16, String) {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
    let body = json!({ "query": document }).to_string();
    let reply = exchange(server, &request("POST", "/graphql", &headers, body.as_bytes())).await;
    let code = code(&reply.json()).to_owned();
    (reply.status, code)
}

/// The same over a socket: the code of the first message.
async fn over_socket(client: &mut Client, document: &str) -> String {
    client.subscribe("q", document).await;
    let first = client.see_message().await;
    match first["type"].as_str().unwrap() {
        "error" => code(&json!({ "errors": first["payload"] })).to_owned(),
        "next" => {
            let found = code(&first["payload"]).to_owned();
            client.send(json!({ "type": "complete", "id": "q" })).await;
            // The end may have been on its way; nothing of this id comes after the next answer.
            client.see_quiet().await;
            found
        }
        other => panic!("{other}: {first}"),
    }
}

#[tokio::test]
async fn the_table_holds_over_http_and_sockets_for_everybody_who_may_come() {
    let server = TestServer::start().await;
    let hotel = &server.hotel;
    let root = server.app.platform_admin(Some(hotel.id)).await;
    let key = key_of(&server.app, hotel).await;
    let people = [&hotel.user, &hotel.support, &hotel.manager, &hotel.admin, &root, &key];
    let expired = identity::issue_token(
        &server.app.app,
        hotel.admin.id,
        Some(hotel.id),
        chrono::TimeDelta::seconds(-1),
    );
    let expired = expired.await.unwrap();
    let account = hotel.account().await.id.to_string();
    // Nobody closes the stage, and nobody leaves it.
    let tenant = musubi::ids::TenantId::new().to_string();
    let id = |path: &str| id_for(path, &account, &tenant);
    let map = Map::read();
    let rights = rights();
    let mut sockets = join_all(people.iter().map(|person| async {
        let mut client = Client::open(&server).await;
        client.init(json!({ "authorization": format!("Bearer {}", person.token) })).await;
        client
    }))
    .await;
    let mut anonymous = Client::open(&server).await;
    anonymous.init(Value::Null).await;
    for (kind, field) in map.root_fields() {
        let path = format!("{kind}.{}", field.name.node);
        let document = Question::with(&map, kind, field, &id).document;
        let row = &rights[path.as_str()];
        let is_subscription = kind == "Subscription";
        let is_open = ["Query.viewer", "Query.clientConfig"].contains(&path.as_str());
        let unknown = if is_open { "OK" } else { "UNAUTHENTICATED" };
        assert_eq!(over_socket(&mut anonymous, &document).await, unknown, "{path} anonymous");
        if !is_subscription {
            let (status, code) = over_http(&server, None, &document).await;
            assert_eq!((status, code.as_str()), (200, unknown), "{path} anonymous");
            let (status, code) = over_http(&server, Some(&expired), &document).await;
            assert_eq!((status, code.as_str()), (401, "UNAUTHENTICATED"), "{path} expired");
        }
        for (column, (person, socket)) in people.iter().zip(&mut sockets).enumerate() {
            let may = row[column];
            let code = over_socket(socket, &document).await;
            assert_eq!(code != "FORBIDDEN", may, "{path}, column {column}, socket: {code}");
            if !is_subscription {
                let (status, code) = over_http(&server, Some(&person.token), &document).await;
                assert_eq!(status, 200, "{path}, column {column}: {code}");
                assert_eq!(code != "FORBIDDEN", may, "{path}, column {column}, HTTP: {code}");
            }
        }
    }
}
