//! What people look for in the record: the lines about a thing, of a person, of an action. Without
//! these a rare one is looked for in all of a tenant's lines.

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
CREATE INDEX system_event_entity ON system_event (chain_id, entity_id, occurred_at, id)

CREATE INDEX system_event_user ON system_event (chain_id, user_id, occurred_at, id)

CREATE INDEX system_event_action ON system_event (chain_id, action, occurred_at, id)
";
