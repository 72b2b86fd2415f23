//! A call that finds too few credits: it buys first, and waits a while for what comes of it.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::app::App;
use crate::batch::Lookup;
use crate::entity::credit_purchase::PaymentStatus;
use crate::entity::{credit_account, credit_purchase};
use crate::error::Result;
use crate::events::Topic;
use crate::ids::{AccountId, PurchaseId};
use crate::payments::auto::decide::{Decision, Trigger, decide};
use crate::payments::auto::work;

/// How long a call waits for credits.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a decision may take; an account that stays locked keeps no other waiting for longer.
const DECIDE_PATIENCE: Duration = Duration::from_secs(2);
/// How often a purchase is read again, as other nodes' events may be lost.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Whether it is worth asking for a purchase. The account's row tells it.
pub fn may(account: &credit_account::Model, now: DateTime<Utc>) -> bool {
    let is_quiet = account.auto_purchase_quiet_until.is_some_and(|until| until > now);
    account.auto_purchase_enabled && !is_quiet
}

/// Buys so that a call gets as many credits as it needs. Returns when they may be there, or when
/// none will come, after 10 s at the latest: the call tries again either way.
pub async fn cover(app: &App, account: AccountId, needed: i64) {
    let covered = timeout(PATIENCE, try_to_cover(app, account, needed)).await;
    match covered {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(%error, account.id = %account, "Nothing was bought: {error}");
        }
        Err(_) => tracing::info!(account.id = %account, "A call waits no longer for credits"),
    }
}

async fn try_to_cover(app: &App, account: AccountId, needed: i64) -> Result<()> {
    let decision = app.batches.find::<Lack>(app, (account, needed)).await?;
    match decision {
        Some(Decision::Open(purchase)) => ended(app, *purchase).await,
        Some(Decision::Off | Decision::Enough | Decision::Refused) | None => Ok(()),
    }
}

/// Waits until a purchase is no longer under way, here or on another node.
async fn ended(app: &App, purchase: credit_purchase::Model) -> Result<()> {
    let id = purchase.id;
    // Subscribed before the row is read, so that no change falls between the two.
    let mut changes = app.events.subscribe(Topic::Purchase(id));
    work::go_on(app, purchase);
    loop {
        let is_open = app.batches.find::<Open>(app, id).await?.is_some();
        if !is_open {
            return Ok(());
        }
        tokio::select! {
            signal = changes.next() => if signal.is_none() { return Ok(()) },
            () = sleep(LOOK_EVERY) => {}
        }
    }
}

/// What becomes of lacking credits, decided once for all who lack the same at the same time.
struct Lack;

impl Lookup for Lack {
    type Context = App;
    type Key = (AccountId, i64);
    type Value = Decision;

    async fn read(app: &App, keys: Vec<Self::Key>) -> Result<HashMap<Self::Key, Decision>> {
        let until = Instant::now() + DECIDE_PATIENCE;
        let decisions = keys.into_iter().map(|(account, needed)| async move {
            let deciding = Box::pin(decide(app, account, Trigger::Reserve(needed)));
            let decision = match timeout_at(until, deciding).await {
                Ok(Ok(decision)) => decision,
                Ok(Err(error)) => {
                    tracing::warn!(%error, account.id = %account, "Nothing is bought: {error}");
                    return None;
                }
                Err(_) => return None,
            };
            Some(((account, needed), decision))
        });
        Ok(join_all(decisions).await.into_iter().flatten().collect())
    }
}

/// Purchases that are under way, of those that are waited for.
struct Open;

impl Lookup for Open {
    type Context = App;
    type Key = PurchaseId;
    type Value = ();

    async fn read(app: &App, keys: Vec<PurchaseId>) -> Result<HashMap<PurchaseId, ()>> {
        let open = [PaymentStatus::Pending, PaymentStatus::RequiresAction];
        let found = credit_purchase::Entity::find()
            .filter(credit_purchase::Column::Id.is_in(keys))
            .filter(credit_purchase::Column::Status.is_in(open));
        let rows = found.all(app.db.primary()).await?;
        Ok(rows.into_iter().map(|row| (row.id, ())).collect())
    }
}
