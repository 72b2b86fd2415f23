use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use super::auto_purchase::AutoPurchaseReason;
use crate::ids::{AccountId, AutoPurchaseAttemptId, PurchaseId, TenantId};
use crate::text_enum;

/// A purchase that we tried to make by ourselves, and how the account stood then.
/// UNIQUE: purchase; one OPEN attempt for each account. CHECKs: FAILED has a reason.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "auto_purchase_attempts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AutoPurchaseAttemptId,
    pub account_id: AccountId,
    pub tenant_id: TenantId,
    pub purchase_id: PurchaseId,
    pub cause: AutoPurchaseCause,
    /// Credits, those on hold included, when it began.
    pub balance_before: i64,
    /// Credits on hold when it began.
    pub held_before: i64,
    /// Credits, as it was set then.
    pub threshold: i64,
    /// Credits that the call wanted; 0 after a charge.
    pub needed: i64,
    /// The card, by its fingerprint.
    pub card: String,
    /// Yen.
    pub amount: i64,
    pub state: AttemptState,
    pub reason: Option<AutoPurchaseReason>,
    pub created_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

text_enum! {
    /// What made us buy.
    AutoPurchaseCause {
        /// A charge left no more than the threshold.
        Charge = "CHARGE",
        /// A call wanted more than there was.
        Reserve = "RESERVE",
    }
}

text_enum! {
    /// Where an attempt stands.
    AttemptState {
        /// It is under way.
        Open = "OPEN",
        /// The credits are there.
        Succeeded = "SUCCEEDED",
        /// It was not paid.
        Failed = "FAILED",
    }
}
