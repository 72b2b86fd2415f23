//! Automatic purchase: credits are bought by themselves when a charge leaves few of them, or when a
//! call wants more than there are.
//!
//! A charge that leaves no more than the threshold marks the account's row, in its own statement;
//! a worker on any node finds the mark. A call that finds too little asks at once and waits. Both
//! come to [`decide`], which judges under the account's lock and writes an attempt down, of which
//! an account has one under way at most. The payment is a purchase like any other: whoever learns
//! what became of it ends the attempt in the same transaction ([`attempt`]).

pub(crate) mod attempt;
pub mod cover;
pub(crate) mod decide;
pub mod settings;
pub mod work;
