//! How many calls of a tenant run, and how many may: counted where credits are held, so that it
//! costs no statement and holds for all nodes.

use sea_orm_migration::prelude::{
    DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait,
};

use crate::dialect;

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        dialect::run(manager, SQL).await
    }
}

const SQL: &str = "
ALTER TABLE ai_credit_accounts ADD COLUMN running bigint NOT NULL DEFAULT 0 CHECK (running >= 0)

ALTER TABLE ai_credit_accounts ADD COLUMN running_max bigint NOT NULL DEFAULT 1000
    CHECK (running_max > 0)

UPDATE ai_credit_accounts SET running = (
    SELECT COUNT(*) FROM ai_credit_holds h
    WHERE h.account_id = ai_credit_accounts.id AND h.state = 'ACTIVE')
";
