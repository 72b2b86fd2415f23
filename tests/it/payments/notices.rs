//! Mails about money, read as their server gets them: in the reader's language, and once each.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use musubi::config::Secret;
use musubi::credits::service::due::apply_all_due;
use musubi::entity::plan::PlanType;
use musubi::external::mail::SmtpMailer;
use musubi::ids::{TenantId, UserId};
use musubi::payments::reset_notice::tell_all;
use musubi::payments::service::reconcile::reconcile;
use serde_json::{Value, json};

use super::Shop;
use crate::support::doubles::MailServer;
use crate::support::people::Hotel;
use crate::support::stripe::{Fault, StripeServer};
use crate::support::{Setting, TestApp};

/// 00:00 in Tokyo on the first of December.
const MIDNIGHT: &str = "2026-11-30T15:00:00Z";

/// A program whose mails go to a server; none without Node.
pub(crate) async fn posted(setting: Setting) -> Option<(MailServer, TestApp)> {
    let server = MailServer::start().await?;
    let secret = Secret(server.url());
    let patience = Duration::from_secs(60);
    let mailer = SmtpMailer::new((&secret, None), "a@musubi.test", "http://x.test", patience);
    let app = setting.mailer(mailer.unwrap()).start().await;
    Some((server, app))
}

async fn change(app: &TestApp, sql: &str, values: Vec<sea_orm::Value>) {
    let txn = app.app.db.begin().await.unwrap();
    musubi::db::execute(&*txn, sql, values).await.unwrap();
    txn.commit().await.unwrap();
}

pub(crate) async fn speaks_english(app: &TestApp, table: &str, id: sea_orm::Value) {
    change(app, &format!("UPDATE {table} SET locale = 'en' WHERE id = $1"), vec![id]).await;
}

fn user(id: UserId) -> sea_orm::Value {
    id.into()
}

fn tenant(id: TenantId) -> sea_orm::Value {
    id.into()
}

/// A shop with a mail server.
async fn shop() -> Option<(MailServer, Shop)> {
    let stripe = StripeServer::start().await;
    let (server, app) = posted(Setting::default().stripe(&stripe)).await?;
    let hotel = app.hotel().await;
    let package = super::package(&app, json!({})).await;
    Some((server, Shop { stripe, app, hotel, package }))
}

/// Sends what is due; what the server took since.
pub(crate) async fn mails(server: &MailServer, app: &TestApp, before: usize) -> Vec<Value> {
    let mut sent = before;
    loop {
        match app.send_mails().await {
            0 => break,
            more => sent += more,
        }
    }
    server.takes(sent).await.split_off(before)
}

#[tokio::test]
async fn credits_that_came_are_told_once_in_the_buyers_language() {
    let Some((server, shop)) = shop().await else { return };
    shop.buys("in-japanese", json!({})).await;
    shop.hears(&shop.stripe.event("payment_intent.succeeded")).await;
    let told = mails(&server, &shop.app, 0).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["subject"], "クレジットが追加されました");
    assert!(told[0]["text"].as_str().unwrap().contains("500クレジット"), "{told:?}");

    speaks_english(&shop.app, "users", user(shop.hotel.admin.id)).await;
    shop.buys("in-english", json!({})).await;
    let told = mails(&server, &shop.app, 1).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["subject"], "Your credits are here");
}

#[tokio::test]
async fn a_payment_that_failed_after_its_buyer_left_is_told_once() {
    let Some((server, shop)) = shop().await else { return };
    let card = "pm_card_authenticationRequired";
    for (number, (subject, reason)) in [
        ("お支払いが完了しませんでした", "本人認証が完了しませんでした"),
        ("Your payment did not go through", "could not authenticate you"),
    ]
    .into_iter()
    .enumerate()
    {
        let asked = shop.buys_with(&format!("the-bank-asks-{number}"), card).await;
        let intent = asked["purchase"]["paymentIntentId"].as_str().unwrap();
        shop.stripe.authenticate(intent, false);
        let event = shop.stripe.events().pop().unwrap();
        shop.hears(&event).await;
        let object = event["data"]["object"].clone();
        shop.hears(&shop.stripe.makes_event("payment_intent.payment_failed", &object)).await;
        shop.confirms(&asked["purchase"]["id"]).await;

        let told = mails(&server, &shop.app, number).await;
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0]["subject"], subject);
        let text = told[0]["text"].as_str().unwrap();
        assert!(text.contains(reason), "{text}");
        assert!(text.contains(asked["purchase"]["id"].as_str().unwrap()), "{text}");
        speaks_english(&shop.app, "users", user(shop.hotel.admin.id)).await;
    }
    let alerts = shop.alerts().await;
    assert!(alerts.iter().all(|(kind, _)| kind == "PAYMENT_FAILED"), "{alerts:?}");
    assert_eq!(alerts.len(), 2);
    shop.adds_up(0, 0).await;
}

#[tokio::test]
async fn who_is_told_by_the_answer_gets_no_mail() {
    let Some((server, shop)) = shop().await else { return };
    shop.buys_with("declined", "pm_card_chargeDeclined").await;
    shop.hears(&shop.stripe.event("payment_intent.payment_failed")).await;
    assert!(mails(&server, &shop.app, 0).await.is_empty());
    assert!(shop.alerts().await.is_empty());
}

#[tokio::test]
async fn a_purchase_of_which_nothing_was_heard_is_told_when_it_is_given_up() {
    let Some((server, shop)) = shop().await else { return };
    for _ in 0..3 {
        shop.stripe.fails("POST /payment_intents", Fault::Status(503, None));
    }
    let left = shop.buys("nobody-answers", json!({})).await;
    assert_eq!(left["purchase"]["status"], "PENDING", "{left}");
    assert!(mails(&server, &shop.app, 0).await.is_empty());

    shop.reconciles_after(TimeDelta::minutes(20)).await;
    shop.app.clock.advance(TimeDelta::minutes(20));
    reconcile(shop.app.app.clone()).await.unwrap();

    let told = mails(&server, &shop.app, 0).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0]["text"].as_str().unwrap().contains("お支払いは行われませんでした"));
}

/// The months of a tenant's free credits go on without an end.
async fn subscriber(app: &TestApp) -> Hotel {
    let hotel = app.tenant(PlanType::Essential, "Asia/Tokyo").await;
    let account = hotel.account().await.id;
    let sql = "UPDATE ai_credit_accounts SET entitled_until = NULL WHERE id = $1";
    change(app, sql, vec![account.into()]).await;
    hotel
}

#[tokio::test]
async fn a_months_free_credits_are_told_once_however_many_look() {
    let Some((server, app)) = posted(Setting::default()).await else { return };
    let hotel = subscriber(&app).await;
    let english = subscriber(&app).await;
    speaks_english(&app, "tenants", tenant(english.id)).await;
    let query = "mutation { tenantUpdate(input: { billingEmail: \"bills@tsubaki.test\" }) {
        userErrors { code } } }";
    let done = english.admin.gets(query, json!({})).await;
    assert_eq!(done["tenantUpdate"]["userErrors"], json!([]));
    assert_eq!(tell_all(app.app.clone()).await.unwrap(), "0 tenants were told of their credits");

    app.clock.set(MIDNIGHT.parse::<DateTime<Utc>>().unwrap());
    apply_all_due(&app.app).await.unwrap();
    let replica = app.replica().await;
    let (here, there) = tokio::join!(tell_all(app.app.clone()), tell_all(replica));
    let said = [here.unwrap(), there.unwrap()];
    tell_all(app.app.clone()).await.unwrap();

    assert!(said.iter().any(|it| !it.starts_with('0')), "{said:?}");
    let mut told = mails(&server, &app, 0).await;
    told.sort_by_key(|mail| mail["to"].to_string());
    assert_eq!(told.len(), 2, "{told:?}");
    let [japanese, bills] =
        [&told[0], &told[1]].map(|mail| mail["to"] == json!(["bills@tsubaki.test"]));
    assert_ne!(japanese, bills);
    for mail in &told {
        let text = mail["text"].as_str().unwrap();
        if mail["to"] == json!(["bills@tsubaki.test"]) {
            assert_eq!(mail["subject"], "This month's free credits are here");
            assert!(text.contains("200 free credits for 2026-12"), "{text}");
        } else {
            assert!(mail["to"][0].as_str().unwrap().starts_with("admin@"), "{mail}");
            assert_eq!(mail["subject"], "12月分の無料クレジットを追加しました");
            assert!(text.contains("繰り越した無料クレジット: 200"), "{text}");
        }
    }
    assert_eq!(hotel.balance().await, (400, 0));
}

#[tokio::test]
async fn of_months_that_were_missed_the_last_is_told_and_old_news_are_none() {
    let Some((server, app)) = posted(Setting::default()).await else { return };
    let hotel = subscriber(&app).await;
    hotel.account().await;
    app.clock.set("2027-02-10T00:00:00Z".parse().unwrap());
    apply_all_due(&app.app).await.unwrap();
    tell_all(app.app.clone()).await.unwrap();
    let told = mails(&server, &app, 0).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["subject"], "2月分の無料クレジットを追加しました");

    app.clock.set("2027-02-28T15:00:00Z".parse().unwrap());
    apply_all_due(&app.app).await.unwrap();
    app.clock.advance(TimeDelta::days(8));
    assert_eq!(tell_all(app.app.clone()).await.unwrap(), "0 tenants were told of their credits");
    assert!(mails(&server, &app, 1).await.is_empty());
}

#[tokio::test]
async fn a_month_without_free_credits_and_a_closed_tenant_are_told_nothing() {
    let Some((server, app)) = posted(Setting::default()).await else { return };
    // Its trial has ended by then.
    let trial = app.tenant(PlanType::Essential, "Asia/Tokyo").await;
    trial.account().await;
    let closed = subscriber(&app).await;
    app.clock.set("2026-12-31T15:00:00Z".parse().unwrap());
    apply_all_due(&app.app).await.unwrap();
    change(
        &app,
        "UPDATE tenants SET deleted_at = updated_at WHERE id = $1",
        vec![tenant(closed.id)],
    )
    .await;

    tell_all(app.app.clone()).await.unwrap();

    assert!(mails(&server, &app, 0).await.is_empty());
}
