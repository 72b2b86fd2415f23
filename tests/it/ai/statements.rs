//! How many statements a call costs, whatever the history.

use musubi::ai::service::finish::{self, Ending};
use musubi::ai::service::reserve::{Answer, reserve};
use musubi::ai::service::run::{Job, Output};
use musubi::external::models::Usage;

use super::request;
use crate::support::TestApp;
use crate::support::people::Hotel;

/// Statements of a transaction that does nothing.
async fn empty_transaction(app: &TestApp) -> u64 {
    let before = app.app.db.statements();
    app.app.db.begin_always().await.unwrap().commit().await.unwrap();
    app.app.db.statements() - before
}

async fn reserve_counted(app: &TestApp, hotel: &Hotel, key: &str) -> (u64, Job) {
    let (request, job) = request(&app.app, hotel, key).await;
    let mut txn = app.app.db.begin().await.unwrap();
    let before = app.app.db.statements();
    let answers = reserve(&mut txn, &[request], app.clock.db_now()).await.unwrap();
    let statements = app.app.db.statements() - before;
    txn.commit().await.unwrap();
    let Some(Answer::Reserved(execution, hold)) = answers.into_iter().next() else {
        panic!("not reserved")
    };
    (statements, Job { execution: *execution, hold, ..job })
}

async fn settle_counted(app: &TestApp, job: &Job, tokens: u32) -> u64 {
    let usage = Usage { input_tokens: 12, output_tokens: tokens };
    let output = Output { text: "Seven.".to_owned(), usage: Some(usage) };
    let around = empty_transaction(app).await;
    let before = app.app.db.statements();
    finish::finish(&app.app, job.clone(), Ending::Finished, (output, 5)).await;
    app.app.db.statements() - before - around
}

#[tokio::test]
async fn a_call_takes_four_statements_to_reserve_and_at_most_ten_to_settle_whatever_the_history() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(250).await;
    let mut counted = Vec::new();

    // The balance ends at 50, which is not yet below the threshold of the alert.
    for number in 0..100 {
        let (reserved, job) = reserve_counted(&app, &hotel, &format!("counted-{number}")).await;
        let settled = settle_counted(&app, &job, 34).await;
        counted.push((reserved, settled));
    }
    let (reserved, job) = reserve_counted(&app, &hotel, "counted-alert").await;
    let with_alert = settle_counted(&app, &job, 34).await;

    let first = counted[0];
    println!("reserve {}, settle {}, with an alert {with_alert}", first.0, first.1);
    assert!(reserved <= 4 && first.0 <= 4, "{first:?}");
    assert!(with_alert <= 10 && first.1 <= 10, "{first:?} {with_alert}");
    assert!(counted.iter().all(|count| *count == first), "{counted:?}");
    assert_eq!(hotel.balance().await, (48, 0));
    assert_eq!(app.drifts().await, [""; 0]);
}

#[tokio::test]
async fn a_settlement_that_raises_two_alerts_stays_within_ten_statements() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(1).await;
    for _ in 0..50 {
        hotel.buys(1, 10).await;
    }
    let (_, job) = reserve_counted(&app, &hotel, "counted-all").await;

    // Two grants are drawn from, the balance falls below its threshold, the hold falls short.
    let statements = settle_counted(&app, &job, 90_000).await;

    println!("settle with two alerts and two grants: {statements}");
    assert!(statements <= 10, "{statements}");
    assert_eq!(hotel.balance().await, (49, 0));
    assert_eq!(app.drifts().await, [""; 0]);
}
