//! What Stripe tells of cards: any number of times, in any order.

use std::sync::Arc;

use sea_orm::{EntityTrait, IntoActiveModel};
use serde_json::Value as Json;

use crate::app::App;
use crate::db;
use crate::entity::{stored_card, tenant};
use crate::error::{Error, Result};
use crate::external::stripe::{StripeFailure, read_card, read_setup};
use crate::identity::service::tenant::lock;
use crate::payments::cards::{change, keep};
use crate::payments::service::customer;

/// A card was set up.
pub(crate) async fn set_up(app: &App, object: &Json, is_live: bool) -> Result<&'static str> {
    match read_setup(object) {
        Some(setup) if setup.is_live == is_live => {
            Ok(keep::of_setup(app, &setup, &Arc::default()).await?.as_str())
        }
        _ => Ok("UNREADABLE"),
    }
}

/// A card may have changed: its month, or, by the network, its number.
pub(crate) async fn changed(app: &App, object: &Json) -> Result<&'static str> {
    let Some(row) = row_of(app, object).await?.filter(|row| row.removed_at.is_none()) else {
        return Ok("NOT_OURS");
    };
    let Some(owner) = customer::known(app, row.tenant_id).await? else { return Ok("NOT_OURS") };
    // Events come in any order: what counts is how the card is now.
    let card = match app.payments.card(&owner, &row.stripe_payment_method_id).await {
        Ok(card) => card,
        Err(StripeFailure::NotFound) => return take_out(app, row).await,
        Err(failure) => return Err(Error::broken(failure)),
    };
    let txn = app.db.begin().await?;
    let sql = "UPDATE stored_cards SET brand = $2, last4 = $3, exp_month = $4, exp_year = $5,
               fingerprint = $6, updated_at = $7 WHERE id = $1 AND removed_at IS NULL";
    let values = vec![
        row.id.into(),
        keep::brand_of(&card.brand).as_str().into(),
        card.last4.into(),
        card.exp_month.into(),
        card.exp_year.into(),
        card.fingerprint.into(),
        app.clock.db_now().into(),
    ];
    db::execute(&*txn, sql, values).await?;
    txn.commit().await?;
    Ok("CHANGED")
}

/// A card was given up. One that we have not heard of yet is kept as removed, so that late news of
/// it stores nothing.
pub(crate) async fn detached(app: &App, data: &Json) -> Result<&'static str> {
    if let Some(row) = row_of(app, &data["object"]).await? {
        return take_out(app, row).await;
    }
    let owner = data["previous_attributes"]["customer"].as_str();
    let (Some(owner), Some(card)) = (owner, read_card(&data["object"])) else {
        return Ok("NOT_OURS");
    };
    let sql = "SELECT * FROM tenants WHERE stripe_customer_id = $1";
    let found: Option<tenant::Model> = db::one(app.db.primary(), sql, vec![owner.into()]).await?;
    let Some(tenant) = found else { return Ok("NOT_OURS") };
    let now = app.clock.db_now();
    let row = keep::row_of(tenant.id, None, card, now);
    let row = stored_card::Model { removed_at: Some(now), ..row };
    let txn = app.db.begin().await?;
    stored_card::Entity::insert(row.into_active_model())
        .on_conflict_do_nothing_on([stored_card::Column::StripePaymentMethodId])
        .exec_without_returning(&*txn)
        .await?;
    // Whoever stored it in between is overruled.
    let stored = keep::by_method(&*txn, data["object"]["id"].as_str().unwrap_or_default()).await?;
    txn.commit().await?;
    match stored.filter(|row| row.removed_at.is_none()) {
        Some(row) => take_out(app, row).await,
        None => Ok("REMOVED"),
    }
}

/// A customer was deleted at Stripe, and its cards with it.
pub(crate) async fn customer_deleted(app: &App, object: &Json) -> Result<&'static str> {
    let id = object["id"].as_str().unwrap_or_default();
    Ok(if customer::forget(app, id).await? { "FORGOTTEN" } else { "NOT_OURS" })
}

async fn row_of(app: &App, object: &Json) -> Result<Option<stored_card::Model>> {
    keep::by_method(app.db.primary(), object["id"].as_str().unwrap_or_default()).await
}

async fn take_out(app: &App, row: stored_card::Model) -> Result<&'static str> {
    let now = app.clock.db_now();
    let txn = app.db.begin().await?;
    match lock(&txn, row.tenant_id).await {
        // Nobody charges the cards of a closed tenant.
        Err(Error::Refused(_)) => return Ok("CLOSED"),
        locked => locked?,
    };
    let row = stored_card::Entity::find_for(row.tenant_id, row.id).one(&*txn).await?;
    if let Some(row) = row.filter(|row| row.removed_at.is_none()) {
        change::take_out(&txn, &row, now).await?;
    }
    txn.commit().await?;
    Ok("REMOVED")
}
