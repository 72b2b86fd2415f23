use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::crypto::Sealed;
use crate::ids::{PurchaseId, TenantId};
use crate::text_enum;

/// The invoice that asks for a purchase's price.
/// UNIQUE: Stripe's id. CHECK: only a DRAFT or a VOID one has none.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "credit_invoices")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub purchase_id: PurchaseId,
    pub tenant_id: TenantId,
    /// Whom it is sent to; forgotten some time after its end.
    pub email: Option<Sealed>,
    pub days_until_due: i32,
    pub status: InvoiceStatus,
    /// Unique: Stripe's own.
    pub stripe_invoice_id: Option<String>,
    /// The number on the paper.
    pub number: Option<String>,
    /// Where it is shown and paid; whoever has it sees the invoice.
    pub hosted_url: Option<Sealed>,
    /// The same as a file.
    pub pdf_url: Option<Sealed>,
    pub due_at: Option<DateTime<Utc>>,
    /// When Stripe was told to send it.
    pub sent_at: Option<DateTime<Utc>>,
    /// Since when somebody wants it void.
    pub cancel_asked_at: Option<DateTime<Utc>>,
    /// When its payer was reminded that it is due soon.
    pub due_told_at: Option<DateTime<Utc>>,
    /// When its payer was told that it is overdue.
    pub overdue_told_at: Option<DateTime<Utc>>,
    /// When Stripe is asked about it again.
    pub next_check_at: DateTime<Utc>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

text_enum! {
    /// Where an invoice stands.
    InvoiceStatus {
        /// It is being made.
        Draft = "DRAFT",
        /// It waits for its payment.
        Open = "OPEN",
        /// It was not paid in time.
        Overdue = "OVERDUE",
        /// Nobody expects its payment any more; it still may come.
        Uncollectible = "UNCOLLECTIBLE",
        /// It is paid.
        Paid = "PAID",
        /// It was taken back.
        Void = "VOID",
    }
}
