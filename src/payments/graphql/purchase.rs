//! A purchase in the API, and what one would cost.

use std::collections::HashMap;

use async_graphql::dataloader::Loader;
use async_graphql::{Context, Description, Enum, ID, Object, Result, SimpleObject};

use crate::credits::graphql::account::CreditRunway;
use crate::credits::graphql::{CreditPackage, CreditTransaction};
use crate::entity::{credit_purchase, credit_transaction};
use crate::error::Error;
use crate::graphql::caller::caller;
use crate::graphql::loader::{LoadError, Source, load};
use crate::graphql::payload::int;
use crate::graphql::scalars::{DateTime, Decimal, Money};
use crate::identity::graphql::{User, load_user};
use crate::ids::PurchaseId;
use crate::loads;
use crate::money;
use crate::payments::error::explain;
use crate::payments::graphql::invoices::{CreditInvoice, DisputeOf, InvoiceOf, PaymentDispute};
use crate::payments::graphql::refunds::{CreditPurchaseRefund, RefundsOf};
use crate::payments::service::lookup::{self, Quote};

/// How a purchase is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "credit_purchase::PaymentMethodKind")]
pub enum PaymentMethodKind {
    /// A card that the buyer has just given to Stripe on their page.
    Stripe,
    /// A card that Stripe keeps for the tenant.
    StoredCard,
    /// An invoice that Stripe sends to `invoiceEmail`, for companies; the credits come when it is
    /// paid.
    Invoice,
}

/// Where a purchase was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "credit_purchase::PurchaseSource")]
pub enum PurchaseSource {
    /// On the dashboard.
    Dashboard,
    /// On a hint that the balance is low.
    LowBalancePrompt,
    /// By automatic purchase; nobody can ask for it.
    AutoPurchase,
}

/// Where a purchase stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "credit_purchase::PaymentStatus")]
pub enum PaymentStatus {
    /// The payment is on its way, or its answer was lost; we go on asking.
    Pending,
    /// The buyer's bank wants to hear from them: see `clientSecret`.
    RequiresAction,
    /// Paid, and the credits are there.
    Completed,
    /// Not paid: see `failureCode`.
    Failed,
    /// Given up before it was paid.
    Cancelled,
    /// Its invoice was not paid in time. It still may be: then the credits come.
    Overdue,
    /// Paid once, and all of the money went back, or is on its way: see `refunds`.
    Refunded,
    /// Paid once, and the payer's bank took the money back, or may: see `dispute`.
    Disputed,
}

/// Why a payment failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "credit_purchase::FailureCode")]
pub enum PaymentFailureCode {
    /// The bank declined the card and says no more.
    CardDeclined,
    /// The card does not cover the amount.
    InsufficientFunds,
    /// The card has expired.
    ExpiredCard,
    /// The card's number, date or security code is wrong.
    IncorrectCard,
    /// The buyer was not authenticated by their bank.
    AuthenticationFailed,
    /// The bank could not handle it; trying again may help.
    ProcessingError,
    /// Stripe does not take the payment method: it was used before, or is unknown.
    PaymentRefused,
    /// The payment never reached Stripe; nothing was charged.
    NotStarted,
}

/// What kind of discount it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum DiscountType {
    /// The package's own.
    Package,
}

/// What was taken off a price.
#[derive(Clone, Copy, SimpleObject)]
pub struct Discount {
    /// What kind of discount it is.
    #[graphql(name = "type")]
    kind: DiscountType,
    /// What it takes off.
    amount: Money,
    /// The same in percent of the price without it.
    percentage: Decimal,
}

impl Discount {
    fn of(amount: i64, rate: i64) -> Option<Self> {
        (amount > 0).then(|| Self {
            kind: DiscountType::Package,
            amount: yen(amount),
            percentage: percent(rate),
        })
    }
}

/// What a package would cost today.
#[derive(Description)]
pub struct CreditPurchaseQuote(pub Quote);

#[Object(use_type_description)]
impl CreditPurchaseQuote {
    /// The package.
    async fn package(&self) -> CreditPackage {
        CreditPackage(self.0.package.clone())
    }

    /// The price without the discount, tax included.
    async fn subtotal(&self) -> Money {
        yen(self.0.price.subtotal)
    }

    /// What is taken off; null when nothing is.
    async fn discount(&self) -> Option<Discount> {
        Discount::of(self.0.price.discount, self.0.price.discount_rate)
    }

    /// The tax in the total, rounded down once.
    async fn tax(&self) -> Money {
        yen(self.0.price.tax)
    }

    /// The tax rate in percent.
    async fn tax_rate(&self) -> Decimal {
        percent(self.0.price.tax_rate)
    }

    /// What would be paid, tax included.
    async fn total(&self) -> Money {
        yen(self.0.price.total)
    }

    /// How long the credits would last with it.
    async fn runway_after(&self) -> CreditRunway {
        CreditRunway(self.0.runway.clone())
    }
}

/// Credits that are being bought, or were.
#[derive(Description)]
pub struct CreditPurchase(pub credit_purchase::Model);

#[Object(use_type_description)]
impl CreditPurchase {
    /// The purchase's id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The package as it is now; credits and price are those of the purchase.
    async fn package(&self, ctx: &Context<'_>) -> Result<CreditPackage> {
        let package = load(ctx, self.0.package_id).await?;
        Ok(CreditPackage(package.ok_or(Error::NotFound("package"))?))
    }

    /// Credits that are bought.
    async fn credits(&self) -> i32 {
        int(self.0.credits)
    }

    /// What is paid, tax included.
    async fn price(&self) -> Money {
        yen(self.0.amount)
    }

    /// What went back of the price, or is on its way: see `refunds`.
    async fn refunded(&self) -> Money {
        yen(self.0.refunded)
    }

    /// The tax in the price.
    async fn tax(&self) -> Money {
        yen(self.0.tax)
    }

    /// The tax rate in percent.
    async fn tax_rate(&self) -> Decimal {
        percent(self.0.tax_rate)
    }

    /// What was taken off; null when nothing was.
    async fn discount(&self) -> Option<Discount> {
        Discount::of(self.0.discount, self.0.discount_rate)
    }

    /// How it is paid.
    async fn payment_method(&self) -> PaymentMethodKind {
        self.0.method.into()
    }

    /// Where it was begun.
    async fn source(&self) -> PurchaseSource {
        self.0.source.into()
    }

    /// Where it stands.
    async fn status(&self) -> PaymentStatus {
        self.0.status.into()
    }

    /// The line of the ledger; null until it is COMPLETED.
    async fn transaction(&self, ctx: &Context<'_>) -> Result<Option<CreditTransaction>> {
        if self.0.grant_id.is_none() {
            return Ok(None);
        }
        Ok(load(ctx, LineOf(self.0.id)).await?.map(CreditTransaction))
    }

    /// Stripe's id of the payment; null until Stripe has answered.
    async fn payment_intent_id(&self) -> Option<&str> {
        self.0.payment_intent_id.as_deref()
    }

    /// Stripe's id of the card that is charged, for Stripe.js; null when Stripe was given a
    /// confirmation token.
    async fn stripe_payment_method_id(&self) -> Option<&str> {
        self.0.payment_method_id.as_deref()
    }

    /// With REQUIRES_ACTION, for Stripe.js: lets the buyer answer their bank. It is a secret.
    fn client_secret(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        Ok(lookup::client_secret(&caller(ctx).app, &self.0)?)
    }

    /// Why it failed, for programs.
    async fn failure_code(&self) -> Option<PaymentFailureCode> {
        self.0.failure_code.map(PaymentFailureCode::from)
    }

    /// Why it failed, in the caller's language.
    async fn error_message(&self, ctx: &Context<'_>) -> Option<String> {
        self.0.failure_code.map(|code| explain(code, caller(ctx).lang))
    }

    /// The invoice that asks for the price; null while Stripe has none, and with a card.
    async fn invoice(&self, ctx: &Context<'_>) -> Result<Option<CreditInvoice>> {
        if self.0.method != credit_purchase::PaymentMethodKind::Invoice {
            return Ok(None);
        }
        Ok(load(ctx, InvoiceOf(self.0.id)).await?.map(CreditInvoice))
    }

    /// The last dispute of its payment; null when nobody disputes it.
    async fn dispute(&self, ctx: &Context<'_>) -> Result<Option<PaymentDispute>> {
        if self.0.grant_id.is_none() {
            return Ok(None);
        }
        Ok(load(ctx, DisputeOf(self.0.id)).await?.map(PaymentDispute))
    }

    /// What goes back of the price, or was to, oldest first; the first 100.
    async fn refunds(&self, ctx: &Context<'_>) -> Result<Vec<CreditPurchaseRefund>> {
        if self.0.grant_id.is_none() {
            return Ok(Vec::new());
        }
        let found = load(ctx, RefundsOf(self.0.id)).await?.unwrap_or_default();
        Ok(found.into_iter().map(CreditPurchaseRefund).collect())
    }

    /// Who bought; null when they are no longer there.
    async fn user(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        load_user(ctx, self.0.user_id).await
    }

    /// Rises with every change.
    async fn version(&self) -> i32 {
        int(self.0.version)
    }

    /// When it was begun.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// When it was paid and the credits came.
    async fn completed_at(&self) -> Option<DateTime> {
        self.0.completed_at.map(DateTime)
    }
}

pub(super) fn yen(minor: i64) -> Money {
    Money(money::Money::yen(minor))
}

fn percent(hundredths: i64) -> Decimal {
    Decimal(rust_decimal::Decimal::new(hundredths, 2).normalize())
}

/// Key of the ledger line of a purchase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LineOf(PurchaseId);

impl Loader<LineOf> for Source {
    type Value = credit_transaction::Model;
    type Error = LoadError;

    async fn load(
        &self,
        keys: &[LineOf],
    ) -> std::result::Result<HashMap<LineOf, Self::Value>, LoadError> {
        let ids: Vec<PurchaseId> = keys.iter().map(|key| key.0).collect();
        let rows = lookup::lines_of(&self.app, self.actor()?, &ids).await?;
        let keyed = rows.into_iter().filter_map(|row| {
            let purchase = PurchaseId(row.reference_id?);
            Some((LineOf(purchase), row))
        });
        Ok(keyed.collect())
    }
}

loads! { PurchaseId => credit_purchase::Model, lookup::rows_of; }
