use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

pub use crate::external::oauth::Provider;
use crate::ids::{LinkedAccountId, UserId};

/// A person's account at a provider; one per person and provider. Its tokens are not kept.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "accounts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: LinkedAccountId,
    pub user_id: UserId,
    pub r#type: String,
    pub provider: Provider,
    /// The provider's own id of the person.
    pub provider_account_id: String,
    pub scope: Option<String>,
    pub created_at: DateTime<Utc>,
    pub last_used_at: DateTime<Utc>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
