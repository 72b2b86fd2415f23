//! Purchases by invoice: made whole, sent once, granted when paid, and taken back when unwanted.

use chrono::TimeDelta;
use futures_util::future::join_all;
use musubi::payments::invoices::due;
use musubi::payments::service::inbox::Receipt;
use musubi::payments::service::reconcile::reconcile;
use serde_json::{Value, json};

use super::{Shop, buys, deliver, deliver_often};
use crate::support::TestApp;
use crate::support::stripe::Fault;

/// The steps of an invoice, as Stripe is asked for them.
const STEPS: [&str; 6] = [
    "POST /customers",
    "POST /invoices",
    "POST /invoices/ID/add_lines",
    "POST /customers/ID",
    "POST /invoices/ID/finalize",
    "POST /invoices/ID/send",
];
const INVOICE: &str = "status version invoice { id number status hostedUrl pdfUrl dueDate }";

impl Shop {
    /// What an ADMIN sends for an invoice.
    fn on_paper(&self, key: &str) -> Value {
        json!({ "packageId": self.package, "paymentMethod": "INVOICE",
                "invoiceEmail": "Keiri@Ryokan.test", "idempotencyKey": key })
    }

    /// The payload of a purchase by invoice.
    pub(super) async fn orders(&self, key: &str) -> Value {
        buys(&self.hotel.admin, self.on_paper(key)).await
    }

    /// A purchase by invoice that waits for its payment, and the invoice's id at Stripe.
    pub(super) async fn ordered(&self, key: &str) -> (Value, String) {
        let done = self.orders(key).await;
        assert_eq!(done["purchase"]["status"], "PENDING", "{done}");
        let id = done["purchase"]["id"].clone();
        let invoice = self.paper(&id).await["invoice"]["id"].as_str().unwrap().to_owned();
        (id, invoice)
    }

    /// A purchase with its invoice.
    async fn paper(&self, id: &Value) -> Value {
        let query = format!("query ($id: ID!) {{ creditPurchase(id: $id) {{ {INVOICE} }} }}");
        self.hotel.admin.gets(&query, json!({ "id": id })).await["creditPurchase"].clone()
    }

    async fn cancels(&self, id: &Value) -> Value {
        let query = format!(
            "mutation ($id: ID!) {{ creditPurchaseCancel(id: $id) {{
             purchase {{ {INVOICE} }} userErrors {{ code field }} }} }}"
        );
        self.hotel.admin.gets(&query, json!({ "id": id })).await["creditPurchaseCancel"].clone()
    }

    /// Where the purchase and its invoice stand.
    async fn stands(&self, id: &Value) -> (String, String) {
        let paper = self.paper(id).await;
        let word = |value: &Value| value.as_str().unwrap_or("none").to_owned();
        (word(&paper["status"]), word(&paper["invoice"]["status"]))
    }

    #[track_caller]
    fn invoice_is_whole(&self) {
        let invoices = self.stripe.invoices();
        assert_eq!(invoices.len(), 1, "{invoices:?}");
        let invoice = &invoices[0];
        assert_eq!(invoice["lines"]["data"].as_array().unwrap().len(), 1);
        assert_eq!((&invoice["status"], &invoice["total"]), (&json!("open"), &json!(500)));
    }

    fn last_event(&self, kind: &str) -> Value {
        let mut events = self.stripe.events();
        events.retain(|event| event["type"] == kind);
        events.pop().unwrap()
    }
}

fn stands(purchase: &str, invoice: &str) -> (String, String) {
    (purchase.to_owned(), invoice.to_owned())
}

#[tokio::test]
async fn an_invoice_is_made_sent_once_and_becomes_credits_when_it_is_paid() {
    let shop = Shop::open().await;
    let (id, invoice) = shop.ordered("by-invoice").await;

    let paper = shop.paper(&id).await;
    let expected = json!({ "id": invoice, "number": "DOUBLE-0001", "status": "OPEN",
        "hostedUrl": format!("https://invoice.stripe.test/i/{invoice}"),
        "pdfUrl": format!("https://invoice.stripe.test/i/{invoice}/pdf"),
        "dueDate": "2026-12-21" });
    assert_eq!(paper["invoice"], expected);
    shop.invoice_is_whole();
    let sent = &shop.stripe.invoices()[0];
    assert_eq!(sent["lines"]["data"][0]["taxes"][0]["amount"], 45);
    assert_eq!(sent["lines"]["data"][0]["taxes"][0]["taxable_amount"], 455);
    assert_eq!((&sent["auto_advance"], &sent["currency"]), (&json!(false), &json!("jpy")));
    assert_eq!(sent["metadata"]["musubi_purchase"], id);
    assert_eq!(shop.stripe.mailed(), [(invoice.clone(), "keiri@ryokan.test".to_owned())]);
    // The same key answers the same purchase, and sends nothing again.
    assert_eq!(shop.orders("by-invoice").await["purchase"]["id"], id);
    shop.reconciles_after(TimeDelta::hours(2)).await;
    assert_eq!(shop.stripe.mailed().len(), 1);
    shop.adds_up(0, 0).await;

    shop.stripe.pay_invoice(&invoice);
    shop.hears(&shop.last_event("invoice.paid")).await;

    assert_eq!(shop.stands(&id).await, stands("COMPLETED", "PAID"));
    let purchase = shop.purchase(&id).await;
    assert_eq!(purchase["transaction"]["credits"], 500);
    assert_eq!(purchase["paymentIntentId"], shop.stripe.charges()[0]["id"]);
    shop.adds_up(500, 1).await;
}

#[tokio::test]
async fn a_paid_invoice_is_granted_once_whoever_learns_it_and_however_often() {
    let shop = Shop::open().await;
    let (id, invoice) = shop.ordered("everybody-learns").await;
    let replica = shop.app.replica().await;
    shop.passes(TimeDelta::hours(2));
    shop.stripe.pay_invoice(&invoice);
    let events = ["invoice.paid", "invoice.payment_succeeded", "payment_intent.succeeded"];
    for kind in events {
        let event = shop.last_event(kind);
        deliver_often(&shop.app.app, &event, 20).await;
        deliver_often(&replica, &event, 20).await;
    }

    tokio::join!(
        async { reconcile(shop.app.app.clone()).await.unwrap() },
        async { reconcile(replica.clone()).await.unwrap() },
        shop.works(),
        join_all((0..5).map(|_| shop.orders("everybody-learns"))),
        join_all((0..5).map(|_| shop.confirms(&id))),
    );
    shop.works().await;

    assert_eq!(shop.stands(&id).await, stands("COMPLETED", "PAID"));
    shop.adds_up(500, 1).await;
}

#[tokio::test]
async fn an_invoice_that_is_cut_off_at_any_step_is_resumed_and_made_once() {
    for step in STEPS {
        for fault in [Fault::ResetAfter, Fault::Status(503, None)] {
            for is_reconciled in [true, false] {
                let shop = Shop::open().await;
                for _ in 0..3 {
                    shop.stripe.fails(step, fault.clone());
                }
                let cut = shop.orders("is-cut-off").await;
                let id = &cut["purchase"]["id"];
                assert_eq!(cut["purchase"]["status"], "PENDING", "{step} {fault:?}: {cut}");

                if is_reconciled {
                    shop.reconciles_after(TimeDelta::minutes(3)).await;
                } else {
                    assert_eq!(shop.orders("is-cut-off").await["purchase"]["id"], *id);
                }

                let told = format!("{step} {fault:?} {is_reconciled}");
                assert_eq!(shop.stands(id).await, stands("PENDING", "OPEN"), "{told}");
                shop.invoice_is_whole();
                assert_eq!(shop.stripe.mailed().len(), 1, "{told}");
                shop.adds_up(0, 0).await;
            }
        }
    }
}

#[tokio::test]
async fn an_invoice_is_found_by_what_is_written_on_it_when_its_key_is_old() {
    let shop = Shop::open().await;
    for _ in 0..3 {
        shop.stripe.fails("POST /invoices", Fault::ResetAfter);
    }
    let cut = shop.orders("the-answer-is-lost").await;
    let id = &cut["purchase"]["id"];
    assert_eq!(shop.stands(id).await, stands("PENDING", "none"));

    shop.reconciles_after(TimeDelta::hours(30)).await;

    assert_eq!(shop.stands(id).await, stands("PENDING", "OPEN"));
    shop.invoice_is_whole();
    assert_eq!(shop.stripe.asked("POST /invoices").len(), 3);
}

#[tokio::test]
async fn an_invoice_that_stripe_never_got_fails_in_the_end() {
    let shop = Shop::open().await;
    for _ in 0..3 {
        shop.stripe.fails("POST /customers", Fault::Status(500, Some(false)));
    }
    let cut = shop.orders("stripe-is-away").await;
    let id = &cut["purchase"]["id"];
    for _ in 0..3 {
        shop.stripe.fails("POST /customers", Fault::Status(500, Some(false)));
    }
    shop.reconciles_after(TimeDelta::hours(1)).await;
    assert_eq!(shop.purchase(id).await["status"], "PENDING");

    shop.reconciles_after(TimeDelta::hours(20)).await;

    assert_eq!(shop.purchase(id).await["failureCode"], "NOT_STARTED");
    assert!(shop.stripe.invoices().is_empty());
    shop.adds_up(0, 0).await;
}

#[tokio::test]
async fn an_invoice_that_stripe_refuses_is_taken_back_and_fails() {
    for step in &STEPS[1..] {
        let shop = Shop::open().await;
        shop.stripe.fails(step, Fault::Status(400, None));

        let refused = shop.orders("refused-by-stripe").await;

        assert_eq!(refused["purchase"]["failureCode"], "PAYMENT_REFUSED", "{step}: {refused}");
        assert_eq!(refused["userErrors"][0]["code"], "PAYMENT_FAILED");
        let left = shop.stripe.invoices();
        assert!(left.iter().all(|invoice| invoice["status"] == "void"), "{step}: {left:?}");
        for event in shop.stripe.events() {
            deliver(&shop.app.app, &event).await;
        }
        shop.works().await;
        assert_eq!(shop.purchase(&refused["purchase"]["id"]).await["status"], "FAILED", "{step}");
        shop.adds_up(0, 0).await;
    }
}

#[tokio::test]
async fn an_invoice_for_a_customer_that_stripe_no_longer_has_fails_and_the_next_is_sent() {
    let shop = Shop::open().await;
    shop.buys("makes-a-customer", json!({})).await;
    let gone = shop.stripe.customer();
    // Nobody tells us.
    shop.stripe.deletes_customer(&gone);

    let failed = shop.orders("for-nobody-any-more").await;

    assert_eq!(failed["purchase"]["failureCode"], "PAYMENT_REFUSED", "{failed}");
    assert_eq!(failed["userErrors"][0]["code"], "PAYMENT_FAILED");
    assert!(shop.stripe.invoices().is_empty());

    let (id, invoice) = shop.ordered("for-another-customer").await;

    assert_eq!(shop.stands(&id).await, stands("PENDING", "OPEN"));
    shop.invoice_is_whole();
    assert_eq!(shop.stripe.invoices()[0]["customer"], shop.stripe.customer());
    assert_ne!(shop.stripe.customer(), gone);
    assert_eq!(shop.stripe.mailed(), [(invoice, "keiri@ryokan.test".to_owned())]);
    shop.adds_up(500, 1).await;
}

#[tokio::test]
async fn a_customer_that_is_deleted_while_its_invoice_is_a_draft_is_forgotten() {
    let shop = Shop::open().await;
    shop.stripe.fails("POST /customers/ID", Fault::Status(500, Some(false)));
    let left = shop.orders("left-as-a-draft").await;
    assert_eq!(left["purchase"]["status"], "PENDING", "{left}");
    assert_eq!(shop.stripe.invoices()[0]["status"], "draft");
    // Nobody tells us.
    shop.stripe.deletes_customer(&shop.stripe.customer());

    shop.reconciles_after(TimeDelta::minutes(10)).await;

    assert_eq!(shop.purchase(&left["purchase"]["id"]).await["failureCode"], "PAYMENT_REFUSED");
    let (id, invoice) = shop.ordered("for-another-customer").await;
    assert_eq!(shop.stands(&id).await, stands("PENDING", "OPEN"));
    assert_eq!(shop.stripe.mailed(), [(invoice, "keiri@ryokan.test".to_owned())]);
    shop.adds_up(0, 0).await;
}

#[tokio::test]
async fn an_invoice_that_is_not_as_recorded_grants_nothing_and_alarms() {
    type Change = fn(&mut Value, &str);
    let cases: [(&str, Change); 5] = [
        ("amount", |invoice, _| invoice["total"] = json!(50)),
        ("received", |invoice, _| invoice["amount_paid"] = json!(499)),
        ("currency", |invoice, _| invoice["currency"] = json!("usd")),
        ("livemode", |invoice, _| invoice["livemode"] = json!(true)),
        ("account", |invoice, other| invoice["metadata"]["musubi_account"] = json!(other)),
    ];
    for (differs, change) in cases {
        let shop = Shop::open().await;
        let stranger = shop.app.hotel().await;
        let (id, invoice) = shop.ordered("not-as-recorded").await;
        shop.stripe.pay_invoice(&invoice);
        let other = stranger.account().await.id.to_string();
        shop.stripe.change_invoice(&invoice, |invoice| change(invoice, &other));

        shop.hears(&shop.last_event("invoice.paid")).await;
        shop.confirms(&id).await;

        let alert = ("PAYMENT_MISMATCH".to_owned(), json!([differs]));
        assert_eq!(shop.alerts().await, [alert], "{differs}");
        assert_eq!(shop.purchase(&id).await["status"], "PENDING", "{differs}");
        assert_eq!(stranger.balance().await, (0, 0));
        shop.adds_up(0, 1).await;
    }
}

#[tokio::test]
async fn a_draft_that_asks_for_something_else_is_never_sent() {
    let shop = Shop::open().await;
    for _ in 0..3 {
        shop.stripe.fails("POST /invoices/ID/finalize", Fault::Status(503, None));
    }
    let cut = shop.orders("a-line-too-much").await;
    let invoice = shop.stripe.invoices()[0]["id"].as_str().unwrap().to_owned();
    shop.stripe.change_invoice(&invoice, |invoice| invoice["total"] = json!(1_000));

    shop.reconciles_after(TimeDelta::minutes(3)).await;

    assert_eq!(shop.alerts().await, [("PAYMENT_MISMATCH".to_owned(), json!(["amount"]))]);
    assert!(shop.stripe.mailed().is_empty());
    assert_eq!(shop.stripe.invoices()[0]["status"], "draft");
    // It can still be given up.
    let cancelled = shop.cancels(&cut["purchase"]["id"]).await;
    assert_eq!(cancelled["purchase"]["status"], "CANCELLED", "{cancelled}");
    assert!(shop.stripe.invoices().is_empty());
}

#[tokio::test]
async fn events_of_an_invoice_end_the_same_in_every_order() {
    let mut rng = fastrand::Rng::with_seed(7);
    for round in 0..8 {
        let shop = Shop::open().await;
        let (id, invoice) = shop.ordered("in-any-order").await;
        shop.stripe.refuse_invoice(&invoice);
        shop.stripe.find_overdue(&invoice);
        shop.stripe.write_off(&invoice);
        shop.stripe.pay_invoice(&invoice);
        let mut events = shop.stripe.events();
        events.retain(|event| event["type"].as_str().unwrap().starts_with("invoice."));
        rng.shuffle(&mut events);

        for event in &events {
            shop.hears(event).await;
            assert_eq!(deliver(&shop.app.app, event).await, Receipt::Known);
        }

        assert_eq!(shop.stands(&id).await, stands("COMPLETED", "PAID"), "{round}: {events:?}");
        shop.adds_up(500, 1).await;
    }
}

#[tokio::test]
async fn a_late_payer_is_reminded_told_of_and_granted_after_all() {
    let shop = Shop::open().await;
    let (id, invoice) = shop.ordered("paid-late").await;
    let reminds = async || {
        due::remind(shop.app.app.clone()).await.unwrap();
        due::remind(shop.app.app.clone()).await.unwrap();
        while shop.app.send_mails().await > 0 {}
        let mails = shop.app.outbox.mails();
        let mut subjects: Vec<String> = mails.iter().map(|mail| mail.subject.clone()).collect();
        assert!(mails.iter().all(|mail| mail.to == "keiri@ryokan.test"), "{mails:?}");
        assert!(mails.iter().all(|mail| mail.text.contains("DOUBLE-0001")), "{mails:?}");
        subjects.dedup();
        assert_eq!(subjects.len(), mails.len());
        mails.len()
    };
    shop.reconciles_after(TimeDelta::days(26)).await;
    assert_eq!(reminds().await, 0);
    shop.passes(TimeDelta::days(2));
    assert_eq!(reminds().await, 1, "due in two days");
    assert_eq!(shop.stands(&id).await, stands("PENDING", "OPEN"));

    shop.reconciles_after(TimeDelta::days(3)).await;
    shop.reconciles_after(TimeDelta::days(1)).await;

    assert_eq!(shop.stands(&id).await, stands("OVERDUE", "OVERDUE"));
    let kinds: Vec<String> = shop.alerts().await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["INVOICE_OVERDUE", "INVOICE_OVERDUE"], "to the tenant, to the operators");
    assert_eq!(reminds().await, 2);

    shop.stripe.write_off(&invoice);
    shop.hears(&shop.last_event("invoice.marked_uncollectible")).await;
    assert_eq!(shop.stands(&id).await, stands("OVERDUE", "UNCOLLECTIBLE"));
    shop.stripe.pay_invoice(&invoice);
    shop.hears(&shop.last_event("invoice.paid")).await;
    assert_eq!(shop.stands(&id).await, stands("COMPLETED", "PAID"));
    shop.adds_up(500, 1).await;
}

#[tokio::test]
async fn nobody_is_reminded_who_has_paid() {
    let shop = Shop::open().await;
    let (id, invoice) = shop.ordered("paid-in-time").await;
    shop.passes(TimeDelta::days(28));
    // Nobody knows whether it is paid while Stripe does not answer.
    for _ in 0..3 {
        shop.stripe.fails("GET /invoices/ID", Fault::Status(503, None));
    }
    assert_eq!(due::remind(shop.app.app.clone()).await.unwrap(), "0 payers were reminded");
    shop.stripe.pay_invoice(&invoice);

    assert_eq!(due::remind(shop.app.app.clone()).await.unwrap(), "0 payers were reminded");

    assert_eq!(shop.stands(&id).await, stands("COMPLETED", "PAID"));
    shop.adds_up(500, 1).await;
}

#[tokio::test]
async fn an_unpaid_invoice_is_cancelled_and_one_that_was_paid_meanwhile_is_granted() {
    let shop = Shop::open().await;
    let (unpaid, _) = shop.ordered("not-wanted").await;
    for _ in 0..2 {
        let cancelled = shop.cancels(&unpaid).await;
        assert_eq!(cancelled["purchase"]["status"], "CANCELLED", "{cancelled}");
        assert_eq!(cancelled["purchase"]["invoice"]["status"], "VOID");
        assert_eq!(cancelled["userErrors"], json!([]));
    }
    assert_eq!(shop.stripe.asked("POST /invoices/ID/void").len(), 1);

    let (paid, invoice) = shop.ordered("paid-meanwhile").await;
    shop.stripe.pay_invoice(&invoice);
    let cancelled = shop.cancels(&paid).await;
    assert_eq!(cancelled["purchase"]["status"], "COMPLETED", "{cancelled}");

    let card = shop.buys("paid-by-card", json!({})).await["purchase"]["id"].clone();
    for id in [&paid, &card] {
        assert_eq!(shop.cancels(id).await["userErrors"][0]["code"], "INVALID_STATE");
    }
    shop.adds_up(1_000, 2).await;
}

#[tokio::test]
async fn a_wish_to_cancel_is_fulfilled_when_stripe_answers_again() {
    for step in ["POST /invoices/ID/void", "POST /invoices"] {
        let shop = Shop::open().await;
        let is_made = step.ends_with("void");
        for _ in 0..3 {
            shop.stripe.fails(step, Fault::ResetAfter);
        }
        let id = shop.orders("cancelled-in-vain").await["purchase"]["id"].clone();
        let first = shop.cancels(&id).await;
        let expected = if is_made { "PENDING" } else { "CANCELLED" };
        assert_eq!(first["purchase"]["status"], expected, "{step}: {first}");

        shop.reconciles_after(TimeDelta::minutes(5)).await;

        assert_eq!(shop.purchase(&id).await["status"], "CANCELLED", "{step}");
        let left = shop.stripe.invoices();
        assert!(left.iter().all(|invoice| invoice["status"] == "void"), "{step}: {left:?}");
        shop.adds_up(0, 0).await;
    }
}

#[tokio::test]
async fn an_invoice_that_is_given_up_while_it_is_made_is_never_sent() {
    for (step, requests) in [("POST /invoices/ID/add_lines", 3), ("POST /invoices/ID/finalize", 5)]
    {
        let shop = Shop::open().await;
        shop.stripe.fails(step, Fault::WaitAfter);
        let ordering = shop.orders("given-up-at-once");
        let giving_up = async {
            shop.stripe.wait_for_requests(requests).await;
            let query = "{ creditPurchases { nodes { id } } }";
            let found = shop.hotel.admin.gets(query, json!({})).await;
            let id = found["creditPurchases"]["nodes"][0]["id"].clone();
            let cancelled = shop.cancels(&id).await;
            assert_eq!(cancelled["purchase"]["status"], "CANCELLED", "{step}: {cancelled}");
            shop.stripe.open_gate();
            id
        };
        let (ordered, id) = tokio::join!(ordering, giving_up);

        assert_eq!(ordered["purchase"]["id"], id, "{step}: {ordered}");
        shop.reconciles_after(TimeDelta::hours(2)).await;
        assert_eq!(shop.stands(&id).await, stands("CANCELLED", "VOID"), "{step}");
        let left = shop.stripe.invoices();
        assert!(left.iter().all(|invoice| invoice["status"] == "void"), "{step}: {left:?}");
        assert!(shop.stripe.mailed().is_empty(), "{step}");
        shop.adds_up(0, 0).await;
    }
}

#[tokio::test]
async fn the_invoices_of_a_closed_tenant_are_taken_back() {
    let shop = Shop::open().await;
    shop.ordered("before-the-end").await;
    let found = shop.hotel.admin.gets("{ viewer { tenant { slug } } }", json!({})).await;
    let input = json!({ "id": shop.hotel.id.to_string(),
        "slug": found["viewer"]["tenant"]["slug"] });
    let close = "mutation ($input: TenantCloseInput!) { tenantClose(input: $input) {
        userErrors { code message } } }";
    let closed = shop.hotel.admin.gets(close, json!({ "input": input })).await;
    assert_eq!(closed["tenantClose"]["userErrors"], json!([]), "{closed}");

    shop.reconciles_after(TimeDelta::minutes(5)).await;

    assert_eq!(shop.stripe.invoices()[0]["status"], "void");
    let status = "SELECT COUNT(*) AS number FROM credit_purchases WHERE status = 'CANCELLED'";
    assert_eq!(shop.number(status).await, 1);
}

#[tokio::test]
async fn a_tenant_has_five_unpaid_invoices_and_no_more_however_many_are_wanted_at_once() {
    let shop = Shop::open().await;
    let replica = shop.app.replica().await;
    let there = shop.hotel.admin.on(&replica);

    let wanted = (0..8).map(|number| {
        let person = if number % 2 == 0 { &shop.hotel.admin } else { &there };
        buys(person, shop.on_paper(&format!("one-of-eight-{number}")))
    });
    let answers = join_all(wanted.collect::<Vec<_>>()).await;

    let refused = |answer: &&Value| answer["userErrors"][0]["code"] == "LIMIT_REACHED";
    assert_eq!(answers.iter().filter(refused).count(), 3, "{answers:?}");
    assert_eq!(shop.stripe.invoices().len(), 5);
    let made = answers.iter().find(|answer| !answer["purchase"].is_null()).unwrap();
    shop.cancels(&made["purchase"]["id"]).await;
    shop.ordered("there-is-room-again").await;
    // Another tenant has its own.
    let stranger = shop.app.hotel().await;
    let theirs = buys(&stranger.admin, shop.on_paper("theirs-alone")).await;
    assert_eq!(theirs["purchase"]["status"], "PENDING", "{theirs}");
}

#[tokio::test]
async fn what_does_not_go_with_an_invoice_is_refused() {
    let shop = Shop::open().await;
    for (change, field) in [
        (json!({ "invoiceEmail": null }), "invoiceEmail"),
        (json!({ "invoiceEmail": "nobody" }), "invoiceEmail"),
        (json!({ "invoiceEmail": "a@b.test\r\nBcc: c@d.test" }), "invoiceEmail"),
        (json!({ "stripePaymentMethodId": "pm_card_visa" }), "stripePaymentMethodId"),
        (json!({ "stripeConfirmationTokenId": "ctoken_1" }), "stripeConfirmationTokenId"),
        (json!({ "returnUrl": "https://app.example/" }), "returnUrl"),
        (json!({ "saveCard": true }), "saveCard"),
        (
            json!({ "paymentMethod": "STRIPE", "stripePaymentMethodId": "pm_card_visa" }),
            "invoiceEmail",
        ),
    ] {
        let mut input = shop.on_paper("does-not-go");
        for (field, value) in change.as_object().unwrap() {
            input[field] = value.clone();
        }
        let refused = buys(&shop.hotel.admin, input).await;
        assert_eq!(refused["userErrors"][0]["code"], "INVALID_INPUT", "{change}: {refused}");
        assert_eq!(refused["userErrors"][0]["field"], json!(["input", field]), "{change}");
    }
    assert_eq!(shop.number("SELECT COUNT(*) AS number FROM credit_purchases").await, 0);
}

#[tokio::test]
async fn the_sandbox_sends_invoices_that_are_paid_at_the_next_look_or_never() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let package = super::package(&app, json!({})).await;
    for (email, expected) in [("keiri@ryokan.test", "COMPLETED"), ("unpaid@ryokan.test", "PENDING")]
    {
        let input = json!({ "packageId": package, "paymentMethod": "INVOICE",
            "invoiceEmail": email, "idempotencyKey": format!("sandbox-{email}") });
        let made = buys(&hotel.admin, input.clone()).await;
        assert_eq!(made["purchase"]["status"], "PENDING", "{made}");
        assert_eq!(buys(&hotel.admin, input).await["purchase"]["status"], expected);
    }
    assert_eq!(hotel.balance().await, (500, 0));
    assert_eq!(app.drifts().await, Vec::<String>::new());
}
