use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::ids::{PurchaseId, RefundId, TenantId, UserId, WithdrawalId};
use crate::text_enum;

/// Money of a purchase that goes back. UNIQUE: Stripe's id, the withdrawal, the one of a purchase
/// that Stripe has not answered. CHECKs: one that nobody asked for here is Stripe's.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "purchase_refunds")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RefundId,
    pub tenant_id: TenantId,
    pub purchase_id: PurchaseId,
    /// Who asked for it; none when it was made at Stripe.
    pub user_id: Option<UserId>,
    pub status: RefundStatus,
    /// None when it was made at Stripe.
    pub reason: Option<RefundReason>,
    /// In minor units.
    pub amount: i64,
    /// Unique: the credits that it takes away.
    pub withdrawal_id: Option<WithdrawalId>,
    /// Unique: Stripe's own; none until Stripe has answered.
    pub stripe_refund_id: Option<String>,
    /// Stripe's word.
    pub failure_reason: Option<String>,
    /// When Stripe is asked again while it is pending.
    pub next_check_at: DateTime<Utc>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

text_enum! {
    /// Where a refund stands.
    RefundStatus {
        /// The credits are gone, and the money is on its way, or Stripe has not answered.
        Pending = "PENDING",
        /// The money has gone back.
        Succeeded = "SUCCEEDED",
        /// The money stayed, and the credits are back.
        Failed = "FAILED",
    }
}

text_enum! {
    /// Why money goes back.
    RefundReason {
        /// The buyer asked for it.
        RequestedByCustomer = "REQUESTED_BY_CUSTOMER",
        /// The same was bought twice.
        Duplicate = "DUPLICATE",
        /// The buyer was not who they said.
        Fraudulent = "FRAUDULENT",
    }
}

impl RefundStatus {
    /// Whether the money is not with us.
    pub fn holds_money(self) -> bool {
        match self {
            Self::Pending | Self::Succeeded => true,
            Self::Failed => false,
        }
    }
}
