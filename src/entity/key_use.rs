use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// A key of the settings, and when this system first had it. Never the key itself.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "key_uses")]
pub struct Model {
    /// The setting that lists it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub purpose: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub kid: String,
    pub first_used_at: DateTime<Utc>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
