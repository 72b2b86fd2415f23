use chrono::{DateTime, NaiveDate, Utc};
use sea_orm::entity::prelude::*;

use super::plan::PlanType;
use crate::ids::PackageId;

/// Credits for sale on a plan.
/// CHECKs: credits 1 to 100 000 000, price 1 to 1 000 000 000, rates 0 to 10 000, dates in order.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "ai_credit_packages")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: PackageId,
    pub plan_type: PlanType,
    pub credits_amount: i64,
    /// Yen.
    pub price_yen: i64,
    /// Hundredths of a percent.
    pub discount_rate: i64,
    /// Hundredths of a percent; 1000 is 10 %.
    pub tax_rate: i64,
    pub is_bulk_package: bool,
    pub is_promotional: bool,
    pub active: bool,
    /// First day of sale, in the tenant's zone.
    pub valid_from: NaiveDate,
    /// Last day of sale; none: no end.
    pub valid_until: Option<NaiveDate>,
    pub display_name: String,
    pub description: Option<String>,
    pub marketing_highlight: Option<String>,
    /// Rises with every change, for `expectedVersion`.
    pub version: i32,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
