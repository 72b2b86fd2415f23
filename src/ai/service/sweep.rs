//! Resolving what dead processes left behind: at the start, then whenever the next lease ends.

use std::time::Duration;

use crate::ai::service::finish;
use crate::app::App;
use crate::credits::service::{admit, settle};
use crate::error::Result;

/// The longest pause between two sweeps.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Sweeps until shutdown.
pub async fn sweep_forever(app: App) {
    let stopping = app.tasks.stopping();
    loop {
        if let Err(error) = sweep(&app).await {
            tracing::warn!(%error, "A sweep failed: {error}");
        }
        let pause = pause(&app).await;
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
        let now = app.clock.db_now();
        let mut txn = app.db.begin_always().await?;
        let swept = settle::sweep(&mut txn, now, app.node).await?;
        if swept.is_empty() {
            return Ok(total);
        }
        finish::write_interrupted(&mut txn, &swept, now).await?;
        txn.commit().await?;
        total += swept.len();
        tracing::info!(holds = swept.len(), "Swept {} holds whose owner is gone", swept.len());
    }
}

/// Until the next lease ends, at most 30 s.
async fn pause(app: &App) -> Duration {
    let Ok(Some(end)) = admit::next_lease_end(&app.db).await else { return PAUSE_MAX };
    let left = (end - app.clock.db_now()).to_std().unwrap_or(Duration::ZERO);
    (left + Duration::from_millis(50)).min(PAUSE_MAX)
}
