//! The sandbox's cards. What a card does, and what it is known by, stands in its id, so that cards
//! outlive the program; which were given up is forgotten with it.
//!
//! | Method | What happens when it is stored |
//! |---|---|
//! | `pm_card_visa`, any other, any confirmation token | it is |
//! | `pm_card_chargeDeclined…` | declined |
//! | `pm_card_chargeCustomerFail` | it is; payments are declined |
//! | `pm_card_authenticationRequired` | the bank asks; off-session payments are declined |
//! | none | at the next look the buyer gave a `pm_card_visa` |

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::{Card, Decline, Method, NewSetup, PaymentState, Setup, StripeFailure};
use super::{Outcome, outcome};

/// Setups, and cards that were given up, that are remembered.
const REMEMBERED_MAX: usize = 10_000;
const STORED: &str = "pm_sandbox_";
const NAMED: &str = "pm_card_";
/// Stripe's longest test name is shorter.
const TAIL_CHARS_MAX: usize = 60;

/// Setups in memory, and cards that were given up.
#[derive(Default)]
pub(super) struct SandboxCards(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    setups: VecDeque<Setup>,
    given_up: VecDeque<String>,
}

impl SandboxCards {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_up(&self, new: &NewSetup) -> Result<Setup, StripeFailure> {
        let id = format!("seti_sandbox_{}", new.key.replace(':', "_"));
        let mut memory = self.memory();
        if let Some(known) = memory.setups.iter().find(|setup| setup.id == id) {
            return told(known);
        }
        let (state, decline, method) = match &new.method {
            None => (PaymentState::NeedsMethod, None, None),
            Some(method) => match outcome(&name_of(method)) {
                Outcome::Declined(decline) => (PaymentState::NeedsMethod, Some(decline), None),
                Outcome::Asks => {
                    (PaymentState::NeedsAction, None, Some(stored(&name_of(method), &id)))
                }
                Outcome::Paid | Outcome::FailsLater => {
                    (PaymentState::Succeeded, None, Some(stored(&name_of(method), &id)))
                }
            },
        };
        let setup = Setup {
            client_secret: Some(format!("{id}_secret_sandbox")),
            customer: Some(new.customer.clone()),
            tenant: Some(new.tenant.clone()),
            user: Some(new.user.clone()),
            is_live: false,
            id,
            state,
            method,
            decline,
        };
        remember(&mut memory.setups, setup.clone());
        told(&setup)
    }

    pub(super) fn setup(&self, id: &str) -> Result<Setup, StripeFailure> {
        let mut memory = self.memory();
        let setup = memory.setups.iter_mut().find(|setup| setup.id == id);
        let setup = setup.ok_or(StripeFailure::NotFound)?;
        // Whoever looks again has given a card, or come back from the bank.
        if setup.decline.is_none() && setup.state != PaymentState::Succeeded {
            setup.state = PaymentState::Succeeded;
            setup.method.get_or_insert_with(|| stored("pm_card_visa", id));
        }
        Ok(setup.clone())
    }

    pub(super) fn card(&self, customer: &str, id: &str) -> Result<Card, StripeFailure> {
        let is_given_up = self.memory().given_up.iter().any(|given_up| given_up == id);
        if is_given_up || !id.starts_with(STORED) {
            return Err(StripeFailure::NotFound);
        }
        let name = name(id);
        let (brand, last4) = match name.strip_prefix(NAMED).unwrap_or_default() {
            "mastercard" => ("mastercard", "4444"),
            "amex" => ("amex", "8431"),
            "jcb" => ("jcb", "0505"),
            "authenticationRequired" => ("visa", "3184"),
            "chargeCustomerFail" => ("visa", "0341"),
            _ => ("visa", "4242"),
        };
        Ok(Card {
            id: id.to_owned(),
            customer: Some(customer.to_owned()),
            brand: brand.to_owned(),
            last4: last4.to_owned(),
            exp_month: 12,
            exp_year: 2099,
            fingerprint: Some(format!("sandbox{last4}")),
            is_live: false,
        })
    }

    pub(super) fn give_up(&self, id: &str) {
        remember(&mut self.memory().given_up, id.to_owned());
    }
}

/// Stripe tells of a refused card by an error.
fn told(setup: &Setup) -> Result<Setup, StripeFailure> {
    match &setup.decline {
        None => Ok(setup.clone()),
        Some(decline) => Err(StripeFailure::Declined(Decline::clone(decline), None)),
    }
}

fn remember<T>(memory: &mut VecDeque<T>, new: T) {
    if memory.len() == REMEMBERED_MAX {
        memory.pop_front();
    }
    memory.push_back(new);
}

/// The id of a card that is stored by this setup or payment: no other has it.
pub(super) fn stored(name: &str, by: &str) -> String {
    let unique: String = by.chars().filter(char::is_ascii_alphanumeric).collect();
    let tail: String =
        name.strip_prefix(NAMED).unwrap_or("visa").chars().take(TAIL_CHARS_MAX).collect();
    format!("{STORED}{tail}_{unique}")
}

/// Stripe's test name of a method.
pub(super) fn name_of(method: &Method) -> String {
    match method {
        Method::Card(id) => name(id),
        Method::Token(_) => "pm_card_visa".to_owned(),
    }
}

fn name(id: &str) -> String {
    let of_stored = id.strip_prefix(STORED).and_then(|rest| rest.rsplit_once('_'));
    of_stored.map_or_else(|| id.to_owned(), |(tail, _)| format!("{NAMED}{tail}"))
}
