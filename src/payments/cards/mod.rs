//! Cards that Stripe keeps for a tenant, for purchases without typing one again. We have what
//! people know a card by, and Stripe's id; never its number.
//!
//! A card comes by a setup (`setup`) or by a purchase that keeps it (`keep`), is the default or
//! not, is removed (`change`), and changes at Stripe (`told`). Who writes a tenant's cards locks
//! the tenant first, so that there is one default and no more cards than there may be.

mod change;
mod keep;
mod setup;
pub(crate) mod told;

use chrono::{DateTime, Datelike, Utc};
use sea_orm::{ColumnTrait, ConnectionTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::actor::{Actor, Permission};
use crate::app::App;
use crate::entity::stored_card;
use crate::error::{Error, Result};
use crate::ids::{StoredCardId, TenantId};
use crate::payments::error::PaymentError;

pub(crate) use change::take_out_all;
pub use change::{DETACH, remove, set_default};
pub use keep::KEEP;
pub(crate) use keep::{is_full, keep_later};
pub use setup::{Begun, NewCard, begin, confirm};

/// Cards that a tenant may have.
pub const CARDS_MAX: u64 = 20;

/// The card that is charged when nobody names one.
pub async fn default_of(
    conn: &impl ConnectionTrait,
    tenant: TenantId,
) -> Result<Option<stored_card::Model>> {
    let present = stored_card::Entity::of_tenant(tenant);
    Ok(present.filter(stored_card::Column::IsDefault.eq(true)).one(conn).await?)
}

/// The cards of the actor's tenant, the newest first; at most 20.
pub async fn list(app: &App, actor: &Actor) -> Result<Vec<stored_card::Model>> {
    actor.require(Permission::MoneyManage)?;
    let present = stored_card::Entity::of_tenant(actor.tenant()?);
    let newest_first = present.order_by_desc(stored_card::Column::Id).limit(CARDS_MAX);
    Ok(newest_first.all(app.db.primary()).await?)
}

/// Those of the ids that the actor may see.
pub async fn rows_of(
    app: &App,
    actor: &Actor,
    ids: &[StoredCardId],
) -> Result<Vec<stored_card::Model>> {
    actor.require(Permission::MoneyManage)?;
    let present = stored_card::Entity::of_tenant(actor.tenant()?);
    let found = present.filter(stored_card::Column::Id.is_in(ids.iter().copied()));
    Ok(found.all(app.db.primary()).await?)
}

/// Whether a card's last month is over.
pub fn is_expired(card: &stored_card::Model, now: DateTime<Utc>) -> bool {
    let month = |year: i32, month: i32| i64::from(year) * 12 + i64::from(month);
    let this = month(now.year(), i32::try_from(now.month()).unwrap_or(1));
    month(card.exp_year, card.exp_month) < this
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
