//! Receipts of purchases, and which resets people were told of.

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

// Nobody is told of the resets of before.
const SQL: &str = "
CREATE TABLE receipt_series (
    name  text    NOT NULL PRIMARY KEY,
    last  bigint  NOT NULL CHECK (last >= 0)
)

INSERT INTO receipt_series (name, last) VALUES ('RECEIPT', 0)

CREATE TABLE credit_receipts (
    purchase_id          {uuid}    NOT NULL PRIMARY KEY REFERENCES credit_purchases (id),
    tenant_id            {uuid}    NOT NULL REFERENCES tenants (id),
    number               bigint    NOT NULL UNIQUE CHECK (number >= 1),
    issuer_name          text      NOT NULL,
    issuer_address       text      NOT NULL,
    registration_number  text      NOT NULL,
    issued_at            {instant} NOT NULL,
    delivered_at         {instant}
)

ALTER TABLE monthly_credit_resets ADD COLUMN noticed_at {instant}

UPDATE monthly_credit_resets SET noticed_at = created_at

CREATE INDEX monthly_credit_resets_unnoticed ON monthly_credit_resets (created_at)
    WHERE noticed_at IS NULL
";
