//! Invoices without Stripe, for development. Once sent, one is paid at the next look, unless its
//! address begins with `unpaid`.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::{FutureExt, ready};

use super::super::{
    Addressee, Answer, Invoice, InvoiceState, Invoicing, NewInvoice, SandboxPayments,
    StripeFailure, Turn,
};

/// Invoices that are remembered.
const INVOICES_MAX: usize = 10_000;
/// Addresses whose owner does not pay begin like this.
const UNPAID: &str = "unpaid";

/// Invoices in memory, forgotten when the program ends.
#[derive(Default)]
pub(super) struct SandboxInvoices(Mutex<Drawer>);

#[derive(Default)]
struct Drawer {
    invoices: VecDeque<Paper>,
    /// Where each customer's invoices are sent.
    addresses: HashMap<String, String>,
}

struct Paper {
    invoice: Invoice,
    new: NewInvoice,
    is_sent: bool,
}

impl SandboxInvoices {
    fn drawer(&self) -> MutexGuard<'_, Drawer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn create(&self, new: &NewInvoice) -> Invoice {
        let id = format!("in_sandbox_{}", new.purchase);
        let mut drawer = self.drawer();
        if let Some(known) = drawer.invoices.iter().find(|paper| paper.invoice.id == id) {
            return known.invoice.clone();
        }
        let invoice = Invoice {
            id,
            state: InvoiceState::Draft,
            number: None,
            hosted_url: None,
            pdf_url: None,
            due_at: None,
            has_lines: false,
            total: 0,
            received: 0,
            currency: new.currency.clone(),
            is_live: false,
            purchase: Some(new.purchase.clone()),
            account: Some(new.account.clone()),
            payment: None,
        };
        if drawer.invoices.len() == INVOICES_MAX {
            drawer.invoices.pop_front();
        }
        let paper = Paper { invoice: invoice.clone(), new: new.clone(), is_sent: false };
        drawer.invoices.push_back(paper);
        invoice
    }

    fn change(
        &self,
        id: &str,
        change: impl FnOnce(&mut Paper, bool) -> Result<(), StripeFailure>,
    ) -> Result<Invoice, StripeFailure> {
        let mut drawer = self.drawer();
        let Drawer { invoices, addresses } = &mut *drawer;
        let paper = invoices.iter_mut().find(|paper| paper.invoice.id == id);
        let paper = paper.ok_or(StripeFailure::NotFound)?;
        let address = addresses.get(&paper.new.customer);
        let is_payer = address.is_none_or(|address| !address.starts_with(UNPAID));
        change(paper, is_payer)?;
        Ok(paper.invoice.clone())
    }

    fn turn(&self, id: &str, turn: Turn) -> Result<Invoice, StripeFailure> {
        self.change(id, |paper, _| {
            let invoice = &mut paper.invoice;
            match (turn, invoice.state) {
                (Turn::Finalize, InvoiceState::Draft) => {
                    invoice.state = InvoiceState::Open;
                    let days = TimeDelta::days(i64::from(paper.new.days_until_due));
                    invoice.due_at = Some(paper.new.begun_at + days);
                    invoice.number = Some(format!("SANDBOX-{id}"));
                    invoice.hosted_url = Some(format!("https://invoice.stripe.com/i/{id}"));
                    invoice.pdf_url = Some(format!("https://invoice.stripe.com/i/{id}/pdf"));
                }
                (Turn::Send, InvoiceState::Open) => paper.is_sent = true,
                (Turn::Void, InvoiceState::Open | InvoiceState::Uncollectible) => {
                    invoice.state = InvoiceState::Void;
                }
                (Turn::Finalize | Turn::Send | Turn::Void, _) => {
                    return Err(StripeFailure::Refused("not in this state".to_owned()));
                }
            }
            Ok(())
        })
    }
}

impl Invoicing for SandboxPayments {
    fn address<'a>(&'a self, _: &'a str, customer: &'a str, to: &'a Addressee) -> Answer<'a, ()> {
        self.invoices.drawer().addresses.insert(customer.to_owned(), to.email.clone());
        ready(Ok(())).boxed()
    }

    fn create_invoice<'a>(&'a self, _: &'a str, new: &'a NewInvoice) -> Answer<'a, Invoice> {
        ready(Ok(self.invoices.create(new))).boxed()
    }

    fn write_line<'a>(
        &'a self,
        _: &'a str,
        id: &'a str,
        new: &'a NewInvoice,
    ) -> Answer<'a, Invoice> {
        let written = self.invoices.change(id, |paper, _| {
            paper.invoice.has_lines = true;
            paper.invoice.total = new.amount;
            Ok(())
        });
        ready(written).boxed()
    }

    fn turn_invoice<'a>(&'a self, _: &'a str, id: &'a str, turn: Turn) -> Answer<'a, Invoice> {
        ready(self.invoices.turn(id, turn)).boxed()
    }

    fn delete_draft<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        self.invoices.drawer().invoices.retain(|paper| paper.invoice.id != id);
        ready(Ok(())).boxed()
    }

    fn invoice<'a>(&'a self, id: &'a str) -> Answer<'a, Invoice> {
        let looked = self.invoices.change(id, |paper, is_payer| {
            if paper.is_sent && is_payer && paper.invoice.state == InvoiceState::Open {
                paper.invoice.state = InvoiceState::Paid;
                paper.invoice.received = paper.invoice.total;
                paper.invoice.payment = Some(format!("pi_sandbox_{id}"));
            }
            Ok(())
        });
        ready(looked).boxed()
    }

    fn find_invoice<'a>(
        &'a self,
        _: &'a str,
        _: DateTime<Utc>,
        purchase: &'a str,
    ) -> Answer<'a, Option<Invoice>> {
        let drawer = self.invoices.drawer();
        let mut papers = drawer.invoices.iter().map(|paper| &paper.invoice);
        let found = papers.find(|invoice| invoice.purchase.as_deref() == Some(purchase));
        ready(Ok(found.cloned())).boxed()
    }

    fn invoice_of<'a>(&'a self, payment: &'a str) -> Answer<'a, Option<Invoice>> {
        let drawer = self.invoices.drawer();
        let mut papers = drawer.invoices.iter().map(|paper| &paper.invoice);
        let found = papers.find(|invoice| invoice.payment.as_deref() == Some(payment));
        ready(Ok(found.cloned())).boxed()
    }
}
