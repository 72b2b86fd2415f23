//! Refunds of purchases, each with what it took; and withdrawals say whether they wait for credits
//! that running calls hold.

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
CREATE TABLE purchase_refunds (
    id                 {uuid}    NOT NULL PRIMARY KEY,
    tenant_id          {uuid}    NOT NULL REFERENCES tenants (id),
    purchase_id        {uuid}    NOT NULL REFERENCES credit_purchases (id),
    user_id            {uuid}    REFERENCES users (id),
    status             text      NOT NULL CHECK (status IN ('PENDING', 'SUCCEEDED', 'FAILED')),
    reason             text      CHECK (reason IN
                       ('REQUESTED_BY_CUSTOMER', 'DUPLICATE', 'FRAUDULENT')),
    amount             bigint    NOT NULL CHECK (amount >= 0),
    withdrawal_id      {uuid}    UNIQUE REFERENCES ai_credit_withdrawals (id),
    stripe_refund_id   text      UNIQUE,
    failure_reason     text,
    next_check_at      {instant} NOT NULL,
    created_at         {instant} NOT NULL,
    updated_at         {instant} NOT NULL,
    CHECK ((user_id IS NULL) = (reason IS NULL)),
    CHECK (user_id IS NOT NULL OR stripe_refund_id IS NOT NULL)
)

CREATE INDEX purchase_refunds_purchase ON purchase_refunds (purchase_id, created_at)

CREATE INDEX purchase_refunds_check ON purchase_refunds (next_check_at) WHERE status = 'PENDING'

CREATE UNIQUE INDEX purchase_refunds_asked ON purchase_refunds (purchase_id)
    WHERE status = 'PENDING' AND stripe_refund_id IS NULL

ALTER TABLE payment_disputes DROP COLUMN refund_kept

ALTER TABLE ai_credit_withdrawals ADD COLUMN waits boolean NOT NULL DEFAULT TRUE
";
