//! Asking Stripe about refunds whose end nobody told us.

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::app::App;
use crate::db;
use crate::entity::purchase_refund::{self, RefundStatus};
use crate::error::Result;
use crate::payments::refunds::{ask, learn};

/// Refunds that one run looks at.
const ROWS_MAX: u64 = 200;
/// So many that cannot be looked at end a run: Stripe is away.
const FAILED_MAX: usize = 5;

/// Looks at refunds that are under way and due for a look. How many those were, and how many ended.
pub(crate) async fn look(app: &App, now: DateTime<Utc>) -> Result<(usize, usize)> {
    let rows = purchase_refund::Entity::find()
        .filter(purchase_refund::Column::Status.eq(RefundStatus::Pending))
        .filter(purchase_refund::Column::NextCheckAt.lte(now))
        .order_by_asc(purchase_refund::Column::NextCheckAt)
        .limit(ROWS_MAX)
        .all(app.db.primary())
        .await?;
    let (looked, mut ended, mut failed) = (rows.len(), 0, 0);
    for row in rows {
        let Some(row) = mark(app, &row, now).await? else { continue };
        match Box::pin(ask::go_on(app, row)).await {
            Ok(row) if row.status != RefundStatus::Pending => ended += 1,
            Ok(row) if row.stripe_refund_id.is_some() => {}
            unanswered => {
                failed += 1;
                if let Err(error) = unanswered {
                    tracing::warn!(%error, "A refund could not be looked at: {error}");
                }
                if failed == FAILED_MAX {
                    break;
                }
            }
        }
    }
    Ok((looked, ended))
}

/// Marks a refund first, so that one that cannot be looked at holds up no other. As it is now; none
/// when it has ended meanwhile.
async fn mark(
    app: &App,
    row: &purchase_refund::Model,
    now: DateTime<Utc>,
) -> Result<Option<purchase_refund::Model>> {
    let txn = app.db.begin().await?;
    let sql = "UPDATE purchase_refunds SET next_check_at = $2
               WHERE id = $1 AND status = 'PENDING' RETURNING *";
    let pause = if row.stripe_refund_id.is_some() { learn::LATER } else { ask::SOON };
    let marked = db::one(&*txn, sql, vec![row.id.into(), (now + pause).into()]).await?;
    txn.commit().await?;
    Ok(marked)
}
