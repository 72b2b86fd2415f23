//! Stripe, which takes money: the interface, the real one and the sandbox.
//!
//! Requests are async-stripe's types, so that their names and enums are Stripe's own; they travel
//! by our HTTP client with our durable keys, and of an answer only what we use is read, so that a
//! new value in a field that we do not know is no fault. No card number ever comes here: pages give
//! it to Stripe and us an id.

mod amount;
mod cards;
mod client;
mod invoices;
mod news;
mod prices;
mod refunds;
mod sandbox;
mod signature;
mod subscriptions;

use futures_util::future::BoxFuture;

pub use amount::{from_stripe, to_stripe};
pub use cards::{Card, NewSetup, Setup, read_card, read_setup};
pub use client::{InvalidStripe, StripeClient, StripeOptions};
pub use invoices::{Addressee, Invoice, InvoiceState, Invoicing, NewInvoice, Turn, read_invoice};
pub use news::{Dispute, EventList, EventPage, News, TYPES_MAX, read_dispute};
pub use refunds::{NewRefund, REFUND, Refund, RefundState, Refunding, read_refund};
pub use sandbox::SandboxPayments;
pub use signature::{SignatureFault, verify};
pub use subscriptions::{
    NewSubscription, PAID_PLAN, PAID_UNTIL, Preview, Price, Rate, SUBSCRIPTION, Step, Subscription,
    SubscriptionState, Subscriptions, read_subscription,
};

use chrono::{DateTime, Utc};
use serde_json::Value as Json;

/// What a payment of ours carries at Stripe, by which it is known again.
pub const PURCHASE: &str = "musubi_purchase";
/// The account that a payment is for.
pub const ACCOUNT: &str = "musubi_account";
/// The tenant that a customer is, or that a card is set up for.
pub const TENANT: &str = "musubi_tenant";
/// Who sets a card up.
pub const USER: &str = "musubi_user";
/// The longest id that Stripe says it makes.
const ID_BYTES_MAX: usize = 255;

/// Where a payment, or a card's setup, stands at Stripe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaymentState {
    /// Not paid: no card was tried, or the last one was refused.
    NeedsMethod,
    /// The buyer's bank wants to hear from them.
    NeedsAction,
    /// On its way.
    Processing,
    /// Paid, or set up. It stays so.
    Succeeded,
    /// Given up. It stays so.
    Cancelled,
}

/// A payment as Stripe tells it.
#[derive(Clone, PartialEq, Eq)]
pub struct Payment {
    /// Stripe's id.
    pub id: String,
    /// Where it stands.
    pub state: PaymentState,
    /// In minor units.
    pub amount: i64,
    /// What has come in, in minor units.
    pub received: i64,
    /// ISO 4217, upper case.
    pub currency: String,
    /// Whether it is real money.
    pub is_live: bool,
    /// Our purchase, as it was written on the payment.
    pub purchase: Option<String>,
    /// Our account, as it was written on the payment.
    pub account: Option<String>,
    /// Lets the buyer's page finish it.
    pub client_secret: Option<String>,
    /// Why the last card was refused.
    pub decline: Option<Decline>,
    /// Stripe's id of the card that it was paid with, or is to be.
    pub method: Option<String>,
}

impl std::fmt::Debug for Payment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { id, state, amount, currency, .. } = self;
        write!(f, "Payment({id}, {state:?}, {amount} {currency})")
    }
}

/// Why a card was refused, in Stripe's words for programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decline {
    /// Such as `card_declined`.
    pub code: String,
    /// The bank's reason, such as `insufficient_funds`.
    pub decline_code: Option<String>,
}

impl Decline {
    /// The bank's reason where it gives one, or else Stripe's.
    pub fn reason(&self) -> &str {
        self.decline_code.as_deref().unwrap_or(&self.code)
    }
}

/// A payment to make.
#[derive(Clone, Debug)]
pub struct NewPayment {
    /// The same key makes the same payment.
    pub key: String,
    /// In minor units.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// Stripe's id of the tenant.
    pub customer: String,
    /// How it is paid.
    pub method: Method,
    /// Where the buyer comes back to from their bank.
    pub return_url: Option<String>,
    /// Whether the card is kept for later.
    pub saves_card: bool,
    /// Whether nobody sits before a page: a bank that wants to hear from the buyer declines.
    pub off_session: bool,
    /// Our purchase, and the account that it is for.
    pub purchase: String,
    /// The account that it is for.
    pub account: String,
}

/// What the buyer's page got from Stripe.
#[derive(Clone, Debug)]
pub enum Method {
    /// The id of a payment method.
    Card(String),
    /// The id of a confirmation token.
    Token(String),
}

/// Why Stripe did not do what it was asked. The text is for the log; it holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StripeFailure {
    /// The card was refused; the payment as it stands now, when Stripe tells.
    #[error("declined: {}", .0.code)]
    Declined(Decline, Option<Box<Payment>>),
    /// What was asked is wrong, and nothing was done.
    #[error("refused: {0}")]
    Refused(String),
    /// There is no such object.
    #[error("not found")]
    NotFound,
    /// Stripe does not have the customer that was named, and nothing was done.
    #[error("no such customer")]
    NoCustomer,
    /// Nobody knows whether it was done: no answer, or none that says so.
    #[error("unavailable: {0}")]
    Unavailable(String),
}

/// What the outside answers.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, StripeFailure>>;

/// Who takes money.
pub trait Payments: Invoicing + News + Refunding + Subscriptions {
    /// Whether it is real money.
    fn is_live(&self) -> bool;
    /// Makes a customer; the same key makes the same one.
    fn create_customer<'a>(&'a self, key: &'a str, tenant: &'a str) -> Answer<'a, String>;
    /// Makes a payment and tries it at once.
    fn pay<'a>(&'a self, new: &'a NewPayment) -> Answer<'a, Payment>;
    /// A payment as it is now.
    fn payment<'a>(&'a self, id: &'a str) -> Answer<'a, Payment>;
    /// The payment of a purchase, among those that a customer made since then.
    fn find<'a>(
        &'a self,
        customer: &'a str,
        since: DateTime<Utc>,
        purchase: &'a str,
    ) -> Answer<'a, Option<Payment>>;
    /// Gives a payment up.
    fn cancel<'a>(&'a self, id: &'a str) -> Answer<'a, Payment>;
    /// Begins to set a card up, and confirms it at once when the page gave one.
    fn set_up<'a>(&'a self, new: &'a NewSetup) -> Answer<'a, Setup>;
    /// A card's setup as it is now.
    fn setup<'a>(&'a self, id: &'a str) -> Answer<'a, Setup>;
    /// A card that is kept for a customer, as it is now.
    fn card<'a>(&'a self, customer: &'a str, id: &'a str) -> Answer<'a, Card>;
    /// Gives a card up; it can never be charged again.
    fn detach<'a>(&'a self, id: &'a str) -> Answer<'a, ()>;
}

/// Whether a text can be an id of Stripe's: a word with a known beginning, such as `pm_`.
pub fn is_id(text: &str, beginning: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= ID_BYTES_MAX && text.starts_with(beginning) && text.bytes().all(is_word)
}

/// Reads a payment from Stripe's JSON; none when it is no payment.
pub fn read_payment(json: &Json) -> Option<Payment> {
    let text = |value: &Json| value.as_str().map(str::to_owned);
    if json["object"] != "payment_intent" {
        return None;
    }
    let currency = json["currency"].as_str()?.to_uppercase();
    Some(Payment {
        id: text(&json["id"])?,
        state: read_state(&json["status"])?,
        amount: from_stripe(json["amount"].as_i64()?, &currency)?,
        received: from_stripe(json["amount_received"].as_i64().unwrap_or(0), &currency)?,
        currency,
        is_live: json["livemode"].as_bool()?,
        purchase: text(&json["metadata"][PURCHASE]),
        account: text(&json["metadata"][ACCOUNT]),
        client_secret: text(&json["client_secret"]),
        decline: read_decline(&json["last_payment_error"]),
        method: text(&json["payment_method"]),
    })
}

fn read_state(status: &Json) -> Option<PaymentState> {
    Some(match status.as_str()? {
        "requires_payment_method" => PaymentState::NeedsMethod,
        "requires_action" => PaymentState::NeedsAction,
        "succeeded" => PaymentState::Succeeded,
        "canceled" => PaymentState::Cancelled,
        // Also what Stripe may add: nothing is decided by it.
        _ => PaymentState::Processing,
    })
}

/// Reads why a card was refused from an error of Stripe's.
fn read_decline(error: &Json) -> Option<Decline> {
    let code = error["code"].as_str()?.to_owned();
    Some(Decline { code, decline_code: error["decline_code"].as_str().map(str::to_owned) })
}
