use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::ids::{StoredCardId, TenantId, UserId};
use crate::text_enum;

/// A card that Stripe keeps for a tenant: what people know it by, never its number. A tenant has
/// one default at most. CHECKs: the last digits are four; a removed card is no default.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "stored_cards")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: StoredCardId,
    pub tenant_id: TenantId,
    /// Who stored it, if that is known.
    pub user_id: Option<UserId>,
    /// Unique: Stripe's id of it.
    pub stripe_payment_method_id: String,
    pub brand: CardBrand,
    /// The last digits of its number.
    pub last4: String,
    pub exp_month: i32,
    pub exp_year: i32,
    /// The same for the same number, whatever the id; Stripe's.
    pub fingerprint: Option<String>,
    /// Unique by tenant: what is charged when nobody names a card.
    pub is_default: bool,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    /// When it was removed, here or at Stripe; it stays so.
    pub removed_at: Option<DateTime<Utc>>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// The rows of a tenant that were not removed.
    pub fn of_tenant(tenant: TenantId) -> Select<Self> {
        let present = Self::find().filter(Column::RemovedAt.is_null());
        present.filter(Column::TenantId.eq(tenant))
    }

    /// A row, removed or not, if it is this tenant's.
    pub fn find_for(tenant: TenantId, id: StoredCardId) -> Select<Self> {
        Self::find_by_id(id).filter(Column::TenantId.eq(tenant))
    }
}

text_enum! {
    /// Whose card it is.
    CardBrand {
        /// American Express.
        Amex = "AMEX",
        /// Cartes Bancaires.
        CartesBancaires = "CARTES_BANCAIRES",
        /// Diners Club.
        Diners = "DINERS",
        /// Discover.
        Discover = "DISCOVER",
        /// Eftpos Australia.
        Eftpos = "EFTPOS",
        /// JCB.
        Jcb = "JCB",
        /// Mastercard.
        Mastercard = "MASTERCARD",
        /// UnionPay.
        Unionpay = "UNIONPAY",
        /// Visa.
        Visa = "VISA",
        /// Another one.
        Other = "OTHER",
    }
}
