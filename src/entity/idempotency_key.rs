use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;
use uuid::Uuid;

use crate::ids::{IdempotencyId, TenantId};

/// A remembered key of a write, unique for tenant, actor, operation and key.
/// CHECK: the key has 8 to 255 characters.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "idempotency_keys")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: IdempotencyId,
    pub tenant_id: TenantId,
    /// Who wrote: a user.
    pub actor_id: Uuid,
    /// The mutation; those that share keys share the name.
    pub operation: String,
    pub key: String,
    /// Keyed digest of the body, to refuse the key with another one.
    pub body_digest: Vec<u8>,
    /// What the write made; it is read again for the answer.
    pub object_id: Uuid,
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
}
