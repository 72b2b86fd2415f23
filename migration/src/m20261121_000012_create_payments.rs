//! Money in: purchases of credits, and what Stripe tells us.

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
CREATE TABLE credit_purchases (
    id                     {uuid}    NOT NULL PRIMARY KEY,
    tenant_id              {uuid}    NOT NULL REFERENCES tenants (id),
    account_id             {uuid}    NOT NULL REFERENCES ai_credit_accounts (id),
    user_id                {uuid}    NOT NULL REFERENCES users (id),
    package_id             {uuid}    NOT NULL REFERENCES ai_credit_packages (id),
    package_version        integer   NOT NULL CHECK (package_version >= 1),
    credits                bigint    NOT NULL CHECK (credits BETWEEN 1 AND 100000000),
    currency               text      NOT NULL CHECK (currency IN ('JPY')),
    amount                 bigint    NOT NULL CHECK (amount BETWEEN 1 AND 1000000000),
    tax                    bigint    NOT NULL CHECK (tax BETWEEN 0 AND amount),
    tax_rate               bigint    NOT NULL CHECK (tax_rate BETWEEN 0 AND 10000),
    discount               bigint    NOT NULL CHECK (discount >= 0),
    discount_rate          bigint    NOT NULL CHECK (discount_rate BETWEEN 0 AND 10000),
    method                 text      NOT NULL
                           CHECK (method IN ('STRIPE', 'STORED_CARD', 'INVOICE')),
    source                 text      NOT NULL
                           CHECK (source IN ('DASHBOARD', 'LOW_BALANCE_PROMPT', 'AUTO_PURCHASE')),
    status                 text      NOT NULL CHECK (status IN
                           ('PENDING', 'REQUIRES_ACTION', 'COMPLETED', 'FAILED', 'CANCELLED',
                            'OVERDUE', 'REFUNDED', 'DISPUTED')),
    payment_method_id      text,
    confirmation_token_id  text,
    return_url             text,
    save_card              boolean   NOT NULL DEFAULT FALSE,
    payment_intent_id      text      UNIQUE,
    client_secret          {bytes},
    failure_code           text,
    grant_id               {uuid}    UNIQUE REFERENCES ai_credit_grants (id),
    refunded               bigint    NOT NULL DEFAULT 0
                           CHECK (refunded BETWEEN 0 AND amount),
    version                bigint    NOT NULL DEFAULT 1 CHECK (version >= 1),
    created_at             {instant} NOT NULL,
    updated_at             {instant} NOT NULL,
    checked_at             {instant} NOT NULL,
    completed_at           {instant},
    CHECK ((grant_id IS NOT NULL) = (completed_at IS NOT NULL)),
    CHECK (status NOT IN ('COMPLETED', 'REFUNDED') OR grant_id IS NOT NULL)
)

CREATE INDEX credit_purchases_tenant ON credit_purchases (tenant_id, created_at, id)

CREATE INDEX credit_purchases_open ON credit_purchases (checked_at)
    WHERE status IN ('PENDING', 'REQUIRES_ACTION')

CREATE TABLE stripe_events (
    id            {uuid}    NOT NULL PRIMARY KEY,
    event_id      text      NOT NULL UNIQUE,
    event_type    text      NOT NULL,
    is_live       boolean   NOT NULL,
    body          {bytes}   NOT NULL,
    happened_at   {instant} NOT NULL,
    received_at   {instant} NOT NULL,
    attempts      integer   NOT NULL DEFAULT 0,
    last_error    text,
    outcome       text,
    processed_at  {instant}
)

CREATE INDEX stripe_events_received ON stripe_events (received_at)

CREATE INDEX stripe_events_open ON stripe_events (received_at) WHERE processed_at IS NULL

CREATE UNIQUE INDEX tenants_stripe_customer ON tenants (stripe_customer_id)
    WHERE stripe_customer_id IS NOT NULL

CREATE UNIQUE INDEX ai_credit_grants_purchase ON ai_credit_grants (reference_id)
    WHERE kind = 'PURCHASED'
";
