//! The outside world, one file for each third party. Nothing else opens connections to them.

mod http_client;

/// Mail: the interface, SMTP and the sandbox.
pub mod mail;
/// Chat models: the interface and the sandbox.
pub mod models;
/// Discord and GitHub, which tell who somebody is.
pub mod oauth;
/// OpenAI and what speaks its language.
pub mod openai;
/// Redis, the wire between nodes.
pub mod redis;
/// Redis, the counter that nodes share.
pub mod redis_scripts;
/// Stripe, which takes money.
pub mod stripe;
