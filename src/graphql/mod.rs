//! The shell of the API: document limits, loaders, pages, filters, codes, and the one schema.

pub mod caller;
pub mod engine;
pub mod filter;
pub mod guard;
pub mod live;
pub mod loader;
pub mod node;
pub mod page;
pub mod payload;
pub mod scalars;
pub mod schema;
