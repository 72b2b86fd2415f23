//! The audit record in full: what was changed, whence, how often; chained so that no line can be
//! changed, removed, inserted or moved unseen. Where requests came from stands apart, to be erased.

use sea_orm_migration::prelude::{
    DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait,
};
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

use crate::dialect;

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // What belongs to no tenant stands in the chain with the id of zeros.
        let (nobody, _) = dialect::literals(manager, 0);
        dialect::run(manager, &SQL.replace("{nobody}", &nobody)).await?;
        guard_lines(manager).await
    }
}

/// Columns that never change. Sealing gives a line its place and its link, once.
const WRITTEN_ONCE: [&str; 18] = [
    "id",
    "chain_id",
    "tenant_id",
    "user_id",
    "api_key_id",
    "request_id",
    "event_type",
    "source_system",
    "entity_type",
    "entity_id",
    "action",
    "event_data",
    "changes",
    "risk_level",
    "times",
    "is_success",
    "occurred_at",
    "origin_digest",
];

/// Refuses changes of what was written, and removals but by retention, which moves the chain's
/// anchor first. Lines from before this step get their digest once.
async fn guard_lines(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let connection = manager.get_connection();
    let is_postgres = connection.get_database_backend() == DbBackend::Postgres;
    let differs = if is_postgres { "IS DISTINCT FROM" } else { "IS NOT" };
    let changed = WRITTEN_ONCE.map(|column| format!("NEW.{column} {differs} OLD.{column}"));
    let changed = format!(
        "OLD.seq IS NOT NULL OR (OLD.digest <> {} AND NEW.digest {differs} OLD.digest) OR {}",
        if is_postgres { "''::bytea" } else { "''" },
        changed.join(" OR ")
    );
    let kept = "NOT EXISTS (SELECT 1 FROM audit_chains c WHERE c.chain_id = OLD.chain_id
                AND OLD.seq IS NOT NULL AND OLD.seq <= c.anchor_seq)";
    let guards: &[(&str, &str)] = &[("UPDATE", &changed), ("DELETE", kept)];
    for (action, refused) in guards {
        let name = format!("system_event_no_{}", action.to_lowercase());
        if is_postgres {
            let function = format!(
                "CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN IF {refused} THEN RAISE EXCEPTION 'system_event is append-only'; END IF;
                 IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NEW; END $$"
            );
            connection.execute_unprepared(&function).await?;
            let trigger = format!(
                "CREATE TRIGGER {name} BEFORE {action} ON system_event
                 FOR EACH ROW EXECUTE FUNCTION {name}()"
            );
            connection.execute_unprepared(&trigger).await?;
        } else {
            let trigger = format!(
                "CREATE TRIGGER {name} BEFORE {action} ON system_event WHEN {refused}
                 BEGIN SELECT RAISE(ABORT, 'system_event is append-only'); END"
            );
            connection.execute_unprepared(&trigger).await?;
        }
    }
    if is_postgres {
        let function = "CREATE FUNCTION system_event_no_truncate() RETURNS trigger
             LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'system_event is append-only'; END $$";
        connection.execute_unprepared(function).await?;
        let trigger = "CREATE TRIGGER system_event_no_truncate BEFORE TRUNCATE ON system_event
             FOR EACH STATEMENT EXECUTE FUNCTION system_event_no_truncate()";
        connection.execute_unprepared(trigger).await?;
    }
    Ok(())
}

const SQL: &str = "
ALTER TABLE system_event ADD COLUMN chain_id {uuid} NOT NULL DEFAULT {nobody}

ALTER TABLE system_event ADD COLUMN api_key_id {uuid}

ALTER TABLE system_event ADD COLUMN request_id text

ALTER TABLE system_event ADD COLUMN changes {json}

ALTER TABLE system_event ADD COLUMN risk_level text
    CHECK (risk_level IN ('LOW', 'MEDIUM', 'HIGH', 'CRITICAL'))

ALTER TABLE system_event ADD COLUMN times bigint NOT NULL DEFAULT 1 CHECK (times >= 1)

ALTER TABLE system_event ADD COLUMN origin_digest {bytes}

ALTER TABLE system_event ADD COLUMN digest {bytes} NOT NULL DEFAULT ''

ALTER TABLE system_event ADD COLUMN seq bigint CHECK (seq >= 1)

ALTER TABLE system_event ADD COLUMN chain_hash {bytes}

UPDATE system_event SET chain_id = tenant_id WHERE tenant_id IS NOT NULL

DROP INDEX system_event_tenant

CREATE INDEX system_event_time ON system_event (chain_id, occurred_at, id)

CREATE INDEX system_event_kind ON system_event (chain_id, event_type, occurred_at)

CREATE UNIQUE INDEX system_event_place ON system_event (chain_id, seq) WHERE seq IS NOT NULL

CREATE INDEX system_event_unsealed ON system_event (chain_id, id) WHERE seq IS NULL

CREATE TABLE system_event_origins (
    event_id     {uuid}    NOT NULL PRIMARY KEY,
    ip_address   {bytes},
    user_agent   {bytes},
    created_at   {instant} NOT NULL
)

CREATE INDEX system_event_origins_created ON system_event_origins (created_at)

CREATE TABLE audit_chains (
    chain_id     {uuid}    NOT NULL PRIMARY KEY,
    seq          bigint    NOT NULL CHECK (seq >= anchor_seq),
    hash         {bytes}   NOT NULL,
    anchor_seq   bigint    NOT NULL CHECK (anchor_seq >= 0),
    anchor_hash  {bytes}   NOT NULL,
    mac          {bytes}   NOT NULL,
    sealed_at    {instant} NOT NULL
)

CREATE TABLE key_uses (
    purpose        text      NOT NULL,
    kid            text      NOT NULL,
    first_used_at  {instant} NOT NULL,
    PRIMARY KEY (purpose, kid)
)

CREATE TABLE compliance_assessments (
    id           {uuid}    NOT NULL PRIMARY KEY,
    tenant_id    {uuid},
    is_compliant boolean   NOT NULL,
    failed       {json}    NOT NULL,
    assessed_at  {instant} NOT NULL,
    next_at      {instant} NOT NULL
)

CREATE INDEX compliance_assessments_last ON compliance_assessments (tenant_id, assessed_at)
";
