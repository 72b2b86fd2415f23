use chrono::NaiveDate;
use sea_orm::entity::prelude::*;

use super::function_price::AiFunctionType;
use crate::ids::AccountId;

/// An account's use of a function on a day. Written with every resolution of a hold.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "usage_daily")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub account_id: AccountId,
    /// In the tenant's zone.
    #[sea_orm(primary_key, auto_increment = false)]
    pub day: NaiveDate,
    #[sea_orm(primary_key, auto_increment = false)]
    pub function_type: AiFunctionType,
    /// Failures included.
    pub runs: i64,
    pub failures: i64,
    /// Sum over the runs.
    pub time_ms: i64,
    /// Charged.
    pub credits: i64,
    pub credits_on_success: i64,
    /// Those of the charged credits that came from free grants.
    pub free_credits: i64,
    /// Yen that the charged credits carried.
    pub cost_yen: i64,
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
}
