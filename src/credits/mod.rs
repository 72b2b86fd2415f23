//! Prepaid credits: accounts, grants, holds, the ledger and what is told of them.
//!
//! A balance changes only here, in one transaction with its ledger line and its event. Functions
//! that take a `Txn` run inside the caller's transaction: `ai` opens those of reserve and settle.

pub mod book;
pub mod catalog;
pub mod error;
pub mod graphql;
pub mod period;
pub mod reports;
pub mod watch;

mod ledger;
pub mod service {
    //! What can be done with credits, a file for each use case.
    pub mod account;
    pub mod admit;
    pub mod due;
    pub mod grant;
    pub mod lookup;
    pub mod settle;
    pub mod withdraw;
}
