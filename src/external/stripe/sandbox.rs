//! Payments without Stripe, for development: nobody pays, and Stripe's own test names of methods
//! say what happens. What is not known here is paid at once.
//!
//! | Method | What happens |
//! |---|---|
//! | `pm_card_visa`, any other, any confirmation token | paid |
//! | `pm_card_chargeDeclined` | declined |
//! | `pm_card_chargeDeclinedInsufficientFunds`, `…ExpiredCard`, `…IncorrectCvc` | declined, why |
//! | `pm_card_authenticationRequired` | the bank asks; at the next look the buyer answered |

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use futures_util::future::{FutureExt, ready};

use super::{Answer, Decline, Method, NewPayment, Payment, PaymentState, Payments, StripeFailure};

/// Payments that are remembered.
const PAYMENTS_MAX: usize = 10_000;

/// Payments in memory, forgotten when the program ends.
#[derive(Default)]
pub struct SandboxPayments(Mutex<VecDeque<Payment>>);

impl SandboxPayments {
    fn payments(&self) -> MutexGuard<'_, VecDeque<Payment>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_to_pay(&self, new: &NewPayment) -> Result<Payment, StripeFailure> {
        let id = format!("pi_sandbox_{}", new.purchase);
        let mut payments = self.payments();
        if let Some(known) = payments.iter().find(|payment| payment.id == id) {
            return told(known);
        }
        let (state, decline) = outcome(&new.method);
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
            method: match &new.method {
                Method::Card(id) => Some(id.clone()),
                Method::Token(_) => None,
            },
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
        if payment.state == PaymentState::NeedsAction {
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

fn outcome(method: &Method) -> (PaymentState, Option<Decline>) {
    let Method::Card(name) = method else { return (PaymentState::Succeeded, None) };
    let (code, decline_code) = match name.as_str() {
        "pm_card_authenticationRequired" | "pm_card_threeDSecure2Required" => {
            return (PaymentState::NeedsAction, None);
        }
        "pm_card_chargeDeclined" => ("card_declined", Some("generic_decline")),
        "pm_card_chargeDeclinedInsufficientFunds" => ("card_declined", Some("insufficient_funds")),
        "pm_card_chargeDeclinedExpiredCard" => ("expired_card", None),
        "pm_card_chargeDeclinedIncorrectCvc" => ("incorrect_cvc", None),
        "pm_card_chargeDeclinedProcessingError" => ("processing_error", None),
        _ => return (PaymentState::Succeeded, None),
    };
    let decline_code = decline_code.map(str::to_owned);
    let decline = Decline { code: code.to_owned(), decline_code };
    (PaymentState::NeedsMethod, Some(decline))
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
}
