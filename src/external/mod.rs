//! The outside world, one file for each third party. Nothing else opens connections to them.

/// Chat models: the interface and the sandbox.
pub mod models;
/// OpenAI and what speaks its language.
pub mod openai;
/// Redis, the wire between nodes.
pub mod redis;
