use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;
use uuid::Uuid;

use super::function_price::AiFunctionType;
use crate::ids::{AccountId, ExecutionId, HoldId, UserId};
use crate::text_enum;

/// Credits set aside for an execution, one hold per execution.
/// CHECKs: amount ≥ 0, watermark and charge between 0 and amount; the state is checked.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "ai_credit_holds")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: HoldId,
    pub account_id: AccountId,
    pub execution_id: ExecutionId,
    pub user_id: UserId,
    pub function_type: AiFunctionType,
    /// Credits.
    pub amount: i64,
    /// The account's version at its start.
    pub version: i64,
    pub state: HoldState,
    /// Set before the first byte leaves for the provider.
    pub in_flight_at: Option<DateTime<Utc>>,
    /// Credits that durably stored output is worth; the charge if we crash.
    pub watermark: i64,
    /// After it, a sweep may resolve the hold.
    pub lease_until: DateTime<Utc>,
    /// Credits.
    pub charge: i64,
    /// The attempt that resolved it.
    pub resolved_by: Option<Uuid>,
    pub created_at: DateTime<Utc>,
    pub resolved_at: Option<DateTime<Utc>>,
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
    pub fn of_account_and_id(account: AccountId, id: HoldId) -> Select<Self> {
        Self::of_account(account).filter(Column::Id.eq(id))
    }
}

text_enum! {
    /// Where a hold stands.
    HoldState {
        /// The credits are set aside.
        Active = "ACTIVE",
        /// Resolved by a success or with a charge.
        Settled = "SETTLED",
        /// The execution failed and nothing was charged.
        Released = "RELEASED",
        /// The call never left us; nothing was charged.
        Expired = "EXPIRED",
    }
}
