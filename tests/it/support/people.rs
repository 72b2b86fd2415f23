//! Tenants and people who speak GraphQL: `app.hotel().await.with_credits(100).await`.

use std::sync::Arc;

use async_graphql::Variables;
use chrono::TimeDelta;
use musubi::actor::{Actor, Role, Source};
use musubi::app::App;
use musubi::credits::service::account;
use musubi::credits::service::grant::{Purchase, grant_purchase};
use musubi::entity::credit_account;
use musubi::entity::plan::PlanType;
use musubi::error::Lang;
use musubi::graphql::caller::Caller;
use musubi::graphql::engine::{Call, Engine, Prepared, ReadyOperation};
use musubi::identity::{self, NewTenant, NewUser};
use musubi::ids::{TenantId, UserId, new_uuid};
use serde_json::{Value, json};

use super::TestApp;

/// A tenant with a person in each role.
pub(crate) struct Hotel {
    pub(crate) id: TenantId,
    pub(crate) admin: Person,
    pub(crate) manager: Person,
    pub(crate) support: Person,
    pub(crate) user: Person,
    app: App,
}

/// Somebody who is signed in and asks.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) id: UserId,
    pub(crate) token: String,
    pub(crate) actor: Actor,
    app: App,
    engine: Engine,
}

impl TestApp {
    /// A hotel on ESSENTIAL whose account has no credits at all.
    pub(crate) async fn hotel(&self) -> Hotel {
        self.tenant(PlanType::Essential, "Asia/Tokyo").await.without_free_credits().await
    }

    /// A tenant whose account is opened on first use, with its plan's free credits.
    pub(crate) async fn tenant(&self, plan: PlanType, time_zone: &str) -> Hotel {
        let app = &self.app;
        let now = app.clock.db_now();
        let slug = format!("hotel-{}", new_uuid().simple());
        let txn = app.db.begin().await.unwrap();
        let new = NewTenant { name: "旅館", slug: &slug, plan, time_zone };
        let tenant = identity::create_tenant(&txn, new, now).await.unwrap();
        let mut ids = Vec::new();
        for role in [Role::Admin, Role::Manager, Role::Support, Role::User] {
            let email = format!("{}@{slug}.test", role.as_str().to_lowercase());
            let new = NewUser { name: role.as_str(), email: &email, is_platform_admin: false };
            let user = identity::create_user(app, &txn, new, now).await.unwrap();
            identity::add_member(&txn, (tenant.id, user.id), role, now).await.unwrap();
            ids.push(user.id);
        }
        txn.commit().await.unwrap();
        let mut people = Vec::new();
        for id in ids {
            people.push(Person::sign_in(self, id, Some(tenant.id)).await);
        }
        let [admin, manager, support, user] = people.try_into().ok().unwrap();
        Hotel { id: tenant.id, admin, manager, support, user, app: app.clone() }
    }

    /// A platform admin who acts in a tenant, or in none.
    pub(crate) async fn platform_admin(&self, tenant: Option<TenantId>) -> Person {
        let app = &self.app;
        let email = format!("root-{}@musubi.test", new_uuid().simple());
        let txn = app.db.begin().await.unwrap();
        let new = NewUser { name: "root", email: &email, is_platform_admin: true };
        let user = identity::create_user(app, &txn, new, app.clock.db_now()).await.unwrap();
        txn.commit().await.unwrap();
        Person::sign_in(self, user.id, tenant).await
    }
}

impl Hotel {
    /// Takes the free credits of the opening away, so that a test begins with none.
    async fn without_free_credits(self) -> Self {
        let sql = "UPDATE tenants SET created_at = $2 WHERE id = $1";
        let long_ago = self.app.clock.db_now() - TimeDelta::days(400);
        let txn = self.app.db.begin().await.unwrap();
        musubi::db::execute(&*txn, sql, vec![self.id.into(), long_ago.into()]).await.unwrap();
        txn.commit().await.unwrap();
        assert_eq!(self.account().await.current_balance, 0);
        self
    }

    /// Buys credits at ten yen each.
    pub(crate) async fn with_credits(self, credits: i64) -> Self {
        self.buys(credits, credits * 10).await;
        self
    }

    /// Buys credits at a price.
    pub(crate) async fn buys(&self, credits: i64, price: i64) {
        let account = self.account().await.id;
        let mut txn = self.app.db.begin().await.unwrap();
        let purchase = Purchase { account, credits, price, reference: new_uuid() };
        grant_purchase(&mut txn, purchase, self.app.clock.db_now()).await.unwrap();
        txn.commit().await.unwrap();
    }

    /// The account's row.
    pub(crate) async fn account(&self) -> credit_account::Model {
        account::of_tenant(&self.app, self.id).await.unwrap()
    }

    /// Current and held.
    pub(crate) async fn balance(&self) -> (i64, i64) {
        let account = self.account().await;
        (account.current_balance, account.held)
    }
}

impl Person {
    pub(crate) async fn sign_in(app: &TestApp, id: UserId, tenant: Option<TenantId>) -> Self {
        let hours = TimeDelta::hours(12);
        let token = identity::issue_token(&app.app, id, tenant, hours).await.unwrap();
        let actor = identity::authenticate(&app.app, &token, Lang::En).await.unwrap();
        Self { id, token, actor, app: app.app.clone(), engine: app.engine.clone() }
    }

    /// The same person, let in another way.
    pub(crate) fn acting_as(&self, actor: Actor) -> Self {
        Self { actor, ..self.clone() }
    }

    /// The same person on another node.
    pub(crate) fn on(&self, app: &App) -> Self {
        Self { app: app.clone(), ..self.clone() }
    }

    /// Asks and gets the whole response.
    pub(crate) async fn asks(&self, query: &str, variables: Value) -> Value {
        ask(&self.app, &self.engine, Some(self.actor.clone()), query, variables).await
    }

    /// Asks and gets the data; any error fails the test.
    pub(crate) async fn gets(&self, query: &str, variables: Value) -> Value {
        let reply = self.asks(query, variables).await;
        assert!(reply["errors"].is_null(), "{query}: {reply}");
        reply["data"].clone()
    }

    /// Runs CHATBOT and waits.
    pub(crate) async fn executes(&self, input: &str, key: &str) -> Value {
        let parameters = json!({ "input": input, "maxTokens": 50 });
        self.executes_with(parameters, key).await
    }

    /// Runs CHATBOT with these parameters and waits. Answers the payload.
    pub(crate) async fn executes_with(&self, parameters: Value, key: &str) -> Value {
        let input = json!({
            "functionType": "CHATBOT", "parameters": parameters, "idempotencyKey": key,
        });
        self.gets(EXECUTE, json!({ "input": input })).await["aiExecute"].clone()
    }

    /// A subscription or any other operation, ready to run.
    pub(crate) fn prepares(&self, query: &str, variables: Value) -> ReadyOperation {
        match prepare(&self.app, &self.engine, Some(self.actor.clone()), query, variables) {
            Prepared::Ready(ready) => ready,
            Prepared::Refused(refused) => panic!("{query}: {:?}", refused.response.errors),
        }
    }

    /// The events of a subscription as JSON.
    pub(crate) fn watches(
        &self,
        query: &str,
        variables: Value,
    ) -> futures_util::stream::BoxStream<'static, Value> {
        use futures_util::{StreamExt, stream};
        let (engine, ready) = (self.engine.clone(), self.prepares(query, variables));
        let begun = stream::once(async move { engine.subscribe(ready).await });
        let events = begun.flat_map(|events| {
            stream::unfold(events, async |mut events| Some((events.next().await?, events)))
        });
        events.map(|answer| serde_json::to_value(&answer.response).unwrap()).boxed()
    }
}

/// `aiExecute` with all that a test looks at.
pub(crate) const EXECUTE: &str = "mutation ($input: AiExecuteInput!) { aiExecute(input: $input) {
    execution { id status maxTokens result { output } failure { code message retryable }
                charge { creditsHeld creditsUsed billableUnits usageSource transactionId
                         totalCost { amount } } }
    balance { current held available version }
    userErrors { code field message
      ... on SuspiciousActivity { blockedUntil }
        ... on InsufficientCredits { needed available held } } } }";

/// Asks without an account, or with one.
pub(crate) async fn ask(
    app: &App,
    engine: &Engine,
    actor: Option<Actor>,
    query: &str,
    variables: Value,
) -> Value {
    match prepare(app, engine, actor, query, variables) {
        Prepared::Ready(ready) => {
            serde_json::to_value(engine.execute(ready).await.response).unwrap()
        }
        Prepared::Refused(refused) => json!({ "errors": refused.response.errors }),
    }
}

fn prepare(
    app: &App,
    engine: &Engine,
    actor: Option<Actor>,
    query: &str,
    variables: Value,
) -> Prepared {
    let source = Source { request_id: "test".into(), ..Source::default() };
    let caller = Caller::new(app.clone(), actor, Lang::En, Arc::new(source));
    let call = Call {
        query: query.to_owned(),
        operation_name: None,
        variables: Variables::from_json(variables),
        extensions: serde_json::Map::new(),
        document_id: None,
    };
    engine.prepare(call, caller)
}
