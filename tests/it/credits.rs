//! Credits: where they come from, what takes them, and that the books always prove it.
//!
//! A [`hold`] is made as `ai` makes it; [`settle`], [`cancel`] and [`release`] end it at a charge
//! of the test's choice, so that the stories speak of credits and not of tokens.

mod admin;
mod arithmetic;
mod carry;
mod catalog;
mod draws;
mod figures;
mod histories;
mod resets;
mod runway;
mod taking;

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use musubi::ai::input::Parameters;
use musubi::ai::pricing::{self, HoldOption};
use musubi::ai::service::finish::{self, Ending};
use musubi::ai::service::reserve::{self, Answer, Request};
use musubi::ai::service::run::{Job, Output};
use musubi::app::App;
use musubi::credits::catalog::{PlanChange, TenantPlan, set_tenant_plan, update_plan};
use musubi::credits::service::admit::Admission;
use musubi::credits::service::due::apply_due;
use musubi::credits::service::grant::{Bonus, Refund, grant_bonus, refund};
use musubi::credits::service::withdraw::{self, Withdraw};
use musubi::db;
use musubi::entity::credit_withdrawal::WithdrawalReason;
use musubi::entity::execution::{self, ExecutionStatus};
use musubi::entity::function_price::AiFunctionType;
use musubi::entity::plan::{CarryOver, PlanType};
use musubi::entity::{
    credit_draw, credit_grant, credit_transaction, credit_withdrawal, monthly_reset,
};
use musubi::external::models::Usage;
use musubi::idempotency::Key;
use musubi::ids::{AccountId, ExecutionId, GrantId, new_uuid};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};

use crate::support::TestApp;
use crate::support::people::{Hotel, Person};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

/// A tenant on a plan in Tokyo whose free credits have no end.
async fn subscriber(app: &TestApp, plan: PlanType) -> Hotel {
    let hotel = app.tenant(plan, "Asia/Tokyo").await;
    set_plan(app, &hotel, plan, None).await;
    hotel
}

async fn set_plan(app: &TestApp, hotel: &Hotel, plan_type: PlanType, until: Option<DateTime<Utc>>) {
    let root = app.platform_admin(None).await;
    let wish = TenantPlan { tenant: hotel.id, plan_type, entitled_until: until };
    set_tenant_plan(&app.app, &root.actor, wish).await.unwrap();
}

/// A new version of a plan that keeps its price and free credits.
async fn set_carry_over(app: &TestApp, plan_type: PlanType, rule: CarryOver, cap: Option<i64>) {
    let root = app.platform_admin(None).await;
    let (price_yen, monthly_free_credits) = match plan_type {
        PlanType::Essential => (7_800, 200),
        PlanType::Professional => (19_800, 1_000),
        PlanType::Enterprise => (49_800, 5_000),
    };
    let change = PlanChange {
        plan_type,
        price_yen,
        monthly_free_credits,
        carry_over: rule,
        carry_over_cap: cap,
        stripe_price_id: None,
        expected_version: None,
    };
    update_plan(&app.app, &root.actor, change).await.unwrap();
}

/// Reserves so many credits, as `ai::service::start` does. What is due is applied first.
pub(crate) async fn hold(app: &App, hotel: &Hotel, credits: i64) -> Job {
    match try_hold(app, hotel, &[credits]).await {
        Ok(job) => job,
        Err(refusal) => panic!("{credits} credits were not held: {refusal:?}"),
    }
}

async fn try_hold(app: &App, hotel: &Hotel, amounts: &[i64]) -> Result<Job, Admission> {
    for _ in 0..=3 {
        match reserve_once(app, hotel, amounts).await {
            (Answer::Reserved(execution, hold), parameters) => {
                let function = AiFunctionType::Chatbot;
                let price = pricing::in_force(app, function, None).await.unwrap();
                let (price, parameters) = (Arc::new(price), Arc::new(parameters));
                return Ok(Job { execution: *execution, hold, price, parameters });
            }
            (Answer::Refused(Admission::Due), _) => {
                apply_due(app, hotel.account().await.id).await.unwrap();
            }
            (Answer::Refused(admission), _) => return Err(admission),
            (answer @ (Answer::Known(_) | Answer::KeyConflict), _) => panic!("{answer:?}"),
        }
    }
    panic!("the account stays due, however often that is applied")
}

async fn reserve_once(app: &App, hotel: &Hotel, amounts: &[i64]) -> (Answer, Parameters) {
    let now = app.clock.db_now();
    let account = hotel.account().await.id;
    let parameters = Parameters {
        input: "チェックインは何時ですか？".to_owned(),
        context: None,
        temperature: rust_decimal::Decimal::new(7, 1),
        options: serde_json::Map::new(),
    };
    let id = ExecutionId::new();
    let (text, body) = (format!("key-{id}"), serde_json::json!([1]));
    let whose = (hotel.id, hotel.user.id.0);
    let key = Key::new(&app.crypto, whose, "aiExecute", (&text, &body), id.0).unwrap();
    let option = |credits: &i64| HoldOption { credits: *credits, max_tokens: 100 + *credits };
    let request = Request {
        execution: execution_row(app, hotel, (id, account), &text).await,
        key,
        tags: Vec::new(),
        options: amounts.iter().map(option).collect(),
        lease: TimeDelta::minutes(2),
    };
    let mut txn = app.db.begin().await.unwrap();
    let answer = reserve::reserve(&mut txn, &[request], now).await.unwrap().pop().unwrap();
    match &answer {
        Answer::Reserved(..) => txn.commit().await.unwrap(),
        Answer::Known(_) | Answer::KeyConflict | Answer::Refused(_) => {
            txn.rollback().await.unwrap();
        }
    }
    (answer, parameters)
}

async fn execution_row(
    app: &App,
    hotel: &Hotel,
    (id, account_id): (ExecutionId, AccountId),
    key: &str,
) -> execution::Model {
    let price = pricing::in_force(app, AiFunctionType::Chatbot, None).await.unwrap();
    execution::Model {
        id,
        tenant_id: hotel.id,
        account_id,
        user_id: hotel.user.id,
        requested_by: hotel.user.id,
        api_key_id: None,
        idempotency_key: key.to_owned(),
        function_type: price.function_type,
        model: price.model.clone(),
        provider: "sandbox".to_owned(),
        price_id: price.id,
        status: ExecutionStatus::Running,
        parameters: None,
        result: None,
        max_tokens: 800,
        requested_max_tokens: 800,
        estimated_tokens: 10,
        input_tokens: None,
        output_tokens: None,
        usage_source: None,
        credits_held: 0,
        credits_used: 0,
        credits_refunded: 0,
        shortfall: 0,
        total_cost_yen: None,
        transaction_id: None,
        failure_code: None,
        prompt_digest: 0,
        anomaly_score: 0,
        anomaly_signals: serde_json::json!([]),
        cancel_requested_at: None,
        execution_time_ms: None,
        created_at: app.clock.db_now(),
        finished_at: None,
    }
}

/// The run succeeds and costs so many credits.
pub(crate) async fn settle(app: &App, job: &Job, charge: i64) {
    let usage = Some(Usage { input_tokens: 10, output_tokens: 10 });
    let output = Output { text: "15時からです。".to_owned(), usage };
    finish::finish(app, costing(job, charge), Ending::Finished, (output, 1_000)).await;
}

/// The run is cancelled half way and costs so many credits.
async fn cancel(app: &App, job: &Job, charge: i64) {
    let output = Output { text: "15時".to_owned(), usage: None };
    finish::finish(app, costing(job, charge), Ending::Cancelled, (output, 500)).await;
}

/// The run fails before anything came and costs nothing.
pub(crate) async fn release(app: &App, job: &Job) {
    finish::finish(app, job.clone(), Ending::NotSent, (Output::default(), 5)).await;
}

/// The job at a price that makes any short run cost so many credits.
fn costing(job: &Job, charge: i64) -> Job {
    let mut job = job.clone();
    Arc::make_mut(&mut job.price).base_credits = charge;
    job
}

/// Holds and settles so many credits.
async fn spend(app: &App, hotel: &Hotel, credits: i64) -> Job {
    let job = hold(app, hotel, credits).await;
    settle(app, &job, credits).await;
    job
}

async fn give_bonus(
    app: &TestApp,
    (root, hotel): (&Person, &Hotel),
    credits: i64,
    lasts: Option<TimeDelta>,
) -> credit_grant::Model {
    let bonus = Bonus {
        tenant: hotel.id,
        credits,
        expires_at: lasts.map(|lasts| app.clock.db_now() + lasts),
        description: Some("お詫び".to_owned()),
        idempotency_key: format!("bonus-{}", new_uuid()),
    };
    grant_bonus(&app.app, &root.actor, bonus).await.unwrap()
}

async fn give_back(
    app: &App,
    (root, hotel): (&Person, &Hotel),
    job: &Job,
    credits: Option<i64>,
) -> musubi::error::Result<credit_transaction::Model> {
    let wish = Refund {
        tenant: hotel.id,
        execution: job.execution.id,
        credits,
        description: None,
        idempotency_key: format!("refund-{}", new_uuid()),
    };
    refund(app, &root.actor, wish).await
}

async fn take_away(
    app: &App,
    hotel: &Hotel,
    (grant, credits): (GrantId, i64),
    reason: WithdrawalReason,
) -> credit_withdrawal::Model {
    let wish = Withdraw {
        account: hotel.account().await.id,
        grant,
        reason,
        credits,
        waits: reason == WithdrawalReason::Dispute,
        reference: Some(new_uuid()),
    };
    let mut txn = app.db.begin().await.unwrap();
    let row = withdraw::withdraw(&mut txn, wish, app.clock.db_now()).await.unwrap();
    txn.commit().await.unwrap();
    row
}

async fn put_back(app: &App, row: &credit_withdrawal::Model) -> credit_withdrawal::Model {
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await.unwrap();
    let row = withdraw::put_back(&mut txn, row.account_id, row.id, now).await.unwrap();
    txn.commit().await.unwrap();
    row
}

async fn due(app: &App, hotel: &Hotel) -> bool {
    apply_due(app, hotel.account().await.id).await.unwrap()
}

/// The ledger in its order.
async fn lines(app: &TestApp, hotel: &Hotel) -> Vec<credit_transaction::Model> {
    let rows = credit_transaction::Entity::of_account(hotel.account().await.id);
    let rows = rows.order_by_asc(credit_transaction::Column::Version);
    rows.all(app.app.db.primary()).await.unwrap()
}

/// The ledger as type and credits.
async fn story(app: &TestApp, hotel: &Hotel) -> Vec<(&'static str, i64)> {
    let lines = lines(app, hotel).await;
    lines.iter().map(|line| (line.transaction_type.as_str(), line.credits_amount)).collect()
}

/// All grants, oldest first.
async fn grants(app: &TestApp, hotel: &Hotel) -> Vec<credit_grant::Model> {
    let rows = credit_grant::Entity::of_account(hotel.account().await.id);
    let rows = rows.order_by_asc(credit_grant::Column::Id);
    rows.all(app.app.db.primary()).await.unwrap()
}

async fn grant(app: &TestApp, id: GrantId) -> credit_grant::Model {
    credit_grant::Entity::find_by_id(id).one(app.app.db.primary()).await.unwrap().unwrap()
}

/// Each grant as kind, credits left and yen left, oldest first.
async fn left(app: &TestApp, hotel: &Hotel) -> Vec<(&'static str, i64, i64)> {
    let rows = grants(app, hotel).await;
    rows.iter().map(|row| (row.kind.as_str(), row.remaining, row.cost_left)).collect()
}

async fn withdrawals(app: &TestApp, hotel: &Hotel) -> Vec<credit_withdrawal::Model> {
    let rows = credit_withdrawal::Entity::of_account(hotel.account().await.id);
    let rows = rows.order_by_asc(credit_withdrawal::Column::Id);
    rows.all(app.app.db.primary()).await.unwrap()
}

async fn resets(app: &TestApp, hotel: &Hotel) -> Vec<monthly_reset::Model> {
    let rows = monthly_reset::Entity::of_account(hotel.account().await.id);
    let rows = rows.order_by_asc(monthly_reset::Column::ResetDate);
    rows.all(app.app.db.primary()).await.unwrap()
}

async fn reset_days(app: &TestApp, hotel: &Hotel) -> Vec<String> {
    resets(app, hotel).await.iter().map(|row| row.reset_date.to_string()).collect()
}

/// What a run drew, in the order of drawing.
async fn draws(app: &TestApp, job: &Job) -> Vec<credit_draw::Model> {
    let rows = credit_draw::Entity::find().filter(credit_draw::Column::HoldId.eq(job.hold));
    let rows = rows.order_by_asc(credit_draw::Column::Id);
    rows.all(app.app.db.primary()).await.unwrap()
}

async fn sql(app: &TestApp, text: &str, values: Vec<sea_orm::Value>) -> u64 {
    let txn = app.app.db.begin().await.unwrap();
    let rows = db::execute(&*txn, text, values).await.unwrap();
    txn.commit().await.unwrap();
    rows
}

async fn assert_books(app: &TestApp) {
    assert_eq!(app.drifts().await, Vec::<String>::new());
}
