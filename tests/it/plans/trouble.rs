//! Answers that are lost, webhooks that never come, tenants that are closed meanwhile.

use chrono::TimeDelta;
use musubi::entity::plan::PlanType::{Enterprise, Essential, Professional};
use serde_json::{Value, json};

use super::{Inn, asks, instant, refused};
use crate::support::stripe::Fault;

#[tokio::test]
async fn a_bill_that_is_paid_after_its_plan_had_ended_alarms_and_brings_nothing() {
    let mut inn = Inn::subscribed("PROFESSIONAL").await;
    inn.time_is("2026-12-21T03:00:01Z");
    inn.stripe.month_ends(&inn.id(), false);
    inn.hears().await;
    inn.does("planCancel", None).await;
    assert_eq!(inn.stripe.subscriptions()[0]["status"], "canceled");
    inn.time_passes(TimeDelta::minutes(1));

    inn.stripe.pays_open_invoice(&inn.id());
    inn.hears().await;

    let ungranted = inn.alerts().await.into_iter().filter(|(kind, _)| kind == "PAYMENT_UNGRANTED");
    assert_eq!(ungranted.count(), 1);
    let open = "SELECT COUNT(*) AS number FROM tenant_subscriptions WHERE ended_at IS NULL";
    assert_eq!(inn.number(open).await, 0);
}

#[tokio::test]
async fn an_answer_that_was_lost_is_found_under_the_same_key() {
    let mut inn = Inn::open().await;
    for _ in 0..3 {
        inn.stripe.fails("POST /subscriptions", Fault::ResetAfter);
    }
    let lost = inn.subscribes("PROFESSIONAL", "lost-on-its-way").await;
    assert_eq!(lost["subscription"]["status"], "PENDING", "{lost}");
    assert_eq!(inn.stripe.subscriptions().len(), 1);
    let found = inn.subscribes("PROFESSIONAL", "lost-on-its-way").await;
    assert_eq!(found["subscription"]["status"], "INCOMPLETE", "{found}");
    assert_eq!(inn.stripe.subscriptions().len(), 1);
    inn.stripe.pays_open_invoice(&inn.id());
    inn.hears().await;
    inn.has(Professional, None, 1_000).await;
}

#[tokio::test]
async fn what_nobody_told_is_found_by_the_reconciler() {
    let inn = Inn::open().await;
    for _ in 0..3 {
        inn.stripe.fails("POST /subscriptions", Fault::ResetAfter);
    }
    inn.subscribes("PROFESSIONAL", "lost-for-ever").await;
    inn.stripe.pays_open_invoice(&inn.id());
    inn.time_passes(TimeDelta::minutes(6));
    assert_eq!(inn.reconciles().await, "1 subscriptions, 0 ended, 0 not answered");
    inn.has(Professional, None, 1_000).await;
    // The renewal, too, without any event.
    inn.time_is("2026-12-21T03:30:00Z");
    inn.stripe.month_ends(&inn.id(), true);
    inn.reconciles().await;
    assert_eq!(inn.sees().await["currentPeriodEnd"], "2027-01-21T03:00:00Z");
    // Who looked a moment ago looks at nothing.
    assert_eq!(inn.reconciles().await, "0 subscriptions, 0 ended, 0 not answered");
}

#[tokio::test]
async fn what_stripe_never_got_is_given_up_and_another_can_begin() {
    let inn = Inn::open().await;
    for _ in 0..3 {
        inn.stripe.fails("POST /subscriptions", Fault::Status(503, None));
    }
    let lost = inn.subscribes("ESSENTIAL", "never-got-there").await;
    assert_eq!(lost["subscription"]["status"], "PENDING", "{lost}");
    refused(&inn.subscribes("ESSENTIAL", "another-meanwhile").await, "INVALID_STATE");
    let reply = asks(&inn.hotel, "planCancel", None).await;
    assert_eq!(reply["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{reply}");
    inn.time_passes(TimeDelta::minutes(16));
    assert_eq!(inn.reconciles().await, "1 subscriptions, 1 ended, 0 not answered");
    let again = inn.subscribes("ESSENTIAL", "never-got-there").await;
    assert_eq!(again["subscription"]["status"], "FAILED", "{again}");
    let begun = inn.subscribes("ESSENTIAL", "another-after-it").await;
    assert_eq!(begun["subscription"]["status"], "INCOMPLETE", "{begun}");
}

#[tokio::test]
async fn what_is_not_paid_in_time_is_over_and_leaves_the_trial() {
    let mut inn = Inn::open().await;
    inn.subscribes("PROFESSIONAL", "never-paid-for").await;
    inn.time_passes(TimeDelta::hours(23));
    inn.stripe.gives_up(&inn.id());
    inn.hears().await;
    assert_eq!(inn.sees().await["status"], "INCOMPLETE_EXPIRED");
    inn.time_is("2026-12-01T00:00:00Z");
    inn.has(Essential, None, 400).await;
    let account = inn.hotel.account().await;
    assert_eq!(account.entitled_until, Some(instant("2026-12-21T03:00:00Z")));

    // Another try may be given up by its buyer.
    let begun = inn.subscribes("ESSENTIAL", "and-another-try").await;
    assert_eq!(begun["subscription"]["status"], "INCOMPLETE");
    let ended = inn.does("planCancel", None).await;
    assert_eq!(ended["subscription"]["status"], "CANCELLED", "{ended}");
    inn.hears().await;
    inn.has(Essential, None, 400).await;
    assert_eq!(inn.stripe.paid_invoices(), Vec::<i64>::new());
}

#[tokio::test]
async fn a_grace_ends_though_stripe_does_not_answer() {
    let mut inn = Inn::subscribed("PROFESSIONAL").await;
    inn.time_is("2026-12-21T03:00:01Z");
    inn.stripe.month_ends(&inn.id(), false);
    inn.hears().await;
    inn.time_is("2026-12-28T04:00:00Z");
    for _ in 0..3 {
        inn.stripe.fails("GET /subscriptions/ID", Fault::Status(503, None));
    }
    assert_eq!(inn.reconciles().await, "1 subscriptions, 0 ended, 1 not answered");
    assert_eq!(inn.sees().await["status"], "SUSPENDED");
    let kinds: Vec<String> = inn.alerts().await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["PLAN_PAST_DUE", "PLAN_SUSPENDED"]);
    // Credits that are there stay; the next reset brings none.
    inn.time_is("2027-01-01T00:00:00Z");
    inn.has(Professional, None, 2_000).await;
    // A plan that is not paid can be given up at once.
    let ended = inn.does("planCancel", None).await;
    assert_eq!(ended["subscription"]["status"], "CANCELLED", "{ended}");
    inn.has(Professional, Some(Essential), 2_000).await;
}

#[tokio::test]
async fn further_months_that_nobody_pays_bring_no_further_grace() {
    let mut inn = Inn::subscribed("PROFESSIONAL").await;
    inn.time_is("2026-12-29T03:00:00Z");
    inn.stripe.month_ends(&inn.id(), false);
    inn.hears().await;
    inn.reconciles().await;
    assert_eq!(inn.sees().await["status"], "SUSPENDED");
    inn.time_is("2027-01-29T03:00:00Z");
    inn.stripe.month_ends(&inn.id(), false);
    inn.hears().await;
    assert_eq!(inn.sees().await["status"], "SUSPENDED");
    inn.time_is("2027-02-01T00:00:00Z");
    inn.has(Professional, None, 2_000).await;
    inn.stripe.pays_open_invoice(&inn.id());
    inn.hears().await;
    assert_eq!(inn.sees().await["graceUntil"], Value::Null);
    inn.has(Professional, None, 3_000).await;
}

#[tokio::test]
async fn who_begins_anew_with_less_has_no_claim_to_what_the_larger_plan_had() {
    let mut inn = Inn::subscribed("ENTERPRISE").await;
    inn.time_is("2026-12-21T03:00:01Z");
    inn.stripe.month_ends(&inn.id(), false);
    inn.hears().await;
    // A month without free credits, as nobody paid; then the smallest plan.
    inn.time_is("2027-01-02T00:00:00Z");
    inn.has(Enterprise, None, 10_000).await;
    inn.reconciles().await;
    inn.does("planCancel", None).await;
    let begun = inn.subscribes("ESSENTIAL", "less-than-before").await;
    let id = begun["subscription"]["stripeSubscriptionId"].as_str().unwrap().to_owned();
    inn.stripe.pays_open_invoice(&id);
    inn.hears().await;
    inn.has(Enterprise, Some(Essential), 10_200).await;
}

#[tokio::test]
async fn nobody_who_learns_nothing_for_weeks_has_free_credits_for_nothing() {
    let inn = Inn::subscribed("PROFESSIONAL").await;
    // Stripe and its events are away, and the months go on.
    inn.time_is("2027-03-01T00:00:00Z");
    inn.has(Professional, None, 2_000).await;
}

#[tokio::test]
async fn a_tenant_that_is_closed_pays_nothing_more() {
    let mut inn = Inn::subscribed("PROFESSIONAL").await;
    closes(&inn).await;
    for _ in 0..3 {
        inn.stripe.fails("DELETE /subscriptions/ID", Fault::Status(503, None));
    }
    inn.works().await;
    assert_eq!(inn.stripe.subscriptions()[0]["status"], "active");
    inn.time_passes(TimeDelta::minutes(1));
    inn.works().await;
    assert_eq!(inn.stripe.subscriptions()[0]["status"], "canceled");
    inn.hears().await;
    assert_eq!(inn.row().await.status.as_str(), "CANCELLED");
    assert_eq!(inn.app.drifts().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_subscription_that_is_paid_when_its_tenant_is_closed_is_ended() {
    let mut inn = Inn::open().await;
    for _ in 0..3 {
        inn.stripe.fails("POST /subscriptions", Fault::ResetAfter);
    }
    inn.subscribes("PROFESSIONAL", "closed-meanwhile").await;
    closes(&inn).await;
    inn.stripe.pays_open_invoice(&inn.id());
    inn.hears().await;
    inn.time_passes(TimeDelta::minutes(20));
    inn.reconciles().await;
    inn.hears().await;
    assert_eq!(inn.stripe.subscriptions()[0]["status"], "canceled");
    assert_eq!(inn.row().await.status.as_str(), "CANCELLED");
}

async fn closes(inn: &Inn) {
    let tenant = inn.hotel.admin.gets("{ viewer { tenant { id slug } } }", json!({})).await;
    let tenant = &tenant["viewer"]["tenant"];
    let query = "mutation ($id: ID!, $slug: String!) { tenantClose(input: { id: $id,
        slug: $slug }) { userErrors { code } } }";
    let variables = json!({ "id": tenant["id"], "slug": tenant["slug"] });
    let closed = inn.hotel.admin.gets(query, variables).await;
    assert_eq!(closed["tenantClose"]["userErrors"], json!([]));
}

#[tokio::test]
async fn events_of_others_are_kept_and_change_nothing() {
    let mut inn = Inn::subscribed("PROFESSIONAL").await;
    let ours = inn.stripe.subscriptions().remove(0);
    let mut foreign = ours.clone();
    foreign["metadata"] = json!({});
    let nobody = musubi::ids::SubscriptionId::new().to_string();
    let mut unknown = ours.clone();
    unknown["metadata"]["musubi_subscription"] = json!(nobody);
    let mut elsewhere = ours.clone();
    elsewhere["id"] = json!("sub_of_somebody_else");
    elsewhere["status"] = json!("canceled");
    for object in [foreign, unknown] {
        inn.stripe.makes_event("customer.subscription.deleted", &object);
    }
    inn.hears().await;
    assert_eq!(inn.alerts().await, []);
    // A forged end of ours: the id is another.
    inn.stripe.makes_event("customer.subscription.deleted", &elsewhere);
    inn.hears().await;
    let alert = ("SUBSCRIPTION_MISMATCH".to_owned(), json!(["subscription"]));
    assert_eq!(inn.alerts().await, [alert]);
    assert_eq!(inn.sees().await["status"], "ACTIVE");
    let given_up = "SELECT COUNT(*) AS number FROM queue_items WHERE state = 'DEAD'";
    assert_eq!(inn.number(given_up).await, 1);
    inn.has(Professional, None, 1_000).await;
}

#[tokio::test]
async fn a_secret_is_stored_sealed_and_goes_when_it_was_used() {
    let mut inn = Inn::open().await;
    let begun = inn.subscribes("PROFESSIONAL", "with-a-secret").await;
    let secret = begun["subscription"]["clientSecret"].as_str().unwrap().to_owned();
    let sealed = inn.row().await.client_secret.unwrap();
    let is_clear = sealed.0.windows(8).any(|window| secret.as_bytes().starts_with(window));
    assert!(!is_clear && !format!("{:?}", inn.row().await).contains(&secret));
    assert_eq!(inn.sees().await["clientSecret"], secret.as_str());
    inn.stripe.pays_open_invoice(&inn.id());
    inn.hears().await;
    assert_eq!(inn.sees().await["clientSecret"], Value::Null);
    assert_eq!(inn.row().await.client_secret, None);
}

#[tokio::test]
async fn a_customer_that_is_deleted_ends_the_plan_and_another_can_begin() {
    for is_end_told_first in [true, false] {
        let mut inn = Inn::subscribed("PROFESSIONAL").await;
        let gone = inn.stripe.customer();
        inn.stripe.deletes_customer(&gone);
        let mut told = ["customer.subscription.deleted", "customer.deleted"];
        if !is_end_told_first {
            told.reverse();
        }
        for kind in told {
            inn.hears_of(&inn.stripe.event(kind)).await;
        }
        inn.heard = inn.stripe.events().len();
        assert_eq!(inn.alerts().await, [], "{told:?}");
        assert_eq!(inn.sees().await["status"], "CANCELLED", "{told:?}");
        inn.has(Professional, Some(Essential), 1_000).await;

        let begun = inn.subscribes("ENTERPRISE", "by-another-customer").await;
        assert_eq!(begun["subscription"]["status"], "INCOMPLETE", "{told:?}: {begun}");
        assert_ne!(inn.stripe.customer(), gone);
        let id = begun["subscription"]["stripeSubscriptionId"].as_str().unwrap();
        inn.stripe.pays_open_invoice(id);
        inn.hears().await;
        inn.has(Enterprise, None, 5_000).await;
        assert_eq!(inn.alerts().await, [], "{told:?}");
    }
}

#[tokio::test]
async fn a_subscription_of_a_customer_that_stripe_no_longer_has_fails_and_the_next_begins() {
    let mut inn = Inn::open().await;
    inn.subscribes("ESSENTIAL", "given-up-by-its-buyer").await;
    inn.does("planCancel", None).await;
    let gone = inn.stripe.customer();
    // Nobody tells us yet.
    inn.stripe.deletes_customer(&gone);

    let failed = inn.subscribes("ESSENTIAL", "by-nobody-any-more").await;
    refused(&failed, "PAYMENT_FAILED");
    assert_eq!(failed["subscription"]["status"], "FAILED", "{failed}");

    let begun = inn.subscribes("ESSENTIAL", "by-another-customer").await;
    assert_eq!(begun["subscription"]["status"], "INCOMPLETE", "{begun}");
    let customer = inn.stripe.customer();
    assert_ne!(customer, gone);
    let id = begun["subscription"]["stripeSubscriptionId"].as_str().unwrap();
    inn.stripe.pays_open_invoice(id);
    // Late news of the first customer, too.
    inn.hears().await;
    assert_eq!(inn.sees().await["status"], "ACTIVE");
    inn.has(Essential, None, 200).await;
    assert_eq!(inn.alerts().await, []);
    assert_eq!(inn.stripe.customer(), customer);
}
