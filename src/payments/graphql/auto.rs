//! Automatic purchase in the API: the settings, how it goes, and changing it.

use async_graphql::{Context, Description, Enum, InputObject, Object, Result};

use crate::entity::credit_account;
use crate::entity::{auto_purchase, auto_purchase_attempt};
use crate::graphql::caller::{Answer, caller, payload};
use crate::graphql::loader::load;
use crate::graphql::payload::int;
use crate::graphql::scalars::{DateTime, Money};
use crate::money;
use crate::payloads;
use crate::payments::auto::settings::{self, State, Wish};
use crate::payments::graphql::CreditPurchase;

/// The settings of automatic purchase.
#[derive(Description)]
pub struct AutoPurchase(pub credit_account::Model);

#[Object(use_type_description)]
impl AutoPurchase {
    /// Whether credits are bought when they run low.
    async fn enabled(&self) -> bool {
        self.0.auto_purchase_enabled
    }

    /// A charge that leaves no more than so many credits, those on hold included, starts one.
    async fn threshold(&self) -> i32 {
        int(self.0.auto_purchase_threshold)
    }

    /// Credits to buy at once: the smallest package with as many, else the largest.
    async fn purchase_amount(&self) -> i32 {
        int(self.0.auto_purchase_amount)
    }

    /// How it goes. For ADMIN.
    async fn state(&self, ctx: &Context<'_>) -> Result<AutoPurchaseState> {
        let caller = caller(ctx);
        let state = settings::state(&caller.app, caller.actor()?, &self.0).await?;
        Ok(AutoPurchaseState(state))
    }
}

/// How automatic purchase goes.
#[derive(Description)]
pub struct AutoPurchaseState(State);

#[Object(use_type_description)]
impl AutoPurchaseState {
    /// What a month may cost in the tenant's zone, tax included; null until it was set.
    async fn monthly_cap(&self) -> Option<Money> {
        self.0.monthly_cap.map(yen)
    }

    /// What this month's attempts cost: those that were paid, or may still be.
    async fn spent_this_month(&self) -> Money {
        yen(self.0.spent)
    }

    /// Whether nothing is bought until another card is the default: the last one failed three
    /// times.
    async fn is_suspended(&self) -> bool {
        self.0.is_suspended
    }

    /// Why the last purchase was not made; null when it was, or none was wanted.
    async fn blocked_reason(&self) -> Option<AutoPurchaseReason> {
        self.0.blocked.map(|(reason, _)| reason.into())
    }

    /// Since when.
    async fn blocked_at(&self) -> Option<DateTime> {
        self.0.blocked.map(|(_, at)| DateTime(at))
    }

    /// No attempt is made before, as one has failed; null when no time is waited for.
    async fn next_attempt_at(&self) -> Option<DateTime> {
        self.0.next_attempt_at.map(DateTime)
    }

    /// The last attempt; null before the first.
    async fn last_attempt(&self) -> Option<AutoPurchaseAttempt> {
        self.0.last_attempt.clone().map(AutoPurchaseAttempt)
    }
}

/// A purchase that was tried without anybody asking.
#[derive(Description)]
pub struct AutoPurchaseAttempt(auto_purchase_attempt::Model);

#[Object(use_type_description)]
impl AutoPurchaseAttempt {
    /// What started it.
    async fn cause(&self) -> AutoPurchaseCause {
        self.0.cause.into()
    }

    /// Credits then, those on hold included.
    async fn balance_before(&self) -> i32 {
        int(self.0.balance_before)
    }

    /// Credits on hold then.
    async fn held_before(&self) -> i32 {
        int(self.0.held_before)
    }

    /// The threshold then.
    async fn threshold(&self) -> i32 {
        int(self.0.threshold)
    }

    /// Credits that the call wanted; 0 after a charge.
    async fn needed(&self) -> i32 {
        int(self.0.needed)
    }

    /// Where it stands.
    async fn status(&self) -> AutoPurchaseStatus {
        self.0.state.into()
    }

    /// Why it failed; null when it did not.
    async fn reason(&self) -> Option<AutoPurchaseReason> {
        self.0.reason.map(AutoPurchaseReason::from)
    }

    /// The purchase.
    async fn purchase(&self, ctx: &Context<'_>) -> Result<Option<CreditPurchase>> {
        Ok(load(ctx, self.0.purchase_id).await?.map(CreditPurchase))
    }

    /// When it began.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// When it ended; null while it is under way.
    async fn ended_at(&self) -> Option<DateTime> {
        self.0.ended_at.map(DateTime)
    }
}

/// What started an automatic purchase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "auto_purchase_attempt::AutoPurchaseCause")]
pub enum AutoPurchaseCause {
    /// A charge left no more credits than the threshold.
    Charge,
    /// A call wanted more credits than there were.
    Reserve,
}

/// Where an attempt of automatic purchase stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "auto_purchase_attempt::AttemptState")]
pub enum AutoPurchaseStatus {
    /// It is under way.
    Open,
    /// The credits are there.
    Succeeded,
    /// It was not paid.
    Failed,
}

/// Why an automatic purchase was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "auto_purchase::AutoPurchaseReason")]
pub enum AutoPurchaseReason {
    /// The tenant has no default card.
    NoCard,
    /// No package of the plan is on sale.
    NoPackage,
    /// The account would hold more credits than it may.
    BalanceFull,
    /// It would pass the month's cap.
    MonthlyCap,
    /// The last attempt failed less than an hour ago.
    Paused,
    /// Two attempts were made within ten minutes.
    TooManyAttempts,
    /// The card failed three times.
    Suspended,
    /// The account is closed.
    AccountClosed,
    /// The bank declined the card and says no more.
    CardDeclined,
    /// The card does not cover the amount.
    InsufficientFunds,
    /// The card has expired.
    ExpiredCard,
    /// The card's number, date or security code is wrong.
    IncorrectCard,
    /// The bank wants to hear from the card's owner.
    AuthenticationRequired,
    /// The bank could not handle it.
    ProcessingError,
    /// Stripe does not take the card.
    PaymentRefused,
    /// The payment never reached Stripe; nothing was charged.
    NotStarted,
    /// The payment was given up.
    Cancelled,
}

/// What to change about automatic purchase. What is absent stays.
#[derive(Debug, InputObject)]
pub struct CreditAutoPurchaseUpdateInput {
    /// Whether credits are bought when they run low. It takes a default card, a package on sale and
    /// a monthly cap.
    enabled: Option<bool>,
    /// Credits: a charge that leaves no more starts a purchase.
    threshold: Option<i32>,
    /// Credits to buy at once, more than the threshold: the smallest package with as many, else the
    /// largest.
    amount: Option<i32>,
    /// What a month may cost in the tenant's zone, in yen, tax included: at least one purchase.
    monthly_cap_yen: Option<i32>,
}

payloads! {
    /// The result of `creditAutoPurchaseUpdate`.
    CreditAutoPurchasePayload {
        /// The settings as they are now.
        auto_purchase: AutoPurchase,
    }
}

/// Deciding about automatic purchase.
#[derive(Default)]
pub struct AutoPurchaseMutation;

#[Object]
impl AutoPurchaseMutation {
    /// Changes automatic purchase, which is off until it is switched on here. Doing so twice
    /// changes nothing. A suspension ends with the default card, not here. For ADMIN.
    async fn credit_auto_purchase_update(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to change.")] input: CreditAutoPurchaseUpdateInput,
    ) -> Answer<CreditAutoPurchasePayload> {
        let caller = caller(ctx);
        let wish = Wish {
            enabled: input.enabled,
            threshold: input.threshold.map(i64::from),
            amount: input.amount.map(i64::from),
            monthly_cap: input.monthly_cap_yen.map(i64::from),
        };
        let work = Box::pin(async { settings::update(&caller.app, caller.actor()?, wish).await });
        let done = |account| CreditAutoPurchasePayload {
            auto_purchase: Some(AutoPurchase(account)),
            user_errors: Vec::new(),
        };
        payload(ctx, work, done, CreditAutoPurchasePayload::refused).await
    }
}

fn yen(minor: i64) -> Money {
    Money(money::Money::yen(minor))
}
