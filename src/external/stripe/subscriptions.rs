//! Plans at Stripe: subscriptions of one line, paid by the month.
//!
//! An answer to a write may be the first answer of a write that was sent again, so that nothing is
//! decided by it: what counts is read by [`Subscriptions::subscription`].

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use futures_util::future::FutureExt;
use serde_json::Value as Json;
use stripe_billing::invoice as bills;
use stripe_billing::subscription as plans;
use stripe_client_core::{RequestBuilder, StripeRequest};
use stripe_product::product::{CreateProduct, RetrieveProduct};
use stripe_types::Currency;

use super::{Answer, StripeClient, StripeFailure, TENANT};

/// What a subscription of ours carries at Stripe, by which it is known again.
pub const SUBSCRIPTION: &str = "musubi_subscription";
/// The plan that is paid for until [`PAID_UNTIL`], while a smaller one waits for that.
pub const PAID_PLAN: &str = "musubi_paid_plan";
/// The end of the period in which [`PAID_PLAN`] is paid for, in seconds.
pub const PAID_UNTIL: &str = "musubi_paid_until";

/// With a subscription comes what lets the page finish its payment.
const SECRET: &str = "latest_invoice.confirmation_secret";
const PAGE: i64 = 100;
const PAGES_MAX: usize = 10;

/// Where a subscription stands at Stripe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionState {
    /// Not paid yet.
    Incomplete,
    /// Not paid in time, and over. It stays so.
    Expired,
    /// Paid.
    Active,
    /// A renewal was not paid.
    PastDue,
    /// Over. It stays so.
    Cancelled,
    /// Something that we never ask for; nothing is decided by it.
    Other,
}

/// A price of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// Stripe's id.
    pub id: String,
    /// Stripe's id of what is sold.
    pub product: String,
    /// In minor units; none when it depends on the quantity.
    pub amount: Option<i64>,
    /// ISO 4217, upper case.
    pub currency: String,
    /// Whether it is paid once in each month.
    pub is_monthly: bool,
}

/// A subscription as Stripe tells it.
#[derive(Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Stripe's id.
    pub id: String,
    /// Where it stands.
    pub state: SubscriptionState,
    /// Stripe's id of who pays.
    pub customer: String,
    /// Lines, and pieces of the first; ours have one of one.
    pub lines: (usize, i64),
    /// Stripe's id of the first line.
    pub item: String,
    /// Its price.
    pub price: Price,
    /// The price that waits for its payment.
    pub pending: Option<Price>,
    /// The present period.
    pub period: (DateTime<Utc>, DateTime<Utc>),
    /// Whether it ends with the period.
    pub cancel_at_period_end: bool,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Whether it is real money.
    pub is_live: bool,
    /// Our tenant, as it was written on it.
    pub tenant: Option<String>,
    /// Our subscription, as it was written on it.
    pub subscription: Option<String>,
    /// The plan that is paid for until that second, as it was written on it.
    pub paid: Option<(String, i64)>,
    /// Lets the page pay what is open.
    pub client_secret: Option<String>,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { id, state, price, period, .. } = self;
        write!(f, "Subscription({id}, {state:?}, {price:?}, {period:?})")
    }
}

/// What a plan costs, and how Stripe is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Stripe's price, when one was made there.
    pub price: Option<String>,
    /// What is sold, when Stripe is told the price.
    pub product: String,
    /// Yen for each month, tax included.
    pub amount: i64,
}

/// A subscription to begin.
#[derive(Clone, Debug)]
pub struct NewSubscription {
    /// The same key makes the same subscription.
    pub key: String,
    /// Stripe's id of who pays.
    pub customer: String,
    /// What it costs.
    pub rate: Rate,
    /// Stripe's id of a card of theirs.
    pub method: Option<String>,
    /// Our tenant.
    pub tenant: String,
    /// Our subscription.
    pub subscription: String,
}

/// What a subscription's line becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// More, from now on: a whole month is paid at once, less what was paid for the rest of the
    /// present one. Nothing changes before that is paid.
    Up(Rate),
    /// Less, from the next period on; until then this plan is paid for.
    Down(Rate, (String, DateTime<Utc>)),
    /// As before; nothing is paid.
    Back(Rate),
    /// It ends with its period, or goes on.
    End(bool),
}

/// What a change would cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// What would be paid now, in minor units.
    pub due: i64,
    /// What is taken off for the rest of the present period.
    pub credit: i64,
    /// The tax that Stripe reckoned; none when it reckons none.
    pub tax: Option<i64>,
    /// ISO 4217, upper case.
    pub currency: String,
    /// When the next month would be paid.
    pub renews_at: DateTime<Utc>,
}

/// Who takes money by the month.
pub trait Subscriptions: Send + Sync {
    /// Sees to it that something can be sold under this id.
    fn keep_product<'a>(&'a self, id: &'a str, name: &'a str) -> Answer<'a, ()>;
    /// The rate with its price at Stripe, which is made when there is none. One whose price there
    /// asks for something else is refused.
    fn sell<'a>(&'a self, rate: &'a Rate) -> Answer<'a, Rate>;
    /// Begins a subscription, to be paid on the buyer's page.
    fn subscribe<'a>(&'a self, new: &'a NewSubscription) -> Answer<'a, Subscription>;
    /// A subscription as it is now.
    fn subscription<'a>(&'a self, id: &'a str) -> Answer<'a, Subscription>;
    /// The subscription of ours among those of a customer.
    fn find_subscription<'a>(
        &'a self,
        customer: &'a str,
        subscription: &'a str,
    ) -> Answer<'a, Option<Subscription>>;
    /// Changes a subscription's line, or whether it ends. The places are its id and its line's; the
    /// rate has its price at Stripe, from [`Subscriptions::sell`].
    fn change_subscription<'a>(
        &'a self,
        places: (&'a str, &'a str),
        key: &'a str,
        step: &'a Step,
    ) -> Answer<'a, Subscription>;
    /// Ends a subscription now; nothing is paid back.
    fn end_subscription<'a>(&'a self, id: &'a str) -> Answer<'a, Subscription>;
    /// What [`Step::Up`] would cost now.
    fn preview_change<'a>(
        &'a self,
        key: &'a str,
        places: (&'a str, &'a str),
        rate: &'a Rate,
    ) -> Answer<'a, Preview>;
}

impl StripeClient {
    async fn ask_subscription(
        &self,
        request: RequestBuilder,
        key: Option<&str>,
    ) -> Result<Subscription, StripeFailure> {
        let json = self.ask(request, key).await?;
        let unread = || StripeFailure::Unavailable("the answer is no subscription".to_owned());
        read_subscription(&json).ok_or_else(unread)
    }

    async fn look_for_subscription(
        &self,
        customer: &str,
        subscription: &str,
    ) -> Result<Option<Subscription>, StripeFailure> {
        let mut list = plans::ListSubscription::new()
            .customer(customer)
            .status(plans::ListSubscriptionStatus::All)
            .limit(PAGE);
        for _ in 0..PAGES_MAX {
            let page = self.ask(list.build(), None).await?;
            let Some(entries) = page["data"].as_array() else {
                return Err(StripeFailure::Unavailable("the answer is no list".to_owned()));
            };
            let mut read = entries.iter().filter_map(read_subscription);
            let found = read.find(|it| it.subscription.as_deref() == Some(subscription));
            let last = entries.last().and_then(|entry| entry["id"].as_str());
            match (found, last) {
                (Some(found), _) => return Ok(Some(found)),
                (None, Some(last)) if page["has_more"] == true => list = list.starting_after(last),
                (None, _) => return Ok(None),
            }
        }
        Err(StripeFailure::Unavailable("the list has no end".to_owned()))
    }
}

impl Subscriptions for StripeClient {
    fn keep_product<'a>(&'a self, id: &'a str, name: &'a str) -> Answer<'a, ()> {
        async move {
            match self.ask(RetrieveProduct::new(id).build(), None).await {
                Err(StripeFailure::NotFound) => {
                    let key = format!("product:{id}");
                    let request = CreateProduct::new(name).id(id).build();
                    self.ask(request, Some(&key)).await.map(|_| ())
                }
                known => known.map(|_| ()),
            }
        }
        .boxed()
    }

    fn sell<'a>(&'a self, rate: &'a Rate) -> Answer<'a, Rate> {
        self.ask_to_sell(rate).boxed()
    }

    fn subscribe<'a>(&'a self, new: &'a NewSubscription) -> Answer<'a, Subscription> {
        self.ask_subscription(subscription_request(new), Some(&new.key)).boxed()
    }

    fn subscription<'a>(&'a self, id: &'a str) -> Answer<'a, Subscription> {
        let request = plans::RetrieveSubscription::new(id).expand([SECRET.to_owned()]);
        self.ask_subscription(request.build(), None).boxed()
    }

    fn find_subscription<'a>(
        &'a self,
        customer: &'a str,
        subscription: &'a str,
    ) -> Answer<'a, Option<Subscription>> {
        self.look_for_subscription(customer, subscription).boxed()
    }

    fn change_subscription<'a>(
        &'a self,
        (id, item): (&'a str, &'a str),
        key: &'a str,
        step: &'a Step,
    ) -> Answer<'a, Subscription> {
        self.ask_subscription(change_request(id, item, step), Some(key)).boxed()
    }

    fn end_subscription<'a>(&'a self, id: &'a str) -> Answer<'a, Subscription> {
        let request = plans::CancelSubscription::new(id).build();
        self.ask_subscription(request, None).boxed()
    }

    fn preview_change<'a>(
        &'a self,
        key: &'a str,
        (id, item): (&'a str, &'a str),
        rate: &'a Rate,
    ) -> Answer<'a, Preview> {
        async move {
            let json = self.ask(preview_request(id, item, rate), Some(key)).await?;
            let unread = || StripeFailure::Unavailable("the answer is no invoice".to_owned());
            read_preview(&json).ok_or_else(unread)
        }
        .boxed()
    }
}

fn subscription_request(new: &NewSubscription) -> RequestBuilder {
    use plans::CreateSubscriptionItemsPriceDataRecurringInterval::Month;
    let mut item = plans::CreateSubscriptionItems::new();
    match &new.rate.price {
        Some(price) => item.price = Some(price.clone()),
        None => {
            let mut data = plans::CreateSubscriptionItemsPriceData::new(
                Currency::JPY,
                new.rate.product.clone(),
                plans::CreateSubscriptionItemsPriceDataRecurring::new(Month),
            );
            data.unit_amount = Some(new.rate.amount);
            data.tax_behavior = Some(plans::CreateSubscriptionItemsPriceDataTaxBehavior::Inclusive);
            item.price_data = Some(data);
        }
    }
    let mut payment = plans::CreateSubscriptionPaymentSettings::new();
    payment.save_default_payment_method =
        Some(plans::CreateSubscriptionPaymentSettingsSaveDefaultPaymentMethod::OnSubscription);
    payment.payment_method_types =
        Some(vec![plans::CreateSubscriptionPaymentSettingsPaymentMethodTypes::Card]);
    let mut request = plans::CreateSubscription::new()
        .customer(new.customer.clone())
        .items([item])
        .payment_behavior(plans::CreateSubscriptionPaymentBehavior::DefaultIncomplete)
        .payment_settings(payment)
        .metadata(HashMap::from([
            (TENANT.to_owned(), new.tenant.clone()),
            (SUBSCRIPTION.to_owned(), new.subscription.clone()),
        ]))
        .expand([SECRET.to_owned()]);
    if let Some(method) = &new.method {
        request = request.default_payment_method(method.clone());
    }
    request.build()
}

fn change_request(id: &str, item: &str, step: &Step) -> RequestBuilder {
    use plans::UpdateSubscriptionProrationBehavior::{AlwaysInvoice, None as NoProration};
    let request = plans::UpdateSubscription::new(id);
    let request = match step {
        Step::Up(rate) => request
            .items([changed_item(item, rate)])
            .billing_cycle_anchor(plans::UpdateSubscriptionBillingCycleAnchor::new(
                plans::UpdateSubscriptionBillingCycleAnchorType::Now,
            ))
            .proration_behavior(AlwaysInvoice)
            .payment_behavior(plans::UpdateSubscriptionPaymentBehavior::PendingIfIncomplete),
        Step::Down(rate, (plan, until)) => request
            .items([changed_item(item, rate)])
            .proration_behavior(NoProration)
            .metadata(HashMap::from([
                (PAID_PLAN.to_owned(), plan.clone()),
                (PAID_UNTIL.to_owned(), until.timestamp().to_string()),
            ])),
        Step::Back(rate) => {
            request.items([changed_item(item, rate)]).proration_behavior(NoProration)
        }
        Step::End(is_ending) => request.cancel_at_period_end(*is_ending),
    };
    request.expand([SECRET.to_owned()]).build()
}

/// A change that waits for its payment takes the id of a price, and no price that is told.
fn changed_item(item: &str, rate: &Rate) -> plans::UpdateSubscriptionItems {
    let mut changed = plans::UpdateSubscriptionItems::new();
    changed.id = Some(item.to_owned());
    changed.price.clone_from(&rate.price);
    changed
}

fn preview_request(id: &str, item: &str, rate: &Rate) -> RequestBuilder {
    use bills::CreatePreviewInvoiceSubscriptionDetailsItemsPriceDataRecurringInterval::Month;
    let mut line = bills::CreatePreviewInvoiceSubscriptionDetailsItems::new();
    line.id = Some(item.to_owned());
    match &rate.price {
        Some(price) => line.price = Some(price.clone()),
        None => {
            let mut data = bills::CreatePreviewInvoiceSubscriptionDetailsItemsPriceData::new(
                Currency::JPY,
                rate.product.clone(),
                bills::CreatePreviewInvoiceSubscriptionDetailsItemsPriceDataRecurring::new(Month),
            );
            data.unit_amount = Some(rate.amount);
            data.tax_behavior = Some(
                bills::CreatePreviewInvoiceSubscriptionDetailsItemsPriceDataTaxBehavior::Inclusive,
            );
            line.price_data = Some(data);
        }
    }
    let mut details = bills::CreatePreviewInvoiceSubscriptionDetails::new();
    details.items = Some(vec![line]);
    details.billing_cycle_anchor =
        Some(bills::CreatePreviewInvoiceSubscriptionDetailsBillingCycleAnchor::new(
            bills::CreatePreviewInvoiceSubscriptionDetailsBillingCycleAnchorType::Now,
        ));
    details.proration_behavior =
        Some(bills::CreatePreviewInvoiceSubscriptionDetailsProrationBehavior::AlwaysInvoice);
    bills::CreatePreviewInvoice::new().subscription(id).subscription_details(details).build()
}

/// Reads a subscription from Stripe's JSON; none when it is no subscription of prices.
pub fn read_subscription(json: &Json) -> Option<Subscription> {
    let text = |value: &Json| value.as_str().map(str::to_owned);
    if json["object"] != "subscription" {
        return None;
    }
    let state = match json["status"].as_str()? {
        "incomplete" => SubscriptionState::Incomplete,
        "incomplete_expired" => SubscriptionState::Expired,
        "active" => SubscriptionState::Active,
        "past_due" | "unpaid" => SubscriptionState::PastDue,
        "canceled" => SubscriptionState::Cancelled,
        // Also what Stripe may add: nothing is decided by it.
        _ => SubscriptionState::Other,
    };
    let items = json["items"]["data"].as_array()?;
    let item = items.first()?;
    let pending = &json["pending_update"]["subscription_items"][0]["price"];
    let paid_until = json["metadata"][PAID_UNTIL].as_str().and_then(|text| text.parse().ok());
    let invoice = &json["latest_invoice"];
    let secret = text(&invoice["confirmation_secret"]["client_secret"]);
    Some(Subscription {
        id: text(&json["id"])?,
        state,
        customer: id_of(&json["customer"])?,
        lines: (items.len(), item["quantity"].as_i64().unwrap_or(1)),
        item: text(&item["id"])?,
        price: read_price(&item["price"])?,
        pending: read_price(pending),
        period: (instant(&item["current_period_start"])?, instant(&item["current_period_end"])?),
        cancel_at_period_end: json["cancel_at_period_end"] == true,
        ended_at: instant(&json["ended_at"]),
        is_live: json["livemode"].as_bool()?,
        tenant: text(&json["metadata"][TENANT]),
        subscription: text(&json["metadata"][SUBSCRIPTION]),
        paid: text(&json["metadata"][PAID_PLAN]).zip(paid_until),
        client_secret: secret.filter(|_| invoice["status"] == "open"),
    })
}

pub(super) fn read_price(json: &Json) -> Option<Price> {
    let recurring = &json["recurring"];
    Some(Price {
        id: json["id"].as_str()?.to_owned(),
        product: id_of(&json["product"])?,
        amount: json["unit_amount"].as_i64(),
        currency: json["currency"].as_str()?.to_uppercase(),
        is_monthly: recurring["interval"] == "month" && recurring["interval_count"] == 1,
    })
}

/// An id that may stand for the whole object.
fn id_of(json: &Json) -> Option<String> {
    json.as_str().or_else(|| json["id"].as_str()).map(str::to_owned)
}

fn instant(json: &Json) -> Option<DateTime<Utc>> {
    json.as_i64().and_then(|seconds| DateTime::from_timestamp(seconds, 0))
}

fn read_preview(json: &Json) -> Option<Preview> {
    if json["object"] != "invoice" {
        return None;
    }
    let lines = json["lines"]["data"].as_array()?;
    let amounts = lines.iter().filter_map(|line| line["amount"].as_i64());
    let ends = lines.iter().filter_map(|line| instant(&line["period"]["end"]));
    let taxes = json["total_taxes"].as_array().filter(|taxes| !taxes.is_empty());
    Some(Preview {
        due: json["amount_due"].as_i64()?,
        credit: -amounts.filter(|amount| *amount < 0).sum::<i64>(),
        tax: taxes.map(|taxes| taxes.iter().filter_map(|tax| tax["amount"].as_i64()).sum()),
        currency: json["currency"].as_str()?.to_uppercase(),
        renews_at: ends.max()?,
    })
}
