//! Counts what callers take of limits: on one node in memory, for several in Redis.
//!
//! Two ways of counting. A bucket holds tokens, each of which comes back a period after it was
//! taken (plain GCRA would let nearly twice the limit through in the first period). A window has
//! named places and is exact to the microsecond; what was in it before is read from the database
//! the first time that it is met, so that neither a restart nor an empty Redis resets it.
//!
//! With Redis one script judges several charges, all or nothing, by Redis' own time. Each node
//! keeps count of its own takings too. While Redis is away it goes on by these and, for windows, by
//! the database, and no caller waits: after one failure nobody asks Redis until a task in the
//! background has reached it again, and has told it what was taken meanwhile. Another run of the
//! server, which may have lost what it knew, is told everything anew under new keys.

mod count;
mod local;
mod shared;

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::clock::Clock;
use crate::config::Config;
use crate::error::Result;
use crate::tasks::Tasks;
use local::Local;
use shared::Shared;

/// Counts. Clones share it.
#[derive(Clone)]
pub struct Meter(Arc<Inner>);

struct Inner {
    local: Local,
    shared: Option<Shared>,
    /// Whether there are other nodes to count with, even at an address that cannot be.
    has_redis: bool,
}

/// Whose memory a key takes: who is not signed in cannot push out who is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crowd {
    /// People and servers that are signed in, and tenants.
    Known,
    /// Addresses.
    Strangers,
}

/// What a count belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    crowd: Crowd,
    text: String,
}

impl Key {
    /// A key by who it is about and what is counted. Keys that are charged together share `tag`, by
    /// which a cluster of Redis finds their place.
    pub fn new(crowd: Crowd, tag: &str, name: &str) -> Self {
        Self { crowd, text: format!("{{{tag}}}:{name}") }
    }
}

/// How something is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// So many tokens of a bucket.
    Tokens(i64),
    /// A place in a window; an id takes one, however often it comes.
    Place(Uuid),
}

/// Something to take of a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Whose limit.
    pub key: Key,
    /// How many there are in a period.
    pub limit: i64,
    /// The period; at least a millisecond.
    pub period: TimeDelta,
    /// How it is counted.
    pub kind: Kind,
}

impl Charge {
    fn period_micros(&self) -> i64 {
        self.period.num_microseconds().unwrap_or(i64::MAX / 2).max(1_000)
    }
}

/// What came of a [`Meter::take`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All of it was taken.
    Taken,
    /// Nothing was.
    Refused(Refusal),
}

/// Why nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The charge that one must wait for longest.
    pub index: usize,
    /// What is left of its limit.
    pub remaining: i64,
    /// When it could be taken.
    pub retry_after: TimeDelta,
}

/// How full a window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Places that are taken.
    pub used: i64,
    /// When the oldest of them is free again; none when none is taken.
    pub oldest_left: Option<TimeDelta>,
}

/// Something that took a place in a window, by the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    /// Its id.
    pub id: Uuid,
    /// When it took the place.
    pub at: DateTime<Utc>,
}

/// Reads what took places in a window before.
pub trait History: Sync {
    /// All within the charge's period; the newest of them when they are more than anybody may.
    fn read(&self, charge: &Charge) -> impl Future<Output = Result<Vec<Past>>> + Send;
}

/// The history of what is not recorded anywhere.
pub struct NoHistory;

impl History for NoHistory {
    async fn read(&self, _: &Charge) -> Result<Vec<Past>> {
        Ok(Vec::new())
    }
}

impl Meter {
    /// Starts to count, with the other nodes if Redis is configured. Redis need not answer yet.
    pub fn start(config: &Config, clock: &Clock, tasks: &Tasks) -> Self {
        let meter = Self(Arc::new(Inner {
            local: Local::new(),
            shared: Shared::new(config),
            has_redis: config.redis_url.is_some(),
        }));
        if meter.0.shared.is_some() {
            let (keeper, clock, stopping) = (meter.clone(), clock.clone(), tasks.stopping());
            tasks.spawn(async move {
                if let Some(shared) = &keeper.0.shared {
                    shared.keep(&keeper.0.local, &clock, stopping).await;
                }
            });
        }
        meter
    }

    /// Whether what is taken now is counted together with the other nodes.
    pub fn is_shared(&self) -> bool {
        self.0.shared.as_ref().is_some_and(Shared::is_up)
    }

    /// Memory that this node's counts take, about, in bytes.
    pub fn bytes(&self) -> u64 {
        self.0.local.bytes()
    }

    /// Takes all charges or none. `now` is the database's time. Fails only when history must be
    /// read and cannot.
    pub async fn take(
        &self,
        now: DateTime<Utc>,
        charges: &[Charge],
        history: &impl History,
    ) -> Result<Verdict> {
        let Inner { local, shared, .. } = self.0.as_ref();
        let at = micros(now);
        if let Some(shared) = shared
            && let Some(verdict) = shared.take(at, charges, history).await?
        {
            if verdict == Verdict::Taken {
                local.note(at, charges);
            }
            return Ok(verdict);
        }
        for charge in charges {
            self.read(charge, history).await?;
        }
        let verdict = local.take(at, charges);
        self.tell_soon();
        Ok(verdict)
    }

    /// Gives back what was taken, as if it never had been.
    pub async fn give_back(&self, charges: &[Charge]) {
        self.0.local.give_back(charges);
        if let Some(shared) = &self.0.shared {
            shared.give_back(charges).await;
        }
    }

    /// How full a window is. `now` is the database's time.
    pub async fn look(
        &self,
        now: DateTime<Utc>,
        charge: &Charge,
        history: &impl History,
    ) -> Result<Usage> {
        let at = micros(now);
        if let Some(shared) = &self.0.shared
            && let Some(usage) = shared.look(at, charge, history).await?
        {
            return Ok(usage);
        }
        self.read(charge, history).await?;
        Ok(self.0.local.look(at, charge))
    }

    /// Reads a window's history: once on a node that is alone, each time when the others cannot be
    /// asked.
    async fn read(&self, charge: &Charge, history: &impl History) -> Result<()> {
        let is_window = matches!(charge.kind, Kind::Place(_));
        if is_window && (self.0.has_redis || !self.0.local.is_read(charge)) {
            self.0.local.read(charge, &history.read(charge).await?);
        }
        Ok(())
    }

    fn tell_soon(&self) {
        if let Some(shared) = &self.0.shared {
            shared.wake();
        }
    }
}

fn micros(at: DateTime<Utc>) -> i64 {
    at.timestamp_micros()
}

fn span(micros: i64) -> TimeDelta {
    TimeDelta::microseconds(micros)
}
