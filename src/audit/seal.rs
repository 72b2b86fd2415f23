//! Sealing: gives lines their place in the chain of their tenant, and the chain its head; removes
//! lines whose time is over without breaking it.
//!
//! Whoever seals a chain holds its head's row, so that two nodes never fork it. A line is sealed
//! because it has no place yet, whatever its id: one that was committed late is sealed next.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect};
use serde_json::json;
use tokio::time::sleep;
use uuid::Uuid;

use crate::app::App;
use crate::audit::record::{line, note, write};
use crate::audit::{Action, Subject, digest};
use crate::db::{self, Rows, Txn};
use crate::entity::{audit_chain, system_event};
use crate::error::{Error, Result};
use crate::ids::TenantId;

/// Lines that one transaction seals at most.
pub const BATCH: u64 = 500;
/// Chains that one look finds at most.
const CHAINS_MAX: u64 = 1_000;
/// How often lines are sealed.
const SEAL_EVERY: Duration = Duration::from_secs(10);

/// Seals what was written, every few seconds, until shutdown begins.
pub async fn seal_forever(app: App) {
    let stopping = app.tasks.stopping();
    loop {
        if let Err(error) = seal_all(&app).await {
            tracing::warn!(%error, "The audit record is sealed later: {error}");
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            () = sleep(SEAL_EVERY) => {}
        }
    }
}

/// Seals all lines that are there now, in transactions of at most 500. How many that were.
pub async fn seal_all(app: &App) -> Result<u64> {
    let mut sealed = 0;
    loop {
        let chains = unsealed_chains(app).await?;
        let mut round = 0;
        for chain in &chains {
            // A chain that was tampered with must not keep the others open.
            match seal_some(app, *chain).await {
                Ok(count) => round += count,
                Err(away @ Error::Unavailable(_)) => return Err(away),
                Err(error) => {
                    tracing::warn!(%error, %chain, "The chain {chain} is sealed later: {error}");
                }
            }
        }
        sealed += round;
        if round == 0 || app.tasks.stopping().is_cancelled() {
            return Ok(sealed);
        }
    }
}

async fn unsealed_chains(app: &App) -> Result<Vec<Uuid>> {
    #[derive(sea_orm::FromQueryResult)]
    struct Chain {
        chain_id: Uuid,
    }
    let sql =
        format!("SELECT DISTINCT chain_id FROM system_event WHERE seq IS NULL LIMIT {CHAINS_MAX}");
    let rows: Vec<Chain> = db::all(app.db.primary(), sql, vec![]).await?;
    Ok(rows.into_iter().map(|row| row.chain_id).collect())
}

/// Seals at most [`BATCH`] lines of a chain, the oldest ids first. How many that were.
pub async fn seal_some(app: &App, chain: Uuid) -> Result<u64> {
    let txn = app.db.begin().await?;
    let mut head = lock_head(app, &txn, chain).await?;
    let rows = system_event::Entity::of_chain(chain)
        .filter(system_event::Column::Seq.is_null())
        .order_by_asc(system_event::Column::Id)
        .limit(BATCH)
        .all(&*txn)
        .await?;
    let count = rows.len() as u64;
    if count == 0 {
        txn.rollback().await?;
        return Ok(0);
    }
    let mut links = Rows::default();
    for row in &rows {
        head.seq += 1;
        head.hash = digest::of_link(&head.hash, head.seq, &row.digest);
        links.push([row.id.into(), head.seq.into(), head.hash.clone().into()]);
    }
    let (table, values) = links.table(&*txn, 1);
    let sql = format!(
        "UPDATE system_event SET seq = v.column2, chain_hash = v.column3 FROM {table}
         WHERE system_event.id = v.column1 AND system_event.seq IS NULL"
    );
    if db::execute(&*txn, sql, values).await? != count {
        return Err(Error::broken("lines were sealed by two at once"));
    }
    save_head(app, &txn, head).await?;
    txn.commit().await?;
    Ok(count)
}

/// The head of a chain, held until the transaction ends; made when there is none.
async fn lock_head(app: &App, txn: &Txn, chain: Uuid) -> Result<audit_chain::Model> {
    let beginning = digest::BEGINNING.to_vec();
    let mut fresh = audit_chain::Model {
        chain_id: chain,
        seq: 0,
        hash: beginning.clone(),
        anchor_seq: 0,
        anchor_hash: beginning,
        mac: Vec::new(),
        sealed_at: app.clock.db_now(),
    };
    fresh.mac = digest::of_head(&app.crypto, &fresh);
    audit_chain::Entity::insert(fresh.into_active_model())
        .on_conflict(OnConflict::new().do_nothing().to_owned())
        .exec_without_returning(&**txn)
        .await?;
    let sql = "UPDATE audit_chains SET seq = seq WHERE chain_id = $1 RETURNING *";
    let head: Option<audit_chain::Model> = db::one(&**txn, sql, vec![chain.into()]).await?;
    head.ok_or_else(|| Error::broken("a chain has no head"))
}

async fn save_head(app: &App, txn: &Txn, mut head: audit_chain::Model) -> Result<()> {
    head.mac = digest::of_head(&app.crypto, &head);
    let sql = "UPDATE audit_chains SET seq = $2, hash = $3, anchor_seq = $4, anchor_hash = $5,
               mac = $6, sealed_at = $7 WHERE chain_id = $1";
    let values = vec![
        head.chain_id.into(),
        head.seq.into(),
        head.hash.into(),
        head.anchor_seq.into(),
        head.anchor_hash.into(),
        head.mac.into(),
        app.clock.db_now().into(),
    ];
    db::execute(&**txn, sql, values).await?;
    Ok(())
}

/// Removes lines that happened before an instant, from the beginning of each chain up to the first
/// younger one. The anchor keeps the link of the last one removed, so that the chain stays provable
/// from there. How many were removed.
pub async fn remove_before(app: &App, before: DateTime<Utc>) -> Result<u64> {
    let mut removed = 0;
    for head in audit_chain::Entity::find().all(app.db.primary()).await? {
        loop {
            let count = remove_some(app, head.chain_id, before).await?;
            removed += count;
            if count == 0 {
                break;
            }
        }
    }
    Ok(removed)
}

async fn remove_some(app: &App, chain: Uuid, before: DateTime<Utc>) -> Result<u64> {
    let txn = app.db.begin().await?;
    let mut head = lock_head(app, &txn, chain).await?;
    let oldest = system_event::Entity::of_chain(chain)
        .filter(system_event::Column::Seq.gt(head.anchor_seq))
        .order_by_asc(system_event::Column::Seq)
        .limit(BATCH)
        .all(&*txn)
        .await?;
    let mut count = 0;
    for row in oldest.iter().take_while(|row| row.occurred_at < before) {
        let (Some(seq), Some(hash)) = (row.seq, row.chain_hash.clone()) else { break };
        (head.anchor_seq, head.anchor_hash) = (seq, hash);
        count += 1;
    }
    if count == 0 {
        txn.rollback().await?;
        return Ok(0);
    }
    let last = head.anchor_seq;
    save_head(app, &txn, head).await?;
    let values = || vec![chain.into(), last.into()];
    let sql = "DELETE FROM system_event_origins WHERE event_id IN
               (SELECT id FROM system_event WHERE chain_id = $1 AND seq <= $2)";
    db::execute(&*txn, sql, values()).await?;
    let sql = "DELETE FROM system_event WHERE chain_id = $1 AND seq <= $2";
    db::execute(&*txn, sql, values()).await?;
    let subject = Subject::kind("system_event").with(json!({ "lines": count, "upTo": last }));
    let subject = if chain.is_nil() { subject } else { subject.in_tenant(TenantId(chain)) };
    let row = line(Action::RecordsRemoved, subject, app.clock.db_now());
    write(app, &txn, vec![note(row, &crate::actor::Source::default())]).await?;
    txn.commit().await?;
    Ok(count)
}

/// Gives lines from before there were digests one each: at the step of the tables that brings
/// digests, and never once a chain has begun.
pub async fn adopt(app: &App) -> Result<u64> {
    let mut adopted = 0;
    loop {
        let txn = app.db.begin().await?;
        if audit_chain::Entity::find().one(&*txn).await?.is_some() {
            return Ok(adopted);
        }
        let rows = system_event::Entity::find()
            .filter(system_event::Column::Digest.eq(Vec::<u8>::new()))
            .limit(BATCH)
            .all(&*txn)
            .await?;
        if rows.is_empty() {
            return Ok(adopted);
        }
        for row in rows {
            let made = digest::of_line(&app.crypto, &row);
            let sql = "UPDATE system_event SET digest = $2 WHERE id = $1";
            adopted += db::execute(&*txn, sql, vec![row.id.into(), made.into()]).await?;
        }
        txn.commit().await?;
    }
}
