//! Invoices as they are stored.

use chrono::NaiveDate;

use crate::actor::{Actor, Permission};
use crate::app::App;
use crate::credits::period;
use crate::crypto::Sealed;
use crate::db;
use crate::entity::credit_invoice::{self, InvoiceStatus};
use crate::error::Result;
use crate::ids::PurchaseId;
use crate::payments::invoices::keep;

/// An invoice as its tenant sees it.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Its purchase.
    pub purchase: PurchaseId,
    /// Stripe's id.
    pub id: String,
    /// Where it stands.
    pub status: InvoiceStatus,
    /// The number on the paper; none while it is a draft.
    pub number: Option<String>,
    /// Where it is shown and paid.
    pub hosted_url: Option<String>,
    /// The same as a file.
    pub pdf_url: Option<String>,
    /// The tenant's day until which it is to be paid.
    pub due_on: Option<NaiveDate>,
}

/// The invoices of purchases, as far as Stripe has them and the actor may see them.
pub async fn of_purchases(app: &App, actor: &Actor, ids: &[PurchaseId]) -> Result<Vec<Shown>> {
    #[derive(sea_orm::FromQueryResult)]
    struct Zone {
        time_zone: String,
    }
    actor.require(Permission::MoneyManage)?;
    let tenant = actor.tenant()?;
    let sql = format!(
        "SELECT * FROM credit_invoices
         WHERE tenant_id = $1 AND stripe_invoice_id IS NOT NULL AND purchase_id IN {}",
        db::tuples(1, ids.len(), 2)
    );
    let mut values = vec![tenant.into()];
    values.extend(ids.iter().map(|id| id.0.into()));
    let rows: Vec<credit_invoice::Model> = db::all(app.db.primary(), sql, values).await?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let sql = "SELECT time_zone FROM tenants WHERE id = $1";
    let zone: Option<Zone> = db::one(app.db.primary(), sql, vec![tenant.into()]).await?;
    let zone = period::zone(zone.as_ref().map_or("", |zone| &zone.time_zone));
    let open = |row: &credit_invoice::Model, column, sealed: &Option<Sealed>| {
        let place = keep::place(column, row.purchase_id);
        sealed.as_ref().map(|sealed| app.crypto.open(place, sealed)).transpose()
    };
    let shown = rows.into_iter().filter_map(|row| Some((row.stripe_invoice_id.clone()?, row)));
    shown
        .map(|(id, row)| {
            Ok(Shown {
                purchase: row.purchase_id,
                id,
                status: row.status,
                hosted_url: open(&row, "hosted_url", &row.hosted_url)?,
                pdf_url: open(&row, "pdf_url", &row.pdf_url)?,
                number: row.number,
                due_on: row.due_at.map(|due| period::local_day(due, zone)),
            })
        })
        .collect()
}
