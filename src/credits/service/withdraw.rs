//! Taking credits away from a grant, and putting them back, for whoever has a reason to.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::credits::ledger::{self, OpenAccount};
use crate::credits::service::due::withdrawal;
use crate::db::Txn;
use crate::entity::credit_withdrawal::WithdrawalReason;
use crate::entity::{credit_grant, credit_withdrawal};
use crate::error::{Error, Result};
use crate::ids::{AccountId, GrantId, WithdrawalId};

/// A wish to take credits away.
#[derive(Clone, Copy, Debug)]
pub struct Withdraw {
    /// The account.
    pub account: AccountId,
    /// The grant that they came with.
    pub grant: GrantId,
    /// Why.
    pub reason: WithdrawalReason,
    /// Credits; what the grant no longer has is not asked.
    pub credits: i64,
    /// Whether what running calls hold goes when they end; else it stays.
    pub waits: bool,
    /// The purchase or dispute.
    pub reference: Option<Uuid>,
}

/// Opens a withdrawal: what is free goes at once, the rest as running calls end, if it waits.
/// Returns the row; `taken` says what went.
pub async fn withdraw(
    txn: &mut Txn,
    wish: Withdraw,
    now: DateTime<Utc>,
) -> Result<credit_withdrawal::Model> {
    let mut open = open(txn, wish.account).await?;
    let left =
        open.book.grants().find(|grant| grant.id == wish.grant).map_or(0, |grant| grant.remaining);
    let asked = wish.credits.clamp(0, left);
    let mut row = withdrawal(&mut open, wish.grant, wish.reason, asked, now);
    (row.waits, row.reference_id) = (wish.waits, wish.reference);
    let id = row.id;
    open.book.withdraw(row, now);
    finish(txn, open, id, now).await
}

/// Puts back what a withdrawal took and closes it: a dispute that was won, a refund that failed.
/// A second call puts nothing back.
pub async fn put_back(
    txn: &mut Txn,
    account: AccountId,
    id: WithdrawalId,
    now: DateTime<Utc>,
) -> Result<credit_withdrawal::Model> {
    let mut open = open(txn, account).await?;
    let row = credit_withdrawal::Entity::of_account_and_id(account, id)
        .one(&**txn)
        .await?
        .ok_or(Error::NotFound("withdrawal"))?;
    let grant = credit_grant::Entity::of_account_and_id(account, row.grant_id)
        .one(&**txn)
        .await?
        .ok_or(Error::NotFound("grant"))?;
    open.book.admit_rows(grant, row);
    open.book.put_back(id, now);
    // What came back may be what another withdrawal waits for.
    open.book.take_open(now);
    finish(txn, open, id, now).await
}

async fn open(txn: &Txn, account: AccountId) -> Result<OpenAccount> {
    ledger::open(txn, account).await?.ok_or(Error::NotFound("credit account"))
}

async fn finish(
    txn: &mut Txn,
    open: OpenAccount,
    id: WithdrawalId,
    now: DateTime<Utc>,
) -> Result<credit_withdrawal::Model> {
    let row = open.book.withdrawal(id).cloned();
    ledger::save(txn, vec![open], now).await?;
    row.ok_or_else(|| Error::broken("a withdrawal left its book"))
}
