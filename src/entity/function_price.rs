use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::ids::PriceId;
use crate::text_enum;

/// A version of what a function costs on a model, unique for function, model and version.
/// CHECKs: version ≥ 1, base 0 to 1 000 000, tiers and multipliers never fall.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "ai_function_prices")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: PriceId,
    pub function_type: AiFunctionType,
    pub model: String,
    /// The highest is in force.
    pub version: i32,
    /// The function's model when a call names none.
    pub is_default: bool,
    /// Whether the model can be called.
    pub is_active: bool,
    pub base_credits: i64,
    /// Tokens of the execution up to which the first multiplier holds.
    pub tier_1_tokens: i64,
    pub tier_2_tokens: i64,
    /// Above this the fourth multiplier holds.
    pub tier_3_tokens: i64,
    /// Multiplier of the base in thousandths.
    pub tier_1_per_mille: i64,
    pub tier_2_per_mille: i64,
    pub tier_3_per_mille: i64,
    pub tier_4_per_mille: i64,
    /// Charged when the provider refuses with 429; 0 switches it off.
    pub rate_limit_credits: i64,
    pub created_at: DateTime<Utc>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

text_enum! {
    /// A kind of AI call. Each has its own base price.
    AiFunctionType {
        /// Answers a message in a conversation.
        Chatbot = "CHATBOT",
        /// Ranks what suits a person or a case.
        Recommendation = "RECOMMENDATION",
        /// Estimates what will happen.
        Prediction = "PREDICTION",
        /// Finds what stands in a text or in figures.
        Analysis = "ANALYSIS",
        /// Does what its own prompt says.
        Custom = "CUSTOM",
    }
}
