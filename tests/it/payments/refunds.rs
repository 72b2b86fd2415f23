//! Money that goes back takes what is unspent of its credits along, whether it was asked for here
//! or made at Stripe.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{Receipt, Shop, TimeDelta, deliver};
use crate::credits;
use crate::support::people::Person;
use crate::support::stripe::Fault;

const REFUNDS: &str = "POST /refunds";
const LISTED: &str = "GET /refunds";

impl Shop {
    /// The payload of a refund by a platform admin.
    pub(super) async fn gives_back(&self, purchase: &Value, key: &str, change: Value) -> Value {
        let root = self.app.platform_admin(None).await;
        self.refunds_as(&root, purchase, (key, change)).await
    }

    /// The payload of a refund by this platform admin.
    async fn refunds_as(
        &self,
        root: &Person,
        purchase: &Value,
        (key, change): (&str, Value),
    ) -> Value {
        let mut input = json!({ "tenantId": self.hotel.id.to_string(), "purchaseId": purchase,
            "idempotencyKey": key });
        for (field, value) in change.as_object().unwrap() {
            input[field] = value.clone();
        }
        let query = "mutation ($input: CreditPurchaseRefundInput!) {
            creditPurchaseRefund(input: $input) {
                refund { id purchaseId status credits amount { amount currency } reason
                    stripeRefundId failureReason }
                balance { current held } userErrors { code field message } } }";
        let reply = root.gets(query, json!({ "input": input })).await;
        reply["creditPurchaseRefund"].clone()
    }

    /// A purchase's status, what went back of it, and its refunds.
    async fn refunded(&self, id: &Value) -> (String, String, Vec<Value>) {
        let query = "query ($id: ID!) { creditPurchase(id: $id) { status refunded { amount }
            refunds { status credits amount { amount } reason failureReason } } }";
        let found = self.hotel.admin.gets(query, json!({ "id": id })).await;
        let purchase = &found["creditPurchase"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let refunds = purchase["refunds"].as_array().unwrap().clone();
        (text(&purchase["status"]), text(&purchase["refunded"]["amount"]), refunds)
    }

    /// Buys the package; the purchase's id and the payment's.
    async fn sold(&self, key: &str) -> (Value, String) {
        let done = self.buys(key, json!({})).await;
        let intent = done["purchase"]["paymentIntentId"].as_str().unwrap().to_owned();
        (done["purchase"]["id"].clone(), intent)
    }

    /// Everything that Stripe has told of charges and refunds, in this order.
    async fn hears_of_refunds(&self, turned: bool) {
        let mut events = self.stripe.events();
        events.retain(|event| event["type"].as_str().unwrap().contains("refund"));
        if turned {
            events.reverse();
        }
        for event in events.iter().chain(&events) {
            assert!(matches!(deliver(&self.app.app, event).await, Receipt::Kept | Receipt::Known));
            self.works().await;
        }
    }
}

fn codes(done: &Value) -> Vec<&str> {
    let errors = done["userErrors"].as_array().unwrap();
    errors.iter().map(|error| error["code"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_refund_takes_its_share_of_the_credits_once_in_any_order() {
    for order in [[0, 1], [1, 0]] {
        let shop = Shop::open().await;
        let (id, intent) = shop.sold("to-be-refunded").await;
        let told = [100, 200].map(|amount| shop.stripe.refunds_there(&intent, amount));
        for place in order {
            for _ in 0..2 {
                deliver(&shop.app.app, &told[place]).await;
                shop.works().await;
            }
        }
        shop.hears_of_refunds(order[0] == 1).await;
        assert_eq!(shop.hotel.balance().await, (200, 0), "{order:?}");
        assert_eq!(shop.purchase(&id).await["status"], "COMPLETED");
        shop.hears(&shop.stripe.refunds_there(&intent, 200)).await;
        assert_eq!(shop.purchase(&id).await["status"], "REFUNDED");
        // Late news of the payment changes nothing any more.
        shop.hears(&shop.stripe.event("payment_intent.succeeded")).await;
        assert_eq!(shop.confirms(&id).await["purchase"]["status"], "REFUNDED");
        let (_, refunded, refunds) = shop.refunded(&id).await;
        assert_eq!((refunded.as_str(), refunds.len()), ("500", 3));
        assert_eq!(refunds[0]["reason"], Value::Null, "nobody asked for it here");
        shop.adds_up(0, 1).await;
    }
}

#[tokio::test]
async fn a_refund_takes_no_more_than_is_unspent() {
    let shop = Shop::open().await;
    let (id, intent) = shop.sold("partly-spent").await;
    shop.hotel.user.executes("こんにちは", "spends-a-little").await;
    let left = shop.hotel.balance().await.0;
    assert!(left < 500);

    shop.hears(&shop.stripe.refunds_there(&intent, 500)).await;

    assert_eq!(shop.refunded(&id).await.2[0]["credits"], json!(left));
    shop.adds_up(0, 1).await;
}

#[tokio::test]
async fn a_refund_told_before_its_payment_waits_for_it() {
    let shop = Shop::open().await;
    let asked = shop.buys_with("the-bank-asks", "pm_card_authenticationRequired").await;
    let intent = asked["purchase"]["paymentIntentId"].as_str().unwrap();
    shop.stripe.authenticate(intent, true);
    shop.hears(&shop.stripe.refunds_there(intent, 500)).await;
    assert_eq!(shop.purchase(&asked["purchase"]["id"]).await["status"], "REQUIRES_ACTION");

    shop.hears(&shop.stripe.event("payment_intent.succeeded")).await;
    shop.app.clock.advance(TimeDelta::seconds(10));
    shop.works().await;

    assert_eq!(shop.purchase(&asked["purchase"]["id"]).await["status"], "REFUNDED");
    shop.adds_up(0, 1).await;
}

#[tokio::test]
async fn a_refund_that_is_not_as_recorded_takes_nothing_and_alarms() {
    let shop = Shop::open().await;
    let (_, intent) = shop.sold("not-refunded-at-all").await;
    let known = |differs: &str| ("PAYMENT_MISMATCH".to_owned(), json!([differs]));
    for (field, value, differs) in [
        ("amount", json!(501), "amount"),
        ("currency", json!("usd"), "currency"),
        ("livemode", json!(true), "livemode"),
        ("payment_intent", json!("pi_of_somebody"), "payment"),
    ] {
        let mut charge = shop.stripe.charge(&intent);
        charge[field] = value;
        let before = shop.alerts().await.len();
        shop.hears(&shop.stripe.makes_event("charge.refunded", &charge)).await;
        let alerts = shop.alerts().await;
        assert!(alerts.contains(&known(differs)) && alerts.len() > before, "{field}: {alerts:?}");
    }
    let event = shop.stripe.refunds_there(&intent, 500);
    let refund = shop.stripe.refunds()[0]["id"].as_str().unwrap().to_owned();
    shop.stripe.change_refund(&refund, |refund| refund["amount"] = json!(501));
    shop.hears(&event).await;
    shop.stripe.change_refund(&refund, |refund| refund["currency"] = json!("usd"));
    shop.hears(&shop.stripe.makes_event("charge.refunded", &shop.stripe.charge(&intent))).await;
    let of_refund = shop.alerts().await.into_iter().skip(4).collect::<Vec<_>>();
    assert_eq!(of_refund[0], known("amount"));
    assert!(of_refund.len() == 2, "{of_refund:?}");
    shop.adds_up(500, 1).await;
}

#[tokio::test]
async fn what_is_unspent_goes_back_at_its_price_and_the_same_key_gives_once() {
    let shop = Shop::open().await;
    let (id, _) = shop.sold("half-liked").await;
    shop.hotel.user.executes("こんにちは", "one-question").await;
    let left = shop.hotel.balance().await.0;

    let root = shop.app.platform_admin(None).await;
    let done = shop.refunds_as(&root, &id, ("money-back", json!({}))).await;

    assert_eq!(codes(&done), Vec::<&str>::new(), "{done}");
    let refund = &done["refund"];
    assert_eq!(refund["status"], "SUCCEEDED");
    assert_eq!(refund["amount"], json!({ "amount": left.to_string(), "currency": "JPY" }));
    assert_eq!((&refund["credits"], &refund["purchaseId"]), (&json!(left), &id));
    assert_eq!(done["balance"], json!({ "current": 0, "held": 0 }));
    let asked = shop.stripe.asked(REFUNDS);
    assert_eq!(asked[0].key.as_deref(), refund["id"].as_str());
    assert_eq!(asked[0].form.get("amount"), Some(&*left.to_string()));
    assert_eq!(shop.stripe.refunds()[0]["id"], refund["stripeRefundId"]);

    let again = shop.refunds_as(&root, &id, ("money-back", json!({}))).await;
    assert_eq!(again["refund"]["id"], refund["id"]);
    let other = shop.refunds_as(&root, &id, ("money-back", json!({ "credits": 1 }))).await;
    assert_eq!(codes(&other), ["IDEMPOTENCY_CONFLICT"], "{other}");
    // What Stripe tells of it is known, in any order.
    shop.hears_of_refunds(true).await;
    assert_eq!(shop.stripe.refunds().len(), 1);
    let (status, refunded, refunds) = shop.refunded(&id).await;
    assert_eq!((status.as_str(), refunded), ("COMPLETED", left.to_string()));
    assert_eq!(refunds.len(), 1);
    assert_eq!(refunds[0]["reason"], "REQUESTED_BY_CUSTOMER");
    // Nothing is left that could go back.
    let more = shop.gives_back(&id, "more-money", json!({})).await;
    assert_eq!(codes(&more), ["INVALID_STATE"]);
    shop.adds_up(0, 1).await;
}

#[tokio::test]
async fn a_part_goes_back_and_what_running_calls_hold_stays() {
    let shop = Shop::open().await;
    let (id, _) = shop.sold("in-parts").await;
    let part = json!({ "credits": 120, "reason": "DUPLICATE" });
    let done = shop.gives_back(&id, "a-part-of-it", part).await;
    assert_eq!(done["refund"]["amount"]["amount"], "120");
    assert_eq!(shop.stripe.refunds()[0]["reason"], "duplicate");

    let job = credits::hold(&shop.app.app, &shop.hotel, 300).await;
    let too_much = shop.gives_back(&id, "more-than-free", json!({ "credits": 81 })).await;
    assert_eq!(codes(&too_much), ["INVALID_STATE"], "{too_much}");
    assert_eq!(too_much["userErrors"][0]["field"], json!(["input", "credits"]));
    let none = shop.gives_back(&id, "none-of-it", json!({ "credits": 0 })).await;
    assert_eq!(codes(&none), ["INVALID_INPUT"], "{none}");
    assert_eq!(shop.hotel.balance().await, (380, 300), "a refusal takes nothing");
    let rest = shop.gives_back(&id, "what-is-free", json!({})).await;
    assert_eq!(rest["refund"]["credits"], 80);
    credits::release(&shop.app.app, &job).await;
    assert_eq!(shop.gives_back(&id, "all-of-it", json!({})).await["refund"]["credits"], 300);
    let (status, refunded, refunds) = shop.refunded(&id).await;
    assert_eq!((status.as_str(), refunded.as_str(), refunds.len()), ("REFUNDED", "500", 3));
    let over = shop.gives_back(&id, "once-too-often", json!({})).await;
    assert_eq!(codes(&over), ["INVALID_STATE"]);
    shop.adds_up(0, 1).await;
}

#[tokio::test]
async fn what_is_not_paid_or_disputed_does_not_go_back() {
    let shop = Shop::open().await;
    let declined = shop.buys_with("not-paid", "pm_card_chargeDeclined").await;
    let refused = shop.gives_back(&declined["purchase"]["id"], "for-nothing", json!({})).await;
    assert_eq!(codes(&refused), ["INVALID_STATE"], "{refused}");
    let (id, intent) = shop.sold("disputed").await;
    shop.stripe.dispute(&intent, 200, "needs_response");

    // We have not heard of the dispute yet: Stripe refuses, and the credits come back.
    let root = shop.app.platform_admin(None).await;
    let failed = shop.refunds_as(&root, &id, ("too-late", json!({}))).await;
    assert_eq!(codes(&failed), ["PAYMENT_FAILED"], "{failed}");
    assert_eq!(failed["refund"]["status"], "FAILED");
    assert_eq!(failed["refund"]["credits"], 0);
    let why = failed["refund"]["failureReason"].as_str().unwrap();
    assert_eq!(why, "charge_disputed");
    shop.adds_up(500, 1).await;
    let kinds: Vec<String> = shop.alerts().await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["REFUND_FAILED"]);
    let again = shop.refunds_as(&root, &id, ("too-late", json!({}))).await;
    assert_eq!(again["refund"]["id"], failed["refund"]["id"]);

    shop.hears(&shop.stripe.event("charge.dispute.created")).await;
    let refused = shop.gives_back(&id, "even-later", json!({})).await;
    assert_eq!(codes(&refused), ["INVALID_STATE"]);
    shop.adds_up(300, 1).await;
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_and_money_goes_back_once() {
    let refused = Fault::Status(500, Some(false));
    let lost = [Fault::Silence, Fault::SilenceAfter, Fault::ResetAfter].map(|fault| (fault, 3));
    for (fault, attempts) in lost.into_iter().chain([(refused, 1)]) {
        let shop = Shop::open_within(Some(std::time::Duration::from_millis(400))).await;
        let (id, _) = shop.sold("lost-answer").await;
        for _ in 0..attempts {
            shop.stripe.fails(REFUNDS, fault.clone());
        }

        let done = shop.gives_back(&id, "no-answer", json!({})).await;

        assert_eq!(done["refund"]["status"], "PENDING", "{fault:?}: {done}");
        assert_eq!(done["balance"]["current"], 0, "the credits go first");
        let other = shop.gives_back(&id, "meanwhile", json!({})).await;
        assert_eq!(codes(&other), ["INVALID_STATE"]);
        shop.reconciles_after(TimeDelta::minutes(5)).await;
        assert_eq!(shop.refunded(&id).await.2[0]["status"], "SUCCEEDED", "{fault:?}");
        shop.hears_of_refunds(false).await;
        assert_eq!(shop.stripe.refunds().len(), 1);
        shop.adds_up(0, 1).await;
    }
}

#[tokio::test]
async fn when_stripe_has_forgotten_the_key_its_list_decides() {
    for (fault, status, left) in
        [(Fault::Silence, "FAILED", 500), (Fault::SilenceAfter, "SUCCEEDED", 0)]
    {
        let shop = Shop::open_within(Some(std::time::Duration::from_millis(400))).await;
        let (id, _) = shop.sold("forgotten-key").await;
        for _ in 0..3 {
            shop.stripe.fails(REFUNDS, fault.clone());
        }
        shop.gives_back(&id, "no-answer", json!({})).await;
        let asked = shop.stripe.asked(REFUNDS).len();

        shop.reconciles_after(TimeDelta::hours(21)).await;

        assert_eq!(shop.stripe.asked(REFUNDS).len(), asked, "it would be a second one");
        assert_eq!(shop.refunded(&id).await.2[0]["status"], status);
        shop.adds_up(left, 1).await;
    }
}

#[tokio::test]
async fn the_webhook_may_be_faster_than_the_answer() {
    let shop = Shop::open().await;
    let (id, _) = shop.sold("slow-answer").await;
    shop.stripe.fails(REFUNDS, Fault::WaitAfter);
    let asks = shop.gives_back(&id, "slow-answer-key", json!({}));
    let hears = async {
        let is_there = async {
            while shop.stripe.refunds().is_empty() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), is_there).await.unwrap();
        shop.hears_of_refunds(false).await;
        assert_eq!(shop.refunded(&id).await.2[0]["status"], "SUCCEEDED");
        shop.stripe.open_gate();
    };
    let (done, ()) = tokio::join!(asks, hears);
    assert_eq!(done["refund"]["status"], "SUCCEEDED", "{done}");
    assert_eq!(shop.refunded(&id).await.2.len(), 1);
    shop.adds_up(0, 1).await;
}

#[tokio::test]
async fn a_refund_that_fails_days_later_gives_the_credits_back() {
    let shop = Shop::open().await;
    let slow = shop.buys_with("slow-bank", "pm_card_pendingRefund").await;
    let id = &slow["purchase"]["id"];
    let done = shop.gives_back(id, "on-its-way", json!({})).await;
    assert_eq!(done["refund"]["status"], "PENDING");
    let refund = done["refund"]["stripeRefundId"].as_str().unwrap();
    assert_eq!(shop.purchase(id).await["status"], "REFUNDED");

    // Nobody tells of its end; Stripe is asked.
    let ended = shop.stripe.ends_refund(refund, "succeeded", None);
    shop.reconciles_after(TimeDelta::hours(2)).await;
    assert_eq!(shop.refunded(id).await.2[0]["status"], "SUCCEEDED");
    let failed = shop.stripe.ends_refund(refund, "failed", Some("expired_or_canceled_card"));
    shop.hears(&failed).await;
    assert_eq!(deliver(&shop.app.app, &ended).await, Receipt::Known, "the list told it");
    shop.hears_of_refunds(true).await;

    let (status, refunded, refunds) = shop.refunded(id).await;
    assert_eq!((status.as_str(), refunded.as_str()), ("COMPLETED", "0"));
    assert_eq!(refunds[0]["failureReason"], "expired_or_canceled_card");
    let kinds: Vec<String> = shop.alerts().await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["REFUND_FAILED"]);
    shop.adds_up(500, 1).await;
}

#[tokio::test]
async fn many_at_once_give_back_what_there_is() {
    let shop = Shop::open().await;
    let (id, _) = shop.sold("many-at-once").await;
    let keys: Vec<String> = (0..12).map(|number| format!("at-once-{number}")).collect();
    let wish = |number: usize| {
        if number.is_multiple_of(2) { json!({ "credits": 200 }) } else { json!({}) }
    };
    let all = keys.iter().enumerate().map(|(at, key)| shop.gives_back(&id, key, wish(at)));
    let done = join_all(all).await;
    let (given, refused): (Vec<_>, Vec<_>) = done.iter().partition(|done| codes(done).is_empty());
    assert!(!given.is_empty() && refused.iter().all(|done| codes(done) == ["INVALID_STATE"]));
    let amount = |refund: &Value| refund["amount"].as_i64().unwrap();
    let back: i64 = shop.stripe.refunds().iter().map(amount).sum();
    assert!(0 < back && back <= 500);
    shop.hears_of_refunds(true).await;
    shop.adds_up(500 - back, 1).await;
    assert_eq!(shop.refunded(&id).await.1, back.to_string());
}

#[tokio::test]
async fn of_ours_and_one_made_at_stripe_at_the_same_time_stripe_decides() {
    let shop = Shop::open().await;
    let (id, intent) = shop.sold("both-ways").await;
    shop.stripe.fails(REFUNDS, Fault::Status(500, Some(false)));
    let ours = shop.gives_back(&id, "not-answered", json!({})).await;
    assert_eq!(ours["refund"]["status"], "PENDING", "{ours}");

    // It takes all before ours comes.
    shop.hears(&shop.stripe.refunds_there(&intent, 500)).await;
    assert_eq!(shop.refunded(&id).await.2.len(), 1, "it waits for the answer to ours");
    shop.reconciles_after(TimeDelta::minutes(5)).await;
    shop.passes(TimeDelta::minutes(30));
    shop.works().await;

    let (status, refunded, refunds) = shop.refunded(&id).await;
    assert_eq!((status.as_str(), refunded.as_str()), ("REFUNDED", "500"));
    let mut ends: Vec<&str> = refunds.iter().map(|it| it["status"].as_str().unwrap()).collect();
    ends.sort_unstable();
    assert_eq!(ends, ["FAILED", "SUCCEEDED"]);
    assert_eq!(shop.stripe.refunds().len(), 1);
    shop.adds_up(0, 1).await;
}

#[tokio::test]
async fn a_refusal_counts_only_when_stripe_lists_no_refund() {
    let shop = Shop::open_within(Some(std::time::Duration::from_millis(400))).await;
    let (id, _) = shop.sold("another-key").await;
    for _ in 0..3 {
        shop.stripe.fails(REFUNDS, Fault::SilenceAfter);
    }
    shop.gives_back(&id, "made-and-not-told", json!({ "credits": 200 })).await;
    // Our key at Stripe may neither write nor read refunds any more.
    shop.stripe.fails(REFUNDS, Fault::Status(403, None)).fails(LISTED, Fault::Status(403, None));
    shop.reconciles_after(TimeDelta::minutes(5)).await;
    assert_eq!(shop.refunded(&id).await.2[0]["status"], "PENDING", "nobody knows");
    let kinds: Vec<String> = shop.alerts().await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["REFUND_FAILED"]);

    shop.stripe.fails(REFUNDS, Fault::Status(403, None));
    shop.reconciles_after(TimeDelta::minutes(5)).await;
    assert_eq!(shop.refunded(&id).await.2[0]["status"], "SUCCEEDED", "the list told it");
    assert_eq!(shop.stripe.refunds().len(), 1);
    shop.adds_up(300, 1).await;
}

#[tokio::test]
async fn money_that_went_back_at_stripe_waits_for_credits_that_running_calls_hold() {
    let shop = Shop::open().await;
    let (id, intent) = shop.sold("held-by-a-call").await;
    let job = credits::hold(&shop.app.app, &shop.hotel, 400).await;
    shop.hears(&shop.stripe.refunds_there(&intent, 500)).await;
    assert_eq!(shop.hotel.balance().await, (400, 400));
    let none = shop.gives_back(&id, "nothing-is-free", json!({})).await;
    assert_eq!(codes(&none), ["INVALID_STATE"]);

    credits::release(&shop.app.app, &job).await;

    assert_eq!(shop.refunded(&id).await.2[0]["credits"], 500);
    shop.adds_up(0, 1).await;
}

#[tokio::test]
async fn a_dispute_heard_before_the_refusal_of_a_refund_takes_what_comes_back() {
    let shop = Shop::open().await;
    let (id, intent) = shop.sold("dispute-beside-it").await;
    shop.stripe.fails(REFUNDS, Fault::Status(500, Some(false)));
    let ours = shop.gives_back(&id, "not-answered", json!({})).await;
    assert_eq!(ours["refund"]["status"], "PENDING", "{ours}");
    let dispute = shop.stripe.dispute(&intent, 500, "needs_response");
    shop.hears(&shop.stripe.event("charge.dispute.created")).await;
    shop.adds_up(0, 1).await;

    shop.reconciles_after(TimeDelta::minutes(5)).await;

    assert_eq!(shop.refunded(&id).await.2[0]["status"], "FAILED");
    assert_eq!(shop.refunded(&id).await.0, "DISPUTED");
    shop.adds_up(0, 1).await;
    shop.stripe.decide(&dispute, "won", "charge.dispute.closed");
    shop.hears(&shop.stripe.event("charge.dispute.closed")).await;
    shop.adds_up(500, 1).await;
}

#[tokio::test]
async fn a_refund_behind_one_that_fails_takes_what_that_leaves() {
    let shop = Shop::open().await;
    let (id, intent) = shop.sold("one-behind-another").await;
    let first = shop.stripe.refunds_there(&intent, 300);
    shop.hears(&first).await;
    let job = credits::hold(&shop.app.app, &shop.hotel, 200).await;
    credits::settle(&shop.app.app, &job, 200).await;
    // All is spent or gone: this one is a gift.
    shop.hears(&shop.stripe.refunds_there(&intent, 200)).await;
    assert_eq!(shop.refunded(&id).await.2[1]["credits"], 0);
    let refund = shop.stripe.refunds()[0]["id"].as_str().unwrap().to_owned();

    shop.hears(&shop.stripe.ends_refund(&refund, "failed", Some("declined"))).await;

    let (status, refunded, refunds) = shop.refunded(&id).await;
    assert_eq!((status.as_str(), refunded.as_str()), ("COMPLETED", "200"));
    assert_eq!((&refunds[0]["credits"], &refunds[1]["credits"]), (&json!(0), &json!(200)));
    shop.adds_up(100, 1).await;
}

#[tokio::test]
async fn a_refund_behind_two_disputes_takes_what_each_leaves() {
    let shop = Shop::open().await;
    let (_, intent) = shop.sold("two-disputes").await;
    let disputes = [300, 200].map(|amount| {
        let dispute = shop.stripe.dispute(&intent, amount, "needs_response");
        (dispute, shop.stripe.events().pop().unwrap())
    });
    for (_, event) in &disputes {
        shop.hears(event).await;
    }
    shop.hears(&shop.stripe.refunds_there(&intent, 300)).await;
    shop.adds_up(0, 1).await;
    for ((dispute, _), left) in disputes.iter().rev().zip([0, 200]) {
        shop.stripe.decide(dispute, "won", "charge.dispute.closed");
        shop.hears(&shop.stripe.events().pop().unwrap()).await;
        shop.adds_up(left, 1).await;
    }
}
