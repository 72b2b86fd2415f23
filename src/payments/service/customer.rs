//! A tenant at Stripe: one customer for each, however many ask at once. One that Stripe no longer
//! has is forgotten, its cards with it, and the next use makes another.

use crate::app::App;
use crate::db;
use crate::entity::{credit_purchase, tenant};
use crate::error::{Error, Result};
use crate::external::stripe::StripeFailure;
use crate::ids::TenantId;
use crate::payments::cards;

/// How often one is made anew when it was deleted in the very moment.
const TRIES: usize = 3;

/// Stripe's id of a tenant; made on first use. Those who ask at once share a key, and so a
/// customer; the row keeps the first.
pub(crate) async fn of_tenant(app: &App, tenant: TenantId) -> Result<String> {
    for _ in 0..TRIES {
        let row = row(app, tenant).await?.ok_or(Error::NotFound("tenant"))?;
        if let Some(known) = row.stripe_customer_id {
            return Ok(known);
        }
        let lost = row.stripe_customers_lost;
        let made = match app.payments.create_customer(&key(tenant, lost), &tenant.to_string()).await
        {
            Ok(made) => made,
            Err(StripeFailure::Unavailable(why)) => {
                // Somebody else may have had the key in use, and be done by now.
                tracing::warn!(why, "Stripe made no customer: {why}");
                return known(app, tenant).await?.ok_or(Error::Unavailable("Stripe"));
            }
            Err(failure) => return Err(Error::broken(failure)),
        };
        let txn = app.db.begin().await?;
        let sql = "UPDATE tenants SET stripe_customer_id = COALESCE(stripe_customer_id, $2)
                   WHERE id = $1 AND stripe_customers_lost = $3 AND deleted_at IS NULL
                   RETURNING *";
        let values = vec![tenant.into(), made.into(), lost.into()];
        let row: Option<tenant::Model> = db::one(&*txn, sql, values).await?;
        txn.commit().await?;
        if let Some(kept) = row.and_then(|row| row.stripe_customer_id) {
            return Ok(kept);
        }
    }
    Err(Error::NotFound("tenant"))
}

/// A key makes one customer for ever, also when it was deleted since.
fn key(tenant: TenantId, lost: i64) -> String {
    match lost {
        0 => format!("customer:{tenant}"),
        lost => format!("customer:{tenant}:{lost}"),
    }
}

/// Stripe's id of a tenant, if there is one.
pub(crate) async fn known(app: &App, tenant: TenantId) -> Result<Option<String>> {
    Ok(row(app, tenant).await?.and_then(|row| row.stripe_customer_id))
}

async fn row(app: &App, tenant: TenantId) -> Result<Option<tenant::Model>> {
    let sql = "SELECT * FROM tenants WHERE id = $1";
    db::one(app.db.primary(), sql, vec![tenant.into()]).await
}

/// Forgets a customer that Stripe no longer has. Whether it was still a tenant's.
pub(crate) async fn forget(app: &App, customer: &str) -> Result<bool> {
    let txn = app.db.begin().await?;
    let sql = "UPDATE tenants SET stripe_customer_id = NULL,
               stripe_customers_lost = stripe_customers_lost + 1
               WHERE stripe_customer_id = $1 RETURNING *";
    let row: Option<tenant::Model> = db::one(&*txn, sql, vec![customer.into()]).await?;
    if let Some(tenant) = &row {
        cards::take_out_all(&txn, tenant.id, app.clock.db_now()).await?;
        let id = tenant.id;
        tracing::warn!(tenant.id = %id, "Stripe no longer has the customer of {id}");
    }
    txn.commit().await?;
    Ok(row.is_some())
}

/// The purchase with the customer that Stripe is asked for. It is written down before Stripe is
/// asked, so that whoever goes on with it asks for the same.
pub(crate) async fn of_purchase(
    app: &App,
    row: credit_purchase::Model,
) -> Result<credit_purchase::Model> {
    if row.customer_id.is_some() {
        return Ok(row);
    }
    let customer = of_tenant(app, row.tenant_id).await?;
    let sql = "UPDATE credit_purchases SET customer_id = COALESCE(customer_id, $2)
               WHERE id = $1 RETURNING *";
    let txn = app.db.begin().await?;
    let saved = db::one(&*txn, sql, vec![row.id.into(), customer.into()]).await?;
    txn.commit().await?;
    saved.ok_or(Error::NotFound("purchase"))
}

/// The purchase with another customer, once Stripe said that it does not have the first; none when
/// that was the second. Nothing was paid under the first: Stripe would have answered the payment
/// itself to the same key.
pub(crate) async fn replaced(
    app: &App,
    row: &credit_purchase::Model,
) -> Result<Option<credit_purchase::Model>> {
    let Some(gone) = row.customer_id.clone().filter(|_| row.customer_number == 1) else {
        return Ok(None);
    };
    forget(app, &gone).await?;
    let customer = of_tenant(app, row.tenant_id).await?;
    let txn = app.db.begin().await?;
    // Whoever else found it gone may have been first: then theirs counts.
    let sql = "UPDATE credit_purchases SET customer_number = 2,
               customer_id = CASE WHEN customer_number = 1 THEN $2 ELSE customer_id END
               WHERE id = $1 RETURNING *";
    let saved = db::one(&*txn, sql, vec![row.id.into(), customer.into()]).await?;
    txn.commit().await?;
    Ok(saved)
}
