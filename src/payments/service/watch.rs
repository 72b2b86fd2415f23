//! Following a purchase live.

use std::time::Duration;

use futures_util::{Stream, stream};

use crate::actor::{Actor, Permission};
use crate::app::App;
use crate::entity::credit_purchase;
use crate::error::{Error, Result};
use crate::events::{Subscription, Topic};
use crate::identity;
use crate::ids::PurchaseId;
use crate::payments::service::lookup;

/// How often a watched purchase is read again, in case an event was lost.
const REREAD_EVERY: Duration = Duration::from_secs(5);

/// Watches a purchase: first as it is, then each change, with rising versions. Ends with an error
/// when the actor may no longer see it.
pub async fn follow(
    app: &App,
    actor: &Actor,
    id: PurchaseId,
) -> Result<impl Stream<Item = Result<credit_purchase::Model>> + Send + use<>> {
    // Subscribed before the row is read, so that no change falls between the two.
    let changes = app.events.subscribe(Topic::Purchase(id));
    let first = lookup::get(app, actor, id).await?;
    let watch = Box::new(Watch {
        app: app.clone(),
        actor: actor.clone(),
        id,
        changes,
        next: Some(first),
        sent: 0,
        is_over: false,
    });
    Ok(stream::unfold(watch, Watch::step))
}

struct Watch {
    app: App,
    actor: Actor,
    id: PurchaseId,
    changes: Subscription,
    /// Read, and not yet sent.
    next: Option<credit_purchase::Model>,
    /// The version that was sent last.
    sent: i64,
    is_over: bool,
}

impl Watch {
    async fn step(mut self: Box<Self>) -> Option<(Result<credit_purchase::Model>, Box<Self>)> {
        if self.is_over {
            return None;
        }
        loop {
            let row = match self.next.take() {
                Some(row) => Ok(row),
                None => {
                    tokio::select! {
                        signal = self.changes.next() => { signal?; }
                        () = tokio::time::sleep(REREAD_EVERY) => {}
                    }
                    Box::pin(lookup::get(&self.app, &self.actor, self.id)).await
                }
            };
            let allowed = match row {
                Ok(row) if row.version <= self.sent => continue,
                Ok(row) => Box::pin(self.allow(row)).await,
                Err(error) => Err(error),
            };
            match allowed {
                // The database does not answer for a moment: the stream stays and looks again.
                Err(Error::Unavailable(_)) => {}
                Ok(row) => {
                    self.sent = row.version;
                    return Some((Ok(row), self));
                }
                Err(error) => {
                    self.is_over = true;
                    return Some((Err(error), self));
                }
            }
        }
    }

    /// The purchase, if the actor may still see it.
    async fn allow(&self, row: credit_purchase::Model) -> Result<credit_purchase::Model> {
        identity::recheck(&self.app, &self.actor, Permission::MoneyManage).await?;
        Ok(row)
    }
}
