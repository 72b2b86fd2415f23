use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

/// How far a list of Stripe's was read.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "stripe_cursors")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// All that happened before is here.
    pub seen_until: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
