//! AI functions: what a call costs, running it, and its history. An AI call that runs was paid for;
//! a call that fails costs nothing it should not.

pub mod error;
pub mod graphql;
pub mod input;
pub mod pricing;
pub mod service {
    //! What can be done with executions, a file for each use case.
    pub mod cancel;
    pub mod finish;
    pub mod history;
    pub mod reserve;
    pub mod run;
    pub mod start;
    pub mod sweep;
    pub mod watch;
}
mod turn;
