use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::actor::Role;
use crate::crypto::Sealed;
use crate::ids::{InvitationId, TenantId, UserId};

/// An address that may become a member. One open invitation per tenant and address.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "invitations")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: InvitationId,
    pub tenant_id: TenantId,
    pub email: Sealed,
    pub email_index: Vec<u8>,
    pub role: Role,
    pub token_hash: Vec<u8>,
    pub invited_by: UserId,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    pub accepted_at: Option<DateTime<Utc>>,
    pub accepted_by: Option<UserId>,
    pub revoked_at: Option<DateTime<Utc>>,
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
    pub fn find_for(tenant: TenantId, id: InvitationId) -> Select<Self> {
        Self::of_tenant(tenant).filter(Column::Id.eq(id))
    }
}
