//! Writes a [`Book`] down: the account row is locked first, everything that changed follows in the
//! same transaction, rows in ascending order of their ids.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sea_orm::{
    ConnectionTrait, EntityTrait, FromQueryResult, IdenStatic, Iterable, Statement, Value,
};

use crate::credits::book::{Book, Draw, Kept, Line, RowState};
use crate::credits::period;
use crate::db::{self, Rows, Txn};
use crate::entity::{
    credit_account, credit_draw, credit_grant, credit_transaction, credit_withdrawal,
};
use crate::error::Result;
use crate::events::{self, BalanceChanged, Event};
use crate::ids::{AccountId, DrawId};

/// An account under its lock, with its book.
#[derive(Debug)]
pub(crate) struct OpenAccount {
    /// The row as it was locked; fields other than the balance may be changed before saving.
    pub(crate) account: credit_account::Model,
    /// Its credits.
    pub(crate) book: Book,
    /// The row as it stands in the database.
    stored: credit_account::Model,
}

/// Locks an account (its version moves on by one) and opens its book.
pub(crate) async fn open(txn: &Txn, id: AccountId) -> Result<Option<OpenAccount>> {
    let sql = "UPDATE ai_credit_accounts SET version = version + 1
               WHERE id = $1 AND deleted_at IS NULL RETURNING *";
    let locked: Option<credit_account::Model> = db::one(&**txn, sql, vec![id.into()]).await?;
    let Some(account) = locked else { return Ok(None) };
    let mut books = open_books(txn, vec![account]).await?;
    Ok(books.pop())
}

/// Opens the books of accounts that this transaction has locked. Grants are read only now, after
/// the lock. One statement, however many accounts.
pub(crate) async fn open_books(
    txn: &Txn,
    accounts: Vec<credit_account::Model>,
) -> Result<Vec<OpenAccount>> {
    let ids: Vec<Value> = accounts.iter().map(|account| account.id.into()).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = grants_with_withdrawals(txn, ids).await?;
    let mut grants: Vec<credit_grant::Model> = Vec::with_capacity(rows.len());
    let mut withdrawals = Vec::new();
    for (grant, withdrawal) in rows {
        // A grant with two open withdrawals comes twice, one behind the other.
        if grants.last().is_none_or(|last| last.id != grant.id) {
            grants.push(grant);
        }
        withdrawals.extend(withdrawal);
    }
    withdrawals.sort_by_key(|withdrawal: &credit_withdrawal::Model| withdrawal.id);
    let mut grants = by_account(grants, |grant| grant.account_id);
    let mut withdrawals = by_account(withdrawals, |withdrawal| withdrawal.account_id);
    let books = accounts.into_iter().map(|account| {
        let numbers = (account.current_balance, account.held, account.version);
        let grants = grants.remove(&account.id).unwrap_or_default();
        let withdrawals = withdrawals.remove(&account.id).unwrap_or_default();
        let stored = account.clone();
        OpenAccount { account, book: Book::open(numbers, grants, withdrawals), stored }
    });
    Ok(books.collect())
}

/// Grants with credits left, each with its open withdrawals, in the order of their ids. Only such
/// grants have one: a withdrawal closes when its grant is empty.
async fn grants_with_withdrawals(
    txn: &Txn,
    accounts: Vec<Value>,
) -> Result<Vec<(credit_grant::Model, Option<credit_withdrawal::Model>)>> {
    let sql = format!(
        "SELECT {}, {} FROM ai_credit_grants g
         LEFT JOIN ai_credit_withdrawals w ON w.grant_id = g.id AND w.closed_at IS NULL
         WHERE g.account_id IN {} AND g.remaining > 0 ORDER BY g.id, w.id",
        columns::<credit_grant::Entity>("g"),
        columns::<credit_withdrawal::Entity>("w"),
        db::tuples(1, accounts.len(), 1)
    );
    let backend = txn.get_database_backend();
    let rows = txn.query_all_raw(Statement::from_sql_and_values(backend, sql, accounts)).await?;
    rows.iter()
        .map(|row| {
            let grant = credit_grant::Model::from_query_result(row, "g_")?;
            let withdrawal = credit_withdrawal::Model::from_query_result_optional(row, "w_")?;
            Ok((grant, withdrawal))
        })
        .collect()
}

/// `g.id AS g_id, …` for every column of a table.
fn columns<E: EntityTrait>(alias: &str) -> String {
    let column = |column: E::Column| {
        let name = column.as_str();
        format!("{alias}.{name} AS {alias}_{name}")
    };
    E::Column::iter().map(column).collect::<Vec<_>>().join(", ")
}

/// The columns of an account: `*` would bring those of a second table along.
pub(crate) fn account_columns() -> String {
    let names: Vec<_> = credit_account::Column::iter().map(|it| it.as_str().to_owned()).collect();
    names.join(", ")
}

fn by_account<R>(rows: Vec<R>, account: impl Fn(&R) -> AccountId) -> BTreeMap<AccountId, Vec<R>> {
    let mut map: BTreeMap<AccountId, Vec<R>> = BTreeMap::new();
    for row in rows {
        map.entry(account(&row)).or_default().push(row);
    }
    map
}

/// Saves what changed in the books and announces each balance. The account row is written again
/// only when more than the lock changed it.
pub(crate) async fn save(
    txn: &mut Txn,
    opened: Vec<OpenAccount>,
    now: DateTime<Utc>,
) -> Result<Vec<credit_account::Model>> {
    let mut saved = Vec::with_capacity(opened.len());
    let mut changes = Changes::default();
    for OpenAccount { mut account, book, stored } in opened {
        account.current_balance = book.current;
        account.held = book.held;
        account.version = book.version;
        account.next_due_at = next_due(&account, &book, now);
        if account != stored {
            account.updated_at = now;
            save_account(txn, &account).await?;
        }
        announce(txn, &account, now);
        changes.collect(account.id, book);
        saved.push(account);
    }
    changes.write(txn, now).await?;
    Ok(saved)
}

/// Tells subscribers the account's balance once the transaction is committed.
pub(crate) fn announce(txn: &mut Txn, account: &credit_account::Model, at: DateTime<Utc>) {
    let change = BalanceChanged {
        account: account.id,
        tenant: account.tenant_id,
        current: account.current_balance,
        held: account.held,
        version: account.version,
        at,
    };
    events::announce(txn, Event::Balance(change));
}

/// The earlier of the next period's start and the earliest expiry. It is moved on only by
/// `apply_due`, when it has passed; a due account stays due until then.
fn next_due(account: &credit_account::Model, book: &Book, now: DateTime<Utc>) -> DateTime<Utc> {
    if account.next_due_at <= now {
        return account.next_due_at;
    }
    book.next_expiry().map_or(account.next_due_at, |expiry| expiry.min(account.next_due_at))
}

/// When the account is next due after everything up to `now` was applied.
pub(crate) fn next_due_after(
    account: &credit_account::Model,
    book: &Book,
    now: DateTime<Utc>,
) -> DateTime<Utc> {
    let zone = period::zone(&account.time_zone);
    let next = period::next_period(period::period_of(now, zone));
    let reset = period::start_of_day(next, zone);
    book.next_expiry().map_or(reset, |expiry| expiry.min(reset))
}

async fn save_account(txn: &Txn, account: &credit_account::Model) -> Result<()> {
    let sql = "UPDATE ai_credit_accounts SET current_balance = $2, held = $3, version = $4,
               next_due_at = $5, plan_type = $6, next_plan_type = $7, monthly_free_credits = $8,
               entitled_until = $9, total_purchased_credits = $10, updated_at = $11
               WHERE id = $1";
    let values = vec![
        account.id.into(),
        account.current_balance.into(),
        account.held.into(),
        account.version.into(),
        account.next_due_at.into(),
        account.plan_type.as_str().into(),
        account.next_plan_type.map(|plan| plan.as_str().to_owned()).into(),
        account.monthly_free_credits.into(),
        account.entitled_until.into(),
        account.total_purchased_credits.into(),
        account.updated_at.into(),
    ];
    db::execute(&**txn, sql, values).await?;
    Ok(())
}

/// Rows to write, gathered over all accounts so that each kind takes one statement.
#[derive(Default)]
struct Changes {
    new_grants: Vec<credit_grant::Model>,
    grants: Vec<credit_grant::Model>,
    new_withdrawals: Vec<credit_withdrawal::Model>,
    withdrawals: Vec<credit_withdrawal::Model>,
    lines: Vec<(AccountId, Line)>,
    draws: Vec<Draw>,
}

impl Changes {
    fn collect(&mut self, account: AccountId, book: Book) {
        sort_out(book.grants, &mut self.new_grants, &mut self.grants);
        sort_out(book.withdrawals, &mut self.new_withdrawals, &mut self.withdrawals);
        self.lines.extend(book.lines.into_iter().map(|line| (account, line)));
        self.draws.extend(book.draws);
    }

    async fn write(mut self, txn: &Txn, now: DateTime<Utc>) -> Result<()> {
        self.grants.sort_by_key(|grant| grant.id);
        self.withdrawals.sort_by_key(|withdrawal| withdrawal.id);
        db::insert::<credit_grant::Entity>(&**txn, &self.new_grants).await?;
        update_grants(txn, &self.grants).await?;
        db::insert::<credit_withdrawal::Entity>(&**txn, &self.new_withdrawals).await?;
        update_withdrawals(txn, &self.withdrawals).await?;
        let lines = self.lines.into_iter().map(|(account, line)| row_of(account, line, now));
        db::insert::<credit_transaction::Entity>(&**txn, &lines.collect::<Vec<_>>()).await?;
        let draws: Vec<_> = self.draws.into_iter().map(draw_row).collect();
        db::insert::<credit_draw::Entity>(&**txn, &draws).await
    }
}

fn sort_out<R>(kept: Vec<Kept<R>>, new: &mut Vec<R>, changed: &mut Vec<R>) {
    for Kept { row, state } in kept {
        match state {
            RowState::Same => {}
            RowState::Changed => changed.push(row),
            RowState::New => new.push(row),
        }
    }
}

async fn update_grants(txn: &Txn, grants: &[credit_grant::Model]) -> Result<()> {
    let mut rows = Rows::default();
    for grant in grants {
        rows.push([Value::from(grant.id), grant.remaining.into(), grant.cost_left.into()]);
    }
    if rows.is_empty() {
        return Ok(());
    }
    let (table, values) = rows.table(&**txn, 1);
    let sql = format!(
        "UPDATE ai_credit_grants SET remaining = v.column2, cost_left = v.column3
         FROM {table} WHERE ai_credit_grants.id = v.column1"
    );
    db::execute(&**txn, sql, values).await?;
    Ok(())
}

async fn update_withdrawals(txn: &Txn, withdrawals: &[credit_withdrawal::Model]) -> Result<()> {
    let mut rows = Rows::default();
    for row in withdrawals {
        rows.push([
            Value::from(row.id),
            row.asked.into(),
            row.taken.into(),
            row.put_back.into(),
            row.cost_taken.into(),
            row.closed_at.into(),
        ]);
    }
    if rows.is_empty() {
        return Ok(());
    }
    let (table, values) = rows.table(&**txn, 1);
    let sql = format!(
        "UPDATE ai_credit_withdrawals SET asked = v.column2, taken = v.column3,
         put_back = v.column4, cost_taken = v.column5, closed_at = v.column6
         FROM {table} WHERE ai_credit_withdrawals.id = v.column1"
    );
    db::execute(&**txn, sql, values).await?;
    Ok(())
}

fn row_of(account_id: AccountId, line: Line, now: DateTime<Utc>) -> credit_transaction::Model {
    let Line { id, version, kind, credits, balance_after, cost, about } = line;
    credit_transaction::Model {
        id,
        account_id,
        version,
        transaction_type: kind,
        credits_amount: credits,
        balance_after,
        ai_function_type: about.run.as_ref().map(|run| run.function),
        ai_function_params: about.run.as_ref().map(|run| run.params.clone()),
        execution_time_ms: about.run.as_ref().map(|run| run.time_ms),
        total_cost_yen: cost,
        user_id: about.user,
        execution_id: about.execution,
        hold_id: about.hold,
        grant_id: about.grant,
        reference_id: about.reference,
        description: about.description,
        created_at: now,
    }
}

fn draw_row(draw: Draw) -> credit_draw::Model {
    credit_draw::Model {
        id: DrawId::new(),
        transaction_id: draw.transaction,
        hold_id: draw.hold,
        grant_id: draw.grant,
        credits: draw.credits,
        cost: draw.cost,
        returned: 0,
        returned_cost: 0,
    }
}
