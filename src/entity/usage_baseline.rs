use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;
use uuid::Uuid;

use crate::ids::TenantId;

/// What is usual of a person in a tenant, or of all its people: their hours with any use in the
/// last 56 days. Derived from `usage_hourly` by a job. Medians are hundredths.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "usage_baselines")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: TenantId,
    /// The person; nil for all of them.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: Uuid,
    /// Runs in all.
    pub runs: i64,
    /// Runs in an hour, their median.
    pub runs_median: i64,
    /// The median of the differences from it.
    pub runs_mad: i64,
    /// Credits in an hour, their median.
    pub credits_median: i64,
    /// The median of the differences from it.
    pub credits_mad: i64,
    /// Runs by the hour of the week in the tenant's zone, Monday's first hour first; 168 numbers.
    pub week: Json,
    pub computed_at: DateTime<Utc>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// The rows of a tenant.
    pub fn of_tenant(tenant: TenantId) -> Select<Self> {
        Self::find().filter(Column::TenantId.eq(tenant))
    }
}
