//! Receipts of purchases: a printable Japanese 適格請求書 for each, as PDF, at an address that is
//! signed and soon over.
//!
//! A receipt gets its number when it is first asked for, out of one series without gaps, and keeps
//! with it who issued it. Whom it is for and what went back of the price are told as they are when
//! it is printed. What is asked for again after it was handed out says that it is a copy.

pub mod error;
pub mod issue;
pub mod link;

mod letters;
mod page;
mod print;
mod sheet;

pub use print::print;
pub use sheet::Sheet;
