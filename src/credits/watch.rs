//! The balance as it moves: a snapshot, then changes with strictly rising versions.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::{Stream, stream};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use crate::actor::{Actor, Permission};
use crate::app::App;
use crate::credits::service::account;
use crate::entity::credit_account;
use crate::error::{Error, Result};
use crate::events::{BalanceChanged, Event, Signal, Subscription, Topic};
use crate::identity;
use crate::ids::AccountId;

/// How often accounts with subscribers are read again, in case an event was lost.
const REREAD_EVERY: Duration = Duration::from_secs(5);

/// An account's five numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    let watch = Watch {
        app: app.clone(),
        actor: actor.clone(),
        account: account.id,
        changes,
        sent: None,
        is_over: false,
    };
    Ok(stream::unfold(watch, Watch::step))
}

struct Watch {
    app: App,
    actor: Actor,
    account: AccountId,
    changes: Subscription,
    /// The version that was sent last; none before the snapshot.
    sent: Option<i64>,
    is_over: bool,
}

impl Watch {
    async fn step(mut self) -> Option<(Result<Balance>, Self)> {
        if self.is_over {
            return None;
        }
        let next = self.next().await?;
        let allowed = match next {
            Ok(balance) => {
                self.sent = Some(balance.version);
                let permission = Permission::CreditsRead;
                let allowed = identity::recheck(&self.app, &self.actor, permission).await;
                allowed.map(|()| balance)
            }
            Err(error) => Err(error),
        };
        self.is_over = allowed.is_err();
        Some((allowed, self))
    }

    async fn next(&mut self) -> Option<Result<Balance>> {
        if self.sent.is_none() {
            return Some(self.snapshot().await);
        }
        loop {
            let balance = match self.changes.next().await? {
                Signal::Resync => match self.snapshot().await {
                    Ok(balance) => balance,
                    Err(error) => return Some(Err(error)),
                },
                Signal::Event(event) => match event.as_ref() {
                    Event::Balance(change) => Balance::of_change(change),
                    Event::Execution(_)
                    | Event::CancelRequested(_)
                    | Event::Alert { .. }
                    | Event::CatalogChanged => continue,
                },
            };
            if self.sent.is_none_or(|sent| balance.version > sent) {
                return Some(Ok(balance));
            }
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

/// Reads the accounts that have subscribers here again, every 5 s and in one query, and sends what
/// is newer: a lost publish leaves no gap to see.
pub async fn reread_forever(app: App) {
    let stopping = app.tasks.stopping();
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(REREAD_EVERY) => {}
        }
        if let Err(error) = reread(&app).await {
            tracing::warn!(%error, "The watched accounts could not be read again: {error}");
        }
    }
}

/// One round of [`reread_forever`].
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
