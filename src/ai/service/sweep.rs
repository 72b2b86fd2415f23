//! Resolving what dead processes left behind: at the start, then whenever the next lease ends.

use std::time::Duration;

use crate::ai::service::finish;
use crate::app::App;
use crate::credits::service::{admit, settle};
use crate::error::Result;
use crate::ids::HoldId;

/// The longest pause between two sweeps.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The shortest pause after a sweep that failed.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Sweeps until shutdown.
pub async fn sweep_forever(app: App) {
    let stopping = app.tasks.stopping();
    loop {
        let mut pause_min = Duration::from_millis(50);
        if let Err(error) = sweep(&app).await {
            tracing::warn!(%error, "A sweep failed, each hold is swept by itself: {error}");
            pause_min = PAUSE_AFTER_FAILURE;
            sweep_each(&app).await;
        }
        let pause = pause(&app).await.max(pause_min);
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Sweeps all holds whose lease has ended. Returns how many there were.
pub async fn sweep(app: &App) -> Result<usize> {
    let mut total = 0;
    loop {
        let swept = sweep_some(app, None).await?;
        if swept == 0 {
            return Ok(total);
        }
        total += swept;
        tracing::info!(holds = swept, "Swept {swept} holds whose owner is gone");
    }
}

/// Sweeps hold by hold, so that one that cannot be booked keeps no other waiting.
async fn sweep_each(app: &App) {
    let holds = settle::ended_leases(&app.db, app.clock.db_now()).await.unwrap_or_default();
    for hold in holds {
        if let Err(error) = sweep_some(app, Some(hold)).await {
            tracing::error!(hold.id = %hold, %error, "A hold could not be swept: {error}");
        }
    }
}

async fn sweep_some(app: &App, only: Option<HoldId>) -> Result<usize> {
    let now = app.clock.db_now();
    let mut txn = app.db.begin_always().await?;
    let swept = settle::sweep(&mut txn, now, app.node, only).await?;
    finish::write_interrupted(&mut txn, &swept, now).await?;
    txn.commit().await?;
    Ok(swept.len())
}

/// Until the next lease ends, at most 30 s.
async fn pause(app: &App) -> Duration {
    let Ok(Some(end)) = admit::next_lease_end(&app.db).await else { return PAUSE_MAX };
    let left = (end - app.clock.db_now()).to_std().unwrap_or(Duration::ZERO);
    (left + Duration::from_millis(50)).min(PAUSE_MAX)
}
