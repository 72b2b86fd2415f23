//! The subscription of a tenant as it is stored, and what is said when Stripe does not tell more.

use chrono::{DateTime, Utc};
use sea_orm::EntityTrait;

use crate::actor::{Actor, Permission};
use crate::app::App;
use crate::crypto::Place;
use crate::db;
use crate::entity::tenant_subscription;
use crate::error::{Error, Result};
use crate::external::stripe::StripeFailure;
use crate::identity::service::tenant::only_within;
use crate::ids::{SubscriptionId, TenantId};

/// What a tenant has, or had last; none when it never subscribed. For its ADMINs.
pub async fn of_tenant(
    app: &App,
    actor: &Actor,
    tenant: TenantId,
) -> Result<Option<tenant_subscription::Model>> {
    only_within(actor, tenant)?;
    actor.require(Permission::MoneyManage)?;
    latest(app, tenant).await
}

/// The tenant's newest; one that has not ended is always that.
pub(crate) async fn latest(
    app: &App,
    tenant: TenantId,
) -> Result<Option<tenant_subscription::Model>> {
    let sql = "SELECT * FROM tenant_subscriptions WHERE tenant_id = $1
               ORDER BY created_at DESC, id DESC LIMIT 1";
    db::one(app.db.primary(), sql, vec![tenant.into()]).await
}

/// The one of the actor's tenant that has not ended.
pub(crate) async fn open_one(app: &App, actor: &Actor) -> Result<tenant_subscription::Model> {
    actor.require(Permission::MoneyManage)?;
    let row = latest(app, actor.tenant()?).await?.filter(|row| row.ended_at.is_none());
    row.ok_or(Error::NotFound("subscription"))
}

/// A row by its id.
pub(crate) async fn get(app: &App, id: SubscriptionId) -> Result<tenant_subscription::Model> {
    let row = tenant_subscription::Entity::find_by_id(id).one(app.db.primary()).await?;
    row.ok_or(Error::NotFound("subscription"))
}

/// What lets the page finish a payment; none when there is nothing to finish.
pub fn client_secret(app: &App, row: &tenant_subscription::Model) -> Result<Option<String>> {
    let sealed = row.client_secret.as_ref();
    sealed.map(|sealed| app.crypto.open(secret_place(row.id), sealed)).transpose()
}

/// Where a subscription's secret belongs.
pub(crate) fn secret_place(id: SubscriptionId) -> Place {
    Place { table: "tenant_subscriptions", column: "client_secret", row: id.0 }
}

/// The period that is paid for, once there is one.
pub fn period(row: &tenant_subscription::Model) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    row.period_start.zip(row.period_end)
}

/// A failure of Stripe's to one who waits for its answer.
pub(crate) fn unanswered(failure: StripeFailure) -> Error {
    match failure {
        StripeFailure::Unavailable(why) => {
            tracing::warn!(why, "Stripe did not answer: {why}");
            Error::Unavailable("Stripe")
        }
        StripeFailure::Declined(..)
        | StripeFailure::Refused(_)
        | StripeFailure::NotFound
        | StripeFailure::NoCustomer => Error::broken(failure),
    }
}
