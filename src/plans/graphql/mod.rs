//! Plans in the API: what can be asked and done here, the subscription in the file beside.

pub mod subscription;

use async_graphql::{Context, InputObject, Object, Result};

use crate::credits::graphql::{CreditBalance, PlanType};
use crate::credits::service::account as accounts;
use crate::credits::watch::Balance;
use crate::entity::tenant_subscription::{self, SubscriptionStatus};
use crate::error::Error;
use crate::graphql::caller::{Answer, Caller, answer, caller, payload};
use crate::graphql::payload::user_errors;
use crate::ids::TenantId;
use crate::payloads;
use crate::plans::error::PlanError;
use crate::plans::service::{change, end, lookup, subscribe};
pub use subscription::{PlanChangePreview, PlanSubscription};

/// A plan to subscribe to.
#[derive(Debug, InputObject)]
pub struct PlanSubscribeInput {
    /// The plan; its price is the one of our catalogue.
    plan_type: PlanType,
    /// Stripe's id of a card that is kept for the tenant, `pm_…`. When absent, the page asks for
    /// one with `clientSecret`.
    stripe_payment_method_id: Option<String>,
    /// The client's key, 8 to 255 characters: the same key subscribes once.
    idempotency_key: String,
}

/// A plan to change to.
#[derive(Debug, InputObject)]
pub struct PlanChangeInput {
    /// The plan. The present one takes a smaller one back that waits for the end of the month.
    plan_type: PlanType,
    /// The client's key, 8 to 255 characters: the same key changes once.
    idempotency_key: String,
}

payloads! {
    /// The result of changes of the plan that is paid for.
    PlanSubscriptionPayload {
        /// The subscription as it stands.
        subscription: PlanSubscription,
        /// The balance after it.
        balance: CreditBalance,
    }
}

/// What a tenant has; for `Tenant.subscription`.
pub async fn subscription_of(
    ctx: &Context<'_>,
    tenant: TenantId,
) -> Result<Option<PlanSubscription>> {
    let caller = caller(ctx);
    let row = lookup::of_tenant(&caller.app, caller.actor()?, tenant).await?;
    Ok(row.map(PlanSubscription))
}

/// What a change of plan would be.
#[derive(Default)]
pub struct PlanQuery;

#[Object]
impl PlanQuery {
    /// What a change of plan would cost now. Nothing is changed. For ADMIN.
    async fn plan_change_preview(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The plan to change to.")] plan_type: PlanType,
    ) -> Answer<PlanChangePreview> {
        let caller = caller(ctx);
        answer(
            ctx,
            Box::pin(async {
                let told = change::preview(&caller.app, caller.actor()?, plan_type.into()).await?;
                Ok(PlanChangePreview(told))
            }),
        )
        .await
    }
}

/// Paying for a plan by the month.
#[derive(Default)]
pub struct PlanMutation;

#[Object]
impl PlanMutation {
    /// Subscribes the tenant to a plan. INCOMPLETE: give `clientSecret` to Stripe.js, then call
    /// `planSubscriptionConfirm`. ACTIVE: the plan and its free credits are there. PENDING: send
    /// the same key again. For ADMIN.
    async fn plan_subscribe(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The subscription.")] input: PlanSubscribeInput,
    ) -> Answer<PlanSubscriptionPayload> {
        let caller = caller(ctx);
        let work = Box::pin(async {
            let wish = subscribe::Wish {
                plan: input.plan_type.into(),
                payment_method_id: input.stripe_payment_method_id,
                idempotency_key: input.idempotency_key,
            };
            let row = subscribe::subscribe(&caller.app, caller.actor()?, wish);
            with_balance(caller, Box::pin(row).await?).await
        });
        payload(ctx, work, |done| done, PlanSubscriptionPayload::refused).await
    }

    /// Looks how the subscription stands when the buyer has paid on their page. For ADMIN.
    async fn plan_subscription_confirm(
        &self,
        ctx: &Context<'_>,
    ) -> Answer<PlanSubscriptionPayload> {
        let caller = caller(ctx);
        let work = Box::pin(async {
            let row = end::confirm(&caller.app, caller.actor()?);
            with_balance(caller, Box::pin(row).await?).await
        });
        payload(ctx, work, |done| done, PlanSubscriptionPayload::refused).await
    }

    /// Changes the plan. A larger one begins a new month now: it is paid in full, less what was
    /// paid for the rest of the present one, and counts once that is paid. While `pendingPlan`
    /// waits with a `clientSecret`, give that to Stripe.js. A smaller one costs less from the next
    /// month on, and its free credits follow with the first reset after that. For ADMIN.
    async fn plan_change(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The change.")] input: PlanChangeInput,
    ) -> Answer<PlanSubscriptionPayload> {
        let caller = caller(ctx);
        let work = Box::pin(async {
            let wish = change::Wish {
                plan: input.plan_type.into(),
                idempotency_key: input.idempotency_key,
            };
            let row = change::change(&caller.app, caller.actor()?, wish);
            with_balance(caller, Box::pin(row).await?).await
        });
        payload(ctx, work, |done| done, PlanSubscriptionPayload::refused).await
    }

    /// Ends the subscription: with its month when that is paid, now when it is not. For ADMIN.
    async fn plan_cancel(&self, ctx: &Context<'_>) -> Answer<PlanSubscriptionPayload> {
        let caller = caller(ctx);
        let work = Box::pin(async {
            let row = end::cancel(&caller.app, caller.actor()?);
            with_balance(caller, Box::pin(row).await?).await
        });
        payload(ctx, work, |done| done, PlanSubscriptionPayload::refused).await
    }

    /// Takes `planCancel` back while the month goes on. For ADMIN.
    async fn plan_resume(&self, ctx: &Context<'_>) -> Answer<PlanSubscriptionPayload> {
        let caller = caller(ctx);
        let work = Box::pin(async {
            let row = end::resume(&caller.app, caller.actor()?);
            with_balance(caller, Box::pin(row).await?).await
        });
        payload(ctx, work, |done| done, PlanSubscriptionPayload::refused).await
    }
}

/// The subscription, why it was refused if it was, and the balance as it is now.
async fn with_balance(
    caller: &Caller,
    row: tenant_subscription::Model,
) -> crate::error::Result<PlanSubscriptionPayload> {
    let account = accounts::of_tenant(&caller.app, row.tenant_id).await?;
    let refusal = (row.status == SubscriptionStatus::Failed).then(|| PlanError::Refused.into());
    let reasons = refusal.and_then(|refusal: Error| user_errors(&refusal, caller.lang));
    Ok(PlanSubscriptionPayload {
        user_errors: reasons.unwrap_or_default(),
        subscription: Some(PlanSubscription(row)),
        balance: Some(CreditBalance::of(Balance::of(&account))),
    })
}
