//! Storing a card that Stripe keeps: once, whoever tells of it first, and as Stripe has it now.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, PaginatorTrait, QueryFilter,
};
use serde_json::{Value as Json, json};

use crate::actor::Source;
use crate::app::App;
use crate::audit::{self, Action, Security};
use crate::db::Txn;
use crate::entity::stored_card::{self, CardBrand};
use crate::entity::{credit_purchase, user};
use crate::error::{Error, Result};
use crate::external::stripe::{Card, Payment, PaymentState, Setup, StripeFailure};
use crate::identity::service::tenant;
use crate::ids::{PurchaseId, StoredCardId, TenantId, TypedId, UserId};
use crate::payments::auto::settings as auto;
use crate::payments::cards::{CARDS_MAX, change, default_of};
use crate::payments::service::customer;
use crate::queue::{self, Handler, Hopeless, NewItem};

const KIND: &str = "card-keep";

/// Stores the card of a purchase that was to keep it.
pub const KEEP: Handler<App> =
    Handler { kind: KIND, run: |app, payload| Box::pin(work(app, payload)), attempts_max: 10 };

/// What became of a card here.
#[derive(Clone, Debug)]
pub(crate) enum Kept {
    /// It is stored.
    Card(Box<stored_card::Model>),
    /// It was removed since; that stays so.
    Removed,
    /// The tenant has as many as it may; Stripe gives it up again.
    TooMany,
    /// There is no card, or none of ours.
    Nothing,
}

impl Kept {
    /// For the record of an event.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Card(_) => "STORED",
            Self::Removed => "REMOVED",
            Self::TooMany => "TOO_MANY",
            Self::Nothing => "NOT_OURS",
        }
    }
}

/// For whom a card is stored, and by which request.
pub(crate) struct For<'a> {
    tenant: TenantId,
    user: Option<UserId>,
    source: &'a Arc<Source>,
}

/// Stores the card of a setup, if it is done and ours.
pub(crate) async fn of_setup(app: &App, setup: &Setup, source: &Arc<Source>) -> Result<Kept> {
    let named = setup.tenant.as_deref().and_then(|text| TenantId::parse(text).ok());
    let is_done = setup.state == PaymentState::Succeeded;
    let is_ours = setup.is_live == app.payments.is_live();
    match (named, &setup.method) {
        (Some(tenant), Some(method)) if is_done && is_ours => {
            let user = setup.user.as_deref().and_then(|text| UserId::parse(text).ok());
            keep(app, For { tenant, user, source }, method).await
        }
        _ => Ok(Kept::Nothing),
    }
}

/// Has the card of a purchase stored, after the commit of what was paid with it.
pub(crate) async fn keep_later(
    app: &App,
    txn: &mut Txn,
    row: &credit_purchase::Model,
    payment: &Payment,
) -> Result<()> {
    let Some(method) = payment.method.as_ref().filter(|_| row.save_card) else { return Ok(()) };
    let payload = json!({ "purchase": row.id.to_string(), "method": method });
    let dedupe_key = Some(format!("{KIND}:{}", row.id));
    let item = NewItem { kind: KIND, payload: &payload, dedupe_key, run_at: app.clock.db_now() };
    queue::push(txn, item, &app.crypto).await?;
    Ok(())
}

async fn work(app: App, payload: Json) -> Result<()> {
    let id = payload["purchase"].as_str().and_then(|text| PurchaseId::parse(text).ok());
    let (Some(id), Some(method)) = (id, payload["method"].as_str()) else {
        return Err(Hopeless("the work names no card".to_owned()).into());
    };
    let row = credit_purchase::Entity::find_by_id(id).one(app.db.primary()).await?;
    let row = row.ok_or_else(|| Hopeless("the purchase is gone".to_owned()))?;
    let source = Arc::default();
    let whom = For { tenant: row.tenant_id, user: Some(row.user_id), source: &source };
    let kept = keep(&app, whom, method).await?;
    tracing::info!(purchase.id = %id, "The card of {id}: {}", kept.as_str());
    Ok(())
}

/// Whether the tenant has as many cards as it may.
pub(crate) async fn is_full(conn: &impl ConnectionTrait, tenant: TenantId) -> Result<bool> {
    Ok(stored_card::Entity::of_tenant(tenant).count(conn).await? >= CARDS_MAX)
}

/// Stores a card as Stripe has it now: what told of it may be old.
async fn keep(app: &App, whom: For<'_>, method: &str) -> Result<Kept> {
    let Some(owner) = customer::known(app, whom.tenant).await? else { return Ok(Kept::Nothing) };
    let card = match app.payments.card(&owner, method).await {
        Ok(card) => card,
        Err(StripeFailure::Unavailable(why)) => {
            tracing::warn!(why, "A card was not looked at: {why}");
            return Err(Error::Unavailable("Stripe"));
        }
        Err(_) => return Ok(Kept::Nothing),
    };
    if card.is_live != app.payments.is_live() || card.customer.as_ref() != Some(&owner) {
        return Ok(Kept::Nothing);
    }
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await?;
    // A closed tenant stores nothing; a customer that was forgotten meanwhile has no cards.
    let locked = match tenant::lock(&txn, whom.tenant).await {
        Err(Error::Refused(_)) => return Ok(Kept::Nothing),
        locked => locked?,
    };
    if locked.stripe_customer_id.as_ref() != Some(&owner) {
        return Ok(Kept::Nothing);
    }
    let kept = write(app, &mut txn, &whom, card, now).await?;
    txn.commit().await?;
    Ok(kept)
}

async fn write(
    app: &App,
    txn: &mut Txn,
    whom: &For<'_>,
    card: Card,
    now: DateTime<Utc>,
) -> Result<Kept> {
    if let Some(row) = by_method(&**txn, &card.id).await? {
        let is_theirs = row.tenant_id == whom.tenant;
        return Ok(match row.removed_at {
            _ if !is_theirs => Kept::Nothing,
            Some(_) => Kept::Removed,
            None => Kept::Card(Box::new(row)),
        });
    }
    if is_full(&**txn, whom.tenant).await? {
        change::detach_later(app, txn, &card.id).await?;
        return Ok(Kept::TooMany);
    }
    let is_default = default_of(&**txn, whom.tenant).await?.is_none();
    let user = known_user(&**txn, whom.user).await?;
    let row = stored_card::Model { is_default, ..row_of(whom.tenant, user, card, now) };
    stored_card::Entity::insert(row.clone().into_active_model())
        .exec_without_returning(&**txn)
        .await?;
    if is_default {
        auto::card_changed(txn, whom.tenant).await?;
    }
    let event = Security {
        action: Action::CardStored,
        user,
        tenant: Some(whom.tenant),
        subject: ("stored_card", Some(row.id.0)),
        data: json!({ "brand": row.brand, "isDefault": row.is_default }),
        source: whom.source,
    };
    audit::record_security(app, txn, event).await?;
    Ok(Kept::Card(Box::new(row)))
}

/// Who is named, if there is such a person.
async fn known_user(conn: &impl ConnectionTrait, id: Option<UserId>) -> Result<Option<UserId>> {
    let Some(id) = id else { return Ok(None) };
    Ok(user::Entity::find_by_id(id).one(conn).await?.map(|user| user.id))
}

pub(super) async fn by_method(
    conn: &impl ConnectionTrait,
    method: &str,
) -> Result<Option<stored_card::Model>> {
    let column = stored_card::Column::StripePaymentMethodId;
    Ok(stored_card::Entity::find().filter(column.eq(method)).one(conn).await?)
}

pub(super) fn row_of(
    tenant: TenantId,
    user: Option<UserId>,
    card: Card,
    now: DateTime<Utc>,
) -> stored_card::Model {
    stored_card::Model {
        id: StoredCardId::new(),
        tenant_id: tenant,
        user_id: user,
        brand: brand_of(&card.brand),
        stripe_payment_method_id: card.id,
        last4: card.last4,
        exp_month: card.exp_month,
        exp_year: card.exp_year,
        fingerprint: card.fingerprint,
        is_default: false,
        created_at: now,
        updated_at: now,
        removed_at: None,
    }
}

/// Stripe's word, in ours. What it may add is another brand.
pub(super) fn brand_of(word: &str) -> CardBrand {
    match word {
        "amex" => CardBrand::Amex,
        "cartes_bancaires" => CardBrand::CartesBancaires,
        "diners" => CardBrand::Diners,
        "discover" => CardBrand::Discover,
        "eftpos_au" => CardBrand::Eftpos,
        "jcb" => CardBrand::Jcb,
        "mastercard" => CardBrand::Mastercard,
        "unionpay" => CardBrand::Unionpay,
        "visa" => CardBrand::Visa,
        _ => CardBrand::Other,
    }
}
