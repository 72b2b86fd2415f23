use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::crypto::Sealed;
use crate::ids::StripeEventId;

/// Something that Stripe told us, kept as it came. Stripe tells things more than once, so that its
/// own id is unique here.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "stripe_events")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: StripeEventId,
    /// Unique: Stripe's own.
    pub event_id: String,
    pub event_type: String,
    /// Whether it is about real money.
    pub is_live: bool,
    /// The body as it came.
    pub body: Sealed,
    /// When it happened, as Stripe says.
    pub happened_at: DateTime<Utc>,
    pub received_at: DateTime<Utc>,
    pub attempts: i32,
    pub last_error: Option<String>,
    /// What became of it.
    pub outcome: Option<String>,
    pub processed_at: Option<DateTime<Utc>>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
