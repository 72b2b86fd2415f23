//! How much callers may: `table` says it, `service` counts it with the meter, `function` knows what
//! a tenant's members may run in an hour.
//!
//! A caller is an API key, else a person, else an address (of IPv6 the network of a household).
//! Refused is who would go beyond a limit, by `error`; a refusal takes nothing. Whether something
//! is counted together with other nodes, and what happens without them, is the meter's to know.

/// What is refused.
pub mod error;
/// Hours of functions: the tenants' own limits, and what is left.
pub mod function;
/// How it is asked.
pub mod graphql;
/// Counting.
pub mod service;
/// The limits.
pub mod table;
/// Who is counted.
pub mod who;
