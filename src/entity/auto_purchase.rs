use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::ids::{AccountId, TenantId, UserId};
use crate::text_enum;

/// What an ADMIN decided about automatic purchase, beside what the account holds of it, and how it
/// goes. It is written under the account's lock.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "auto_purchases")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub account_id: AccountId,
    pub tenant_id: TenantId,
    /// Who decided last: the buyer of what is bought.
    pub user_id: UserId,
    /// Yen, tax included, within a month of the tenant's zone.
    pub monthly_cap: i64,
    /// Failures of one card, one after the other.
    pub failures: i32,
    /// The card that failed last, by its fingerprint.
    pub failed_card: Option<String>,
    /// When it failed last.
    pub failed_at: Option<DateTime<Utc>>,
    /// Since when nothing is bought, until another card is the default.
    pub suspended_at: Option<DateTime<Utc>>,
    /// Why the last purchase was not made. None: it was, or nothing stood in its way.
    pub blocked_reason: Option<AutoPurchaseReason>,
    /// Since when.
    pub blocked_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

text_enum! {
    /// Why an automatic purchase was not made.
    AutoPurchaseReason {
        /// The tenant has no default card.
        NoCard = "NO_CARD",
        /// No package of the plan is on sale.
        NoPackage = "NO_PACKAGE",
        /// The account would hold more credits than it may.
        BalanceFull = "BALANCE_FULL",
        /// It would pass the month's cap.
        MonthlyCap = "MONTHLY_CAP",
        /// The last attempt failed less than an hour ago.
        Paused = "PAUSED",
        /// Two attempts were made within ten minutes.
        TooManyAttempts = "TOO_MANY_ATTEMPTS",
        /// The card failed three times.
        Suspended = "SUSPENDED",
        /// The account is closed.
        AccountClosed = "ACCOUNT_CLOSED",
        /// The bank declined the card and says no more.
        CardDeclined = "CARD_DECLINED",
        /// The card does not cover the amount.
        InsufficientFunds = "INSUFFICIENT_FUNDS",
        /// The card has expired.
        ExpiredCard = "EXPIRED_CARD",
        /// The card's number, date or security code is wrong.
        IncorrectCard = "INCORRECT_CARD",
        /// The bank wants to hear from the card's owner.
        AuthenticationRequired = "AUTHENTICATION_REQUIRED",
        /// The bank could not handle it.
        ProcessingError = "PROCESSING_ERROR",
        /// Stripe does not take the card.
        PaymentRefused = "PAYMENT_REFUSED",
        /// The payment never reached Stripe.
        NotStarted = "NOT_STARTED",
        /// The payment was given up.
        Cancelled = "CANCELLED",
    }
}
