//! Money in: nobody is charged twice, wrongly, or without getting their credits.

pub(crate) mod auto;
mod buying;
mod card_purchases;
pub(crate) mod cards;
mod currencies;
mod disputes;
mod events;
mod invoices;
mod lists;
mod lost;
mod missed;
pub(crate) mod notices;
mod price;
mod receipts;
mod refunds;
mod webhook;

use std::time::Duration;

use chrono::TimeDelta;
use futures_util::future::join_all;
use musubi::app::App;
use musubi::payments::cards as stored;
use musubi::payments::service::inbox::{self, Receipt};
use musubi::payments::service::reconcile::reconcile;
use musubi::queue;
use sea_orm::FromQueryResult;
use serde_json::{Value, json};

use crate::support::people::{Hotel, Person};
use crate::support::stripe::{SIGNING_SECRET, StripeServer, sign};
use crate::support::{Setting, TestApp};

/// A hotel without credits, Stripe, and a package of 500 credits for ¥500.
struct Shop {
    stripe: StripeServer,
    app: TestApp,
    hotel: Hotel,
    package: String,
}

const PURCHASE: &str = "id status credits version price { amount currency } paymentIntentId
    clientSecret failureCode errorMessage completedAt transaction { type credits balanceAfter }";

impl Shop {
    async fn open() -> Self {
        Self::open_within(None).await
    }

    /// A shop that gives Stripe so much time for an answer.
    async fn open_within(attempt: Option<Duration>) -> Self {
        let stripe = StripeServer::start().await;
        let app = Setting::default().stripe_within(&stripe, attempt).start().await;
        stripe.time_is(app.clock.db_now());
        let hotel = app.hotel().await;
        let package = package(&app, json!({})).await;
        Self { stripe, app, hotel, package }
    }

    /// What an ADMIN sends; `change` has what is other than usual.
    fn input(&self, key: &str, change: Value) -> Value {
        let mut input = json!({ "packageId": self.package, "paymentMethod": "STRIPE",
            "stripePaymentMethodId": "pm_card_visa", "idempotencyKey": key });
        for (field, value) in change.as_object().unwrap() {
            input[field] = value.clone();
        }
        input
    }

    /// The payload of a purchase by the hotel's ADMIN.
    async fn buys(&self, key: &str, change: Value) -> Value {
        buys(&self.hotel.admin, self.input(key, change)).await
    }

    async fn buys_with(&self, key: &str, card: &str) -> Value {
        self.buys(key, json!({ "stripePaymentMethodId": card })).await
    }

    async fn purchase(&self, id: &Value) -> Value {
        let query = format!("query ($id: ID!) {{ creditPurchase(id: $id) {{ {PURCHASE} }} }}");
        self.hotel.admin.gets(&query, json!({ "id": id })).await["creditPurchase"].clone()
    }

    async fn confirms(&self, id: &Value) -> Value {
        let query = format!(
            "mutation ($id: ID!) {{ creditPurchaseConfirm(id: $id) {{
             purchase {{ {PURCHASE} }} userErrors {{ code message }} }} }}"
        );
        self.hotel.admin.gets(&query, json!({ "id": id })).await["creditPurchaseConfirm"].clone()
    }

    /// Delivers an event once and works it out.
    async fn hears(&self, event: &Value) {
        assert_eq!(deliver(&self.app.app, event).await, Receipt::Kept);
        self.works().await;
    }

    /// Works out what is due in the queue.
    async fn works(&self) {
        let parts = queue::Parts::from(&self.app.app);
        let handlers = [inbox::HANDLER, stored::KEEP, stored::DETACH];
        while queue::work_once(&parts, &self.app.app, &handlers).await.unwrap() > 0 {}
    }

    /// The reconciler's run, so long after everything else.
    async fn reconciles_after(&self, pause: TimeDelta) -> String {
        self.passes(pause);
        reconcile(self.app.app.clone()).await.unwrap()
    }

    /// Time passes, here and at Stripe.
    fn passes(&self, pause: TimeDelta) {
        self.app.clock.advance(pause);
        self.stripe.time_is(self.app.clock.db_now());
    }

    /// Credits, charges and drifts: what must always agree.
    async fn adds_up(&self, credits: i64, charges: usize) {
        assert_eq!(self.app.drifts().await, Vec::<String>::new());
        assert_eq!(self.hotel.balance().await, (credits, 0));
        assert_eq!(self.stripe.charges().len(), charges);
    }

    async fn number(&self, sql: &str) -> i64 {
        let row: Option<Number> =
            musubi::db::one(self.app.app.db.primary(), sql, vec![]).await.unwrap();
        row.unwrap().number
    }

    /// Kinds of alerts, oldest first, with what differs.
    async fn alerts(&self) -> Vec<(String, Value)> {
        let sql = "SELECT kind, data FROM alerts ORDER BY created_at, id";
        let rows: Vec<Raised> =
            musubi::db::all(self.app.app.db.primary(), sql, vec![]).await.unwrap();
        rows.into_iter().map(|row| (row.kind, row.data["differs"].clone())).collect()
    }
}

#[derive(FromQueryResult)]
struct Number {
    number: i64,
}

#[derive(FromQueryResult)]
struct Raised {
    kind: String,
    data: Value,
}

/// Puts a package on sale; `change` has what is other than usual.
pub(crate) async fn package(app: &TestApp, change: Value) -> String {
    let mut input = json!({ "planType": "ESSENTIAL", "credits": 500, "priceYen": 500,
        "validFrom": "2020-01-01", "displayName": "500クレジット" });
    for (field, value) in change.as_object().unwrap() {
        input[field] = value.clone();
    }
    let root = app.platform_admin(None).await;
    let query =
        "mutation ($input: CreditPackageCreateInput!) { creditPackageCreate(input: $input) {
        package { id } userErrors { code } } }";
    let reply = root.gets(query, json!({ "input": input })).await;
    reply["creditPackageCreate"]["package"]["id"].as_str().unwrap().to_owned()
}

pub(crate) async fn buys(person: &Person, input: Value) -> Value {
    let query = format!(
        "mutation ($input: CreditPurchaseInput!) {{ creditPurchase(input: $input) {{
         purchase {{ {PURCHASE} }} balance {{ current }} runway {{ daysLeft }}
         userErrors {{ code field message }} }} }}"
    );
    person.gets(&query, json!({ "input": input })).await["creditPurchase"].clone()
}

/// Sends an event as Stripe does, signed now.
pub(crate) async fn deliver(app: &App, event: &Value) -> Receipt {
    let body = event.to_string();
    let signature = sign(&body, app.clock.db_now().timestamp(), SIGNING_SECRET);
    inbox::receive(app, &signature, body.as_bytes()).await.unwrap()
}

/// Sends an event many times at once.
async fn deliver_often(app: &App, event: &Value, times: usize) {
    join_all((0..times).map(|_| deliver(app, event))).await;
}
