use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;
use uuid::Uuid;

use crate::ids::{AuditEventId, TenantId, UserId};

/// A line of the audit record.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "system_event")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AuditEventId,
    pub tenant_id: Option<TenantId>,
    pub user_id: Option<UserId>,
    pub event_type: String,
    pub source_system: String,
    pub entity_type: String,
    pub entity_id: Option<Uuid>,
    pub action: String,
    /// Ids and numbers; no personal data.
    pub event_data: serde_json::Value,
    /// False: the action was refused or failed.
    pub is_success: bool,
    pub occurred_at: DateTime<Utc>,
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
