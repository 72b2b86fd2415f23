//! Payments without Stripe, for development: nobody pays, and Stripe's own test names of methods
//! say what happens. What is not known here is paid at once.
//!
//! | Method | What happens |
//! |---|---|
//! | `pm_card_visa`, any other, any confirmation token | paid |
//! | `pm_card_chargeDeclined` | declined |
//! | `pm_card_chargeDeclinedInsufficientFunds`, `…ExpiredCard`, `…IncorrectCvc` | declined, why |
//! | `pm_card_chargeCustomerFail` | declined; it can be stored |
//! | `pm_card_authenticationRequired` | the bank asks; at the next look the buyer answered |
//! | `pm_card_pendingRefund`, `…refundFail` | paid; a refund ends, or fails, at the next look |
//! | an invoice to `unpaid…@…` | it stays unpaid; any other is paid at the next look |
//!
//! Cards that are stored, invoices, refunds and plans are in the files beside.

mod cards;
mod invoices;
mod refunds;
mod subscriptions;

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use futures_util::future::{FutureExt, ready};

use crate::clock::Clock;

use super::{
    Answer, Card, Decline, Method, NewPayment, NewSetup, Payment, PaymentState, Payments, Setup,
    StripeFailure,
};
use cards::{SandboxCards, name_of, stored};
use invoices::SandboxInvoices;
use refunds::SandboxRefunds;
use subscriptions::SandboxSubscriptions;

/// Payments that are remembered.
const PAYMENTS_MAX: usize = 10_000;
const ASKED: &str = "authentication_required";

/// Payments in memory, forgotten when the program ends.
#[derive(Default)]
pub struct SandboxPayments {
    payments: Mutex<VecDeque<Payment>>,
    cards: SandboxCards,
    invoices: SandboxInvoices,
    refunds: SandboxRefunds,
    subscriptions: SandboxSubscriptions,
}

impl SandboxPayments {
    /// Whose months go by this clock.
    pub fn at(clock: Clock) -> Self {
        Self { subscriptions: SandboxSubscriptions::at(clock), ..Self::default() }
    }

    fn payments(&self) -> MutexGuard<'_, VecDeque<Payment>> {
        self.payments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_to_pay(&self, new: &NewPayment) -> Result<Payment, StripeFailure> {
        let id = format!("pi_sandbox_{}", new.purchase);
        let mut payments = self.payments();
        if let Some(known) = payments.iter().find(|payment| payment.id == id) {
            return told(known);
        }
        let (state, decline) = tried(new);
        let method = match &new.method {
            _ if new.saves_card => Some(stored(&name_of(&new.method), &id)),
            Method::Card(id) => Some(id.clone()),
            Method::Token(_) => None,
        };
        let payment = Payment {
            client_secret: Some(format!("{id}_secret_sandbox")),
            id,
            state,
            amount: new.amount,
            received: if state == PaymentState::Succeeded { new.amount } else { 0 },
            currency: new.currency.clone(),
            is_live: false,
            purchase: Some(new.purchase.clone()),
            account: Some(new.account.clone()),
            decline,
            method,
        };
        if payments.len() == PAYMENTS_MAX {
            payments.pop_front();
        }
        payments.push_back(payment.clone());
        told(&payment)
    }

    fn look(&self, id: &str, step: impl Fn(&mut Payment)) -> Result<Payment, StripeFailure> {
        let mut payments = self.payments();
        let payment = payments.iter_mut().find(|payment| payment.id == id);
        let payment = payment.ok_or(StripeFailure::NotFound)?;
        if waits(payment) {
            step(payment);
        }
        Ok(payment.clone())
    }
}

/// Stripe tells of a refused card by an error.
fn told(payment: &Payment) -> Result<Payment, StripeFailure> {
    match &payment.decline {
        None => Ok(payment.clone()),
        Some(decline) => {
            Err(StripeFailure::Declined(decline.clone(), Some(Box::new(payment.clone()))))
        }
    }
}

/// What a method does, by Stripe's test name of it.
pub(super) enum Outcome {
    Paid,
    Asks,
    /// It can be stored, and no payment is made with it.
    FailsLater,
    Declined(Decline),
}

pub(super) fn outcome(name: &str) -> Outcome {
    let declined = |code: &str, decline_code: Option<&str>| {
        let decline_code = decline_code.map(str::to_owned);
        Outcome::Declined(Decline { code: code.to_owned(), decline_code })
    };
    match name {
        "pm_card_authenticationRequired" | "pm_card_threeDSecure2Required" => Outcome::Asks,
        "pm_card_chargeCustomerFail" => Outcome::FailsLater,
        "pm_card_chargeDeclined" => declined("card_declined", Some("generic_decline")),
        "pm_card_chargeDeclinedInsufficientFunds" => {
            declined("card_declined", Some("insufficient_funds"))
        }
        "pm_card_chargeDeclinedExpiredCard" => declined("expired_card", None),
        "pm_card_chargeDeclinedIncorrectCvc" => declined("incorrect_cvc", None),
        "pm_card_chargeDeclinedProcessingError" => declined("processing_error", None),
        _ => Outcome::Paid,
    }
}

/// How a payment stands after the first try.
fn tried(new: &NewPayment) -> (PaymentState, Option<Decline>) {
    let declined = |code: &str, reason: &str| {
        let decline = Decline { code: code.to_owned(), decline_code: Some(reason.to_owned()) };
        (PaymentState::NeedsMethod, Some(decline))
    };
    match outcome(&name_of(&new.method)) {
        Outcome::Paid => (PaymentState::Succeeded, None),
        Outcome::Asks if new.off_session => declined(ASKED, ASKED),
        Outcome::Asks => (PaymentState::NeedsAction, None),
        Outcome::FailsLater => declined("card_declined", "generic_decline"),
        Outcome::Declined(decline) => (PaymentState::NeedsMethod, Some(decline)),
    }
}

/// Whether the buyer's bank waits for them.
fn waits(payment: &Payment) -> bool {
    let is_asked = payment.decline.as_ref().is_some_and(|decline| decline.code == ASKED);
    payment.state == PaymentState::NeedsAction
        || (payment.state == PaymentState::NeedsMethod && is_asked)
}

impl Payments for SandboxPayments {
    fn is_live(&self) -> bool {
        false
    }

    fn create_customer<'a>(&'a self, _: &'a str, tenant: &'a str) -> Answer<'a, String> {
        ready(Ok(format!("cus_sandbox_{tenant}"))).boxed()
    }

    fn pay<'a>(&'a self, new: &'a NewPayment) -> Answer<'a, Payment> {
        ready(self.try_to_pay(new)).boxed()
    }

    fn payment<'a>(&'a self, id: &'a str) -> Answer<'a, Payment> {
        // Whoever looks again has come back from the bank.
        let answered = |payment: &mut Payment| {
            payment.state = PaymentState::Succeeded;
            payment.received = payment.amount;
            payment.decline = None;
        };
        ready(self.look(id, answered)).boxed()
    }

    fn find<'a>(
        &'a self,
        _: &'a str,
        _: DateTime<Utc>,
        purchase: &'a str,
    ) -> Answer<'a, Option<Payment>> {
        let payments = self.payments();
        let found = payments.iter().find(|payment| payment.purchase.as_deref() == Some(purchase));
        ready(Ok(found.cloned())).boxed()
    }

    fn cancel<'a>(&'a self, id: &'a str) -> Answer<'a, Payment> {
        let given_up = |payment: &mut Payment| payment.state = PaymentState::Cancelled;
        ready(self.look(id, given_up)).boxed()
    }

    fn set_up<'a>(&'a self, new: &'a NewSetup) -> Answer<'a, Setup> {
        ready(self.cards.set_up(new)).boxed()
    }

    fn setup<'a>(&'a self, id: &'a str) -> Answer<'a, Setup> {
        ready(self.cards.setup(id)).boxed()
    }

    fn card<'a>(&'a self, customer: &'a str, id: &'a str) -> Answer<'a, Card> {
        ready(self.cards.card(customer, id)).boxed()
    }

    fn detach<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        self.cards.give_up(id);
        ready(Ok(())).boxed()
    }
}
