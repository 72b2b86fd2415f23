//! Every mutation that is done leaves a line, by construction.

use std::collections::BTreeSet;
use std::sync::Arc;

use musubi::compliance::access;
use musubi::entity::session::SignInWay;
use musubi::entity::system_event;
use musubi::error::Lang;
use musubi::graphql::caller::RECORDED_ELSEWHERE;
use musubi::identity;
use musubi::identity::sign_in::session::{self, NewSession, Visitor};
use musubi::ids::TenantId;
use serde_json::{Value, json};

use super::{lines, lines_of};
use crate::support::TestApp;
use crate::support::people::{Hotel, Person};

/// Somebody who does things, one after the other, and what came of each.
struct Story {
    app: TestApp,
    hotel: Hotel,
    root: Person,
    done: BTreeSet<&'static str>,
}

impl Story {
    /// Does it, and sees that it left a line.
    async fn does(
        &mut self,
        person: &Person,
        field: &'static str,
        (arguments, selection): (String, &str),
    ) -> Value {
        let before: BTreeSet<_> = self.ids().await;
        let document = format!(
            "mutation {{ it: {field}{arguments} {{ {selection} userErrors {{
            code field message }} }} }}"
        );
        let answer = Box::pin(person.asks(&document, json!({}))).await;
        assert!(answer["errors"].is_null(), "{document}: {answer}");
        assert_eq!(answer["data"]["it"]["userErrors"], json!([]), "{document}: {answer}");
        let new: Vec<_> = lines(&self.app).await;
        let new: Vec<_> = new.into_iter().filter(|line| !before.contains(&line.id)).collect();
        let by_them = new.iter().any(|line| line.user_id == Some(person.id));
        let is_elsewhere = RECORDED_ELSEWHERE.contains(&field);
        assert_eq!(by_them, !is_elsewhere, "{field} left {new:?}");
        assert!(new.iter().all(|line| line.is_success), "{new:?}");
        self.done.insert(field);
        answer["data"]["it"].clone()
    }

    async fn ids(&self) -> BTreeSet<musubi::ids::AuditEventId> {
        lines(&self.app).await.into_iter().map(|line| line.id).collect()
    }
}

fn with(arguments: impl Into<String>, selection: &str) -> (String, &str) {
    (arguments.into(), selection)
}

/// A person in a session, which alone can be ended or moved.
async fn in_session(app: &TestApp, person: &Person, tenant: TenantId) -> (Person, String) {
    let mut txn = app.app.db.begin().await.unwrap();
    let new = NewSession {
        user: person.id,
        tenant: None,
        parent: None,
        visitor: Visitor::default(),
        way: SignInWay::Email,
    };
    let tokens = session::begin(&app.app, &mut txn, new).await.unwrap();
    txn.commit().await.unwrap();
    assert_eq!(tokens.session.tenant_id, Some(tenant));
    let actor = identity::authenticate(&app.app, &tokens.access, Lang::En).await.unwrap();
    (person.acting_as(actor), tokens.session.id.to_string())
}

#[tokio::test]
async fn every_mutation_that_is_done_leaves_a_line_in_the_record() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(1_000).await;
    let root = app.platform_admin(Some(hotel.id)).await;
    let mut story = Story { app, hotel, root, done: BTreeSet::new() };
    Box::pin(runs_and_credits(&mut story)).await;
    Box::pin(the_catalogue(&mut story)).await;
    Box::pin(people_and_keys(&mut story)).await;
    Box::pin(sessions_and_sites(&mut story)).await;
    Box::pin(purchases(&mut story)).await;
    Box::pin(cards(&mut story)).await;
    Box::pin(plans(&mut story)).await;
    Box::pin(unusual_use(&mut story)).await;
    Box::pin(the_tenant(&mut story)).await;
    let all: BTreeSet<String> = access::root_fields()
        .into_iter()
        .filter_map(|path| path.strip_prefix("Mutation.").map(str::to_owned))
        .collect();
    let done: BTreeSet<String> = story.done.iter().map(|field| (*field).to_owned()).collect();
    assert_eq!(done, all, "a mutation that this story does not tell (right)");
    assert_eq!(story.app.drifts().await, Vec::<String>::new());
}

async fn runs_and_credits(story: &mut Story) {
    let (user, root) = (story.hotel.user.clone(), story.root.clone());
    let tenant = story.hotel.id.to_string();
    let call = |key: &str| {
        format!(
            "(input: {{ functionType: CHATBOT, parameters: {{ input: \"こんにちは\" }},
             idempotencyKey: \"{key}\" }})"
        )
    };
    let run = story.does(&user, "aiExecute", with(call("run-0001"), "execution { id }")).await;
    let execution = run["execution"]["id"].as_str().unwrap().to_owned();
    let start = with(call("run-0002"), "execution { id }");
    story.does(&user, "aiExecutionStart", start).await;
    // One that has ended stays as it is; that somebody asked is recorded all the same.
    let cancel = with(format!("(id: \"{execution}\")"), "execution { id }");
    story.does(&user, "aiExecutionCancel", cancel).await;
    let bonus =
        format!("(input: {{ tenantId: \"{tenant}\", credits: 7, idempotencyKey: \"bonus-01\" }})");
    story.does(&root, "creditBonusGrant", with(bonus, "grant { id }")).await;
    let refund = format!(
        "(input: {{ tenantId: \"{tenant}\", executionId: \"{execution}\",
         idempotencyKey: \"refund-1\" }})"
    );
    story.does(&root, "creditRefund", with(refund, "transaction { id }")).await;
}

async fn the_catalogue(story: &mut Story) {
    let root = story.root.clone();
    let tenant = story.hotel.id.to_string();
    let price = "(input: { functionType: CHATBOT, model: \"gpt-4o\", baseCredits: 5 })";
    story.does(&root, "aiPriceSet", with(price, "price { id }")).await;
    let package = "(input: { planType: ESSENTIAL, credits: 100, priceYen: 900,
        displayName: \"百\", validFrom: \"2026-01-01\" })";
    let made = story.does(&root, "creditPackageCreate", with(package, "package { id }")).await;
    let id = made["package"]["id"].as_str().unwrap().to_owned();
    let change = format!("(input: {{ id: \"{id}\", priceYen: 800 }})");
    story.does(&root, "creditPackageUpdate", with(change, "package { id }")).await;
    let retire = format!("(input: {{ id: \"{id}\" }})");
    story.does(&root, "creditPackageRetire", with(retire, "package { id }")).await;
    let plan = "(input: { planType: ESSENTIAL, priceYen: 7000, monthlyFreeCredits: 200,
        carryOver: NONE })";
    story.does(&root, "planUpdate", with(plan, "plan { id }")).await;
    let set = format!("(input: {{ tenantId: \"{tenant}\", planType: PROFESSIONAL }})");
    story.does(&root, "tenantPlanSet", with(set, "account { id }")).await;
    let set = format!("(input: {{ tenantId: \"{tenant}\", runningMax: 50 }})");
    story.does(&root, "tenantRunningMaxSet", with(set, "account { id }")).await;
    let set = format!("(input: {{ tenantId: \"{tenant}\", functionType: CHATBOT, perHour: 50 }})");
    story.does(&root, "tenantFunctionLimitSet", with(set, "functionLimit { perHour }")).await;
    let made = "(input: { name: \"新館\", slug: \"shinkan\", planType: ESSENTIAL,
        adminEmail: \"first@shinkan.test\" })";
    story.does(&root, "tenantCreate", with(made, "tenant { id }")).await;
}

async fn people_and_keys(story: &mut Story) {
    let admin = story.hotel.admin.clone();
    let key = "(input: { name: \"server\", permissions: [AI_EXECUTE] })";
    let made = story.does(&admin, "apiKeyCreate", with(key, "apiKey { id }")).await;
    let id = made["apiKey"]["id"].as_str().unwrap().to_owned();
    let revoke = with(format!("(id: \"{id}\")"), "apiKey { id }");
    story.does(&admin, "apiKeyRevoke", revoke).await;
    let invite = "(input: { email: \"guest@elsewhere.test\", role: SUPPORT })";
    let made = story.does(&admin, "membershipInvite", with(invite, "invitation { id }")).await;
    let id = made["invitation"]["id"].as_str().unwrap().to_owned();
    let revoke = with(format!("(id: \"{id}\")"), "invitation { id }");
    story.does(&admin, "membershipInvitationRevoke", revoke).await;
    let members = "{ viewer { tenant { members(first: 50) { nodes { id user { id } } } } } }";
    let members = admin.gets(members, json!({})).await;
    let support = story.hotel.support.id.to_string();
    let members = members["viewer"]["tenant"]["members"]["nodes"].as_array().unwrap().clone();
    let member = members.iter().find(|it| it["user"]["id"] == support.as_str()).unwrap();
    let id = member["id"].as_str().unwrap();
    let change = format!("(input: {{ id: \"{id}\", role: MANAGER }})");
    story.does(&admin, "membershipRoleChange", with(change, "membership { id }")).await;
    // The same again changes nothing and records nothing itself: the shell does.
    let change = format!("(input: {{ id: \"{id}\", role: MANAGER }})");
    story.does(&admin, "membershipRoleChange", with(change, "membership { id }")).await;
    let plain = lines_of(&story.app, "membershipRoleChange").await;
    assert_eq!(plain.len(), 1);
    let remove = with(format!("(input: {{ id: \"{id}\" }})"), "membership { id }");
    story.does(&admin, "membershipRemove", remove).await;
    let profile = "(input: { name: \"女将\", bio: \"箱根の宿\", marketingConsent: true })";
    story.does(&admin, "profileUpdate", with(profile, "profile { id }")).await;
}

async fn sessions_and_sites(story: &mut Story) {
    let (admin, tenant) = (story.hotel.admin.clone(), story.hotel.id);
    let (signed_in, session) = in_session(&story.app, &admin, tenant).await;
    let switch = with(format!("(tenantId: \"{tenant}\")"), "accessToken");
    story.does(&signed_in, "tenantSwitch", switch).await;
    let end = with(format!("(id: \"{session}\")"), "ended");
    story.does(&signed_in, "sessionEnd", end).await;
    in_session(&story.app, &admin, tenant).await;
    story.does(&admin, "sessionEndAll", with("", "ended")).await;
    link_github(&story.app, &admin).await;
    let unlink = with("(provider: GITHUB)", "__typename");
    story.does(&admin, "accountUnlink", unlink).await;
    let site = "(input: { name: \"旅館\", character: YUYA, domain: \"ryokan.test\",
        origins: [\"https://ryokan.test\"] })";
    let made = story.does(&admin, "siteCreate", with(site, "site { id }")).await;
    let id = made["site"]["id"].as_str().unwrap().to_owned();
    let change = format!("(input: {{ id: \"{id}\", character: AOBA }})");
    story.does(&admin, "siteUpdate", with(change, "site { id }")).await;
    let remove = with(format!("(id: \"{id}\")"), "site { id }");
    story.does(&admin, "siteRemove", remove).await;
}

async fn purchases(story: &mut Story) {
    let (admin, root) = (story.hotel.admin.clone(), story.root.clone());
    let sale = "mutation { it: creditPackageCreate(input: { planType: PROFESSIONAL, credits: 50,
        priceYen: 500, displayName: \"Fifty\", validFrom: \"2026-01-01\" }) {
        package { id } userErrors { code message } } }";
    let sold = root.gets(sale, json!({})).await["it"]["package"]["id"].clone();
    let buy = format!(
        "(input: {{ packageId: {sold}, paymentMethod: STRIPE,
         stripePaymentMethodId: \"pm_card_visa\", idempotencyKey: \"purchase-01\" }})"
    );
    let bought = story.does(&admin, "creditPurchase", with(buy, "purchase { id }")).await;
    let confirm = with(format!("(id: {})", bought["purchase"]["id"]), "purchase { id }");
    story.does(&admin, "creditPurchaseConfirm", confirm).await;
    let refund = format!(
        "(input: {{ tenantId: \"{}\", purchaseId: {}, idempotencyKey: \"refund-01\" }})",
        story.hotel.id, bought["purchase"]["id"]
    );
    story.does(&root, "creditPurchaseRefund", with(refund, "refund { id }")).await;
    let order = format!(
        "mutation {{ it: creditPurchase(input: {{ packageId: {sold}, paymentMethod: INVOICE,
         invoiceEmail: \"unpaid@tsubaki.test\", idempotencyKey: \"purchase-02\" }}) {{
         purchase {{ id }} userErrors {{ code message }} }} }}"
    );
    let ordered = admin.gets(&order, json!({})).await["it"]["purchase"]["id"].clone();
    let cancel = with(format!("(id: {ordered})"), "purchase { id }");
    story.does(&admin, "creditPurchaseCancel", cancel).await;
    let (app, tenant) = (&story.app.app, story.hotel.id);
    crate::payments::auto::stores_card(app, tenant, "pm_of_this_story", "print").await;
    let switch = with(
        "(input: { enabled: true, monthlyCapYen: 10000, threshold: 10, amount: 20 })",
        "autoPurchase { enabled }",
    );
    story.does(&admin, "creditAutoPurchaseUpdate", switch).await;
}

async fn cards(story: &mut Story) {
    let admin = story.hotel.admin.clone();
    let begin =
        "(input: { stripePaymentMethodId: \"pm_card_visa\", idempotencyKey: \"card-001\" })";
    let begun = with(begin, "setup { id } card { id }");
    let begun = story.does(&admin, "cardSetupBegin", begun).await;
    let confirm = format!("(setupIntentId: {})", begun["setup"]["id"]);
    story.does(&admin, "cardSetupConfirm", with(confirm, "card { id }")).await;
    for field in ["cardDefaultSet", "cardRemove"] {
        let of_card = with(format!("(id: {})", begun["card"]["id"]), "card { id }");
        story.does(&admin, field, of_card).await;
    }
}

async fn plans(story: &mut Story) {
    let admin = story.hotel.admin.clone();
    let begin = "(input: { planType: ESSENTIAL, stripePaymentMethodId: \"pm_card_visa\",
        idempotencyKey: \"plan-first\" })";
    story.does(&admin, "planSubscribe", with(begin, "subscription { status }")).await;
    for field in ["planSubscriptionConfirm", "planCancel", "planResume"] {
        story.does(&admin, field, with("", "subscription { status }")).await;
    }
    let change = "(input: { planType: ENTERPRISE, idempotencyKey: \"plan-change\" })";
    story.does(&admin, "planChange", with(change, "subscription { status }")).await;
}

async fn unusual_use(story: &mut Story) {
    let admin = story.hotel.admin.clone();
    let watch = with("(input: { mode: SHADOW })", "settings { mode }");
    story.does(&admin, "anomalySettingsUpdate", watch).await;
    let block = crate::schema::ids::a_block(&story.app.app, &story.hotel).await;
    let lift = with(format!("(id: \"{block}\")"), "block { id }");
    story.does(&admin, "anomalyBlockLift", lift).await;
}

async fn link_github(app: &TestApp, person: &Person) {
    let sql = "UPDATE users SET email_verified_at = created_at WHERE id = $1";
    super::runs(app, sql, vec![person.id.into()]).await;
    let identity = musubi::external::oauth::Identity {
        provider_account_id: "77".to_owned(),
        scope: "user:email".to_owned(),
        name: "女将".to_owned(),
        email: None,
        is_email_verified: false,
    };
    let provider = musubi::entity::linked_account::Provider::Github;
    let who = (person.id, &Arc::default());
    musubi::identity::sign_in::provider::link(&app.app, who, provider, &identity).await.unwrap();
}

async fn the_tenant(story: &mut Story) {
    let (admin, root) = (story.hotel.admin.clone(), story.root.clone());
    let change = "(input: { name: \"新しい旅館\", billingEmail: \"bills@ryokan.test\",
        locale: \"en\" })";
    story.does(&admin, "tenantUpdate", with(change, "tenant { id slug }")).await;
    let tenant = root.gets("{ viewer { tenant { id slug } } }", json!({})).await;
    let tenant = tenant["viewer"]["tenant"].clone();
    let close = format!("(input: {{ id: {}, slug: {} }})", tenant["id"], tenant["slug"]);
    story.does(&root, "tenantClose", with(close, "tenant { id }")).await;
}

#[tokio::test]
async fn a_change_says_what_it_changed_and_hides_what_is_personal() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let admin = &hotel.admin;
    let profile = "mutation { profileUpdate(input: { name: \"山田花子\", bio: \"私の事\",
        marketingConsent: true, preferredCharacter: AOBA }) { userErrors { code } } }";
    admin.gets(profile, json!({})).await;
    let line = &lines_of(&app, "PROFILE_UPDATED").await[0];
    let expected = json!({
        "name": "[changed]",
        "bio": "[changed]",
        "marketingConsent": { "before": false, "after": true },
        "preferredCharacter": { "before": "BOTH", "after": "AOBA" },
    });
    assert_eq!(line.changes, Some(expected));
    let root = app.platform_admin(None).await;
    let plan = "mutation { planUpdate(input: { planType: ESSENTIAL, priceYen: 7000,
        monthlyFreeCredits: 200, carryOver: ALL }) { userErrors { code } } }";
    root.gets(plan, json!({})).await;
    let line = &lines_of(&app, "PLAN_UPDATED").await[0];
    let expected = json!({ "priceYen": { "before": 7_800, "after": 7_000 } });
    assert_eq!(line.changes, Some(expected));
    assert_eq!((line.tenant_id, line.chain_id), (None, uuid::Uuid::nil()));
}

#[tokio::test]
async fn a_key_that_acts_is_named_beside_the_person_who_made_it() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(100).await;
    let key = "mutation { apiKeyCreate(input: { name: \"server\", permissions: [AI_EXECUTE] }) {
        key apiKey { id } userErrors { code } } }";
    let made = hotel.admin.gets(key, json!({})).await["apiKeyCreate"].clone();
    let actor = identity::authenticate(&app.app, made["key"].as_str().unwrap(), Lang::En).await;
    let server = hotel.admin.acting_as(actor.unwrap());
    let run = server.executes("こんにちは", "by-a-server").await;
    let cancel = format!(
        "mutation {{ aiExecutionCancel(id: {}) {{ userErrors {{ code }} }} }}",
        run["execution"]["id"]
    );
    server.gets(&cancel, json!({})).await;
    let line = &lines_of(&app, "aiExecutionCancel").await[0];
    let named = line.api_key_id.map(|id| id.to_string());
    assert_eq!(named.as_deref(), made["apiKey"]["id"].as_str());
    assert_eq!(line.user_id, Some(hotel.admin.id));
    assert_eq!(line.request_id.as_deref(), Some("test"));
    assert_eq!(line.event_type, system_event::EventType::Data);
}

#[test]
fn every_root_field_has_a_rule_and_every_rule_a_field() {
    assert_eq!(access::fields_without_a_rule(), Vec::<String>::new());
    let fields = access::root_fields();
    let known: Vec<&str> = access::RULES.iter().map(|(path, _)| *path).collect();
    assert!(known.is_sorted(), "the table is sorted");
    assert_eq!(known, fields.iter().map(String::as_str).collect::<Vec<_>>());
}
