//! Automatic purchase: what an ADMIN decided, what became of it, and each attempt.

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

/// The index is over a mark that changes once per purchase, so that charges, which change the
/// balance, stay cheap.
const SQL: &str = "
ALTER TABLE ai_credit_accounts ADD COLUMN auto_purchase_due_at {instant}

ALTER TABLE ai_credit_accounts ADD COLUMN auto_purchase_quiet_until {instant}

CREATE INDEX ai_credit_accounts_auto_purchase ON ai_credit_accounts (auto_purchase_due_at)
    WHERE auto_purchase_due_at IS NOT NULL

CREATE TABLE auto_purchases (
    account_id        {uuid}    NOT NULL PRIMARY KEY REFERENCES ai_credit_accounts (id),
    tenant_id         {uuid}    NOT NULL REFERENCES tenants (id),
    user_id           {uuid}    NOT NULL REFERENCES users (id),
    monthly_cap       bigint    NOT NULL CHECK (monthly_cap BETWEEN 1 AND 1000000000),
    failures          integer   NOT NULL DEFAULT 0 CHECK (failures >= 0),
    failed_card       text,
    failed_at         {instant},
    suspended_at      {instant},
    blocked_reason    text,
    blocked_at        {instant},
    created_at        {instant} NOT NULL,
    updated_at        {instant} NOT NULL,
    CHECK ((blocked_reason IS NULL) = (blocked_at IS NULL)),
    CHECK (suspended_at IS NULL OR failed_card IS NOT NULL)
)

CREATE TABLE auto_purchase_attempts (
    id                {uuid}    NOT NULL PRIMARY KEY,
    account_id        {uuid}    NOT NULL REFERENCES ai_credit_accounts (id),
    tenant_id         {uuid}    NOT NULL REFERENCES tenants (id),
    purchase_id       {uuid}    NOT NULL UNIQUE REFERENCES credit_purchases (id),
    cause             text      NOT NULL CHECK (cause IN ('CHARGE', 'RESERVE')),
    balance_before    bigint    NOT NULL CHECK (balance_before >= 0),
    held_before       bigint    NOT NULL CHECK (held_before >= 0),
    threshold         bigint    NOT NULL CHECK (threshold >= 0),
    needed            bigint    NOT NULL CHECK (needed >= 0),
    card              text      NOT NULL,
    amount            bigint    NOT NULL CHECK (amount BETWEEN 1 AND 1000000000),
    state             text      NOT NULL CHECK (state IN ('OPEN', 'SUCCEEDED', 'FAILED')),
    reason            text,
    created_at        {instant} NOT NULL,
    ended_at          {instant},
    CHECK ((state = 'OPEN') = (ended_at IS NULL)),
    CHECK ((state = 'FAILED') = (reason IS NOT NULL))
)

CREATE UNIQUE INDEX auto_purchase_attempts_open ON auto_purchase_attempts (account_id)
    WHERE state = 'OPEN'

CREATE INDEX auto_purchase_attempts_account ON auto_purchase_attempts (account_id, created_at)
";
