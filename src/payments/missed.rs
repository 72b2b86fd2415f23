//! Events that the webhook missed: Stripe is asked for what it sent since we looked last, and what
//! is not here is put into the inbox as if it had come.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};
use serde_json::Value as Json;

use crate::app::App;
use crate::db;
use crate::entity::{stripe_cursor, stripe_event};
use crate::error::{Error, Result};
use crate::external::stripe::{EventList, TYPES_MAX};
use crate::payments::service::inbox::{self, Receipt};

/// The types that mean something here, and that the webhook's endpoint is to be subscribed to.
pub const TYPES: &[&str] = &[
    "charge.dispute.closed",
    "charge.dispute.created",
    "charge.dispute.funds_reinstated",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.updated",
    "charge.refund.updated",
    "charge.refunded",
    "customer.deleted",
    "customer.subscription.created",
    "customer.subscription.deleted",
    "customer.subscription.pending_update_applied",
    "customer.subscription.pending_update_expired",
    "customer.subscription.updated",
    "invoice.deleted",
    "invoice.finalized",
    "invoice.marked_uncollectible",
    "invoice.overdue",
    "invoice.paid",
    "invoice.payment_failed",
    "invoice.voided",
    "payment_intent.canceled",
    "payment_intent.payment_failed",
    "payment_intent.processing",
    "payment_intent.requires_action",
    "payment_intent.succeeded",
    "payment_method.automatically_updated",
    "payment_method.detached",
    "payment_method.updated",
    "refund.created",
    "refund.failed",
    "refund.updated",
    "setup_intent.succeeded",
];
const CURSOR: &str = "events";
/// What is looked at again each time: clocks differ, and an event may be listed late.
const MARGIN: TimeDelta = TimeDelta::minutes(15);
/// How far the first look goes back: so long Stripe goes on trying to deliver.
const FIRST: TimeDelta = TimeDelta::days(3);
/// Stripe keeps events for 30 days.
const OLDEST: TimeDelta = TimeDelta::days(29);
/// Pages that one stretch of time may have, and one run.
const STRETCH_PAGES_MAX: usize = 10;
const RUN_PAGES_MAX: usize = 60;

/// Reads what Stripe sent since the last look, the older first, a stretch of time after the other.
/// A stretch with more than it may have is halved; what one run does not reach is left to the next.
/// How many events were missed.
pub(crate) async fn catch_up(app: &App) -> Result<usize> {
    let end = app.clock.db_now() + TimeDelta::minutes(1);
    let seen = stripe_cursor::Entity::find_by_id(CURSOR).one(app.db.primary()).await?;
    let seen = seen.map_or(end - FIRST, |row| row.seen_until).max(end - OLDEST);
    let (mut from, mut until) = (seen - MARGIN, end);
    let (mut missed, mut pages) = (0, 0);
    while from < end && pages < RUN_PAGES_MAX {
        let read = read(app, from, until).await?;
        pages += read.pages;
        missed += keep(app, &read.events).await?;
        let half = (until - from) / 2;
        if !read.is_whole && half >= TimeDelta::seconds(1) {
            until = from + half;
            continue;
        }
        // More than a list may hold in one second: what was read of it has to do.
        if !read.is_whole {
            tracing::error!("Stripe sent more events at {from} than can be listed");
        }
        move_on(app, until.min(app.clock.db_now())).await?;
        (from, until) = (until, end);
    }
    if missed > 0 {
        tracing::warn!(missed, "{missed} events of Stripe's had not come to the webhook");
    }
    Ok(missed)
}

/// What a stretch of time brought.
struct Read {
    events: Vec<Json>,
    pages: usize,
    is_whole: bool,
}

async fn read(app: &App, from: DateTime<Utc>, until: DateTime<Utc>) -> Result<Read> {
    let mut read = Read { events: Vec::new(), pages: 0, is_whole: true };
    for types in TYPES.chunks(TYPES_MAX) {
        let types = types.iter().map(|name| (*name).to_owned()).collect();
        let mut list = EventList { types, from, until, after: None };
        loop {
            let page = app.payments.events(&list).await.map_err(Error::broken)?;
            read.pages += 1;
            read.events.extend(page.events);
            list.after = page.next;
            if list.after.is_none() {
                break;
            }
            if read.pages >= STRETCH_PAGES_MAX {
                read.is_whole = false;
                break;
            }
        }
    }
    Ok(read)
}

/// Puts what is not here into the inbox. How many those were.
async fn keep(app: &App, events: &[Json]) -> Result<usize> {
    let ids: Vec<&str> = events.iter().filter_map(|event| event["id"].as_str()).collect();
    let mut known = HashSet::new();
    for ids in ids.chunks(500) {
        let rows: Vec<String> = stripe_event::Entity::find()
            .select_only()
            .column(stripe_event::Column::EventId)
            .filter(stripe_event::Column::EventId.is_in(ids.iter().copied()))
            .into_tuple()
            .all(app.db.primary())
            .await?;
        known.extend(rows);
    }
    let mut kept = 0;
    // The oldest first, as they happened.
    for event in events.iter().rev() {
        let is_known = event["id"].as_str().is_some_and(|id| known.contains(id));
        if !is_known && inbox::keep(app, &event.to_string()).await? == Receipt::Kept {
            kept += 1;
        }
    }
    Ok(kept)
}

async fn move_on(app: &App, until: DateTime<Utc>) -> Result<()> {
    let now = app.clock.db_now();
    let txn = app.db.begin().await?;
    let values = vec![CURSOR.into(), until.into(), now.into()];
    db::execute(&*txn, MOVE_ON, values).await?;
    txn.commit().await
}

/// Of two nodes at once the further one counts.
const MOVE_ON: &str = "
INSERT INTO stripe_cursors (name, seen_until, updated_at) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET seen_until = $2, updated_at = $3
WHERE stripe_cursors.seen_until < $2";
