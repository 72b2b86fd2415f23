//! Cards that Stripe keeps for a tenant, for purchases without typing it again. We have what people
//! know a card by, and Stripe's id; never its number.

use sea_orm::{ColumnTrait, ConnectionTrait, QueryFilter};

use crate::entity::stored_card;
use crate::error::{Error, Result};
use crate::ids::{StoredCardId, TenantId};
use crate::payments::error::PaymentError;

/// The card that is charged when nobody names one.
pub async fn default_of(
    conn: &impl ConnectionTrait,
    tenant: TenantId,
) -> Result<Option<stored_card::Model>> {
    let present = stored_card::Entity::of_tenant(tenant);
    Ok(present.filter(stored_card::Column::IsDefault.eq(true)).one(conn).await?)
}

/// A card of the tenant that can be charged. A removed one is refused, another tenant's looks
/// missing.
pub(crate) async fn usable(
    conn: &impl ConnectionTrait,
    tenant: TenantId,
    id: StoredCardId,
) -> Result<stored_card::Model> {
    let card = stored_card::Entity::find_for(tenant, id).one(conn).await?;
    match card.ok_or(Error::NotFound("stored card"))? {
        card if card.removed_at.is_none() => Ok(card),
        _ => Err(PaymentError::CardRemoved.into()),
    }
}
