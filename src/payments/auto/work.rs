//! The work of automatic purchase: marks that charges left, and payments that are under way.

use std::time::Duration;

use chrono::TimeDelta;
use futures_util::future::join_all;
use sea_orm::FromQueryResult;
use tokio::time::timeout;

use crate::app::App;
use crate::db;
use crate::entity::credit_purchase;
use crate::entity::credit_purchase::PaymentStatus;
use crate::error::Result;
use crate::external::stripe::StripeFailure;
use crate::ids::AccountId;
use crate::payments::auto::decide::{Decision, Trigger, decide};
use crate::payments::service::{buy, learn};

/// Accounts that one round looks at.
const ACCOUNTS_MAX: i64 = 20;
/// How long one account may take of a round; one that stays locked holds up no other for longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// A payment whose node died is gone on with while it is younger; then it is the reconciler's.
const YOUNG: TimeDelta = TimeDelta::minutes(10);

/// Looks at the accounts that are due: decides, and goes on with what is under way. How many.
pub async fn work(app: &App) -> Result<usize> {
    #[derive(FromQueryResult)]
    struct Due {
        id: AccountId,
    }
    let sql = "SELECT id FROM ai_credit_accounts WHERE auto_purchase_due_at <= $1
               ORDER BY auto_purchase_due_at LIMIT $2";
    let values = vec![app.clock.db_now().into(), ACCOUNTS_MAX.into()];
    let due: Vec<Due> = db::all(app.db.primary(), sql, values).await?;
    let count = due.len();
    join_all(due.into_iter().map(|due| look(app, due.id))).await;
    Ok(count)
}

async fn look(app: &App, account: AccountId) {
    match timeout(PATIENCE, Box::pin(decide(app, account, Trigger::Charge))).await {
        Ok(Ok(Decision::Open(purchase))) => go_on(app, *purchase),
        Ok(Ok(Decision::Off | Decision::Enough | Decision::Refused)) => {}
        Ok(Err(error)) => {
            tracing::warn!(%error, account.id = %account, "Nothing is bought: {error}");
        }
        Err(_) => tracing::warn!(account.id = %account, "{account} is locked"),
    }
}

/// Pays in the background, unless that runs here already. Whoever asks Stripe does so under the
/// purchase's own key, so that several nodes make one payment.
pub(crate) fn go_on(app: &App, purchase: credit_purchase::Model) {
    let id = purchase.id;
    let is_young = app.clock.db_now() - purchase.created_at < YOUNG;
    if !is_young || app.tasks.running(id.0).is_some() {
        return;
    }
    let registration = app.tasks.register(id.0);
    let node = app.clone();
    app.tasks.spawn(async move {
        if let Err(error) = Box::pin(pay(&node, purchase)).await {
            tracing::warn!(%error, purchase.id = %id, "{id} is not paid yet: {error}");
        }
        drop(registration);
    });
}

async fn pay(app: &App, row: credit_purchase::Model) -> Result<()> {
    let row = match row.status {
        PaymentStatus::Pending => Box::pin(buy::go_on(app, row)).await?,
        _ => row,
    };
    give_up(app, row).await
}

/// Gives a payment up whose bank wants to hear from the card's owner: nobody is there to answer.
async fn give_up(app: &App, row: credit_purchase::Model) -> Result<()> {
    let Some(payment) = row.payment_intent_id.clone() else { return Ok(()) };
    if row.status != PaymentStatus::RequiresAction {
        return Ok(());
    }
    match app.payments.cancel(&payment).await {
        Ok(payment) => learn::learned(app, row, &payment).await.map(|_| ()),
        // It was paid, or given up, a moment ago.
        Err(StripeFailure::Refused(_)) => learn::ask(app, row, &payment).await.map(|_| ()),
        Err(failure) => Err(crate::error::Error::broken(failure)),
    }
}
