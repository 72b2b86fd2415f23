//! The only reader of the wall clock: microseconds, UTC. Tests and the demo set their own time.
//!
//! Rules about credits go by the database's time, reckoned from a measurement and the machine's
//! monotonic clock, so that a step of this machine's wall clock moves no lease.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

/// A measurement that took longer is too vague to correct a better one.
const ROUND_TRIP_MAX: Duration = Duration::from_millis(200);

/// Tells the time. Clones share it.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
    /// How far this replica's clock is ahead of true time. Only tests skew it.
    skew_us: i64,
}

#[derive(Clone, Debug)]
enum Source {
    System(Arc<Anchored>),
    Fixed(Arc<AtomicI64>),
}

/// The database's time as this process reckons it.
#[derive(Debug)]
struct Anchored {
    reckoning: RwLock<Reckoning>,
    /// Whether anybody has asked: from then on the time never goes back.
    is_read: AtomicBool,
    is_measured: AtomicBool,
}

/// What a measurement of the database's clock found.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// What the clock showed.
    pub shown: DateTime<Utc>,
    /// When it was asked.
    pub asked: Instant,
    /// When the answer was here.
    pub answered: Instant,
}

/// How far ahead of the reckoning a measurement is followed gently rather than at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Never: several nodes must agree, and the database's clock is the one that all can see.
    /// A node that was suspended is right again after one measurement.
    AtOnce,
    /// Up to so far. One node alone need not agree with anybody, and a step of its machine's clock
    /// must not end the leases of what it runs. Further ahead the machine was asleep, or had no
    /// time at all when it booted: nothing that was running then still is.
    Gently(Duration),
}

impl Clock {
    /// The machine's clock. Until it is measured, the database's is taken to show the same.
    pub fn system() -> Self {
        let anchored = Anchored {
            reckoning: RwLock::new(Reckoning::new(system_micros(), Instant::now())),
            is_read: AtomicBool::new(false),
            is_measured: AtomicBool::new(false),
        };
        Self { source: Source::System(Arc::new(anchored)), skew_us: 0 }
    }

    /// A clock that stands at `at` until it is moved.
    pub fn fixed(at: DateTime<Utc>) -> Self {
        let source = Source::Fixed(Arc::new(AtomicI64::new(at.timestamp_micros())));
        Self { source, skew_us: 0 }
    }

    /// The same time as seen by a replica whose own clock is ahead (or behind, when negative) and
    /// which has measured the database's.
    pub fn skewed(&self, ahead: TimeDelta) -> Self {
        Self { source: self.source.clone(), skew_us: ahead.num_microseconds().unwrap_or(0) }
    }

    /// Now, by this machine's clock.
    pub fn now(&self) -> DateTime<Utc> {
        let true_micros = match &self.source {
            Source::System(_) => system_micros(),
            Source::Fixed(micros) => micros.load(Ordering::Relaxed),
        };
        from_micros(true_micros + self.skew_us)
    }

    /// Now, by the database's clock: what every rule about credits goes by, so that replicas with
    /// different clocks agree. It never goes back in one process, and steps of this machine's
    /// clock do not move it.
    pub fn db_now(&self) -> DateTime<Utc> {
        match &self.source {
            Source::System(anchored) => from_micros(anchored.now_micros()),
            Source::Fixed(micros) => from_micros(micros.load(Ordering::Relaxed)),
        }
    }

    /// Whether the database's clock was ever measured. A fixed clock needs no measurement.
    pub fn is_measured(&self) -> bool {
        match &self.source {
            Source::System(anchored) => anchored.is_measured.load(Ordering::Relaxed),
            Source::Fixed(_) => true,
        }
    }

    /// Corrects [`Self::db_now`] by the sharpest of these measurements. Those that took longer
    /// than 200 ms are good for the first correction only. Says whether one was used.
    pub fn correct(&self, samples: &[Sample], pace: Pace) -> bool {
        let Source::System(anchored) = &self.source else { return true };
        let Some(best) = samples.iter().min_by_key(|sample| sample.round_trip()) else {
            return false;
        };
        let is_sharp = best.round_trip() <= ROUND_TRIP_MAX;
        let is_used = is_sharp || !self.is_measured();
        if is_used {
            anchored.correct(best, pace);
        }
        is_used
    }

    /// What this machine's clock shows, as a measurement: for a database in a file.
    pub fn sample_own(&self) -> Sample {
        let asked = Instant::now();
        Sample { shown: self.now(), asked, answered: Instant::now() }
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
}

impl Sample {
    fn round_trip(&self) -> Duration {
        self.answered.saturating_duration_since(self.asked)
    }

    /// What the clock shows at a later moment.
    fn shown_at(&self, now: Instant) -> i64 {
        let middle = self.asked + self.round_trip() / 2;
        self.shown.timestamp_micros() + micros(now.saturating_duration_since(middle))
    }
}

impl Anchored {
    fn now_micros(&self) -> i64 {
        self.is_read.store(true, Ordering::Relaxed);
        let reckoning = self.reckoning.read().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock, lest a correction in between makes two readers disagree on order.
        reckoning.at(Instant::now())
    }

    fn correct(&self, sample: &Sample, pace: Pace) {
        let mut reckoning = self.reckoning.write().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let shown = sample.shown_at(now);
        if self.is_read.load(Ordering::Relaxed) {
            let ahead_us = reckoning.correct(shown, now, pace);
            if ahead_us.abs() > micros(Duration::from_secs(2)) {
                let seconds = ahead_us / 1_000_000;
                tracing::warn!(seconds, "The database's clock has stepped by {seconds} s");
            }
        } else {
            *reckoning = Reckoning::new(shown, now);
        }
        self.is_measured.store(true, Ordering::Relaxed);
    }
}

/// A time that goes on by the monotonic clock from where it was anchored, and is corrected without
/// ever going back: what it owes is paid by going half as fast again, or at half the speed. Leases
/// are renewed at half time, so that none ends early by a gentle correction.
#[derive(Clone, Copy, Debug)]
pub struct Reckoning {
    anchor_us: i64,
    anchored: Instant,
    /// How far the measured time was ahead at the anchor (behind, when negative).
    owed_us: i64,
}

impl Reckoning {
    /// A time of so many microseconds, at this moment of the monotonic clock.
    pub fn new(micros: i64, now: Instant) -> Self {
        Self { anchor_us: micros, anchored: now, owed_us: 0 }
    }

    /// The time in microseconds at a moment after the anchor.
    pub fn at(&self, now: Instant) -> i64 {
        let elapsed_us = micros(now.saturating_duration_since(self.anchored));
        let paid_us = self.owed_us.clamp(-elapsed_us / 2, elapsed_us / 2);
        self.anchor_us + elapsed_us + paid_us
    }

    /// Corrects it by what a clock shows at this moment. Returns how far that is ahead.
    pub fn correct(&mut self, shown_us: i64, now: Instant, pace: Pace) -> i64 {
        let reckoned_us = self.at(now);
        let ahead_us = shown_us - reckoned_us;
        let gentle_us = match pace {
            Pace::AtOnce => 0,
            Pace::Gently(most) => micros(most),
        };
        *self = if ahead_us > gentle_us {
            Self::new(shown_us, now)
        } else {
            Self { anchor_us: reckoned_us, anchored: now, owed_us: ahead_us }
        };
        ahead_us
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
fn system_micros() -> i64 {
    Utc::now().timestamp_micros()
}

fn from_micros(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or(DateTime::UNIX_EPOCH)
}
