use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::ids::{AlertId, TenantId};
use crate::text_enum;

/// Something people should know, once per deduplication key. The severity is checked.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "alerts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AlertId,
    /// None: it concerns the platform.
    pub tenant_id: Option<TenantId>,
    pub kind: String,
    pub severity: AlertSeverity,
    /// Unique: the same alert is raised once.
    pub dedupe_key: String,
    /// Ids and numbers that the text is made of; no personal data.
    pub data: serde_json::Value,
    pub created_at: DateTime<Utc>,
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

    /// A row, if it is this tenant's.
    pub fn find_for(tenant: TenantId, id: AlertId) -> Select<Self> {
        Self::of_tenant(tenant).filter(Column::Id.eq(id))
    }
}

text_enum! {
    /// How urgent an alert is. Values are in rising order.
    AlertSeverity {
        /// Good to know; nothing to do.
        Info = "INFO",
        /// Look at it soon.
        Warning = "WARNING",
        /// Act today.
        High = "HIGH",
        /// Act now: something is stopped, or is about to be.
        Critical = "CRITICAL",
    }
}
