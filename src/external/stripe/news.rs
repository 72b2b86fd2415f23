//! What else Stripe tells when it is asked: disputes, and the events that it sent, or tried to.

use chrono::{DateTime, Utc};
use futures_util::future::{FutureExt, ready};
use serde_json::Value as Json;
use stripe_client_core::StripeRequest;
use stripe_core::dispute::RetrieveDispute;
use stripe_core::event::ListEvent;
use stripe_types::{RangeBoundsTs, RangeQueryTs};

use super::client::PAGE;
use super::invoices::entries_of;
use super::{Answer, SandboxPayments, StripeClient, StripeFailure};

/// Types of events that Stripe takes for one list.
pub const TYPES_MAX: usize = 20;

/// A dispute as Stripe tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispute {
    /// Stripe's id.
    pub id: String,
    /// Stripe's word, such as `needs_response`.
    pub status: String,
    /// Stripe's word, such as `fraudulent`.
    pub reason: String,
    /// In minor units.
    pub amount: i64,
    /// ISO 4217, upper case.
    pub currency: String,
    /// Whether it is real money.
    pub is_live: bool,
    /// Stripe's id of the payment that is disputed.
    pub payment: Option<String>,
}

/// Which events to list.
#[derive(Clone, Debug)]
pub struct EventList {
    /// These types, 20 at most.
    pub types: Vec<String>,
    /// Not earlier than this.
    pub from: DateTime<Utc>,
    /// Earlier than this.
    pub until: DateTime<Utc>,
    /// Only what is older than this event.
    pub after: Option<String>,
}

/// Events, newest first, each as it would have been sent.
#[derive(Clone, Debug, Default)]
pub struct EventPage {
    /// The events.
    pub events: Vec<Json>,
    /// The last of them, when there are older ones.
    pub next: Option<String>,
}

/// Who tells what happened.
pub trait News: Send + Sync {
    /// A dispute as it is now.
    fn dispute<'a>(&'a self, id: &'a str) -> Answer<'a, Dispute>;
    /// A page of events.
    fn events<'a>(&'a self, list: &'a EventList) -> Answer<'a, EventPage>;
}

/// Reads a dispute from Stripe's JSON; none when it is no dispute.
pub fn read_dispute(json: &Json) -> Option<Dispute> {
    let text = |value: &Json| value.as_str().map(str::to_owned);
    if json["object"] != "dispute" {
        return None;
    }
    let payment = &json["payment_intent"];
    Some(Dispute {
        id: text(&json["id"])?,
        status: text(&json["status"])?,
        reason: text(&json["reason"])?,
        amount: json["amount"].as_i64()?,
        currency: json["currency"].as_str()?.to_uppercase(),
        is_live: json["livemode"].as_bool()?,
        payment: payment.as_str().or(payment["id"].as_str()).map(str::to_owned),
    })
}

impl News for StripeClient {
    fn dispute<'a>(&'a self, id: &'a str) -> Answer<'a, Dispute> {
        async move {
            let json = self.ask(RetrieveDispute::new(id).build(), None).await?;
            let unread = || StripeFailure::Unavailable("the answer is no dispute".to_owned());
            read_dispute(&json).ok_or_else(unread)
        }
        .boxed()
    }

    fn events<'a>(&'a self, list: &'a EventList) -> Answer<'a, EventPage> {
        async move {
            let bounds = RangeBoundsTs {
                gte: Some(list.from.timestamp()),
                lt: Some(list.until.timestamp()),
                ..RangeBoundsTs::default()
            };
            let mut request = ListEvent::new()
                .created(RangeQueryTs::Bounds(bounds))
                .types(list.types.clone())
                .limit(PAGE);
            if let Some(after) = &list.after {
                request = request.starting_after(after.clone());
            }
            let page = self.ask(request.build(), None).await?;
            let events = entries_of(&page)?.clone();
            let last = events.last().and_then(|event| event["id"].as_str()).map(str::to_owned);
            let next = last.filter(|_| page["has_more"] == true);
            Ok(EventPage { events, next })
        }
        .boxed()
    }
}

/// Nobody disputes what nobody paid, and the sandbox sends no events.
impl News for SandboxPayments {
    fn dispute<'a>(&'a self, _: &'a str) -> Answer<'a, Dispute> {
        ready(Err(StripeFailure::NotFound)).boxed()
    }

    fn events<'a>(&'a self, _: &'a EventList) -> Answer<'a, EventPage> {
        ready(Ok(EventPage::default())).boxed()
    }
}
