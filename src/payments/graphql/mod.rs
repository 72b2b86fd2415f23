//! Payments in the API: what can be asked, bought and watched here, the rest in the files beside.

pub mod auto;
pub mod cards;
pub mod invoices;
pub mod list;
pub mod purchase;
mod receipts;
pub mod refunds;

use async_graphql::{Context, ID, InputObject, Object, Result, Subscription};
use futures_util::{Stream, StreamExt};

use crate::credits::graphql::CreditBalance;
use crate::credits::graphql::account::CreditRunway;
use crate::credits::reports::runway;
use crate::credits::service::account as accounts;
use crate::credits::watch::Balance;
use crate::entity::credit_purchase;
use crate::error::{Error, Lang};
use crate::graphql::caller::{Answer, Caller, answer, caller, payload};
use crate::graphql::page::{Connection, List, Order, OrderDirection, PageArgs};
use crate::graphql::payload::{UserError, user_errors};
use crate::ids::{PackageId, PurchaseId, StoredCardId, TypedId};
use crate::payloads;
use crate::payments::invoices::cancel;
use crate::payments::service::{buy, lookup, watch};
use list::{CreditPurchaseOrderField, CreditPurchaseWhere};
use purchase::{CreditPurchaseQuote, PaymentMethodKind, PurchaseSource};

pub use cards::{CardMutation, CardQuery, StoredCard};
pub use purchase::CreditPurchase;
pub use receipts::{CreditPurchaseReceipt, ReceiptQuery};

/// A package to buy.
#[derive(Debug, InputObject)]
pub struct CreditPurchaseInput {
    /// The package; its price is the one of our catalogue.
    package_id: ID,
    /// How it is paid.
    payment_method: PaymentMethodKind,
    /// Stripe's id of a card, `pm_…`, as Stripe.js makes it. With STRIPE, give this or
    /// `stripeConfirmationTokenId`.
    stripe_payment_method_id: Option<String>,
    /// Stripe's id of what the buyer confirmed, `ctoken_…`, as Stripe.js makes it.
    stripe_confirmation_token_id: Option<String>,
    /// The stored card to charge, with STORED_CARD.
    stored_card_id: Option<ID>,
    /// The page that the buyer comes back to from their bank: https, at most 2 048 characters.
    return_url: Option<String>,
    /// With INVOICE: the e-mail address that the invoice is sent to.
    invoice_email: Option<String>,
    /// Whether Stripe keeps the card for later.
    #[graphql(default)]
    save_card: bool,
    /// Where it was begun.
    #[graphql(default_with = "PurchaseSource::Dashboard")]
    source: PurchaseSource,
    /// The client's key, 8 to 255 characters: the same key buys once.
    idempotency_key: String,
}

payloads! {
    /// The result of `creditPurchase` and `creditPurchaseConfirm`. A payment that failed is
    /// answered with its purchase and the reason.
    CreditPurchasePayload {
        /// The purchase as it stands.
        purchase: CreditPurchase,
        /// The balance after it.
        balance: CreditBalance,
        /// How long the credits will last now.
        runway: CreditRunway,
    }

    /// The result of `creditPurchaseCancel`.
    CreditPurchaseCancelPayload {
        /// The purchase as it stands: CANCELLED, or COMPLETED when it was paid meanwhile. PENDING
        /// and OVERDUE: Stripe did not answer, and is asked again until it does.
        purchase: CreditPurchase,
    }
}

/// Purchases of the caller's tenant.
#[derive(Default)]
pub struct PaymentQuery;

#[Object]
impl PaymentQuery {
    /// What a package would cost today, and how long the credits would last with it. Nothing is
    /// bought. For ADMIN.
    async fn credit_purchase_quote(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The package's id.")] package_id: ID,
    ) -> Answer<CreditPurchaseQuote> {
        let caller = caller(ctx);
        answer(
            ctx,
            Box::pin(async {
                let actor = caller.actor()?;
                let package = PackageId::parse(&package_id)?;
                Ok(CreditPurchaseQuote(lookup::quote(&caller.app, actor, package).await?))
            }),
        )
        .await
    }

    /// A purchase of the tenant. For ADMIN.
    async fn credit_purchase(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The purchase's id.")] id: ID,
    ) -> Answer<CreditPurchase> {
        let caller = caller(ctx);
        answer(
            ctx,
            Box::pin(async {
                let actor = caller.actor()?;
                let id = PurchaseId::parse(&id)?;
                Ok(CreditPurchase(lookup::get(&caller.app, actor, id).await?))
            }),
        )
        .await
    }

    /// Purchases of the tenant, newest first unless they are sorted otherwise. For ADMIN.
    #[expect(clippy::too_many_arguments, reason = "a paged list with filter and order has so many")]
    async fn credit_purchases(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "So many from the front, 1 to 100.")] first: Option<i32>,
        #[graphql(desc = "Only what follows this cursor.")] after: Option<String>,
        #[graphql(desc = "So many from the back, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only what precedes this cursor.")] before: Option<String>,
        #[graphql(name = "where", desc = "Only purchases that this lets through.")] filter: Option<
            CreditPurchaseWhere,
        >,
        #[graphql(desc = "How to sort; the newest first when absent.")] order_by: Option<
            Vec<Order<CreditPurchaseOrderField>>,
        >,
    ) -> Answer<Connection<CreditPurchase>> {
        let caller = caller(ctx);
        answer(
            ctx,
            Box::pin(async {
                let select = lookup::visible(caller.actor()?)?;
                let order = [(CreditPurchaseOrderField::CreatedAt, OrderDirection::Desc)];
                let list = List::new(caller.app.db.primary(), select, &order);
                let list = list.filter(filter).order(order_by);
                let page = list.page(PageArgs { first, after, last, before }).await?;
                Ok(page.map(CreditPurchase))
            }),
        )
        .await
    }
}

/// Buying credits.
#[derive(Default)]
pub struct PaymentMutation;

#[Object]
impl PaymentMutation {
    /// Buys a package with a card or by invoice. COMPLETED: the credits are there. REQUIRES_ACTION:
    /// give `clientSecret` to Stripe.js, with STORED_CARD also `stripePaymentMethodId`, then call
    /// `creditPurchaseConfirm`. PENDING: the answer is on its way, or the invoice waits for its
    /// payment; follow `creditPurchaseChanged`, or send the same key again. A tenant has 5 unpaid
    /// invoices at most. For ADMIN.
    async fn credit_purchase(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The purchase.")] input: CreditPurchaseInput,
    ) -> Answer<CreditPurchasePayload> {
        let caller = caller(ctx);
        let work = Box::pin(async {
            let actor = caller.actor()?;
            let row = Box::pin(buy::buy(&caller.app, actor, wish(input)?)).await?;
            with_balance(caller, row).await
        });
        payload(ctx, work, |done| done, CreditPurchasePayload::refused).await
    }

    /// Gives a purchase by invoice up that is not paid: the invoice is void. For ADMIN.
    async fn credit_purchase_cancel(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The purchase's id.")] id: ID,
    ) -> Answer<CreditPurchaseCancelPayload> {
        let caller = caller(ctx);
        let work = Box::pin(async {
            let id = PurchaseId::parse(&id)?;
            let row = Box::pin(cancel::cancel(&caller.app, caller.actor()?, id)).await?;
            let purchase = Some(CreditPurchase(row));
            Ok(CreditPurchaseCancelPayload { purchase, ..CreditPurchaseCancelPayload::default() })
        });
        payload(ctx, work, |done| done, CreditPurchaseCancelPayload::refused).await
    }

    /// Looks how a purchase stands when the buyer has come back from their bank. One that has ended
    /// is answered as it is. For ADMIN.
    async fn credit_purchase_confirm(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The purchase's id.")] id: ID,
    ) -> Answer<CreditPurchasePayload> {
        let caller = caller(ctx);
        let work = Box::pin(async {
            let actor = caller.actor()?;
            let id = PurchaseId::parse(&id)?;
            let row = Box::pin(lookup::confirm(&caller.app, actor, id)).await?;
            with_balance(caller, row).await
        });
        payload(ctx, work, |done| done, CreditPurchasePayload::refused).await
    }
}

/// Purchases, live.
#[derive(Default)]
pub struct PaymentSubscription;

#[Subscription]
impl PaymentSubscription {
    /// A purchase as it is, then after each change, with rising versions. For ADMIN.
    async fn credit_purchase_changed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The purchase's id.")] id: ID,
    ) -> Result<impl Stream<Item = Result<CreditPurchase>> + use<>> {
        let caller = caller(ctx).clone();
        let actor = caller.actor()?;
        let id = PurchaseId::parse(&id)?;
        // In a box, as the library keeps room for this beside the stream for as long as it lives.
        let changes = Box::pin(watch::follow(&caller.app, actor, id)).await?;
        Ok(changes.map(|row| Ok(CreditPurchase(row?))))
    }
}

fn wish(input: CreditPurchaseInput) -> crate::error::Result<buy::Wish> {
    let stored_card = input.stored_card_id.map(|id| StoredCardId::parse(&id)).transpose()?;
    Ok(buy::Wish {
        package: PackageId::parse(&input.package_id)?,
        method: input.payment_method.into(),
        payment_method_id: input.stripe_payment_method_id,
        confirmation_token_id: input.stripe_confirmation_token_id,
        stored_card,
        return_url: input.return_url,
        invoice_email: input.invoice_email,
        saves_card: input.save_card,
        source: input.source.into(),
        idempotency_key: input.idempotency_key,
    })
}

/// The purchase, why it failed if it did, and the account as it is now.
async fn with_balance(
    caller: &Caller,
    row: credit_purchase::Model,
) -> crate::error::Result<CreditPurchasePayload> {
    let account = accounts::of_tenant(&caller.app, row.tenant_id).await?;
    let runway = runway::of(&caller.app, &account).await?;
    Ok(CreditPurchasePayload {
        user_errors: reasons(&row, caller.lang),
        purchase: Some(CreditPurchase(row)),
        balance: Some(CreditBalance::of(Balance::of(&account))),
        runway: Some(CreditRunway(runway)),
    })
}

fn reasons(row: &credit_purchase::Model, lang: Lang) -> Vec<UserError> {
    let refusal = lookup::refusal(row).map(Error::from);
    refusal.and_then(|refusal| user_errors(&refusal, lang)).unwrap_or_default()
}
