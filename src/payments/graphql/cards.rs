//! Stored cards in the API.

use async_graphql::{Context, Description, Enum, ID, InputObject, Object};

use crate::entity::stored_card;
use crate::external::stripe::{PaymentState, Setup};
use crate::graphql::caller::{Answer, answer, caller, payload};
use crate::graphql::scalars::DateTime;
use crate::ids::{StoredCardId, TypedId};
use crate::loads;
use crate::payloads;
use crate::payments::cards::{self, Begun, NewCard};

/// Whose card it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "stored_card::CardBrand")]
pub enum CardBrand {
    /// American Express.
    Amex,
    /// Cartes Bancaires.
    CartesBancaires,
    /// Diners Club.
    Diners,
    /// Discover.
    Discover,
    /// Eftpos Australia.
    Eftpos,
    /// JCB.
    Jcb,
    /// Mastercard.
    Mastercard,
    /// UnionPay.
    Unionpay,
    /// Visa.
    Visa,
    /// Another one.
    Other,
}

/// A card that Stripe keeps for the tenant: what people know it by.
#[derive(Description)]
pub struct StoredCard(pub stored_card::Model);

#[Object(use_type_description)]
impl StoredCard {
    /// The card's id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// Whose it is.
    async fn brand(&self) -> CardBrand {
        self.0.brand.into()
    }

    /// The last four digits of its number.
    async fn last4(&self) -> &str {
        &self.0.last4
    }

    /// The last month that it is good for, 1 to 12.
    async fn exp_month(&self) -> i32 {
        self.0.exp_month
    }

    /// The year of that month.
    async fn exp_year(&self) -> i32 {
        self.0.exp_year
    }

    /// Whether it is charged when nobody names a card.
    async fn is_default(&self) -> bool {
        self.0.is_default
    }

    /// Whether its last month is over, in UTC.
    async fn is_expired(&self, ctx: &Context<'_>) -> bool {
        cards::is_expired(&self.0, caller(ctx).app.clock.db_now())
    }

    /// When it was stored.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }
}

/// Where the setup of a card stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum CardSetupStatus {
    /// The page is to give Stripe a card, with `clientSecret`.
    RequiresPaymentMethod,
    /// The bank wants to hear from the buyer: give `clientSecret` to Stripe.js.
    RequiresAction,
    /// On its way.
    Processing,
    /// Done: the card is stored.
    Succeeded,
    /// Given up.
    Cancelled,
}

/// The setup of a card, which Stripe calls a SetupIntent.
#[derive(Description)]
pub struct CardSetup(Setup);

#[Object(use_type_description)]
impl CardSetup {
    /// Stripe's id of it, for `cardSetupConfirm`.
    async fn id(&self) -> &str {
        &self.0.id
    }

    /// For Stripe.js: lets the page give Stripe the card. It is a secret.
    async fn client_secret(&self) -> Option<&str> {
        self.0.client_secret.as_deref()
    }

    /// Where it stands.
    async fn status(&self) -> CardSetupStatus {
        match self.0.state {
            PaymentState::NeedsMethod => CardSetupStatus::RequiresPaymentMethod,
            PaymentState::NeedsAction => CardSetupStatus::RequiresAction,
            PaymentState::Processing => CardSetupStatus::Processing,
            PaymentState::Succeeded => CardSetupStatus::Succeeded,
            PaymentState::Cancelled => CardSetupStatus::Cancelled,
        }
    }
}

/// A card to store.
#[derive(Debug, InputObject)]
pub struct CardSetupBeginInput {
    /// Stripe's id of what the buyer confirmed, `ctoken_…`, as Stripe.js makes it: the setup is
    /// confirmed at once. Without it, the page confirms it with `clientSecret`.
    stripe_confirmation_token_id: Option<String>,
    /// Stripe's id of a card, `pm_…`, in place of the token.
    stripe_payment_method_id: Option<String>,
    /// The page that the buyer comes back to from their bank: https, at most 2 048 characters.
    return_url: Option<String>,
    /// The client's key, 8 to 255 characters: the same key begins one setup.
    idempotency_key: String,
}

payloads! {
    /// The result of `cardSetupBegin` and `cardSetupConfirm`.
    CardSetupPayload {
        /// The setup as it stands.
        setup: CardSetup,
        /// The card; null until the setup has SUCCEEDED.
        card: StoredCard,
    }

    /// The result of `cardDefaultSet` and `cardRemove`.
    StoredCardPayload {
        /// The card as it is now, or was when it was removed.
        card: StoredCard,
    }
}

/// Cards of the caller's tenant.
#[derive(Default)]
pub struct CardQuery;

#[Object]
impl CardQuery {
    /// The tenant's stored cards, the newest first; at most 20. For ADMIN.
    async fn stored_cards(&self, ctx: &Context<'_>) -> Answer<Vec<StoredCard>> {
        let caller = caller(ctx);
        answer(
            ctx,
            Box::pin(async {
                let rows = cards::list(&caller.app, caller.actor()?).await?;
                Ok(rows.into_iter().map(StoredCard).collect::<Vec<_>>())
            }),
        )
        .await
    }
}

/// Storing cards.
#[derive(Default)]
pub struct CardMutation;

#[Object]
impl CardMutation {
    /// Begins to store a card for later purchases. REQUIRES_PAYMENT_METHOD: the page confirms it by
    /// Stripe.js with `clientSecret`, then calls `cardSetupConfirm`. For ADMIN.
    async fn card_setup_begin(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The card.")] input: CardSetupBeginInput,
    ) -> Answer<CardSetupPayload> {
        let caller = caller(ctx);
        let work = Box::pin(async {
            let new = NewCard {
                payment_method_id: input.stripe_payment_method_id,
                confirmation_token_id: input.stripe_confirmation_token_id,
                return_url: input.return_url,
                idempotency_key: input.idempotency_key,
            };
            let begun = Box::pin(cards::begin(&caller.app, caller.actor()?, new)).await?;
            Ok(setup_payload(begun))
        });
        payload(ctx, work, |done| done, CardSetupPayload::refused).await
    }

    /// Looks how a setup stands when the page is done with it, and stores the card. For ADMIN.
    async fn card_setup_confirm(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Stripe's id of the setup.")] setup_intent_id: String,
    ) -> Answer<CardSetupPayload> {
        let caller = caller(ctx);
        let work = Box::pin(async {
            let actor = caller.actor()?;
            let begun = Box::pin(cards::confirm(&caller.app, actor, &setup_intent_id)).await?;
            Ok(setup_payload(begun))
        });
        payload(ctx, work, |done| done, CardSetupPayload::refused).await
    }

    /// Makes a card the one that is charged when nobody names one. For ADMIN.
    async fn card_default_set(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The card's id.")] id: ID,
    ) -> Answer<StoredCardPayload> {
        let caller = caller(ctx);
        let work = Box::pin(async {
            let id = StoredCardId::parse(&id)?;
            cards::set_default(&caller.app, caller.actor()?, id).await
        });
        payload(ctx, work, card_payload, StoredCardPayload::refused).await
    }

    /// Removes a card, here and at Stripe. If it was the default, the newest of the others is. One
    /// that was removed is answered as it was. For ADMIN.
    async fn card_remove(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The card's id.")] id: ID,
    ) -> Answer<StoredCardPayload> {
        let caller = caller(ctx);
        let work = Box::pin(async {
            let id = StoredCardId::parse(&id)?;
            cards::remove(&caller.app, caller.actor()?, id).await
        });
        payload(ctx, work, card_payload, StoredCardPayload::refused).await
    }
}

fn setup_payload(begun: Begun) -> CardSetupPayload {
    CardSetupPayload {
        setup: Some(CardSetup(begun.setup)),
        card: begun.card.map(StoredCard),
        user_errors: Vec::new(),
    }
}

fn card_payload(card: stored_card::Model) -> StoredCardPayload {
    StoredCardPayload { card: Some(StoredCard(card)), user_errors: Vec::new() }
}

loads! { StoredCardId => stored_card::Model, cards::rows_of; }
