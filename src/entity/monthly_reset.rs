use chrono::{DateTime, NaiveDate, Utc};
use sea_orm::entity::prelude::*;

use super::function_price::AiFunctionType;
use super::plan::PlanType;
use crate::ids::{AccountId, ResetId};

/// A month of an account with its free credits, one per month.
/// CHECKs: added and carried over ≥ 0, efficiency score 0 to 10 000.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "monthly_credit_resets")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ResetId,
    pub account_id: AccountId,
    /// First day of the month in the tenant's zone.
    pub reset_date: NaiveDate,
    pub plan_type: PlanType,
    /// Credits before the reset.
    pub previous_balance: i64,
    pub free_credits_added: i64,
    pub carried_over_credits: i64,
    /// Credits.
    pub total_usage_previous_month: i64,
    /// Of the month before.
    pub most_used_function: Option<AiFunctionType>,
    /// Hundredths of a point, 0 to 10 000; none: the month had no runs.
    pub efficiency_score: Option<i64>,
    pub created_at: DateTime<Utc>,
    /// When it was told to the tenant, or that there is nothing to tell; none: it is still to come.
    pub noticed_at: Option<DateTime<Utc>>,
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
    pub fn of_account_and_id(account: AccountId, id: ResetId) -> Select<Self> {
        Self::of_account(account).filter(Column::Id.eq(id))
    }
}
