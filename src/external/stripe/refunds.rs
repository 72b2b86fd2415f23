//! Giving money back at Stripe.

use std::collections::HashMap;

use futures_util::future::FutureExt;
use serde_json::Value as Json;
use stripe_client_core::{RequestBuilder, StripeRequest};
use stripe_core::refund::{CreateRefund, CreateRefundReason, ListRefund, RetrieveRefund};

use super::client::{PAGE, PAGES_MAX};
use super::invoices::entries_of;
use super::{ACCOUNT, Answer, PURCHASE, StripeClient, StripeFailure, from_stripe, to_stripe};

/// What a refund of ours carries at Stripe, by which it is known again.
pub const REFUND: &str = "musubi_refund";

/// Where a refund stands at Stripe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefundState {
    /// On its way; the money has left us.
    Pending,
    /// It has gone back. It may still fail days later, when the card's bank does not take it.
    Succeeded,
    /// The money stayed, or came back to us. It stays so.
    Failed,
}

/// A refund as Stripe tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refund {
    /// Stripe's id.
    pub id: String,
    /// Where it stands.
    pub state: RefundState,
    /// In minor units.
    pub amount: i64,
    /// ISO 4217, upper case.
    pub currency: String,
    /// Stripe's id of the payment that goes back.
    pub payment: Option<String>,
    /// Our refund, as it was written on it; none on one that was made at Stripe.
    pub refund: Option<String>,
    /// Why it failed, in Stripe's word, such as `expired_or_canceled_card`.
    pub failure: Option<String>,
}

/// Money to give back.
#[derive(Clone, Debug)]
pub struct NewRefund {
    /// Our refund: the same one is made once.
    pub refund: String,
    /// Stripe's id of the payment.
    pub payment: String,
    /// In minor units.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// Stripe's word: `requested_by_customer`, `duplicate`, `fraudulent`.
    pub reason: String,
    /// Our purchase.
    pub purchase: String,
    /// The account that it was for.
    pub account: String,
}

/// Who gives money back.
pub trait Refunding: Send + Sync {
    /// Gives money back; the same refund is made once.
    fn refund<'a>(&'a self, new: &'a NewRefund) -> Answer<'a, Refund>;
    /// A refund as it is now.
    fn refund_now<'a>(&'a self, id: &'a str) -> Answer<'a, Refund>;
    /// All refunds of a payment.
    fn refunds_of<'a>(&'a self, payment: &'a str) -> Answer<'a, Vec<Refund>>;
}

/// Reads a refund from Stripe's JSON; none when it is no refund.
pub fn read_refund(json: &Json) -> Option<Refund> {
    let text = |value: &Json| value.as_str().map(str::to_owned);
    if json["object"] != "refund" {
        return None;
    }
    let currency = json["currency"].as_str()?.to_uppercase();
    let payment = &json["payment_intent"];
    Some(Refund {
        id: text(&json["id"])?,
        state: match json["status"].as_str() {
            Some("succeeded") => RefundState::Succeeded,
            Some("failed" | "canceled") => RefundState::Failed,
            // Also what Stripe may add: until it says otherwise the money is gone.
            _ => RefundState::Pending,
        },
        amount: from_stripe(json["amount"].as_i64()?, &currency)?,
        currency,
        payment: text(payment).or_else(|| text(&payment["id"])),
        refund: text(&json["metadata"][REFUND]),
        failure: text(&json["failure_reason"]),
    })
}

impl StripeClient {
    async fn ask_refund(
        &self,
        request: RequestBuilder,
        key: Option<&str>,
    ) -> Result<Refund, StripeFailure> {
        let json = self.ask(request, key).await?;
        let unread = || StripeFailure::Unavailable("the answer is no refund".to_owned());
        read_refund(&json).ok_or_else(unread)
    }

    async fn list_refunds(&self, payment: &str) -> Result<Vec<Refund>, StripeFailure> {
        let mut list = ListRefund::new().payment_intent(payment).limit(PAGE);
        let mut refunds = Vec::new();
        for _ in 0..PAGES_MAX {
            let page = self.ask(list.build(), None).await?;
            let entries = entries_of(&page)?;
            refunds.extend(entries.iter().filter_map(read_refund));
            match entries.last().and_then(|entry| entry["id"].as_str()) {
                Some(last) if page["has_more"] == true => list = list.starting_after(last),
                _ => return Ok(refunds),
            }
        }
        Err(StripeFailure::Unavailable("the list has no end".to_owned()))
    }
}

impl Refunding for StripeClient {
    fn refund<'a>(&'a self, new: &'a NewRefund) -> Answer<'a, Refund> {
        async move { self.ask_refund(refund_request(new)?, Some(&new.refund)).await }.boxed()
    }

    fn refund_now<'a>(&'a self, id: &'a str) -> Answer<'a, Refund> {
        self.ask_refund(RetrieveRefund::new(id).build(), None).boxed()
    }

    fn refunds_of<'a>(&'a self, payment: &'a str) -> Answer<'a, Vec<Refund>> {
        self.list_refunds(payment).boxed()
    }
}

fn refund_request(new: &NewRefund) -> Result<RequestBuilder, StripeFailure> {
    let amount = to_stripe(new.amount, &new.currency);
    let amount = amount.ok_or_else(|| StripeFailure::Refused("no such amount".to_owned()))?;
    let unknown = |_| StripeFailure::Refused(format!("no reason {}", new.reason));
    let reason: CreateRefundReason = new.reason.parse().map_err(unknown)?;
    let metadata = HashMap::from([
        (ACCOUNT.to_owned(), new.account.clone()),
        (PURCHASE.to_owned(), new.purchase.clone()),
        (REFUND.to_owned(), new.refund.clone()),
    ]);
    let request = CreateRefund::new().payment_intent(new.payment.clone()).amount(amount);
    Ok(request.reason(reason).metadata(metadata).build())
}
