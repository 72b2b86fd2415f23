//! Who may ask what: the whole table, tried out. Root fields are here, fields of objects in the
//! files of `rights/fields`.

mod fields;
mod furniture;
mod stage;
mod strangers;
mod table;
mod voice;
mod way;

use std::collections::BTreeMap;

use musubi::actor::Permission;
use musubi::db;
use musubi::error::Lang;
use musubi::identity;
use musubi::identity::service::key::{self, NewKey};
use musubi::ids::{
    ApiKeyId, BlockId, ExecutionId, InvitationId, MembershipId, PackageId, PurchaseId, SessionId,
    SiteId, StoredCardId,
};
use serde_json::json;

use super::map::{Map, Question, code, reply};
use crate::support::people::{Hotel, Person};
use crate::support::{TestApp, TestServer};
use voice::{Transport, Voice};

/// `+` may, `-` is refused as FORBIDDEN. PLATFORM is a platform admin who acts in the tenant, KEY
/// an API key with all that keys can have, BARE one with nothing, whose mark stands only where it
/// may. An ADMIN of another tenant may what ADMINs may, there. `tenantSwitch` needs a session,
/// which nobody has here.
const RIGHTS: &str = "
                                        USER  SUPPORT  MANAGER  ADMIN  PLATFORM  KEY  BARE
    Query.aiExecution                   +     +        +        +      +         +
    Query.aiExecutionQuote              +     +        +        +      +         +
    Query.aiExecutions                  +     +        +        +      +         +
    Query.aiFunctions                   +     +        +        +      +         +
    Query.anomalyBlocks                 -     -        -        +      +         -
    Query.anomalySettings               -     -        -        +      +         -
    Query.auditEvents                   -     -        -        +      +         -
    Query.auditExport                   -     -        -        +      +         -
    Query.auditReport                   -     -        -        +      +         -
    Query.clientConfig                  +     +        +        +      +         +    +
    Query.creditAccount                 +     +        +        +      +         +
    Query.creditAnalytics               -     -        +        +      +         +
    Query.creditPackages                +     +        +        +      +         +
    Query.creditPurchase                -     -        -        +      +         -
    Query.creditPurchaseQuote           -     -        -        +      +         -
    Query.creditPurchaseReceipt         -     -        -        +      +         -
    Query.creditPurchases               -     -        -        +      +         -
    Query.node                          +     +        +        +      +         +
    Query.nodes                         +     +        +        +      +         +
    Query.planChangePreview             -     -        -        +      +         -
    Query.plans                         +     +        +        +      +         +
    Query.storedCards                   -     -        -        +      +         -
    Query.tenants                       -     -        -        -      +         -
    Query.viewer                        +     +        +        +      +         +    +
    Mutation.accountUnlink              +     +        +        +      +         -
    Mutation.aiExecute                  +     +        +        +      +         +
    Mutation.aiExecutionCancel          +     +        +        +      +         +
    Mutation.aiExecutionStart           +     +        +        +      +         +
    Mutation.aiPriceSet                 -     -        -        -      +         -
    Mutation.anomalyBlockLift           -     -        -        +      +         -
    Mutation.anomalySettingsUpdate      -     -        -        +      +         -
    Mutation.apiKeyCreate               -     -        -        +      +         -
    Mutation.apiKeyRevoke               -     -        -        +      +         -
    Mutation.cardDefaultSet             -     -        -        +      +         -
    Mutation.cardRemove                 -     -        -        +      +         -
    Mutation.cardSetupBegin             -     -        -        +      +         -
    Mutation.cardSetupConfirm           -     -        -        +      +         -
    Mutation.creditAutoPurchaseUpdate   -     -        -        +      +         -
    Mutation.creditBonusGrant           -     -        -        -      +         -
    Mutation.creditPackageCreate        -     -        -        -      +         -
    Mutation.creditPackageRetire        -     -        -        -      +         -
    Mutation.creditPackageUpdate        -     -        -        -      +         -
    Mutation.creditPurchase             -     -        -        +      +         -
    Mutation.creditPurchaseCancel       -     -        -        +      +         -
    Mutation.creditPurchaseConfirm      -     -        -        +      +         -
    Mutation.creditPurchaseRefund       -     -        -        -      +         -
    Mutation.creditRefund               -     -        -        -      +         -
    Mutation.membershipInvite           -     -        -        +      +         -
    Mutation.membershipInvitationRevoke -     -        -        +      +         -
    Mutation.membershipRemove           +     +        +        +      +         -
    Mutation.membershipRoleChange       -     -        -        +      +         -
    Mutation.planCancel                 -     -        -        +      +         -
    Mutation.planChange                 -     -        -        +      +         -
    Mutation.planResume                 -     -        -        +      +         -
    Mutation.planSubscribe              -     -        -        +      +         -
    Mutation.planSubscriptionConfirm    -     -        -        +      +         -
    Mutation.planUpdate                 -     -        -        -      +         -
    Mutation.profileUpdate              +     +        +        +      +         -
    Mutation.sessionEnd                 +     +        +        +      +         -
    Mutation.sessionEndAll              +     +        +        +      +         -
    Mutation.siteCreate                 -     -        -        +      +         -
    Mutation.siteRemove                 -     -        -        +      +         -
    Mutation.siteUpdate                 -     -        -        +      +         -
    Mutation.tenantClose                -     -        -        +      +         -
    Mutation.tenantCreate               -     -        -        -      +         -
    Mutation.tenantFunctionLimitSet     -     -        -        -      +         -
    Mutation.tenantPlanSet              -     -        -        -      +         -
    Mutation.tenantRunningMaxSet        -     -        -        -      +         -
    Mutation.tenantSwitch               -     -        -        -      -         -
    Mutation.tenantUpdate               -     -        -        +      +         -
    Subscription.aiExecutionEvents      +     +        +        +      +         +
    Subscription.creditBalance          +     +        +        +      +         +
    Subscription.creditPurchaseChanged  -     -        -        +      +         -
";

/// The table: for each field, whether each of [`everybody`] may.
fn rights() -> BTreeMap<&'static str, Vec<bool>> {
    let rows = RIGHTS.trim_matches('\n').lines().skip(1).map(str::split_whitespace);
    let rights = rows.filter_map(|mut row| {
        let field = row.next()?;
        let mut marks: Vec<bool> = row.map(|mark| mark == "+").collect();
        assert!((6..=7).contains(&marks.len()), "{field} has a column too few or too many");
        let (admin, bare) = (marks[3], marks.get(6).copied());
        marks.truncate(6);
        marks.extend([bare.unwrap_or(false), admin]);
        Some((field, marks))
    });
    rights.collect()
}

/// The columns' people, and the ADMIN of another tenant.
async fn everybody(app: &TestApp, hotel: &Hotel) -> [Person; 8] {
    let root = app.platform_admin(Some(hotel.id)).await;
    let (key, bare) = (key_of(app, hotel).await, bare_key_of(app, hotel).await);
    let other = app.hotel().await.with_credits(1_000).await.admin;
    let [user, support, manager, admin] =
        [&hotel.user, &hotel.support, &hotel.manager, &hotel.admin].map(Person::clone);
    [user, support, manager, admin, root, key, bare, other]
}

#[tokio::test]
async fn each_role_may_ask_what_the_table_says() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(1_000).await;
    let people = everybody(&app, &hotel).await;
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
    assert!(rights.is_empty(), "no longer there: {rights:?}");
}

/// An id of the right kind for an argument: of the tenant where there is one, of nobody else.
fn id_for(path: &str, account: &str, tenant: &str) -> String {
    match path {
        "node.id" | "nodes.ids" => account.to_owned(),
        "tenantClose.input.id" => tenant.to_owned(),
        path if path.ends_with(".tenantId") => tenant.to_owned(),
        "anomalyBlockLift.id" => BlockId::new().to_string(),
        "apiKeyRevoke.id" => ApiKeyId::new().to_string(),
        "membershipInvitationRevoke.id" => InvitationId::new().to_string(),
        path if path.starts_with("membership") => MembershipId::new().to_string(),
        path if path.starts_with("card") => StoredCardId::new().to_string(),
        "sessionEnd.id" => SessionId::new().to_string(),
        path if path.starts_with("site") => SiteId::new().to_string(),
        "creditPurchase.input.packageId" | "creditPurchaseQuote.packageId" => {
            PackageId::new().to_string()
        }
        path if path.starts_with("creditPurchase") => PurchaseId::new().to_string(),
        path if path.starts_with("creditPackage") => PackageId::new().to_string(),
        _ => ExecutionId::new().to_string(),
    }
}

/// Somebody who asks by an API key with all that keys can have.
async fn key_of(app: &TestApp, hotel: &Hotel) -> Person {
    let all = Permission::ALL.iter().copied().filter(|it| it.is_for_keys()).collect();
    let new = NewKey { name: "server".to_owned(), permissions: all, expires_at: None };
    let (_, text) = key::create(&app.app, &hotel.admin.actor, new).await.unwrap();
    by_key(app, hotel, text).await
}

/// The same by a key that lost all that it could have.
async fn bare_key_of(app: &TestApp, hotel: &Hotel) -> Person {
    let permissions = vec![Permission::LeadsRead];
    let new = NewKey { name: "bare".to_owned(), permissions, expires_at: None };
    let (row, text) = key::create(&app.app, &hotel.admin.actor, new).await.unwrap();
    let sql = "UPDATE api_keys SET permissions = $2 WHERE id = $1";
    let txn = app.app.db.begin().await.unwrap();
    db::execute(&*txn, sql, vec![row.id.into(), json!([]).into()]).await.unwrap();
    txn.commit().await.unwrap();
    by_key(app, hotel, text).await
}

async fn by_key(app: &TestApp, hotel: &Hotel, text: String) -> Person {
    let actor = identity::authenticate(&app.app, &text, Lang::En).await.unwrap();
    let mut person = hotel.admin.acting_as(actor);
    person.token = text;
    person
}

async fn try_out(
    app: &TestApp,
    people: &[Person; 8],
    (path, question): (&str, &Question),
    row: &[bool],
) {
    for (column, (person, may)) in people.iter().zip(row).enumerate() {
        let actor = Some(person.actor.clone());
        let reply = reply(app, actor, &question.document, json!({})).await;
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

#[tokio::test]
async fn the_table_holds_over_http_and_sockets_for_everybody_who_may_come() {
    let server = TestServer::start().await;
    let hotel = &server.hotel;
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
    let (map, rights) = (Map::read(), rights());
    let mut anonymous = Voice::of(&server, None).await;
    let mut voices = Vec::new();
    for person in everybody(&server.app, hotel).await {
        voices.push(Voice::of(&server, Some(&person.token)).await);
    }
    for (kind, field) in map.root_fields() {
        let path = format!("{kind}.{}", field.name.node);
        let document = Question::with(&map, kind, field, &id).document;
        let asked = (document.as_str(), &json!({}));
        let is_open = ["Query.viewer", "Query.clientConfig"].contains(&path.as_str());
        let unknown = if is_open { "OK" } else { "UNAUTHENTICATED" };
        voice::is_turned_away(&server, &expired, &document).await;
        for transport in [Transport::Http, Transport::Socket] {
            if kind == "Subscription" && transport == Transport::Http {
                continue;
            }
            let reply = anonymous.asks(&server, transport, asked).await;
            assert_eq!(code(&reply), unknown, "{path} anonymous over {transport:?}");
            for (column, (voice, may)) in voices.iter_mut().zip(&rights[&*path]).enumerate() {
                let reply = voice.asks(&server, transport, asked).await;
                let is_allowed = code(&reply) != "FORBIDDEN";
                assert_eq!(is_allowed, *may, "{path}, column {column}, {transport:?}: {reply}");
                assert_ne!(code(&reply), "INTERNAL", "{path}, column {column}: {reply}");
            }
        }
    }
}
