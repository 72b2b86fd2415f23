//! What is kept of an invoice beside its purchase, under the purchase's lock.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, EntityTrait};
use serde_json::json;

use crate::alerts::{self, AlertKind, NewAlert};
use crate::app::App;
use crate::crypto::{Place, Sealed};
use crate::db::{self, Txn};
use crate::entity::alert::AlertSeverity;
use crate::entity::credit_invoice::{self, InvoiceStatus};
use crate::entity::credit_purchase::{self, PaymentMethodKind};
use crate::error::Result;
use crate::external::stripe::{Invoice, InvoiceState};
use crate::ids::PurchaseId;

/// Where a text of an invoice belongs.
pub(crate) fn place(column: &'static str, id: PurchaseId) -> Place {
    Place { table: "credit_invoices", column, row: id.0 }
}

/// The invoice of a purchase; none when it is paid in another way.
pub(crate) async fn paper_of(
    conn: &impl ConnectionTrait,
    row: &credit_purchase::Model,
) -> Result<Option<credit_invoice::Model>> {
    if row.method != PaymentMethodKind::Invoice {
        return Ok(None);
    }
    Ok(credit_invoice::Entity::find_by_id(row.id).one(conn).await?)
}

/// Whether an invoice should have been paid by now.
pub(crate) fn is_late(invoice: &Invoice, now: DateTime<Utc>) -> bool {
    invoice.due_at.is_some_and(|due| due <= now)
}

/// Writes down what an invoice is now, beside its purchase as it will be. Whether that was new. Who
/// pays late is told of, once.
pub(crate) async fn keep(
    app: &App,
    txn: &mut Txn,
    (row, paper): (&credit_purchase::Model, credit_invoice::Model),
    invoice: &Invoice,
    now: DateTime<Utc>,
) -> Result<bool> {
    let status = status_of(invoice, paper.status, now);
    let next = credit_invoice::Model {
        status,
        stripe_invoice_id: Some(invoice.id.clone()),
        number: invoice.number.clone().or(paper.number.clone()),
        due_at: invoice.due_at.or(paper.due_at),
        hosted_url: seal(app, (row.id, "hosted_url"), &paper.hosted_url, &invoice.hosted_url)?,
        pdf_url: seal(app, (row.id, "pdf_url"), &paper.pdf_url, &invoice.pdf_url)?,
        ..paper.clone()
    };
    if next == paper {
        return Ok(false);
    }
    let values = vec![
        next.purchase_id.into(),
        next.status.as_str().into(),
        next.stripe_invoice_id.into(),
        next.number.into(),
        next.hosted_url.into(),
        next.pdf_url.into(),
        next.due_at.into(),
        now.into(),
    ];
    db::execute(&**txn, KEEP, values).await?;
    if status == InvoiceStatus::Overdue {
        warn(txn, row, now).await?;
    }
    Ok(true)
}

const KEEP: &str = "
UPDATE credit_invoices SET status = $2, stripe_invoice_id = $3, number = $4, hosted_url = $5,
    pdf_url = $6, due_at = $7, updated_at = $8
WHERE purchase_id = $1";

/// An invoice that was never made, or never sent, ends with its purchase.
pub(crate) async fn discard(txn: &Txn, id: PurchaseId, now: DateTime<Utc>) -> Result<()> {
    let sql = "UPDATE credit_invoices SET status = 'VOID', updated_at = $2
               WHERE purchase_id = $1 AND status <> 'PAID'";
    db::execute(&**txn, sql, vec![id.into(), now.into()]).await?;
    Ok(())
}

/// What is paid or void stays so, whatever is told late.
fn status_of(invoice: &Invoice, known: InvoiceStatus, now: DateTime<Utc>) -> InvoiceStatus {
    use InvoiceStatus::{Draft, Open, Overdue, Paid, Uncollectible, Void};
    match (invoice.state, known) {
        (InvoiceState::Paid, _) | (_, Paid) => Paid,
        (InvoiceState::Void, _) | (_, Void) => Void,
        (InvoiceState::Draft, _) => Draft,
        (InvoiceState::Uncollectible, _) => Uncollectible,
        (InvoiceState::Open, Overdue | Uncollectible) => Overdue,
        (InvoiceState::Open, Draft | Open) if is_late(invoice, now) => Overdue,
        (InvoiceState::Open, Draft | Open) => Open,
    }
}

/// An address that is the same stays sealed as it was.
fn seal(
    app: &App,
    (id, column): (PurchaseId, &'static str),
    known: &Option<Sealed>,
    told: &Option<String>,
) -> Result<Option<Sealed>> {
    let opened = known.as_ref().map(|sealed| app.crypto.open(place(column, id), sealed));
    match (opened.transpose()?, told) {
        (_, None) => Ok(known.clone()),
        (Some(opened), Some(told)) if opened == *told => Ok(known.clone()),
        (_, Some(told)) => Ok(Some(app.crypto.seal(place(column, id), told)?)),
    }
}

/// The tenant and the operators learn of an invoice that was not paid in time.
async fn warn(txn: &mut Txn, row: &credit_purchase::Model, now: DateTime<Utc>) -> Result<()> {
    let kind = AlertKind::InvoiceOverdue;
    for (tenant, whose) in [(Some(row.tenant_id), "tenant"), (None, "operators")] {
        let alert = NewAlert {
            tenant,
            kind,
            severity: AlertSeverity::Warning,
            dedupe_key: format!("{kind}:{}:{whose}", row.id),
            data: json!({ "purchase": row.id.to_string(), "amount": row.amount }),
        };
        alerts::raise(txn, alert, now).await?;
    }
    Ok(())
}
