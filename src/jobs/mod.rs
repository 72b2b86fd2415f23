//! What Musubi does by the clock: the table of jobs, the runner that runs each slot once, and the
//! loops that every process has.
//!
//! A job's function may run twice for one slot (a node can die after its work and before the
//! record), so it must bear that. It says in one line what it did.

use std::time::Duration;

use chrono_tz::Tz;
use futures_util::future::BoxFuture;

use crate::ai::service::{cancel, sweep, watch as executions};
use crate::app::App;
use crate::credits::service::due;
use crate::credits::watch as balances;
use crate::error::Result;
use crate::mail;
use crate::queue;

mod cleanup;
mod proof;
mod runner;
mod usage;

pub use runner::{run_due, run_forever, run_now};
pub(crate) use usage::roll_up_from;

/// How often the database's clock is compared with ours.
const CLOCK_EVERY: Duration = Duration::from_secs(30);

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
pub static JOBS: &[Job] = &[
    // Warms what a reserve would otherwise apply by itself; at the full hour, when months begin.
    Job {
        name: "credits-due",
        schedule: "*/10 * * * *",
        zone: chrono_tz::Asia::Tokyo,
        run: |app| {
            Box::pin(async move {
                let accounts = due::apply_all_due(&app).await?;
                Ok(format!("{accounts} accounts were due"))
            })
        },
    },
    Job {
        name: "usage-hourly",
        schedule: "5 * * * *",
        zone: chrono_tz::UTC,
        run: |app| Box::pin(usage::roll_up(app)),
    },
    Job {
        name: "cleanup",
        schedule: "30 3 * * *",
        zone: chrono_tz::Asia::Tokyo,
        run: |app| Box::pin(cleanup::clean_up(app)),
    },
    Job {
        name: "ledger-proof",
        schedule: "15 4 * * *",
        zone: chrono_tz::Asia::Tokyo,
        run: |app| Box::pin(proof::prove(app)),
    },
];

/// Durable work and who does it. The domains that have such work join the list.
static WORK: &[queue::Handler<App>] = &[mail::HANDLER];

/// Starts the loops that every process has; they stop at shutdown.
pub fn start(app: &App) {
    let tasks = &app.tasks;
    tasks.spawn(sweep::sweep_forever(app.clone()));
    tasks.spawn(cancel::obey_forever(app.clone()));
    tasks.spawn(balances::reread_forever(app.clone()));
    tasks.spawn(executions::reread_forever(app.clone()));
    tasks.spawn(run_forever(app.clone(), JOBS));
    tasks.spawn(queue::run(queue::Parts::from(app), app.clone(), WORK));
    tasks.spawn(watch_clock(app.clone()));
}

async fn watch_clock(app: App) {
    let stopping = app.tasks.stopping();
    loop {
        if let Err(error) = app.db.measure_clock(&app.clock).await {
            tracing::warn!(%error, "The database's clock could not be read: {error}");
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(CLOCK_EVERY) => {}
        }
    }
}
