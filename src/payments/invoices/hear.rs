//! What Stripe tells of invoices. It is asked again each time, as events come in any order and do
//! not say by which payment an invoice was paid.

use serde_json::Value as Json;

use crate::app::App;
use crate::error::{Error, Result};
use crate::external::stripe::{Invoice, InvoiceState, StripeFailure, read_invoice};
use crate::payments::service::learn::{self, Learned, Told};

/// Learns an invoice from an event of it; a word for the record.
pub(crate) async fn hear(app: &App, object: &Json, is_live: bool) -> Result<&'static str> {
    let Some(told) = read_invoice(object) else { return Ok("UNREADABLE") };
    if told.purchase.is_none() {
        return Ok(Learned::NotOurs.as_str());
    }
    let invoice = match app.payments.invoice(&told.id).await {
        Ok(invoice) => invoice,
        // Only a draft can be deleted.
        Err(StripeFailure::NotFound) if told.state == InvoiceState::Draft => {
            Invoice { state: InvoiceState::Void, ..told.clone() }
        }
        Err(StripeFailure::NotFound) => return Ok("GONE"),
        Err(failure) => return Err(Error::broken(failure)),
    };
    // All three must be of the same money, and of ours.
    let is_ours =
        [invoice.is_live, told.is_live, is_live].iter().all(|it| *it == app.payments.is_live());
    let is_live = is_ours == app.payments.is_live();
    let invoice = Invoice { is_live, ..invoice };
    Ok(learn::learn_told(app, Told::Invoice(&invoice)).await?.as_str())
}
