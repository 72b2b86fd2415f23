//! Asking Stripe about purchases whose end nobody told us: an answer that was lost, a webhook that
//! never came, a node that died in between. And working out again what the queue gave up.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::app::App;
use crate::db;
use crate::entity::credit_purchase::{
    self, FailureCode, PaymentMethodKind, PaymentStatus, PurchaseSource,
};
use crate::entity::stripe_event;
use crate::error::{Error, Result};
use crate::external::stripe::{Payment, StripeFailure};
use crate::payments::invoices::due;
use crate::payments::missed;
use crate::payments::refunds::due as due_refunds;
use crate::payments::service::{inbox, learn};

/// Purchases, and events, that one run looks at.
const ROWS_MAX: u64 = 200;
/// A purchase is left alone so long after it was looked at.
const PAUSE: TimeDelta = TimeDelta::minutes(2);
/// A request that Stripe has not taken by then never reached it: no attempt takes so long.
const NEVER_STARTED: TimeDelta = TimeDelta::minutes(15);
/// A buyer who has not answered their bank by then does not come back. Of an automatic purchase
/// nobody is there to answer.
const ABANDONED: TimeDelta = TimeDelta::hours(24);
/// So many that were not answered end a run: Stripe is away.
const UNANSWERED_MAX: usize = 5;
/// By then the queue has given an event up.
const GIVEN_UP: TimeDelta = TimeDelta::hours(2);
/// How much earlier than ours Stripe's clock may have been.
const CLOCKS_APART: TimeDelta = TimeDelta::minutes(10);

/// Looks at open purchases and unfinished events, those first that were not looked at for longest.
/// Says what it did.
pub async fn reconcile(app: App) -> Result<String> {
    let now = app.clock.db_now();
    let open = [PaymentStatus::Pending, PaymentStatus::RequiresAction];
    let rows = credit_purchase::Entity::find()
        .filter(credit_purchase::Column::Status.is_in(open))
        .filter(credit_purchase::Column::Method.ne(PaymentMethodKind::Invoice))
        .filter(credit_purchase::Column::CheckedAt.lt(now - PAUSE))
        .order_by_asc(credit_purchase::Column::CheckedAt)
        .limit(ROWS_MAX)
        .all(app.db.primary())
        .await?;
    let (mut ended, mut failed) = (0, 0);
    let looked = rows.len();
    for row in rows {
        // Marked first, so that one that cannot be looked at holds up no other.
        mark(&app, &row, now).await?;
        match Box::pin(look(&app, row, now)).await {
            Ok(row) if !open.contains(&row.status) => ended += 1,
            Ok(_) => {}
            Err(error) => {
                failed += 1;
                tracing::warn!(%error, "A purchase could not be looked up: {error}");
                if failed == UNANSWERED_MAX {
                    break;
                }
            }
        }
    }
    let (unpaid, settled) = due::look_at_unpaid(&app, now).await?;
    let (refunds, answered) = due_refunds::look(&app, now).await?;
    // A list that cannot be read now is read the next time, from where it was left.
    let missed = missed::catch_up(&app).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "Stripe's events could not be listed: {error}");
        0
    });
    let events = work_out(&app, now).await?;
    Ok(format!(
        "{looked} open purchases, {ended} ended, {failed} not answered; \
         {unpaid} unpaid invoices, {settled} ended; {refunds} refunds under way, {answered} ended; \
         {missed} missed, {events} events"
    ))
}

async fn mark(app: &App, row: &credit_purchase::Model, now: DateTime<Utc>) -> Result<()> {
    let txn = app.db.begin().await?;
    let sql = "UPDATE credit_purchases SET checked_at = $2 WHERE id = $1";
    db::execute(&*txn, sql, vec![row.id.into(), now.into()]).await?;
    txn.commit().await
}

/// Looks at one purchase. How it stands then.
async fn look(
    app: &App,
    row: credit_purchase::Model,
    now: DateTime<Utc>,
) -> Result<credit_purchase::Model> {
    let age = now - row.created_at;
    let Some(payment) = find(app, &row).await? else {
        return match row.status {
            PaymentStatus::Pending if age > NEVER_STARTED => {
                learn::fail(app, row, FailureCode::NotStarted).await
            }
            _ => Ok(row),
        };
    };
    let row = learn::learned(app, row, &payment).await?;
    let is_automatic = row.source == PurchaseSource::AutoPurchase;
    let is_waited_for = age <= ABANDONED && !is_automatic;
    if row.status != PaymentStatus::RequiresAction || is_waited_for {
        return Ok(row);
    }
    match app.payments.cancel(&payment.id).await {
        Ok(payment) => learn::learned(app, row, &payment).await,
        // It was paid, or given up, a moment ago.
        Err(StripeFailure::Refused(_)) => learn::ask(app, row, &payment.id).await,
        Err(failure) => Err(Error::broken(failure)),
    }
}

/// Stripe's payment of a purchase: by its id, or among the tenant's by what we wrote on it.
async fn find(app: &App, row: &credit_purchase::Model) -> Result<Option<Payment>> {
    let found = match &row.payment_intent_id {
        Some(id) => app.payments.payment(id).await.map(Some),
        None => match row.customer_id.clone() {
            Some(customer) => {
                let since = row.created_at - CLOCKS_APART;
                match app.payments.find(&customer, since, &row.id.to_string()).await {
                    // Whatever it paid for is told by its event.
                    Err(StripeFailure::NoCustomer) => Ok(None),
                    found => found,
                }
            }
            // The customer is written down before Stripe is asked: it was asked for nothing.
            None => Ok(None),
        },
    };
    found.map_err(Error::broken)
}

/// Works out events that the queue gave up. How many went well.
async fn work_out(app: &App, now: DateTime<Utc>) -> Result<usize> {
    let rows = stripe_event::Entity::find()
        .filter(stripe_event::Column::ProcessedAt.is_null())
        .filter(stripe_event::Column::ReceivedAt.lt(now - GIVEN_UP))
        .order_by_asc(stripe_event::Column::Attempts)
        .order_by_asc(stripe_event::Column::ReceivedAt)
        .limit(ROWS_MAX)
        .all(app.db.primary())
        .await?;
    let mut done = 0;
    for row in rows {
        match inbox::process(app, row.id).await {
            Ok(()) => done += 1,
            Err(error) => {
                tracing::warn!(%error, "Event {} is not understood: {error}", row.event_id);
            }
        }
    }
    Ok(done)
}
