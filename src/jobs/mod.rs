//! What Musubi does by the clock: the table of jobs, and the runner that runs each slot once.
//!
//! A job's function may run twice for one slot (a node can die after its work and before the
//! record), so it must bear that. It says in one line what it did.

use chrono_tz::Tz;
use futures_util::future::BoxFuture;

use crate::app::App;
use crate::error::Result;

mod runner;

pub use runner::{run_due, run_forever, run_now};

/// Something that is done by the clock.
pub struct Job {
    /// Its name, in `job_runs` and for `musubi job NAME`.
    pub name: &'static str,
    /// When, as cron text: minute, hour, day, month, weekday.
    pub schedule: &'static str,
    /// Where the schedule's hours are counted.
    pub zone: Tz,
    /// Does it and says what was done.
    pub run: fn(App) -> BoxFuture<'static, Result<String>>,
}

/// All jobs.
pub static JOBS: &[Job] = &[];
