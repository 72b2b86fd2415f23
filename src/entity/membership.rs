use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::actor::Role;
use crate::ids::{MembershipId, TenantId, UserId};

/// A person's place in a tenant: one per person and tenant. The role is checked.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "memberships")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: MembershipId,
    pub tenant_id: TenantId,
    pub user_id: UserId,
    pub role: Role,
    /// Rises with every change, for `expectedVersion`.
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
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
    pub fn find_for(tenant: TenantId, id: MembershipId) -> Select<Self> {
        Self::of_tenant(tenant).filter(Column::Id.eq(id))
    }

    /// A person's place in a tenant.
    pub fn of_tenant_and_user(tenant: TenantId, user: UserId) -> Select<Self> {
        Self::of_tenant(tenant).filter(Column::UserId.eq(user))
    }
}
