//! A hotel from its trial to its end: each month it has what it paid for.

use chrono::TimeDelta;
use musubi::entity::plan::PlanType::{Enterprise, Essential, Professional};
use serde_json::{Value, json};

use super::{Inn, refused};

#[tokio::test]
async fn a_hotel_has_each_month_what_it_paid_for() {
    let mut inn = Inn::open().await;
    begins(&mut inn).await;
    renews(&mut inn).await;
    grows(&mut inn).await;
    shrinks(&mut inn).await;
    fails_and_comes_back(&mut inn).await;
    ends(&mut inn).await;
}

/// On 21 November, within the trial, with a bank that asks.
async fn begins(inn: &mut Inn) {
    let begun = inn.subscribes("PROFESSIONAL", "a-plan-for-the-inn").await;
    assert_eq!(begun["userErrors"], json!([]), "{begun}");
    let subscription = &begun["subscription"];
    assert_eq!(subscription["status"], "INCOMPLETE", "{begun}");
    assert_eq!(subscription["stripeSubscriptionId"], inn.id());
    assert!(subscription["clientSecret"].as_str().unwrap().starts_with("pi_"), "{begun}");
    inn.hears().await;
    inn.has(Essential, None, 200).await;

    // The buyer answers their bank on the page.
    inn.stripe.pays_open_invoice(&inn.id());
    let confirmed = inn.does("planSubscriptionConfirm", None).await;
    assert_eq!(confirmed["subscription"]["status"], "ACTIVE", "{confirmed}");
    assert_eq!(confirmed["subscription"]["clientSecret"], Value::Null);
    assert_eq!(confirmed["balance"]["current"], 1_000);
    inn.hears().await;
    inn.has(Professional, None, 1_000).await;
    assert_eq!(inn.stripe.paid_invoices(), [19_800]);
}

/// Resets come with the calendar, renewals on the 21st.
async fn renews(inn: &mut Inn) {
    inn.time_is("2026-12-01T00:00:00Z");
    inn.has(Professional, None, 2_000).await;
    inn.time_is("2026-12-21T03:00:01Z");
    inn.stripe.month_ends(&inn.id(), true);
    inn.hears().await;
    assert_eq!(inn.sees().await["currentPeriodEnd"], "2027-01-21T03:00:00Z");
    inn.has(Professional, None, 2_000).await;
    // The trial is long over: what entitles is what was paid.
    inn.time_is("2027-01-01T00:00:00Z");
    inn.has(Professional, None, 3_000).await;
    assert_eq!(inn.stripe.paid_invoices(), [19_800, 19_800]);
}

/// On 5 January, half-way through its month.
async fn grows(inn: &mut Inn) {
    inn.time_is("2027-01-05T15:00:00Z");
    let preview = inn.previews("ENTERPRISE").await["data"]["it"].clone();
    assert_eq!(preview["isImmediate"], true);
    assert_eq!(preview["renewalAmount"]["amount"], "49800");
    assert_eq!(preview["renewsAt"], "2027-02-05T15:00:00Z");
    // 15.5 of 31 days of ¥19,800 are left.
    assert_eq!(preview["credit"]["amount"], "9900");
    assert_eq!(preview["dueNow"]["amount"], "39900");
    assert_eq!(preview["tax"]["amount"], "3627");

    let changed = inn.changes("ENTERPRISE", "more-for-the-inn").await;
    assert_eq!(changed["userErrors"], json!([]), "{changed}");
    assert_eq!(changed["subscription"]["plan"], "ENTERPRISE");
    assert_eq!(changed["balance"]["current"], 7_000);
    assert_eq!(inn.stripe.paid_invoices(), [19_800, 19_800, 39_900]);
    inn.hears().await;
    inn.has(Enterprise, None, 7_000).await;
    let again = inn.changes("ENTERPRISE", "more-for-the-inn").await;
    assert_eq!(again["userErrors"], json!([]), "{again}");
    refused(&inn.changes("ENTERPRISE", "the-same-once-more").await, "INVALID_STATE");
    assert_eq!(inn.stripe.paid_invoices().len(), 3);
}

/// The smaller plan waits for 5 February, and its free credits for the reset after that.
async fn shrinks(inn: &mut Inn) {
    let preview = inn.previews("ESSENTIAL").await["data"]["it"].clone();
    assert_eq!(
        (&preview["isImmediate"], &preview["dueNow"]["amount"]),
        (&json!(false), &json!("0"))
    );
    assert_eq!(preview["renewsAt"], "2027-02-05T15:00:00Z");
    let changed = inn.changes("ESSENTIAL", "less-for-the-inn").await;
    let subscription = &changed["subscription"];
    let plans = (&subscription["plan"], &subscription["pendingPlan"]);
    assert_eq!(plans, (&json!("ENTERPRISE"), &json!("ESSENTIAL")), "{changed}");
    inn.hears().await;
    inn.has(Enterprise, None, 7_000).await;

    inn.time_is("2027-02-01T00:00:00Z");
    inn.has(Enterprise, None, 12_000).await;
    inn.time_is("2027-02-05T15:00:01Z");
    inn.stripe.month_ends(&inn.id(), true);
    inn.hears().await;
    let seen = inn.sees().await;
    assert_eq!((&seen["plan"], &seen["pendingPlan"]), (&json!("ESSENTIAL"), &Value::Null));
    inn.has(Enterprise, Some(Essential), 12_000).await;
    inn.time_is("2027-03-01T00:00:00Z");
    inn.has(Essential, None, 12_200).await;
    assert_eq!(inn.stripe.paid_invoices(), [19_800, 19_800, 39_900, 7_800]);
}

/// A renewal fails on 5 March; a week is waited for, with alerts; in April it is paid after all.
async fn fails_and_comes_back(inn: &mut Inn) {
    inn.time_is("2027-03-05T15:00:01Z");
    inn.stripe.month_ends(&inn.id(), false);
    inn.hears().await;
    let seen = inn.sees().await;
    assert_eq!(
        (&seen["status"], &seen["graceUntil"]),
        (&json!("PAST_DUE"), &json!("2027-03-12T15:00:00Z"))
    );
    assert!(seen["clientSecret"].is_string());
    refused(&inn.changes("PROFESSIONAL", "not-while-it-is-open").await, "INVALID_STATE");
    for _ in 0..10 {
        inn.time_passes(TimeDelta::hours(17));
        inn.reconciles().await;
        inn.reconciles().await;
    }
    let seen = inn.sees().await;
    assert_eq!(seen["status"], "SUSPENDED", "{seen}");
    let past_due = |day: i64| ("PLAN_PAST_DUE".to_owned(), json!(day));
    let suspended = ("PLAN_SUSPENDED".to_owned(), Value::Null);
    assert_eq!(inn.alerts().await, [past_due(0), past_due(3), past_due(6), suspended]);

    inn.time_is("2027-04-01T00:00:00Z");
    inn.has(Essential, None, 12_200).await;
    inn.time_is("2027-04-02T00:00:00Z");
    inn.stripe.pays_open_invoice(&inn.id());
    inn.hears().await;
    assert_eq!(inn.sees().await["status"], "ACTIVE");
    inn.has(Essential, None, 12_400).await;
    assert_eq!(inn.alerts().await.len(), 4);
}

/// It is to end on 5 April, goes on after all, and ends on 5 May.
async fn ends(inn: &mut Inn) {
    let ending = inn.does("planCancel", None).await;
    assert_eq!(ending["subscription"]["cancelAtPeriodEnd"], true, "{ending}");
    refused(&inn.changes("PROFESSIONAL", "not-while-it-ends").await, "INVALID_STATE");
    let resumed = inn.does("planResume", None).await;
    assert_eq!(resumed["subscription"]["cancelAtPeriodEnd"], false, "{resumed}");
    refused(&inn.does("planResume", None).await, "INVALID_STATE");
    inn.time_is("2027-04-05T15:00:01Z");
    inn.stripe.month_ends(&inn.id(), true);
    inn.hears().await;
    inn.time_is("2027-05-01T00:00:00Z");
    inn.has(Essential, None, 12_600).await;

    inn.does("planCancel", None).await;
    inn.time_is("2027-05-05T15:00:01Z");
    inn.stripe.month_ends(&inn.id(), true);
    inn.hears().await;
    let seen = inn.sees().await;
    assert_eq!(
        (&seen["status"], &seen["endedAt"]),
        (&json!("CANCELLED"), &json!("2027-05-05T15:00:00Z"))
    );
    inn.time_is("2027-06-01T00:00:00Z");
    inn.has(Essential, None, 12_600).await;
    refused(&inn.does("planCancel", None).await, "NOT_FOUND");

    // Whoever comes back begins anew, with this month's free credits.
    let begun = inn.subscribes("ESSENTIAL", "we-are-back").await;
    let id = begun["subscription"]["stripeSubscriptionId"].as_str().unwrap().to_owned();
    inn.stripe.pays_open_invoice(&id);
    inn.hears().await;
    inn.has(Essential, None, 12_800).await;
}
