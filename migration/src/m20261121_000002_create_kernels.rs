//! What every domain leans on: remembered keys, durable work, job runs, alerts and the audit
//! record.

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
CREATE TABLE idempotency_keys (
    id           {uuid}    NOT NULL PRIMARY KEY,
    tenant_id    {uuid}    NOT NULL,
    actor_id     {uuid}    NOT NULL,
    operation    text      NOT NULL,
    key          text      NOT NULL CHECK (length(key) BETWEEN 8 AND 255),
    body_digest  {bytes}   NOT NULL,
    object_id    {uuid}    NOT NULL,
    created_at   {instant} NOT NULL,
    UNIQUE (tenant_id, actor_id, operation, key)
)

CREATE INDEX idempotency_keys_created ON idempotency_keys (created_at)

CREATE TABLE queue_items (
    id           {uuid}    NOT NULL PRIMARY KEY,
    kind         text      NOT NULL,
    payload      {bytes}   NOT NULL,
    dedupe_key   text      UNIQUE,
    state        text      NOT NULL CHECK (state IN ('READY', 'DONE', 'DEAD')),
    attempts     integer   NOT NULL DEFAULT 0,
    run_at       {instant} NOT NULL,
    lease_until  {instant},
    leased_by    {uuid},
    last_error   text,
    created_at   {instant} NOT NULL,
    finished_at  {instant}
)

CREATE INDEX queue_items_ready ON queue_items (run_at) WHERE state = 'READY'

CREATE TABLE job_runs (
    id           {uuid}    NOT NULL PRIMARY KEY,
    name         text      NOT NULL,
    slot         {instant} NOT NULL,
    state        text      NOT NULL CHECK (state IN ('RUNNING', 'SUCCEEDED', 'FAILED')),
    attempts     integer   NOT NULL DEFAULT 1,
    lease_until  {instant} NOT NULL,
    leased_by    {uuid}    NOT NULL,
    summary      text,
    started_at   {instant} NOT NULL,
    finished_at  {instant},
    UNIQUE (name, slot)
)

CREATE TABLE alerts (
    id           {uuid}    NOT NULL PRIMARY KEY,
    tenant_id    {uuid}    REFERENCES tenants (id),
    kind         text      NOT NULL,
    severity     text      NOT NULL CHECK (severity IN ('INFO', 'WARNING', 'HIGH', 'CRITICAL')),
    dedupe_key   text      NOT NULL,
    data         {json}    NOT NULL,
    created_at   {instant} NOT NULL,
    UNIQUE (dedupe_key)
)

CREATE INDEX alerts_tenant ON alerts (tenant_id, created_at)

CREATE TABLE system_event (
    id             {uuid}    NOT NULL PRIMARY KEY,
    tenant_id      {uuid},
    user_id        {uuid},
    event_type     text      NOT NULL,
    source_system  text      NOT NULL,
    entity_type    text      NOT NULL,
    entity_id      {uuid},
    action         text      NOT NULL,
    event_data     {json}    NOT NULL,
    is_success     boolean   NOT NULL,
    occurred_at    {instant} NOT NULL
)

CREATE INDEX system_event_tenant ON system_event (tenant_id, occurred_at)
";
