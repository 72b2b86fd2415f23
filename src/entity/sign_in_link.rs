use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::crypto::Sealed;
use crate::ids::{SignInLinkId, TenantId};

/// A link in a mail that signs its reader in, once.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "sign_in_links")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: SignInLinkId,
    pub token_hash: Vec<u8>,
    pub email: Sealed,
    pub email_index: Vec<u8>,
    /// Where the browser goes then.
    pub return_to: Option<String>,
    /// The tenant of the site that asked.
    pub tenant_id: Option<TenantId>,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    pub used_at: Option<DateTime<Utc>>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
