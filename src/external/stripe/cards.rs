//! Cards that Stripe keeps for a customer: setting one up, looking at it, giving it up. Of a card
//! only what people know it by is read; Stripe does not tell its number.

use std::collections::HashMap;

use serde_json::Value as Json;
use stripe_client_core::{RequestBuilder, StripeMethod, StripeRequest};
use stripe_core::customer::RetrievePaymentMethodCustomer;
use stripe_core::setup_intent::{CreateSetupIntent, CreateSetupIntentUsage, RetrieveSetupIntent};
use stripe_shared::SetupIntentAllowedPaymentMethodTypes;

use super::{
    Decline, Method, PaymentState, StripeClient, StripeFailure, TENANT, USER, read_decline,
    read_state,
};

/// A card to set up.
#[derive(Clone, Debug)]
pub struct NewSetup {
    /// The same key makes the same setup.
    pub key: String,
    /// Stripe's id of the tenant.
    pub customer: String,
    /// The tenant, and who of it asks.
    pub tenant: String,
    /// Who asks.
    pub user: String,
    /// What the buyer's page got from Stripe; none when it is to confirm the setup by itself.
    pub method: Option<Method>,
    /// Where the buyer comes back to from their bank.
    pub return_url: Option<String>,
}

/// A card's setup as Stripe tells it.
#[derive(Clone, PartialEq, Eq)]
pub struct Setup {
    /// Stripe's id.
    pub id: String,
    /// Where it stands.
    pub state: PaymentState,
    /// Lets the buyer's page finish it.
    pub client_secret: Option<String>,
    /// Stripe's id of the tenant.
    pub customer: Option<String>,
    /// Our tenant, as it was written on it.
    pub tenant: Option<String>,
    /// Who asked for it, as it was written on it.
    pub user: Option<String>,
    /// Stripe's id of the card.
    pub method: Option<String>,
    /// Whether it is for real money.
    pub is_live: bool,
    /// Why the last card was refused.
    pub decline: Option<Decline>,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { id, state, .. } = self;
        write!(f, "Setup({id}, {state:?})")
    }
}

/// A card as Stripe tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// Stripe's id.
    pub id: String,
    /// The customer that it is kept for.
    pub customer: Option<String>,
    /// Stripe's word for whose it is.
    pub brand: String,
    /// The last four digits.
    pub last4: String,
    /// 1 to 12.
    pub exp_month: i32,
    /// With its century.
    pub exp_year: i32,
    /// The same for the same number.
    pub fingerprint: Option<String>,
    /// Whether it is for real money.
    pub is_live: bool,
}

/// Reads a setup from Stripe's JSON; none when it is none.
pub fn read_setup(json: &Json) -> Option<Setup> {
    if json["object"] != "setup_intent" {
        return None;
    }
    Some(Setup {
        id: text(&json["id"])?,
        state: read_state(&json["status"])?,
        client_secret: text(&json["client_secret"]),
        customer: text(&json["customer"]),
        tenant: text(&json["metadata"][TENANT]),
        user: text(&json["metadata"][USER]),
        method: text(&json["payment_method"]),
        is_live: json["livemode"].as_bool()?,
        decline: read_decline(&json["last_setup_error"]),
    })
}

/// Reads a card from Stripe's JSON; none when it is none, or has not what a card has.
pub fn read_card(json: &Json) -> Option<Card> {
    let card = &json["card"];
    if json["object"] != "payment_method" || json["type"] != "card" {
        return None;
    }
    let number = |value: &Json| i32::try_from(value.as_i64()?).ok();
    let is_digits = |it: &String| it.len() == 4 && it.bytes().all(|byte| byte.is_ascii_digit());
    Some(Card {
        // Cards of before there were payment methods have other ids.
        id: text(&json["id"]).filter(|id| id.starts_with("pm_"))?,
        customer: text(&json["customer"]),
        brand: text(&card["brand"])?,
        last4: text(&card["last4"]).filter(is_digits)?,
        exp_month: number(&card["exp_month"]).filter(|it| (1..=12).contains(it))?,
        exp_year: number(&card["exp_year"]).filter(|it| (2_000..=9_999).contains(it))?,
        fingerprint: text(&card["fingerprint"]).filter(|it| !it.is_empty()),
        is_live: json["livemode"].as_bool()?,
    })
}

fn text(value: &Json) -> Option<String> {
    value.as_str().map(str::to_owned)
}

impl StripeClient {
    pub(super) async fn ask_set_up(&self, new: &NewSetup) -> Result<Setup, StripeFailure> {
        let mut request = CreateSetupIntent::new()
            .customer(new.customer.clone())
            .usage(CreateSetupIntentUsage::OffSession)
            .allowed_payment_method_types(vec![SetupIntentAllowedPaymentMethodTypes::Card])
            .metadata(HashMap::from([
                (TENANT.to_owned(), new.tenant.clone()),
                (USER.to_owned(), new.user.clone()),
            ]));
        request = match &new.method {
            None => request,
            Some(Method::Card(id)) => {
                request.payment_method(id.clone()).confirm(true).use_stripe_sdk(true)
            }
            Some(Method::Token(id)) => request.confirmation_token(id.clone()).confirm(true),
        };
        if let Some(url) = new.return_url.as_ref().filter(|_| new.method.is_some()) {
            request = request.return_url(url.clone());
        }
        setup_of(&self.ask(request.build(), Some(&new.key)).await?)
    }

    pub(super) async fn ask_setup(&self, id: &str) -> Result<Setup, StripeFailure> {
        setup_of(&self.ask(RetrieveSetupIntent::new(id).build(), None).await?)
    }

    pub(super) async fn ask_card(&self, customer: &str, id: &str) -> Result<Card, StripeFailure> {
        let request = RetrievePaymentMethodCustomer::new(customer, id).build();
        let json = self.ask(request, None).await?;
        // What is kept is no card: a bank account, a wallet. It is none of ours.
        read_card(&json).ok_or_else(|| StripeFailure::Refused("it is no card".to_owned()))
    }

    pub(super) async fn ask_detach(&self, id: &str) -> Result<(), StripeFailure> {
        let path = format!("/payment_methods/{id}/detach");
        let request = RequestBuilder::new(StripeMethod::Post, path);
        self.ask(request, Some(&format!("detach:{id}"))).await.map(|_| ())
    }
}

fn setup_of(json: &Json) -> Result<Setup, StripeFailure> {
    let unread = || StripeFailure::Unavailable("the answer is no setup".to_owned());
    read_setup(json).ok_or_else(unread)
}
