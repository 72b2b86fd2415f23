//! What is refused: two at once, what is not as recorded, what others decide.

use musubi::entity::plan::PlanType::{Essential, Professional};
use serde_json::{Value, json};

use super::{Inn, asks, does, refused};
use crate::support::stripe::Fault;

#[tokio::test]
async fn two_who_subscribe_at_once_have_one_subscription() {
    let mut inn = Inn::open().await;
    let (one, two) = tokio::join!(
        inn.subscribes("ESSENTIAL", "by-one-of-them"),
        inn.subscribes("PROFESSIONAL", "by-the-other-one"),
    );
    let done = [&one, &two].into_iter().filter(|payload| payload["userErrors"] == json!([]));
    assert_eq!(done.count(), 1, "{one} {two}");
    assert_eq!(inn.stripe.subscriptions().len(), 1);
    refused(&inn.subscribes("ESSENTIAL", "once-more-later").await, "INVALID_STATE");
    inn.hears().await;
    assert_eq!(inn.number("SELECT COUNT(*) AS number FROM tenant_subscriptions").await, 1);
}

#[tokio::test]
async fn the_same_key_subscribes_once_however_often_and_at_once() {
    let inn = Inn::open().await;
    let asked = (0..8).map(|_| inn.subscribes("ESSENTIAL", "the-same-key"));
    let told = futures_util::future::join_all(asked).await;
    for payload in &told {
        assert_eq!(payload["userErrors"], json!([]), "{payload}");
    }
    let after = inn.subscribes("ESSENTIAL", "the-same-key").await;
    assert_eq!(after["subscription"]["stripeSubscriptionId"], inn.id());
    let other = inn.subscribes("PROFESSIONAL", "the-same-key").await;
    refused(&other, "IDEMPOTENCY_CONFLICT");
    assert_eq!(inn.stripe.subscriptions().len(), 1);
}

#[tokio::test]
async fn input_that_cannot_be_is_refused_with_its_field() {
    let inn = Inn::open().await;
    for card in ["4242424242424242", "pm_ 1", "tok_visa", "", "pm_\u{0}"] {
        let input = json!({ "planType": "ESSENTIAL", "stripePaymentMethodId": card,
            "idempotencyKey": "a-key-for-this" });
        let reply = does(&inn.hotel, "planSubscribe", Some(input)).await;
        refused(&reply, "INVALID_INPUT");
        assert_eq!(reply["userErrors"][0]["field"][1], "stripePaymentMethodId", "{reply}");
    }
    refused(&inn.subscribes("ESSENTIAL", "short").await, "INVALID_INPUT");
    for field in ["planCancel", "planResume", "planSubscriptionConfirm"] {
        refused(&inn.does(field, None).await, "NOT_FOUND");
    }
    refused(&inn.changes("ESSENTIAL", "nothing-to-change").await, "NOT_FOUND");
    let preview = inn.previews("ENTERPRISE").await;
    assert_eq!(preview["errors"][0]["extensions"]["code"], "NOT_FOUND", "{preview}");
    assert_eq!(inn.sees().await, Value::Null);
    assert_eq!(inn.stripe.customers(), 0);
}

#[tokio::test]
async fn a_card_of_somebody_else_begins_nothing() {
    let inn = Inn::open().await;
    let input = json!({ "planType": "ESSENTIAL", "stripePaymentMethodId": "pm_of_somebody_else",
        "idempotencyKey": "with-a-borrowed-card" });
    let reply = does(&inn.hotel, "planSubscribe", Some(input.clone())).await;
    refused(&reply, "PAYMENT_FAILED");
    assert_eq!(reply["subscription"]["status"], "FAILED");
    refused(&does(&inn.hotel, "planSubscribe", Some(input)).await, "PAYMENT_FAILED");
    // Another key begins anew.
    let begun = inn.subscribes("ESSENTIAL", "with-a-card-of-mine").await;
    assert_eq!(begun["subscription"]["status"], "INCOMPLETE", "{begun}");
}

#[tokio::test]
async fn a_subscription_that_is_not_as_recorded_changes_nothing_and_alarms() {
    type Change = fn(&mut Value, &str);
    let cases: [(&str, Change); 6] = [
        ("livemode", |it, _| it["livemode"] = json!(true)),
        ("customer", |it, _| it["customer"] = json!("cus_of_somebody_else")),
        ("tenant", |it, other| it["metadata"]["musubi_tenant"] = json!(other)),
        ("price", |it, _| it["items"]["data"][0]["price"]["unit_amount"] = json!(78)),
        ("price", |it, _| it["items"]["data"][0]["price"]["recurring"]["interval"] = json!("year")),
        ("lines", |it, _| it["items"]["data"][0]["quantity"] = json!(2)),
    ];
    for (differs, change) in cases {
        let mut inn = Inn::open().await;
        let stranger = inn.app.hotel().await;
        inn.subscribes("PROFESSIONAL", "to-be-changed-later").await;
        inn.hears().await;
        let right = inn.stripe.subscriptions().remove(0);
        inn.stripe.pays_open_invoice(&inn.id());
        let other = stranger.id.to_string();
        inn.stripe.change_subscription(&inn.id(), |it| change(it, &other));
        inn.hears().await;
        inn.reconciles().await;

        let alert = ("SUBSCRIPTION_MISMATCH".to_owned(), json!([differs]));
        assert_eq!(inn.alerts().await, [alert], "{differs}");
        assert_eq!(inn.sees().await["status"], "INCOMPLETE", "{differs}");
        assert_eq!(stranger.balance().await, (0, 0));
        inn.has(Essential, None, 200).await;

        // What is right counts after all.
        inn.stripe.change_subscription(&inn.id(), |it| {
            *it = right;
            it["status"] = json!("active");
        });
        inn.does("planSubscriptionConfirm", None).await;
        inn.has(Professional, None, 1_000).await;
    }
}

#[tokio::test]
async fn a_price_of_stripes_is_used_when_the_plan_has_one_and_must_be_its_amount() {
    for (amount, status) in [(7_800, "INCOMPLETE"), (780, "PENDING")] {
        let inn = Inn::open().await;
        inn.stripe.has_price("price_essential", amount);
        let root = inn.app.platform_admin(None).await;
        let update = |price: &str| {
            format!(
                "mutation {{ it: planUpdate(input: {{ planType: ESSENTIAL, priceYen: 7800,
                 monthlyFreeCredits: 200, carryOver: ALL, stripePriceId: \"{price}\" }}) {{
                 plan {{ stripePriceId }} userErrors {{ code field }} }} }}"
            )
        };
        let wrong = root.gets(&update("prod_1"), json!({})).await["it"].clone();
        refused(&wrong, "INVALID_INPUT");
        let set = root.gets(&update("price_essential"), json!({})).await["it"].clone();
        assert_eq!(set["plan"]["stripePriceId"], "price_essential");
        let seen = inn.hotel.admin.gets("{ plans { stripePriceId } }", json!({})).await;
        assert!(seen["plans"].as_array().unwrap().iter().all(|it| it["stripePriceId"].is_null()));

        let begun = inn.subscribes("ESSENTIAL", "at-a-price-of-stripes").await;
        assert_eq!(begun["subscription"]["status"], status, "{begun}");
        assert_eq!(begun["subscription"]["clientSecret"].is_string(), amount == 7_800);
        let asked = inn.stripe.asked("POST /subscriptions");
        assert_eq!(asked[0].form.get("items[0][price]"), Some("price_essential"));
        assert_eq!(inn.alerts().await.len(), usize::from(amount != 7_800));
        assert!(inn.stripe.asked("POST /products").is_empty());
    }
}

#[tokio::test]
async fn a_platform_admin_sets_no_plan_that_is_paid_for() {
    let mut inn = Inn::open().await;
    let root = inn.app.platform_admin(None).await;
    let tenant = inn.hotel.id.to_string();
    let set = async |plan: &str| {
        let query = "mutation ($tenant: ID!, $plan: PlanType!) { it: tenantPlanSet(input: {
            tenantId: $tenant, planType: $plan }) { userErrors { code message } } }";
        let variables = json!({ "tenant": tenant, "plan": plan });
        root.gets(query, variables).await["it"].clone()
    };
    inn.subscribes("PROFESSIONAL", "while-it-is-not-paid").await;
    assert_eq!(set("ESSENTIAL").await["userErrors"], json!([]));
    inn.stripe.pays_open_invoice(&inn.id());
    inn.hears().await;
    refused(&set("ENTERPRISE").await, "INVALID_STATE");
    inn.has(Professional, None, 1_000).await;
    inn.does("planCancel", None).await;
    inn.time_is("2026-12-21T03:00:01Z");
    inn.stripe.month_ends(&inn.id(), true);
    inn.hears().await;
    assert_eq!(set("ENTERPRISE").await["userErrors"], json!([]));
}

#[tokio::test]
async fn another_tenants_subscription_is_not_shown_and_not_touched() {
    let inn = Inn::subscribed("PROFESSIONAL").await;
    let stranger = inn.app.hotel().await;
    for field in ["planCancel", "planResume", "planSubscriptionConfirm"] {
        refused(&does(&stranger, field, None).await, "NOT_FOUND");
    }
    let query = "query ($id: ID!) { node(id: $id) { ... on Tenant { subscription { status } } } }";
    let reply = stranger.admin.asks(query, json!({ "id": inn.hotel.id.to_string() })).await;
    assert!(!reply.to_string().contains("ACTIVE"), "{reply}");
    let reply = inn.hotel.manager.asks(query, json!({ "id": inn.hotel.id.to_string() })).await;
    assert_eq!(reply["errors"][0]["extensions"]["code"], "FORBIDDEN", "{reply}");
    assert_eq!(inn.sees().await["cancelAtPeriodEnd"], false);
}

#[tokio::test]
async fn a_preview_that_stripe_does_not_answer_changes_nothing() {
    let inn = Inn::subscribed("ESSENTIAL").await;
    for _ in 0..3 {
        inn.stripe.fails("POST /invoices/create_preview", Fault::Status(503, None));
    }
    let reply = inn.previews("ENTERPRISE").await;
    assert_eq!(reply["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{reply}");
    let preview = inn.previews("ENTERPRISE").await["data"]["it"].clone();
    assert_eq!(preview["dueNow"]["amount"], "42000");
    let input = json!({ "planType": "ENTERPRISE", "idempotencyKey": "as-it-was-shown" });
    asks(&inn.hotel, "planChange", Some(input)).await;
    assert_eq!(inn.stripe.paid_invoices(), [7_800, 42_000]);
}
