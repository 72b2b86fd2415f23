//! Asking Stripe about subscriptions of which nobody told anything, and what the time alone does:
//! alerts, the end of a grace, the end of a closed tenant's plan.

use chrono::{DateTime, TimeDelta, Utc};

use crate::app::App;
use crate::db;
use crate::entity::tenant;
use crate::entity::tenant_subscription::{self, SubscriptionStatus};
use crate::error::Result;
use crate::plans::service::end::{self, NEVER_STARTED};
use crate::plans::service::{change, learn, warn};

/// Subscriptions that one run looks at.
const ROWS_MAX: u64 = 200;
/// So many that were not answered end the asking of a run: Stripe is away.
const UNANSWERED_MAX: usize = 5;
/// When one that was not answered is asked about again.
const PAUSE: TimeDelta = TimeDelta::minutes(10);

/// Looks at subscriptions that are due, those first that waited longest. Says what it did.
pub async fn reconcile(app: App) -> Result<String> {
    let now = app.clock.db_now();
    let sql = format!(
        "SELECT * FROM tenant_subscriptions WHERE ended_at IS NULL AND check_at <= $1
         ORDER BY check_at LIMIT {ROWS_MAX}"
    );
    let rows: Vec<tenant_subscription::Model> =
        db::all(app.db.primary(), sql, vec![now.into()]).await?;
    let looked = rows.len();
    let (mut ended, mut failed) = (0, 0);
    for row in rows {
        // Marked first, so that one that cannot be looked at holds up no other.
        mark(&app, &row, now).await?;
        warn::pass_time(&app, &row, now).await?;
        if failed == UNANSWERED_MAX {
            continue;
        }
        match Box::pin(look(&app, row, now)).await {
            Ok(row) => ended += usize::from(row.ended_at.is_some()),
            Err(error) => {
                failed += 1;
                tracing::warn!(%error, "A subscription could not be looked up: {error}");
            }
        }
    }
    Ok(format!("{looked} subscriptions, {ended} ended, {failed} not answered"))
}

async fn mark(app: &App, row: &tenant_subscription::Model, now: DateTime<Utc>) -> Result<()> {
    let txn = app.db.begin().await?;
    let sql = "UPDATE tenant_subscriptions SET check_at = $2 WHERE id = $1";
    db::execute(&*txn, sql, vec![row.id.into(), (now + PAUSE).into()]).await?;
    txn.commit().await
}

/// Looks at one. How it stands then.
async fn look(
    app: &App,
    row: tenant_subscription::Model,
    now: DateTime<Utc>,
) -> Result<tenant_subscription::Model> {
    let stripe_id = end::find(app, &row).await?;
    let row = match stripe_id {
        Some(stripe_id) => learn::look(app, row.id, &stripe_id).await?,
        None if now - row.created_at > NEVER_STARTED => {
            learn::end(app, &row, SubscriptionStatus::Failed).await?
        }
        None => row,
    };
    let is_stale = row.change_at.is_some_and(|at| now - at >= change::RUNNING);
    let row = match row.change_id.filter(|_| is_stale) {
        Some(change) => change::close(app, row, change).await?,
        None => row,
    };
    if row.ended_at.is_none() && is_closed(app, &row).await? {
        end::end_of_tenant(app, row.tenant_id).await?;
    }
    Ok(row)
}

async fn is_closed(app: &App, row: &tenant_subscription::Model) -> Result<bool> {
    let sql = "SELECT * FROM tenants WHERE id = $1 AND deleted_at IS NOT NULL";
    let closed: Option<tenant::Model> =
        db::one(app.db.primary(), sql, vec![row.tenant_id.into()]).await?;
    Ok(closed.is_some())
}
