use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::ids::{AssessmentId, TenantId};

/// What a weekly assessment of compliance found.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "compliance_assessments")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AssessmentId,
    /// None: the platform.
    pub tenant_id: Option<TenantId>,
    pub is_compliant: bool,
    /// The names of the checks that were not passed.
    pub failed: serde_json::Value,
    pub assessed_at: DateTime<Utc>,
    /// When the next one is due.
    pub next_at: DateTime<Utc>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
