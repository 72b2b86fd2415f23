//! Musubi. The modules in the order of the shelf: each uses only what stands before it.

/// All that can leave a service, and the codes that clients meet.
pub mod error;
/// Ids: UUIDv7 inside, TypeIDs outside.
pub mod ids;
/// The only reader of the wall clock.
pub mod clock;
/// Money as integers.
pub mod money;
/// Enums and canonical text.
pub mod text;
/// Personal text for those who may not read it.
pub mod mask;
/// Sealed columns and keyed indexes.
pub mod crypto;
/// The only reader of the environment.
pub mod config;
/// Access tokens.
pub mod tokens;
/// Who asks, and what they may do.
pub mod actor;
/// Work that outlives a request.
pub mod tasks;
/// Works around a fault of the database's driver.
pub mod nodelay;
/// The database: writer, readers, transactions that publish on commit.
pub mod db;
/// Work done for many callers at once: group commit, shared reads.
pub mod batch;
/// The outside world, one file for each third party.
pub mod external;
/// One file per table: columns, keys, tenant-scoped finders.
pub mod entity;
/// Live events, in memory and through Redis.
pub mod events;
/// Durable work with retries.
pub mod queue;
/// Counts what callers take of limits.
pub mod meter;
/// Lines of the audit record that wait to be written.
pub mod journal;
/// What every use case needs, in one value.
pub mod app;
/// Mail to people, through the queue.
pub mod mail;
/// The record of who did what.
pub mod audit;
/// Keys that clients give to writes.
pub mod idempotency;
/// Things that people should know.
pub mod alerts;
/// How much callers may.
pub mod limits;
/// What browsers may run in production.
pub mod documents;
/// Who people are, how they come in, and what their credentials prove.
pub mod identity;
/// Prepaid credits.
pub mod credits;
/// Money in: purchases of credits, through Stripe.
pub mod payments;
pub mod plans;
/// Use that is unusual.
pub mod anomaly;
/// AI functions, paid in credits.
pub mod ai;
/// Whether the system keeps its own rules.
pub mod compliance;
/// Proves the books.
pub mod verify;
/// What happens by the clock.
pub mod jobs;
/// Demo data.
pub mod demo;
/// The shell of the API.
pub mod graphql;
/// The only room that knows axum: sockets, headers, statuses.
pub mod http;
