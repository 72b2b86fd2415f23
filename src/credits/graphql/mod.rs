//! Credits in the API: the account and its live balance here, the rest in the files beside.

pub mod account;
pub mod admin;
pub mod analytics;
pub mod catalog;
pub mod ledger;

use async_graphql::{Context, Enum, Object, Subscription};
use futures_util::{Stream, StreamExt};

use crate::credits::reports::analytics::analyse;
use crate::credits::service::account as accounts;
use crate::credits::watch;
use crate::entity::{function_price, plan};
use crate::graphql::caller::{Answer, answer, caller};
use crate::graphql::live::live;
use crate::graphql::scalars::Date;

pub use account::{CreditAccount, CreditBalance};
pub use admin::CreditAdminMutation;
pub use analytics::CreditAnalytics;
pub use catalog::{CreditCatalogQuery, CreditPackage, Plan};
pub use ledger::{CreditGrant, CreditTransaction, MonthlyReset};

/// The plan of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "plan::PlanType")]
pub enum PlanType {
    /// The smallest plan.
    Essential,
    /// The plan for growing teams.
    Professional,
    /// The largest plan.
    Enterprise,
}

/// A kind of AI call. Each has its own base price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "function_price::AiFunctionType")]
pub enum AiFunctionType {
    /// Answers a message in a conversation.
    Chatbot,
    /// Ranks what suits a person or a case.
    Recommendation,
    /// Estimates what will happen.
    Prediction,
    /// Finds what stands in a text or in figures.
    Analysis,
    /// Does what its own prompt says.
    Custom,
}

/// The caller's credits.
#[derive(Default)]
pub struct CreditQuery;

#[Object]
impl CreditQuery {
    /// The credit account of the caller's tenant; opened, with this month's free credits, on first
    /// use.
    async fn credit_account(&self, ctx: &Context<'_>) -> Answer<CreditAccount> {
        let caller = caller(ctx);
        answer(ctx, async { Ok(CreditAccount(accounts::get(&caller.app, caller.actor()?).await?)) })
            .await
    }

    /// Use and spending over at most 366 days, both ends included, in the tenant's calendar. For
    /// ADMIN and MANAGER.
    async fn credit_analytics(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The first day.")] from: Date,
        #[graphql(desc = "The last day.")] to: Date,
    ) -> Answer<CreditAnalytics> {
        let caller = caller(ctx);
        answer(
            ctx,
            Box::pin(async {
                let figures = analyse(&caller.app, caller.actor()?, (from.0, to.0)).await?;
                Ok(CreditAnalytics(figures))
            }),
        )
        .await
    }
}

/// The caller's credits, live.
#[derive(Default)]
pub struct CreditSubscription;

#[Subscription]
impl CreditSubscription {
    /// The balance of the caller's tenant: now, then after each change, with strictly rising
    /// versions. Versions may be skipped; the latest is always sent.
    async fn credit_balance(
        &self,
        ctx: &Context<'_>,
    ) -> async_graphql::Result<impl Stream<Item = async_graphql::Result<CreditBalance>> + use<>>
    {
        let balances = live(ctx, async {
            let caller = caller(ctx);
            watch::watch(&caller.app, caller.actor()?).await
        });
        Ok(balances.await?.map(|balance| Ok(CreditBalance::of(balance?))))
    }
}
