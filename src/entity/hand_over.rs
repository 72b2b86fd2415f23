use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::ids::{HandOverId, SessionId, TenantId, UserId};

/// A code that takes a signed-in person to another site of the tenant, once.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "hand_overs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: HandOverId,
    pub code_hash: Vec<u8>,
    pub user_id: UserId,
    pub session_id: SessionId,
    pub from_domain: String,
    pub to_domain: String,
    /// The only origin that may redeem it.
    pub to_origin: String,
    /// The SHA-256 of what the browser that it is for keeps in a cookie; none: any browser.
    pub challenge: Option<String>,
    pub tenant_id: TenantId,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    pub used_at: Option<DateTime<Utc>>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
