//! Money of purchases that goes back, in the API.

use std::collections::HashMap;

use async_graphql::dataloader::Loader;
use async_graphql::{Context, Description, Enum, ID, InputObject, Object};

use crate::credits::graphql::CreditBalance;
use crate::credits::service::account as accounts;
use crate::credits::watch::Balance;
use crate::entity::purchase_refund;
use crate::error::{Error, Result};
use crate::graphql::caller::{Answer, Caller, caller, payload};
use crate::graphql::loader::{LoadError, Source};
use crate::graphql::payload::{int, user_errors};
use crate::graphql::scalars::{DateTime, Money};
use crate::ids::{PurchaseId, TenantId, TypedId};
use crate::payloads;
use crate::payments::error::PaymentError;
use crate::payments::graphql::purchase::yen;
use crate::payments::refunds::ask;
use crate::payments::refunds::lookup::{self, Shown};

/// Where a refund stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "purchase_refund::RefundStatus")]
pub enum RefundStatus {
    /// The credits are gone, and the money is on its way, or Stripe has not answered; we go on
    /// asking.
    Pending,
    /// The money has gone back. A bank may still refuse it days later: then it is FAILED.
    Succeeded,
    /// The money stayed, and the credits are back: see `failureReason`.
    Failed,
}

/// Why money goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "purchase_refund::RefundReason")]
pub enum RefundReason {
    /// The buyer asked for it.
    RequestedByCustomer,
    /// The same was bought twice.
    Duplicate,
    /// The buyer was not who they said; Stripe blocks their card.
    Fraudulent,
}

/// Money of a purchase that goes back, and the unspent credits that go with it.
#[derive(Description)]
pub struct CreditPurchaseRefund(pub Shown);

#[Object(use_type_description)]
impl CreditPurchaseRefund {
    /// The refund's id.
    async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The purchase's id.
    async fn purchase_id(&self) -> ID {
        self.0.purchase_id.to_string().into()
    }

    /// Where it stands.
    async fn status(&self) -> RefundStatus {
        self.0.status.into()
    }

    /// What goes back of the price.
    async fn amount(&self) -> Money {
        yen(self.0.amount)
    }

    /// Credits that it has taken away. They are fewer than the amount stands for when others were
    /// spent, are held by running calls, or went with a dispute; 0 when it failed.
    async fn credits(&self) -> i32 {
        int(self.0.credits)
    }

    /// Why; null when it was made at Stripe.
    async fn reason(&self) -> Option<RefundReason> {
        self.0.reason.map(RefundReason::from)
    }

    /// Stripe's id of it; null until Stripe has answered.
    async fn stripe_refund_id(&self) -> Option<&str> {
        self.0.stripe_refund_id.as_deref()
    }

    /// Why it failed, in Stripe's words for programs, such as `expired_or_canceled_card` or
    /// `charge_disputed`; `not_made` when Stripe never got it.
    async fn failure_reason(&self) -> Option<&str> {
        self.0.failure_reason.as_deref()
    }

    /// When it was asked for, or when we were told of it.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// When it changed last.
    async fn updated_at(&self) -> DateTime {
        DateTime(self.0.updated_at)
    }
}

/// A purchase whose unspent credits go back.
#[derive(Debug, InputObject)]
pub struct CreditPurchaseRefundInput {
    /// The tenant that bought.
    tenant_id: ID,
    /// The purchase.
    purchase_id: ID,
    /// How many of its credits, all of which must be unspent; when absent all that are unspent and
    /// that no running call holds.
    credits: Option<i32>,
    /// Why.
    #[graphql(default_with = "RefundReason::RequestedByCustomer")]
    reason: RefundReason,
    /// The client's key, 8 to 255 characters: the same key gives back once.
    idempotency_key: String,
}

payloads! {
    /// The result of `creditPurchaseRefund`. A refund that Stripe refused is answered with the
    /// reason.
    CreditPurchaseRefundPayload {
        /// The refund as it stands.
        refund: CreditPurchaseRefund,
        /// The tenant's balance after it.
        balance: CreditBalance,
    }
}

/// Giving money back.
#[derive(Default)]
pub struct RefundMutation;

#[Object]
impl RefundMutation {
    /// Gives back what the unspent credits of a purchase cost, tax included: the credits go first,
    /// then Stripe is asked. PENDING: Stripe has not answered, and is asked again until it does.
    /// For platform admins.
    async fn credit_purchase_refund(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The refund.")] input: CreditPurchaseRefundInput,
    ) -> Answer<CreditPurchaseRefundPayload> {
        let caller = caller(ctx);
        let work = Box::pin(refund(caller, input));
        payload(ctx, work, |done| done, CreditPurchaseRefundPayload::refused).await
    }
}

async fn refund(
    caller: &Caller,
    input: CreditPurchaseRefundInput,
) -> Result<CreditPurchaseRefundPayload> {
    let actor = caller.actor()?;
    let tenant = TenantId::parse(&input.tenant_id)?;
    let wish = ask::Wish {
        tenant,
        purchase: PurchaseId::parse(&input.purchase_id)?,
        credits: input.credits.map(i64::from),
        reason: input.reason.into(),
        idempotency_key: input.idempotency_key,
    };
    let row = Box::pin(ask::refund(&caller.app, actor, wish)).await?;
    let shown = lookup::shown(&caller.app, actor, row.id).await?;
    let account = accounts::of_tenant(&caller.app, tenant).await?;
    let is_failed = row.status == purchase_refund::RefundStatus::Failed;
    let refusal = is_failed.then(|| Error::from(PaymentError::RefundFailed));
    Ok(CreditPurchaseRefundPayload {
        user_errors: refusal.and_then(|it| user_errors(&it, caller.lang)).unwrap_or_default(),
        refund: Some(CreditPurchaseRefund(shown)),
        balance: Some(CreditBalance::of(Balance::of(&account))),
    })
}

/// Key of the refunds of a purchase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RefundsOf(pub PurchaseId);

impl Loader<RefundsOf> for Source {
    type Value = Vec<Shown>;
    type Error = LoadError;

    async fn load(
        &self,
        keys: &[RefundsOf],
    ) -> std::result::Result<HashMap<RefundsOf, Vec<Shown>>, LoadError> {
        let ids: Vec<PurchaseId> = keys.iter().map(|key| key.0).collect();
        let mut by_purchase: HashMap<RefundsOf, Vec<Shown>> = HashMap::new();
        for refund in lookup::of_purchases(&self.app, self.actor()?, &ids).await? {
            by_purchase.entry(RefundsOf(refund.purchase_id)).or_default().push(refund);
        }
        Ok(by_purchase)
    }
}
