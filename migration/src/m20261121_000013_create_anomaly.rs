//! Unusual use: what is usual of whom, how unusual each execution was, and who is blocked.

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

// Executions of before have no digest and no score; nothing of theirs is null, so that rows go on
// to travel as arrays.
const SQL: &str = "
ALTER TABLE tenants ADD COLUMN anomaly_mode text NOT NULL DEFAULT 'ENFORCE'
    CHECK (anomaly_mode IN ('ENFORCE', 'SHADOW'))

ALTER TABLE tenants ADD COLUMN anomaly_block_minutes bigint NOT NULL DEFAULT 30
    CHECK (anomaly_block_minutes BETWEEN 1 AND 1440)

ALTER TABLE ai_executions ADD COLUMN prompt_digest bigint NOT NULL DEFAULT 0

ALTER TABLE ai_executions ADD COLUMN anomaly_score bigint NOT NULL DEFAULT 0
    CHECK (anomaly_score BETWEEN 0 AND 100)

ALTER TABLE ai_executions ADD COLUMN anomaly_signals {json} NOT NULL DEFAULT '[]'

CREATE TABLE usage_baselines (
    tenant_id       {uuid}    NOT NULL REFERENCES tenants (id),
    user_id         {uuid}    NOT NULL,
    runs            bigint    NOT NULL CHECK (runs >= 0),
    runs_median     bigint    NOT NULL,
    runs_mad        bigint    NOT NULL,
    credits_median  bigint    NOT NULL,
    credits_mad     bigint    NOT NULL,
    week            {json}    NOT NULL,
    computed_at     {instant} NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
)

CREATE TABLE user_blocks (
    id             {uuid}    NOT NULL PRIMARY KEY,
    tenant_id      {uuid}    NOT NULL REFERENCES tenants (id),
    user_id        {uuid}    NOT NULL REFERENCES users (id),
    score          bigint    NOT NULL CHECK (score BETWEEN 0 AND 100),
    signals        {json}    NOT NULL,
    blocked_until  {instant} NOT NULL,
    created_at     {instant} NOT NULL,
    lifted_at      {instant},
    lifted_by      {uuid}    REFERENCES users (id)
)

CREATE INDEX user_blocks_user ON user_blocks (tenant_id, user_id, created_at)
";
