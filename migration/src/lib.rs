//! The history of the database, oldest first. Imports nothing from the program: history must not
//! change when code does. Each step is SQL that runs on SQLite and on PostgreSQL.

pub use sea_orm_migration::prelude::MigratorTrait;
use sea_orm_migration::prelude::{MigrationTrait, async_trait};

mod dialect;
mod m20261121_000001_create_identity;
mod m20261121_000002_create_kernels;
mod m20261121_000003_create_credits;
mod m20261121_000004_create_executions;
mod m20261121_000005_seed_catalog;
mod m20261121_000006_create_sign_in;
mod m20261121_000007_tune_books;
mod m20261121_000008_seal_audit;
mod m20261121_000009_create_limits;
mod m20261121_000010_bound_running;
mod m20261121_000011_guard_doors;
mod m20261121_000012_create_payments;
mod m20261121_000013_create_anomaly;
mod m20261121_000014_store_cards;
mod m20261121_000015_create_auto_purchase;
mod m20261121_000016_create_invoices;
mod m20261121_000017_create_subscriptions;
mod m20261121_000018_create_receipts;
mod m20261121_000019_index_record;
mod m20261121_000020_create_refunds;
mod m20261121_000021_index_rare;

/// All steps in their order.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261121_000001_create_identity::Migration),
            Box::new(m20261121_000002_create_kernels::Migration),
            Box::new(m20261121_000003_create_credits::Migration),
            Box::new(m20261121_000004_create_executions::Migration),
            Box::new(m20261121_000005_seed_catalog::Migration),
            Box::new(m20261121_000006_create_sign_in::Migration),
            Box::new(m20261121_000007_tune_books::Migration),
            Box::new(m20261121_000008_seal_audit::Migration),
            Box::new(m20261121_000009_create_limits::Migration),
            Box::new(m20261121_000010_bound_running::Migration),
            Box::new(m20261121_000011_guard_doors::Migration),
            Box::new(m20261121_000012_create_payments::Migration),
            Box::new(m20261121_000013_create_anomaly::Migration),
            Box::new(m20261121_000014_store_cards::Migration),
            Box::new(m20261121_000015_create_auto_purchase::Migration),
            Box::new(m20261121_000016_create_invoices::Migration),
            Box::new(m20261121_000017_create_subscriptions::Migration),
            Box::new(m20261121_000018_create_receipts::Migration),
            Box::new(m20261121_000019_index_record::Migration),
            Box::new(m20261121_000020_create_refunds::Migration),
            Box::new(m20261121_000021_index_rare::Migration),
        ]
    }
}
