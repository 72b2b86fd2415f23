//! Issuing a receipt: its number, its address, and handing it out.

use chrono::{DateTime, SubsecRound, Utc};
use sea_orm::{EntityTrait, FromQueryResult, IntoActiveModel};

use crate::actor::Actor;
use crate::app::App;
use crate::config::Issuer;
use crate::credits::period;
use crate::db;
use crate::entity::{credit_purchase, credit_receipt, tenant};
use crate::error::{Error, Result};
use crate::ids::PurchaseId;
use crate::payments::receipts::Sheet;
use crate::payments::receipts::error::ReceiptError;
use crate::payments::receipts::link::{LIFE, Link};
use crate::payments::refunds;
use crate::payments::service::{learn, lookup};

/// Where the server gives receipts out.
pub const PATH: &str = "/receipt";

/// A receipt that can be had.
#[derive(Clone, Debug)]
pub struct Issued {
    /// Its number, as it is printed.
    pub number: String,
    /// Where it is.
    pub url: String,
    /// When it is there no longer.
    pub expires_at: DateTime<Utc>,
    /// Whether it was handed out before.
    pub is_reissue: bool,
}

/// The receipt of a purchase that was paid. The first to ask gives it its number.
pub async fn issue(app: &App, actor: &Actor, id: PurchaseId) -> Result<Issued> {
    let row = lookup::get(app, actor, id).await?;
    if row.completed_at.is_none() {
        return Err(ReceiptError::NotPaid.into());
    }
    let known = credit_receipt::Entity::find_by_id(id).one(app.db.primary()).await?;
    let receipt = match (known, &app.config.receipts) {
        (Some(known), _) => known,
        (None, Some(issuer)) => number(app, &row, issuer).await?,
        (None, None) => return Err(ReceiptError::NoIssuer.into()),
    };
    let link = Link {
        tenant: row.tenant_id,
        purchase: id,
        expires_at: (app.clock.db_now() + LIFE).trunc_subsecs(0),
        is_reissue: receipt.delivered_at.is_some(),
    };
    Ok(Issued {
        number: label(receipt.number),
        url: format!("{}{PATH}?token={}", app.config.public_url, link.sign(&app.crypto)),
        expires_at: link.expires_at,
        is_reissue: link.is_reissue,
    })
}

#[derive(FromQueryResult)]
struct Last {
    last: i64,
}

/// The next number for a purchase, or the one that somebody else has just given to it. A number
/// that is not committed is given to the next, so that there is no gap.
async fn number(
    app: &App,
    row: &credit_purchase::Model,
    issuer: &Issuer,
) -> Result<credit_receipt::Model> {
    let txn = app.db.begin().await?;
    learn::lock(&txn, row.id).await?.ok_or(Error::NotFound("purchase"))?;
    if let Some(known) = credit_receipt::Entity::find_by_id(row.id).one(&*txn).await? {
        return Ok(known);
    }
    let sql = "UPDATE receipt_series SET last = last + 1 WHERE name = 'RECEIPT' RETURNING last";
    let next: Option<Last> = db::one(&*txn, sql, vec![]).await?;
    let receipt = credit_receipt::Model {
        purchase_id: row.id,
        tenant_id: row.tenant_id,
        number: next.ok_or_else(|| Error::broken("no series of receipts"))?.last,
        issuer_name: issuer.name.clone(),
        issuer_address: issuer.address.clone(),
        registration_number: issuer.registration_number.clone(),
        issued_at: app.clock.db_now(),
        delivered_at: None,
    };
    credit_receipt::Entity::insert(receipt.clone().into_active_model())
        .exec_without_returning(&*txn)
        .await?;
    txn.commit().await?;
    Ok(receipt)
}

/// What stands on the receipt that an address is for; none of an address that is not good.
pub async fn open(app: &App, token: &str) -> Result<Option<(Link, Sheet)>> {
    let now = app.clock.db_now();
    let Some(link) = Link::read(&app.crypto, token, now) else { return Ok(None) };
    let conn = app.db.primary();
    let purchase = credit_purchase::Entity::find_for(link.tenant, link.purchase).one(conn).await?;
    let receipt = credit_receipt::Entity::find_by_id(link.purchase).one(conn).await?;
    let tenant = tenant::Entity::find_by_id(link.tenant).one(conn).await?;
    let (Some(purchase), Some(receipt), Some(tenant)) = (purchase, receipt, tenant) else {
        return Ok(None);
    };
    let Some(paid_at) = purchase.completed_at else { return Ok(None) };
    let zone = period::zone(&tenant.time_zone);
    let day = |at: DateTime<Utc>| period::local_day(at, zone);
    let sheet = Sheet {
        number: label(receipt.number),
        is_reissue: link.is_reissue,
        issued_on: day(receipt.issued_at),
        printed_on: day(now),
        paid_on: day(paid_at),
        recipient: tenant.name,
        issuer: Issuer {
            name: receipt.issuer_name,
            address: receipt.issuer_address,
            registration_number: receipt.registration_number,
        },
        // What is on its way may still fail.
        purchase: credit_purchase::Model {
            refunded: refunds::lookup::given_back(app, purchase.id).await?,
            ..purchase
        },
    };
    Ok(Some((link, sheet)))
}

/// Remembers that a receipt was handed out, so that the next is a copy.
pub async fn delivered(app: &App, id: PurchaseId) -> Result<()> {
    let txn = app.db.begin().await?;
    let sql = "UPDATE credit_receipts SET delivered_at = $2
               WHERE purchase_id = $1 AND delivered_at IS NULL";
    db::execute(&*txn, sql, vec![id.into(), app.clock.db_now().into()]).await?;
    txn.commit().await
}

/// A number as it is printed.
fn label(number: i64) -> String {
    format!("R-{number:08}")
}
