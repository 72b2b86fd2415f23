//! Calls of AI functions, the credits that are held for them and the grants that paid for them.

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
CREATE TABLE ai_executions (
    id                    {uuid}    NOT NULL PRIMARY KEY,
    tenant_id             {uuid}    NOT NULL REFERENCES tenants (id),
    account_id            {uuid}    NOT NULL REFERENCES ai_credit_accounts (id),
    user_id               {uuid}    NOT NULL REFERENCES users (id),
    requested_by          {uuid}    NOT NULL REFERENCES users (id),
    idempotency_key       text      NOT NULL,
    function_type         text      NOT NULL,
    model                 text      NOT NULL,
    provider              text      NOT NULL,
    price_id              {uuid}    NOT NULL REFERENCES ai_function_prices (id),
    status                text      NOT NULL
                          CHECK (status IN ('RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED')),
    parameters            {bytes},
    result                {bytes},
    max_tokens            bigint    NOT NULL,
    requested_max_tokens  bigint    NOT NULL,
    estimated_tokens      bigint    NOT NULL,
    input_tokens          bigint,
    output_tokens         bigint,
    usage_source          text      CHECK (usage_source IN ('PROVIDER', 'COUNTED')),
    credits_held          bigint    NOT NULL CHECK (credits_held >= 0),
    credits_used          bigint    NOT NULL DEFAULT 0
                          CHECK (credits_used BETWEEN 0 AND credits_held),
    credits_refunded      bigint    NOT NULL DEFAULT 0
                          CHECK (credits_refunded BETWEEN 0 AND credits_used),
    shortfall             bigint    NOT NULL DEFAULT 0 CHECK (shortfall >= 0),
    total_cost_yen        bigint,
    transaction_id        {uuid},
    failure_code          text,
    cancel_requested_at   {instant},
    execution_time_ms     bigint,
    created_at            {instant} NOT NULL,
    finished_at           {instant}
)

CREATE INDEX ai_executions_tenant ON ai_executions (tenant_id, created_at, id)

CREATE INDEX ai_executions_user ON ai_executions (tenant_id, user_id, created_at, id)

CREATE INDEX ai_executions_key ON ai_executions (tenant_id, idempotency_key)

CREATE INDEX ai_executions_finished ON ai_executions (finished_at)

CREATE TABLE ai_execution_tags (
    execution_id  {uuid}  NOT NULL REFERENCES ai_executions (id),
    tag           text    NOT NULL,
    PRIMARY KEY (execution_id, tag)
)

CREATE INDEX ai_execution_tags_tag ON ai_execution_tags (tag, execution_id)

CREATE TABLE ai_credit_holds (
    id            {uuid}    NOT NULL PRIMARY KEY,
    account_id    {uuid}    NOT NULL REFERENCES ai_credit_accounts (id),
    execution_id  {uuid}    NOT NULL UNIQUE REFERENCES ai_executions (id),
    user_id       {uuid}    NOT NULL,
    function_type text      NOT NULL,
    amount        bigint    NOT NULL CHECK (amount >= 0),
    version       bigint    NOT NULL,
    state         text      NOT NULL
                  CHECK (state IN ('ACTIVE', 'SETTLED', 'RELEASED', 'EXPIRED')),
    in_flight_at  {instant},
    watermark     bigint    NOT NULL DEFAULT 0 CHECK (watermark BETWEEN 0 AND amount),
    lease_until   {instant} NOT NULL,
    charge        bigint    NOT NULL DEFAULT 0 CHECK (charge BETWEEN 0 AND amount),
    resolved_by   {uuid},
    created_at    {instant} NOT NULL,
    resolved_at   {instant}
)

CREATE INDEX ai_credit_holds_lease ON ai_credit_holds (lease_until) WHERE state = 'ACTIVE'

CREATE INDEX ai_credit_holds_active ON ai_credit_holds (account_id) WHERE state = 'ACTIVE'

CREATE TABLE ai_credit_draws (
    id              {uuid}  NOT NULL PRIMARY KEY,
    transaction_id  {uuid}  NOT NULL REFERENCES ai_credit_transactions (id),
    hold_id         {uuid}  NOT NULL REFERENCES ai_credit_holds (id),
    grant_id        {uuid}  NOT NULL REFERENCES ai_credit_grants (id),
    credits         bigint  NOT NULL CHECK (credits > 0),
    cost            bigint  NOT NULL CHECK (cost >= 0),
    returned        bigint  NOT NULL DEFAULT 0 CHECK (returned BETWEEN 0 AND credits),
    returned_cost   bigint  NOT NULL DEFAULT 0 CHECK (returned_cost BETWEEN 0 AND cost)
)

CREATE INDEX ai_credit_draws_hold ON ai_credit_draws (hold_id)

CREATE INDEX ai_credit_draws_transaction ON ai_credit_draws (transaction_id)

CREATE INDEX ai_credit_draws_grant ON ai_credit_draws (grant_id)
";
