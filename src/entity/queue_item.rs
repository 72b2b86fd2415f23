use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;
use uuid::Uuid;

use crate::crypto::Sealed;
use crate::ids::QueueItemId;
use crate::text_enum;

/// A durable piece of work. The deduplication key is unique; the state is checked.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "queue_items")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: QueueItemId,
    pub kind: String,
    pub payload: Sealed,
    /// Unique: pushing the same work twice makes one item.
    pub dedupe_key: Option<String>,
    pub state: QueueState,
    pub attempts: i32,
    /// Not before this instant.
    pub run_at: DateTime<Utc>,
    /// Until then the node in `leased_by` works on it.
    pub lease_until: Option<DateTime<Utc>>,
    pub leased_by: Option<Uuid>,
    pub last_error: Option<String>,
    pub created_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

text_enum! {
    /// Where a piece of work stands.
    QueueState {
        /// Waits for its instant, or is being worked on.
        Ready = "READY",
        /// Was done.
        Done = "DONE",
        /// Failed too often and is not tried again.
        Dead = "DEAD",
    }
}
