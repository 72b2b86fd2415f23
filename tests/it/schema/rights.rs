//! Who may ask what: the whole table, tried out for every root field.

use std::collections::BTreeMap;

use musubi::ids::{
    ApiKeyId, ExecutionId, InvitationId, MembershipId, PackageId, SessionId, SiteId,
};

use super::map::{self, Map, Question, code, reply};
use crate::support::TestApp;
use crate::support::people::Person;

/// `+` may, `-` is refused as FORBIDDEN. The last column is a platform admin who acts in the
/// tenant. Fields of `CreditAccount` and `Tenant` are listed when not every member may ask them.
/// `tenantSwitch` needs a session, which nobody has here.
const RIGHTS: &str = "
                                 USER  SUPPORT  MANAGER  ADMIN  PLATFORM
    Query.aiExecution             +       +        +       +       +
    Query.aiExecutionQuote        +       +        +       +       +
    Query.aiExecutions            +       +        +       +       +
    Query.aiFunctions             +       +        +       +       +
    Query.clientConfig            +       +        +       +       +
    Query.creditAccount           +       +        +       +       +
    Query.creditAnalytics         -       -        +       +       +
    Query.creditPackages          +       +        +       +       +
    Query.node                    +       +        +       +       +
    Query.nodes                   +       +        +       +       +
    Query.plans                   +       +        +       +       +
    Query.tenants                 -       -        -       -       +
    Query.viewer                  +       +        +       +       +
    CreditAccount.resets          -       -        +       +       +
    CreditAccount.transactions    -       -        +       +       +
    CreditAccount.usage           -       -        +       +       +
    Tenant.apiKeys                -       -        -       +       +
    Tenant.invitations            -       -        -       +       +
    Tenant.members                -       +        +       +       +
    Mutation.accountUnlink        +       +        +       +       +
    Mutation.aiExecute            +       +        +       +       +
    Mutation.aiExecutionCancel    +       +        +       +       +
    Mutation.aiExecutionStart     +       +        +       +       +
    Mutation.aiPriceSet           -       -        -       -       +
    Mutation.apiKeyCreate         -       -        -       +       +
    Mutation.apiKeyRevoke         -       -        -       +       +
    Mutation.creditBonusGrant     -       -        -       -       +
    Mutation.creditPackageCreate  -       -        -       -       +
    Mutation.creditPackageRetire  -       -        -       -       +
    Mutation.creditPackageUpdate  -       -        -       -       +
    Mutation.creditRefund         -       -        -       -       +
    Mutation.membershipInvite     -       -        -       +       +
    Mutation.membershipInvitationRevoke  - -       -       +       +
    Mutation.membershipRemove     +       +        +       +       +
    Mutation.membershipRoleChange  -      -        -       +       +
    Mutation.planUpdate           -       -        -       -       +
    Mutation.profileUpdate        +       +        +       +       +
    Mutation.sessionEnd           +       +        +       +       +
    Mutation.sessionEndAll        +       +        +       +       +
    Mutation.siteCreate           -       -        -       +       +
    Mutation.siteRemove           -       -        -       +       +
    Mutation.siteUpdate           -       -        -       +       +
    Mutation.tenantClose          -       -        -       +       +
    Mutation.tenantCreate         -       -        -       -       +
    Mutation.tenantPlanSet        -       -        -       -       +
    Mutation.tenantSwitch         -       -        -       -       -
    Mutation.tenantUpdate         -       -        -       +       +
    Subscription.aiExecutionEvents  +     +        +       +       +
    Subscription.creditBalance    +       +        +       +       +
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
    let people = [&hotel.user, &hotel.support, &hotel.manager, &hotel.admin, &root];
    let account = hotel.account().await.id.to_string();
    let tenant = hotel.id.to_string();
    let id = |path: &str| match path {
        "node.id" | "nodes.ids" => account.clone(),
        "tenantClose.input.id" => tenant.clone(),
        path if path.ends_with(".tenantId") => tenant.clone(),
        "apiKeyRevoke.id" => ApiKeyId::new().to_string(),
        "membershipInvitationRevoke.id" => InvitationId::new().to_string(),
        path if path.starts_with("membership") => MembershipId::new().to_string(),
        "sessionEnd.id" => SessionId::new().to_string(),
        path if path.starts_with("site") => SiteId::new().to_string(),
        path if path.starts_with("creditPackage") => PackageId::new().to_string(),
        _ => ExecutionId::new().to_string(),
    };
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
            let row = rights.remove(path.as_str()).unwrap_or_else(|| vec![true; 5]);
            let question = Question::within(&map, place, field);
            try_out(&app, &people, (&path, &question), &row).await;
        }
    }
    assert!(rights.is_empty(), "no longer there: {rights:?}");
}

async fn try_out(
    app: &TestApp,
    people: &[&Person; 5],
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
