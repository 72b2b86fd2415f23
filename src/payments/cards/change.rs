//! Which card is the default, and removing one. A removed card is refused here at once; Stripe is
//! told by the queue, so that it gives the card up whatever happens to us.

use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};

use crate::actor::{Actor, Permission};
use crate::app::App;
use crate::audit::{self, Action, Subject};
use crate::db::{self, Txn};
use crate::entity::stored_card;
use crate::error::{Error, Result};
use crate::external::stripe::StripeFailure;
use crate::identity::service::tenant;
use crate::ids::{StoredCardId, TenantId};
use crate::payments::auto::settings as auto;
use crate::payments::cards::{default_of, usable};
use crate::queue::{self, Handler, Hopeless, NewItem};

const KIND: &str = "card-detach";

/// Has Stripe give a card up.
pub const DETACH: Handler<App> =
    Handler { kind: KIND, run: |app, payload| Box::pin(work(app, payload)), attempts_max: 12 };

/// Makes a card the default.
pub async fn set_default(app: &App, actor: &Actor, id: StoredCardId) -> Result<stored_card::Model> {
    actor.require(Permission::MoneyManage)?;
    let tenant = actor.tenant()?;
    let now = app.clock.db_now();
    let txn = app.db.begin().await?;
    tenant::lock(&txn, tenant).await?;
    let card = usable(&*txn, tenant, id).await?;
    if card.is_default {
        return Ok(card);
    }
    let before = default_of(&*txn, tenant).await?;
    let sql = "UPDATE stored_cards SET is_default = FALSE, updated_at = $2
               WHERE tenant_id = $1 AND is_default";
    db::execute(&*txn, sql, vec![tenant.into(), now.into()]).await?;
    make_default(&txn, &card, now).await?;
    let data = json!({ "before": before.map(|card| card.id.to_string()) });
    let subject = Subject::of("stored_card", id.0).in_tenant(tenant).with(data);
    audit::record(app, &txn, actor, Action::CardDefaultSet, subject).await?;
    txn.commit().await?;
    Ok(stored_card::Model { is_default: true, updated_at: now, ..card })
}

/// Removes a card. One that was removed is answered as it is.
pub async fn remove(app: &App, actor: &Actor, id: StoredCardId) -> Result<stored_card::Model> {
    actor.require(Permission::MoneyManage)?;
    let tenant = actor.tenant()?;
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await?;
    tenant::lock(&txn, tenant).await?;
    let card = stored_card::Entity::find_for(tenant, id).one(&*txn).await?;
    let card = card.ok_or(Error::NotFound("stored card"))?;
    if card.removed_at.is_some() {
        return Ok(card);
    }
    let removed = take_out(&txn, &card, now).await?;
    detach_later(app, &mut txn, &card.stripe_payment_method_id).await?;
    let subject = Subject::of("stored_card", id.0).in_tenant(tenant);
    audit::record(app, &txn, actor, Action::CardRemoved, subject).await?;
    txn.commit().await?;
    Ok(removed)
}

/// Removes a card's row; if it was the default, the newest of the others is. The tenant is locked.
pub(super) async fn take_out(
    txn: &Txn,
    card: &stored_card::Model,
    now: DateTime<Utc>,
) -> Result<stored_card::Model> {
    let sql = "UPDATE stored_cards SET removed_at = $2, updated_at = $2, is_default = FALSE
               WHERE id = $1";
    db::execute(&**txn, sql, vec![card.id.into(), now.into()]).await?;
    if card.is_default
        && let Some(newest) = newest_of(txn, card.tenant_id).await?
    {
        make_default(txn, &newest, now).await?;
    }
    let (removed_at, updated_at) = (Some(now), now);
    Ok(stored_card::Model { removed_at, updated_at, is_default: false, ..card.clone() })
}

/// Removes all cards of a tenant. It is locked.
pub(crate) async fn take_out_all(txn: &Txn, tenant: TenantId, now: DateTime<Utc>) -> Result<()> {
    let sql = "UPDATE stored_cards SET removed_at = $2, updated_at = $2, is_default = FALSE
               WHERE tenant_id = $1 AND removed_at IS NULL";
    db::execute(&**txn, sql, vec![tenant.into(), now.into()]).await?;
    Ok(())
}

async fn newest_of(txn: &Txn, tenant: TenantId) -> Result<Option<stored_card::Model>> {
    let sql = "SELECT * FROM stored_cards WHERE tenant_id = $1 AND removed_at IS NULL
               ORDER BY id DESC LIMIT 1";
    db::one(&**txn, sql, vec![tenant.into()]).await
}

async fn make_default(txn: &Txn, card: &stored_card::Model, now: DateTime<Utc>) -> Result<()> {
    let sql = "UPDATE stored_cards SET is_default = TRUE, updated_at = $2 WHERE id = $1";
    db::execute(&**txn, sql, vec![card.id.into(), now.into()]).await?;
    auto::card_changed(txn, card.tenant_id).await
}

/// Has Stripe give a card up, after the commit.
pub(super) async fn detach_later(app: &App, txn: &mut Txn, method: &str) -> Result<()> {
    let payload = json!({ "method": method });
    let dedupe_key = Some(format!("{KIND}:{method}"));
    let item = NewItem { kind: KIND, payload: &payload, dedupe_key, run_at: app.clock.db_now() };
    queue::push(txn, item, &app.crypto).await?;
    Ok(())
}

async fn work(app: App, payload: Json) -> Result<()> {
    let method = payload["method"].as_str();
    let method = method.ok_or_else(|| Hopeless("the work names no card".to_owned()))?;
    match app.payments.detach(method).await {
        Ok(()) | Err(StripeFailure::NotFound | StripeFailure::NoCustomer) => Ok(()),
        // So it answers for a card that nobody keeps any more.
        Err(StripeFailure::Refused(why)) => {
            tracing::warn!(why, "Stripe did not give {method} up: {why}");
            Ok(())
        }
        Err(failure) => Err(Error::broken(failure)),
    }
}
