//! A subscription in the API, and what a change of it would cost.

use async_graphql::{Context, Description, Enum, Object, Result};

use crate::credits::graphql::PlanType;
use crate::entity::tenant_subscription;
use crate::graphql::caller::caller;
use crate::graphql::payload::int;
use crate::graphql::scalars::{DateTime, Money};
use crate::money;
use crate::plans::service::change::Preview;
use crate::plans::service::lookup;

/// Where a subscription stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "tenant_subscription::SubscriptionStatus")]
pub enum SubscriptionStatus {
    /// The answer is on its way, or was lost; we go on asking.
    Pending,
    /// It waits for its first payment: see `clientSecret`.
    Incomplete,
    /// Paid.
    Active,
    /// A renewal was not paid; it is waited for until `graceUntil`.
    PastDue,
    /// A renewal was not paid in time: the next resets bring no free credits.
    Suspended,
    /// Over.
    Cancelled,
    /// Never paid, and given up.
    IncompleteExpired,
    /// It was not begun; nothing was charged.
    Failed,
}

/// A plan that a tenant pays for by the month.
#[derive(Description)]
pub struct PlanSubscription(pub tenant_subscription::Model);

#[Object(use_type_description)]
impl PlanSubscription {
    /// Stripe's id of it; null until Stripe has answered.
    async fn stripe_subscription_id(&self) -> Option<&str> {
        self.0.stripe_id.as_deref()
    }

    /// Where it stands.
    async fn status(&self) -> SubscriptionStatus {
        self.0.status.into()
    }

    /// The plan that is paid for, or is to be.
    async fn plan(&self) -> PlanType {
        self.0.plan_type.into()
    }

    /// A smaller plan that follows at the end of the month, or a larger one that waits for its
    /// payment; null when none does.
    async fn pending_plan(&self) -> Option<PlanType> {
        self.0.pending_plan_type.map(PlanType::from)
    }

    /// When the present month began; null before Stripe has answered.
    async fn current_period_start(&self) -> Option<DateTime> {
        self.0.period_start.map(DateTime)
    }

    /// When the present month ends; null before Stripe has answered.
    async fn current_period_end(&self) -> Option<DateTime> {
        self.0.period_end.map(DateTime)
    }

    /// Whether it ends with the present month.
    async fn cancel_at_period_end(&self) -> bool {
        self.0.cancel_at_period_end
    }

    /// Until when a renewal that was not paid is waited for; null when none is.
    async fn grace_until(&self) -> Option<DateTime> {
        self.0.grace_until.map(DateTime)
    }

    /// For Stripe.js, while something is to be paid on the page. It is a secret.
    fn client_secret(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        Ok(lookup::client_secret(&caller(ctx).app, &self.0)?)
    }

    /// Rises with every change.
    async fn version(&self) -> i32 {
        int(self.0.version)
    }

    /// When it was begun.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// When it ended; null while it goes on.
    async fn ended_at(&self) -> Option<DateTime> {
        self.0.ended_at.map(DateTime)
    }
}

/// What a change of plan would cost now.
#[derive(Description)]
pub struct PlanChangePreview(pub Preview);

#[Object(use_type_description)]
impl PlanChangePreview {
    /// The plan to change to.
    async fn plan(&self) -> PlanType {
        self.0.plan.into()
    }

    /// Whether it would count now; otherwise from `renewsAt` on.
    async fn is_immediate(&self) -> bool {
        self.0.is_immediate
    }

    /// What would be paid now, tax included.
    async fn due_now(&self) -> Money {
        yen(self.0.due)
    }

    /// What is taken off for the rest of the present month.
    async fn credit(&self) -> Money {
        yen(self.0.credit)
    }

    /// The tax in what would be paid now.
    async fn tax(&self) -> Money {
        yen(self.0.tax)
    }

    /// What each further month would cost, tax included.
    async fn renewal_amount(&self) -> Money {
        yen(self.0.renewal)
    }

    /// When the next month would be paid.
    async fn renews_at(&self) -> DateTime {
        DateTime(self.0.renews_at)
    }
}

fn yen(minor: i64) -> Money {
    Money(money::Money::yen(minor))
}
