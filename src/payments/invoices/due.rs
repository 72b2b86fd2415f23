//! Invoices by the clock: asking Stripe about unpaid ones, and reminding their payers.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::Value;

use crate::app::App;
use crate::db;
use crate::entity::credit_purchase::{self, PaymentStatus};
use crate::error::{Error, Result};
use crate::payments::invoices::{issue, keep, letter};
use crate::payments::service::learn::{self, Learned, Told};

/// Invoices that one run looks at.
const ROWS_MAX: i64 = 200;
/// When Stripe is asked again about one that was sent.
const LATER: TimeDelta = TimeDelta::hours(1);
/// So many that cannot be looked at end a run.
const FAILED_MAX: usize = 5;
/// How long before its end a payer is reminded.
const REMIND_BEFORE: TimeDelta = TimeDelta::days(3);

/// Looks at unpaid invoices: those that are due for a look, and those that became overdue. How many
/// those were, and how many ended.
pub(crate) async fn look_at_unpaid(app: &App, now: DateTime<Utc>) -> Result<(usize, usize)> {
    take_back_of_closed(app, now).await?;
    let rows = some(app, UNPAID, vec![now.into(), ROWS_MAX.into()]).await?;
    let (looked, mut ended, mut failed) = (rows.len(), 0, 0);
    for row in rows {
        // Marked first, so that one that cannot be looked at holds up no other.
        mark(app, &row, now).await?;
        match Box::pin(issue::go_on(app, row)).await {
            Ok(row) if !is_unpaid(&row) => ended += 1,
            Ok(_) => {}
            Err(error) => {
                failed += 1;
                tracing::warn!(%error, "An invoice could not be looked at: {error}");
                if failed == FAILED_MAX {
                    break;
                }
            }
        }
    }
    Ok((looked, ended))
}

const UNPAID: &str = "
SELECT p.* FROM credit_invoices i JOIN credit_purchases p ON p.id = i.purchase_id
WHERE i.status IN ('DRAFT', 'OPEN', 'OVERDUE', 'UNCOLLECTIBLE') AND i.next_check_at <= $1
ORDER BY i.next_check_at LIMIT $2";

/// Nobody is to pay for a tenant that was closed: its invoices are unwanted.
async fn take_back_of_closed(app: &App, now: DateTime<Utc>) -> Result<()> {
    let sql = "UPDATE credit_invoices SET cancel_asked_at = $1, next_check_at = $1, updated_at = $1
               WHERE status IN ('DRAFT', 'OPEN', 'OVERDUE', 'UNCOLLECTIBLE')
                   AND cancel_asked_at IS NULL
                   AND tenant_id IN (SELECT id FROM tenants WHERE deleted_at IS NOT NULL)";
    let txn = app.db.begin().await?;
    db::execute(&*txn, sql, vec![now.into()]).await?;
    txn.commit().await
}

/// Reminds payers, once some days before an invoice is due and once when it is overdue. What Stripe
/// says now comes first, so that nobody is reminded who has paid. Says what it did.
pub async fn remind(app: App) -> Result<String> {
    let now = app.clock.db_now();
    let soon = vec![now.into(), (now + REMIND_BEFORE).into(), ROWS_MAX.into()];
    let mut told = 0;
    for (rows, stage) in [
        (some(&app, DUE_SOON, soon).await?, Stage::DueSoon),
        (some(&app, OVERDUE, vec![ROWS_MAX.into()]).await?, Stage::Overdue),
    ] {
        for row in rows {
            match Box::pin(remind_of(&app, row, stage)).await {
                Ok(true) => told += 1,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, "A payer could not be reminded: {error}");
                }
            }
        }
    }
    Ok(format!("{told} payers were reminded"))
}

/// Those that had less time than this from the beginning are not reminded of it.
const DUE_SOON: &str = "
SELECT p.* FROM credit_invoices i JOIN credit_purchases p ON p.id = i.purchase_id
WHERE i.status = 'OPEN' AND i.due_at > $1 AND i.due_at <= $2 AND i.due_told_at IS NULL
    AND i.days_until_due > 3 AND i.sent_at IS NOT NULL
ORDER BY i.due_at LIMIT $3";

const OVERDUE: &str = "
SELECT p.* FROM credit_invoices i JOIN credit_purchases p ON p.id = i.purchase_id
WHERE i.status = 'OVERDUE' AND i.overdue_told_at IS NULL ORDER BY i.due_at LIMIT $1";

/// What a payer is reminded of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The invoice is to be paid soon.
    DueSoon,
    /// It should have been paid.
    Overdue,
}

async fn remind_of(app: &App, row: credit_purchase::Model, stage: Stage) -> Result<bool> {
    let paper = keep::paper_of(app.db.primary(), &row).await?;
    let Some(id) = paper.and_then(|paper| paper.stripe_invoice_id) else { return Ok(false) };
    let invoice = app.payments.invoice(&id).await.map_err(Error::broken)?;
    let Learned::Told(_) = learn::learn_told(app, Told::Invoice(&invoice)).await? else {
        return Ok(false);
    };
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await?;
    let row = learn::lock(&txn, row.id).await?.ok_or(Error::NotFound("purchase"))?;
    let Some(paper) = keep::paper_of(&*txn, &row).await? else { return Ok(false) };
    let is_overdue = row.status == PaymentStatus::Overdue;
    let (told_at, is_so, column) = match stage {
        Stage::DueSoon => (paper.due_told_at, !is_overdue, "due_told_at"),
        Stage::Overdue => (paper.overdue_told_at, is_overdue, "overdue_told_at"),
    };
    if !is_unpaid(&row) || !is_so || told_at.is_some() || paper.cancel_asked_at.is_some() {
        return Ok(false);
    }
    letter::remind(app, &mut txn, (&row, &paper), stage).await?;
    let sql = format!("UPDATE credit_invoices SET {column} = $2 WHERE purchase_id = $1");
    db::execute(&*txn, sql, vec![row.id.into(), now.into()]).await?;
    txn.commit().await?;
    Ok(true)
}

fn is_unpaid(row: &credit_purchase::Model) -> bool {
    matches!(row.status, PaymentStatus::Pending | PaymentStatus::Overdue)
}

async fn some(app: &App, sql: &str, values: Vec<Value>) -> Result<Vec<credit_purchase::Model>> {
    db::all(app.db.primary(), sql, values).await
}

/// An invoice is looked at again when it falls due, if that comes first.
async fn mark(app: &App, row: &credit_purchase::Model, now: DateTime<Utc>) -> Result<()> {
    let sql = "UPDATE credit_invoices SET next_check_at = CASE
                   WHEN sent_at IS NULL OR cancel_asked_at IS NOT NULL THEN $2
                   WHEN due_at > $4 AND due_at < $3 THEN due_at ELSE $3 END
               WHERE purchase_id = $1";
    let values = vec![row.id.into(), (now + issue::SOON).into(), (now + LATER).into(), now.into()];
    let txn = app.db.begin().await?;
    db::execute(&*txn, sql, values).await?;
    txn.commit().await
}
