use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use super::site::Character;
use crate::ids::{ProfileId, UserId};
use crate::text_enum;

/// What a person tells of themselves: one row per person at most.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "user_profiles")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ProfileId,
    pub user_id: UserId,
    pub display_name: Option<String>,
    pub bio: Option<String>,
    pub website_url: Option<String>,
    pub twitter_handle: Option<String>,
    pub discord_id: Option<String>,
    pub preferred_character: Character,
    pub subscription_tier: SubscriptionTier,
    /// Yen, refunds taken off.
    pub total_spent: i64,
    pub last_activity: Option<DateTime<Utc>>,
    pub marketing_consent: bool,
    /// Rises with every change, for `expectedVersion`.
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

text_enum! {
    /// What a fan has subscribed to.
    SubscriptionTier {
        /// Nothing.
        Free = "FREE",
        /// Supports a character.
        Supporter = "SUPPORTER",
        /// Everything.
        Premium = "PREMIUM",
    }
}
