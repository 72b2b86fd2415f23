//! Plans without Stripe: months go by at the clock.

use musubi::credits::service::due::apply_all_due;
use musubi::entity::plan::PlanType;
use musubi::plans::service::reconcile::reconcile;
use serde_json::{Value, json};

use super::{SUBSCRIPTION, does};
use crate::support::TestApp;
use crate::support::people::Hotel;

async fn subscribes(hotel: &Hotel, card: Option<&str>) -> Value {
    let input = json!({ "planType": "PROFESSIONAL", "stripePaymentMethodId": card,
        "idempotencyKey": "in-the-sandbox" });
    does(hotel, "planSubscribe", Some(input)).await["subscription"].clone()
}

async fn sees(hotel: &Hotel) -> Value {
    let query = format!("{{ viewer {{ tenant {{ subscription {{ {SUBSCRIPTION} }} }} }} }}");
    let reply = hotel.admin.gets(&query, json!({})).await;
    reply["viewer"]["tenant"]["subscription"].clone()
}

async fn time_is(app: &TestApp, at: &str) {
    app.clock.set(at.parse().unwrap());
    reconcile(app.app.clone()).await.unwrap();
    apply_all_due(&app.app).await.unwrap();
}

#[tokio::test]
async fn the_sandbox_pays_month_after_month_until_it_ends() {
    let app = TestApp::start().await;
    let hotel = app.tenant(PlanType::Essential, "Asia/Tokyo").await;
    let begun = subscribes(&hotel, Some("pm_card_visa")).await;
    assert_eq!(begun["status"], "ACTIVE", "{begun}");
    assert_eq!(hotel.balance().await, (1_000, 0));
    for (at, balance) in [
        ("2026-12-21T03:10:01Z", 2_000),
        ("2027-01-21T03:10:01Z", 3_000),
        ("2027-02-21T03:10:01Z", 4_000),
    ] {
        time_is(&app, at).await;
        assert_eq!(hotel.balance().await, (balance, 0), "{at}");
        assert_eq!(sees(&hotel).await["status"], "ACTIVE", "{at}");
    }
    let query = "{ it: planChangePreview(planType: ENTERPRISE) { dueNow { amount } } }";
    let preview = hotel.admin.gets(query, json!({})).await;
    assert_eq!(preview["it"]["dueNow"]["amount"], "30005");
    let input = json!({ "planType": "ENTERPRISE", "idempotencyKey": "more-in-the-sandbox" });
    let changed = does(&hotel, "planChange", Some(input)).await;
    assert_eq!(changed["balance"]["current"], 8_000, "{changed}");
    does(&hotel, "planCancel", None).await;
    time_is(&app, "2027-03-21T03:20:01Z").await;
    assert_eq!(sees(&hotel).await["status"], "CANCELLED");
    time_is(&app, "2027-04-01T00:00:00Z").await;
    assert_eq!(hotel.balance().await, (13_000, 0));
    assert_eq!(app.drifts().await, Vec::<String>::new());
}

#[tokio::test]
async fn the_sandbox_asks_declines_and_fails_by_the_names_of_cards() {
    let app = TestApp::start().await;
    let asks = app.tenant(PlanType::Essential, "Asia/Tokyo").await;
    let begun = subscribes(&asks, None).await;
    assert_eq!(begun["status"], "INCOMPLETE", "{begun}");
    assert!(begun["clientSecret"].is_string());
    let confirmed = does(&asks, "planSubscriptionConfirm", None).await;
    assert_eq!(confirmed["subscription"]["status"], "ACTIVE", "{confirmed}");

    let declines = app.tenant(PlanType::Essential, "Asia/Tokyo").await;
    subscribes(&declines, Some("pm_card_chargeDeclined")).await;
    let confirmed = does(&declines, "planSubscriptionConfirm", None).await;
    assert_eq!(confirmed["subscription"]["status"], "INCOMPLETE", "{confirmed}");

    let fails = app.tenant(PlanType::Essential, "Asia/Tokyo").await;
    let begun = subscribes(&fails, Some("pm_card_chargeCustomerFail")).await;
    assert_eq!(begun["status"], "ACTIVE", "{begun}");
    time_is(&app, "2026-12-21T03:20:00Z").await;
    assert_eq!(sees(&fails).await["status"], "PAST_DUE");
    time_is(&app, "2026-12-28T04:20:00Z").await;
    assert_eq!(sees(&fails).await["status"], "SUSPENDED");
}

#[tokio::test]
async fn a_sandbox_that_forgot_keeps_nobody_from_beginning_anew() {
    let app = TestApp::start().await;
    let hotel = app.tenant(PlanType::Essential, "Asia/Tokyo").await;
    subscribes(&hotel, Some("pm_card_visa")).await;
    // The program begins again, with a sandbox that knows nothing.
    let sql = "UPDATE tenant_subscriptions SET stripe_id = 'sub_sandbox_forgotten'";
    let txn = app.app.db.begin().await.unwrap();
    musubi::db::execute(&*txn, sql, vec![]).await.unwrap();
    txn.commit().await.unwrap();
    let confirmed = does(&hotel, "planSubscriptionConfirm", None).await;
    assert_eq!(confirmed["subscription"]["status"], "CANCELLED", "{confirmed}");
    let input = json!({ "planType": "ESSENTIAL", "stripePaymentMethodId": "pm_card_visa",
        "idempotencyKey": "once-more-in-the-sandbox" });
    let begun = does(&hotel, "planSubscribe", Some(input)).await;
    assert_eq!(begun["subscription"]["status"], "ACTIVE", "{begun}");
    assert_eq!(hotel.balance().await, (1_000, 0));
}
