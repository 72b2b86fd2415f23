use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::crypto::Sealed;
use crate::ids::{AccountId, GrantId, PackageId, PurchaseId, TenantId, UserId};
use crate::text_enum;

/// Credits that are being bought, or were, with the package's price as it was then.
/// UNIQUE: payment intent, grant. CHECKs: COMPLETED has a grant; amounts are not negative.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "credit_purchases")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: PurchaseId,
    pub tenant_id: TenantId,
    pub account_id: AccountId,
    /// Who bought.
    pub user_id: UserId,
    pub package_id: PackageId,
    pub package_version: i32,
    pub credits: i64,
    /// ISO 4217.
    pub currency: String,
    /// What is paid, in minor units, tax included.
    pub amount: i64,
    /// The tax in the amount.
    pub tax: i64,
    /// Hundredths of a percent.
    pub tax_rate: i64,
    /// What the discount took off; the amount is without it.
    pub discount: i64,
    /// Hundredths of a percent.
    pub discount_rate: i64,
    pub method: PaymentMethodKind,
    pub source: PurchaseSource,
    pub status: PaymentStatus,
    /// Stripe's id of the card that is charged.
    pub payment_method_id: Option<String>,
    /// Stripe's id of what the buyer confirmed.
    pub confirmation_token_id: Option<String>,
    /// Where the buyer comes back to from their bank.
    pub return_url: Option<String>,
    /// Whether the card is kept for later.
    pub save_card: bool,
    /// The customer that Stripe was asked for.
    pub customer_id: Option<String>,
    /// Counts the customers; Stripe did not have the first when it is the second.
    pub customer_number: i32,
    /// Unique: Stripe's id of the payment.
    pub payment_intent_id: Option<String>,
    /// Lets the buyer's page finish the payment.
    pub client_secret: Option<Sealed>,
    /// Why it failed.
    pub failure_code: Option<FailureCode>,
    /// Unique: the credits that it brought.
    pub grant_id: Option<GrantId>,
    /// What went back of the amount.
    pub refunded: i64,
    /// Rises with every change.
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    /// When Stripe was asked last.
    pub checked_at: DateTime<Utc>,
    pub completed_at: Option<DateTime<Utc>>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// The rows of a tenant.
    pub fn of_tenant(tenant: TenantId) -> Select<Self> {
        Self::find().filter(Column::TenantId.eq(tenant))
    }

    /// A row, if it is this tenant's.
    pub fn find_for(tenant: TenantId, id: PurchaseId) -> Select<Self> {
        Self::of_tenant(tenant).filter(Column::Id.eq(id))
    }
}

text_enum! {
    /// How a purchase is paid.
    PaymentMethodKind {
        /// A card that the buyer has just entered on their page.
        Stripe = "STRIPE",
        /// A card that Stripe keeps for the tenant.
        StoredCard = "STORED_CARD",
        /// An invoice that Stripe sends, for companies.
        Invoice = "INVOICE",
    }
}

text_enum! {
    /// Where a purchase was begun.
    PurchaseSource {
        /// On the dashboard.
        Dashboard = "DASHBOARD",
        /// On a hint that the balance is low.
        LowBalancePrompt = "LOW_BALANCE_PROMPT",
        /// By automatic purchase.
        AutoPurchase = "AUTO_PURCHASE",
    }
}

text_enum! {
    /// Where a purchase stands.
    PaymentStatus {
        /// The payment is on its way, or its answer was lost.
        Pending = "PENDING",
        /// The buyer's bank wants to hear from them.
        RequiresAction = "REQUIRES_ACTION",
        /// Paid, and the credits are there.
        Completed = "COMPLETED",
        /// Not paid.
        Failed = "FAILED",
        /// Given up before it was paid.
        Cancelled = "CANCELLED",
        /// Its invoice was not paid in time; it still may be.
        Overdue = "OVERDUE",
        /// Paid once, and all of the money went back.
        Refunded = "REFUNDED",
        /// Paid once, and the payer's bank took the money back, or may.
        Disputed = "DISPUTED",
    }
}

text_enum! {
    /// Why a payment failed.
    FailureCode {
        /// The bank declined the card and says no more.
        CardDeclined = "CARD_DECLINED",
        /// The card does not cover the amount.
        InsufficientFunds = "INSUFFICIENT_FUNDS",
        /// The card has expired.
        ExpiredCard = "EXPIRED_CARD",
        /// The number, the date or the security code is wrong.
        IncorrectCard = "INCORRECT_CARD",
        /// The buyer was not authenticated.
        AuthenticationFailed = "AUTHENTICATION_FAILED",
        /// The bank could not handle it; trying again may help.
        ProcessingError = "PROCESSING_ERROR",
        /// Stripe does not take what was sent: a card that was used up, an id that is unknown.
        PaymentRefused = "PAYMENT_REFUSED",
        /// It never reached Stripe.
        NotStarted = "NOT_STARTED",
    }
}
