//! A tenant at Stripe: one customer for each, however many ask at once.

use crate::app::App;
use crate::db;
use crate::entity::tenant;
use crate::error::{Error, Result};
use crate::external::stripe::StripeFailure;
use crate::ids::TenantId;

/// Stripe's id of a tenant; made on first use. Those who ask at once share a key, and so a
/// customer; the row keeps the first.
pub(crate) async fn of_tenant(app: &App, tenant: TenantId) -> Result<String> {
    if let Some(known) = known(app, tenant).await? {
        return Ok(known);
    }
    let key = format!("customer:{tenant}");
    let made = app.payments.create_customer(&key, &tenant.to_string()).await;
    let made = made.map_err(|failure| match failure {
        StripeFailure::Unavailable(why) => {
            tracing::warn!(why, "Stripe made no customer: {why}");
            Error::Unavailable("Stripe")
        }
        failure => Error::broken(failure),
    })?;
    let txn = app.db.begin().await?;
    let sql = "UPDATE tenants SET stripe_customer_id = COALESCE(stripe_customer_id, $2)
               WHERE id = $1 AND deleted_at IS NULL RETURNING *";
    let row: Option<tenant::Model> = db::one(&*txn, sql, vec![tenant.into(), made.into()]).await?;
    txn.commit().await?;
    row.and_then(|row| row.stripe_customer_id).ok_or(Error::NotFound("tenant"))
}

/// Stripe's id of a tenant, if there is one.
pub(crate) async fn known(app: &App, tenant: TenantId) -> Result<Option<String>> {
    let sql = "SELECT * FROM tenants WHERE id = $1";
    let row: Option<tenant::Model> = db::one(app.db.primary(), sql, vec![tenant.into()]).await?;
    Ok(row.and_then(|row| row.stripe_customer_id))
}
