//! AI functions in the API: what can be asked, done and watched here, the rest in the files beside.

pub mod call;
pub mod event;
pub mod execution;
pub mod list;
pub mod price;

use async_graphql::{Context, ID, Object, Result, Subscription};
use futures_util::{Stream, StreamExt};

use crate::ai::pricing;
use crate::ai::service::{cancel, history, start, watch};
use crate::graphql::caller::{Answer, answer, caller, payload};
use crate::graphql::page::{Connection, List, Order, OrderDirection, PageArgs};
use crate::ids::{ExecutionId, TypedId};
use call::{
    AiExecuteInput, AiExecutePayload, AiExecutionQuote, AiQuoteInput, executed, refused, wish,
    with_balance,
};
use event::AiExecutionEvent;
use list::{AiExecutionOrderField, AiExecutionWhere};
use price::{AiFunction, AiPricePayload, AiPriceSetInput, price_change};

pub use execution::AiExecution;
pub use price::AiPrice;

/// AI functions and their executions.
#[derive(Default)]
pub struct AiQuery;

#[Object]
impl AiQuery {
    /// The functions that can be run, with their models and prices.
    async fn ai_functions(&self, ctx: &Context<'_>) -> Answer<Vec<AiFunction>> {
        let caller = caller(ctx);
        answer(
            ctx,
            Box::pin(async {
                let offers = pricing::offers(&caller.app, caller.actor()?).await?;
                Ok(offers.into_iter().map(AiFunction::from).collect::<Vec<_>>())
            }),
        )
        .await
    }

    /// What a call would cost, and whether it could start now. Nothing is held.
    async fn ai_execution_quote(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The call.")] input: AiQuoteInput,
    ) -> Answer<AiExecutionQuote> {
        let caller = caller(ctx);
        answer(
            ctx,
            Box::pin(async {
                let actor = caller.actor()?;
                let wish = wish(input.function_type, input.parameters, None)?;
                let quote = start::quote(&caller.app, actor, &wish).await?;
                Ok(AiExecutionQuote::from(quote))
            }),
        )
        .await
    }

    /// An execution: one's own, or any of the tenant for ADMIN and MANAGER.
    async fn ai_execution(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The execution's id.")] id: ID,
    ) -> Answer<AiExecution> {
        let caller = caller(ctx);
        answer(
            ctx,
            Box::pin(async {
                let actor = caller.actor()?;
                let id = ExecutionId::parse(&id)?;
                Ok(AiExecution(history::get(&caller.app, actor, id).await?))
            }),
        )
        .await
    }

    /// Executions, newest first unless they are sorted otherwise: one's own, or all of the tenant
    /// for ADMIN and MANAGER.
    #[expect(clippy::too_many_arguments, reason = "a paged list with filter and order has so many")]
    async fn ai_executions(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "So many from the front, 1 to 100.")] first: Option<i32>,
        #[graphql(desc = "Only what follows this cursor.")] after: Option<String>,
        #[graphql(desc = "So many from the back, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only what precedes this cursor.")] before: Option<String>,
        #[graphql(name = "where", desc = "Only executions that this lets through.")] filter: Option<
            AiExecutionWhere,
        >,
        #[graphql(desc = "How to sort; the newest first when absent.")] order_by: Option<
            Vec<Order<AiExecutionOrderField>>,
        >,
    ) -> Answer<Connection<AiExecution>> {
        let caller = caller(ctx);
        answer(
            ctx,
            Box::pin(async {
                let select = history::visible(caller.actor()?)?;
                let order = [(AiExecutionOrderField::CreatedAt, OrderDirection::Desc)];
                let list = List::new(caller.app.db.primary(), select, &order);
                let list = list.filter(filter).order(order_by);
                let page = list.page(PageArgs { first, after, last, before }).await?;
                Ok(page.map(AiExecution))
            }),
        )
        .await
    }
}

/// Running AI functions.
#[derive(Default)]
pub struct AiMutation;

#[Object]
impl AiMutation {
    /// Runs a function and waits for its end, at most 60 s; then answers it as it stands. It goes
    /// on when the client leaves: see `aiExecution`, or `aiExecutions` by its key.
    async fn ai_execute(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The call.")] input: AiExecuteInput,
    ) -> Answer<AiExecutePayload> {
        let caller = caller(ctx);
        let work = Box::pin(async {
            let actor = caller.actor()?;
            let key = input.idempotency_key;
            let wish = wish(input.function_type, input.parameters, input.metadata)?;
            let row = Box::pin(start::execute(&caller.app, actor, wish, &key)).await?;
            with_balance(caller, row).await
        });
        payload(ctx, work, executed, refused).await
    }

    /// Starts a function and answers as soon as its credits are held. Follow `aiExecutionEvents`.
    async fn ai_execution_start(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The call.")] input: AiExecuteInput,
    ) -> Answer<AiExecutePayload> {
        let caller = caller(ctx);
        let work = Box::pin(async {
            let actor = caller.actor()?;
            let key = input.idempotency_key;
            let wish = wish(input.function_type, input.parameters, input.metadata)?;
            let row = Box::pin(start::start(&caller.app, actor, wish, &key)).await?;
            with_balance(caller, row).await
        });
        payload(ctx, work, executed, refused).await
    }

    /// Cancels an execution; what was delivered is charged. Waits at most 5 s for its end. One
    /// that has ended is answered as it is.
    async fn ai_execution_cancel(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The execution's id.")] id: ID,
    ) -> Answer<AiExecutePayload> {
        let caller = caller(ctx);
        let work = Box::pin(async {
            let actor = caller.actor()?;
            let id = ExecutionId::parse(&id)?;
            let row = cancel::cancel(&caller.app, actor, id).await?;
            with_balance(caller, row).await
        });
        payload(ctx, work, executed, refused).await
    }

    /// Gives a model's price for a function a new version. For platform admins.
    async fn ai_price_set(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The new version.")] input: AiPriceSetInput,
    ) -> Answer<AiPricePayload> {
        let caller = caller(ctx);
        let work = Box::pin(async {
            let actor = caller.actor()?;
            let change = price_change(input)?;
            pricing::set(&caller.app, actor, change).await
        });
        let done = |row| AiPricePayload { price: Some(AiPrice(row)), user_errors: Vec::new() };
        let refused = |user_errors| AiPricePayload { price: None, user_errors };
        payload(ctx, work, done, refused).await
    }
}

/// Executions, live.
#[derive(Default)]
pub struct AiSubscription;

#[Subscription]
impl AiSubscription {
    /// The steps of an execution, from its start or from after a step on; completes when it has
    /// ended.
    async fn ai_execution_events(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The execution's id.")] execution_id: ID,
        #[graphql(desc = "The `seq` of the last event that the client has.")] after: Option<i32>,
    ) -> Result<impl Stream<Item = Result<AiExecutionEvent>> + use<>> {
        let caller = caller(ctx).clone();
        let actor = caller.actor()?;
        let id = ExecutionId::parse(&execution_id)?;
        // In a box, as the library keeps room for this beside the stream for as long as it lives.
        let steps = Box::pin(watch::follow(&caller.app, actor, id, after.unwrap_or(0))).await?;
        Ok(steps.map(|step| Ok(step?.into())))
    }
}
