//! How often members of a tenant may run a function, where it is not as usual.

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
CREATE TABLE tenant_function_limits (
    tenant_id      {uuid}    NOT NULL REFERENCES tenants (id),
    function_type  text      NOT NULL,
    per_hour       bigint    NOT NULL CHECK (per_hour BETWEEN 0 AND 10000),
    updated_by     {uuid}    NOT NULL REFERENCES users (id),
    updated_at     {instant} NOT NULL,
    PRIMARY KEY (tenant_id, function_type)
)
";
