use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::ids::PlanId;
use crate::text_enum;

/// A plan's version, unique for plan and version.
/// CHECKs: version ≥ 1, price and cap ≥ 0, free credits 0 to 100 000 000.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "ai_plans")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: PlanId,
    pub plan_type: PlanType,
    /// The highest is in force.
    pub version: i32,
    /// Yen per month.
    pub price_yen: i64,
    pub monthly_free_credits: i64,
    /// What becomes of unused free credits at a reset.
    pub carry_over: CarryOver,
    /// Credits; read only with [`CarryOver::Cap`].
    pub carry_over_cap: i64,
    /// Stripe's price; none: the price is told with each request.
    pub stripe_price_id: Option<String>,
    pub created_at: DateTime<Utc>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

text_enum! {
    /// The plan of a tenant.
    PlanType {
        /// The smallest plan.
        Essential = "ESSENTIAL",
        /// The plan for growing teams.
        Professional = "PROFESSIONAL",
        /// The largest plan.
        Enterprise = "ENTERPRISE",
    }
}

text_enum! {
    /// What becomes of unused free credits when a new month begins.
    CarryOver {
        /// All of them stay.
        All = "ALL",
        /// None of them stay.
        None = "NONE",
        /// They stay up to a cap; the oldest above it are taken away.
        Cap = "CAP",
    }
}
