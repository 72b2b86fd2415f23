//! What stands beside a purchase in the API: its invoice, and the dispute of its payment.

use std::collections::HashMap;

use async_graphql::dataloader::Loader;
use async_graphql::{Description, Enum, ID, Object};

use crate::entity::{credit_invoice, payment_dispute};
use crate::graphql::loader::{LoadError, Source, by_key};
use crate::graphql::scalars::{Date, Money};
use crate::ids::PurchaseId;
use crate::payments::disputes;
use crate::payments::graphql::purchase::yen;
use crate::payments::invoices::lookup::{self, Shown};

/// Where an invoice stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "credit_invoice::InvoiceStatus")]
pub enum InvoiceStatus {
    /// It is being made; nobody has got it yet.
    Draft,
    /// It waits for its payment.
    Open,
    /// It was not paid in time; it still may be.
    Overdue,
    /// Nobody expects its payment any more; it still may come.
    Uncollectible,
    /// It is paid.
    Paid,
    /// It was taken back.
    Void,
}

/// The invoice that asks for a purchase's price.
#[derive(Description)]
pub struct CreditInvoice(pub Shown);

#[Object(use_type_description)]
impl CreditInvoice {
    /// Stripe's id of the invoice.
    async fn id(&self) -> ID {
        self.0.id.clone().into()
    }

    /// The number on it; null while it is a DRAFT.
    async fn number(&self) -> Option<&str> {
        self.0.number.as_deref()
    }

    /// Where it stands.
    async fn status(&self) -> InvoiceStatus {
        self.0.status.into()
    }

    /// The page that shows it and takes the payment. Whoever has the address sees the invoice.
    async fn hosted_url(&self) -> Option<&str> {
        self.0.hosted_url.as_deref()
    }

    /// The same as a PDF.
    async fn pdf_url(&self) -> Option<&str> {
        self.0.pdf_url.as_deref()
    }

    /// The tenant's day until which it is to be paid; null while it is a DRAFT.
    async fn due_date(&self) -> Option<Date> {
        self.0.due_on.map(Date)
    }
}

/// Where a dispute stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "payment_dispute::DisputeStatus")]
pub enum DisputeStatus {
    /// The payer's bank asks; no money and no credits have gone.
    Inquiry,
    /// The money is gone until it is decided, and what is unspent of its credits.
    Open,
    /// It was decided for us: the credits are back.
    Won,
    /// It was decided against us: the credits stay away.
    Lost,
    /// The bank's question ended without a dispute.
    Closed,
}

/// A payment that the payer's bank disputes.
#[derive(Description)]
pub struct PaymentDispute(pub payment_dispute::Model);

#[Object(use_type_description)]
impl PaymentDispute {
    /// Where it stands.
    async fn status(&self) -> DisputeStatus {
        self.0.status.into()
    }

    /// The bank's reason in Stripe's word, such as `fraudulent`.
    async fn reason(&self) -> &str {
        &self.0.reason
    }

    /// What is disputed of the price.
    async fn amount(&self) -> Money {
        yen(self.0.amount)
    }
}

/// Key of the invoice of a purchase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InvoiceOf(pub PurchaseId);

impl Loader<InvoiceOf> for Source {
    type Value = Shown;
    type Error = LoadError;

    async fn load(&self, keys: &[InvoiceOf]) -> Result<HashMap<InvoiceOf, Shown>, LoadError> {
        let ids: Vec<PurchaseId> = keys.iter().map(|key| key.0).collect();
        let shown = lookup::of_purchases(&self.app, self.actor()?, &ids).await?;
        Ok(by_key(shown, |it| InvoiceOf(it.purchase)))
    }
}

/// Key of the last dispute of a purchase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DisputeOf(pub PurchaseId);

impl Loader<DisputeOf> for Source {
    type Value = payment_dispute::Model;
    type Error = LoadError;

    async fn load(
        &self,
        keys: &[DisputeOf],
    ) -> Result<HashMap<DisputeOf, payment_dispute::Model>, LoadError> {
        let ids: Vec<PurchaseId> = keys.iter().map(|key| key.0).collect();
        let rows = disputes::of_purchases(&self.app, self.actor()?, &ids).await?;
        Ok(by_key(rows, |row| DisputeOf(row.purchase_id)))
    }
}
