//! The limit: the statements of a pair, prepared and sent through the bare driver, with the same
//! rows and the same transactions. What is not a statement (sealing, counting, pricing, events) is
//! left out; the books it leaves add up all the same.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use musubi::actor::Actor;
use musubi::entity::execution;
use musubi::ids::new_uuid;
use sqlx::postgres::{PgPool, PgPoolOptions, PgRow};
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::Pair;
use crate::stage::{CONNECTIONS, Hotel, Stage};

/// Connections and the row that all executions are made like.
pub(super) struct Driver {
    pool: PgPool,
    model: execution::Model,
    params: serde_json::Value,
}

/// What a pair knows before it begins.
struct Call {
    tenant: Uuid,
    account: Uuid,
    user: Uuid,
    execution: Uuid,
    hold: Uuid,
    now: DateTime<Utc>,
}

const KEY: &str = "INSERT INTO idempotency_keys
    (id, tenant_id, actor_id, operation, key, body_digest, object_id, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING RETURNING object_id";
const ADMIT: &str = "UPDATE ai_credit_accounts
    SET held = held + $2, version = version + 1, updated_at = $3
    WHERE id = $1 AND current_balance - held >= $2 AND next_due_at > $3
    AND deleted_at IS NULL RETURNING *";
const EXECUTION: &str = "INSERT INTO ai_executions
    (id, tenant_id, account_id, user_id, requested_by, idempotency_key, function_type, model,
     provider, price_id, status, parameters, result, max_tokens, requested_max_tokens,
     estimated_tokens, input_tokens, output_tokens, usage_source, credits_held, credits_used,
     credits_refunded, shortfall, total_cost_yen, transaction_id, failure_code,
     cancel_requested_at, execution_time_ms, created_at, finished_at)
    VALUES ($1, $2, $3, $4, $5, $6, 'CHATBOT', $7, $8, $9, 'RUNNING', $10, NULL, $11, $11, $12,
     NULL, NULL, NULL, $13, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, $14, NULL)";
const HOLD: &str = "INSERT INTO ai_credit_holds
    (id, account_id, execution_id, user_id, function_type, amount, version, state, in_flight_at,
     watermark, lease_until, charge, resolved_by, created_at, resolved_at)
    VALUES ($1, $2, $3, $4, 'CHATBOT', $5, $6, 'ACTIVE', NULL, 0, $7, 0, NULL, $8, NULL)";
const IN_FLIGHT: &str =
    "UPDATE ai_credit_holds SET in_flight_at = $2 WHERE id = $1 AND state = 'ACTIVE'";
const CLAIM: &str = "UPDATE ai_credit_holds SET state = v.column2, charge = v.column3,
    resolved_by = v.column4, resolved_at = $5 FROM (VALUES ($1, $2, $3, $4)) AS v
    WHERE ai_credit_holds.id = v.column1 AND ai_credit_holds.state = 'ACTIVE'
    RETURNING id, account_id, execution_id, user_id, function_type, amount, version, state,
    in_flight_at, watermark, lease_until, charge, resolved_by, created_at, resolved_at";
const LOWER: &str = "UPDATE ai_credit_accounts SET held = held - $2,
    current_balance = current_balance - $3, total_used_credits = total_used_credits + $3,
    version = version + $4, updated_at = $5 WHERE id = $1 RETURNING *";
const GRANTS: &str = "SELECT g.*, w.* FROM ai_credit_grants g
    LEFT JOIN ai_credit_withdrawals w ON w.grant_id = g.id AND w.closed_at IS NULL
    WHERE g.account_id IN ($1) AND g.remaining > 0 ORDER BY g.id, w.id";
const GRANT: &str = "UPDATE ai_credit_grants SET remaining = v.column2, cost_left = v.column3
    FROM (VALUES ($1, $2, $3)) AS v WHERE ai_credit_grants.id = v.column1";
const LINE: &str = "INSERT INTO ai_credit_transactions
    (id, account_id, version, transaction_type, credits_amount, balance_after, ai_function_type,
     ai_function_params, execution_time_ms, total_cost_yen, user_id, execution_id, hold_id,
     grant_id, reference_id, description, created_at)
    VALUES ($1, $2, $3, 'USAGE', $4, $5, 'CHATBOT', $6, $7, $8, $9, $10, $11, NULL, NULL, NULL,
     $12)";
const DRAW: &str = "INSERT INTO ai_credit_draws
    (id, transaction_id, hold_id, grant_id, credits, cost, returned, returned_cost)
    VALUES ($1, $2, $3, $4, $5, $6, 0, 0)";
const DAY: &str = "INSERT INTO usage_daily (account_id, day, function_type, runs, failures,
    time_ms, credits, credits_on_success, free_credits, cost_yen)
    VALUES ($1, $2, 'CHATBOT', 1, 0, $3, $4, $4, 0, $5)
    ON CONFLICT (account_id, day, function_type) DO UPDATE SET
    runs = usage_daily.runs + excluded.runs, failures = usage_daily.failures + excluded.failures,
    time_ms = usage_daily.time_ms + excluded.time_ms,
    credits = usage_daily.credits + excluded.credits,
    credits_on_success = usage_daily.credits_on_success + excluded.credits_on_success,
    free_credits = usage_daily.free_credits + excluded.free_credits,
    cost_yen = usage_daily.cost_yen + excluded.cost_yen";
const ENDED: &str = "UPDATE ai_executions SET status = 'SUCCEEDED', result = $2,
    input_tokens = $3, output_tokens = $4, usage_source = 'PROVIDER', credits_used = $5,
    shortfall = 0, total_cost_yen = $6, transaction_id = $7, failure_code = NULL,
    execution_time_ms = $8, finished_at = $9 WHERE id = $1 AND status = 'RUNNING'";

impl Driver {
    /// A pool as large as ours.
    pub(super) async fn connect(stage: &Stage, model: execution::Model) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(std::time::Duration::from_secs(60))
            .test_before_acquire(false)
            .connect(&stage.url)
            .await
            .unwrap();
        let sql = "SELECT ai_function_params FROM ai_credit_transactions WHERE execution_id = $1";
        let params = sqlx::query_scalar(sql).bind(model.id.0).fetch_one(&pool).await.unwrap();
        Self { pool, model, params }
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    /// A pair on one of these accounts.
    pub(super) fn pair(self: &Arc<Self>, actors: Arc<Vec<(Actor, Hotel)>>) -> Pair {
        let driver = Arc::clone(self);
        Arc::new(move || {
            let (driver, actors) = (Arc::clone(&driver), Arc::clone(&actors));
            Box::pin(async move {
                let (actor, hotel) = &actors[fastrand::usize(..actors.len())];
                let call = Call {
                    tenant: hotel.tenant.0,
                    account: hotel.account.0,
                    user: actor.user_id.0,
                    execution: new_uuid(),
                    hold: new_uuid(),
                    now: Utc::now(),
                };
                driver.reserve(&call).await.unwrap();
                driver.mark(&call).await.unwrap();
                driver.settle(&call).await.unwrap();
            })
        })
    }

    async fn reserve(&self, call: &Call) -> sqlx::Result<()> {
        let model = &self.model;
        let mut txn = self.pool.begin().await?;
        let key = new_uuid().to_string();
        sqlx::query(KEY)
            .bind(new_uuid())
            .bind(call.tenant)
            .bind(call.user)
            .bind("aiExecute")
            .bind(&key)
            .bind([7_u8; 32].as_slice())
            .bind(call.execution)
            .bind(call.now)
            .fetch_one(&mut *txn)
            .await?;
        let account = sqlx::query(ADMIT)
            .bind(call.account)
            .bind(model.credits_held)
            .bind(call.now)
            .fetch_one(&mut *txn)
            .await?;
        sqlx::query(EXECUTION)
            .bind(call.execution)
            .bind(call.tenant)
            .bind(call.account)
            .bind(call.user)
            .bind(call.user)
            .bind(&key)
            .bind(&model.model)
            .bind(&model.provider)
            .bind(model.price_id.0)
            .bind(model.parameters.as_ref().map(|sealed| sealed.0.as_slice()))
            .bind(model.max_tokens)
            .bind(model.estimated_tokens)
            .bind(model.credits_held)
            .bind(call.now)
            .execute(&mut *txn)
            .await?;
        sqlx::query(HOLD)
            .bind(call.hold)
            .bind(call.account)
            .bind(call.execution)
            .bind(call.user)
            .bind(model.credits_held)
            .bind(account.get::<i64, _>("version"))
            .bind(call.now + TimeDelta::seconds(120))
            .bind(call.now)
            .execute(&mut *txn)
            .await?;
        txn.commit().await
    }

    async fn mark(&self, call: &Call) -> sqlx::Result<()> {
        sqlx::query(IN_FLIGHT).bind(call.hold).bind(Utc::now()).execute(&self.pool).await?;
        Ok(())
    }

    async fn settle(&self, call: &Call) -> sqlx::Result<()> {
        let model = &self.model;
        let (now, charge) = (Utc::now(), model.credits_used);
        let mut txn = self.pool.begin().await?;
        let claimed = sqlx::query(CLAIM)
            .bind(call.hold)
            .bind("SETTLED")
            .bind(charge)
            .bind(new_uuid())
            .bind(now)
            .fetch_one(&mut *txn)
            .await?;
        let account = sqlx::query(LOWER)
            .bind(call.account)
            .bind(claimed.get::<i64, _>("amount"))
            .bind(charge)
            .bind(1_i64)
            .bind(now)
            .fetch_one(&mut *txn)
            .await?;
        let (line, cost) = self.book(&mut txn, call, &account, now).await?;
        sqlx::query(DAY)
            .bind(call.account)
            .bind((now + TimeDelta::hours(9)).date_naive())
            .bind(1_i64)
            .bind(charge)
            .bind(cost)
            .execute(&mut *txn)
            .await?;
        sqlx::query(ENDED)
            .bind(call.execution)
            .bind(model.result.as_ref().map(|sealed| sealed.0.as_slice()))
            .bind(model.input_tokens)
            .bind(model.output_tokens)
            .bind(charge)
            .bind(cost)
            .bind(line)
            .bind(1_i64)
            .bind(now)
            .execute(&mut *txn)
            .await?;
        txn.commit().await
    }

    /// Draws the charge from the account's grant and writes the ledger.
    async fn book(
        &self,
        txn: &mut PgConnection,
        call: &Call,
        account: &PgRow,
        now: DateTime<Utc>,
    ) -> sqlx::Result<(Uuid, i64)> {
        let charge = self.model.credits_used;
        // The first columns are the grant's: id, account, kind, granted, remaining, price, cost.
        let grants = sqlx::query(GRANTS).bind(call.account).fetch_all(&mut *txn).await?;
        let grant = &grants[0];
        let (remaining, cost_left) = (grant.get::<i64, _>(4), grant.get::<i64, _>(6));
        let cost = cost_left * charge / remaining;
        let (grant, line) = (grant.get::<Uuid, _>(0), new_uuid());
        sqlx::query(GRANT)
            .bind(grant)
            .bind(remaining - charge)
            .bind(cost_left - cost)
            .execute(&mut *txn)
            .await?;
        sqlx::query(LINE)
            .bind(line)
            .bind(call.account)
            .bind(account.get::<i64, _>("version"))
            .bind(-charge)
            .bind(account.get::<i64, _>("current_balance"))
            .bind(&self.params)
            .bind(1_i64)
            .bind(cost)
            .bind(call.user)
            .bind(call.execution)
            .bind(call.hold)
            .bind(now)
            .execute(&mut *txn)
            .await?;
        sqlx::query(DRAW)
            .bind(new_uuid())
            .bind(line)
            .bind(call.hold)
            .bind(grant)
            .bind(charge)
            .bind(cost)
            .execute(&mut *txn)
            .await?;
        Ok((line, cost))
    }
}
