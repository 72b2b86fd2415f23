//! `kill -9` between the steps of a purchase: after a restart and the reconciler's run, what was
//! paid is granted, and nothing else is.

use musubi::clock::Clock;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::process::{Books, Client, Home, Process, until};
use crate::support::stripe::{Fault, SIGNING_SECRET, StripeServer, sign};

const BUY: &str = "mutation ($input: CreditPurchaseInput!) { creditPurchase(input: $input) {
    purchase { id status } userErrors { code } } }";
const CUSTOMER: &str = "POST /customers";
const PAYMENT: &str = "POST /payment_intents";
const LOOK: &str = "GET /payment_intents/ID";
const COMPLETED: &str = "SELECT COUNT(*) FROM credit_purchases WHERE status = 'COMPLETED'";
const PENDING: &str = "SELECT COUNT(*) FROM credit_purchases WHERE status = 'PENDING'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_between_the_steps_of_a_purchase_parts_payment_and_credits() {
    let (stripe, home) = shop().await;
    let steps = [
        // The purchase is written down, and no more.
        (CUSTOMER, Fault::Silence),
        // Stripe has made a customer that we do not know of.
        (CUSTOMER, Fault::SilenceAfter),
        // Stripe knows nothing of the payment.
        (PAYMENT, Fault::Silence),
        // The card is charged, and nobody here knows.
        (PAYMENT, Fault::SilenceAfter),
    ];
    for (number, (what, fault)) in steps.into_iter().enumerate() {
        let asked = stripe.asked(what).len();
        stripe.fails(what, fault);
        killed_at(&home, &stripe, (number, what, asked)).await;
    }
    // A purchase as it should be, and one killed wherever it is when it has been charged.
    let mut process = home.serve().await;
    let client = process.client(&home.guests().admin);
    let input = input(&home, "without-a-kill");
    let done = client.gets(BUY, json!({ "input": input })).await;
    assert_eq!(done["creditPurchase"]["purchase"]["status"], "COMPLETED", "{done}");
    process.stop().await;

    let paid = stripe.charges().len();
    assert_eq!(paid, 2, "one that was killed, and the last");
    assert_eq!(stripe.customers(), 1);
    let books = home.connect().await;
    assert_eq!(books.number(COMPLETED).await, 2);
    assert_eq!(books.number(PENDING).await, 0);
    let balance = "SELECT current_balance FROM ai_credit_accounts";
    assert_eq!(books.number(balance).await, 100 + 2 * 500);
    books.close().await;
    home.adds_up().await;
}

/// Kills a server when its purchase has come to a request, then has the reconciler look, late
/// enough that nobody can still be asking.
async fn killed_at(
    home: &Home,
    stripe: &StripeServer,
    (number, what, asked): (usize, &str, usize),
) {
    let mut process = home.serve().await;
    let buying = begins(home, &process, &format!("killed-at-step-{number}"));
    until("Stripe is asked", async || (stripe.asked(what).len() > asked).then_some(())).await;
    process.kill();
    assert!(buying.await.unwrap().is_err(), "nobody answers");
    reconciles(home).await;
    home.adds_up().await;
}

/// Lets so much time go by that nobody can still be asking, and has the reconciler look at the one
/// purchase that is open.
async fn reconciles(home: &Home) {
    let books = home.connect().await;
    let sql = "UPDATE credit_purchases SET created_at = '2025-06-01T00:00:00+00:00',
               checked_at = '2025-06-01T00:00:00+00:00' WHERE status = 'PENDING'";
    assert_eq!(books.execute(sql).await.unwrap(), 1, "written down before Stripe is asked");
    // The server may have been killed in the middle of this very job; its lease ends by then.
    let sql = "UPDATE job_runs SET lease_until = started_at WHERE state = 'RUNNING'";
    books.execute(sql).await.unwrap();
    books.close().await;
    let said = home.gets(&["job", "payments-reconcile"]).await;
    assert!(said.starts_with("1 open purchases, 1 ended"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_between_stripes_answer_and_ours_parts_payment_and_credits() {
    let (stripe, home) = shop().await;
    // Stripe has answered, and the database does not take what we learn.
    stripe.fails(PAYMENT, Fault::WaitAfter);
    let mut process = home.serve().await;
    let buying = begins(&home, &process, "answered-and-not-kept");
    until("Stripe is asked", async || stripe.asked(PAYMENT).first().map(|_| ())).await;
    let books = home.connect().await;
    block(&books, "SELECT id FROM credit_purchases FOR UPDATE").await;
    let eyes = home.connect().await;
    stripe.open_gate();
    until_blocked(&eyes, &process, &buying).await;
    process.kill();
    told_nothing(buying).await;
    eyes.close().await;
    books.execute("ROLLBACK").await.unwrap();
    assert_eq!((books.number(PENDING).await, stripe.charges().len()), (1, 1));
    books.close().await;
    reconciles(&home).await;
    home.adds_up().await;

    // The credits are there, and the buyer does not know.
    let mut process = home.serve().await;
    let books = home.connect().await;
    // What comes into the answer cannot be read; SQLite never keeps a reader waiting.
    if books.is_postgres() {
        block(&books, "LOCK TABLE usage_daily IN ACCESS EXCLUSIVE MODE").await;
    }
    let buying = begins(&home, &process, "kept-and-not-answered");
    let eyes = home.connect().await;
    until("it is granted", async || (eyes.number(COMPLETED).await == 2).then_some(())).await;
    process.kill();
    if books.is_postgres() {
        told_nothing(buying).await;
    }
    eyes.close().await;
    books.close().await;

    // Whoever sends the key again finds it done.
    let mut process = home.serve().await;
    let client = process.client(&home.guests().admin);
    for key in ["answered-and-not-kept", "kept-and-not-answered"] {
        let done = client.gets(BUY, json!({ "input": input(&home, key) })).await;
        assert_eq!(done["creditPurchase"]["purchase"]["status"], "COMPLETED", "{done}");
    }
    assert_eq!(client.balance().await, (100 + 2 * 500, 0));
    process.stop().await;
    assert_eq!(stripe.charges().len(), 2);
    home.adds_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_between_an_event_and_what_it_means_parts_payment_and_credits() {
    let (stripe, home) = shop().await;
    // The event is kept and answered, and not worked out.
    let first = charged_and_forgotten(&home, &stripe, "kept-and-not-worked-out").await;
    let event = stripe.makes_event("payment_intent.processing", &first);
    stripe.fails(LOOK, Fault::Silence);
    let mut process = home.serve().await;
    assert_eq!(delivers(&process, &event).await, 200);
    until("Stripe is asked", async || stripe.asked(LOOK).first().map(|_| ())).await;
    process.kill();
    let books = home.connect().await;
    assert_eq!((books.number(PENDING).await, books.number(COMPLETED).await), (1, 0));
    forget_leases(&books).await;
    let mut process = home.serve().await;
    until("it is granted", async || (books.number(COMPLETED).await == 1).then_some(())).await;
    // Stripe sends again what it got no answer for.
    assert_eq!(delivers(&process, &event).await, 200);
    assert_eq!(books.number("SELECT COUNT(*) FROM stripe_events").await, 1);
    process.stop().await;
    home.adds_up().await;

    // It is worked out, and nobody has noted that.
    let second = charged_and_forgotten(&home, &stripe, "worked-out-and-not-noted").await;
    let event = stripe.makes_event("payment_intent.processing", &second);
    let asked = stripe.asked(LOOK).len();
    stripe.fails(LOOK, Fault::WaitAfter);
    let mut process = home.serve().await;
    assert_eq!(delivers(&process, &event).await, 200);
    until("Stripe is asked", async || (stripe.asked(LOOK).len() > asked).then_some(())).await;
    let lock = home.connect().await;
    if lock.is_postgres() {
        block(&lock, "SELECT id FROM stripe_events FOR UPDATE").await;
    }
    stripe.open_gate();
    until("it is granted", async || (books.number(COMPLETED).await == 2).then_some(())).await;
    process.kill();
    lock.close().await;
    forget_leases(&books).await;
    let mut process = home.serve().await;
    let noted = "SELECT COUNT(*) FROM stripe_events WHERE processed_at IS NOT NULL";
    until("it is noted", async || (books.number(noted).await == 2).then_some(())).await;
    assert_eq!(process.client(&home.guests().admin).balance().await, (100 + 2 * 500, 0));
    process.stop().await;
    assert_eq!(stripe.charges().len(), 2);
    books.close().await;
    home.adds_up().await;
}

/// A hotel with 100 credits whose server asks this Stripe.
async fn shop() -> (StripeServer, Home) {
    let stripe = StripeServer::start().await;
    let mut home = Home::hotel(100).await;
    for (name, value) in stripe.environment() {
        home = home.with(name, &value);
    }
    (stripe, home)
}

/// Buys, and leaves the answer to be waited for.
fn begins(home: &Home, process: &Process, key: &str) -> JoinHandle<Result<Value, String>> {
    let client = Client::new(process.address(), &home.guests().admin);
    let input = input(home, key);
    tokio::spawn(async move { client.tries(BUY, json!({ "input": input })).await })
}

/// A payment that Stripe has made, and of which the killed server learned nothing.
async fn charged_and_forgotten(home: &Home, stripe: &StripeServer, key: &str) -> Value {
    let asked = stripe.asked(PAYMENT).len();
    let charged = stripe.charges().len();
    stripe.fails(PAYMENT, Fault::SilenceAfter);
    let mut process = home.serve().await;
    let buying = begins(home, &process, key);
    until("Stripe is asked", async || (stripe.asked(PAYMENT).len() > asked).then_some(())).await;
    process.kill();
    assert!(buying.await.unwrap().is_err(), "nobody answers");
    until("it is charged", async || stripe.charges().get(charged).cloned()).await
}

/// Sends an event as Stripe does; answers the status.
async fn delivers(process: &Process, event: &Value) -> u16 {
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
async fn until_blocked<T>(eyes: &Books, process: &Process, work: &JoinHandle<T>) {
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

/// The buyer got no answer, or one that knows of no purchase.
async fn told_nothing(buying: JoinHandle<Result<Value, String>>) {
    if let Ok(answer) = buying.await.unwrap() {
        assert!(answer["data"]["creditPurchase"].is_null(), "{answer}");
    }
}

/// The killed server's leases are over.
async fn forget_leases(books: &Books) {
    for sql in [
        "UPDATE queue_items SET lease_until = NULL",
        "UPDATE job_runs SET lease_until = started_at WHERE state = 'RUNNING'",
    ] {
        books.execute(sql).await.unwrap();
    }
}

fn input(home: &Home, key: &str) -> Value {
    json!({ "packageId": home.guests().package, "paymentMethod": "STRIPE",
        "stripePaymentMethodId": "pm_card_visa", "idempotencyKey": key })
}
