//! The turns of many calls in one transaction: whom a fault of one of them reaches.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use musubi::ai::service::reserve::{Answer, reserve};
use musubi::db;
use serde_json::json;

use super::{Gated, error_code, request, short, until, within};
use crate::support::TestApp;
use crate::support::database::is_postgres;
use crate::support::people::EXECUTE;

#[tokio::test]
async fn a_reserve_whose_commit_was_not_answered_is_found_done_and_may_run() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(100).await;
    let (asked, _) = request(&app.app, &hotel, "commit-unanswered").await;
    let now = app.clock.db_now();
    let again = async |request: &_| {
        let mut txn = app.app.db.begin().await.unwrap();
        let request = std::slice::from_ref(request);
        let answer = reserve(&mut txn, request, now).await.unwrap().pop().unwrap();
        txn.commit().await.unwrap();
        answer
    };
    let Answer::Reserved(first, hold) = again(&asked).await else { panic!("not reserved") };

    let Answer::Reserved(second, same) = again(&asked).await else { panic!("not found") };
    let (other, _) = request(&app.app, &hotel, "commit-unanswered").await;
    let known = again(&other).await;
    let sql = "UPDATE ai_credit_holds SET in_flight_at = created_at";
    db::execute(app.app.db.primary(), sql, vec![]).await.unwrap();
    let left = again(&asked).await;

    assert_eq!((second.id, same, second.credits_held), (first.id, hold, first.credits_held));
    // Another client's attempt with the same key, and a call that has left: under way already.
    assert!(matches!(known, Answer::Known(id) if id == first.id), "{known:?}");
    assert!(matches!(left, Answer::Known(id) if id == first.id), "{left:?}");
    assert_eq!(hotel.balance().await, (100, first.credits_held));
    assert_eq!(app.drifts().await, [""; 0]);
}

#[tokio::test]
async fn an_account_that_stays_locked_keeps_no_other_waiting() {
    if !is_postgres() {
        eprintln!("SQLite has one writer and locks no rows: see the run on PostgreSQL");
        return;
    }
    let app = TestApp::start().await;
    let [locked, free] = [app.hotel().await, app.hotel().await];
    let (locked, free) = (locked.with_credits(1_000).await, free.with_credits(1_000).await);
    let lock = app.replica().await.db.begin().await.unwrap();
    let sql = "UPDATE ai_credit_accounts SET updated_at = updated_at WHERE tenant_id = $1";
    db::execute(&*lock, sql, vec![locked.id.into()]).await.unwrap();

    let is_over = AtomicBool::new(false);
    let knocking = join_all((0..8).map(async |caller| {
        let mut refused = 0;
        while !is_over.load(Ordering::Relaxed) {
            let key = format!("locked-{caller}-{refused}");
            let input = json!({ "functionType": "CHATBOT", "idempotencyKey": key,
                                "parameters": { "input": "Hello?" } });
            let reply = locked.user.asks(EXECUTE, json!({ "input": input })).await;
            assert_eq!(error_code(&reply), "UNAVAILABLE");
            refused += 1;
        }
        refused
    }));
    let served = async {
        // Each would wait for the lock, were it in one transaction with those.
        for number in 0..60 {
            let payload = free.user.executes("Hello?", &format!("free-{number:04}")).await;
            assert_eq!(payload["execution"]["status"], "SUCCEEDED", "{payload}");
        }
        is_over.store(true, Ordering::Relaxed);
    };
    let (refused, ()) = within(async { tokio::join!(knocking, served) }).await;
    lock.rollback().await.unwrap();

    assert!(refused.iter().all(|times| *times > 0), "{refused:?}");
    let payload = locked.user.executes("Hello?", "unlocked").await;
    assert_eq!(payload["userErrors"], json!([]), "{payload}");
    assert_eq!(app.drifts().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn so_many_calls_of_a_tenant_run_at_once_as_it_may_have_on_all_nodes_together() {
    let app = TestApp::start().await;
    let (hotel, root) =
        (app.hotel().await.with_credits(1_000).await, app.platform_admin(None).await);
    let set = "mutation ($input: TenantRunningMaxSetInput!) { tenantRunningMaxSet(input: $input) {
        account { running runningMax } userErrors { code field } } }";
    let wish =
        |max: i32| json!({ "input": { "tenantId": hotel.id.to_string(), "runningMax": max } });
    let refused = root.gets(set, wish(0)).await;
    let done = root.gets(set, wish(5)).await;
    let gate = Gated::after(&["Seven."]);
    let nodes = [gate.node(&app).await, gate.node(&app).await];

    let payloads = join_all((0..20).map(|number: usize| {
        let person = hotel.user.on(&nodes[number % 2]);
        async move { person.starts(short("Hello?", &format!("at-once-{number:04}"))).await }
    }))
    .await;
    let (ran, waiting): (Vec<_>, Vec<_>) =
        payloads.iter().partition(|payload| payload["userErrors"] == json!([]));
    gate.reached(5).await;
    let quote = "{ creditAccount { running } aiExecutionQuote(input: { functionType: CHATBOT,
        parameters: { input: \"Hello?\" } }) { affordable } }";
    let seen = hotel.user.gets(quote, json!({})).await;
    gate.open();
    until("all have ended", async || hotel.account().await.running == 0).await;
    let later = hotel.user.executes("Hello?", "after-the-others").await;

    assert_eq!(refused["tenantRunningMaxSet"]["userErrors"][0]["code"], "INVALID_INPUT");
    assert_eq!(done["tenantRunningMaxSet"]["account"], json!({ "running": 0, "runningMax": 5 }));
    assert_eq!((ran.len(), waiting.len()), (5, 15));
    assert!(waiting.iter().all(|it| it["userErrors"][0]["code"] == "RATE_LIMITED"), "{waiting:?}");
    assert_eq!(seen["creditAccount"]["running"], 5);
    assert_eq!(seen["aiExecutionQuote"]["affordable"], false);
    assert_eq!(later["userErrors"], json!([]));
    assert_eq!(app.drifts().await, [""; 0]);
}
