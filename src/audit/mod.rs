//! The record of who did what: a line beside each change, in the same transaction; refused attempts
//! through a bounded queue; all lines of a tenant chained, so that none can be changed, removed,
//! inserted or moved without being found.
//!
//! `record` and `record_security` write a line in the transaction of the change. The shell adds one
//! for a mutation that wrote none. `attempt` notes what was refused, outside of any transaction.

mod action;
mod digest;
pub mod entries;
pub mod graphql;
mod note;
pub mod proof;
mod record;
pub mod seal;

pub use action::Action;
pub use note::{Attempt, attempt, flush, note_change, write_forever};
pub use record::{Changes, Security, Subject, record, record_own, record_security};
