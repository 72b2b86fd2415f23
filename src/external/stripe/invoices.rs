//! Invoices at Stripe: made as drafts, written, finalised, sent and voided, one request each.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use futures_util::future::FutureExt;
use serde_json::Value as Json;
use stripe_billing::invoice::{
    AddLinesInvoice, AddLinesInvoiceLines, AddLinesInvoiceLinesTaxAmounts,
    AddLinesInvoiceLinesTaxAmountsTaxRateData, CreateInvoice,
    CreateInvoicePendingInvoiceItemsBehavior, CreateInvoiceRendering,
    CreateInvoiceRenderingAmountTaxDisplay, DeleteInvoice, FinalizeInvoiceInvoice, ListInvoice,
    RetrieveInvoice, SendInvoiceInvoice, VoidInvoiceInvoice,
};
use stripe_billing::invoice_payment::{
    ListInvoicePayment, ListInvoicePaymentPayment, ListInvoicePaymentPaymentType,
};
use stripe_client_core::{RequestBuilder, StripeRequest};
use stripe_core::customer::UpdateCustomer;
use stripe_shared::InvoiceCollectionMethod;
use stripe_types::{Currency, RangeBoundsTs, RangeQueryTs};

use super::client::{PAGE, PAGES_MAX};
use super::{ACCOUNT, Answer, PURCHASE, StripeClient, StripeFailure};

/// What an answer tells only when it is asked for.
const PAYMENTS: &str = "payments";
/// Hundredths of a percent in a percent.
const PERCENT: f64 = 100.0;

/// Where an invoice stands at Stripe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvoiceState {
    /// Nobody has seen it; it can still be changed, or deleted.
    Draft,
    /// It waits for its payment.
    Open,
    /// Paid. It stays so.
    Paid,
    /// Taken back, or deleted. It stays so.
    Void,
    /// Written off; it still may be paid.
    Uncollectible,
}

/// An invoice as Stripe tells it.
#[derive(Clone, PartialEq, Eq)]
pub struct Invoice {
    /// Stripe's id.
    pub id: String,
    /// Where it stands.
    pub state: InvoiceState,
    /// The number on the paper; none while it is a draft.
    pub number: Option<String>,
    /// Where it is shown and paid.
    pub hosted_url: Option<String>,
    /// The same as a file.
    pub pdf_url: Option<String>,
    /// When it is to be paid.
    pub due_at: Option<DateTime<Utc>>,
    /// Whether it asks for anything yet.
    pub has_lines: bool,
    /// What it asks for, in minor units.
    pub total: i64,
    /// What has come in, in minor units.
    pub received: i64,
    /// ISO 4217, upper case.
    pub currency: String,
    /// Whether it is real money.
    pub is_live: bool,
    /// Our purchase, as it was written on the invoice.
    pub purchase: Option<String>,
    /// Our account, as it was written on the invoice.
    pub account: Option<String>,
    /// Stripe's id of the payment that paid it; none when it was paid outside of Stripe.
    pub payment: Option<String>,
}

impl std::fmt::Debug for Invoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { id, state, total, currency, .. } = self;
        write!(f, "Invoice({id}, {state:?}, {total} {currency})")
    }
}

/// An invoice to make. The same purchase asks the same, or its keys would not count.
#[derive(Clone, Debug)]
pub struct NewInvoice {
    /// Stripe's id of the tenant.
    pub customer: String,
    /// In minor units, tax included.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// The tax in the amount.
    pub tax: i64,
    /// Hundredths of a percent.
    pub tax_rate: i64,
    /// Days that the payer has.
    pub days_until_due: u32,
    /// What is bought.
    pub description: String,
    /// Our purchase.
    pub purchase: String,
    /// The account that it is for.
    pub account: String,
    /// When it was bought. Only the sandbox, which has no clock, reads it.
    pub begun_at: DateTime<Utc>,
}

/// Whom an invoice is for.
#[derive(Clone)]
pub struct Addressee {
    /// Their name on the paper.
    pub name: String,
    /// Where Stripe sends it.
    pub email: String,
    /// BCP 47 language of the paper.
    pub locale: String,
}

/// What is done to an invoice that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It gets its number and can be paid.
    Finalize,
    /// Stripe mails it.
    Send,
    /// It is taken back.
    Void,
}

/// Who writes invoices.
pub trait Invoicing: Send + Sync {
    /// Tells for whom the customer's next invoices are.
    fn address<'a>(&'a self, key: &'a str, customer: &'a str, to: &'a Addressee) -> Answer<'a, ()>;
    /// Makes an empty draft; the same key makes the same one.
    fn create_invoice<'a>(&'a self, key: &'a str, new: &'a NewInvoice) -> Answer<'a, Invoice>;
    /// Writes the one line into a draft.
    fn write_line<'a>(
        &'a self,
        key: &'a str,
        id: &'a str,
        new: &'a NewInvoice,
    ) -> Answer<'a, Invoice>;
    /// Takes an invoice one step on.
    fn turn_invoice<'a>(&'a self, key: &'a str, id: &'a str, turn: Turn) -> Answer<'a, Invoice>;
    /// Deletes a draft.
    fn delete_draft<'a>(&'a self, id: &'a str) -> Answer<'a, ()>;
    /// An invoice as it is now.
    fn invoice<'a>(&'a self, id: &'a str) -> Answer<'a, Invoice>;
    /// The invoice of a purchase, among those that a customer got since then.
    fn find_invoice<'a>(
        &'a self,
        customer: &'a str,
        since: DateTime<Utc>,
        purchase: &'a str,
    ) -> Answer<'a, Option<Invoice>>;
    /// The invoice that a payment was for.
    fn invoice_of<'a>(&'a self, payment: &'a str) -> Answer<'a, Option<Invoice>>;
}

/// Reads an invoice from Stripe's JSON; none when it is no invoice.
pub fn read_invoice(json: &Json) -> Option<Invoice> {
    let text = |value: &Json| value.as_str().map(str::to_owned);
    if json["object"] != "invoice" {
        return None;
    }
    let state = match json["status"].as_str()? {
        "draft" => InvoiceState::Draft,
        "paid" => InvoiceState::Paid,
        "void" => InvoiceState::Void,
        "uncollectible" => InvoiceState::Uncollectible,
        // Also what Stripe may add: nothing is decided by it.
        _ => InvoiceState::Open,
    };
    let due_at = json["due_date"].as_i64();
    Some(Invoice {
        id: text(&json["id"])?,
        state,
        number: text(&json["number"]),
        hosted_url: text(&json["hosted_invoice_url"]),
        pdf_url: text(&json["invoice_pdf"]),
        due_at: due_at.and_then(|at| DateTime::from_timestamp(at, 0)),
        has_lines: json["lines"]["data"].as_array().is_some_and(|lines| !lines.is_empty()),
        total: json["total"].as_i64()?,
        received: json["amount_paid"].as_i64()?,
        currency: json["currency"].as_str()?.to_uppercase(),
        is_live: json["livemode"].as_bool()?,
        purchase: text(&json["metadata"][PURCHASE]),
        account: text(&json["metadata"][ACCOUNT]),
        payment: paid_by(&json[PAYMENTS]["data"]),
    })
}

/// The payment that paid the most of an invoice.
fn paid_by(payments: &Json) -> Option<String> {
    let paid = payments.as_array()?.iter().filter(|entry| entry["status"] == "paid");
    let most = paid.max_by_key(|entry| entry["amount_paid"].as_i64())?;
    let payment = &most["payment"]["payment_intent"];
    payment.as_str().or(payment["id"].as_str()).map(str::to_owned)
}

impl StripeClient {
    async fn ask_invoice(
        &self,
        request: RequestBuilder,
        key: Option<&str>,
    ) -> Result<Invoice, StripeFailure> {
        let json = self.ask(request, key).await?;
        // It was done, but nobody knows what.
        let unread = || StripeFailure::Unavailable("the answer is no invoice".to_owned());
        read_invoice(&json).ok_or_else(unread)
    }

    async fn look_for_invoice(
        &self,
        customer: &str,
        since: DateTime<Utc>,
        purchase: &str,
    ) -> Result<Option<Invoice>, StripeFailure> {
        let bounds = RangeBoundsTs { gte: Some(since.timestamp()), ..RangeBoundsTs::default() };
        let mut list = ListInvoice::new()
            .customer(customer)
            .created(RangeQueryTs::Bounds(bounds))
            .limit(PAGE)
            .expand(vec![format!("data.{PAYMENTS}")]);
        for _ in 0..PAGES_MAX {
            let page = self.ask(list.build(), None).await?;
            let entries = entries_of(&page)?;
            let found = entries.iter().filter_map(read_invoice);
            let found = found.filter(|invoice| invoice.purchase.as_deref() == Some(purchase));
            // Of several, the one that was paid.
            let found = found.max_by_key(|invoice| invoice.received);
            let last = entries.last().and_then(|entry| entry["id"].as_str());
            match (found, last) {
                (Some(invoice), _) => return Ok(Some(invoice)),
                (None, Some(last)) if page["has_more"] == true => {
                    list = list.starting_after(last);
                }
                (None, _) => return Ok(None),
            }
        }
        Err(StripeFailure::Unavailable("the list has no end".to_owned()))
    }

    async fn look_for_payer(&self, payment: &str) -> Result<Option<Invoice>, StripeFailure> {
        let of = ListInvoicePaymentPayment {
            payment_intent: Some(payment.to_owned()),
            ..ListInvoicePaymentPayment::new(ListInvoicePaymentPaymentType::PaymentIntent)
        };
        let page = self.ask(ListInvoicePayment::new().payment(of).limit(1).build(), None).await?;
        let invoice = entries_of(&page)?.first().map(|entry| entry["invoice"].clone());
        let invoice = invoice.unwrap_or_default();
        match invoice.as_str().or(invoice["id"].as_str()) {
            Some(id) => self.ask_invoice(retrieve(id), None).await.map(Some),
            None => Ok(None),
        }
    }
}

/// The entries of a list's page.
pub(super) fn entries_of(page: &Json) -> Result<&Vec<Json>, StripeFailure> {
    let unread = || StripeFailure::Unavailable("the answer is no list".to_owned());
    page["data"].as_array().ok_or_else(unread)
}

fn retrieve(id: &str) -> RequestBuilder {
    RetrieveInvoice::new(id).expand(vec![PAYMENTS.to_owned()]).build()
}

impl Invoicing for StripeClient {
    fn address<'a>(&'a self, key: &'a str, customer: &'a str, to: &'a Addressee) -> Answer<'a, ()> {
        async move {
            let request = UpdateCustomer::new(customer)
                .name(to.name.clone())
                .email(to.email.clone())
                .preferred_locales(vec![to.locale.clone()]);
            self.ask(request.build(), Some(key)).await.map(|_| ())
        }
        .boxed()
    }

    fn create_invoice<'a>(&'a self, key: &'a str, new: &'a NewInvoice) -> Answer<'a, Invoice> {
        async move { self.ask_invoice(draft_of(new)?, Some(key)).await }.boxed()
    }

    fn write_line<'a>(
        &'a self,
        key: &'a str,
        id: &'a str,
        new: &'a NewInvoice,
    ) -> Answer<'a, Invoice> {
        async move {
            let request = AddLinesInvoice::new(id, vec![line_of(new)]);
            let request = request.expand(vec![PAYMENTS.to_owned()]);
            self.ask_invoice(request.build(), Some(key)).await
        }
        .boxed()
    }

    fn turn_invoice<'a>(&'a self, key: &'a str, id: &'a str, turn: Turn) -> Answer<'a, Invoice> {
        let expand = vec![PAYMENTS.to_owned()];
        let request = match turn {
            Turn::Finalize => {
                FinalizeInvoiceInvoice::new(id).auto_advance(false).expand(expand).build()
            }
            Turn::Send => SendInvoiceInvoice::new(id).expand(expand).build(),
            Turn::Void => VoidInvoiceInvoice::new(id).expand(expand).build(),
        };
        async move { self.ask_invoice(request, Some(key)).await }.boxed()
    }

    fn delete_draft<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        async move { self.ask(DeleteInvoice::new(id).build(), None).await.map(|_| ()) }.boxed()
    }

    fn invoice<'a>(&'a self, id: &'a str) -> Answer<'a, Invoice> {
        async move { self.ask_invoice(retrieve(id), None).await }.boxed()
    }

    fn find_invoice<'a>(
        &'a self,
        customer: &'a str,
        since: DateTime<Utc>,
        purchase: &'a str,
    ) -> Answer<'a, Option<Invoice>> {
        self.look_for_invoice(customer, since, purchase).boxed()
    }

    fn invoice_of<'a>(&'a self, payment: &'a str) -> Answer<'a, Option<Invoice>> {
        self.look_for_payer(payment).boxed()
    }
}

/// A draft that Stripe does not take on by itself: an empty one would be finalised, and be paid.
fn draft_of(new: &NewInvoice) -> Result<RequestBuilder, StripeFailure> {
    let unknown = |_| StripeFailure::Refused(format!("no currency {}", new.currency));
    let currency: Currency = new.currency.to_lowercase().parse().map_err(unknown)?;
    let rendering = CreateInvoiceRendering {
        amount_tax_display: Some(CreateInvoiceRenderingAmountTaxDisplay::IncludeInclusiveTax),
        ..CreateInvoiceRendering::new()
    };
    let request = CreateInvoice::new()
        .customer(new.customer.clone())
        .currency(currency)
        .collection_method(InvoiceCollectionMethod::SendInvoice)
        .days_until_due(new.days_until_due)
        .auto_advance(false)
        .pending_invoice_items_behavior(CreateInvoicePendingInvoiceItemsBehavior::Exclude)
        .rendering(rendering)
        .expand(vec![PAYMENTS.to_owned()])
        .metadata(HashMap::from([
            (ACCOUNT.to_owned(), new.account.clone()),
            (PURCHASE.to_owned(), new.purchase.clone()),
        ]));
    Ok(request.build())
}

/// One line of the whole price, with the tax in it as our row has it: Stripe reckons none.
fn line_of(new: &NewInvoice) -> AddLinesInvoiceLines {
    let percentage = new.tax_rate as f64 / PERCENT;
    let rate = AddLinesInvoiceLinesTaxAmountsTaxRateData {
        country: Some("JP".to_owned()),
        ..AddLinesInvoiceLinesTaxAmountsTaxRateData::new("消費税", true, percentage)
    };
    let tax = AddLinesInvoiceLinesTaxAmounts::new(new.tax, rate, new.amount - new.tax);
    AddLinesInvoiceLines {
        amount: Some(new.amount),
        description: Some(new.description.clone()),
        discountable: Some(false),
        tax_amounts: Some(vec![tax]),
        ..AddLinesInvoiceLines::new()
    }
}
