//! Ending a subscription, and taking that back.

use chrono::TimeDelta;

use crate::actor::Actor;
use crate::app::App;
use crate::entity::tenant_subscription::{self, SubscriptionStatus};
use crate::error::{Error, Result};
use crate::external::stripe::{Step, StripeFailure};
use crate::ids::TenantId;
use crate::payments::service::customer;
use crate::plans::error::PlanError;
use crate::plans::service::{learn, lookup};

/// A request that Stripe has not taken by then never reached it.
pub(crate) const NEVER_STARTED: TimeDelta = TimeDelta::minutes(15);

/// Looks how the subscription of the actor's tenant stands: the buyer has paid on their page.
pub async fn confirm(app: &App, actor: &Actor) -> Result<tenant_subscription::Model> {
    let row = lookup::open_one(app, actor).await?;
    match find(app, &row).await? {
        Some(stripe_id) => learn::look(app, row.id, &stripe_id).await,
        None => Ok(row),
    }
}

/// Ends the subscription of the actor's tenant: what is paid for, with its month; what is not, now.
pub async fn cancel(app: &App, actor: &Actor) -> Result<tenant_subscription::Model> {
    let row = lookup::open_one(app, actor).await?;
    let (row, stripe_id) = present(app, row).await?;
    let Some(stripe_id) = stripe_id else { return Ok(row) };
    match row.status {
        SubscriptionStatus::Active if row.cancel_at_period_end => Ok(row),
        SubscriptionStatus::Active => set_end(app, row, (&stripe_id, true)).await,
        SubscriptionStatus::Pending
        | SubscriptionStatus::Incomplete
        | SubscriptionStatus::PastDue
        | SubscriptionStatus::Suspended => end_now(app, &row, &stripe_id).await,
        SubscriptionStatus::Cancelled
        | SubscriptionStatus::IncompleteExpired
        | SubscriptionStatus::Failed => Ok(row),
    }
}

/// Takes the end back, while the month goes on.
pub async fn resume(app: &App, actor: &Actor) -> Result<tenant_subscription::Model> {
    let row = lookup::open_one(app, actor).await?;
    let (row, stripe_id) = present(app, row).await?;
    match stripe_id.filter(|_| row.status == SubscriptionStatus::Active) {
        Some(stripe_id) if row.cancel_at_period_end => set_end(app, row, (&stripe_id, false)).await,
        Some(_) | None => Err(PlanError::NotEnding.into()),
    }
}

/// Ends what a tenant that was closed pays by the month.
pub(crate) async fn end_of_tenant(app: &App, tenant: TenantId) -> Result<()> {
    let row = lookup::latest(app, tenant).await?.filter(|row| row.ended_at.is_none());
    let Some(row) = row else { return Ok(()) };
    let (row, stripe_id) = present(app, row).await?;
    if let Some(stripe_id) = stripe_id.filter(|_| row.ended_at.is_none()) {
        end_now(app, &row, &stripe_id).await?;
    }
    Ok(())
}

/// How it stands now. What Stripe never got is over; what it may be getting must be waited for.
async fn present(
    app: &App,
    row: tenant_subscription::Model,
) -> Result<(tenant_subscription::Model, Option<String>)> {
    let Some(stripe_id) = find(app, &row).await? else {
        if app.clock.db_now() - row.created_at <= NEVER_STARTED {
            return Err(Error::Unavailable("Stripe"));
        }
        return Ok((learn::end(app, &row, SubscriptionStatus::Failed).await?, None));
    };
    Ok((learn::look(app, row.id, &stripe_id).await?, Some(stripe_id)))
}

/// Stripe's id of a subscription: known, or found by what we wrote on it.
pub(crate) async fn find(app: &App, row: &tenant_subscription::Model) -> Result<Option<String>> {
    if let Some(known) = &row.stripe_id {
        return Ok(Some(known.clone()));
    }
    // Stripe does not know the tenant, so that it was asked for nothing.
    let Some(customer) = customer::known(app, row.tenant_id).await? else { return Ok(None) };
    match app.payments.find_subscription(&customer, &row.id.to_string()).await {
        Ok(found) => Ok(found.map(|found| found.id)),
        // What it had ended with it.
        Err(StripeFailure::NoCustomer) => Ok(None),
        Err(failure) => Err(lookup::unanswered(failure)),
    }
}

async fn set_end(
    app: &App,
    row: tenant_subscription::Model,
    (stripe_id, is_ending): (&str, bool),
) -> Result<tenant_subscription::Model> {
    let item = row.item_id.clone().unwrap_or_default();
    // The version is what was read a moment ago: the same wish of it is the same request.
    let key = format!("end:{}:{}:{is_ending}", row.id, row.version);
    let step = Step::End(is_ending);
    let asked = app.payments.change_subscription((stripe_id, &item), &key, &step).await;
    asked.map_err(lookup::unanswered)?;
    learn::look(app, row.id, stripe_id).await
}

async fn end_now(
    app: &App,
    row: &tenant_subscription::Model,
    stripe_id: &str,
) -> Result<tenant_subscription::Model> {
    match app.payments.end_subscription(stripe_id).await {
        // It may have ended a moment ago.
        Ok(_) | Err(StripeFailure::NotFound | StripeFailure::Refused(_)) => {
            learn::look(app, row.id, stripe_id).await
        }
        Err(failure) => Err(lookup::unanswered(failure)),
    }
}
