//! What Stripe sends: judged, kept sealed as it came, and answered; what it means is worked out
//! after, by the queue. It may come any number of times and in any order.

use chrono::{DateTime, Utc};
use sea_orm::{EntityTrait, IntoActiveModel, TryInsertResult};
use serde_json::{Value as Json, json};

use crate::app::App;
use crate::config::Secret;
use crate::crypto::Place;
use crate::db;
use crate::entity::stripe_event;
use crate::error::{Error, Result};
use crate::external::stripe::{self, Payment, StripeFailure, read_payment};
use crate::ids::{StripeEventId, TypedId};
use crate::payments::cards::told;
use crate::payments::invoices::hear;
use crate::payments::refunds::learn as refunds;
use crate::payments::service::learn;
use crate::payments::{disputes, handed_on};
use crate::queue::{self, Handler, Hopeless, NewItem};

const KIND: &str = "stripe-event";
const NAME_CHARS_MAX: usize = 255;
const ERROR_CHARS_MAX: usize = 500;

/// Works out what Stripe sent. Ten attempts take half an hour to one; the reconciler takes over.
pub const HANDLER: Handler<App> =
    Handler { kind: KIND, run: |app, payload| Box::pin(work(app, payload)), attempts_max: 10 };

/// What became of something that was sent to the webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// It is kept.
    Kept,
    /// It was kept before.
    Known,
    /// It is not Stripe's, or no event; nothing was kept.
    Rejected(&'static str),
    /// We have no secret to judge it by.
    NotExpected,
}

/// Takes what was sent, with its signature, as it came.
pub async fn receive(app: &App, signature: &str, body: &[u8]) -> Result<Receipt> {
    let secrets: &[Secret] = &app.config.stripe.webhook_secrets;
    if secrets.is_empty() {
        return Ok(Receipt::NotExpected);
    }
    if let Err(fault) = stripe::verify(signature, body, secrets, app.clock.db_now()) {
        tracing::warn!(%fault, "Something was sent to the webhook of payments: {fault}");
        return Ok(Receipt::Rejected("The signature does not count."));
    }
    match std::str::from_utf8(body) {
        Ok(text) => keep(app, text).await,
        Err(_) => Ok(Receipt::Rejected("The body is not UTF-8.")),
    }
}

/// Keeps an event of Stripe's, once, and has it worked out.
pub(crate) async fn keep(app: &App, text: &str) -> Result<Receipt> {
    let Some(row) = read_event(app, text)? else {
        return Ok(Receipt::Rejected("The body is no event."));
    };
    let id = row.id;
    let now = row.received_at;
    let mut txn = app.db.begin().await?;
    let inserted = stripe_event::Entity::insert(row.into_active_model())
        .on_conflict_do_nothing_on([stripe_event::Column::EventId])
        .exec_without_returning(&*txn)
        .await?;
    if !matches!(inserted, TryInsertResult::Inserted(rows) if rows > 0) {
        return Ok(Receipt::Known);
    }
    let payload = json!({ "event": id.to_string() });
    let item = NewItem { kind: KIND, payload: &payload, dedupe_key: None, run_at: now };
    queue::push(&mut txn, item, &app.crypto).await?;
    txn.commit().await?;
    Ok(Receipt::Kept)
}

/// The row of an event; none when the body is none.
fn read_event(app: &App, text: &str) -> Result<Option<stripe_event::Model>> {
    let Ok(json) = serde_json::from_str::<Json>(text) else { return Ok(None) };
    let name = |value: &Json| {
        let name = value.as_str().filter(|name| !name.is_empty() && !name.contains('\0'))?;
        (name.chars().count() <= NAME_CHARS_MAX).then(|| name.to_owned())
    };
    let happened_at = json["created"].as_i64().and_then(|it| DateTime::from_timestamp(it, 0));
    let head = (name(&json["id"]), name(&json["type"]), json["livemode"].as_bool(), happened_at);
    let (Some(event_id), Some(event_type), Some(is_live), Some(happened_at)) = head else {
        return Ok(None);
    };
    let id = StripeEventId::new();
    Ok(Some(stripe_event::Model {
        id,
        event_id,
        event_type,
        is_live,
        body: app.crypto.seal(place(id), text)?,
        happened_at,
        received_at: app.clock.db_now(),
        attempts: 0,
        last_error: None,
        outcome: None,
        processed_at: None,
    }))
}

async fn work(app: App, payload: Json) -> Result<()> {
    let id = payload["event"].as_str().and_then(|text| StripeEventId::parse(text).ok());
    let id = id.ok_or_else(|| Hopeless("the work names no event".to_owned()))?;
    process(&app, id).await
}

/// Works out what an event means, and keeps what became of it. One that was worked out is left.
pub async fn process(app: &App, id: StripeEventId) -> Result<()> {
    let row = stripe_event::Entity::find_by_id(id).one(app.db.primary()).await?;
    let row = row.ok_or_else(|| Hopeless("the event is gone".to_owned()))?;
    if row.processed_at.is_some() {
        return Ok(());
    }
    let outcome = Box::pin(understand(app, &row)).await;
    let now = app.clock.db_now();
    let error = outcome.as_ref().err().map(|error| shorten(&error.to_string()));
    let processed_at: Option<DateTime<Utc>> = outcome.is_ok().then_some(now);
    let values =
        vec![id.into(), error.into(), outcome.as_ref().ok().copied().into(), processed_at.into()];
    let txn = app.db.begin().await?;
    db::execute(&*txn, RECORD, values).await?;
    txn.commit().await?;
    outcome.map(|_| ())
}

const RECORD: &str = "
UPDATE stripe_events SET attempts = attempts + 1, last_error = $2, outcome = $3, processed_at = $4
WHERE id = $1 AND processed_at IS NULL";

/// What an event changes here; a word for the record.
async fn understand(app: &App, row: &stripe_event::Model) -> Result<&'static str> {
    let json = body_of(app, row)?;
    let object = &json["data"]["object"];
    match row.event_type.as_str() {
        kind if handed_on::is_of_plans(kind, object) => handed_on::hand_on(app, row).await,
        // These stay so: the event itself tells the end.
        "payment_intent.succeeded" | "payment_intent.canceled" => match read_payment(object) {
            Some(payment) => told(app, payment, row.is_live).await,
            None => Ok("UNREADABLE"),
        },
        // These may be over by now, as events come in any order.
        "payment_intent.payment_failed"
        | "payment_intent.requires_action"
        | "payment_intent.processing" => match read_payment(object) {
            Some(payment) if payment.purchase.is_none() => Ok(learn::Learned::NotOurs.as_str()),
            Some(payment) => match app.payments.payment(&payment.id).await {
                Ok(payment) => told(app, payment, row.is_live).await,
                Err(StripeFailure::NotFound) => Ok("GONE"),
                Err(failure) => Err(Error::broken(failure)),
            },
            None => Ok("UNREADABLE"),
        },
        "setup_intent.succeeded" => told::set_up(app, object, row.is_live).await,
        "payment_method.updated" | "payment_method.automatically_updated" => {
            told::changed(app, object).await
        }
        "payment_method.detached" => told::detached(app, &json["data"]).await,
        "customer.deleted" => told::customer_deleted(app, object).await,
        "charge.refunded" => refunds::hear_charge(app, object, row.is_live).await,
        "charge.refund.updated" | "refund.created" | "refund.failed" | "refund.updated" => {
            refunds::hear(app, object).await
        }
        kind if kind.starts_with("charge.dispute.") => {
            disputes::hear(app, object, row.is_live).await
        }
        kind if kind.starts_with("invoice.") => hear::hear(app, object, row.is_live).await,
        // Kept, for what we learn to understand later.
        _ => Ok("KEPT"),
    }
}

/// An event as it came.
pub(crate) fn body_of(app: &App, row: &stripe_event::Model) -> Result<Json> {
    Ok(serde_json::from_str(&app.crypto.open(place(row.id), &row.body)?)?)
}

/// Learns a payment from an event. Both must be of the same money, and of ours.
async fn told(app: &App, payment: Payment, is_live: bool) -> Result<&'static str> {
    let is_ours = [payment.is_live, is_live].iter().all(|it| *it == app.payments.is_live());
    let is_live = is_ours == app.payments.is_live();
    let payment = Payment { is_live, ..payment };
    Ok(learn::learn(app, &payment).await?.as_str())
}

fn place(id: StripeEventId) -> Place {
    Place { table: "stripe_events", column: "body", row: id.0 }
}

fn shorten(text: &str) -> String {
    text.chars().take(ERROR_CHARS_MAX).collect()
}
