//! Disputes take their share of the credits, and give it back when they are won; refunds beside
//! them take no more than there is.

use fastrand::Rng;
use serde_json::{Value, json};

use super::{Shop, deliver};
use crate::credits;
use crate::support::database::is_postgres;

impl Shop {
    /// Buys the package by card; the payment's id.
    async fn paid(&self, key: &str) -> (Value, String) {
        let done = self.buys(key, json!({})).await;
        let purchase = &done["purchase"];
        let intent = purchase["paymentIntentId"].as_str().unwrap().to_owned();
        (purchase["id"].clone(), intent)
    }

    /// The purchase's status, and its dispute.
    async fn disputed(&self, id: &Value) -> (String, Value) {
        let query = "query ($id: ID!) { creditPurchase(id: $id) {
            status dispute { status reason amount { amount } } } }";
        let found = self.hotel.admin.gets(query, json!({ "id": id })).await;
        let purchase = &found["creditPurchase"];
        (purchase["status"].as_str().unwrap().to_owned(), purchase["dispute"].clone())
    }

    /// A dispute goes on, and we hear of it.
    async fn decides(&self, dispute: &str, status: &str) {
        self.stripe.decide(dispute, status, "charge.dispute.closed");
        self.hears(&self.stripe.events().pop().unwrap()).await;
    }

    async fn hears_the_last(&self) {
        self.hears(&self.stripe.events().pop().unwrap()).await;
    }
}

#[tokio::test]
async fn a_dispute_takes_its_share_and_gives_it_back_when_it_is_won() {
    let shop = Shop::open().await;
    let (id, intent) = shop.paid("to-be-disputed").await;
    let dispute = shop.stripe.dispute(&intent, 300, "needs_response");
    shop.hears_the_last().await;

    let told = json!({ "status": "OPEN", "reason": "fraudulent", "amount": { "amount": "300" } });
    assert_eq!(shop.disputed(&id).await, ("DISPUTED".to_owned(), told));
    shop.adds_up(200, 1).await;

    shop.decides(&dispute, "won").await;
    assert_eq!(shop.disputed(&id).await.0, "COMPLETED");
    assert_eq!(shop.disputed(&id).await.1["status"], "WON");
    shop.adds_up(500, 1).await;
    let mut kinds: Vec<String> = shop.alerts().await.into_iter().map(|(kind, _)| kind).collect();
    kinds.dedup();
    assert_eq!(kinds, ["PAYMENT_DISPUTED"]);
    assert_eq!(shop.alerts().await.len(), 4, "of both turns, to the tenant and the operators");
}

#[tokio::test]
async fn a_lost_dispute_keeps_the_credits_and_a_question_takes_none() {
    let shop = Shop::open().await;
    let (id, intent) = shop.paid("only-asked").await;
    let dispute = shop.stripe.dispute(&intent, 500, "warning_needs_response");
    shop.hears_the_last().await;
    assert_eq!(shop.disputed(&id).await.1["status"], "INQUIRY");
    shop.adds_up(500, 1).await;

    // The question becomes a dispute, which is lost.
    shop.stripe.decide(&dispute, "under_review", "charge.dispute.updated");
    shop.hears_the_last().await;
    shop.adds_up(0, 1).await;
    shop.decides(&dispute, "lost").await;
    assert_eq!(shop.disputed(&id).await.0, "DISPUTED");
    shop.adds_up(0, 1).await;

    let (asked, intent) = shop.paid("asked-and-closed").await;
    let dispute = shop.stripe.dispute(&intent, 500, "warning_needs_response");
    shop.decides(&dispute, "warning_closed").await;
    assert_eq!(shop.disputed(&asked).await.1["status"], "CLOSED");
    shop.adds_up(500, 2).await;
}

#[tokio::test]
async fn events_of_a_dispute_end_the_same_in_any_order_and_number() {
    let mut rng = Rng::with_seed(11);
    for (end, left) in [("won", 500), ("lost", 100), ("won", 500), ("lost", 100)] {
        let shop = Shop::open().await;
        let (_, intent) = shop.paid("in-any-order").await;
        let dispute = shop.stripe.dispute(&intent, 400, "needs_response");
        shop.stripe.decide(&dispute, "needs_response", "charge.dispute.funds_withdrawn");
        let early = shop.stripe.events().pop().unwrap();
        shop.hears(&early).await;
        shop.adds_up(100, 1).await;
        shop.stripe.decide(&dispute, "under_review", "charge.dispute.updated");
        shop.stripe.decide(&dispute, end, "charge.dispute.closed");
        let mut events = shop.stripe.events();
        events.retain(|event| event["type"].as_str().unwrap().starts_with("charge."));
        rng.shuffle(&mut events);
        for event in &events {
            deliver(&shop.app.app, event).await;
            tokio::join!(shop.works(), shop.works());
        }
        shop.adds_up(left, 1).await;
    }
}

#[tokio::test]
async fn a_dispute_that_is_not_as_recorded_takes_nothing_and_alarms() {
    let shop = Shop::open().await;
    let (_, intent) = shop.paid("not-disputed-at-all").await;
    for (field, value, differs) in [
        ("amount", json!(501), "amount"),
        ("currency", json!("usd"), "currency"),
        ("livemode", json!(true), "livemode"),
    ] {
        let dispute = shop.stripe.dispute(&intent, 500, "needs_response");
        // The event that tells of real money is none of the test's.
        let event = shop.stripe.events().pop().unwrap();
        shop.stripe.change_dispute(&dispute, |dispute| dispute[field] = value);
        let mut event = event;
        if field == "livemode" {
            event["livemode"] = json!(true);
        }
        shop.hears(&event).await;
        let alerts = shop.alerts().await;
        let known = ("PAYMENT_MISMATCH".to_owned(), json!([differs]));
        assert!(alerts.contains(&known), "{field}: {alerts:?}");
    }
    // Somebody else's payment, and a dispute that is gone.
    let foreign = json!({ "object": "dispute", "id": "dp_of_a_shop", "status": "lost",
        "reason": "general", "amount": 5, "currency": "jpy", "livemode": false });
    shop.hears(&shop.stripe.makes_event("charge.dispute.created", &foreign)).await;
    shop.adds_up(500, 1).await;
}

#[tokio::test]
async fn the_charge_of_an_invoice_finds_its_purchase_even_before_it_was_learned() {
    let shop = Shop::open().await;
    let (id, invoice) = shop.ordered("by-invoice").await;
    shop.stripe.pay_invoice(&invoice);
    let intent = shop.stripe.charges()[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(shop.stripe.charges()[0]["metadata"], json!({}));

    // The dispute and the refund come before anything was heard of the payment.
    let dispute = shop.stripe.dispute(&intent, 200, "needs_response");
    shop.hears_the_last().await;
    assert_eq!(shop.disputed(&id).await.0, "DISPUTED");
    shop.adds_up(300, 1).await;
    shop.hears(&shop.stripe.refunds_there(&intent, 100)).await;
    shop.adds_up(200, 1).await;
    shop.decides(&dispute, "won").await;
    shop.adds_up(400, 1).await;

    // A payment of nobody's is none of ours.
    let mut charge = shop.stripe.charge(&intent);
    charge["payment_intent"] = json!("pi_of_a_shop");
    shop.hears(&shop.stripe.makes_event("charge.refunded", &charge)).await;
    shop.adds_up(400, 1).await;
}

#[tokio::test]
async fn a_refund_beside_a_dispute_takes_its_part_when_the_money_comes_back() {
    let shop = Shop::open().await;
    let (id, intent) = shop.paid("both-at-once").await;
    let dispute = shop.stripe.dispute(&intent, 500, "needs_response");
    shop.hears_the_last().await;
    shop.hears(&shop.stripe.refunds_there(&intent, 300)).await;
    shop.adds_up(0, 1).await;

    shop.decides(&dispute, "won").await;

    // As if there had been the refund alone.
    assert_eq!(shop.disputed(&id).await.0, "COMPLETED");
    shop.adds_up(200, 1).await;
}

/// What can happen to one purchase while its credits are held, spent, refunded and disputed.
struct Trouble {
    shop: Shop,
    rng: Rng,
    purchase: Value,
    intent: String,
    running: Vec<musubi::ai::service::run::Job>,
    disputes: Vec<String>,
    claimed: i64,
    refunded: i64,
}

impl Trouble {
    async fn step(&mut self) -> String {
        let app = &self.shop.app.app;
        let (current, held) = self.shop.hotel.balance().await;
        match self.rng.u32(..9) {
            0 | 1 if current > held => {
                let credits = self.rng.i64(1..=(current - held).min(200));
                self.running.push(credits::hold(app, &self.shop.hotel, credits).await);
                format!("hold {credits}")
            }
            2 if !self.running.is_empty() => {
                let job = self.running.swap_remove(self.rng.usize(..self.running.len()));
                let charge = self.rng.i64(0..=job.execution.credits_held);
                credits::settle(app, &job, charge).await;
                format!("settle {charge}")
            }
            3 if !self.running.is_empty() => {
                let job = self.running.swap_remove(self.rng.usize(..self.running.len()));
                credits::release(app, &job).await;
                "release".to_owned()
            }
            4 if self.refunded < 500 => {
                let amount = self.rng.i64(1..=(500 - self.refunded).min(250));
                self.refunded += amount;
                self.shop.hears(&self.shop.stripe.refunds_there(&self.intent, amount)).await;
                format!("refund {amount}")
            }
            5 if self.claimed < 500 => {
                let amount = self.rng.i64(1..=500 - self.claimed);
                self.claimed += amount;
                self.disputes.push(self.shop.stripe.dispute(
                    &self.intent,
                    amount,
                    "needs_response",
                ));
                self.shop.hears_the_last().await;
                format!("dispute {amount}")
            }
            6 if !self.disputes.is_empty() => {
                let dispute = self.disputes.swap_remove(self.rng.usize(..self.disputes.len()));
                let end = if self.rng.bool() { "won" } else { "lost" };
                self.shop.decides(&dispute, end).await;
                end.to_owned()
            }
            7 => {
                let key = format!("trouble-{}", self.rng.u64(..));
                let done = self.shop.gives_back(&self.purchase, &key, json!({})).await;
                let amount = done["refund"]["amount"]["amount"].as_str().unwrap_or("0");
                let amount: i64 = amount.parse().unwrap();
                self.refunded += if done["refund"]["status"] == "SUCCEEDED" { amount } else { 0 };
                format!("refund of ours {}", done)
            }
            8 => {
                let mut made = self.shop.stripe.refunds();
                made.retain(|refund| refund["status"] == "succeeded");
                let Some(refund) = made.pop() else { return "no refund".to_owned() };
                let id = refund["id"].as_str().unwrap();
                self.refunded -= refund["amount"].as_i64().unwrap();
                let event = self.shop.stripe.ends_refund(id, "failed", Some("declined"));
                self.shop.hears(&event).await;
                format!("refund fails {}", refund["amount"])
            }
            _ => "nothing".to_owned(),
        }
    }

    async fn prove(&self, told: &str) {
        assert_eq!(self.shop.app.drifts().await, Vec::<String>::new(), "{told}");
        let refunded = self.shop.number("SELECT refunded AS number FROM credit_purchases").await;
        assert_eq!(refunded, self.refunded, "{told}");
        let taken = "SELECT CAST(COALESCE(SUM(taken - put_back), 0) AS bigint) AS number
                     FROM ai_credit_withdrawals";
        let taken = self.shop.number(taken).await;
        let spent = "SELECT CAST(COALESCE(SUM(credits - returned), 0) AS bigint) AS number
                     FROM ai_credit_draws";
        let spent = self.shop.number(spent).await;
        let (current, held) = self.shop.hotel.balance().await;
        assert_eq!(taken + spent + current, 500, "{told}");
        assert!(0 <= held && held <= current, "{told}: {held} of {current}");
    }
}

#[tokio::test]
async fn the_books_hold_while_credits_are_held_spent_refunded_and_disputed() {
    for seed in 0..if is_postgres() { 3 } else { 12 } {
        let shop = Shop::open().await;
        let (purchase, intent) = shop.paid("troubled").await;
        let mut trouble = Trouble {
            shop,
            rng: Rng::with_seed(seed),
            purchase,
            intent,
            running: Vec::new(),
            disputes: Vec::new(),
            claimed: 0,
            refunded: 0,
        };
        let mut story = Vec::new();
        for _ in 0..25 {
            story.push(trouble.step().await);
            trouble.prove(&format!("seed {seed}: {story:?}")).await;
        }
        while let Some(job) = trouble.running.pop() {
            credits::settle(&trouble.shop.app.app, &job, 0).await;
            trouble.prove(&format!("seed {seed}, at the end: {story:?}")).await;
        }
        // Nobody keeps credits whose money is gone.
        let disputed = "SELECT CAST(COALESCE(SUM(amount), 0) AS bigint) AS number
                        FROM payment_disputes WHERE status IN ('OPEN', 'LOST')";
        let gone = trouble.refunded + trouble.shop.number(disputed).await;
        let (current, _) = trouble.shop.hotel.balance().await;
        assert!(current <= 500 - gone.min(500), "seed {seed}: {current}, {gone}: {story:?}");
    }
}
