//! Learning what became of a payment: the one place where it is compared with our record, and where
//! it becomes credits, once.
//!
//! Whoever learns first (Stripe's answer, the webhook, the reconciler) locks the purchase's row, so
//! that all the others find it done. COMPLETED stays; everything else may still be paid, as Stripe
//! can tell things late and in any order.

use chrono::{DateTime, Utc};
use sea_orm::EntityTrait;
use serde_json::{Value as Json, json};

use crate::alerts::{self, AlertKind, NewAlert};
use crate::app::App;
use crate::credits::service::grant::{Purchase, grant_purchase};
use crate::crypto::{Place, Sealed};
use crate::db::{self, Txn};
use crate::entity::alert::AlertSeverity;
use crate::entity::credit_invoice::{self, InvoiceStatus};
use crate::entity::credit_purchase::{
    self, FailureCode, PaymentMethodKind, PaymentStatus, PurchaseSource,
};
use crate::error::{Error, Result};
use crate::events::{self, Event, PurchaseChanged};
use crate::external::stripe::{
    Decline, Invoice, InvoiceState, Payment, PaymentState, StripeFailure,
};
use crate::ids::{GrantId, PurchaseId, TypedId};
use crate::payments::auto::attempt;
use crate::payments::invoices::keep;
use crate::payments::{cards, notice};

/// What became of a payment here.
#[derive(Clone, Debug, PartialEq)]
pub enum Learned {
    /// It is none of ours.
    NotOurs,
    /// It names a purchase that we do not have; the operators were told.
    Unknown,
    /// It is not what we recorded; the operators were told, and nothing was granted.
    Mismatch,
    /// It was paid, but the account takes no credits; the operators were told.
    Ungranted,
    /// The purchase as it stands now.
    Told(Box<credit_purchase::Model>),
}

impl Learned {
    /// For the record of an event.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::NotOurs => "NOT_OURS",
            Self::Unknown => "UNKNOWN",
            Self::Mismatch => "MISMATCH",
            Self::Ungranted => "UNGRANTED",
            Self::Told(row) => row.status.as_str(),
        }
    }
}

/// What Stripe tells of a purchase's money: the payment itself, or the invoice that asks for it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Told<'a> {
    Payment(&'a Payment),
    Invoice(&'a Invoice),
}

impl Told<'_> {
    /// Stripe's id of it.
    fn id(&self) -> &str {
        match self {
            Self::Payment(payment) => &payment.id,
            Self::Invoice(invoice) => &invoice.id,
        }
    }

    /// What it asks for, in minor units, and in which currency.
    fn price(&self) -> (i64, &str) {
        match self {
            Self::Payment(payment) => (payment.amount, &payment.currency),
            Self::Invoice(invoice) => (invoice.total, &invoice.currency),
        }
    }

    /// Our purchase, as it was written on it.
    fn purchase(&self) -> Option<PurchaseId> {
        let named = match self {
            Self::Payment(payment) => &payment.purchase,
            Self::Invoice(invoice) => &invoice.purchase,
        };
        named.as_deref().and_then(|text| PurchaseId::parse(text).ok())
    }
}

/// Learns what a payment is now.
pub async fn learn(app: &App, payment: &Payment) -> Result<Learned> {
    learn_told(app, Told::Payment(payment)).await
}

/// Learns what a payment, or an invoice, is now: the one way from money to credits.
pub(crate) async fn learn_told(app: &App, told: Told<'_>) -> Result<Learned> {
    let Some(id) = told.purchase() else { return Ok(Learned::NotOurs) };
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await?;
    let Some(row) = lock(&txn, id).await? else {
        alarm(&mut txn, AlertKind::PaymentMismatch, (id, told, &["purchase"]), now).await?;
        txn.commit().await?;
        return Ok(Learned::Unknown);
    };
    let paper = keep::paper_of(&*txn, &row).await?;
    let differing = differences(app, &row, paper.as_ref(), told);
    if !differing.is_empty() {
        alarm(&mut txn, AlertKind::PaymentMismatch, (id, told, &differing), now).await?;
        txn.commit().await?;
        return Ok(Learned::Mismatch);
    }
    let is_void = paper.as_ref().is_some_and(|paper| paper.status == InvoiceStatus::Void);
    let mut next = after(&row, is_void, told, now);
    if let Told::Payment(payment) = told {
        next.client_secret = seal_secret(app, &row, &next, payment)?;
    }
    if next.status == PaymentStatus::Completed && row.grant_id.is_none() {
        match grant(&mut txn, &row, now).await {
            Ok(grant) => {
                next.grant_id = Some(grant);
                notice::credits_added(app, &mut txn, &row).await?;
                if let Told::Payment(payment) = told {
                    cards::keep_later(app, &mut txn, &row, payment).await?;
                }
            }
            Err(Error::Refused(refusal)) => {
                tracing::error!(purchase.id = %id, "{id} is paid and not granted: {refusal:?}");
                txn.rollback().await?;
                let mut txn = app.db.begin().await?;
                let what = (id, told, &["account"][..]);
                alarm(&mut txn, AlertKind::PaymentUngranted, what, now).await?;
                txn.commit().await?;
                return Ok(Learned::Ungranted);
            }
            Err(error) => return Err(error),
        }
    }
    let is_rewritten = match (told, paper) {
        (Told::Invoice(invoice), Some(paper)) => {
            keep::keep(app, &mut txn, (&next, paper), invoice, now).await?
        }
        (Told::Invoice(_) | Told::Payment(_), _) => false,
    };
    notice::payment_failed(app, &mut txn, (&row, &next), now).await?;
    let saved = save(app, &mut txn, (row, next, is_rewritten), now).await?;
    txn.commit().await?;
    Ok(Learned::Told(Box::new(saved)))
}

/// Learns a payment of this purchase; answers the purchase as it stands then.
pub(crate) async fn learned(
    app: &App,
    row: credit_purchase::Model,
    payment: &Payment,
) -> Result<credit_purchase::Model> {
    match learn(app, payment).await? {
        Learned::Told(row) => Ok(*row),
        Learned::NotOurs | Learned::Unknown | Learned::Mismatch | Learned::Ungranted => Ok(row),
    }
}

/// Asks Stripe how a payment stands and learns it; a Stripe that does not answer changes nothing.
pub(crate) async fn ask(
    app: &App,
    row: credit_purchase::Model,
    payment: &str,
) -> Result<credit_purchase::Model> {
    match app.payments.payment(payment).await {
        Ok(payment) => learned(app, row, &payment).await,
        Err(StripeFailure::Unavailable(why)) => {
            tracing::warn!(purchase.id = %row.id, why, "{} was not looked up: {why}", row.id);
            Ok(row)
        }
        Err(failure) => Err(Error::broken(failure)),
    }
}

/// A purchase of which Stripe has no payment failed. One that has become anything else stays.
pub(crate) async fn fail(
    app: &App,
    row: credit_purchase::Model,
    code: FailureCode,
) -> Result<credit_purchase::Model> {
    end(app, row, (PaymentStatus::Failed, Some(code))).await
}

/// Ends a purchase of which Stripe has no payment and no invoice. One that has become anything else
/// stays.
pub(crate) async fn end(
    app: &App,
    row: credit_purchase::Model,
    (status, failure_code): (PaymentStatus, Option<FailureCode>),
) -> Result<credit_purchase::Model> {
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await?;
    let row = lock(&txn, row.id).await?.ok_or(Error::NotFound("purchase"))?;
    let is_open = row.status == PaymentStatus::Pending && row.payment_intent_id.is_none();
    if !is_open {
        return Ok(row);
    }
    if row.method == PaymentMethodKind::Invoice {
        keep::discard(&txn, row.id, now).await?;
    }
    let next = credit_purchase::Model { status, failure_code, ..row.clone() };
    notice::payment_failed(app, &mut txn, (&row, &next), now).await?;
    let saved = save(app, &mut txn, (row, next, false), now).await?;
    txn.commit().await?;
    Ok(saved)
}

/// The no-op update is the lock: who learns the same at the same time waits here.
pub(crate) async fn lock(txn: &Txn, id: PurchaseId) -> Result<Option<credit_purchase::Model>> {
    let sql = "UPDATE credit_purchases SET version = version WHERE id = $1 RETURNING *";
    db::one(&**txn, sql, vec![id.into()]).await
}

/// In what a payment or an invoice differs from our record; nothing of it is trusted before.
fn differences(
    app: &App,
    row: &credit_purchase::Model,
    paper: Option<&credit_invoice::Model>,
    told: Told<'_>,
) -> Vec<&'static str> {
    let is_other = |known: &Option<String>, id: &str| known.as_ref().is_some_and(|it| it != id);
    let account = row.account_id.to_string();
    let differing = match told {
        Told::Payment(payment) => [
            ("amount", payment.amount != row.amount),
            (
                "received",
                payment.state == PaymentState::Succeeded && payment.received != row.amount,
            ),
            ("currency", payment.currency != row.currency),
            ("livemode", payment.is_live != app.payments.is_live()),
            ("account", payment.account.as_ref() != Some(&account)),
            ("payment", is_other(&row.payment_intent_id, &payment.id)),
            ("method", paper.is_some()),
        ],
        Told::Invoice(invoice) => [
            // One that asks for nothing yet, or no more, may differ.
            (
                "amount",
                invoice.has_lines
                    && invoice.state != InvoiceState::Void
                    && invoice.total != row.amount,
            ),
            ("received", invoice.state == InvoiceState::Paid && invoice.received != row.amount),
            ("currency", invoice.currency != row.currency),
            ("livemode", invoice.is_live != app.payments.is_live()),
            ("account", invoice.account.as_ref() != Some(&account)),
            (
                "payment",
                invoice.payment.as_ref().is_some_and(|it| is_other(&row.payment_intent_id, it)),
            ),
            ("invoice", paper.is_none_or(|paper| is_other(&paper.stripe_invoice_id, &invoice.id))),
        ],
    };
    differing.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

/// The purchase after what Stripe tells.
fn after(
    row: &credit_purchase::Model,
    is_void: bool,
    told: Told<'_>,
    now: DateTime<Utc>,
) -> credit_purchase::Model {
    use PaymentStatus::{Cancelled, Completed, Failed, Overdue, Pending, RequiresAction};
    let mut next = row.clone();
    match told {
        Told::Payment(payment) => next.payment_intent_id = Some(payment.id.clone()),
        Told::Invoice(invoice) if invoice.payment.is_some() => {
            next.payment_intent_id.clone_from(&invoice.payment);
        }
        Told::Invoice(_) => {}
    }
    // What was granted stays so, whatever is told late.
    if row.grant_id.is_some() {
        return next;
    }
    (next.status, next.failure_code) = match told {
        Told::Payment(payment) => match payment.state {
            PaymentState::Succeeded => (Completed, None),
            PaymentState::Cancelled => (Cancelled, row.failure_code),
            PaymentState::NeedsAction => (RequiresAction, None),
            // Whoever pressed the button is there, and their page can try the same card with them.
            PaymentState::NeedsMethod if wants_the_buyer(row, payment) => (RequiresAction, None),
            PaymentState::NeedsMethod => {
                let code = payment.decline.as_ref().map(FailureCode::of);
                (Failed, Some(code.unwrap_or(FailureCode::CardDeclined)))
            }
            PaymentState::Processing => (row.status, row.failure_code),
        },
        // An answer that was overtaken by the invoice's end.
        Told::Invoice(invoice) if is_void && invoice.state != InvoiceState::Paid => {
            (row.status, row.failure_code)
        }
        Told::Invoice(invoice) => match invoice.state {
            InvoiceState::Draft => (row.status, row.failure_code),
            InvoiceState::Open if row.status != Overdue && !keep::is_late(invoice, now) => {
                (Pending, None)
            }
            InvoiceState::Open | InvoiceState::Uncollectible => (Overdue, None),
            InvoiceState::Paid => (Completed, None),
            InvoiceState::Void if row.status == Failed => (row.status, row.failure_code),
            InvoiceState::Void => (Cancelled, None),
        },
    };
    next
}

/// Whether a bank declined a stored card only because it wants to hear from the buyer, and they are
/// there.
fn wants_the_buyer(row: &credit_purchase::Model, payment: &Payment) -> bool {
    let is_asked = |decline: &Decline| decline.reason() == "authentication_required";
    let is_theirs = match row.source {
        PurchaseSource::Dashboard | PurchaseSource::LowBalancePrompt => true,
        PurchaseSource::AutoPurchase => false,
    };
    let is_stored = row.method == PaymentMethodKind::StoredCard;
    is_stored && is_theirs && payment.decline.as_ref().is_some_and(is_asked)
}

/// The secret lets a page finish the payment; it is kept while that is what is waited for.
fn seal_secret(
    app: &App,
    row: &credit_purchase::Model,
    next: &credit_purchase::Model,
    payment: &Payment,
) -> Result<Option<Sealed>> {
    let is_waiting = next.status == PaymentStatus::RequiresAction;
    match &payment.client_secret {
        _ if !is_waiting => Ok(None),
        Some(_) if row.status == next.status && row.client_secret.is_some() => {
            Ok(row.client_secret.clone())
        }
        Some(secret) => Ok(Some(app.crypto.seal(secret_place(row.id), secret)?)),
        None => Ok(row.client_secret.clone()),
    }
}

/// Where a purchase's secret belongs.
pub(crate) fn secret_place(id: PurchaseId) -> Place {
    Place { table: "credit_purchases", column: "client_secret", row: id.0 }
}

async fn grant(txn: &mut Txn, row: &credit_purchase::Model, now: DateTime<Utc>) -> Result<GrantId> {
    let purchase = Purchase {
        account: row.account_id,
        credits: row.credits,
        price: row.amount,
        reference: row.id.0,
    };
    Ok(grant_purchase(txn, purchase, now).await?.id)
}

/// Writes what is new and tells the watchers, also of an invoice that was written anew; nothing
/// when nothing is.
async fn save(
    app: &App,
    txn: &mut Txn,
    (row, next, is_rewritten): (credit_purchase::Model, credit_purchase::Model, bool),
    now: DateTime<Utc>,
) -> Result<credit_purchase::Model> {
    if next == row && !is_rewritten {
        return Ok(row);
    }
    let is_new = next.grant_id.is_some() && row.grant_id.is_none();
    let completed_at = if is_new { Some(now) } else { row.completed_at };
    let next = credit_purchase::Model {
        version: row.version + 1,
        updated_at: now,
        checked_at: now,
        completed_at,
        ..next
    };
    let values = vec![
        next.id.into(),
        next.status.as_str().into(),
        next.failure_code.map(FailureCode::as_str).into(),
        next.payment_intent_id.clone().into(),
        next.client_secret.clone().into(),
        next.grant_id.into(),
        next.completed_at.into(),
        next.version.into(),
        now.into(),
    ];
    db::execute(&**txn, SAVE, values).await?;
    Box::pin(attempt::told(app, txn, (&row, &next), now)).await?;
    let changed =
        PurchaseChanged { purchase: next.id, tenant: next.tenant_id, version: next.version };
    events::announce(txn, Event::Purchase(changed));
    Ok(next)
}

const SAVE: &str = "
UPDATE credit_purchases SET status = $2, failure_code = $3, payment_intent_id = $4,
    client_secret = $5, grant_id = $6, completed_at = $7, version = $8, updated_at = $9,
    checked_at = $9
WHERE id = $1";

/// Tells the operators of a payment or an invoice, once for each difference.
async fn alarm(
    txn: &mut Txn,
    kind: AlertKind,
    (id, told, differing): (PurchaseId, Told<'_>, &[&str]),
    now: DateTime<Utc>,
) -> Result<()> {
    let (amount, currency) = told.price();
    let data = json!({ "amount": amount, "currency": currency });
    raise(txn, kind, (id, told.id(), differing), data, now).await
}

/// Tells the operators of a charge that is not as recorded.
pub(crate) async fn alarm_of(
    txn: &mut Txn,
    what: (PurchaseId, &str, &[&str]),
    (amount, currency): (i64, &str),
    now: DateTime<Utc>,
) -> Result<()> {
    let told = json!({ "amount": amount, "currency": currency });
    raise(txn, AlertKind::PaymentMismatch, what, told, now).await
}

async fn raise(
    txn: &mut Txn,
    kind: AlertKind,
    (id, payment, differing): (PurchaseId, &str, &[&str]),
    told: Json,
    now: DateTime<Utc>,
) -> Result<()> {
    let known = credit_purchase::Entity::find_by_id(id).one(&**txn).await?;
    let recorded = known.map(|row| json!({ "amount": row.amount, "currency": row.currency }));
    let alert = NewAlert {
        tenant: None,
        kind,
        severity: AlertSeverity::Critical,
        dedupe_key: format!("{kind}:{id}:{payment}:{}", differing.join(",")),
        data: json!({
            "purchase": id.to_string(), "payment": payment, "differs": differing,
            "told": told, "recorded": recorded,
        }),
    };
    if alerts::raise(txn, alert, now).await? {
        tracing::error!(purchase.id = %id, "{kind}: {id}, {payment}: {differing:?}");
    }
    Ok(())
}
