//! Mails about plans, read as their server gets them.

use chrono::TimeDelta;
use musubi::entity::plan::PlanType;

use super::Inn;
use crate::payments::notices::{mails, posted, speaks_english};
use crate::support::Setting;
use crate::support::stripe::StripeServer;

#[tokio::test]
async fn a_renewal_that_is_not_paid_is_told_to_who_pays_until_the_plan_is_suspended() {
    let stripe = StripeServer::start().await;
    let Some((server, app)) = posted(Setting::default().stripe(&stripe)).await else { return };
    let hotel = app.tenant(PlanType::Essential, "Asia/Tokyo").await;
    let mut inn = Inn { stripe, app, hotel, heard: 0 };
    inn.subscribes("PROFESSIONAL", "the-first-subscription").await;
    inn.stripe.pays_open_invoice(&inn.id());
    inn.hears().await;
    let before = mails(&server, &inn.app, 0).await.len();
    inn.time_passes(TimeDelta::days(31));
    inn.stripe.month_ends(&inn.id(), false);
    inn.hears().await;
    inn.reconciles().await;

    let told = mails(&server, &inn.app, before).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["subject"], "プランのお支払いが完了していません");
    let text = told[0]["text"].as_str().unwrap();
    assert!(text.contains("月額19,800円"), "{text}");

    speaks_english(&inn.app, "users", inn.hotel.admin.id.into()).await;
    for _ in 0..10 {
        inn.time_passes(TimeDelta::hours(17));
        inn.reconciles().await;
    }
    let told = mails(&server, &inn.app, before + 1).await;
    let mut subjects: Vec<&str> =
        told.iter().map(|mail| mail["subject"].as_str().unwrap()).collect();
    // Mails that are sent at once come in any order.
    subjects.sort_unstable();
    let waiting = "Your plan's payment did not go through";
    assert_eq!(subjects, ["Your plan is suspended", waiting, waiting]);
}
