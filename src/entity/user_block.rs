use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::ids::{BlockId, TenantId, UserId};

/// A person whose AI calls a tenant refuses for a while.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "user_blocks")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: BlockId,
    pub tenant_id: TenantId,
    pub user_id: UserId,
    /// Of the call that led to it, 0 to 100.
    pub score: i64,
    /// Why, as the score's signals.
    pub signals: Json,
    pub blocked_until: DateTime<Utc>,
    pub created_at: DateTime<Utc>,
    /// When an ADMIN lifted it.
    pub lifted_at: Option<DateTime<Utc>>,
    pub lifted_by: Option<UserId>,
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
    pub fn find_for(tenant: TenantId, id: BlockId) -> Select<Self> {
        Self::of_tenant(tenant).filter(Column::Id.eq(id))
    }
}
