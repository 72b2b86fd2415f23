//! A tenant in which everything is there that the API can show, and everybody who may ask for it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Days, TimeDelta, Utc};
use futures_util::future::join_all;
use musubi::actor::Role;
use musubi::config::{OauthClient, OauthSettings, Secret};
use musubi::db;
use musubi::entity::linked_account::{self, Provider};
use musubi::entity::user_block;
use musubi::external::oauth::Providers;
use musubi::http::Limits;
use musubi::identity::{self, NewUser};
use musubi::ids::{BlockId, ExecutionId, LinkedAccountId, SessionId, TypedId, UserId};
use sea_orm::{EntityTrait, IntoActiveModel, Value as Bound};
use serde_json::{Value, json};

use super::super::ids::{Kind, begin_session, id_of};
use super::furniture;
use super::table::{CALLERS, COLUMNS};
use super::voice::Voice;
use super::way::Nodes;
use super::{bare_key_of, key_of};
use crate::support::people::{EXECUTE, Hotel, Person};
use crate::support::stripe::StripeServer;
use crate::support::{Setting, TestServer};

/// The objects that can be asked by their ids.
const NODES: [(&str, &str); 21] = [
    ("account", "CreditAccount"),
    ("block", "AnomalyBlock"),
    ("card", "StoredCard"),
    ("elsewhere", "Tenant"),
    ("grant", "CreditGrant"),
    ("invitation", "Invitation"),
    ("key", "ApiKey"),
    ("line", "CreditTransaction"),
    ("member", "Membership"),
    ("package", "CreditPackage"),
    ("plan", "Plan"),
    ("price", "AiPrice"),
    ("profile", "UserProfile"),
    ("purchase", "CreditPurchase"),
    ("refund", "CreditTransaction"),
    ("reset", "MonthlyReset"),
    ("run", "AiExecution"),
    ("session", "Session"),
    ("site", "Site"),
    ("tenant", "Tenant"),
    ("user", "User"),
];

/// Calls of CHATBOT that a member has in an hour.
const CALLS_AN_HOUR: usize = 100;

/// What is not the first tenant's.
const OF_OTHERS: [&str; 7] =
    ["elsewhere", "package", "plan", "price", "today", "tomorrow", "yesterday"];

/// The stage.
pub(super) struct Stage {
    pub(super) server: TestServer,
    _stripe: StripeServer,
    /// A token and an API key whose time is over.
    pub(super) expired: [String; 2],
    /// What the words of documents stand for.
    words: BTreeMap<&'static str, String>,
    tokens: [Option<String>; COLUMNS],
    /// Who they are in person; keys and strangers are nobody.
    pub(super) people: [Option<UserId>; COLUMNS],
    fresh: AtomicU64,
}

impl Stage {
    pub(super) async fn build() -> Self {
        let stripe = StripeServer::start().await;
        let setting = Setting::default().real_time().limited().oauth(somebody_else());
        let setting = setting.stripe(&stripe);
        let server = TestServer::start_with(setting, Limits::default()).await;
        let strange = server.app.hotel().await.with_credits(1_000).await;
        let root = server.app.platform_admin(Some(server.hotel.id)).await;
        let hotel = &server.hotel;
        let people = [&hotel.user, &hotel.support, &hotel.manager, &hotel.admin, &root];
        let mut tokens: [Option<String>; COLUMNS] = Default::default();
        let mut ids: [Option<UserId>; COLUMNS] = Default::default();
        for (column, person) in people.into_iter().chain([&strange.admin]).enumerate() {
            // Two columns are of keys, which are nobody in person.
            let column = if column == 5 { 7 } else { column };
            let tenant = person.actor.tenant_id.unwrap();
            let session = begin_session(&server.app.app, person.id, tenant).await;
            // A session is for members; who is none comes by a token.
            let is_member = person.actor.role.is_some();
            let token = if is_member { session.access } else { person.token.clone() };
            tokens[column] = Some(token);
            ids[column] = Some(person.id);
            link(&server, person.id, Provider::Discord).await;
        }
        tokens[5] = Some(key_of(&server.app, hotel).await.token);
        tokens[6] = Some(bare_key_of(&server.app, hotel).await.token);
        let expired = [expired_token(&server).await, expired_key(&server).await];
        let words = furnish(&server, &strange, &root).await;
        furniture::subscribe(&server, &stripe, &strange).await;
        let fresh = AtomicU64::new(0);
        Self { server, _stripe: stripe, expired, words, tokens, people: ids, fresh }
    }

    pub(super) fn nodes() -> Nodes {
        NODES.into_iter().collect()
    }

    /// Everybody, in the order of the columns.
    pub(super) async fn voices(&self) -> Vec<Voice> {
        let mut voices = Vec::new();
        for token in &self.tokens {
            voices.push(Voice::of(&self.server, token.as_deref()).await);
        }
        voices
    }

    /// Puts ids in the place of words. `$fresh` is another each time; `$spare` is a session of the
    /// caller's that may end, and who unlinks an account has one.
    pub(super) async fn fill(&self, column: usize, document: &str) -> String {
        let mut filled = String::new();
        let mut parts = document.split('$');
        filled.push_str(parts.next().unwrap());
        if let Some(user) = self.people[column].filter(|_| document.contains("accountUnlink")) {
            link(&self.server, user, Provider::Github).await;
        }
        for part in parts {
            let end = part.find(|letter: char| !letter.is_ascii_lowercase()).unwrap();
            let word = match &part[..end] {
                "fresh" => format!("fresh-{}", self.fresh.fetch_add(1, Ordering::Relaxed)),
                "spare" => self.spare(column).await,
                word => self.words[word].clone(),
            };
            filled.push_str(&word);
            filled.push_str(&part[end..]);
        }
        filled
    }

    async fn spare(&self, column: usize) -> String {
        let hotel = &self.server.hotel;
        match self.people[column] {
            Some(user) => {
                begin_session(&self.server.app.app, user, hotel.id).await.session.id.to_string()
            }
            None => SessionId::new().to_string(),
        }
    }

    /// What of the first tenant a reply to a stranger tells.
    pub(super) fn leak(&self, column: usize, reply: &Value) -> Option<&str> {
        let is_stranger = matches!(CALLERS[column], "OTHER" | "NOBODY");
        let text = reply.to_string();
        let own = self.words.iter().filter(|(word, _)| !OF_OTHERS.contains(word));
        let told = own.map(|(_, id)| id.as_str()).find(|id| text.contains(*id));
        told.filter(|_| is_stranger)
    }
}

/// A provider that nobody asks anything.
fn somebody_else() -> Providers {
    let client = OauthClient {
        id: "musubi-client".to_owned(),
        secret: Secret("musubi-secret".to_owned()),
        authorize_url: "http://127.0.0.1:9/authorize".to_owned(),
        token_url: "http://127.0.0.1:9/token".to_owned(),
        user_url: "http://127.0.0.1:9/user".to_owned(),
        emails_url: None,
    };
    let settings = OauthSettings { discord: Some(client), github: None };
    Providers::new(&settings, Duration::from_secs(1)).unwrap()
}

async fn expired_token(server: &TestServer) -> String {
    let hotel = &server.hotel;
    let hour_ago = TimeDelta::hours(-1);
    let (admin, tenant) = (hotel.admin.id, Some(hotel.id));
    identity::issue_token(&server.app.app, admin, tenant, hour_ago).await.unwrap()
}

async fn expired_key(server: &TestServer) -> String {
    let key = key_of(&server.app, &server.hotel).await;
    let id = key.actor.key().unwrap().id;
    let over = server.app.app.clock.db_now() - TimeDelta::hours(1);
    let sql = "UPDATE api_keys SET expires_at = $2 WHERE id = $1";
    set(server, sql, vec![id.into(), over.into()]).await;
    key.token
}

pub(super) async fn set(server: &TestServer, sql: &str, values: Vec<Bound>) {
    let txn = server.app.app.db.begin().await.unwrap();
    assert!(db::execute(&*txn, sql, values).await.unwrap() > 0, "{sql}");
    txn.commit().await.unwrap();
}

/// Links an account of the provider, unless there is one.
async fn link(server: &TestServer, user: UserId, provider: Provider) {
    let now = server.app.app.clock.db_now();
    let id = LinkedAccountId::new();
    let row = linked_account::Model {
        id,
        user_id: user,
        r#type: "oauth".to_owned(),
        provider,
        provider_account_id: id.to_string(),
        scope: None,
        created_at: now,
        last_used_at: now,
    };
    let txn = server.app.app.db.begin().await.unwrap();
    linked_account::Entity::insert(row.into_active_model())
        .on_conflict_do_nothing_on([
            linked_account::Column::UserId,
            linked_account::Column::Provider,
        ])
        .exec_without_returning(&*txn)
        .await
        .unwrap();
    txn.commit().await.unwrap();
}

/// Asks for `it`; nothing may stand in the way.
async fn gets(person: &Person, document: &str, variables: Value) -> Value {
    let reply = person.gets(document, variables).await["it"].clone();
    let errors = reply["userErrors"].as_array();
    assert!(errors.is_none_or(Vec::is_empty), "{document}: {reply}");
    reply
}

pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// Makes everything, and answers what the words stand for.
async fn furnish(
    server: &TestServer,
    strange: &Hotel,
    root: &Person,
) -> BTreeMap<&'static str, String> {
    let now = server.app.app.clock.db_now();
    let (app, hotel) = (&server.app, &server.hotel);
    let mut words = BTreeMap::new();
    for (word, kind) in [
        ("account", Kind::Account),
        ("block", Kind::Block),
        ("invitation", Kind::Invitation),
        ("key", Kind::Key),
        ("member", Kind::Member),
        ("profile", Kind::Profile),
        ("reset", Kind::Reset),
        ("session", Kind::Session),
        ("site", Kind::Site),
        ("tenant", Kind::Tenant),
        ("user", Kind::User),
    ] {
        words.insert(word, id_of(app, hotel, kind).await);
    }
    // The tenants' day, which begins nine hours before that of UTC.
    let today = now.with_timezone(&chrono_tz::Asia::Tokyo).date_naive();
    words.insert("today", today.to_string());
    words.insert("yesterday", (today - Days::new(1)).to_string());
    words.insert("tomorrow", (today + Days::new(1)).to_string());
    words.insert("elsewhere", strange.id.to_string());
    for hotel in [hotel, strange] {
        decides(&hotel.admin).await;
    }
    let customer = "UPDATE tenants SET stripe_customer_id = 'cus_elsewhere' WHERE id = $1";
    set(server, customer, vec![strange.id.into()]).await;
    let blocked = blocked(server, now).await;
    words.insert("blocked", blocked.to_string());
    words.insert("spent", spent(server).await.to_string());
    fill_rows(server, blocked, now).await;
    settle_in(server, root, &words["site"]).await;
    sell(root, &mut words).await;
    run(server, root, &mut words).await;
    let unusual = "UPDATE ai_executions SET anomaly_score = 45, anomaly_signals = $1";
    set(server, unusual, vec![signals().into()]).await;
    use_for_weeks(server, now).await;
    close_a_tenant(server, root).await;
    furniture::buy(server, &mut words).await;
    furniture::store_a_card(server, &mut words).await;
    for hotel in [hotel, strange] {
        furniture::use_an_hour(server, hotel).await;
    }
    furniture::record(server, strange).await;
    words
}

/// What only ADMINs of a tenant read.
async fn decides(admin: &Person) {
    let settings = "mutation { it: tenantUpdate(input: { billingEmail: \"bills@example.test\",
        slackWebhookUrl: \"https://hooks.slack.com/services/T00000000/B00000000/abcdefghijklmnop\",
        slackChannel: \"#front-desk\" }) { userErrors { code message } } }";
    gets(admin, settings, json!({})).await;
}

/// More of the first tenant and of its ADMIN.
async fn settle_in(server: &TestServer, root: &Person, site_id: &str) {
    let hotel = &server.hotel;
    let site = "mutation ($id: ID!) { it: siteUpdate(input: { id: $id,
        origins: [\"https://stage.example.test\"] }) { userErrors { code message } } }";
    gets(&hotel.admin, site, json!({ "id": site_id })).await;
    let invites = "mutation { it: membershipInvite(input: { email: \"open@example.test\",
        role: USER }) { userErrors { code message } } }";
    gets(&hotel.admin, invites, json!({})).await;
    let profile = "mutation { it: profileUpdate(input: { displayName: \"The admin\",
        bio: \"About me\", discordId: \"123456789012345678\", twitterHandle: \"admin\",
        websiteUrl: \"https://admin.example.test\" }) { userErrors { code message } } }";
    gets(&hotel.admin, profile, json!({})).await;
    // The smaller plan waits for the next month.
    for plan in ["PROFESSIONAL", "ESSENTIAL"] {
        let sets = "mutation ($id: ID!, $plan: PlanType!) { it: tenantPlanSet(input: {
            tenantId: $id, planType: $plan, entitledUntil: \"2099-01-01T00:00:00Z\" }) {
            userErrors { code message } } }";
        gets(root, sets, json!({ "id": hotel.id.to_string(), "plan": plan })).await;
    }
}

/// Plans, packages and prices.
async fn sell(root: &Person, words: &mut BTreeMap<&'static str, String>) {
    let plan = "mutation { it: planUpdate(input: { planType: ENTERPRISE, priceYen: 49800,
        monthlyFreeCredits: 5000, carryOver: CAP, carryOverCap: 7,
        stripePriceId: \"price_stage\" }) {
        plan { id } userErrors { code message } } }";
    words.insert("plan", text(&gets(root, plan, json!({})).await["plan"]["id"]));
    let package = "mutation { it: creditPackageCreate(input: { planType: PROFESSIONAL,
        credits: 100, priceYen: 1000, displayName: \"Hundred\", description: \"A hundred\",
        discountRate: \"1\", taxRate: \"10\", marketingHighlight: \"New\", isBulk: true,
        isPromotional: true, validFrom: \"2026-01-01\", validUntil: \"2099-01-01\" }) {
        package { id } userErrors { code message } } }";
    words.insert("package", text(&gets(root, package, json!({})).await["package"]["id"]));
    let price = "mutation { it: aiPriceSet(input: { functionType: CHATBOT, model: \"costly\",
        baseCredits: 1000000 }) { price { id } userErrors { code message } } }";
    words.insert("price", text(&gets(root, price, json!({})).await["price"]["id"]));
}

/// Runs that left every kind of line; one of them still holds its credits.
async fn run(server: &TestServer, root: &Person, words: &mut BTreeMap<&'static str, String>) {
    let hotel = &server.hotel;
    for (word, input) in
        [("run", "sandbox:cut 長い話"), ("plain", "こんにちは"), ("held", "少々お待ちを")]
    {
        let input = json!({
            "functionType": "CHATBOT", "parameters": { "input": input },
            "metadata": { "context": "旅館のフロント" }, "idempotencyKey": format!("stage-{word}"),
        });
        let done = hotel.user.gets(EXECUTE, json!({ "input": input })).await;
        let execution = &done["aiExecute"]["execution"];
        words.insert(word, text(&execution["id"]));
        if word == "run" {
            words.insert("line", text(&execution["charge"]["transactionId"]));
        }
    }
    let holds = "UPDATE ai_credit_holds SET state = 'ACTIVE', resolved_by = NULL,
                 resolved_at = NULL, lease_until = $2 WHERE execution_id = $1";
    let held = ExecutionId::parse(&words["held"]).unwrap();
    let later = server.app.app.clock.db_now() + TimeDelta::days(1);
    set(server, holds, vec![held.into(), later.into()]).await;
    let bonus = "mutation ($id: ID!) { it: creditBonusGrant(input: { tenantId: $id, credits: 5,
        expiresAt: \"2099-01-01T00:00:00Z\", description: \"Thank you\",
        idempotencyKey: \"stage-bonus\" }) { grant { id } userErrors { code message } } }";
    let id = hotel.id.to_string();
    let bonus = gets(root, bonus, json!({ "id": id })).await;
    words.insert("grant", text(&bonus["grant"]["id"]));
    let refund = "mutation ($id: ID!, $run: ID!) { it: creditRefund(input: { tenantId: $id,
        executionId: $run, credits: 1, description: \"Sorry\", idempotencyKey: \"stage-refund\" }) {
        transaction { id } userErrors { code message } } }";
    let refund = gets(root, refund, json!({ "id": id, "run": words["plain"] })).await;
    words.insert("refund", text(&refund["transaction"]["id"]));
}

/// What only time or others would fill.
async fn fill_rows(server: &TestServer, blocked: UserId, now: DateTime<Utc>) {
    let hotel = &server.hotel;
    let tenant: Bound = hotel.id.into();
    let seen = "UPDATE user_profiles SET last_activity = $2 WHERE user_id = $1";
    set(server, seen, vec![hotel.admin.id.into(), now.into()]).await;
    let over = "UPDATE invitations SET accepted_at = $2, revoked_at = $2 WHERE tenant_id = $1";
    set(server, over, vec![tenant.clone(), now.into()]).await;
    // Not the keys of those who ask.
    let lifted = "UPDATE user_blocks SET lifted_at = $2, lifted_by = $3, signals = $4
                  WHERE tenant_id = $1 AND user_id <> $5";
    let (by, blocked) = (hotel.admin.id.into(), blocked.into());
    set(server, lifted, vec![tenant.clone(), now.into(), by, signals().into(), blocked]).await;
    let over = "UPDATE api_keys SET expires_at = $2, last_used_at = $2, revoked_at = $2
                WHERE tenant_id = $1 AND name NOT IN ('server', 'bare')";
    set(server, over, vec![tenant, now.into()]).await;
    let month = "UPDATE monthly_credit_resets SET most_used_function = 'CHATBOT',
                 efficiency_score = 5000 WHERE account_id = $1";
    set(server, month, vec![hotel.account().await.id.into()]).await;
}

/// Why something was unusual.
fn signals() -> Value {
    json!([{ "kind": "FREQUENCY", "contribution": 45, "observed": 3_000, "expected": 200 }])
}

/// A member whose calls are refused.
async fn blocked(server: &TestServer, now: DateTime<Utc>) -> UserId {
    let person = member(server, "blocked").await;
    let row = user_block::Model {
        id: BlockId::new(),
        tenant_id: server.hotel.id,
        user_id: person,
        score: 95,
        signals: signals(),
        blocked_until: now + TimeDelta::days(1),
        created_at: now,
        lifted_at: None,
        lifted_by: None,
    };
    let row = row.into_active_model();
    let db = server.app.app.db.writer();
    user_block::Entity::insert(row).exec_without_returning(db).await.unwrap();
    person
}

/// One more member of the first tenant.
async fn member(server: &TestServer, name: &str) -> UserId {
    let app = &server.app.app;
    let now = app.clock.db_now();
    let txn = app.db.begin().await.unwrap();
    let email = format!("{name}@example.test");
    let new = NewUser { name, email: &email, is_platform_admin: false };
    let person = identity::create_user(app, &txn, new, now).await.unwrap().id;
    identity::add_member(&txn, (server.hotel.id, person), Role::User, now).await.unwrap();
    txn.commit().await.unwrap();
    person
}

/// A member who has no call left in this hour.
async fn spent(server: &TestServer) -> UserId {
    let id = member(server, "spender").await;
    let spender = Person::sign_in(&server.app, id, Some(server.hotel.id)).await;
    let calls = (0..CALLS_AN_HOUR).map(|number| {
        let spender = &spender;
        async move { spender.executes("こんにちは", &format!("spent-{number:04}")).await }
    });
    for payload in join_all(calls).await {
        assert_eq!(payload["userErrors"], json!([]), "{payload}");
    }
    id
}

/// Use on every day, so that there is a forecast.
async fn use_for_weeks(server: &TestServer, now: DateTime<Utc>) {
    let account = server.hotel.account().await.id;
    for back in 1..=60 {
        let day = now.date_naive() - Days::new(back);
        let text = "INSERT INTO usage_daily
                    (account_id, day, function_type, runs, credits, cost_yen)
                    VALUES ($1, $2, 'CHATBOT', 1, $3, 500)";
        let credits = i64::try_from(50 + back % 9).unwrap();
        set(server, text, vec![account.into(), day.into(), credits.into()]).await;
    }
}

async fn close_a_tenant(server: &TestServer, root: &Person) {
    let closed = server.app.hotel().await;
    let query = "query ($id: ID!) { it: node(id: $id) { ... on Tenant { slug } } }";
    let id = closed.id.to_string();
    let slug = gets(root, query, json!({ "id": id })).await["slug"].clone();
    let closes = "mutation ($id: ID!, $slug: String!) { it: tenantClose(input: { id: $id,
        slug: $slug }) { userErrors { code message } } }";
    gets(root, closes, json!({ "id": id, "slug": slug })).await;
}
