use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;
use uuid::Uuid;

use crate::ids::{AccountId, GrantId, WithdrawalId};
use crate::text_enum;

/// Credits being taken away from a grant.
/// CHECKs: 0 ≤ put_back ≤ taken ≤ asked, cost_taken ≥ 0.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "ai_credit_withdrawals")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: WithdrawalId,
    pub account_id: AccountId,
    pub grant_id: GrantId,
    pub reason: WithdrawalReason,
    /// Whether it stays open for what running calls hold.
    pub waits: bool,
    /// Credits.
    pub asked: i64,
    /// Credits; below `asked` while holds keep the rest.
    pub taken: i64,
    /// Credits that came back.
    pub put_back: i64,
    /// Yen that the taken credits carried.
    pub cost_taken: i64,
    /// The account's version at its start; older holds draw first.
    pub version: i64,
    /// What it is for: a dispute, a refund.
    pub reference_id: Option<Uuid>,
    pub created_at: DateTime<Utc>,
    /// None: it is open.
    pub closed_at: Option<DateTime<Utc>>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// The rows of an account.
    pub fn of_account(account: AccountId) -> Select<Self> {
        Self::find().filter(Column::AccountId.eq(account))
    }

    /// A row, if it is this account's.
    pub fn of_account_and_id(account: AccountId, id: WithdrawalId) -> Select<Self> {
        Self::of_account(account).filter(Column::Id.eq(id))
    }
}

text_enum! {
    /// Why credits are taken away.
    WithdrawalReason {
        /// The grant expired.
        Expiry = "EXPIRY",
        /// Unused free credits above what the plan carries over.
        CarryOver = "CARRY_OVER",
        /// The payment of the grant is disputed.
        Dispute = "DISPUTE",
        /// The purchase is refunded.
        PurchaseRefund = "PURCHASE_REFUND",
    }
}
