//! Setting credits aside: admission under the account row, then the hold rows.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::{DateTime, Utc};
use sea_orm::{FromQueryResult, Value};

use crate::credits::ledger;
use crate::db::{self, Rows, Txn};
use crate::entity::credit_hold::HoldState;
use crate::entity::function_price::AiFunctionType;
use crate::entity::{credit_account, credit_hold};
use crate::error::{Error, Result};
use crate::ids::{AccountId, ExecutionId, HoldId, UserId};

/// Credits that a call wants to set aside.
#[derive(Clone, Debug)]
pub struct Want {
    /// From this account.
    pub account: AccountId,
    /// What would do, from the wished amount downwards; the first that fits is held.
    pub amounts: Vec<i64>,
}

/// The answer to a [`Want`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Set aside.
    Admitted {
        /// Which of the amounts fitted.
        choice: usize,
        /// The account's version then.
        version: i64,
    },
    /// Something is due on the account: apply it and try again.
    Due,
    /// Not even the last amount fits.
    Insufficient {
        /// Credits that are free.
        available: i64,
        /// Credits that others hold.
        held: i64,
    },
    /// As many calls run as the tenant may have at once.
    Busy {
        /// How many that is.
        max: i64,
    },
    /// The account is closed or gone.
    Closed,
}

/// Locks several accounts in the order of their ids; a single one is locked by its update.
pub async fn lock_accounts(txn: &Txn, accounts: &BTreeSet<AccountId>) -> Result<()> {
    if accounts.len() < 2 {
        return Ok(());
    }
    let ids = accounts.iter().map(|id| Value::from(*id));
    db::lock_in_order(&**txn, "ai_credit_accounts", ids).await
}

/// Admits wants, on accounts that are locked if there are several: one statement for all accounts
/// that cover what is wished of them, two more for each that does not.
pub async fn admit(txn: &mut Txn, wants: &[Want], now: DateTime<Utc>) -> Result<Vec<Admission>> {
    let mut by_account: BTreeMap<AccountId, Vec<usize>> = BTreeMap::new();
    for (index, want) in wants.iter().enumerate() {
        by_account.entry(want.account).or_default().push(index);
    }
    let mut answers = vec![Admission::Closed; wants.len()];
    let held = hold_wished(txn, wants, &by_account, now).await?;
    for (id, indexes) in by_account {
        let admitted = match held.get(&id) {
            Some(account) => {
                ledger::announce(txn, account, now);
                vec![Admission::Admitted { choice: 0, version: account.version }; indexes.len()]
            }
            None => {
                let asked: Vec<&Want> = indexes.iter().filter_map(|at| wants.get(*at)).collect();
                admit_some(txn, id, &asked, now).await?
            }
        };
        for (index, admission) in indexes.iter().zip(admitted) {
            if let Some(answer) = answers.get_mut(*index) {
                *answer = admission;
            }
        }
    }
    Ok(answers)
}

/// Holds all that is wished, on the accounts that cover it, have room for it and nothing due.
async fn hold_wished(
    txn: &Txn,
    wants: &[Want],
    by_account: &BTreeMap<AccountId, Vec<usize>>,
    now: DateTime<Utc>,
) -> Result<HashMap<AccountId, credit_account::Model>> {
    let mut rows = Rows::default();
    for (id, indexes) in by_account {
        let wished = indexes.iter().filter_map(|index| wants.get(*index)?.amounts.first());
        let count = i64::try_from(indexes.len()).map_err(Error::broken)?;
        rows.push([Value::from(*id), wished.sum::<i64>().into(), count.into()]);
    }
    if rows.is_empty() {
        return Ok(HashMap::new());
    }
    let (table, mut values) = rows.table(&**txn, 2);
    let sql = format!(
        "UPDATE ai_credit_accounts
         SET held = held + v.column2, running = running + v.column3, version = version + 1,
         updated_at = $1 FROM {table}
         WHERE id = v.column1 AND current_balance - held >= v.column2
         AND running_max - running >= v.column3 AND next_due_at > $1
         AND deleted_at IS NULL RETURNING {}",
        ledger::account_columns()
    );
    values.insert(0, now.into());
    let held: Vec<credit_account::Model> = db::all(&**txn, sql, values).await?;
    Ok(held.into_iter().map(|account| (account.id, account)).collect())
}

/// Admits what fits of wants that do not all fit on an account.
async fn admit_some(
    txn: &mut Txn,
    id: AccountId,
    wants: &[&Want],
    now: DateTime<Utc>,
) -> Result<Vec<Admission>> {
    let Some(account) = lock(txn, id).await? else {
        return Ok(vec![Admission::Closed; wants.len()]);
    };
    if account.next_due_at <= now {
        return Ok(vec![Admission::Due; wants.len()]);
    }
    let (answers, taken) = share_out(&account, wants);
    if taken.1 > 0 {
        let held = add_held(txn, id, taken, now).await?;
        ledger::announce(txn, &held, now);
    }
    Ok(answers)
}

/// In the order of their arrival, each gets the first of its amounts that is still free. Answers
/// also the credits that are taken, and by how many.
fn share_out(account: &credit_account::Model, wants: &[&Want]) -> (Vec<Admission>, (i64, i64)) {
    let mut available = account.current_balance - account.held;
    let (mut taken, mut count) = (0, 0);
    let mut share = |want: &&Want| {
        if account.running + count >= account.running_max {
            return Admission::Busy { max: account.running_max };
        }
        let fits = |amount: &i64| *amount <= available;
        match want.amounts.iter().enumerate().find(|(_, amount)| fits(amount)) {
            Some((choice, amount)) => {
                available -= amount;
                taken += amount;
                count += 1;
                Admission::Admitted { choice, version: account.version }
            }
            None => Admission::Insufficient { available, held: account.held + taken },
        }
    };
    let answers = wants.iter().map(&mut share).collect();
    (answers, (taken, count))
}

async fn lock(txn: &Txn, id: AccountId) -> Result<Option<credit_account::Model>> {
    let sql = "UPDATE ai_credit_accounts SET version = version + 1
               WHERE id = $1 AND deleted_at IS NULL RETURNING *";
    db::one(&**txn, sql, vec![id.into()]).await
}

async fn add_held(
    txn: &Txn,
    id: AccountId,
    (amount, count): (i64, i64),
    now: DateTime<Utc>,
) -> Result<credit_account::Model> {
    let sql = "UPDATE ai_credit_accounts SET held = held + $2, running = running + $3,
               updated_at = $4 WHERE id = $1 RETURNING *";
    let values = vec![id.into(), amount.into(), count.into(), now.into()];
    let held = db::one(&**txn, sql, values).await?;
    held.ok_or_else(|| Error::broken("a locked account is gone"))
}

/// A hold to write for an admitted want.
#[derive(Clone, Debug)]
pub struct NewHold {
    /// Its id.
    pub id: HoldId,
    /// The account.
    pub account: AccountId,
    /// The execution that it pays for.
    pub execution: ExecutionId,
    /// For whom.
    pub user: UserId,
    /// The function.
    pub function: AiFunctionType,
    /// Credits set aside.
    pub amount: i64,
    /// The account's version at admission.
    pub version: i64,
    /// When the hold may be swept, unless its owner renews it.
    pub lease_until: DateTime<Utc>,
}

/// Writes the holds of admitted wants, in one statement.
pub async fn write_holds(txn: &Txn, holds: Vec<NewHold>, now: DateTime<Utc>) -> Result<()> {
    let row = |hold: NewHold| credit_hold::Model {
        id: hold.id,
        account_id: hold.account,
        execution_id: hold.execution,
        user_id: hold.user,
        function_type: hold.function,
        amount: hold.amount,
        version: hold.version,
        state: HoldState::Active,
        in_flight_at: None,
        watermark: 0,
        lease_until: hold.lease_until,
        charge: 0,
        resolved_by: None,
        created_at: now,
        resolved_at: None,
    };
    let rows: Vec<_> = holds.into_iter().map(row).collect();
    db::insert::<credit_hold::Entity>(&**txn, &rows).await
}

/// Marks that calls are about to leave for the provider. Answers those whose hold is still ours.
pub async fn mark_in_flight(
    txn: &Txn,
    holds: &[HoldId],
    now: DateTime<Utc>,
) -> Result<HashSet<HoldId>> {
    #[derive(FromQueryResult)]
    struct Marked {
        id: HoldId,
    }
    let mut rows = Rows::default();
    holds.iter().for_each(|hold| rows.push([Value::from(*hold)]));
    if rows.is_empty() {
        return Ok(HashSet::new());
    }
    let (table, mut values) = rows.table(&**txn, 3);
    // The state travels as a value, lest the planner go by the index of all that are active.
    let sql = format!(
        "UPDATE ai_credit_holds SET in_flight_at = $1 FROM {table}
         WHERE id = v.column1 AND state = $2 AND lease_until > $1 RETURNING id"
    );
    values.splice(0..0, [now.into(), HoldState::Active.as_str().into()]);
    let marked: Vec<Marked> = db::all(&**txn, sql, values).await?;
    Ok(marked.into_iter().map(|hold| hold.id).collect())
}

/// Renews a lease. False: the hold is no longer ours.
pub async fn renew(txn: &Txn, hold: HoldId, until: DateTime<Utc>) -> Result<bool> {
    let sql = "UPDATE ai_credit_holds SET lease_until = $2 WHERE id = $1 AND state = 'ACTIVE'";
    Ok(db::execute(&**txn, sql, vec![hold.into(), until.into()]).await? > 0)
}

/// When the next lease ends, if a hold is active.
pub async fn next_lease_end(db: &crate::db::Db) -> Result<Option<DateTime<Utc>>> {
    #[derive(FromQueryResult)]
    struct Lease {
        lease_until: DateTime<Utc>,
    }
    let sql = "SELECT lease_until FROM ai_credit_holds WHERE state = 'ACTIVE'
               ORDER BY lease_until LIMIT 1";
    let lease: Option<Lease> = db::one(db.primary(), sql, vec![]).await?;
    Ok(lease.map(|lease| lease.lease_until))
}
