//! What is told of an account: usage, runway, analytics. All from `usage_daily`, so that nothing
//! grows with the ledger.

pub mod analytics;
pub mod efficiency;
pub mod runway;
pub mod usage;
