//! What Musubi does by the clock: the table of jobs, the runner that runs each slot once, and the
//! loops that every process has.
//!
//! A job's function may run twice for one slot (a node can die after its work and before the
//! record), so it must bear that. It says in one line what it did.

use std::time::Duration;

use chrono_tz::Tz;
use futures_util::future::BoxFuture;

use crate::ai::service::{cancel, sweep, watch as executions};
use crate::anomaly::baseline;
use crate::app::App;
use crate::audit;
use crate::compliance::assess;
use crate::credits::service::due as credits_due;
use crate::credits::watch as balances;
use crate::error::Result;
use crate::mail;
use crate::payments::auto::work as auto;
use crate::payments::invoices::due;
use crate::payments::service::{inbox, reconcile};
use crate::payments::{cards, reset_notice};
use crate::plans::service::{reconcile as subscriptions, work};
use crate::queue;

mod cleanup;
mod proof;
mod runner;
mod usage;

pub(crate) use cleanup::clean_up;
pub use runner::{run_due, run_forever, run_now};
pub(crate) use usage::roll_up_from;

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
                let accounts = credits_due::apply_all_due(&app).await?;
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
        name: "usage-baselines",
        schedule: "20 4 * * *",
        zone: chrono_tz::Asia::Tokyo,
        run: |app| Box::pin(async move { baseline::compute_all(&app).await }),
    },
    Job {
        name: "payments-reconcile",
        schedule: "*/5 * * * *",
        zone: chrono_tz::UTC,
        run: |app| Box::pin(reconcile::reconcile(app)),
    },
    // After the full hour's resets.
    Job {
        name: "reset-notices",
        schedule: "2-59/10 * * * *",
        zone: chrono_tz::UTC,
        run: |app| Box::pin(reset_notice::tell_all(app)),
    },
    Job {
        name: "invoice-reminders",
        schedule: "0 10 * * *",
        zone: chrono_tz::Asia::Tokyo,
        run: |app| Box::pin(due::remind(app)),
    },
    Job {
        name: "plans-reconcile",
        schedule: "3-59/5 * * * *",
        zone: chrono_tz::UTC,
        run: |app| Box::pin(subscriptions::reconcile(app)),
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
    Job {
        name: ASSESSMENT,
        schedule: "0 5 * * 1",
        zone: chrono_tz::Asia::Tokyo,
        run: |app| Box::pin(assess(app)),
    },
];

/// The weekly assessment of compliance.
const ASSESSMENT: &str = "compliance-assessment";

async fn assess(app: App) -> Result<String> {
    let next_at = runner::next_slot(JOBS, ASSESSMENT, app.clock.db_now())?;
    let (failed, total) = assess::assess_all(&app, next_at).await?;
    Ok(format!("{failed} of {total} are not compliant"))
}

/// Durable work and who does it. The domains that have such work join the list.
static WORK: &[queue::Handler<App>] =
    &[mail::HANDLER, inbox::HANDLER, cards::KEEP, cards::DETACH, work::EVENTS, work::ENDS];

/// Something that every process reads again and again.
struct Round {
    /// What is read, in the log.
    what: &'static str,
    /// The pause after it.
    every: Duration,
    run: fn(App) -> BoxFuture<'static, Result<()>>,
}

static ROUNDS: &[Round] = &[
    Round {
        what: "The watched accounts",
        every: Duration::from_secs(5),
        run: |app| Box::pin(async move { balances::reread(&app).await }),
    },
    Round {
        what: "The watched executions",
        every: Duration::from_secs(5),
        run: |app| Box::pin(async move { executions::reread(&app).await }),
    },
    Round {
        what: "The accounts that buy by themselves",
        every: Duration::from_secs(2),
        run: |app| Box::pin(async move { auto::work(&app).await.map(|_| ()) }),
    },
    Round {
        what: "The database's clock",
        every: Duration::from_secs(30),
        run: |app| Box::pin(async move { app.db.measure_clock(&app.clock).await }),
    },
];

/// Starts the loops that every process has; they stop at shutdown.
pub fn start(app: &App) {
    let tasks = &app.tasks;
    tasks.spawn(sweep::sweep_forever(app.clone()));
    tasks.spawn(cancel::obey_forever(app.clone()));
    tasks.spawn(run_forever(app.clone(), JOBS));
    tasks.spawn(queue::run(queue::Parts::from(app), app.clone(), WORK));
    tasks.spawn(audit::write_forever(app.clone()));
    tasks.spawn(audit::seal::seal_forever(app.clone()));
    go_rounds(app);
}

/// Starts what every process reads again and again.
pub fn go_rounds(app: &App) {
    for round in ROUNDS {
        app.tasks.spawn(go_round(app.clone(), round));
    }
}

async fn go_round(app: App, round: &'static Round) {
    let stopping = app.tasks.stopping();
    loop {
        if let Err(error) = (round.run)(app.clone()).await {
            tracing::warn!(%error, "{} could not be read: {error}", round.what);
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(round.every) => {}
        }
    }
}
