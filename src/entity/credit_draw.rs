use sea_orm::entity::prelude::*;

use crate::ids::{DrawId, GrantId, HoldId, TransactionId};

/// What a settlement took from a grant.
/// CHECKs: credits > 0, cost ≥ 0, 0 ≤ returned ≤ credits, 0 ≤ returned_cost ≤ cost.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "ai_credit_draws")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: DrawId,
    pub transaction_id: TransactionId,
    pub hold_id: HoldId,
    pub grant_id: GrantId,
    pub credits: i64,
    /// Yen.
    pub cost: i64,
    /// Credits that came back.
    pub returned: i64,
    /// Yen that came back with them.
    pub returned_cost: i64,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
