//! Answers that are lost, nodes that die in between, webhooks that never come: paid is granted, and
//! what is granted was paid.

use std::time::Duration;

use chrono::TimeDelta;
use futures_util::future::join_all;
use musubi::payments::service::reconcile::reconcile;
use serde_json::{Value, json};

use super::{Shop, deliver};
use crate::support::stripe::Fault;

const MAKE: &str = "POST /payment_intents";

#[tokio::test]
async fn an_answer_lost_after_its_effect_is_found_under_the_same_key() {
    let short = Duration::from_secs(2);
    for (fault, attempt) in [(Fault::ResetAfter, None), (Fault::SilenceAfter, Some(short))] {
        let shop = Shop::open_within(attempt).await;
        shop.stripe.fails(MAKE, fault.clone());

        let done = shop.buys("the-answer-is-lost", json!({})).await;

        assert_eq!(done["purchase"]["status"], "COMPLETED", "{fault:?}");
        let keys: Vec<_> = shop.stripe.asked(MAKE).into_iter().map(|asked| asked.key).collect();
        assert!(keys.len() >= 2 && keys.iter().all(|key| *key == keys[0]), "{fault:?}: {keys:?}");
        shop.adds_up(500, 1).await;
    }
}

#[tokio::test]
async fn a_purchase_whose_answer_never_comes_is_pending_and_then_found() {
    let shop = Shop::open().await;
    for _ in 0..3 {
        shop.stripe.fails(MAKE, Fault::ResetAfter);
    }

    let pending = shop.buys("the-answer-never-comes", json!({})).await;
    assert_eq!(pending["purchase"]["status"], "PENDING");
    assert_eq!(pending["userErrors"], json!([]));
    shop.adds_up(0, 1).await;

    // Not at once: somebody may still be asking.
    shop.reconciles_after(TimeDelta::seconds(30)).await;
    shop.adds_up(0, 1).await;
    let said = shop.reconciles_after(TimeDelta::minutes(3)).await;
    assert!(said.starts_with("1 open purchases, 1 ended, 0 not answered"), "{said}");
    let purchase = shop.purchase(&pending["purchase"]["id"]).await;
    assert_eq!(purchase["status"], "COMPLETED");
    shop.adds_up(500, 1).await;
}

#[tokio::test]
async fn the_same_key_goes_on_with_a_purchase_whose_answer_was_lost() {
    let shop = Shop::open().await;
    for _ in 0..3 {
        shop.stripe.fails(MAKE, Fault::ResetAfter);
    }
    let pending = shop.buys("the-answer-never-comes", json!({})).await;
    assert_eq!(pending["purchase"]["status"], "PENDING");

    let done = shop.buys("the-answer-never-comes", json!({})).await;

    assert_eq!(done["purchase"]["id"], pending["purchase"]["id"]);
    assert_eq!(done["purchase"]["status"], "COMPLETED");
    shop.adds_up(500, 1).await;
}

#[tokio::test]
async fn stripe_is_asked_again_as_it_says() {
    for (status, advice, attempts) in [
        (429, None, 2),
        (500, Some(true), 2),
        (503, None, 2),
        (409, Some(true), 2),
        (400, Some(true), 2),
        (500, Some(false), 1),
        (409, Some(false), 1),
        (401, None, 1),
    ] {
        let shop = Shop::open().await;
        shop.stripe.fails(MAKE, Fault::Status(status, advice));

        let answer = shop.buys("stripe-is-busy", json!({})).await;

        let asked = shop.stripe.asked(MAKE);
        assert_eq!(asked.len(), attempts, "{status} {advice:?}");
        assert!(asked.iter().all(|it| it.key == asked[0].key && it.form == asked[0].form));
        let expected = match (attempts, status) {
            (2, _) => "COMPLETED",
            (_, 401) => "FAILED",
            _ => "PENDING",
        };
        assert_eq!(answer["purchase"]["status"], expected, "{status} {advice:?}: {answer}");
        let charges = attempts - 1;
        shop.adds_up(500 * i64::try_from(charges).unwrap(), charges).await;
    }
}

#[tokio::test]
async fn a_stripe_that_stays_away_fails_the_purchase_after_a_while_and_charges_nobody() {
    let shop = Shop::open().await;
    for _ in 0..3 {
        shop.stripe.fails(MAKE, Fault::Status(500, None));
    }
    let pending = shop.buys("stripe-is-away", json!({})).await;
    let id = &pending["purchase"]["id"];
    assert_eq!(pending["purchase"]["status"], "PENDING");

    shop.reconciles_after(TimeDelta::minutes(5)).await;
    assert_eq!(shop.purchase(id).await["status"], "PENDING");
    shop.reconciles_after(TimeDelta::minutes(11)).await;
    let purchase = shop.purchase(id).await;
    assert_eq!(
        (&purchase["status"], &purchase["failureCode"]),
        (&json!("FAILED"), &json!("NOT_STARTED"))
    );
    let replayed = shop.buys("stripe-is-away", json!({})).await;
    assert_eq!(replayed["purchase"], purchase);
    shop.adds_up(0, 0).await;
}

/// What is left when a node dies right after it has written a purchase down.
async fn dies_before_asking(shop: &Shop, key: &str) -> Value {
    for _ in 0..3 {
        shop.stripe.fails("POST /customers", Fault::Status(500, Some(false)));
    }
    let left = shop.buys(key, json!({})).await;
    assert_eq!(left["purchase"]["status"], "PENDING");
    assert!(shop.stripe.asked(MAKE).is_empty());
    left["purchase"]["id"].clone()
}

#[tokio::test]
async fn a_purchase_that_stripe_was_never_asked_for_fails_and_nobody_pays() {
    let shop = Shop::open().await;
    let id = dies_before_asking(&shop, "written-and-no-more").await;

    shop.reconciles_after(TimeDelta::minutes(16)).await;

    assert_eq!(shop.purchase(&id).await["failureCode"], "NOT_STARTED");
    shop.adds_up(0, 0).await;
}

#[tokio::test]
async fn a_payment_that_arrives_after_its_purchase_failed_is_granted() {
    let shop = Shop::open().await;
    shop.stripe.fails(MAKE, Fault::WaitAfter);
    let buying = shop.buys("the-slowest-answer", json!({}));
    let meanwhile = async {
        shop.stripe.wait_for_requests(2).await;
        while shop.stripe.charges().is_empty() {
            tokio::task::yield_now().await;
        }
        // Every look fails until the purchase is given up.
        let sql = "UPDATE credit_purchases SET status = 'FAILED', failure_code = 'NOT_STARTED'";
        let txn = shop.app.app.db.begin().await.unwrap();
        musubi::db::execute(&*txn, sql, vec![]).await.unwrap();
        txn.commit().await.unwrap();
        shop.stripe.open_gate();
    };
    let (done, ()) = tokio::join!(buying, meanwhile);

    assert_eq!(done["purchase"]["status"], "COMPLETED", "{done}");
    assert_eq!(done["purchase"]["failureCode"], Value::Null);
    shop.adds_up(500, 1).await;
}

#[tokio::test]
async fn whoever_learns_first_grants_and_all_others_find_it_done() {
    let shop = Shop::open().await;
    for _ in 0..3 {
        shop.stripe.fails(MAKE, Fault::ResetAfter);
    }
    let pending = shop.buys("everybody-learns", json!({})).await;
    let id = &pending["purchase"]["id"];
    let replica = shop.app.replica().await;
    shop.app.clock.advance(TimeDelta::minutes(5));
    let event = shop.stripe.event("payment_intent.succeeded");
    deliver(&shop.app.app, &event).await;

    tokio::join!(
        async { reconcile(shop.app.app.clone()).await.unwrap() },
        async { reconcile(replica.clone()).await.unwrap() },
        shop.works(),
        join_all((0..5).map(|_| shop.buys("everybody-learns", json!({})))),
        join_all((0..5).map(|_| shop.confirms(id))),
    );

    assert_eq!(shop.purchase(id).await["status"], "COMPLETED");
    shop.adds_up(500, 1).await;
}

#[tokio::test]
async fn a_buyer_who_never_comes_back_from_their_bank_is_given_up() {
    let shop = Shop::open().await;
    let asked = shop.buys_with("never-comes-back", "pm_card_authenticationRequired").await;
    let id = &asked["purchase"]["id"];

    shop.reconciles_after(TimeDelta::hours(23)).await;
    assert_eq!(shop.purchase(id).await["status"], "REQUIRES_ACTION");
    shop.reconciles_after(TimeDelta::hours(2)).await;

    assert_eq!(shop.purchase(id).await["status"], "CANCELLED");
    assert_eq!(shop.purchase(id).await["clientSecret"], Value::Null);
    assert_eq!(shop.stripe.intents()[0]["status"], "canceled");
    let replayed = shop.buys_with("never-comes-back", "pm_card_authenticationRequired").await;
    assert_eq!(replayed["userErrors"][0]["code"], "INVALID_STATE");
    shop.adds_up(0, 0).await;
}

#[tokio::test]
async fn a_webhook_that_never_came_is_made_up_for() {
    let shop = Shop::open().await;
    let asked = shop.buys_with("no-webhook", "pm_card_authenticationRequired").await;
    shop.stripe.authenticate(asked["purchase"]["paymentIntentId"].as_str().unwrap(), true);

    shop.reconciles_after(TimeDelta::minutes(5)).await;

    assert_eq!(shop.purchase(&asked["purchase"]["id"]).await["status"], "COMPLETED");
    shop.adds_up(500, 1).await;
}

#[tokio::test]
async fn an_event_that_the_queue_gave_up_is_worked_out_later() {
    let shop = Shop::open().await;
    let asked = shop.buys_with("given-up", "pm_card_authenticationRequired").await;
    shop.stripe.authenticate(asked["purchase"]["paymentIntentId"].as_str().unwrap(), false);
    deliver(&shop.app.app, &shop.stripe.event("payment_intent.payment_failed")).await;
    let txn = shop.app.app.db.begin().await.unwrap();
    let sql = "UPDATE queue_items SET state = 'DEAD'";
    musubi::db::execute(&*txn, sql, vec![]).await.unwrap();
    txn.commit().await.unwrap();

    let said = shop.reconciles_after(TimeDelta::hours(3)).await;

    assert!(said.ends_with(", 1 events"), "{said}");
    shop.works().await;
    assert_eq!(shop.purchase(&asked["purchase"]["id"]).await["status"], "FAILED");
    let open = "SELECT COUNT(*) AS number FROM stripe_events WHERE processed_at IS NULL";
    assert_eq!(shop.number(open).await, 0);
}

#[tokio::test]
async fn a_purchase_that_cannot_be_looked_up_holds_up_no_other() {
    let shop = Shop::open().await;
    for key in ["the-first-of-two", "the-second-of-two"] {
        for _ in 0..3 {
            shop.stripe.fails(MAKE, Fault::ResetAfter);
        }
        shop.buys(key, json!({})).await;
    }
    for _ in 0..3 {
        shop.stripe.fails("GET /payment_intents", Fault::Status(500, None));
    }

    let said = shop.reconciles_after(TimeDelta::minutes(5)).await;
    assert!(said.starts_with("2 open purchases, 1 ended, 1 not answered"), "{said}");
    shop.reconciles_after(TimeDelta::minutes(5)).await;
    shop.adds_up(1_000, 2).await;
}
