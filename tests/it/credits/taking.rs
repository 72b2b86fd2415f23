//! Credits that are taken away while calls run: expiry, disputes, purchase refunds; and what comes
//! back.

use chrono::TimeDelta;
use musubi::entity::credit_withdrawal::WithdrawalReason::{Dispute, PurchaseRefund};
use musubi::entity::{alert, tenant};
use musubi::identity::service::tenant::close;
use sea_orm::{EntityTrait, PaginatorTrait};

use super::{
    assert_books, draws, due, give_back, give_bonus, grant, grants, hold, left, lines, put_back,
    release, settle, spend, story, take_away, withdrawals,
};
use crate::support::TestApp;

#[tokio::test]
async fn an_older_hold_draws_from_the_expired_grant_first_and_lowers_what_is_asked() {
    let app = TestApp::start().await;
    let root = app.platform_admin(None).await;
    let hotel = app.hotel().await.with_credits(100).await;
    let bonus = give_bonus(&app, (&root, &hotel), 100, Some(TimeDelta::hours(1))).await;
    let older = hold(&app.app, &hotel, 150).await;

    app.clock.advance(TimeDelta::hours(1));
    assert!(due(&app.app, &hotel).await);
    assert_eq!(hotel.balance().await, (150, 150));
    settle(&app.app, &older, 30).await;

    let row = &withdrawals(&app, &hotel).await[0];
    assert_eq!((row.asked, row.taken), (70, 70));
    assert!(row.closed_at.is_some());
    assert_eq!(draws(&app, &older).await[0].grant_id, bonus.id);
    assert_eq!(left(&app, &hotel).await, [("PURCHASED", 100, 1_000), ("BONUS", 0, 0)]);
    assert_eq!(story(&app, &hotel).await[2..], [("EXPIRY", -50), ("USAGE", -30), ("EXPIRY", -20)]);
    assert_books(&app).await;
}

#[tokio::test]
async fn a_younger_hold_draws_from_the_expired_grant_last() {
    let app = TestApp::start().await;
    let root = app.platform_admin(None).await;
    let hotel = app.hotel().await.with_credits(100).await;
    give_bonus(&app, (&root, &hotel), 100, Some(TimeDelta::hours(1))).await;
    let older = hold(&app.app, &hotel, 200).await;
    app.clock.advance(TimeDelta::hours(1));
    due(&app.app, &hotel).await;
    hotel.buys(50, 500).await;
    let younger = hold(&app.app, &hotel, 50).await;

    settle(&app.app, &younger, 40).await;
    assert_eq!(
        left(&app, &hotel).await,
        [("PURCHASED", 60, 600), ("BONUS", 90, 0), ("PURCHASED", 50, 500)]
    );
    release(&app.app, &older).await;

    assert_eq!(hotel.balance().await, (110, 0));
    assert_eq!(withdrawals(&app, &hotel).await[0].taken, 100);
    assert_books(&app).await;
}

#[tokio::test]
async fn a_release_lets_the_expiry_take_the_rest() {
    let app = TestApp::start().await;
    let root = app.platform_admin(None).await;
    let hotel = app.hotel().await;
    give_bonus(&app, (&root, &hotel), 100, Some(TimeDelta::hours(1))).await;
    let job = hold(&app.app, &hotel, 80).await;
    app.clock.advance(TimeDelta::hours(1));
    due(&app.app, &hotel).await;
    assert_eq!(hotel.balance().await, (80, 80));

    release(&app.app, &job).await;

    assert_eq!(hotel.balance().await, (0, 0));
    assert_eq!(story(&app, &hotel).await, [("BONUS", 100), ("EXPIRY", -20), ("EXPIRY", -80)]);
    assert_books(&app).await;
}

#[tokio::test]
async fn an_expired_grant_cannot_be_reserved_even_before_any_job_ran() {
    let app = TestApp::start().await;
    let root = app.platform_admin(None).await;
    let hotel = app.hotel().await;
    give_bonus(&app, (&root, &hotel), 100, Some(TimeDelta::hours(1))).await;
    app.clock.advance(TimeDelta::hours(1));

    let reply = hotel.user.executes("まだ使えますか", "after-the-expiry").await;

    assert_eq!(reply["userErrors"][0]["code"], "INSUFFICIENT_CREDITS", "{reply}");
    assert_eq!(reply["userErrors"][0]["available"], 0);
    assert_eq!(hotel.balance().await, (0, 0));
    assert_books(&app).await;
}

#[tokio::test]
async fn a_refund_goes_back_to_the_grants_that_paid_with_their_cost() {
    let app = TestApp::start().await;
    let root = app.platform_admin(None).await;
    let hotel = app.hotel().await;
    give_bonus(&app, (&root, &hotel), 10, None).await;
    hotel.buys(7, 100).await;
    let job = spend(&app.app, &hotel, 15).await;
    assert_eq!(left(&app, &hotel).await, [("BONUS", 0, 0), ("PURCHASED", 2, 29)]);

    let part = give_back(&app.app, (&root, &hotel), &job, Some(3)).await.unwrap();
    assert_eq!(left(&app, &hotel).await, [("BONUS", 0, 0), ("PURCHASED", 5, 72)]);
    assert_eq!((part.credits_amount, part.total_cost_yen), (3, Some(43)));
    let rest = give_back(&app.app, (&root, &hotel), &job, None).await.unwrap();

    assert_eq!((rest.credits_amount, rest.total_cost_yen), (12, Some(28)));
    assert_eq!(left(&app, &hotel).await, [("BONUS", 10, 0), ("PURCHASED", 7, 100)]);
    assert!(give_back(&app.app, (&root, &hotel), &job, None).await.is_err());
    assert!(give_back(&app.app, (&root, &hotel), &job, Some(1)).await.is_err());
    assert_books(&app).await;
}

#[tokio::test]
async fn a_refund_after_the_expiry_becomes_a_grant_of_thirty_days_at_the_same_cost() {
    let app = TestApp::start().await;
    let root = app.platform_admin(None).await;
    let hotel = app.hotel().await.with_credits(100).await;
    give_bonus(&app, (&root, &hotel), 20, Some(TimeDelta::hours(1))).await;
    let job = spend(&app.app, &hotel, 50).await;
    app.clock.advance(TimeDelta::hours(2));

    give_back(&app.app, (&root, &hotel), &job, None).await.unwrap();

    assert_eq!(
        left(&app, &hotel).await,
        [("PURCHASED", 100, 1_000), ("BONUS", 0, 0), ("REFUND", 20, 0)]
    );
    let refund = grants(&app, &hotel).await.pop().unwrap();
    assert_eq!(refund.expires_at, Some(app.clock.db_now() + TimeDelta::days(30)));
    assert_eq!(refund.reference_id, Some(job.execution.id.0));
    assert_books(&app).await;

    app.clock.advance(TimeDelta::days(30));
    due(&app.app, &hotel).await;
    assert_eq!(hotel.balance().await, (100, 0));
    assert_books(&app).await;
}

#[tokio::test]
async fn a_refund_to_a_disputed_grant_becomes_a_grant_of_its_own() {
    let app = TestApp::start().await;
    let root = app.platform_admin(None).await;
    let hotel = app.hotel().await;
    hotel.buys(100, 999).await;
    let job = spend(&app.app, &hotel, 30).await;
    let bought = grants(&app, &hotel).await[0].id;
    let dispute = take_away(&app.app, &hotel, (bought, 100), Dispute).await;
    assert_eq!((dispute.asked, dispute.taken, dispute.cost_taken), (70, 70, 699));

    give_back(&app.app, (&root, &hotel), &job, None).await.unwrap();

    assert_eq!(left(&app, &hotel).await, [("PURCHASED", 0, 0), ("REFUND", 30, 300)]);
    assert_books(&app).await;
}

#[tokio::test]
async fn a_dispute_takes_what_is_free_now_and_the_rest_as_runs_end() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(100).await;
    let bought = grants(&app, &hotel).await[0].id;
    let job = hold(&app.app, &hotel, 60).await;

    let dispute = take_away(&app.app, &hotel, (bought, 100), Dispute).await;
    assert_eq!((dispute.taken, dispute.closed_at), (40, None));
    settle(&app.app, &job, 25).await;

    let dispute = withdrawals(&app, &hotel).await.pop().unwrap();
    assert_eq!((dispute.asked, dispute.taken, dispute.cost_taken), (75, 75, 750));
    assert_eq!(hotel.balance().await, (0, 0));
    assert_eq!(
        story(&app, &hotel).await,
        [("PURCHASE", 100), ("DISPUTE", -40), ("USAGE", -25), ("DISPUTE", -35)]
    );
    let disputes = lines(&app, &hotel).await;
    assert_eq!(disputes[1].reference_id, dispute.reference_id);
    assert_books(&app).await;
}

#[tokio::test]
async fn a_dispute_that_is_won_puts_back_what_was_taken_and_only_once() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(100).await;
    let bought = grants(&app, &hotel).await[0].id;
    let job = hold(&app.app, &hotel, 60).await;
    let dispute = take_away(&app.app, &hotel, (bought, 100), Dispute).await;

    put_back(&app.app, &dispute).await;
    put_back(&app.app, &dispute).await;
    assert_eq!(hotel.balance().await, (100, 60));
    settle(&app.app, &job, 60).await;

    assert_eq!(left(&app, &hotel).await, [("PURCHASED", 40, 400)]);
    assert_eq!(
        story(&app, &hotel).await,
        [("PURCHASE", 100), ("DISPUTE", -40), ("DISPUTE_WON", 40), ("USAGE", -60)]
    );
    assert_books(&app).await;
}

#[tokio::test]
async fn a_dispute_won_lets_another_that_waits_take_its_credits() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(100).await;
    let bought = grants(&app, &hotel).await[0].id;
    let job = hold(&app.app, &hotel, 50).await;
    let first = take_away(&app.app, &hotel, (bought, 100), Dispute).await;
    let second = take_away(&app.app, &hotel, (bought, 50), Dispute).await;
    assert_eq!((first.taken, second.taken, second.closed_at), (50, 0, None));

    put_back(&app.app, &first).await;

    let second = withdrawals(&app, &hotel).await.pop().unwrap();
    assert_eq!((second.taken, second.closed_at.is_some()), (50, true));
    assert_eq!(hotel.balance().await, (50, 50));
    settle(&app.app, &job, 50).await;
    assert_books(&app).await;
}

#[tokio::test]
async fn a_purchase_refund_takes_only_what_is_free_and_never_waits() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(100).await;
    let bought = grants(&app, &hotel).await[0].id;
    let job = hold(&app.app, &hotel, 70).await;

    let refund = take_away(&app.app, &hotel, (bought, 100), PurchaseRefund).await;
    assert_eq!((refund.asked, refund.taken, refund.cost_taken), (30, 30, 300));
    assert!(refund.closed_at.is_some());
    release(&app.app, &job).await;

    assert_eq!(hotel.balance().await, (70, 0));
    assert_books(&app).await;
}

#[tokio::test]
async fn a_purchase_refund_that_failed_comes_back_with_the_same_type() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    hotel.buys(30, 1_000).await;
    spend(&app.app, &hotel, 7).await;
    let bought = grants(&app, &hotel).await[0].id;

    let refund = take_away(&app.app, &hotel, (bought, 30), PurchaseRefund).await;
    assert_eq!(refund.taken, 23);
    put_back(&app.app, &refund).await;

    assert_eq!(
        story(&app, &hotel).await,
        [("PURCHASE", 30), ("USAGE", -7), ("PURCHASE_REFUND", -23), ("PURCHASE_REFUND", 23)]
    );
    let grant = grant(&app, bought).await;
    assert_eq!((grant.remaining, grant.cost_left), (23, 767));
    assert_books(&app).await;
}

#[tokio::test]
async fn the_costs_of_many_runs_add_up_to_what_was_paid() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    hotel.buys(37, 1_000).await;

    for _ in 0..12 {
        spend(&app.app, &hotel, 3).await;
    }
    spend(&app.app, &hotel, 1).await;

    let lines = lines(&app, &hotel).await;
    let costs: Vec<i64> = lines[1..].iter().filter_map(|line| line.total_cost_yen).collect();
    assert_eq!((costs.len(), costs.iter().sum::<i64>()), (13, 1_000));
    assert!(costs[..12].iter().all(|cost| (80..=82).contains(cost)), "{costs:?}");
    assert_eq!(left(&app, &hotel).await, [("PURCHASED", 0, 0)]);
    assert_books(&app).await;
}

#[tokio::test]
async fn a_call_that_runs_while_its_tenant_closes_is_settled_and_warns_nobody() {
    let app = TestApp::start().await;
    let root = app.platform_admin(None).await;
    let (closing, open) =
        (app.hotel().await.with_credits(100).await, app.hotel().await.with_credits(100).await);
    let (in_closing, in_open) =
        (hold(&app.app, &closing, 90).await, hold(&app.app, &open, 90).await);
    let row = tenant::Entity::find_by_id(closing.id).one(app.app.db.primary()).await.unwrap();

    close(&app.app, &root.actor, (closing.id, row.unwrap().slug)).await.unwrap();
    settle(&app.app, &in_closing, 80).await;
    let after_the_closed = alert::Entity::find().count(app.app.db.primary()).await.unwrap();
    settle(&app.app, &in_open, 80).await;
    let after_the_open = alert::Entity::find().count(app.app.db.primary()).await.unwrap();

    assert_eq!(closing.balance().await, (20, 0));
    assert_eq!(story(&app, &closing).await.last(), Some(&("USAGE", -80)));
    assert_eq!((after_the_closed, after_the_open), (0, 1));
    assert_books(&app).await;
}
