//! Refunds of the sandbox. One of a payment with `pm_card_pendingRefund` or `pm_card_refundFail` is
//! on its way until the next look; then it has gone back, or failed.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::future::{FutureExt, ready};

use super::super::{Answer, NewRefund, Refund, RefundState, Refunding, StripeFailure};
use super::SandboxPayments;

/// Refunds that are remembered.
const REFUNDS_MAX: usize = 10_000;
const PENDING: &str = "pm_card_pendingRefund";
const FAILING: &str = "pm_card_refundFail";

/// A refund, and whether the next look finds it failed.
struct Given {
    refund: Refund,
    fails: bool,
}

/// Refunds in memory.
#[derive(Default)]
pub(super) struct SandboxRefunds(Mutex<VecDeque<Given>>);

impl SandboxRefunds {
    fn all(&self) -> MutexGuard<'_, VecDeque<Given>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give(&self, new: &NewRefund, method: Option<&str>) -> Refund {
        let id = format!("re_sandbox_{}", new.refund);
        let mut all = self.all();
        if let Some(known) = all.iter().find(|given| given.refund.id == id) {
            return known.refund.clone();
        }
        let waits = matches!(method, Some(PENDING | FAILING));
        let refund = Refund {
            id,
            state: if waits { RefundState::Pending } else { RefundState::Succeeded },
            amount: new.amount,
            currency: new.currency.clone(),
            payment: Some(new.payment.clone()),
            refund: Some(new.refund.clone()),
            failure: None,
        };
        if all.len() == REFUNDS_MAX {
            all.pop_front();
        }
        all.push_back(Given { refund: refund.clone(), fails: method == Some(FAILING) });
        refund
    }

    fn look(&self, id: &str) -> Result<Refund, StripeFailure> {
        let mut all = self.all();
        let given = all.iter_mut().find(|given| given.refund.id == id);
        let given = given.ok_or(StripeFailure::NotFound)?;
        if given.refund.state == RefundState::Pending {
            let refund = &mut given.refund;
            (refund.state, refund.failure) = match given.fails {
                true => (RefundState::Failed, Some("expired_or_canceled_card".to_owned())),
                false => (RefundState::Succeeded, None),
            };
        }
        Ok(given.refund.clone())
    }

    fn of_payment(&self, payment: &str) -> Vec<Refund> {
        let all = self.all();
        let is_its = |given: &&Given| given.refund.payment.as_deref() == Some(payment);
        all.iter().filter(is_its).map(|given| given.refund.clone()).collect()
    }
}

impl Refunding for SandboxPayments {
    fn refund<'a>(&'a self, new: &'a NewRefund) -> Answer<'a, Refund> {
        let method =
            self.payments().iter().find(|it| it.id == new.payment).and_then(|it| it.method.clone());
        ready(Ok(self.refunds.give(new, method.as_deref()))).boxed()
    }

    fn refund_now<'a>(&'a self, id: &'a str) -> Answer<'a, Refund> {
        ready(self.refunds.look(id)).boxed()
    }

    fn refunds_of<'a>(&'a self, payment: &'a str) -> Answer<'a, Vec<Refund>> {
        ready(Ok(self.refunds.of_payment(payment))).boxed()
    }
}
