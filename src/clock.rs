//! The only reader of the wall clock: microseconds, UTC. Tests and the demo set their own time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};

/// Tells the time. Clones share it.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
    /// How far this replica's clock is ahead of true time. Only tests skew it.
    skew_us: i64,
    /// Database time minus own time, as measured.
    offset_us: Arc<AtomicI64>,
}

#[derive(Clone, Debug)]
enum Source {
    System,
    Fixed(Arc<AtomicI64>),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self { source: Source::System, skew_us: 0, offset_us: Arc::default() }
    }

    /// A clock that stands at `at` until it is moved.
    pub fn fixed(at: DateTime<Utc>) -> Self {
        let source = Source::Fixed(Arc::new(AtomicI64::new(at.timestamp_micros())));
        Self { source, skew_us: 0, offset_us: Arc::default() }
    }

    /// The same time as seen by a replica whose own clock is ahead (or behind, when negative) and
    /// which has measured that difference against the database.
    pub fn skewed(&self, ahead: TimeDelta) -> Self {
        let skew_us = ahead.num_microseconds().unwrap_or(0);
        let offset_us = Arc::new(AtomicI64::new(-skew_us));
        Self { source: self.source.clone(), skew_us, offset_us }
    }

    /// Now, by this machine's clock.
    pub fn now(&self) -> DateTime<Utc> {
        from_micros(self.own_micros())
    }

    /// Now, by the database's clock: what every rule about credits goes by, so that replicas with
    /// different clocks agree.
    pub fn db_now(&self) -> DateTime<Utc> {
        from_micros(self.own_micros() + self.offset_us.load(Ordering::Relaxed))
    }

    /// Keeps the measured difference between the database's clock and ours.
    pub fn set_database_offset(&self, offset: TimeDelta) {
        if let (Source::System, Some(micros)) = (&self.source, offset.num_microseconds()) {
            self.offset_us.store(micros, Ordering::Relaxed);
        }
    }

    /// Moves a fixed clock forward; the machine's clock is not moved.
    pub fn advance(&self, by: TimeDelta) {
        if let (Source::Fixed(micros), Some(by)) = (&self.source, by.num_microseconds()) {
            micros.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// Sets a fixed clock; the machine's clock is not set.
    pub fn set(&self, at: DateTime<Utc>) {
        if let Source::Fixed(micros) = &self.source {
            micros.store(at.timestamp_micros(), Ordering::Relaxed);
        }
    }

    fn own_micros(&self) -> i64 {
        let true_micros = match &self.source {
            Source::System => system_micros(),
            Source::Fixed(micros) => micros.load(Ordering::Relaxed),
        };
        true_micros + self.skew_us
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
fn system_micros() -> i64 {
    Utc::now().timestamp_micros()
}

fn from_micros(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or(DateTime::UNIX_EPOCH)
}
