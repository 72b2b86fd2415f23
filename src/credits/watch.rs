//! The balance as it moves: a snapshot, then changes with strictly rising versions.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::{FutureExt, Stream, stream};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use crate::actor::{Actor, Permission};
use crate::app::App;
use crate::credits::service::account;
use crate::entity::credit_account;
use crate::error::{Error, Result};
use crate::events::{BalanceChanged, Event, Signal, Subscription, Topic};
use crate::identity;
use crate::ids::AccountId;

/// How long a stream waits when the database does not answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// An account's five numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Balance {
    /// Credits on the account, holds included.
    pub current: i64,
    /// Credits that running calls hold.
    pub held: i64,
    /// Rises with every change; a lower one is old news.
    pub version: i64,
    /// When it changed.
    pub at: DateTime<Utc>,
}

impl Balance {
    /// The balance in a row.
    pub fn of(account: &credit_account::Model) -> Self {
        Self {
            current: account.current_balance,
            held: account.held,
            version: account.version,
            at: account.updated_at,
        }
    }

    fn of_change(change: &BalanceChanged) -> Self {
        let BalanceChanged { current, held, version, at, .. } = *change;
        Self { current, held, version, at }
    }
}

/// Watches the balance of the actor's tenant: first the balance now, then each change, the latest
/// when several came at once. Ends with an error when the actor may no longer see it.
pub async fn watch(
    app: &App,
    actor: &Actor,
) -> Result<impl Stream<Item = Result<Balance>> + Send + use<>> {
    actor.require(Permission::CreditsRead)?;
    let account = account::of_tenant(app, actor.tenant()?).await?;
    // Subscribed before the snapshot is read, so that no change falls between the two.
    let changes = app.events.subscribe(Topic::Balance(account.id));
    // In a box, as the stream would keep room for it twice.
    let watch = Box::new(Watch {
        app: app.clone(),
        actor: actor.clone(),
        account: account.id,
        changes,
        sent: None,
        is_stale: true,
        is_over: false,
    });
    Ok(stream::unfold(watch, Watch::step))
}

struct Watch {
    app: App,
    actor: Actor,
    account: AccountId,
    changes: Subscription,
    /// The version that was sent last; none before the snapshot.
    sent: Option<i64>,
    /// Only a snapshot tells what is new: at the start, and after changes were missed.
    is_stale: bool,
    is_over: bool,
}

impl Watch {
    async fn step(mut self: Box<Self>) -> Option<(Result<Balance>, Box<Self>)> {
        if self.is_over {
            return None;
        }
        loop {
            let balance = match self.next().await? {
                // In boxes here and below: thousands of streams wait for a change, and none of
                // them is to keep room for what it rarely does.
                Ok(balance) => Box::pin(self.allow(balance)).await,
                Err(error) => Err(error),
            };
            match balance {
                // The database does not answer for a moment: the stream stays and looks again.
                Err(Error::Unavailable(_)) => {
                    self.is_stale = true;
                    tokio::time::sleep(RETRY_AFTER).await;
                }
                Ok(balance) => {
                    self.sent = Some(balance.version);
                    return Some((Ok(balance), self));
                }
                Err(error) => {
                    self.is_over = true;
                    return Some((Err(error), self));
                }
            }
        }
    }

    /// The balance, if the actor may still see it.
    async fn allow(&self, balance: Balance) -> Result<Balance> {
        identity::recheck(&self.app, &self.actor, Permission::CreditsRead).await?;
        Ok(balance)
    }

    /// The next balance that is newer than what was sent; none at shutdown.
    async fn next(&mut self) -> Option<Result<Balance>> {
        loop {
            let balance = if self.is_stale {
                match Box::pin(self.snapshot()).await {
                    Ok(balance) => balance,
                    Err(error) => return Some(Err(error)),
                }
            } else if let Some(change) = self.change().await? {
                change
            } else {
                self.is_stale = true;
                continue;
            };
            self.is_stale = false;
            if self.sent.is_none_or(|sent| balance.version > sent) {
                return Some(Ok(balance));
            }
        }
    }

    /// Waits for changes and takes the newest of those that have come. `Some(None)`: some were
    /// missed, and only a snapshot tells.
    async fn change(&mut self) -> Option<Option<Balance>> {
        let mut newest: Option<Balance> = None;
        let mut signal = self.changes.next().await?;
        loop {
            let Signal::Event(event) = signal else { return Some(None) };
            if let Event::Balance(change) = event.as_ref() {
                let change = Balance::of_change(change);
                if newest.is_none_or(|newest| change.version > newest.version) {
                    newest = Some(change);
                }
            }
            signal = match (self.changes.next().now_or_never(), newest) {
                (Some(Some(signal)), _) => signal,
                (Some(None) | None, Some(newest)) => return Some(Some(newest)),
                (Some(None), None) => return None,
                (None, None) => self.changes.next().await?,
            };
        }
    }

    async fn snapshot(&self) -> Result<Balance> {
        let row = credit_account::Entity::find_by_id(self.account)
            .one(self.app.db.primary())
            .await?
            .ok_or(Error::NotFound("credit account"))?;
        Ok(Balance::of(&row))
    }
}

/// Reads the accounts that have subscribers here again, in one query, and sends what is newer: a
/// lost publish leaves no gap to see. Done every 5 s.
pub async fn reread(app: &App) -> Result<()> {
    let watched = app.events.subscribed_accounts();
    for ids in watched.chunks(1_000) {
        let rows = credit_account::Entity::find()
            .filter(credit_account::Column::Id.is_in(ids.iter().copied()))
            .all(app.db.primary())
            .await?;
        for row in rows {
            // Subscribers drop what is not newer than what they have.
            app.events.publish_local(Event::Balance(BalanceChanged {
                account: row.id,
                tenant: row.tenant_id,
                current: row.current_balance,
                held: row.held,
                version: row.version,
                at: row.updated_at,
            }));
        }
    }
    Ok(())
}
