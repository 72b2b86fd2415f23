use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;
use uuid::Uuid;

use crate::ids::JobRunId;
use crate::text_enum;

/// A run of a job, one per name and slot. The state is checked.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "job_runs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: JobRunId,
    pub name: String,
    /// The instant that the schedule names, not the one of the start.
    pub slot: DateTime<Utc>,
    pub state: JobState,
    pub attempts: i32,
    /// Until then the node in `leased_by` runs it.
    pub lease_until: DateTime<Utc>,
    pub leased_by: Uuid,
    /// What it did, or why it failed.
    pub summary: Option<String>,
    pub started_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

text_enum! {
    /// Where a run of a job stands.
    JobState {
        /// Runs now.
        Running = "RUNNING",
        /// Ended well.
        Succeeded = "SUCCEEDED",
        /// Ended with an error; the summary names it.
        Failed = "FAILED",
    }
}
