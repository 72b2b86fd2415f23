use sea_orm::entity::prelude::*;

use crate::ids::ExecutionId;

/// A label of an execution, once per label.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "ai_execution_tags")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub execution_id: ExecutionId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub tag: String,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
