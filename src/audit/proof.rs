//! Proves the record: walks chains page by page and names each line that is not as it was written,
//! and each place where one is missing.

use chrono::TimeDelta;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

use crate::app::App;
use crate::audit::digest;
use crate::audit::entries::open_origins;
use crate::db;
use crate::entity::{audit_chain, system_event};
use crate::error::{Error, Result};

/// Lines that are read at once.
const PAGE: u64 = 500;
/// Flaws that one chain names at most.
const NAMED_MAX: usize = 20;
/// Walks that retention may disturb, one after the other.
const RETRIES_MAX: usize = 3;
/// A line is sealed within this time.
const SEALED_WITHIN: TimeDelta = TimeDelta::hours(1);

/// What is wrong with a line or a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// What is wrong, as a rule that is broken.
    pub rule: &'static str,
    /// The line, or the chain (its tenant, or zeros) where no line is left to name.
    pub row: Uuid,
    /// The place that it should have.
    pub expected: i64,
    /// The place that it has.
    pub actual: i64,
}

/// A line is not as it was written, or was never written by us.
pub const CHANGED: &str = "audit: a line is as Musubi wrote it";
/// Its origin is there, and another one.
pub const ORIGIN_CHANGED: &str = "audit: a line's origin is as it was or erased";
/// Lines before it are gone.
pub const REMOVED: &str = "audit: no line is missing before this one";
/// It does not follow from the line before: moved, or put in.
pub const MOVED: &str = "audit: a line's link follows from the line before";
/// The last lines are gone.
pub const CUT: &str = "audit: a chain ends with the line of its head";
/// The head is none of ours.
pub const HEAD: &str = "audit: a chain's head is as Musubi wrote it";
/// It has waited for its seal too long.
pub const UNSEALED: &str = "audit: a line is sealed within an hour";

/// How far a chain is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Whole,
    /// Its last so many lines; and that there are as many as the head says.
    Last(i64),
}

/// Proves all chains.
pub async fn prove(app: &App) -> Result<Vec<Flaw>> {
    let mut flaws = Vec::new();
    for chain in chains(app).await? {
        flaws.extend(prove_chain(app, chain, Extent::Whole).await?);
    }
    Ok(flaws)
}

/// All chains that have a head or a line.
pub async fn chains(app: &App) -> Result<Vec<Uuid>> {
    #[derive(sea_orm::FromQueryResult)]
    struct Chain {
        chain_id: Uuid,
    }
    // Chains are few, lines are many: the next chain is looked up by the index of their times.
    let mut chains: Vec<Uuid> = Vec::new();
    let heads = audit_chain::Entity::find().all(app.db.primary()).await?;
    chains.extend(heads.into_iter().map(|head| head.chain_id));
    let mut last: Option<Uuid> = None;
    loop {
        let (sql, values) = match last {
            None => ("SELECT chain_id FROM system_event ORDER BY chain_id LIMIT 1", vec![]),
            Some(last) => (
                "SELECT chain_id FROM system_event WHERE chain_id > $1 ORDER BY chain_id LIMIT 1",
                vec![last.into()],
            ),
        };
        let next: Option<Chain> = db::one(app.db.primary(), sql, values).await?;
        let Some(next) = next else { break };
        chains.push(next.chain_id);
        last = Some(next.chain_id);
    }
    chains.sort_unstable();
    chains.dedup();
    Ok(chains)
}

/// Proves a chain; names at most 20 flaws.
pub async fn prove_chain(app: &App, chain: Uuid, extent: Extent) -> Result<Vec<Flaw>> {
    for _ in 0..RETRIES_MAX {
        let head = audit_chain::Entity::find_by_id(chain).one(app.db.primary()).await?;
        let flaws = walk_chain(app, chain, (head.as_ref(), extent)).await?;
        let now = audit_chain::Entity::find_by_id(chain).one(app.db.primary()).await?;
        let anchor = |head: Option<audit_chain::Model>| head.map(|head| head.anchor_seq);
        if flaws.is_empty() || anchor(head) == anchor(now) {
            return Ok(flaws);
        }
        // Retention removed lines meanwhile, from under the walk.
    }
    Err(Error::Unavailable("audit record"))
}

async fn walk_chain(
    app: &App,
    chain: Uuid,
    (head, extent): (Option<&audit_chain::Model>, Extent),
) -> Result<Vec<Flaw>> {
    let mut flaws = Vec::new();
    let (last, link) = match (head, extent) {
        (None, _) => (0, digest::BEGINNING.to_vec()),
        (Some(head), Extent::Last(lines)) if head.seq - lines > head.anchor_seq => {
            link_at(app, chain, head.seq - lines).await?
        }
        (Some(head), _) => (head.anchor_seq, head.anchor_hash.clone()),
    };
    if let Some(head) = head
        && digest::of_head(&app.crypto, head) != head.mac
    {
        flaws.push(Flaw { rule: HEAD, row: chain, expected: head.seq, actual: head.seq });
    }
    let mut walk = Walk { last, link, flaws };
    walk.along(app, chain).await?;
    match head {
        Some(head) => {
            walk.end_at(app, head).await?;
            if matches!(extent, Extent::Last(_)) {
                walk.count(app, head).await?;
            }
        }
        None if walk.last > 0 => {
            let actual = walk.last;
            walk.flaws.push(Flaw { rule: HEAD, row: chain, expected: 0, actual });
        }
        None => {}
    }
    walk.unsealed(app, chain).await?;
    walk.flaws.truncate(NAMED_MAX);
    Ok(walk.flaws)
}

/// The link of the line at a place; of no line at all when it is missing, so that the next is
/// named.
async fn link_at(app: &App, chain: Uuid, seq: i64) -> Result<(i64, Vec<u8>)> {
    let row = system_event::Entity::of_chain(chain)
        .filter(system_event::Column::Seq.eq(seq))
        .one(app.db.primary())
        .await?;
    Ok((seq, row.and_then(|row| row.chain_hash).unwrap_or_default()))
}

/// A walk along a chain.
struct Walk {
    /// The place of the last line.
    last: i64,
    /// Its link.
    link: Vec<u8>,
    flaws: Vec<Flaw>,
}

impl Walk {
    async fn along(&mut self, app: &App, chain: Uuid) -> Result<()> {
        while self.flaws.len() < NAMED_MAX {
            let rows = system_event::Entity::of_chain(chain)
                .filter(system_event::Column::Seq.gt(self.last))
                .order_by_asc(system_event::Column::Seq)
                .limit(PAGE)
                .all(app.db.primary())
                .await?;
            if rows.is_empty() {
                break;
            }
            self.judge_origins(app, &rows).await?;
            for row in &rows {
                self.step(app, row);
            }
        }
        Ok(())
    }

    fn step(&mut self, app: &App, row: &system_event::Model) {
        let Some(seq) = row.seq else { return };
        let expected = self.last + 1;
        let mut name = |rule| {
            self.flaws.push(Flaw { rule, row: row.id.0, expected, actual: seq });
        };
        let stored = row.chain_hash.clone().unwrap_or_default();
        if seq != expected {
            name(REMOVED);
        }
        if digest::of_line(&app.crypto, row) != row.digest {
            name(CHANGED);
        }
        // After a gap nothing tells what the link before was.
        if seq == expected && digest::of_link(&self.link, seq, &row.digest) != stored {
            name(MOVED);
        }
        // From here on by what the line itself says, so that one flaw is not named by all after it.
        (self.last, self.link) = (seq, stored);
    }

    async fn judge_origins(&mut self, app: &App, rows: &[system_event::Model]) -> Result<()> {
        let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
        let origins = open_origins(app, &ids).await?;
        for row in rows {
            let Some(origin) = origins.get(&row.id) else { continue };
            let parts = origin.as_ref().map(|it| (it.address, it.user_agent.as_deref()));
            let made = parts.and_then(|parts| digest::of_origin(&app.crypto, row.id.0, parts));
            if made.is_none() || made != row.origin_digest {
                let seq = row.seq.unwrap_or_default();
                let flaw = Flaw { rule: ORIGIN_CHANGED, row: row.id.0, expected: seq, actual: seq };
                self.flaws.push(flaw);
            }
        }
        Ok(())
    }

    /// Whether the chain ends where its head says. Lines that were sealed meanwhile have moved it.
    async fn end_at(&mut self, app: &App, head: &audit_chain::Model) -> Result<()> {
        if self.flaws.len() >= NAMED_MAX || (self.last, &self.link) == (head.seq, &head.hash) {
            return Ok(());
        }
        let now = audit_chain::Entity::find_by_id(head.chain_id).one(app.db.primary()).await?;
        let Some(now) = now else { return Ok(()) };
        let is_on_the_way = now.seq > head.seq && self.last >= head.seq && self.last <= now.seq;
        if is_on_the_way {
            // Read at two moments; the next proof sees both at one.
            return Ok(());
        }
        let (expected, actual) = (now.seq, self.last);
        self.flaws.push(Flaw { rule: CUT, row: head.chain_id, expected, actual });
        Ok(())
    }

    /// Whether there are as many lines as places.
    async fn count(&mut self, app: &App, head: &audit_chain::Model) -> Result<()> {
        #[derive(sea_orm::FromQueryResult)]
        struct Count {
            lines: i64,
        }
        let sql = "SELECT CAST(COUNT(*) AS bigint) AS lines FROM system_event
                   WHERE chain_id = $1 AND seq > $2 AND seq <= $3";
        let values = vec![head.chain_id.into(), head.anchor_seq.into(), head.seq.into()];
        let row: Option<Count> = db::one(app.db.primary(), sql, values).await?;
        let actual = row.map_or(0, |row| row.lines);
        let expected = head.seq - head.anchor_seq;
        if actual != expected {
            self.flaws.push(Flaw { rule: REMOVED, row: head.chain_id, expected, actual });
        }
        Ok(())
    }

    async fn unsealed(&mut self, app: &App, chain: Uuid) -> Result<()> {
        let mut after = Uuid::nil();
        while self.flaws.len() < NAMED_MAX {
            let rows = system_event::Entity::of_chain(chain)
                .filter(system_event::Column::Seq.is_null())
                .filter(system_event::Column::Id.gt(after))
                .order_by_asc(system_event::Column::Id)
                .limit(PAGE)
                .all(app.db.primary())
                .await?;
            let Some(last) = rows.last() else { break };
            after = last.id.0;
            let late = app.clock.db_now() - SEALED_WITHIN;
            for row in &rows {
                let mut name = |rule| {
                    self.flaws.push(Flaw { rule, row: row.id.0, expected: 0, actual: 0 });
                };
                if digest::of_line(&app.crypto, row) != row.digest {
                    name(CHANGED);
                }
                if row.occurred_at < late {
                    name(UNSEALED);
                }
            }
        }
        Ok(())
    }
}
