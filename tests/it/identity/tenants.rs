//! Tenants: made, changed, closed for ever; and their sites.

use musubi::identity;
use serde_json::{Value, json};

use super::{begins, is_refused, refusal, top, with};
use crate::support::TestApp;
use crate::support::people::{EXECUTE, Person};

const UPDATE: &str = "mutation ($input: TenantUpdateInput!) { tenantUpdate(input: $input) {
    tenant { name timeZone locale billingEmail slackWebhookUrl slackChannel membershipPolicy
        version } userErrors { __typename code field message } } }";
const CREATE: &str = "mutation ($input: TenantCreateInput!) { tenantCreate(input: $input) {
    tenant { id slug planType timeZone locale } userErrors { code field } } }";
const CLOSE: &str = "mutation ($input: TenantCloseInput!) { tenantClose(input: $input) {
    tenant { id closedAt } userErrors { code field } } }";
const SITE_CREATE: &str = "mutation ($input: SiteCreateInput!) { siteCreate(input: $input) {
    site { id domain origins version } userErrors { code field } } }";
const SITE_UPDATE: &str = "mutation ($input: SiteUpdateInput!) { siteUpdate(input: $input) {
    site { id domain origins version } userErrors { code field } } }";
const SITE_REMOVE: &str = "mutation ($id: ID!) { siteRemove(id: $id) {
    site { id } userErrors { code } } }";

async fn tells(person: &Person, mutation: &str, input: Value) -> Value {
    let data = person.gets(mutation, json!({ "input": input })).await;
    data.as_object().unwrap().values().next().unwrap().clone()
}

async fn slug(person: &Person) -> Value {
    person.gets("{ viewer { tenant { slug } } }", json!({})).await["viewer"]["tenant"]["slug"]
        .clone()
}

#[tokio::test]
async fn an_admin_changes_the_tenant_and_others_do_not_see_its_secrets() {
    let app = TestApp::start().await;
    let hotel = app.tenant(musubi::entity::plan::PlanType::Essential, "Asia/Tokyo").await;
    let hook = "https://hooks.slack.com/services/T0000/B0000/abcdefghWXYZ";
    let input = json!({ "name": "旅館 椿", "billingEmail": "bills@example.test", "locale": "en",
        "slackWebhookUrl": hook, "slackChannel": "#alerts", "membershipPolicy": "OPEN",
        "timeZone": "Asia/Seoul", "expectedVersion": 1 });

    let told = tells(&hotel.admin, UPDATE, input.clone()).await;
    let stale = tells(&hotel.admin, UPDATE, input).await;
    let less = tells(&hotel.admin, UPDATE, json!({ "billingEmail": null })).await;
    let seen = "{ viewer { tenant { name billingEmail slackWebhookUrl slackChannel
        stripeCustomerId } } }";
    let seen = hotel.manager.gets(seen, json!({})).await;
    let by_manager = hotel.manager.asks(UPDATE, json!({ "input": {} })).await;

    let expected = json!({ "name": "旅館 椿", "timeZone": "Asia/Seoul", "locale": "en",
        "billingEmail": "bills@example.test", "slackWebhookUrl": "****WXYZ",
        "slackChannel": "#alerts", "membershipPolicy": "OPEN", "version": 2 });
    assert_eq!(told["tenant"], expected, "{told}");
    assert_eq!(refusal(&stale), "STALE_VERSION", "{stale}");
    assert_eq!(
        (&less["tenant"]["billingEmail"], &less["tenant"]["slackChannel"]),
        (&Value::Null, &json!("#alerts"))
    );
    let secrets = json!({ "name": "旅館 椿", "billingEmail": null, "slackWebhookUrl": null,
        "slackChannel": null, "stripeCustomerId": null });
    assert_eq!(seen["viewer"]["tenant"], secrets);
    assert_eq!(top(&by_manager), "FORBIDDEN");
}

#[tokio::test]
async fn the_zone_stays_once_months_are_counted_in_it() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;

    let refused = tells(&hotel.admin, UPDATE, json!({ "timeZone": "Europe/Paris" })).await;
    let same = tells(&hotel.admin, UPDATE, json!({ "timeZone": "Asia/Tokyo" })).await;
    let bad = json!({ "timeZone": "Mars/Olympus", "locale": "fr", "name": "",
        "slackWebhookUrl": "https://example.test/services/a/b/c" });
    let bad = tells(&hotel.admin, UPDATE, bad).await;

    assert_eq!(refusal(&refused), "INVALID_STATE", "{refused}");
    assert_eq!(refused["userErrors"][0]["field"], json!(["input", "timeZone"]));
    assert_eq!(same["tenant"]["timeZone"], "Asia/Tokyo", "{same}");
    assert_eq!(hotel.account().await.time_zone, "Asia/Tokyo");
    assert_eq!(bad["userErrors"].as_array().unwrap().len(), 4, "{bad}");
}

#[tokio::test]
async fn a_platform_admin_makes_tenants_and_lists_all_of_them() {
    let app = TestApp::start().await;
    let (hotel, root) = (app.hotel().await, app.platform_admin(None).await);
    let input = json!({ "name": "新しい宿", "slug": "new-inn", "planType": "PROFESSIONAL",
        "adminEmail": "first@example.test" });
    let query = "query ($where: TenantWhere) { tenants(where: $where) {
        totalCount nodes { slug closedAt } } }";

    let made = tells(&root, CREATE, input.clone()).await;
    let taken = tells(&root, CREATE, input).await;
    let bad = json!({ "name": "x", "slug": "Not A Slug", "planType": "ESSENTIAL",
        "timeZone": "nowhere" });
    let bad = tells(&root, CREATE, bad).await;
    let all = root.gets(query, json!({})).await;
    let one = json!({ "where": { "slug": { "contains": "new-i" } } });
    let one = root.gets(query, one).await;
    let by_admin = hotel.admin.asks(query, json!({})).await;

    assert_eq!(
        (&made["tenant"]["slug"], &made["tenant"]["locale"]),
        (&json!("new-inn"), &json!("ja")),
        "{made}"
    );
    assert_eq!(taken["userErrors"][0]["field"], json!(["input", "slug"]));
    assert_eq!(bad["userErrors"].as_array().unwrap().len(), 2, "{bad}");
    assert_eq!(
        (&all["tenants"]["totalCount"], &one["tenants"]["totalCount"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(top(&by_admin), "FORBIDDEN");
}

#[tokio::test]
async fn a_closed_tenant_runs_nothing_and_keeps_its_ledger() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(100).await;
    hotel.user.executes("こんにちは", "before-the-end").await;
    let balance = hotel.balance().await;
    let session = begins(&app, hotel.user.id, hotel.id).await;
    let key = hotel
        .admin
        .gets(
            "mutation { apiKeyCreate(input: { name: \"k\",
        permissions: [AI_EXECUTE] }) { key } }",
            json!({}),
        )
        .await;
    let key = key["apiKeyCreate"]["key"].as_str().unwrap().to_owned();
    let server = with(&app, &hotel.admin, &key).await;
    let root = app.platform_admin(None).await;
    let input = json!({ "id": hotel.id.to_string(), "slug": slug(&hotel.admin).await });
    let mut unsure = input.clone();
    unsure["slug"] = json!("something else");

    let unsure = tells(&hotel.admin, CLOSE, unsure).await;
    let by_manager = hotel.manager.asks(CLOSE, json!({ "input": input })).await;
    let closed = tells(&hotel.admin, CLOSE, input.clone()).await;
    let again = tells(&root, CLOSE, input).await;

    assert_eq!(unsure["userErrors"][0]["field"], json!(["input", "slug"]));
    assert_eq!(top(&by_manager), "FORBIDDEN");
    assert!(closed["tenant"]["closedAt"].is_string(), "{closed}");
    assert_eq!(again["tenant"]["closedAt"], closed["tenant"]["closedAt"]);
    for bearer in [&session.access, &key, &hotel.admin.token] {
        assert!(is_refused(&app, bearer).await);
    }
    // Who was let in before the end is refused by the account itself.
    for (late, name) in [(&hotel.user, "a-person"), (&server, "a-server")] {
        let input = json!({ "functionType": "CHATBOT", "parameters": { "input": "まだ？" },
            "idempotencyKey": name });
        let run = late.gets(EXECUTE, json!({ "input": input })).await["aiExecute"].clone();
        assert_eq!(refusal(&run), "INVALID_STATE", "{run}");
    }
    app.clock.advance(chrono::TimeDelta::days(40));
    musubi::credits::service::due::apply_all_due(&app.app).await.unwrap();
    assert_eq!(hotel.balance().await, balance);
    assert!(app.drifts().await.is_empty());
}

#[tokio::test]
async fn a_tenant_whose_account_is_opened_while_it_closes_has_no_open_account() {
    let app = TestApp::start().await;
    let root = app.platform_admin(None).await;
    let replica = app.replica().await;
    for _ in 0..5 {
        let hotel = app.tenant(musubi::entity::plan::PlanType::Essential, "Asia/Tokyo").await;
        let input = json!({ "id": hotel.id.to_string(), "slug": slug(&hotel.admin).await });

        let opened = musubi::credits::service::account::of_tenant(&replica, hotel.id);
        let (_, closed) = tokio::join!(opened, tells(&root, CLOSE, input));

        assert!(closed["tenant"]["closedAt"].is_string(), "{closed}");
        let account = musubi::credits::service::account::find(&app.app, hotel.id).await.unwrap();
        assert!(account.is_none_or(|account| account.deleted_at.is_some()));
    }
    assert!(app.drifts().await.is_empty());
}

#[tokio::test]
async fn a_site_has_a_domain_of_its_own_and_exact_origins() {
    let app = TestApp::start().await;
    let (hotel, other) = (app.hotel().await, app.hotel().await);
    let site = json!({ "character": "AOBA", "name": "あおば", "domain": "aoba.example.test",
        "origins": ["https://aoba.example.test", "http://localhost:5173"] });
    let bad = json!({ "character": "AOBA", "name": "", "domain": "Aoba.test/path",
        "origins": ["https://a.test/", "http://a.test", "https://*.a.test", "HTTPS://a.test"] });

    let made = tells(&hotel.admin, SITE_CREATE, site.clone()).await;
    let taken = tells(&other.admin, SITE_CREATE, site.clone()).await;
    let bad = tells(&hotel.admin, SITE_CREATE, bad).await;
    let id = made["site"]["id"].clone();
    let change = json!({ "id": id, "origins": ["https://aoba.example.test"],
        "expectedVersion": 1 });
    let changed = tells(&hotel.admin, SITE_UPDATE, change.clone()).await;
    let stale = tells(&hotel.admin, SITE_UPDATE, change).await;
    let mut second = site.clone();
    second["domain"] = json!("yuya.example.test");
    second["origins"] = json!(["https://yuya.example.test"]);
    let mut copied = second.clone();
    copied["domain"] = json!("copy.example.test");
    let second = tells(&hotel.admin, SITE_CREATE, second).await;
    let copied = tells(&other.admin, SITE_CREATE, copied).await;
    let mut ours = site.clone();
    ours["domain"] = json!("ours.example.test");
    ours["origins"] = json!([app.app.config.public_url]);
    let ours = tells(&other.admin, SITE_CREATE, ours).await;
    let collides = json!({ "id": second["site"]["id"], "domain": "aoba.example.test" });
    let collides = tells(&hotel.admin, SITE_UPDATE, collides).await;
    let foreign = other.admin.gets(SITE_REMOVE, json!({ "id": id })).await;
    let removed = hotel.admin.gets(SITE_REMOVE, json!({ "id": id })).await;
    let free = tells(&other.admin, SITE_CREATE, site).await;

    assert_eq!(refusal(&made), "OK", "{made}");
    assert_eq!(taken["userErrors"][0]["field"], json!(["input", "domain"]));
    assert_eq!(bad["userErrors"].as_array().unwrap().len(), 6, "{bad}");
    assert_eq!(
        (&changed["site"]["version"], &changed["site"]["origins"]),
        (&json!(2), &json!(["https://aoba.example.test"]))
    );
    assert_eq!(refusal(&stale), "STALE_VERSION");
    assert_eq!(collides["userErrors"][0]["field"], json!(["input", "domain"]), "{collides}");
    for theirs in [&copied, &ours] {
        assert_eq!(theirs["userErrors"][0]["field"], json!(["input", "origins"]), "{theirs}");
    }
    assert_eq!(refusal(&foreign["siteRemove"]), "NOT_FOUND");
    assert_eq!(removed["siteRemove"]["site"]["id"], id);
    assert_eq!(refusal(&free), "OK", "{free}");
    let shown = hotel.user.gets("{ viewer { tenant { sites { id } } } }", json!({})).await;
    assert_eq!(shown["viewer"]["tenant"]["sites"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_belongs_to_a_tenant_is_read_only_within_it() {
    let app = TestApp::start().await;
    let (hotel, _) = (app.hotel().await, app.hotel().await);
    let root = app.platform_admin(Some(hotel.id)).await;
    let nobody = app.platform_admin(None).await;
    for field in
        ["sites { id }", "members { totalCount }", "invitations { totalCount }", "apiKeys { id }"]
    {
        let query = format!("{{ tenants {{ nodes {{ id {field} }} }} }}");
        for person in [&root, &nobody] {
            let reply = person.asks(&query, json!({})).await;
            assert_eq!(top(&reply), "FORBIDDEN", "{field}: {reply}");
        }
    }
    let own = root.gets("{ viewer { tenant { members { totalCount } } } }", json!({})).await;
    assert_eq!(own["viewer"]["tenant"]["members"]["totalCount"], 4);
    assert!(identity::is_member(&app.app, hotel.id, hotel.user.id).await.unwrap());
}
