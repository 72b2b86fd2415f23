//! Durable work about plans: what Stripe told of a subscription, and the end of a closed tenant's.

use chrono::DateTime;
use sea_orm::EntityTrait;
use serde_json::{Value as Json, json};

use crate::alerts::{self, AlertKind, NewAlert};
use crate::app::App;
use crate::entity::alert::AlertSeverity;
use crate::entity::{stripe_event, tenant_subscription};
use crate::error::{Error, Result};
use crate::external::stripe::{SUBSCRIPTION, read_subscription};
use crate::identity::service::tenant::END_SUBSCRIPTION;
use crate::ids::{StripeEventId, SubscriptionId, TenantId, TypedId};
use crate::payments::handed_on;
use crate::payments::service::inbox;
use crate::plans::service::{end, learn};
use crate::queue::{Handler, Hopeless};

/// Works out what Stripe told of subscriptions; the reconciler takes over what it gives up.
pub const EVENTS: Handler<App> = Handler {
    kind: handed_on::KIND,
    run: |app, payload| Box::pin(hear(app, payload)),
    attempts_max: 10,
};

/// Ends what closed tenants pay by the month. Thirty attempts take a day.
pub const ENDS: Handler<App> = Handler {
    kind: END_SUBSCRIPTION,
    run: |app, payload| Box::pin(end_of_tenant(app, payload)),
    attempts_max: 30,
};

async fn end_of_tenant(app: App, payload: Json) -> Result<()> {
    let tenant = payload["tenant"].as_str().and_then(|text| TenantId::parse(text).ok());
    let tenant = tenant.ok_or_else(|| Hopeless("the work names no tenant".to_owned()))?;
    Box::pin(end::end_of_tenant(&app, tenant)).await
}

async fn hear(app: App, payload: Json) -> Result<()> {
    let id = payload["event"].as_str().and_then(|text| StripeEventId::parse(text).ok());
    let id = id.ok_or_else(|| Hopeless("the work names no event".to_owned()))?;
    let event = stripe_event::Entity::find_by_id(id).one(app.db.primary()).await?;
    let event = event.ok_or_else(|| Hopeless("the event is gone".to_owned()))?;
    let json = inbox::body_of(&app, &event)?;
    Box::pin(understand(&app, &event, &json["data"]["object"])).await
}

/// An event tells which subscription to look at; only an end is known by the event itself, as it
/// stays so.
async fn understand(app: &App, event: &stripe_event::Model, object: &Json) -> Result<()> {
    let (metadata, stripe_id) = if event.event_type.starts_with("invoice.") {
        let details = &object["parent"]["subscription_details"];
        (&details["metadata"], details["subscription"].as_str())
    } else {
        (&object["metadata"], object["id"].as_str())
    };
    let named = metadata[SUBSCRIPTION].as_str().and_then(|text| SubscriptionId::parse(text).ok());
    let row = match named {
        Some(id) => tenant_subscription::Entity::find_by_id(id).one(app.db.primary()).await?,
        None => None,
    };
    let (Some(row), Some(stripe_id)) = (row, stripe_id) else {
        return Err(Hopeless(format!("{} names no subscription of ours", event.event_id)).into());
    };
    let told = read_subscription(object);
    let is_end = event.event_type == "customer.subscription.deleted";
    match told.filter(|_| is_end && event.is_live == app.payments.is_live()) {
        Some(told) => learn::learn(app, (&row, None), &told).await.map(|_| ()),
        None => match learn::look(app, row.id, stripe_id).await {
            Err(Error::NotFound(_)) => Ok(()),
            Ok(row) if event.event_type == "invoice.paid" => alarm_if_late(app, &row, object).await,
            looked => looked.map(|_| ()),
        },
    }
}

/// A bill outlives its subscription at Stripe: what is paid for one that had ended brings nothing,
/// and the operators are told to give it back.
async fn alarm_if_late(app: &App, row: &tenant_subscription::Model, bill: &Json) -> Result<()> {
    let paid_at = bill["status_transitions"]["paid_at"].as_i64();
    let paid_at = paid_at.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    let is_in_time = row.ended_at.zip(paid_at).is_none_or(|(ended, paid)| paid <= ended);
    if is_in_time {
        return Ok(());
    }
    let kind = AlertKind::PaymentUngranted;
    let invoice = bill["id"].as_str().unwrap_or_default();
    let alert = NewAlert {
        tenant: None,
        kind,
        severity: AlertSeverity::Critical,
        dedupe_key: format!("{kind}:{invoice}"),
        data: json!({ "subscription": row.id.to_string(), "invoice": invoice,
                      "amount": bill["amount_paid"] }),
    };
    let mut txn = app.db.begin().await?;
    if alerts::raise(&mut txn, alert, app.clock.db_now()).await? {
        tracing::error!(subscription.id = %row.id, "{invoice} was paid after {} had ended", row.id);
    }
    txn.commit().await
}
