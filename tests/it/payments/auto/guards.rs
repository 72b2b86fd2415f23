//! What stands in the way of an automatic purchase, and for how long.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{NaiveDate, TimeDelta};
use musubi::credits::period;
use musubi::entity::credit_purchase::{self, PaymentStatus};
use musubi::payments::auto::work::work;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};

use super::{MAKE, updates};
use crate::payments::{Shop, package};
use crate::support::stripe::Fault;

const DECLINED: &str = "pm_card_chargeDeclinedInsufficientFunds";

impl Shop {
    /// A call that finds nothing, so long after the last. Whether it ran.
    async fn wants_after(&self, pause: TimeDelta) -> bool {
        self.app.clock.advance(pause);
        let key = format!("wanted-at-{}", self.app.clock.db_now().timestamp());
        let answer = self.hotel.user.executes("hello", &key).await;
        let runs = answer["execution"]["status"] == "SUCCEEDED";
        assert!(runs || answer["userErrors"][0]["code"] == "INSUFFICIENT_CREDITS", "{answer}");
        self.until_nothing_is_under_way().await;
        runs
    }

    /// Uses credits up until a call finds none.
    async fn loses_all(&self) {
        let (mut left, _) = self.hotel.balance().await;
        while left > 1 {
            self.hotel.user.executes("hello", &format!("until-nothing-is-left-{left}")).await;
            left -= 2;
        }
    }

    /// Makes a stored card the default.
    async fn charges_by(&self, card: &str) {
        let sql = "UPDATE stored_cards SET is_default = FALSE WHERE is_default";
        self.sets(sql).await;
        self.sets(&format!(
            "UPDATE stored_cards SET is_default = TRUE WHERE stripe_payment_method_id = '{card}'"
        ))
        .await;
    }

    async fn sets(&self, sql: &str) {
        let txn = self.app.app.db.begin().await.unwrap();
        musubi::db::execute(&*txn, sql, vec![]).await.unwrap();
        txn.commit().await.unwrap();
    }

    /// Yen that were paid, by the month of the hotel's zone in which they were asked for.
    async fn spent_by_month(&self) -> BTreeMap<NaiveDate, i64> {
        let paid = credit_purchase::Entity::find()
            .filter(credit_purchase::Column::Status.eq(PaymentStatus::Completed));
        let mut months = BTreeMap::new();
        for row in paid.all(self.app.app.db.primary()).await.unwrap() {
            let month = period::period_of(row.created_at, period::zone("Asia/Tokyo"));
            *months.entry(month).or_default() += row.amount;
        }
        months
    }
}

#[tokio::test]
async fn a_card_that_declines_is_tried_three_times_and_left_alone_until_another_comes() {
    let shop = Shop::open().await;
    shop.buys_by_itself(DECLINED).await;

    let mut minute = 0;
    for (at, attempts) in [(0, 1), (1, 1), (59, 1), (61, 2), (90, 2), (122, 3), (184, 3)] {
        assert!(!shop.wants_after(TimeDelta::minutes(at - minute)).await);
        assert_eq!(shop.stripe.intents().len(), attempts, "after {at} minutes");
        minute = at;
    }
    let state = shop.state().await;
    assert_eq!(state["isSuspended"], true);
    assert_eq!(state["blockedReason"], "INSUFFICIENT_FUNDS");
    assert_eq!(state["lastAttempt"]["reason"], "INSUFFICIENT_FUNDS");
    for pause in [TimeDelta::hours(5), TimeDelta::days(1), TimeDelta::days(40)] {
        assert!(!shop.wants_after(pause).await);
    }
    // The same card under another id, and the settings off and on, lift nothing.
    let print = format!("print-of-{DECLINED}");
    shop.keeps("pm_card_visa", &print).await;
    for enabled in [false, true] {
        updates(&shop.hotel.admin, json!({ "enabled": enabled })).await;
    }
    assert!(!shop.wants_after(TimeDelta::minutes(11)).await);
    assert_eq!(shop.stripe.intents().len(), 3);
    assert_eq!(shop.warned().await, 3);
    let failed = ("AUTO_PURCHASE_FAILED".to_owned(), json!("INSUFFICIENT_FUNDS"));
    assert_eq!(shop.recorded().await, [failed.clone(), failed.clone(), failed.clone()]);

    shop.keeps("pm_card_visa", "another-print").await;
    // Heard at once.
    assert!(shop.wants_after(TimeDelta::seconds(1)).await);

    shop.adds_up(498, 1).await;
    assert_eq!(shop.state().await["isSuspended"], false);
    let resumed = ("AUTO_PURCHASE_RESUMED".to_owned(), Value::Null);
    let bought = ("AUTO_PURCHASED".to_owned(), Value::Null);
    assert_eq!(shop.recorded().await[3..], [resumed, bought]);
    shop.app.send_mails().await;
    let mails = shop.app.outbox.mails();
    let failures = mails.iter().filter(|mail| mail.subject.contains("できません")).count();
    assert_eq!((mails.len(), failures), (4, 3));
}

#[tokio::test]
async fn a_card_that_is_changed_in_time_begins_to_count_anew() {
    let shop = Shop::open().await;
    shop.buys_by_itself(DECLINED).await;
    for (pause, card) in [(0, None), (61, Some("pm_card_chargeDeclined")), (61, None), (61, None)] {
        if let Some(card) = card {
            shop.keeps(card, card).await;
        }
        assert_eq!(shop.state().await["isSuspended"], false);
        assert!(!shop.wants_after(TimeDelta::minutes(pause)).await);
    }
    assert_eq!(shop.state().await["isSuspended"], true);
    assert_eq!(shop.stripe.intents().len(), 4);
}

#[tokio::test]
async fn no_more_than_two_attempts_are_made_within_ten_minutes() {
    let shop = Shop::open().await;
    package(&shop.app, json!({ "credits": 2, "priceYen": 50, "validFrom": "2020-01-02" })).await;
    shop.buys_by_itself("pm_card_visa").await;
    let small = json!({ "threshold": 0, "amount": 1 });
    assert_eq!(updates(&shop.hotel.admin, small).await["userErrors"], json!([]));

    let mut ran = Vec::new();
    for pause in [0, 1, 1, 1, 6, 2, 1] {
        ran.push(shop.wants_after(TimeDelta::minutes(pause)).await);
    }

    // At 0 and 1; not at 2, 3 and 9; at 11 and 12 again.
    assert_eq!(ran, [true, true, false, false, false, true, true]);
    shop.adds_up(0, 4).await;
    let reasons = shop.recorded().await;
    let refused: Vec<_> = reasons.iter().filter(|(kind, _)| kind.ends_with("FAILED")).collect();
    assert_eq!(refused.len(), 1, "once for the window: {reasons:?}");
    assert_eq!(refused[0].1, "TOO_MANY_ATTEMPTS");
}

#[tokio::test]
async fn the_months_cap_is_never_passed_in_any_month_of_the_tenants_zone() {
    let mut dice = fastrand::Rng::with_seed(42);
    let shop = Shop::open().await;
    package(&shop.app, json!({ "credits": 2, "priceYen": 70, "validFrom": "2020-01-02" })).await;
    package(&shop.app, json!({ "credits": 4, "priceYen": 130, "validFrom": "2020-01-02" })).await;
    shop.buys_by_itself("pm_card_chargeDeclined").await;
    let declined = shop.methods().await.remove(0);
    let good = shop.keeps("pm_card_visa", "print").await;
    let cap = 700;

    for _ in 0..150 {
        let input = json!({ "threshold": 0, "amount": dice.i32(1..=4), "monthlyCapYen": cap });
        assert_eq!(updates(&shop.hotel.admin, input).await["userErrors"], json!([]));
        let card = if dice.u8(0..5) > 0 { &good } else { &declined };
        shop.charges_by(card).await;
        shop.wants_after(TimeDelta::minutes(dice.i64(1..600))).await;
    }

    let months = shop.spent_by_month().await;
    assert!(months.len() >= 2, "{months:?}");
    assert!(months.values().all(|spent| *spent <= cap), "{months:?}");
    assert!(months.values().any(|spent| *spent > cap - 130), "it was come near: {months:?}");
    let charged: i64 = shop.stripe.charges().iter().map(|it| it["amount"].as_i64().unwrap()).sum();
    assert_eq!(months.values().sum::<i64>(), charged);
    let capped = ("AUTO_PURCHASE_FAILED".to_owned(), json!("MONTHLY_CAP"));
    assert!(shop.recorded().await.contains(&capped));
}

#[tokio::test]
async fn what_is_under_way_counts_against_the_cap() {
    let shop = Shop::open().await;
    shop.hotel.buys(52, 520).await;
    shop.buys_by_itself("pm_card_visa").await;
    let cap = json!({ "monthlyCapYen": 999 });
    assert_eq!(updates(&shop.hotel.admin, cap).await["userErrors"], json!([]));
    shop.hotel.user.executes("hello", "the-call-that-leaves-50").await;
    shop.works_by_itself().await;
    shop.loses_all().await;

    assert!(!shop.wants_after(TimeDelta::minutes(30)).await);

    assert_eq!(shop.state().await["blockedReason"], "MONTHLY_CAP");
    assert_eq!(shop.state().await["spentThisMonth"]["amount"], "500");
    shop.adds_up(0, 1).await;
    // What an ADMIN buys by hand asks no cap, and is asked of none.
    let paid = shop.buys("by-hand-and-at-once", json!({})).await;
    assert_eq!(paid["purchase"]["status"], "COMPLETED", "{paid}");
    assert_eq!(shop.state().await["spentThisMonth"]["amount"], "500");
    shop.adds_up(500, 2).await;
}

#[tokio::test]
async fn a_bank_that_wants_to_be_answered_is_a_failure_and_its_payment_is_given_up() {
    let shop = Shop::open().await;
    shop.buys_by_itself("pm_card_authenticationRequired").await;

    assert!(!shop.wants_after(TimeDelta::zero()).await);

    let attempt = &shop.state().await["lastAttempt"];
    assert_eq!(attempt["reason"], "AUTHENTICATION_REQUIRED", "{attempt}");
    let failed = ("AUTO_PURCHASE_FAILED".to_owned(), json!("AUTHENTICATION_REQUIRED"));
    assert_eq!(shop.recorded().await, [failed]);
    assert_eq!(shop.warned().await, 1);
    shop.adds_up(0, 0).await;
}

#[tokio::test]
async fn what_is_missing_is_told_once_and_looked_for_again() {
    let shop = Shop::open().await;
    shop.buys_by_itself("pm_card_visa").await;
    let gone = "UPDATE stored_cards SET is_default = FALSE";
    shop.sets(gone).await;
    for pause in [0, 1, 11, 11] {
        assert!(!shop.wants_after(TimeDelta::minutes(pause)).await);
    }
    assert_eq!(shop.state().await["blockedReason"], "NO_CARD");
    shop.sets("UPDATE stored_cards SET is_default = TRUE").await;
    shop.sets("UPDATE ai_credit_packages SET valid_until = '2020-12-31'").await;
    for pause in [11, 11] {
        assert!(!shop.wants_after(TimeDelta::minutes(pause)).await);
    }
    assert_eq!(shop.state().await["blockedReason"], "NO_PACKAGE");
    shop.sets("UPDATE ai_credit_packages SET valid_until = NULL").await;

    assert!(shop.wants_after(TimeDelta::minutes(11)).await);

    let reasons: Vec<Value> = shop.recorded().await.into_iter().map(|(_, why)| why).collect();
    assert_eq!(reasons, [json!("NO_CARD"), json!("NO_PACKAGE"), Value::Null]);
    assert_eq!(shop.warned().await, 2);
    assert_eq!(shop.state().await["blockedReason"], Value::Null);
    shop.adds_up(498, 1).await;
}

#[tokio::test]
async fn a_closed_account_buys_nothing_and_warns_nobody() {
    let shop = Shop::open().await;
    shop.hotel.buys(52, 520).await;
    shop.buys_by_itself("pm_card_visa").await;
    shop.hotel.user.executes("hello", "the-call-that-leaves-50").await;
    shop.sets("UPDATE ai_credit_accounts SET deleted_at = updated_at").await;

    shop.works_by_itself().await;

    let refused = ("AUTO_PURCHASE_FAILED".to_owned(), json!("ACCOUNT_CLOSED"));
    assert_eq!(shop.recorded().await, [refused]);
    assert_eq!(shop.warned().await, 0);
    assert!(shop.stripe.intents().is_empty());
}

#[tokio::test]
async fn a_stripe_that_was_away_pauses_and_suspends_no_card() {
    let shop = Shop::open_within(Some(Duration::from_millis(300))).await;
    shop.hotel.buys(60, 600).await;
    shop.buys_by_itself("pm_card_visa").await;
    shop.hotel.buys(4, 40).await;
    let low = json!({ "threshold": 400 });
    assert_eq!(updates(&shop.hotel.admin, low).await["userErrors"], json!([]));
    for number in 1..=3 {
        for _ in 0..3 {
            shop.stripe.fails(MAKE, Fault::Status(500, None));
        }
        shop.hotel.user.executes("hello", &format!("while-stripe-is-away-{number}")).await;
        work(&shop.app.app).await.unwrap();
        while shop.stripe.asked(MAKE).len() < 3 * number {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        shop.reconciles_after(TimeDelta::minutes(16)).await;
        let attempt = &shop.state().await["lastAttempt"];
        assert_eq!(attempt["reason"], "NOT_STARTED", "{attempt}");
        shop.app.clock.advance(TimeDelta::minutes(61));
    }

    assert_eq!(shop.state().await["isSuspended"], false);
    shop.hotel.user.executes("hello", "when-stripe-is-back").await;
    shop.works_by_itself().await;
    assert_eq!(shop.stripe.charges().len(), 1);
}

#[tokio::test]
async fn who_left_hears_nothing_and_another_admin_does() {
    let shop = Shop::open().await;
    shop.buys_by_itself("pm_card_visa").await;
    for (role, person) in [("USER", &shop.hotel.admin), ("ADMIN", &shop.hotel.manager)] {
        shop.sets(&format!(
            "UPDATE memberships SET role = '{role}' WHERE user_id = (SELECT id FROM users
             WHERE name = '{}' AND id IN (SELECT user_id FROM memberships m
             JOIN ai_credit_accounts a ON a.tenant_id = m.tenant_id))",
            person.actor.role.unwrap().as_str()
        ))
        .await;
    }

    assert!(shop.wants_after(TimeDelta::zero()).await);
    shop.app.send_mails().await;

    let mails = shop.app.outbox.mails();
    assert_eq!(mails.len(), 1);
    assert!(mails[0].to.starts_with("manager@"), "{}", mails[0].to);
}
