use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::crypto::Sealed;
use crate::ids::UserId;

/// A person who can sign in. The index of the e-mail address is unique.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "users")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: UserId,
    pub name: String,
    pub email: Sealed,
    /// Keyed index of the canonical address; equality goes through it.
    pub email_index: Vec<u8>,
    /// When it was proved that the address is theirs.
    pub email_verified_at: Option<DateTime<Utc>>,
    /// Address of a picture.
    pub image: Option<String>,
    /// May do what crosses tenants.
    pub is_platform_admin: bool,
    /// BCP 47 language of what we send.
    pub locale: String,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub deleted_at: Option<DateTime<Utc>>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
