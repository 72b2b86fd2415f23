//! Plans by subscription: what a tenant has at Stripe, and the price of a plan there.

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
ALTER TABLE ai_plans ADD COLUMN stripe_price_id text

CREATE TABLE tenant_subscriptions (
    id                    {uuid}    NOT NULL PRIMARY KEY,
    tenant_id             {uuid}    NOT NULL REFERENCES tenants (id),
    account_id            {uuid}    NOT NULL REFERENCES ai_credit_accounts (id),
    user_id               {uuid}    NOT NULL REFERENCES users (id),
    status                text      NOT NULL CHECK (status IN
                          ('PENDING', 'INCOMPLETE', 'ACTIVE', 'PAST_DUE', 'SUSPENDED',
                           'CANCELLED', 'INCOMPLETE_EXPIRED', 'FAILED')),
    plan_type             text      NOT NULL
                          CHECK (plan_type IN ('ESSENTIAL', 'PROFESSIONAL', 'ENTERPRISE')),
    pending_plan_type     text
                          CHECK (pending_plan_type IN ('ESSENTIAL', 'PROFESSIONAL', 'ENTERPRISE')),
    price_yen             bigint    NOT NULL CHECK (price_yen >= 0),
    stripe_price_id       text,
    payment_method_id     text,
    stripe_id             text      UNIQUE,
    item_id               text,
    client_secret         {bytes},
    period_start          {instant},
    period_end            {instant},
    cancel_at_period_end  boolean   NOT NULL DEFAULT FALSE,
    grace_until           {instant},
    change_id             {uuid},
    change_plan_type      text
                          CHECK (change_plan_type IN ('ESSENTIAL', 'PROFESSIONAL', 'ENTERPRISE')),
    change_at             {instant},
    reads                 bigint    NOT NULL DEFAULT 0 CHECK (reads >= 0),
    version               bigint    NOT NULL DEFAULT 1 CHECK (version >= 1),
    created_at            {instant} NOT NULL,
    updated_at            {instant} NOT NULL,
    check_at              {instant} NOT NULL,
    activated_at          {instant},
    ended_at              {instant},
    CHECK ((status IN ('CANCELLED', 'INCOMPLETE_EXPIRED', 'FAILED')) = (ended_at IS NOT NULL)),
    CHECK (status NOT IN ('ACTIVE', 'PAST_DUE', 'SUSPENDED') OR activated_at IS NOT NULL),
    CHECK (status NOT IN ('PAST_DUE', 'SUSPENDED') OR grace_until IS NOT NULL),
    CHECK ((change_id IS NULL) = (change_at IS NULL))
)

CREATE UNIQUE INDEX tenant_subscriptions_open ON tenant_subscriptions (tenant_id)
    WHERE ended_at IS NULL

CREATE INDEX tenant_subscriptions_tenant ON tenant_subscriptions (tenant_id, created_at, id)

CREATE INDEX tenant_subscriptions_due ON tenant_subscriptions (check_at) WHERE ended_at IS NULL
";
