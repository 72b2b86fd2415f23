//! Resolving holds, exactly once: hold, then account, then grants; ledger line, draws and rollup.
//!
//! Written over a slice of holds, in a fixed number of statements, whatever the history.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, NaiveDate, Utc};
use sea_orm::{ConnectionTrait, DbBackend, Value};
use serde_json::json;
use uuid::Uuid;

use crate::alerts::{self, AlertKind, NewAlert};
use crate::credits::book::{About, Draw, Line, RunFacts};
use crate::credits::ledger::{self, OpenAccount};
use crate::credits::period;
use crate::credits::service::admit::lock_accounts;
use crate::db::{self, Rows, Txn};
use crate::entity::alert::AlertSeverity;
use crate::entity::credit_hold::HoldState;
use crate::entity::credit_transaction::TransactionType;
use crate::entity::function_price::AiFunctionType;
use crate::entity::{credit_account, credit_hold};
use crate::error::{Error, Result};
use crate::ids::{AccountId, HoldId, TransactionId};

/// Holds that one sweep takes at most.
const SWEEP_MAX: i64 = 100;

/// How a hold is to be resolved.
#[derive(Clone, Debug)]
pub struct Resolution {
    /// The hold.
    pub hold: HoldId,
    /// This attempt; the same attempt made twice is found done.
    pub attempt: Uuid,
    /// Credits to charge, at most the hold's amount.
    pub charge: i64,
    /// Whether the run succeeded.
    pub is_success: bool,
    /// Model, temperature and limits, for the ledger.
    pub params: serde_json::Value,
    /// Wall time of the run in milliseconds.
    pub time_ms: i64,
}

/// What became of a [`Resolution`].
#[derive(Clone, Debug)]
pub enum Resolved {
    /// Resolved now.
    Now(Box<Settlement>),
    /// It was resolved before, by this attempt: nothing was written, the work is done.
    Done,
    /// It was resolved before by somebody else: nothing was written, the result is void.
    ByOther,
}

/// A hold that was resolved.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The hold as it stands now.
    pub hold: credit_hold::Model,
    /// What the charge had cost, in yen; none without a ledger line.
    pub cost: Option<i64>,
    /// The ledger line; none without a charge.
    pub transaction: Option<TransactionId>,
}

/// Holds that this transaction has moved out of ACTIVE and is to book on their accounts.
pub struct Claimed {
    resolutions: Vec<Resolution>,
    holds: Vec<credit_hold::Model>,
}

impl Claimed {
    /// The accounts that they are booked on.
    pub fn accounts(&self) -> impl Iterator<Item = AccountId> {
        self.holds.iter().map(|hold| hold.account_id)
    }
}

/// Resolves holds of running calls. Answers in their order.
pub async fn settle(
    txn: &mut Txn,
    resolutions: &[Resolution],
    now: DateTime<Utc>,
) -> Result<Vec<Resolved>> {
    let claimed = claim(txn, resolutions.to_vec(), now).await?;
    lock_accounts(txn, &claimed.accounts().collect()).await?;
    settle_claimed(txn, claimed, now).await
}

/// Resolves claimed holds of running calls; the caller has locked the accounts if there are
/// several. Answers in the order of the resolutions.
pub async fn settle_claimed(
    txn: &mut Txn,
    Claimed { resolutions, holds: claimed }: Claimed,
    now: DateTime<Utc>,
) -> Result<Vec<Resolved>> {
    let by_hold: HashMap<HoldId, &Resolution> =
        resolutions.iter().map(|resolution| (resolution.hold, resolution)).collect();
    let facts = |hold: &credit_hold::Model| {
        by_hold.get(&hold.id).map_or_else(Facts::default, |resolution| Facts {
            is_success: resolution.is_success,
            params: resolution.params.clone(),
            time_ms: resolution.time_ms,
        })
    };
    let claims = claimed.into_iter().map(|hold| (facts(&hold), hold)).collect();
    let settled = resolve(txn, claims, now).await?;
    let mut settled: HashMap<HoldId, Settlement> =
        settled.into_iter().map(|settlement| (settlement.hold.id, settlement)).collect();

    let missing: Vec<Value> = resolutions
        .iter()
        .filter(|resolution| !settled.contains_key(&resolution.hold))
        .map(|resolution| resolution.hold.into())
        .collect();
    let before = find_holds(txn, missing).await?;
    let answer = |resolution: &Resolution| match settled.remove(&resolution.hold) {
        Some(settlement) => Resolved::Now(Box::new(settlement)),
        None => match before.get(&resolution.hold) {
            Some(hold) if hold.resolved_by == Some(resolution.attempt) => Resolved::Done,
            Some(_) | None => Resolved::ByOther,
        },
    };
    Ok(resolutions.iter().map(answer).collect())
}

/// Resolves holds whose lease has ended: never in flight, no charge; in flight, the watermark.
/// `only` names a single one.
pub async fn sweep(
    txn: &mut Txn,
    now: DateTime<Utc>,
    sweeper: Uuid,
    only: Option<HoldId>,
) -> Result<Vec<Settlement>> {
    // A hold that its owner is settling this moment is left to the owner.
    let which = match (only, txn.get_database_backend()) {
        (Some(_), _) => "$3",
        (None, DbBackend::Postgres) => {
            "SELECT id FROM ai_credit_holds WHERE state = 'ACTIVE' AND lease_until < $1
             ORDER BY lease_until LIMIT $3 FOR UPDATE SKIP LOCKED"
        }
        (None, _) => {
            "SELECT id FROM ai_credit_holds WHERE state = 'ACTIVE' AND lease_until < $1
             ORDER BY lease_until LIMIT $3"
        }
    };
    let sql = format!(
        "UPDATE ai_credit_holds SET
           state = CASE WHEN in_flight_at IS NULL THEN 'EXPIRED'
                        WHEN watermark > 0 THEN 'SETTLED' ELSE 'RELEASED' END,
           charge = CASE WHEN in_flight_at IS NULL THEN 0 ELSE watermark END,
           resolved_by = $2, resolved_at = $1
         WHERE id IN ({which}) AND state = 'ACTIVE' AND lease_until < $1 RETURNING *"
    );
    let third = only.map_or_else(|| Value::from(SWEEP_MAX), Value::from);
    let values = vec![now.into(), sweeper.into(), third];
    let swept: Vec<credit_hold::Model> = db::all(&**txn, sql, values).await?;
    lock_accounts(txn, &swept.iter().map(|hold| hold.account_id).collect()).await?;
    let claims = swept.into_iter().map(|hold| (Facts::of_swept(&hold, now), hold)).collect();
    resolve(txn, claims, now).await
}

/// Holds whose lease has ended, those of the oldest lease first; at most 100.
pub async fn ended_leases(db: &db::Db, now: DateTime<Utc>) -> Result<Vec<HoldId>> {
    let sql = "SELECT * FROM ai_credit_holds WHERE state = 'ACTIVE' AND lease_until < $1
               ORDER BY lease_until LIMIT $2";
    let values = vec![now.into(), SWEEP_MAX.into()];
    let holds: Vec<credit_hold::Model> = db::all(db.primary(), sql, values).await?;
    Ok(holds.into_iter().map(|hold| hold.id).collect())
}

/// What the ledger and the rollup say of a run beside its charge.
#[derive(Clone, Debug)]
struct Facts {
    is_success: bool,
    params: serde_json::Value,
    time_ms: i64,
}

impl Default for Facts {
    fn default() -> Self {
        Self { is_success: false, params: json!({}), time_ms: 0 }
    }
}

impl Facts {
    fn of_swept(hold: &credit_hold::Model, now: DateTime<Utc>) -> Self {
        let time_ms = hold.in_flight_at.map_or(0, |at| (now - at).num_milliseconds().max(0));
        Self { time_ms, ..Self::default() }
    }
}

/// Moves holds out of ACTIVE; those that somebody else resolved are left out.
pub async fn claim(txn: &Txn, resolutions: Vec<Resolution>, now: DateTime<Utc>) -> Result<Claimed> {
    let mut rows = Rows::default();
    let mut ordered: Vec<&Resolution> = resolutions.iter().collect();
    ordered.sort_by_key(|resolution| resolution.hold);
    for resolution in ordered {
        let is_settled = resolution.is_success || resolution.charge > 0;
        let state = if is_settled { HoldState::Settled } else { HoldState::Released };
        rows.push([
            Value::from(resolution.hold),
            state.as_str().into(),
            resolution.charge.into(),
            resolution.attempt.into(),
        ]);
    }
    if rows.is_empty() {
        return Ok(Claimed { resolutions, holds: Vec::new() });
    }
    let (table, mut values) = rows.table(&**txn, 3);
    // The state travels as a value, lest the planner go by the index of all that are active.
    let sql = format!(
        "UPDATE ai_credit_holds SET state = v.column2, charge = v.column3,
         resolved_by = v.column4, resolved_at = $1 FROM {table}
         WHERE ai_credit_holds.id = v.column1 AND ai_credit_holds.state = $2
         RETURNING id, account_id, execution_id, user_id, function_type, amount, version, state,
         in_flight_at, watermark, lease_until, charge, resolved_by, created_at, resolved_at"
    );
    values.splice(0..0, [now.into(), HoldState::Active.as_str().into()]);
    let holds = db::all(&**txn, sql, values).await?;
    Ok(Claimed { resolutions, holds })
}

async fn find_holds(txn: &Txn, ids: Vec<Value>) -> Result<HashMap<HoldId, credit_hold::Model>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let list = db::tuples(1, ids.len(), 1);
    let sql = format!("SELECT * FROM ai_credit_holds WHERE id IN {list}");
    let holds: Vec<credit_hold::Model> = db::all(&**txn, sql, ids).await?;
    Ok(holds.into_iter().map(|hold| (hold.id, hold)).collect())
}

type Claim = (Facts, credit_hold::Model);

/// Books the claimed holds on their accounts.
async fn resolve(txn: &mut Txn, claims: Vec<Claim>, now: DateTime<Utc>) -> Result<Vec<Settlement>> {
    let mut by_account: BTreeMap<AccountId, Vec<Claim>> = BTreeMap::new();
    for claim in claims {
        by_account.entry(claim.1.account_id).or_default().push(claim);
    }
    let accounts = lower(txn, &by_account, now).await?;
    let mut settlements = Vec::new();
    let mut rollup = Rollup::default();
    let mut opened = ledger::open_books(txn, accounts).await?;
    for open in &mut opened {
        let claims = by_account.remove(&open.account.id).unwrap_or_default();
        settlements.extend(book_claims(open, claims, &mut rollup, now)?);
    }
    let fallen: Vec<_> = opened.iter().filter_map(|open| fell_below(open, &settlements)).collect();
    ledger::save(txn, opened, now).await?;
    rollup.write(txn).await?;
    for account in fallen {
        raise_low_balance(txn, &account, now).await?;
    }
    Ok(settlements)
}

/// Lowers accounts by their charges and lets the holds go: this is also the lock of a single one.
/// An account that is left with few credits, and buys by itself, is marked once; the mark is what
/// `payments::auto` works by.
async fn lower(
    txn: &Txn,
    by_account: &BTreeMap<AccountId, Vec<Claim>>,
    now: DateTime<Utc>,
) -> Result<Vec<credit_account::Model>> {
    let mut rows = Rows::default();
    for (id, claims) in by_account {
        let held: i64 = claims.iter().map(|(_, hold)| hold.amount).sum();
        let charge: i64 = claims.iter().map(|(_, hold)| hold.charge).sum();
        let versions = i64::try_from(claims.len()).map_err(Error::broken)?;
        rows.push([Value::from(*id), held.into(), charge.into(), versions.into()]);
    }
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let (table, mut values) = rows.table(&**txn, 2);
    let sql = format!(
        "UPDATE ai_credit_accounts SET held = held - v.column2,
         current_balance = current_balance - v.column3,
         total_used_credits = total_used_credits + v.column3,
         running = running - v.column4, version = version + v.column4, updated_at = $1,
         auto_purchase_due_at = CASE
           WHEN auto_purchase_enabled AND auto_purchase_due_at IS NULL
             AND current_balance - v.column3 <= auto_purchase_threshold
             AND (auto_purchase_quiet_until IS NULL OR auto_purchase_quiet_until <= $1) THEN $1
           ELSE auto_purchase_due_at END
         FROM {table}
         WHERE id = v.column1 RETURNING {}",
        ledger::account_columns()
    );
    values.insert(0, now.into());
    let mut accounts: Vec<credit_account::Model> = db::all(&**txn, sql, values).await?;
    if accounts.len() < by_account.len() {
        return Err(Error::broken("a hold without an account"));
    }
    accounts.sort_by_key(|account| account.id);
    Ok(accounts)
}

/// Writes each claim's line at a version of its own and draws it from the grants.
fn book_claims(
    open: &mut OpenAccount,
    claims: Vec<Claim>,
    rollup: &mut Rollup,
    now: DateTime<Utc>,
) -> Result<Vec<Settlement>> {
    let day = period::local_day(now, period::zone(&open.account.time_zone));
    let charged: i64 = claims.iter().map(|(_, hold)| hold.charge).sum();
    let mut version = open.book.version - i64::try_from(claims.len()).map_err(Error::broken)?;
    let mut balance = open.book.current + charged;
    let mut settlements = Vec::with_capacity(claims.len());
    for (facts, hold) in claims {
        version += 1;
        balance -= hold.charge;
        let mut settlement = Settlement { hold, cost: None, transaction: None };
        let hold = &settlement.hold;
        let first_draw = open.book.draws.len();
        if hold.state == HoldState::Settled {
            let mut line = usage_line(hold, &facts, version, balance);
            let lacking = open.book.draw(hold.id, hold.version, &mut line);
            if lacking != 0 {
                return Err(Error::broken(format!("the grants lack {lacking} credits")));
            }
            settlement.cost = line.cost;
            settlement.transaction = Some(line.id);
            open.book.lines.push(line);
        }
        let draws = open.book.draws.get(first_draw..).unwrap_or_default();
        rollup.add((open.account.id, day, hold.function_type), hold, &facts, draws);
        settlements.push(settlement);
    }
    open.book.take_open(now);
    Ok(settlements)
}

fn usage_line(hold: &credit_hold::Model, facts: &Facts, version: i64, balance: i64) -> Line {
    Line {
        id: TransactionId::new(),
        version,
        kind: TransactionType::Usage,
        credits: -hold.charge,
        balance_after: balance,
        cost: None,
        about: About {
            user: Some(hold.user_id),
            execution: Some(hold.execution_id),
            hold: Some(hold.id),
            run: Some(RunFacts {
                function: hold.function_type,
                params: facts.params.clone(),
                time_ms: facts.time_ms,
            }),
            ..About::default()
        },
    }
}

/// Rows of `usage_daily` to add to, one statement for all.
#[derive(Default)]
struct Rollup(BTreeMap<(AccountId, NaiveDate, AiFunctionType), Use>);

#[derive(Default)]
struct Use {
    runs: i64,
    failures: i64,
    time_ms: i64,
    credits: i64,
    credits_on_success: i64,
    free_credits: i64,
    cost: i64,
}

impl Rollup {
    fn add(
        &mut self,
        key: (AccountId, NaiveDate, AiFunctionType),
        hold: &credit_hold::Model,
        facts: &Facts,
        draws: &[Draw],
    ) {
        let row = self.0.entry(key).or_default();
        row.runs += 1;
        row.failures += i64::from(!facts.is_success);
        row.time_ms += facts.time_ms;
        row.credits += hold.charge;
        row.credits_on_success += if facts.is_success { hold.charge } else { 0 };
        for draw in draws {
            row.free_credits += if draw.is_free { draw.credits } else { 0 };
            row.cost += draw.cost;
        }
    }

    async fn write(self, txn: &Txn) -> Result<()> {
        let mut rows = Rows::default();
        for ((account, day, function), used) in self.0 {
            let key = [account.into(), day.into(), Value::from(function.as_str())];
            let numbers = [
                used.runs,
                used.failures,
                used.time_ms,
                used.credits,
                used.credits_on_success,
                used.free_credits,
                used.cost,
            ];
            rows.push(key.into_iter().chain(numbers.map(Value::from)));
        }
        if rows.is_empty() {
            return Ok(());
        }
        let (table, values) = rows.table(&**txn, 1);
        let sql = format!(
            "INSERT INTO usage_daily (account_id, day, function_type, runs, failures, time_ms,
             credits, credits_on_success, free_credits, cost_yen)
             SELECT * FROM {table} WHERE TRUE
             ON CONFLICT (account_id, day, function_type) DO UPDATE SET
             runs = usage_daily.runs + excluded.runs,
             failures = usage_daily.failures + excluded.failures,
             time_ms = usage_daily.time_ms + excluded.time_ms,
             credits = usage_daily.credits + excluded.credits,
             credits_on_success = usage_daily.credits_on_success + excluded.credits_on_success,
             free_credits = usage_daily.free_credits + excluded.free_credits,
             cost_yen = usage_daily.cost_yen + excluded.cost_yen"
        );
        db::execute(&**txn, sql, values).await?;
        Ok(())
    }
}

/// The account, if these charges took it below its alert threshold.
fn fell_below(open: &OpenAccount, settlements: &[Settlement]) -> Option<credit_account::Model> {
    let charged: i64 = settlements
        .iter()
        .filter(|settlement| settlement.hold.account_id == open.account.id)
        .map(|settlement| settlement.hold.charge)
        .sum();
    let threshold = open.account.alert_threshold;
    let before = open.account.current_balance + charged;
    let crossed = open.book.current < threshold && before >= threshold;
    // Nobody is told of the account of a closed tenant.
    (crossed && open.account.deleted_at.is_none()).then(|| credit_account::Model {
        current_balance: open.book.current,
        ..open.account.clone()
    })
}

async fn raise_low_balance(
    txn: &mut Txn,
    account: &credit_account::Model,
    now: DateTime<Utc>,
) -> Result<()> {
    let day = period::local_day(now, period::zone(&account.time_zone));
    let severity =
        if account.current_balance < 10 { AlertSeverity::Critical } else { AlertSeverity::Warning };
    let alert = NewAlert {
        tenant: Some(account.tenant_id),
        kind: AlertKind::LowBalance,
        severity,
        dedupe_key: format!("LOW_BALANCE:{}:{day}", account.id),
        data: json!({
            "currentBalance": account.current_balance,
            "threshold": account.alert_threshold,
        }),
    };
    alerts::raise(txn, alert, now).await?;
    Ok(())
}
