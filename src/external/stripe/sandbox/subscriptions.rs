//! Plans without Stripe, for development: months go by at the clock, and whoever looks finds them
//! paid, or not.
//!
//! | Card | What happens |
//! |---|---|
//! | none, `pm_card_authenticationRequired` | the page asks; at the second look it was answered |
//! | `pm_card_chargeDeclined` | the first payment stays open |
//! | `pm_card_chargeCustomerFail` | the first month is paid, the next ones are not |
//! | `pm_card_visa`, any other | paid, month after month |

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Months, SubsecRound, Utc};
use futures_util::future::{FutureExt, ready};

use super::super::{
    Answer, NewSubscription, Preview, Price, Rate, SandboxPayments, Step, StripeFailure,
    Subscription, SubscriptionState, Subscriptions,
};
use crate::clock::Clock;
use crate::money::share;

/// Subscriptions that are remembered.
const SUBSCRIPTIONS_MAX: usize = 10_000;

/// Subscriptions in memory, forgotten when the program ends.
pub(super) struct SandboxSubscriptions {
    clock: Clock,
    rows: Mutex<VecDeque<Row>>,
}

struct Row {
    told: Subscription,
    card: Card,
    looks: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Card {
    Pays,
    Asks,
    Declines,
    PaysOnce,
}

impl Default for SandboxSubscriptions {
    fn default() -> Self {
        Self::at(Clock::system())
    }
}

impl SandboxSubscriptions {
    pub(super) fn at(clock: Clock) -> Self {
        Self { clock, rows: Mutex::default() }
    }

    fn now(&self) -> DateTime<Utc> {
        self.clock.db_now().trunc_subsecs(0)
    }

    fn rows(&self) -> MutexGuard<'_, VecDeque<Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, new: &NewSubscription) -> Subscription {
        let id = format!("sub_sandbox_{}", new.subscription);
        let mut rows = self.rows();
        if let Some(known) = rows.iter().find(|row| row.told.id == id) {
            return known.told.clone();
        }
        let card = card(new.method.as_deref());
        let is_paid = matches!(card, Card::Pays | Card::PaysOnce);
        let told = Subscription {
            state: if is_paid { SubscriptionState::Active } else { SubscriptionState::Incomplete },
            customer: new.customer.clone(),
            lines: (1, 1),
            item: format!("si_sandbox_{}", new.subscription),
            price: price(&new.rate),
            pending: None,
            period: month(self.now()),
            cancel_at_period_end: false,
            ended_at: None,
            is_live: false,
            tenant: Some(new.tenant.clone()),
            subscription: Some(new.subscription.clone()),
            paid: None,
            client_secret: (!is_paid).then(|| format!("{id}_secret_sandbox")),
            id,
        };
        if rows.len() == SUBSCRIPTIONS_MAX {
            rows.pop_front();
        }
        rows.push_back(Row { told: told.clone(), card, looks: 0 });
        told
    }

    /// Lets time go by for a subscription, then does something to it.
    fn with(
        &self,
        id: &str,
        step: impl FnOnce(&mut Subscription, DateTime<Utc>),
    ) -> Result<Subscription, StripeFailure> {
        let now = self.now();
        let mut rows = self.rows();
        let row = rows.iter_mut().find(|row| row.told.id == id).ok_or(StripeFailure::NotFound)?;
        row.go_on(now);
        step(&mut row.told, now);
        Ok(row.told.clone())
    }

    fn look(&self, id: &str) -> Result<Subscription, StripeFailure> {
        let mut rows = self.rows();
        if let Some(row) = rows.iter_mut().find(|row| row.told.id == id) {
            row.looks += 1;
        }
        drop(rows);
        self.with(id, |_, _| {})
    }

    fn price_up(&self, id: &str, rate: &Rate) -> Result<Preview, StripeFailure> {
        let now = self.now();
        let told = self.with(id, |_, _| {})?;
        let (start, end) = told.period;
        let left = (end - now).num_seconds().max(0);
        let whole = (end - start).num_seconds().max(1);
        let credit = share(told.price.amount.unwrap_or(0), left, whole);
        Ok(Preview {
            due: rate.amount - credit,
            credit,
            tax: None,
            currency: "JPY".to_owned(),
            renews_at: month(now).1,
        })
    }
}

impl Row {
    fn go_on(&mut self, now: DateTime<Utc>) {
        let told = &mut self.told;
        // Whoever looks again has come back from the page.
        if told.state == SubscriptionState::Incomplete && self.card == Card::Asks && self.looks > 1
        {
            told.state = SubscriptionState::Active;
            told.client_secret = None;
        }
        while told.state == SubscriptionState::Active && told.period.1 <= now {
            if told.cancel_at_period_end {
                told.state = SubscriptionState::Cancelled;
                told.ended_at = Some(told.period.1);
                return;
            }
            told.period = month(told.period.1);
            if self.card == Card::PaysOnce {
                told.state = SubscriptionState::PastDue;
                told.client_secret = Some(format!("{}_secret_sandbox", told.id));
            }
        }
    }
}

fn card(method: Option<&str>) -> Card {
    match method {
        None | Some("pm_card_authenticationRequired" | "pm_card_threeDSecure2Required") => {
            Card::Asks
        }
        Some("pm_card_chargeCustomerFail") => Card::PaysOnce,
        Some(name) if name.starts_with("pm_card_chargeDeclined") => Card::Declines,
        Some(_) => Card::Pays,
    }
}

fn price(rate: &Rate) -> Price {
    let inline = || format!("price_sandbox_{}_{}", rate.product, rate.amount);
    Price {
        id: rate.price.clone().unwrap_or_else(inline),
        product: rate.product.clone(),
        amount: Some(rate.amount),
        currency: "JPY".to_owned(),
        is_monthly: true,
    }
}

fn month(start: DateTime<Utc>) -> (DateTime<Utc>, DateTime<Utc>) {
    (start, start.checked_add_months(Months::new(1)).unwrap_or(start))
}

fn take(told: &mut Subscription, step: &Step, now: DateTime<Utc>) {
    match step {
        Step::Up(rate) => {
            told.price = price(rate);
            told.period = month(now);
        }
        Step::Down(rate, (plan, until)) => {
            told.price = price(rate);
            told.paid = Some((plan.clone(), until.timestamp()));
        }
        Step::Back(rate) => told.price = price(rate),
        Step::End(is_ending) => told.cancel_at_period_end = *is_ending,
    }
}

fn end(told: &mut Subscription, now: DateTime<Utc>) {
    match told.state {
        SubscriptionState::Cancelled | SubscriptionState::Expired => return,
        SubscriptionState::Incomplete => told.state = SubscriptionState::Expired,
        SubscriptionState::Active | SubscriptionState::PastDue | SubscriptionState::Other => {
            told.state = SubscriptionState::Cancelled;
        }
    }
    told.ended_at = Some(now);
    told.client_secret = None;
}

impl Subscriptions for SandboxPayments {
    fn keep_product<'a>(&'a self, _: &'a str, _: &'a str) -> Answer<'a, ()> {
        ready(Ok(())).boxed()
    }

    fn sell<'a>(&'a self, rate: &'a Rate) -> Answer<'a, Rate> {
        ready(Ok(rate.clone())).boxed()
    }

    fn subscribe<'a>(&'a self, new: &'a NewSubscription) -> Answer<'a, Subscription> {
        ready(Ok(self.subscriptions.begin(new))).boxed()
    }

    fn subscription<'a>(&'a self, id: &'a str) -> Answer<'a, Subscription> {
        ready(self.subscriptions.look(id)).boxed()
    }

    fn find_subscription<'a>(
        &'a self,
        _: &'a str,
        subscription: &'a str,
    ) -> Answer<'a, Option<Subscription>> {
        let found = match self.subscriptions.look(&format!("sub_sandbox_{subscription}")) {
            Err(StripeFailure::NotFound) => Ok(None),
            found => found.map(Some),
        };
        ready(found).boxed()
    }

    fn change_subscription<'a>(
        &'a self,
        (id, _): (&'a str, &'a str),
        _: &'a str,
        step: &'a Step,
    ) -> Answer<'a, Subscription> {
        ready(self.subscriptions.with(id, |told, now| take(told, step, now))).boxed()
    }

    fn end_subscription<'a>(&'a self, id: &'a str) -> Answer<'a, Subscription> {
        ready(self.subscriptions.with(id, end)).boxed()
    }

    fn preview_change<'a>(
        &'a self,
        _: &'a str,
        (id, _): (&'a str, &'a str),
        rate: &'a Rate,
    ) -> Answer<'a, Preview> {
        ready(self.subscriptions.price_up(id, rate)).boxed()
    }
}
