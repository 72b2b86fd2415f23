//! What became of an attempt: written in the transaction that learned it of the purchase.

use chrono::{DateTime, Utc};
use sea_orm::EntityTrait;
use serde_json::{Value as Json, json};

use crate::alerts::{self, AlertKind, NewAlert};
use crate::app::App;
use crate::audit::{self, Action, Subject};
use crate::db::{self, Txn};
use crate::entity::alert::AlertSeverity;
use crate::entity::auto_purchase::AutoPurchaseReason as Reason;
use crate::entity::auto_purchase_attempt::AttemptState;
use crate::entity::credit_purchase::{FailureCode, PaymentStatus, PurchaseSource};
use crate::entity::{auto_purchase, auto_purchase_attempt, credit_account, credit_purchase};
use crate::error::{Error, Result};
use crate::ids::PurchaseId;
use crate::payments::auto::decide::{self, PAUSE};
use crate::payments::notice;

/// Failures of one card after which nothing more is bought by it.
const FAILURES_MAX: i32 = 3;

/// Ends the attempt of a purchase that has ended; `before` and after what was learned. It is called
/// for every purchase that changes.
pub(crate) async fn told(
    app: &App,
    txn: &mut Txn,
    (before, purchase): (&credit_purchase::Model, &credit_purchase::Model),
    now: DateTime<Utc>,
) -> Result<()> {
    if purchase.source != PurchaseSource::AutoPurchase {
        return Ok(());
    }
    let reason = match purchase.status {
        PaymentStatus::Pending | PaymentStatus::RequiresAction | PaymentStatus::Overdue => {
            return Ok(());
        }
        PaymentStatus::Completed | PaymentStatus::Refunded | PaymentStatus::Disputed => None,
        PaymentStatus::Failed => Some(purchase.failure_code.map_or(Reason::CardDeclined, why)),
        // Nobody is there to answer the bank: we give such a payment up.
        PaymentStatus::Cancelled if before.status == PaymentStatus::RequiresAction => {
            Some(Reason::AuthenticationRequired)
        }
        PaymentStatus::Cancelled => Some(Reason::Cancelled),
    };
    // The account comes before all that hangs on it, as everywhere.
    let quiet_until = reason.map(|_| now + PAUSE);
    decide::rest(txn, purchase.account_id, quiet_until).await?;
    let Some(attempt) = end(txn, purchase.id, reason, now).await? else { return Ok(()) };
    match reason {
        None => succeeded(app, txn, (purchase, &attempt), now).await,
        Some(reason) => failed(app, txn, (purchase, &attempt, reason), now).await,
    }
}

fn why(code: FailureCode) -> Reason {
    match code {
        FailureCode::CardDeclined => Reason::CardDeclined,
        FailureCode::InsufficientFunds => Reason::InsufficientFunds,
        FailureCode::ExpiredCard => Reason::ExpiredCard,
        FailureCode::IncorrectCard => Reason::IncorrectCard,
        FailureCode::AuthenticationFailed => Reason::AuthenticationRequired,
        FailureCode::ProcessingError => Reason::ProcessingError,
        FailureCode::PaymentRefused => Reason::PaymentRefused,
        FailureCode::NotStarted => Reason::NotStarted,
    }
}

/// None: it had ended so before. One that failed may still be paid.
async fn end(
    txn: &Txn,
    purchase: PurchaseId,
    reason: Option<Reason>,
    now: DateTime<Utc>,
) -> Result<Option<auto_purchase_attempt::Model>> {
    let sql = "UPDATE auto_purchase_attempts SET state = $2, reason = $3, ended_at = $4
               WHERE purchase_id = $1 AND (state = 'OPEN' OR (state = 'FAILED' AND $2 <> state))
               RETURNING *";
    let state = if reason.is_none() { AttemptState::Succeeded } else { AttemptState::Failed };
    let reason = reason.map(|reason| reason.as_str().to_owned());
    let values = vec![purchase.into(), state.as_str().into(), reason.into(), now.into()];
    db::one(&**txn, sql, values).await
}

async fn succeeded(
    app: &App,
    txn: &mut Txn,
    (purchase, attempt): (&credit_purchase::Model, &auto_purchase_attempt::Model),
    now: DateTime<Utc>,
) -> Result<()> {
    let sql = "UPDATE auto_purchases SET failures = 0, failed_at = NULL, suspended_at = NULL,
               blocked_reason = NULL, blocked_at = NULL, updated_at = $2 WHERE account_id = $1";
    db::execute(&**txn, sql, vec![purchase.account_id.into(), now.into()]).await?;
    let data = facts(purchase, attempt);
    let subject = Subject::of("auto_purchase_attempt", attempt.id.0);
    let subject = subject.in_tenant(purchase.tenant_id).with(data);
    audit::record_own(app, txn, Action::AutoPurchased, subject).await
}

async fn failed(
    app: &App,
    txn: &mut Txn,
    (purchase, attempt, reason): (&credit_purchase::Model, &auto_purchase_attempt::Model, Reason),
    now: DateTime<Utc>,
) -> Result<()> {
    // A card that has not failed before begins anew; it does not answer for a Stripe that was away.
    let is_of_card = reason != Reason::NotStarted;
    let sql = "UPDATE auto_purchases SET
               failures = CASE WHEN NOT $5 THEN failures
                               WHEN failed_card = $2 THEN failures + 1 ELSE 1 END,
               failed_card = CASE WHEN $5 THEN $2 ELSE failed_card END,
               failed_at = $3, blocked_reason = $4, blocked_at = $3, updated_at = $3
               WHERE account_id = $1 RETURNING *";
    let values = vec![
        purchase.account_id.into(),
        attempt.card.clone().into(),
        now.into(),
        reason.as_str().into(),
        is_of_card.into(),
    ];
    let settings: Option<auto_purchase::Model> = db::one(&**txn, sql, values).await?;
    let settings = settings.ok_or(Error::NotFound("automatic purchase"))?;
    let is_suspended = is_of_card && settings.failures >= FAILURES_MAX;
    if is_suspended {
        let sql = "UPDATE auto_purchases SET suspended_at = $2 WHERE account_id = $1";
        db::execute(&**txn, sql, vec![purchase.account_id.into(), now.into()]).await?;
    }
    let account = credit_account::Entity::find_by_id(purchase.account_id).one(&**txn).await?;
    let account = account.ok_or(Error::NotFound("credit account"))?;
    let mut data = facts(purchase, attempt);
    data["reason"] = json!(reason);
    data["failures"] = settings.failures.into();
    data["isSuspended"] = is_suspended.into();
    notice::auto_purchase_failed(app, txn, (purchase, is_suspended)).await?;
    tell_of_failure(app, txn, &account, (data, Some(attempt)), now).await
}

fn facts(purchase: &credit_purchase::Model, attempt: &auto_purchase_attempt::Model) -> Json {
    json!({
        "purchase": purchase.id.to_string(), "package": purchase.package_id.to_string(),
        "credits": purchase.credits, "amount": purchase.amount, "cause": attempt.cause,
        "balance": attempt.balance_before, "held": attempt.held_before,
        "threshold": attempt.threshold, "needed": attempt.needed,
    })
}

/// Records that nothing was bought, and raises the alert. An account that is closed warns nobody.
pub(crate) async fn tell_of_failure(
    app: &App,
    txn: &mut Txn,
    account: &credit_account::Model,
    (data, attempt): (Json, Option<&auto_purchase_attempt::Model>),
    now: DateTime<Utc>,
) -> Result<()> {
    let subject = match attempt {
        Some(attempt) => Subject::of("auto_purchase_attempt", attempt.id.0),
        None => Subject::of("credit_account", account.id.0),
    };
    let subject = subject.in_tenant(account.tenant_id).with(data.clone());
    audit::record_own(app, txn, Action::AutoPurchaseFailed, subject).await?;
    if account.deleted_at.is_some() {
        return Ok(());
    }
    let window = attempt.map_or_else(
        || format!("{}:{}", account.id, now.timestamp_micros()),
        |attempt| attempt.id.to_string(),
    );
    let alert = NewAlert {
        tenant: Some(account.tenant_id),
        kind: AlertKind::AutoPurchaseFailed,
        severity: AlertSeverity::Critical,
        dedupe_key: format!("AUTO_PURCHASE_FAILED:{window}"),
        data,
    };
    alerts::raise(txn, alert, now).await?;
    Ok(())
}

/// Another card is the default: attempts are made again.
pub(crate) async fn resume(
    app: &App,
    txn: &Txn,
    account: &credit_account::Model,
    now: DateTime<Utc>,
) -> Result<()> {
    let sql = "UPDATE auto_purchases SET failures = 0, suspended_at = NULL, blocked_reason = NULL,
               blocked_at = NULL, updated_at = $2 WHERE account_id = $1";
    db::execute(&**txn, sql, vec![account.id.into(), now.into()]).await?;
    let subject = Subject::of("credit_account", account.id.0).in_tenant(account.tenant_id);
    audit::record_own(app, txn, Action::AutoPurchaseResumed, subject).await
}
