//! A hotel that pays through the double of Stripe, and whose server is killed: what all tests of
//! money and `kill -9` share.

use chrono::TimeDelta;
use musubi::clock::Clock;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::process::{Books, Client, Home, Process, until};
use crate::support::stripe::{Fault, SIGNING_SECRET, StripeServer, sign};

pub(super) const BUY: &str = "mutation ($input: CreditPurchaseInput!) {
    creditPurchase(input: $input) { purchase { id status } userErrors { code } } }";
pub(super) const CUSTOMER: &str = "POST /customers";
pub(super) const PURCHASES: &str = "payments-reconcile";
/// What a purchase's learning locks first.
pub(super) const PURCHASE_ROWS: &str = "SELECT id FROM credit_purchases FOR UPDATE";
pub(super) const COMPLETED: &str =
    "SELECT COUNT(*) FROM credit_purchases WHERE status = 'COMPLETED'";

/// A hotel and its Stripe.
pub(super) struct Shop {
    pub(super) stripe: StripeServer,
    pub(super) home: Home,
}

/// What somebody asks of the server.
pub(super) struct Wish {
    pub(super) token: String,
    pub(super) query: &'static str,
    pub(super) variables: Value,
    /// How the answer calls what is done.
    pub(super) done: &'static str,
}

/// A wish that waits for its answer.
pub(super) type Asking = JoinHandle<Result<Value, String>>;

impl Shop {
    /// A hotel with 100 credits whose server asks this Stripe. What Stripe tells is ten days old:
    /// a job at its hour does not find it missing, so that it comes when a test says.
    pub(super) async fn open() -> Self {
        let stripe = StripeServer::start().await;
        stripe.time_is(Clock::system().db_now() - TimeDelta::days(10));
        let mut home = Home::hotel(100).await;
        for (name, value) in stripe.environment() {
            home = home.with(name, &value);
        }
        Self { stripe, home }
    }

    /// A purchase of the package by the hotel's ADMIN.
    pub(super) fn buying(&self, change: Value, key: &str) -> Wish {
        let mut input = json!({ "packageId": self.home.guests().package, "idempotencyKey": key });
        for (field, value) in change.as_object().unwrap() {
            input[field] = value.clone();
        }
        self.wish(BUY, json!({ "input": input }), "COMPLETED")
    }

    /// What the hotel's ADMIN asks.
    pub(super) fn wish(&self, query: &'static str, variables: Value, done: &'static str) -> Wish {
        Wish { token: self.home.guests().admin.clone(), query, variables, done }
    }

    /// Serves somebody to the end; the answer's data.
    pub(super) async fn serves(&self, wish: &Wish) -> Value {
        let mut process = self.home.serve().await;
        let client = process.client(&wish.token);
        let data = client.gets(wish.query, wish.variables.clone()).await;
        process.stop().await;
        data
    }

    /// Stripe does this with the next request for a step. How often it was asked for that before.
    pub(super) fn fails(&self, step: &'static str, fault: Fault) -> usize {
        let asked = self.stripe.asked(step).len();
        if matches!(fault, Fault::WaitAfter) {
            self.stripe.shut_gate();
        }
        self.stripe.fails(step, fault);
        asked
    }

    pub(super) async fn until_asked(&self, step: &str, before: usize) {
        let what = format!("Stripe is asked for {step}");
        until(&what, async || (self.stripe.asked(step).len() > before).then_some(())).await;
    }

    /// Kills a server that serves somebody when it has come to a step, of which Stripe does what
    /// the fault says.
    pub(super) async fn killed_at(&self, step: &'static str, fault: Fault, wish: &Wish) {
        let before = self.fails(step, fault);
        let mut process = self.home.serve().await;
        let asking = begins(&process, wish);
        self.until_asked(step, before).await;
        process.kill();
        assert!(asking.await.unwrap().is_err(), "nobody answers");
        self.forgets_leases().await;
    }

    /// The same with a job.
    pub(super) async fn job_killed_at(&self, step: &'static str, fault: Fault, job: &str) {
        let before = self.fails(step, fault);
        let mut process = self.home.launch(&["job", job]);
        self.until_asked(step, before).await;
        process.kill();
        self.forgets_leases().await;
    }

    /// Kills a server that serves somebody when Stripe has answered for a step, and the database
    /// does not take what follows from it.
    pub(super) async fn killed_before_it_keeps(&self, step: &'static str, rows: &str, wish: &Wish) {
        let before = self.fails(step, Fault::WaitAfter);
        let mut process = self.home.serve().await;
        let asking = begins(&process, wish);
        self.until_asked(step, before).await;
        let books = self.home.connect().await;
        block(&books, rows).await;
        let eyes = self.home.connect().await;
        self.stripe.open_gate();
        until_blocked(&eyes, &process, &asking).await;
        process.kill();
        told_nothing(asking, wish).await;
        eyes.close().await;
        books.execute("ROLLBACK").await.unwrap();
        books.close().await;
        self.forgets_leases().await;
    }

    /// Kills a server that serves somebody when what they wish is there, wherever that finds it.
    pub(super) async fn killed_when_it_is_there(&self, wish: &Wish, there: (&str, i64)) {
        let mut process = self.home.serve().await;
        let _asking = begins(&process, wish);
        self.until_counted(there).await;
        process.kill();
        self.forgets_leases().await;
    }

    /// The same with somebody who buys, and does not know yet where a database can be made to wait.
    pub(super) async fn killed_before_it_answers(&self, wish: &Wish, there: (&str, i64)) {
        let mut process = self.home.serve().await;
        let books = self.home.connect().await;
        // What comes into the answer cannot be read; SQLite never keeps a reader waiting.
        let is_kept_waiting = books.is_postgres();
        if is_kept_waiting {
            block(&books, "LOCK TABLE usage_daily IN ACCESS EXCLUSIVE MODE").await;
        }
        let asking = begins(&process, wish);
        self.until_counted(there).await;
        process.kill();
        if is_kept_waiting {
            told_nothing(asking, wish).await;
        }
        books.close().await;
        self.forgets_leases().await;
    }

    /// Delivers an event, and kills the server when it asks Stripe what that means: the event is
    /// kept and answered, and not worked out.
    pub(super) async fn killed_before_it_works_out(&self, event: &Value, look: &'static str) {
        let before = self.fails(look, Fault::Silence);
        let mut process = self.home.serve().await;
        assert_eq!(delivers(&process, event).await, 200);
        self.until_asked(look, before).await;
        process.kill();
        self.forgets_leases().await;
    }

    /// Delivers an event, and kills the server when it is worked out and, where a database can be
    /// made to wait, nobody has noted that.
    pub(super) async fn killed_before_it_notes(
        &self,
        event: &Value,
        (look, notes): (&'static str, &str),
        there: (&str, i64),
    ) {
        let before = self.fails(look, Fault::WaitAfter);
        let mut process = self.home.serve().await;
        assert_eq!(delivers(&process, event).await, 200);
        self.until_asked(look, before).await;
        let lock = self.home.connect().await;
        if lock.is_postgres() {
            block(&lock, notes).await;
        }
        self.stripe.open_gate();
        self.until_counted(there).await;
        process.kill();
        lock.close().await;
        self.forgets_leases().await;
    }

    /// A server works out what another one left, until so much is there. Then Stripe sends the
    /// event again, as it does when it got no answer, and that changes nothing.
    pub(super) async fn works_out_what_was_left(&self, event: &Value, there: (&str, i64)) {
        let mut process = self.home.serve().await;
        let noted = "SELECT COUNT(*) FROM stripe_events WHERE processed_at IS NULL";
        let left = "SELECT COUNT(*) FROM queue_items WHERE state = 'READY' AND kind LIKE '%-event'";
        for _ in 0..2 {
            self.until_counted(there).await;
            self.until_counted((noted, 0)).await;
            self.until_counted((left, 0)).await;
            assert_eq!(delivers(&process, event).await, 200);
        }
        process.stop().await;
    }

    /// Lets time go by, as a statement says, and has a job look to its end. What it says.
    pub(super) async fn later(&self, passes: &str, job: &str) -> String {
        self.passes(passes).await;
        self.home.gets(&["job", job]).await
    }

    /// Lets time go by, as a statement says of rows that are there.
    pub(super) async fn passes(&self, passes: &str) {
        let books = self.home.connect().await;
        assert!(books.execute(passes).await.unwrap() > 0, "{passes}");
        books.close().await;
    }

    /// The killed process's leases are over.
    pub(super) async fn forgets_leases(&self) {
        let books = self.home.connect().await;
        for sql in [
            "UPDATE queue_items SET lease_until = NULL",
            "UPDATE job_runs SET lease_until = started_at WHERE state = 'RUNNING'",
        ] {
            books.execute(sql).await.unwrap();
        }
        books.close().await;
    }

    pub(super) async fn number(&self, sql: &str) -> i64 {
        let books = self.home.connect().await;
        let number = books.number(sql).await;
        books.close().await;
        number
    }

    pub(super) async fn until_counted(&self, (sql, number): (&str, i64)) {
        let books = self.home.connect().await;
        until(sql, async || (books.number(sql).await == number).then_some(())).await;
        books.close().await;
    }

    /// The hotel has so many credits, and the books add up.
    pub(super) async fn has(&self, credits: i64) {
        let balance = "SELECT current_balance FROM ai_credit_accounts";
        assert_eq!(self.number(balance).await, credits);
        self.home.adds_up().await;
    }

    /// The last event of a type that Stripe told.
    pub(super) fn last_event(&self, kind: &str) -> Value {
        let mut events = self.stripe.events();
        events.retain(|event| event["type"] == kind);
        events.pop().unwrap()
    }
}

/// Asks, and leaves the answer to be waited for.
pub(super) fn begins(process: &Process, wish: &Wish) -> Asking {
    let client = Client::new(process.address(), &wish.token);
    let (query, variables) = (wish.query, wish.variables.clone());
    tokio::spawn(async move { client.tries(query, variables).await })
}

/// Sends an event as Stripe does; answers the status.
pub(super) async fn delivers(process: &Process, event: &Value) -> u16 {
    let body = event.to_string();
    let now = Clock::system().db_now().timestamp();
    let reply = reqwest::Client::builder().no_proxy().build().unwrap();
    let reply = reply
        .post(format!("http://{}/webhook/stripe", process.address()))
        .header("stripe-signature", sign(&body, now, SIGNING_SECRET))
        .body(body);
    reply.send().await.unwrap().status().as_u16()
}

/// Keeps others from writing: on PostgreSQL what the statement locks, on SQLite anything.
async fn block(books: &Books, postgres: &str) {
    if books.is_postgres() {
        books.execute("BEGIN").await.unwrap();
        books.execute(postgres).await.unwrap();
    } else {
        books.execute("BEGIN IMMEDIATE").await.unwrap();
    }
}

/// Waits until the server waits for what is locked. SQLite does not tell; there the server has
/// answered others since, and what it is at makes no difference.
async fn until_blocked(eyes: &Books, process: &Process, work: &Asking) {
    if eyes.is_postgres() {
        let waiting = "SELECT COUNT(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";
        until("it waits", async || {
            // It waits for two seconds; a slow machine may look when they are over.
            let is_waiting = eyes.number(waiting).await > 0 || work.is_finished();
            is_waiting.then_some(())
        })
        .await;
    } else {
        for _ in 0..3 {
            until("it answers", async || process.is_ready().await.then_some(())).await;
        }
    }
}

/// Whoever asked got no answer, or one that does not say that it is done.
async fn told_nothing(asking: Asking, wish: &Wish) {
    if let Ok(answer) = asking.await.unwrap() {
        let done = format!("\"{}\"", wish.done);
        assert!(!answer.to_string().contains(&done), "{answer}");
    }
}
