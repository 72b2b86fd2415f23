use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::ids::{TenantId, UserId};

/// Somebody whom others took out of a tenant: its open door stays closed to them until they are
/// invited again. Who left by themselves has no such row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "membership_removals")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: TenantId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: UserId,
    pub removed_at: DateTime<Utc>,
    pub removed_by: UserId,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// The mark of a person in a tenant.
    pub fn of_tenant_and_user(tenant: TenantId, user: UserId) -> Select<Self> {
        Self::find().filter(Column::TenantId.eq(tenant)).filter(Column::UserId.eq(user))
    }
}
