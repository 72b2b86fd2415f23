//! Events about plans: they are another room's work, and wait for it in the queue.

use serde_json::{Value as Json, json};

use crate::app::App;
use crate::entity::stripe_event;
use crate::error::Result;
use crate::external::stripe::SUBSCRIPTION;
use crate::queue::{self, NewItem};

/// Names who works such an event out.
pub(crate) const KIND: &str = "subscription-event";

/// Whether an event is about a subscription of ours, or a bill of one.
pub(crate) fn is_of_plans(kind: &str, object: &Json) -> bool {
    let is_ours = |metadata: &Json| metadata[SUBSCRIPTION].is_string();
    if kind.starts_with("customer.subscription.") {
        return is_ours(&object["metadata"]);
    }
    let is_bill = kind.starts_with("invoice.");
    is_bill && is_ours(&object["parent"]["subscription_details"]["metadata"])
}

/// Hands an event on, once.
pub(crate) async fn hand_on(app: &App, row: &stripe_event::Model) -> Result<&'static str> {
    let payload = json!({ "event": row.id.to_string() });
    let item = NewItem {
        kind: KIND,
        payload: &payload,
        dedupe_key: Some(format!("{KIND}:{}", row.id)),
        run_at: app.clock.db_now(),
    };
    let mut txn = app.db.begin().await?;
    queue::push(&mut txn, item, &app.crypto).await?;
    txn.commit().await?;
    Ok("HANDED_ON")
}
