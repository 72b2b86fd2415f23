//! Plans by subscription: what is paid by the month is what the tenant has, and nothing more.

mod changes;
mod mails;
mod orders;
mod refusals;
mod sandbox;
mod story;
mod trouble;

use chrono::{DateTime, TimeDelta, Utc};
use musubi::credits::service::due;
use musubi::entity::plan::PlanType;
use musubi::entity::tenant_subscription;
use musubi::payments::service::inbox::{self, Receipt};
use musubi::plans::service::reconcile::reconcile;
use musubi::plans::service::work;
use musubi::queue;
use sea_orm::FromQueryResult;
use serde_json::{Value, json};

use crate::payments::deliver;
use crate::support::people::Hotel;
use crate::support::stripe::StripeServer;
use crate::support::{Setting, TestApp};

/// A hotel that never subscribed, and Stripe.
struct Inn {
    stripe: StripeServer,
    app: TestApp,
    hotel: Hotel,
    /// Events that were delivered.
    heard: usize,
}

const SUBSCRIPTION: &str = "stripeSubscriptionId status plan pendingPlan currentPeriodStart
    currentPeriodEnd cancelAtPeriodEnd graceUntil clientSecret version endedAt";

#[derive(FromQueryResult)]
struct Number {
    number: i64,
}

#[derive(FromQueryResult)]
struct Raised {
    kind: String,
    data: Value,
}

impl Inn {
    async fn open() -> Self {
        let stripe = StripeServer::start().await;
        let app = Setting::default().stripe(&stripe).start().await;
        let hotel = app.tenant(PlanType::Essential, "Asia/Tokyo").await;
        // The trial's free credits.
        assert_eq!(hotel.balance().await, (200, 0));
        Self { stripe, app, hotel, heard: 0 }
    }

    /// A hotel that pays for a plan.
    async fn subscribed(plan: &str) -> Self {
        let mut inn = Self::open().await;
        inn.subscribes(plan, "the-first-subscription").await;
        inn.stripe.pays_open_invoice(&inn.id());
        inn.hears().await;
        assert_eq!(inn.sees().await["status"], "ACTIVE");
        inn
    }

    /// A mutation of the hotel's ADMIN, with its payload.
    async fn does(&self, field: &str, input: Option<Value>) -> Value {
        does(&self.hotel, field, input).await
    }

    async fn subscribes(&self, plan: &str, key: &str) -> Value {
        let input = json!({ "planType": plan, "idempotencyKey": key });
        self.does("planSubscribe", Some(input)).await
    }

    async fn changes(&self, plan: &str, key: &str) -> Value {
        let input = json!({ "planType": plan, "idempotencyKey": key });
        self.does("planChange", Some(input)).await
    }

    async fn previews(&self, plan: &str) -> Value {
        let query = "query ($plan: PlanType!) { it: planChangePreview(planType: $plan) {
            plan isImmediate dueNow { amount } credit { amount } tax { amount }
            renewalAmount { amount } renewsAt } }";
        self.hotel.admin.asks(query, json!({ "plan": plan })).await
    }

    /// The tenant's subscription as its ADMIN sees it.
    async fn sees(&self) -> Value {
        let query = format!("{{ viewer {{ tenant {{ subscription {{ {SUBSCRIPTION} }} }} }} }}");
        let reply = self.hotel.admin.gets(&query, json!({})).await;
        reply["viewer"]["tenant"]["subscription"].clone()
    }

    /// Stripe's id of the only subscription.
    fn id(&self) -> String {
        let all = self.stripe.subscriptions();
        assert_eq!(all.len(), 1);
        all[0]["id"].as_str().unwrap().to_owned()
    }

    /// It is another time, here and at Stripe.
    fn time_is(&self, at: &str) {
        let at: DateTime<Utc> = at.parse().unwrap();
        self.app.clock.set(at);
        self.stripe.time_is(at);
    }

    fn time_passes(&self, by: TimeDelta) {
        self.app.clock.advance(by);
        self.stripe.time_is(self.app.app.clock.db_now());
    }

    /// Delivers what Stripe has told since, and works it out.
    async fn hears(&mut self) {
        let events = self.stripe.events();
        for event in &events[self.heard..] {
            assert_eq!(deliver(&self.app.app, event).await, Receipt::Kept);
        }
        self.heard = events.len();
        self.works().await;
    }

    /// Delivers one event and works it out.
    async fn hears_of(&self, event: &Value) {
        deliver(&self.app.app, event).await;
        self.works().await;
    }

    async fn works(&self) {
        let parts = queue::Parts::from(&self.app.app);
        let handlers = [inbox::HANDLER, work::EVENTS, work::ENDS];
        while queue::work_once(&parts, &self.app.app, &handlers).await.unwrap() > 0 {}
    }

    async fn reconciles(&self) -> String {
        reconcile(self.app.app.clone()).await.unwrap()
    }

    /// Resets that are due are applied.
    async fn resets(&self) {
        due::apply_all_due(&self.app.app).await.unwrap();
    }

    /// The account's plan, the next one, and the balance.
    async fn has(&self, plan: PlanType, next: Option<PlanType>, balance: i64) {
        self.resets().await;
        let account = self.hotel.account().await;
        let is = (account.plan_type, account.next_plan_type, account.current_balance);
        assert_eq!(is, (plan, next, balance));
        assert_eq!(self.app.drifts().await, Vec::<String>::new());
        self.adds_up().await;
    }

    /// No month brought more free credits than the largest plan that it was on has.
    async fn adds_up(&self) {
        let sql = "SELECT COUNT(*) AS number FROM (SELECT account_id, period FROM ai_credit_grants
                   WHERE kind = 'FREE' GROUP BY account_id, period
                   HAVING SUM(granted) > 5000) s";
        assert_eq!(self.number(sql).await, 0);
    }

    async fn number(&self, sql: &str) -> i64 {
        let row: Option<Number> =
            musubi::db::one(self.app.app.db.primary(), sql, vec![]).await.unwrap();
        row.unwrap().number
    }

    async fn row(&self) -> tenant_subscription::Model {
        let sql = "SELECT * FROM tenant_subscriptions ORDER BY created_at DESC, id DESC LIMIT 1";
        let row = musubi::db::one(self.app.app.db.primary(), sql, vec![]).await.unwrap();
        row.unwrap()
    }

    /// Kinds of alerts, oldest first, with their day or with what differs.
    async fn alerts(&self) -> Vec<(String, Value)> {
        let sql = "SELECT kind, data FROM alerts WHERE kind <> 'LOW_BALANCE'
                   ORDER BY created_at, id";
        let rows: Vec<Raised> =
            musubi::db::all(self.app.app.db.primary(), sql, vec![]).await.unwrap();
        let part = |data: Value| match &data["differs"] {
            Value::Null => data["day"].clone(),
            differs => differs.clone(),
        };
        rows.into_iter().map(|row| (row.kind, part(row.data))).collect()
    }
}

/// A mutation about the plan by a hotel's ADMIN, with its payload.
pub(crate) async fn does(hotel: &Hotel, field: &str, input: Option<Value>) -> Value {
    let reply = asks(hotel, field, input).await;
    assert!(reply["errors"].is_null(), "{field}: {reply}");
    reply["data"][field].clone()
}

/// The same with the whole answer.
async fn asks(hotel: &Hotel, field: &str, input: Option<Value>) -> Value {
    let kind = format!("{}{}Input", field[..1].to_uppercase(), &field[1..]);
    let (variable, argument) = match &input {
        Some(_) => (format!("($input: {kind}!)"), "(input: $input)"),
        None => (String::new(), ""),
    };
    let query = format!(
        "mutation {variable} {{ {field}{argument} {{ subscription {{ {SUBSCRIPTION} }}
         balance {{ current }} userErrors {{ code field message }} }} }}"
    );
    hotel.admin.asks(&query, json!({ "input": input })).await
}

#[track_caller]
fn refused(payload: &Value, code: &str) {
    assert_eq!(payload["userErrors"][0]["code"], code, "{payload}");
}

fn instant(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}
