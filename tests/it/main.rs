//! The one test binary: a file for each domain, stories as functions.
//!
//! The database is SQLite, or PostgreSQL with `MUSUBI_TEST_DATABASE=postgres` (see the README).
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test that cannot go on should say where it stopped"
)]

mod support;

mod ai;
mod anomaly;
mod audit;
mod batch;
mod clients;
mod clock;
mod credits;
mod entities;
mod events;
mod guard;
mod hostile;
mod http;
mod identity;
mod jobs;
mod limits;
mod live;
mod mail;
mod models;
mod nodelay;
mod oauth;
mod pages;
mod payments;
mod plans;
mod process;
mod queue;
mod schema;
mod siege;
mod sign_in;
mod tidy;
mod ws;
