//! The real Stripe: each request under a key of ours, with a deadline, tried again when Stripe says
//! that this helps.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::FutureExt;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{StatusCode, Url};
use serde_json::Value as Json;
use stripe_client_core::{RequestBuilder, StripeMethod, StripeRequest, VERSION};
use stripe_core::customer::CreateCustomer;
use stripe_core::payment_intent::{
    CancelPaymentIntent, CreatePaymentIntent, CreatePaymentIntentOffSession, ListPaymentIntent,
    RetrievePaymentIntent,
};
use stripe_shared::{PaymentIntentAllowedPaymentMethodTypes, PaymentIntentSetupFutureUsage};
use stripe_types::{Currency, RangeBoundsTs, RangeQueryTs};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    ACCOUNT, Answer, Card, Decline, Method, NewPayment, NewSetup, PURCHASE, Payment, Payments,
    Setup, StripeFailure, TENANT, read_decline, read_payment, to_stripe,
};
use crate::config::Secret;
use crate::external::http_client::{http_client, root_cause};

const API_BASE: &str = "https://api.stripe.com";
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
const CODE_CHARS_MAX: usize = 80;
/// Payments that one page of a list has, and pages that are looked through.
pub(super) const PAGE: i64 = 100;
pub(super) const PAGES_MAX: usize = 10;
/// The longest pause that a `Retry-After` may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How Stripe is asked.
#[derive(Clone, Debug)]
pub struct StripeOptions {
    /// Our secret key.
    pub secret_key: Secret,
    /// Where; none is Stripe itself.
    pub api_base: Option<String>,
    /// How long one attempt may take.
    pub attempt: Duration,
    /// How long all of them may take.
    pub total: Duration,
    /// Attempts at most.
    pub attempts_max: u32,
    /// The pause after the first attempt; it doubles with each.
    pub pause: Duration,
}

impl StripeOptions {
    /// Three attempts of 20 s within 30 s: a customer and a payment fit into one operation.
    pub fn new(secret_key: Secret, api_base: Option<String>) -> Self {
        Self {
            secret_key,
            api_base,
            attempt: Duration::from_secs(20),
            total: Duration::from_secs(30),
            attempts_max: 3,
            pause: Duration::from_millis(500),
        }
    }
}

/// Why the settings cannot be used; never contains the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStripe {
    /// The address is not a plain http or https one.
    #[error("STRIPE_API_BASE is not http or https")]
    Base,
    /// The HTTP client could not be set up.
    #[error("HTTP client: {0}")]
    HttpClient(String),
}

/// Stripe over HTTP.
pub struct StripeClient {
    options: StripeOptions,
    base: Url,
    http: reqwest::Client,
}

/// What one attempt brought.
enum Attempt {
    Done(Result<Json, StripeFailure>),
    /// Another one may bring more.
    Again(String, Option<Duration>),
}

impl StripeClient {
    /// Checks the settings; connects to nothing.
    pub fn new(options: StripeOptions) -> Result<Self, InvalidStripe> {
        let base = options.api_base.as_deref().unwrap_or(API_BASE);
        let base = Url::parse(base).map_err(|_| InvalidStripe::Base)?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            return Err(InvalidStripe::Base);
        }
        let http = http_client(options.attempt, base.scheme() == "https")
            .map_err(|error| InvalidStripe::HttpClient(root_cause(&error)))?;
        Ok(Self { options, base, http })
    }

    /// Asks, and asks again while that may help. Writes carry a key, so that Stripe does them once.
    pub(super) async fn ask(
        &self,
        request: RequestBuilder,
        key: Option<&str>,
    ) -> Result<Json, StripeFailure> {
        let deadline = Instant::now() + self.options.total;
        let mut last = "no attempt was made".to_owned();
        for attempt in 1..=self.options.attempts_max {
            let asked = timeout_at(deadline, self.attempt(&request, key)).await;
            let wanted = match asked {
                Ok(Attempt::Done(outcome)) => return outcome,
                Ok(Attempt::Again(why, wanted)) => {
                    last = why;
                    wanted
                }
                Err(_) => return Err(StripeFailure::Unavailable("it took too long".to_owned())),
            };
            let full = self.options.pause * 2_u32.pow(attempt - 1);
            let pause = wanted.unwrap_or_else(|| full.mul_f32(0.5 + fastrand::f32() / 2.0));
            if attempt == self.options.attempts_max || Instant::now() + pause >= deadline {
                break;
            }
            sleep(pause).await;
        }
        Err(StripeFailure::Unavailable(last))
    }

    async fn attempt(&self, request: &RequestBuilder, key: Option<&str>) -> Attempt {
        let lost = |error: reqwest::Error| Attempt::Again(root_cause(&error.without_url()), None);
        let mut url = self.base.clone();
        url.set_path(&format!("/v1{}", request.path));
        url.set_query(request.query.as_deref());
        let call = match request.method {
            StripeMethod::Get => self.http.get(url),
            StripeMethod::Post => self.http.post(url),
            StripeMethod::Delete => self.http.delete(url),
        };
        let mut call = call
            .bearer_auth(&self.options.secret_key.0)
            .header("Stripe-Version", VERSION.as_str())
            .timeout(self.options.attempt);
        if let Some(key) = key {
            call = call.header("Idempotency-Key", key);
        }
        if let Some(body) = &request.body {
            call = call.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
            call = call.body(body.clone());
        }
        let mut response = match call.send().await {
            Ok(response) => response,
            Err(error) => return lost(error),
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(piece)) if body.len() + piece.len() <= ANSWER_BYTES_MAX => {
                    body.extend_from_slice(&piece);
                }
                Ok(Some(_)) => return Attempt::Again("the answer is too large".to_owned(), None),
                Ok(None) => break,
                Err(error) => return lost(error),
            }
        }
        judge(status, &headers, &body)
    }

    async fn ask_payment(
        &self,
        request: RequestBuilder,
        key: Option<&str>,
    ) -> Result<Payment, StripeFailure> {
        let json = self.ask(request, key).await?;
        // It was done, but nobody knows what.
        let unread = || StripeFailure::Unavailable("the answer is no payment".to_owned());
        read_payment(&json).ok_or_else(unread)
    }

    async fn look_for(
        &self,
        customer: &str,
        since: DateTime<Utc>,
        purchase: &str,
    ) -> Result<Option<Payment>, StripeFailure> {
        let bounds = RangeBoundsTs { gte: Some(since.timestamp()), ..RangeBoundsTs::default() };
        let created = RangeQueryTs::Bounds(bounds);
        let mut list = ListPaymentIntent::new().customer(customer).created(created).limit(PAGE);
        for _ in 0..PAGES_MAX {
            let page = self.ask(list.build(), None).await?;
            let Some(entries) = page["data"].as_array() else {
                return Err(StripeFailure::Unavailable("the answer is no list".to_owned()));
            };
            let found = entries.iter().filter_map(read_payment);
            let found = found.filter(|payment| payment.purchase.as_deref() == Some(purchase));
            // Of several, the one that was paid.
            let found = found.max_by_key(|payment| payment.received);
            let last = entries.last().and_then(|entry| entry["id"].as_str());
            match (found, last) {
                (Some(payment), _) => return Ok(Some(payment)),
                (None, Some(last)) if page["has_more"] == true => {
                    list = list.starting_after(last);
                }
                (None, _) => return Ok(None),
            }
        }
        Err(StripeFailure::Unavailable("the list has no end".to_owned()))
    }
}

impl Payments for StripeClient {
    fn is_live(&self) -> bool {
        let key = &self.options.secret_key.0;
        key.starts_with("sk_live_") || key.starts_with("rk_live_")
    }

    fn create_customer<'a>(&'a self, key: &'a str, tenant: &'a str) -> Answer<'a, String> {
        async move {
            let metadata = HashMap::from([(TENANT.to_owned(), tenant.to_owned())]);
            let request = CreateCustomer::new().metadata(metadata).build();
            let json = self.ask(request, Some(key)).await?;
            let id = json["id"].as_str().filter(|_| json["object"] == "customer");
            let unread = || StripeFailure::Unavailable("the answer is no customer".to_owned());
            id.map(str::to_owned).ok_or_else(unread)
        }
        .boxed()
    }

    fn pay<'a>(&'a self, new: &'a NewPayment) -> Answer<'a, Payment> {
        async move {
            let request = payment_request(new)?;
            self.ask_payment(request, Some(&new.key)).await
        }
        .boxed()
    }

    fn payment<'a>(&'a self, id: &'a str) -> Answer<'a, Payment> {
        self.ask_payment(RetrievePaymentIntent::new(id).build(), None).boxed()
    }

    fn find<'a>(
        &'a self,
        customer: &'a str,
        since: DateTime<Utc>,
        purchase: &'a str,
    ) -> Answer<'a, Option<Payment>> {
        self.look_for(customer, since, purchase).boxed()
    }

    fn cancel<'a>(&'a self, id: &'a str) -> Answer<'a, Payment> {
        async move {
            let key = format!("cancel:{id}");
            self.ask_payment(CancelPaymentIntent::new(id).build(), Some(&key)).await
        }
        .boxed()
    }

    fn set_up<'a>(&'a self, new: &'a NewSetup) -> Answer<'a, Setup> {
        self.ask_set_up(new).boxed()
    }

    fn setup<'a>(&'a self, id: &'a str) -> Answer<'a, Setup> {
        self.ask_setup(id).boxed()
    }

    fn card<'a>(&'a self, customer: &'a str, id: &'a str) -> Answer<'a, Card> {
        self.ask_card(customer, id).boxed()
    }

    fn detach<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        self.ask_detach(id).boxed()
    }
}

/// The same purchase asks the same, or its key would not count.
fn payment_request(new: &NewPayment) -> Result<RequestBuilder, StripeFailure> {
    let unknown = |_| StripeFailure::Refused(format!("no currency {}", new.currency));
    let currency: Currency = new.currency.to_lowercase().parse().map_err(unknown)?;
    let amount = to_stripe(new.amount, &new.currency);
    let amount = amount.ok_or_else(|| StripeFailure::Refused("no such amount".to_owned()))?;
    let mut request = CreatePaymentIntent::new(amount, currency)
        .confirm(true)
        .customer(new.customer.clone())
        .allowed_payment_method_types(vec![PaymentIntentAllowedPaymentMethodTypes::Card])
        .metadata(HashMap::from([
            (ACCOUNT.to_owned(), new.account.clone()),
            (PURCHASE.to_owned(), new.purchase.clone()),
        ]));
    request = match &new.method {
        Method::Card(id) if new.off_session => request
            .payment_method(id.clone())
            .off_session(CreatePaymentIntentOffSession::Bool(true)),
        Method::Card(id) => request.payment_method(id.clone()).use_stripe_sdk(true),
        Method::Token(id) => request.confirmation_token(id.clone()),
    };
    if let Some(url) = &new.return_url {
        request = request.return_url(url.clone());
    }
    if new.saves_card {
        request = request.setup_future_usage(PaymentIntentSetupFutureUsage::OffSession);
    }
    Ok(request.build())
}

/// What an answer says. A 4xx without more is final; 409, 424, 429 and 5xx are not, unless Stripe
/// says otherwise.
fn judge(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Attempt {
    let json: Option<Json> = serde_json::from_slice(body).ok();
    if status.is_success() {
        let unread = || StripeFailure::Unavailable("the answer is not JSON".to_owned());
        return Attempt::Done(json.ok_or_else(unread));
    }
    let error = json.map(|json| json["error"].clone()).unwrap_or_default();
    let word = [&error["code"], &error["type"]].into_iter().find_map(Json::as_str);
    let why = format!("HTTP {} {}", status.as_u16(), sanitise(word.unwrap_or_default()));
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let advice = header("stripe-should-retry");
    let is_passing = matches!(status.as_u16(), 409 | 424 | 429 | 500..=599);
    if advice == Some("true") || (is_passing && advice != Some("false")) {
        let seconds = header("retry-after").and_then(|seconds| seconds.parse().ok());
        let pause = seconds.map(|seconds| Duration::from_secs(seconds).min(PAUSE_MAX));
        return Attempt::Again(why, pause);
    }
    // A key that was used for something else says nothing of what was done under it.
    let is_unknown = is_passing || error["type"] == "idempotency_error";
    Attempt::Done(Err(match status {
        _ if is_unknown => StripeFailure::Unavailable(why),
        _ if error["code"] == "resource_missing" && error["param"] == "customer" => {
            StripeFailure::NoCustomer
        }
        StatusCode::NOT_FOUND => StripeFailure::NotFound,
        StatusCode::PAYMENT_REQUIRED => {
            let decline = read_decline(&error).unwrap_or_else(|| Decline {
                code: "card_declined".to_owned(),
                decline_code: None,
            });
            let payment = read_payment(&error["payment_intent"]);
            StripeFailure::Declined(decline, payment.map(Box::new))
        }
        _ if status.is_client_error() => StripeFailure::Refused(why),
        _ => StripeFailure::Unavailable(why),
    }))
}

/// The protocol's word for an error; nothing else gets through.
fn sanitise(word: &str) -> String {
    let is_word = |letter: &char| letter.is_ascii_alphanumeric() || "_-.".contains(*letter);
    word.chars().filter(is_word).take(CODE_CHARS_MAX).collect()
}
