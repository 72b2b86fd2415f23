//! Whether the running system keeps its own rules, and the audit report that says so.
//!
//! Each check looks at what is there: rows past their time, root fields without a rule, values that
//! are not sealed, keys that are old, chains that do not prove themselves.

pub mod access;
pub mod assess;
pub mod checks;
pub mod graphql;
pub mod report;
pub mod retention;
pub mod risk;

pub use checks::note_keys;
