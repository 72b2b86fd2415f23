//! Room on the pages of rows that are changed soon after they were written, so that PostgreSQL
//! changes them in place and their indexes stay as they are.

use sea_orm_migration::prelude::{
    DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait,
};
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

use crate::dialect;

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // SQLite knows no such setting.
        if manager.get_connection().get_database_backend() == DbBackend::Postgres {
            dialect::run(manager, SQL).await?;
        }
        Ok(())
    }
}

// A hold is marked in flight right after it was written. An account changes with every round: the
// sooner its page counts as full, the sooner its old versions are cleared away.
const SQL: &str = "
ALTER TABLE ai_credit_holds SET (fillfactor = 50)

ALTER TABLE ai_credit_accounts SET (fillfactor = 20)
";
