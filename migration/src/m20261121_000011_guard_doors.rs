//! Who was removed from a tenant and by whom: an open door stays closed to them. And the browser
//! that a hand-over is for.

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
CREATE TABLE membership_removals (
    tenant_id           {uuid}    NOT NULL REFERENCES tenants (id),
    user_id             {uuid}    NOT NULL REFERENCES users (id),
    removed_at          {instant} NOT NULL,
    removed_by          {uuid}    NOT NULL REFERENCES users (id),
    PRIMARY KEY (tenant_id, user_id)
)

ALTER TABLE hand_overs ADD COLUMN challenge text
";
