//! Who has a purchase's money, and so what of its credits: its refunds and disputes, in the order
//! in which they were learned. Each takes the credits that its part of the price stands for, and
//! none takes what an earlier one stands for.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, FromQueryResult};
use uuid::Uuid;

use crate::credits::service::withdraw::{Withdraw, put_back, withdraw};
use crate::db::{self, Txn};
use crate::entity::credit_purchase;
use crate::entity::credit_withdrawal::{self, WithdrawalReason};
use crate::error::{Error, Result};
use crate::ids::WithdrawalId;
use crate::money::share;

/// A refund or a dispute that has money of the purchase.
#[derive(Debug, FromQueryResult)]
struct Claim {
    id: Uuid,
    is_dispute: bool,
    /// Whether it was asked for here: then it took all that it stands for, or was not made.
    is_ours: bool,
    amount: i64,
    withdrawal_id: Option<WithdrawalId>,
    /// Credits that it has taken, or still waits for.
    credits: i64,
}

const CLAIMS: &str = "
SELECT * FROM (
    SELECT r.id, CAST(FALSE AS boolean) AS is_dispute,
        CAST(CASE WHEN r.user_id IS NULL THEN FALSE ELSE TRUE END AS boolean) AS is_ours,
        r.amount, r.withdrawal_id, COALESCE(w.asked - w.put_back, 0) AS credits, r.created_at
    FROM purchase_refunds r LEFT JOIN ai_credit_withdrawals w ON w.id = r.withdrawal_id
    WHERE r.purchase_id = $1 AND r.status <> 'FAILED' AND r.id <> $2
    UNION ALL
    SELECT d.id, CAST(TRUE AS boolean), CAST(FALSE AS boolean),
        d.amount, d.withdrawal_id, COALESCE(w.asked - w.put_back, 0), d.created_at
    FROM payment_disputes d LEFT JOIN ai_credit_withdrawals w ON w.id = d.withdrawal_id
    WHERE d.purchase_id = $1 AND d.status IN ('OPEN', 'LOST') AND d.id <> $2
) c ORDER BY c.created_at, c.id";

async fn others(
    conn: &impl ConnectionTrait,
    row: &credit_purchase::Model,
    except: Uuid,
) -> Result<Vec<Claim>> {
    db::all(conn, CLAIMS, vec![row.id.into(), except.into()]).await
}

/// The credits of so much of the price, when so much of it is gone already.
fn part(row: &credit_purchase::Model, gone: i64, amount: i64) -> i64 {
    let gone = gone.min(row.amount);
    let until = (gone + amount).min(row.amount);
    share(row.credits, until, row.amount) - share(row.credits, gone, row.amount)
}

/// Takes what so much more money stands for, as far as it is unspent: what is free at once, the
/// rest as running calls end. For the claim of this id.
pub(crate) async fn take(
    txn: &mut Txn,
    row: &credit_purchase::Model,
    (id, amount, reason): (Uuid, i64, WithdrawalReason),
    now: DateTime<Utc>,
) -> Result<Option<WithdrawalId>> {
    let gone = others(&**txn, row, id).await?.iter().map(|claim| claim.amount).sum();
    let reference = if reason == WithdrawalReason::Dispute { id } else { row.id.0 };
    let taken = claim(txn, row, (part(row, gone, amount), reason, reference), now).await?;
    Ok(taken.map(|taken| taken.id))
}

/// Gives back what the claim of this id took. Whoever stood behind it now takes what it left.
pub(crate) async fn give_back(
    txn: &mut Txn,
    row: &credit_purchase::Model,
    (id, withdrawal): (Uuid, Option<WithdrawalId>),
    now: DateTime<Utc>,
) -> Result<()> {
    if let Some(withdrawal) = withdrawal {
        unless_closed(put_back(txn, row.account_id, withdrawal, now).await)?;
    }
    let mut gone = 0;
    for other in others(&**txn, row, id).await? {
        let stands_for = part(row, gone, other.amount);
        gone += other.amount;
        if other.is_ours || other.credits >= stands_for {
            continue;
        }
        // One withdrawal for each, so that all of it can come back.
        if let Some(withdrawal) = other.withdrawal_id {
            unless_closed(put_back(txn, row.account_id, withdrawal, now).await)?;
        }
        let (table, reason, reference) = match other.is_dispute {
            true => ("payment_disputes", WithdrawalReason::Dispute, other.id),
            false => ("purchase_refunds", WithdrawalReason::PurchaseRefund, row.id.0),
        };
        let taken = claim(txn, row, (stands_for, reason, reference), now).await?;
        let sql = format!("UPDATE {table} SET withdrawal_id = $2, updated_at = $3 WHERE id = $1");
        let values = vec![other.id.into(), taken.map(|taken| taken.id).into(), now.into()];
        db::execute(&**txn, sql, values).await?;
    }
    Ok(())
}

/// None of a purchase that brought no credits, or whose account is closed.
async fn claim(
    txn: &mut Txn,
    row: &credit_purchase::Model,
    (credits, reason, reference): (i64, WithdrawalReason, Uuid),
    now: DateTime<Utc>,
) -> Result<Option<credit_withdrawal::Model>> {
    let Some(grant) = row.grant_id.filter(|_| credits > 0) else { return Ok(None) };
    let wish = Withdraw {
        account: row.account_id,
        grant,
        reason,
        credits,
        waits: true,
        reference: Some(reference),
    };
    unless_closed(withdraw(txn, wish, now).await)
}

/// A closed account has nothing to take, and takes nothing.
fn unless_closed(
    outcome: Result<credit_withdrawal::Model>,
) -> Result<Option<credit_withdrawal::Model>> {
    match outcome {
        Ok(done) => Ok(Some(done)),
        Err(Error::NotFound("credit account")) => Ok(None),
        Err(error) => Err(error),
    }
}
