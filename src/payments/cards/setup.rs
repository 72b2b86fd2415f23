//! Storing a card without a payment: Stripe's SetupIntent. The page gives the card to Stripe; we
//! learn of it from the page's word, which Stripe confirms, and from the webhook.

use serde_json::json;

use crate::actor::{Actor, Permission};
use crate::app::App;
use crate::audit::{self, Action, Subject};
use crate::entity::stored_card;
use crate::error::{Error, Result};
use crate::external::stripe::{self, NewSetup, PaymentState, Setup, StripeFailure};
use crate::idempotency;
use crate::ids::{TenantId, new_uuid};
use crate::limits;
use crate::limits::table::Limit;
use crate::limits::who::Who;
use crate::payments::cards::keep::{self, Kept};
use crate::payments::error::PaymentError;
use crate::payments::service::{buy, customer};

/// A card to store.
#[derive(Clone, Debug)]
pub struct NewCard {
    /// Stripe's id of a card; this, the next, or none.
    pub payment_method_id: Option<String>,
    /// Stripe's id of what the buyer confirmed.
    pub confirmation_token_id: Option<String>,
    /// Where the buyer comes back to from their bank.
    pub return_url: Option<String>,
    /// The client's key.
    pub idempotency_key: String,
}

/// A setup as Stripe has it, and its card when it is stored.
#[derive(Clone, Debug)]
pub struct Begun {
    /// The setup.
    pub setup: Setup,
    /// The card.
    pub card: Option<stored_card::Model>,
}

/// Begins to store a card. The same key begins once.
pub async fn begin(app: &App, actor: &Actor, new: NewCard) -> Result<Begun> {
    actor.require(Permission::MoneyManage)?;
    let tenant = actor.tenant()?;
    let violations = buy::violations_of_page(
        (&new.payment_method_id, &new.confirmation_token_id, &new.return_url),
        app.config.is_production(),
    );
    if !violations.is_empty() {
        return Err(Error::Invalid(violations));
    }
    let (id, is_known) = claim(app, actor, tenant, &new).await?;
    let setup = ask(app, actor, tenant, (&new, id)).await?;
    // What a known key answers is how it stood at first.
    let setup = if is_known { read(app, &setup.id).await? } else { setup };
    finish(app, actor, setup).await
}

/// Writes down that a card is being stored. What the key stands for, and whether it was known.
async fn claim(
    app: &App,
    actor: &Actor,
    tenant: TenantId,
    new: &NewCard,
) -> Result<(uuid::Uuid, bool)> {
    let id = new_uuid();
    let body = json!([new.payment_method_id, new.confirmation_token_id, new.return_url]);
    let whose = (tenant, actor.principal());
    let named = (new.idempotency_key.as_str(), &body);
    let key = idempotency::Key::new(&app.crypto, whose, "cardSetupBegin", named, id)?;
    let taken = limits::service::take(app, &Who::actor(actor), Limit::Purchases, 1).await;
    if let Err(refused) = taken {
        let made = idempotency::look(app.db.primary(), &key).await?.ok_or(refused)?;
        return Ok((made, true));
    }
    let txn = app.db.begin().await?;
    if let Some(made) = idempotency::claim_one(&txn, &key, app.clock.db_now()).await? {
        return Ok((made, true));
    }
    if keep::is_full(&*txn, tenant).await? {
        return Err(PaymentError::TooManyCards.into());
    }
    let subject = Subject::of("card_setup", id).in_tenant(tenant);
    audit::record(app, &txn, actor, Action::CardSetupStarted, subject).await?;
    txn.commit().await?;
    Ok((id, false))
}

/// Asks Stripe for the setup; once more when it does not have the customer any more.
async fn ask(
    app: &App,
    actor: &Actor,
    tenant: TenantId,
    (new, id): (&NewCard, uuid::Uuid),
) -> Result<Setup> {
    let mut customer = customer::of_tenant(app, tenant).await?;
    for is_last in [false, true] {
        let wanted = NewSetup {
            // A key stands for one body, and the customer is in it.
            key: format!("setup:{}:{customer}", id.simple()),
            customer: customer.clone(),
            tenant: tenant.to_string(),
            user: actor.user_id.to_string(),
            method: buy::method_of(&new.payment_method_id, &new.confirmation_token_id),
            return_url: new.return_url.clone(),
        };
        match app.payments.set_up(&wanted).await {
            Err(StripeFailure::NoCustomer) if !is_last => {
                customer::forget(app, &customer).await?;
                customer = customer::of_tenant(app, tenant).await?;
            }
            answer => return answer.map_err(|failure| refuse(&failure)),
        }
    }
    Err(Error::Unavailable("Stripe"))
}

/// Looks how a setup stands when the page is done, and stores its card.
pub async fn confirm(app: &App, actor: &Actor, id: &str) -> Result<Begun> {
    actor.require(Permission::MoneyManage)?;
    let tenant = actor.tenant()?.to_string();
    if !stripe::is_id(id, "seti_") {
        return Err(Error::NotFound("card setup"));
    }
    let setup = read(app, id).await?;
    if setup.tenant.as_deref() != Some(&tenant) {
        return Err(Error::NotFound("card setup"));
    }
    finish(app, actor, setup).await
}

async fn read(app: &App, id: &str) -> Result<Setup> {
    app.payments.setup(id).await.map_err(|failure| refuse(&failure))
}

/// Stores the card of a setup that is done.
async fn finish(app: &App, actor: &Actor, setup: Setup) -> Result<Begun> {
    if let (PaymentState::NeedsMethod, Some(decline)) = (setup.state, &setup.decline) {
        return Err(PaymentError::of_decline(decline).into());
    }
    let card = match keep::of_setup(app, &setup, &actor.source).await? {
        Kept::Card(card) => Some(*card),
        Kept::TooMany => return Err(PaymentError::TooManyCards.into()),
        Kept::Removed => return Err(PaymentError::CardRemoved.into()),
        Kept::Nothing => None,
    };
    Ok(Begun { setup, card })
}

fn refuse(failure: &StripeFailure) -> Error {
    tracing::warn!(%failure, "A card was not set up: {failure}");
    match failure {
        StripeFailure::Declined(decline, _) => PaymentError::of_decline(decline).into(),
        StripeFailure::NotFound => Error::NotFound("card setup"),
        StripeFailure::Refused(_) => PaymentError::MethodRefused.into(),
        StripeFailure::Unavailable(_) | StripeFailure::NoCustomer => Error::Unavailable("Stripe"),
    }
}
