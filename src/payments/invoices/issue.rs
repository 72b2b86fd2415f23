//! Making an invoice: a draft, its line, its number, its mail. Each step has a key of its own, and
//! what Stripe shows says which step is next, so that it is resumed wherever it was left.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{EntityTrait, FromQueryResult, IntoActiveModel};

use crate::app::App;
use crate::db::{self, Txn};
use crate::entity::credit_invoice::{self, InvoiceStatus};
use crate::entity::credit_purchase::{self, FailureCode, PaymentStatus};
use crate::entity::tenant;
use crate::error::{Error, Result};
use crate::external::stripe::{Addressee, Invoice, InvoiceState, NewInvoice, StripeFailure, Turn};
use crate::payments::error::PaymentError;
use crate::payments::invoices::keep;
use crate::payments::notice::grouped;
use crate::payments::service::learn::{self, Learned, Told};
use crate::payments::service::{buy, customer};

/// Unpaid invoices that a tenant may have.
pub(crate) const UNPAID_MAX: i64 = 5;
/// No request takes so long: what Stripe does not have by then, it never got.
const NEVER_STARTED: TimeDelta = TimeDelta::minutes(15);
/// How much earlier than ours Stripe's clock may have been.
const CLOCKS_APART: TimeDelta = TimeDelta::minutes(10);
/// When Stripe is asked again about one that is not sent.
pub(crate) const SOON: TimeDelta = TimeDelta::minutes(2);

/// Writes down that a purchase is to be paid by invoice. A tenant has so many unpaid ones at most.
pub(crate) async fn record(
    app: &App,
    txn: &Txn,
    row: &credit_purchase::Model,
    email: &str,
) -> Result<()> {
    #[derive(FromQueryResult)]
    struct Unpaid {
        count: i64,
    }
    // Two at once count one after the other; the end of the key is what is random in it.
    txn.take_name(&row.tenant_id.0.as_bytes()[8..]).await?;
    let sql = "SELECT COUNT(*) AS count FROM credit_invoices WHERE tenant_id = $1
               AND status IN ('DRAFT', 'OPEN', 'OVERDUE', 'UNCOLLECTIBLE')";
    let unpaid: Option<Unpaid> = db::one(&**txn, sql, vec![row.tenant_id.into()]).await?;
    if unpaid.is_some_and(|unpaid| unpaid.count >= UNPAID_MAX) {
        return Err(PaymentError::TooManyUnpaid.into());
    }
    let paper = credit_invoice::Model {
        purchase_id: row.id,
        tenant_id: row.tenant_id,
        email: Some(app.crypto.seal(keep::place("email", row.id), email)?),
        days_until_due: i32::from(app.config.stripe.invoice_days),
        status: InvoiceStatus::Draft,
        stripe_invoice_id: None,
        number: None,
        hosted_url: None,
        pdf_url: None,
        due_at: None,
        sent_at: None,
        cancel_asked_at: None,
        due_told_at: None,
        overdue_told_at: None,
        next_check_at: row.created_at + SOON,
        created_at: row.created_at,
        updated_at: row.created_at,
    };
    let insert = credit_invoice::Entity::insert(paper.into_active_model());
    insert.exec_without_returning(&**txn).await?;
    Ok(())
}

/// Takes an invoice as far as it can be taken now, and learns how it stands. The purchase then.
pub(crate) async fn go_on(
    app: &App,
    row: credit_purchase::Model,
) -> Result<credit_purchase::Model> {
    let paper = keep::paper_of(app.db.primary(), &row).await?;
    let paper = paper.ok_or_else(|| Error::broken("a purchase has lost its invoice"))?;
    match advance(app, &row, &paper).await {
        Ok(Some(row)) => Ok(row),
        Ok(None) => Ok(row),
        Err(Stop::Ours(error)) => Err(error),
        Err(Stop::Stripe(StripeFailure::Unavailable(why))) => {
            tracing::warn!(purchase.id = %row.id, why, "{} stays as it is: {why}", row.id);
            Ok(row)
        }
        Err(Stop::Stripe(failure)) => {
            let id = row.id;
            tracing::error!(purchase.id = %id, %failure, "Stripe refused {id}: {failure}");
            refuse(app, row).await
        }
    }
}

/// Ends a purchase that Stripe makes no invoice of. What was begun is taken back first: while that
/// cannot be done, the purchase stays open.
async fn refuse(app: &App, row: credit_purchase::Model) -> Result<credit_purchase::Model> {
    let paper = keep::paper_of(app.db.primary(), &row).await?;
    if let Some(id) = paper.and_then(|paper| paper.stripe_invoice_id) {
        let taken = match app.payments.invoice(&id).await {
            Ok(invoice) => take_back(app, &row, invoice).await,
            Err(StripeFailure::NotFound) => Ok(deleted(&row, id, app)),
            Err(failure) => Err(unanswered(&failure)),
        };
        match taken {
            Ok(invoice) if invoice.state == InvoiceState::Void => {}
            Ok(_) | Err(Stop::Stripe(_)) => return Ok(row),
            Err(Stop::Ours(error)) => return Err(error),
        }
    }
    learn::fail(app, row, FailureCode::PaymentRefused).await
}

/// Why an invoice is not taken further now.
enum Stop {
    Stripe(StripeFailure),
    Ours(Error),
}

impl From<StripeFailure> for Stop {
    fn from(failure: StripeFailure) -> Self {
        Self::Stripe(failure)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

type Step<T> = std::result::Result<T, Stop>;

/// A look that is refused says nothing of what was looked at.
fn unanswered(failure: &StripeFailure) -> Stop {
    Stop::Stripe(StripeFailure::Unavailable(failure.to_string()))
}

/// One step after the other; the purchase, if anything was learned of it.
async fn advance(
    app: &App,
    row: &credit_purchase::Model,
    paper: &credit_invoice::Model,
) -> Step<Option<credit_purchase::Model>> {
    let now = app.clock.db_now();
    let found = find(app, row, paper, now).await?;
    let is_unwanted = paper.cancel_asked_at.is_some();
    let mut invoice = match found {
        Some(invoice) => invoice,
        None if is_unwanted || now - row.created_at > buy::KEY_LIFE => {
            return give_up(app, row, is_unwanted, now).await;
        }
        None => create(app, row, paper).await?,
    };
    if is_unwanted {
        invoice = take_back(app, row, invoice).await?;
        return told(app, &invoice).await;
    }
    // What it is called at Stripe is known here before anything else is done with it.
    let Some(mut known) = told(app, &invoice).await? else { return Ok(None) };
    if invoice.state == InvoiceState::Draft {
        invoice = finish(app, row, paper, invoice, now).await?;
        let Some(next) = told(app, &invoice).await? else { return Ok(None) };
        known = next;
    }
    if invoice.state == InvoiceState::Open && paper.sent_at.is_none() {
        // Somebody may have given it up since.
        let paper = keep::paper_of(app.db.primary(), row).await?;
        if paper.is_some_and(|paper| paper.cancel_asked_at.is_some()) {
            invoice = take_back(app, row, invoice).await?;
            return told(app, &invoice).await;
        }
        send(app, row, &invoice, now).await?;
    }
    Ok(Some(known))
}

/// Has an invoice mailed, and remembers that it was.
async fn send(
    app: &App,
    row: &credit_purchase::Model,
    invoice: &Invoice,
    now: DateTime<Utc>,
) -> Step<()> {
    let key = format!("invoice-send:{}", row.id);
    app.payments.turn_invoice(&key, &invoice.id, Turn::Send).await?;
    let sql = "UPDATE credit_invoices SET sent_at = $2, updated_at = $2
               WHERE purchase_id = $1 AND sent_at IS NULL";
    let txn = app.db.begin().await?;
    db::execute(&*txn, sql, vec![row.id.into(), now.into()]).await?;
    Ok(txn.commit().await?)
}

/// Stripe's invoice of a purchase: by its id, or among the tenant's by what we wrote on it. While
/// the key of its making lives, the key finds it.
async fn find(
    app: &App,
    row: &credit_purchase::Model,
    paper: &credit_invoice::Model,
    now: DateTime<Utc>,
) -> Step<Option<Invoice>> {
    if let Some(id) = &paper.stripe_invoice_id {
        return match app.payments.invoice(id).await {
            Ok(invoice) => Ok(Some(invoice)),
            // Only a draft can be deleted; it asks nobody for anything any more.
            Err(StripeFailure::NotFound) => Ok(Some(deleted(row, id.clone(), app))),
            Err(failure) => Err(unanswered(&failure)),
        };
    }
    let is_fresh = now - row.created_at <= buy::KEY_LIFE;
    if is_fresh && paper.cancel_asked_at.is_none() {
        return Ok(None);
    }
    let Some(customer) = customer::known(app, row.tenant_id).await? else { return Ok(None) };
    let since = row.created_at - CLOCKS_APART;
    match app.payments.find_invoice(&customer, since, &row.id.to_string()).await {
        // Whatever was paid under it is told by its event.
        Err(StripeFailure::NoCustomer) => Ok(None),
        found => found.map_err(|failure| unanswered(&failure)),
    }
}

/// A purchase whose invoice Stripe never got.
async fn give_up(
    app: &App,
    row: &credit_purchase::Model,
    is_unwanted: bool,
    now: DateTime<Utc>,
) -> Step<Option<credit_purchase::Model>> {
    if now - row.created_at <= NEVER_STARTED {
        // Somebody may be asking at this moment.
        return Ok(None);
    }
    let end = if is_unwanted {
        (PaymentStatus::Cancelled, None)
    } else {
        (PaymentStatus::Failed, Some(FailureCode::NotStarted))
    };
    Ok(Some(learn::end(app, row.clone(), end).await?))
}

async fn create(
    app: &App,
    row: &credit_purchase::Model,
    paper: &credit_invoice::Model,
) -> Step<Invoice> {
    let new = new_invoice(row, paper, customer_of(app, row).await?);
    let key = format!("invoice:{}", row.id);
    let made = app.payments.create_invoice(&key, &new).await;
    if let Err(StripeFailure::NoCustomer) = made {
        // Nothing was made, and the purchase fails; the next one finds another customer.
        customer::forget(app, &new.customer).await?;
    }
    Ok(made?)
}

/// Writes the line into a draft, addresses it, and finalises it if it asks for what we recorded.
async fn finish(
    app: &App,
    row: &credit_purchase::Model,
    paper: &credit_invoice::Model,
    mut invoice: Invoice,
    now: DateTime<Utc>,
) -> Step<Invoice> {
    let customer = customer_of(app, row).await?;
    if !invoice.has_lines {
        let new = new_invoice(row, paper, customer.clone());
        let key = format!("invoice-line:{}", row.id);
        invoice = app.payments.write_line(&key, &invoice.id, &new).await?;
    }
    // An invoice that asks for anything else is never sent; learning it raises the alarm.
    if invoice.total != row.amount || invoice.currency != row.currency {
        return Ok(invoice);
    }
    let to = addressee(app, row, paper).await?;
    // Told again it changes nothing, so that its key may change with the minute: an older answer
    // would hide that another purchase's address stands there now.
    let key = format!("invoice-address:{}:{}", row.id, now.timestamp() / 60);
    let addressed = app.payments.address(&key, &customer, &to).await;
    if let Err(StripeFailure::NotFound | StripeFailure::NoCustomer) = addressed {
        customer::forget(app, &customer).await?;
    }
    addressed?;
    let key = format!("invoice-finalize:{}", row.id);
    Ok(app.payments.turn_invoice(&key, &invoice.id, Turn::Finalize).await?)
}

/// Takes an invoice back that nobody wants any more. One that was paid meanwhile stays paid.
async fn take_back(app: &App, row: &credit_purchase::Model, mut invoice: Invoice) -> Step<Invoice> {
    for _ in 0..2 {
        let outcome = match invoice.state {
            InvoiceState::Draft => match app.payments.delete_draft(&invoice.id).await {
                Ok(()) | Err(StripeFailure::NotFound) => {
                    Ok(Invoice { state: InvoiceState::Void, ..invoice.clone() })
                }
                Err(failure) => Err(failure),
            },
            InvoiceState::Open | InvoiceState::Uncollectible => {
                let key = format!("invoice-void:{}", row.id);
                app.payments.turn_invoice(&key, &invoice.id, Turn::Void).await
            }
            InvoiceState::Paid | InvoiceState::Void => return Ok(invoice),
        };
        match outcome {
            Ok(invoice) => return Ok(invoice),
            // It went on meanwhile: finalised, paid, or taken back by another.
            Err(StripeFailure::Refused(_)) => {
                let now = app.payments.invoice(&invoice.id).await;
                invoice = now.map_err(|failure| unanswered(&failure))?;
            }
            Err(failure) => return Err(unanswered(&failure)),
        }
    }
    Ok(invoice)
}

/// Learns an invoice; none when it is not what we recorded.
async fn told(app: &App, invoice: &Invoice) -> Step<Option<credit_purchase::Model>> {
    match learn::learn_told(app, Told::Invoice(invoice)).await? {
        Learned::Told(row) => Ok(Some(*row)),
        Learned::NotOurs | Learned::Unknown | Learned::Mismatch | Learned::Ungranted => Ok(None),
    }
}

fn deleted(row: &credit_purchase::Model, id: String, app: &App) -> Invoice {
    Invoice {
        id,
        state: InvoiceState::Void,
        number: None,
        hosted_url: None,
        pdf_url: None,
        due_at: None,
        has_lines: false,
        total: 0,
        received: 0,
        currency: row.currency.clone(),
        is_live: app.payments.is_live(),
        purchase: Some(row.id.to_string()),
        account: Some(row.account_id.to_string()),
        payment: None,
    }
}

/// A customer that cannot be had now is Stripe's silence, and not a refusal.
async fn customer_of(app: &App, row: &credit_purchase::Model) -> Step<String> {
    let customer = customer::of_tenant(app, row.tenant_id).await;
    Ok(customer.map_err(|error| StripeFailure::Unavailable(error.to_string()))?)
}

fn new_invoice(
    row: &credit_purchase::Model,
    paper: &credit_invoice::Model,
    customer: String,
) -> NewInvoice {
    NewInvoice {
        customer,
        amount: row.amount,
        currency: row.currency.clone(),
        tax: row.tax,
        tax_rate: row.tax_rate,
        days_until_due: paper.days_until_due.unsigned_abs(),
        description: format!("AIクレジット {}（AI credits）", grouped(row.credits)),
        purchase: row.id.to_string(),
        account: row.account_id.to_string(),
        begun_at: row.created_at,
    }
}

async fn addressee(
    app: &App,
    row: &credit_purchase::Model,
    paper: &credit_invoice::Model,
) -> Result<Addressee> {
    let tenant = tenant::Entity::find_by_id(row.tenant_id).one(app.db.primary()).await?;
    let tenant = tenant.ok_or(Error::NotFound("tenant"))?;
    let email =
        email_of(app, paper)?.ok_or_else(|| Error::broken("the invoice's address is gone"))?;
    Ok(Addressee { name: tenant.name, email, locale: tenant.locale })
}

/// Whom an invoice is sent to, as long as that is kept.
pub(crate) fn email_of(app: &App, paper: &credit_invoice::Model) -> Result<Option<String>> {
    let place = keep::place("email", paper.purchase_id);
    paper.email.as_ref().map(|sealed| app.crypto.open(place, sealed)).transpose()
}
