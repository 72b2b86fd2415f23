use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::ids::{DisputeId, PurchaseId, TenantId, WithdrawalId};
use crate::text_enum;

/// A payment that the payer's bank disputes. UNIQUE: Stripe's id, the withdrawal.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "payment_disputes")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: DisputeId,
    pub tenant_id: TenantId,
    pub purchase_id: PurchaseId,
    /// Unique: Stripe's own.
    pub stripe_dispute_id: String,
    pub status: DisputeStatus,
    /// The bank's reason in Stripe's word, such as `fraudulent`.
    pub reason: String,
    /// What is disputed, in minor units.
    pub amount: i64,
    /// Unique: the credits that it takes away while it stands.
    pub withdrawal_id: Option<WithdrawalId>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

text_enum! {
    /// Where a dispute stands.
    DisputeStatus {
        /// The bank asks; no money has gone.
        Inquiry = "INQUIRY",
        /// The money is gone until it is decided.
        Open = "OPEN",
        /// It was decided for us: the money is back.
        Won = "WON",
        /// It was decided against us: the money stays away.
        Lost = "LOST",
        /// The bank's question ended without a dispute.
        Closed = "CLOSED",
    }
}

impl DisputeStatus {
    /// Whether the money is with the payer's bank.
    pub fn holds_money(self) -> bool {
        match self {
            Self::Open | Self::Lost => true,
            Self::Inquiry | Self::Won | Self::Closed => false,
        }
    }

    /// Whether it was decided.
    pub fn is_over(self) -> bool {
        match self {
            Self::Won | Self::Lost | Self::Closed => true,
            Self::Inquiry | Self::Open => false,
        }
    }
}
