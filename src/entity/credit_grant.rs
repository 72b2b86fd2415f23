use chrono::{DateTime, NaiveDate, Utc};
use sea_orm::entity::prelude::*;
use uuid::Uuid;

use crate::ids::{AccountId, GrantId};
use crate::text_enum;

/// Credits that came in together.
/// CHECKs: granted > 0, 0 ≤ remaining ≤ granted, 0 ≤ cost_left ≤ price_minor.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "ai_credit_grants")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: GrantId,
    pub account_id: AccountId,
    pub kind: GrantKind,
    /// Credits.
    pub granted: i64,
    /// Credits.
    pub remaining: i64,
    /// Yen paid for the whole grant.
    pub price_minor: i64,
    /// Yen of the price that the remaining credits carry.
    pub cost_left: i64,
    /// First day of the month that a free grant belongs to.
    pub period: Option<NaiveDate>,
    /// None: the credits do not expire.
    pub expires_at: Option<DateTime<Utc>>,
    pub description: Option<String>,
    /// What brought it: a purchase, an execution.
    pub reference_id: Option<Uuid>,
    pub created_at: DateTime<Utc>,
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
    pub fn of_account_and_id(account: AccountId, id: GrantId) -> Select<Self> {
        Self::of_account(account).filter(Column::Id.eq(id))
    }
}

text_enum! {
    /// Where credits came from.
    GrantKind {
        /// A month's free credits of the plan.
        Free = "FREE",
        /// Bought.
        Purchased = "PURCHASED",
        /// Given by us.
        Bonus = "BONUS",
        /// Given back for an execution.
        Refund = "REFUND",
    }
}
