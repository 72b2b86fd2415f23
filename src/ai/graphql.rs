//! AI functions in the API.

use std::collections::HashMap;

use async_graphql::dataloader::Loader;
use async_graphql::{
    Context, Enum, ID, InputObject, Interface, Object, Result, SimpleObject, Subscription,
};
use futures_util::{Stream, StreamExt};

use crate::ai::input::Wish;
use crate::ai::pricing::{self, Offer, PriceChange};
use crate::ai::service::start::{self, Quote};
use crate::ai::service::watch::{self, Step};
use crate::ai::service::{cancel, finish, history};
use crate::credits::graphql::{AiFunctionType, CreditBalance};
use crate::credits::service::account as accounts;
use crate::credits::watch::Balance;
use crate::entity::{execution, function_price};
use crate::error::{Error, Lang};
use crate::graphql::caller::{Answer, Caller, answer, caller, payload};
use crate::graphql::filter::{
    DateTimeFilter, EnumFilter, IdFilter, IntFilter, Nested, StringFilter, Terms, Where,
};
use crate::graphql::loader::{LoadError, Source, by_key};
use crate::graphql::page::{Connection, List, Order, OrderDirection, OrderField, PageArgs};
use crate::graphql::payload::{UserError, int};
use crate::graphql::scalars::{DateTime, Decimal, Json, Money};
use crate::identity::graphql::{User, load_user};
use crate::ids::{ExecutionId, TypedId, UserId};
use crate::money;

/// Where an execution stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "execution::ExecutionStatus")]
pub enum AiExecutionStatus {
    /// Runs now; its credits are on hold.
    Running,
    /// Ended with a result.
    Succeeded,
    /// Ended without a usable result; the failure tells why.
    Failed,
    /// Was cancelled; what had been delivered is charged.
    Cancelled,
}

/// Why an execution failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "execution::FailureCode")]
pub enum AiFailureCode {
    /// The provider takes no more calls for a moment; try again later.
    ProviderRateLimited,
    /// The platform's quota at the provider is used up.
    ProviderQuota,
    /// The provider refused the request; it would refuse it again.
    ProviderRejected,
    /// The provider could not be reached or failed; try again.
    ProviderUnavailable,
    /// The provider did not answer in time; try again.
    ProviderTimeout,
    /// The provider answered without content; try again.
    ProviderEmpty,
    /// The answer broke off.
    OutputBroken,
    /// It was cancelled before it ended.
    Cancelled,
    /// The server stopped while it ran; try again.
    Interrupted,
    /// Something went wrong on the server's side.
    Internal,
}

/// Who counted the tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "execution::UsageSource")]
pub enum AiUsageSource {
    /// The provider reported them.
    Provider,
    /// Counted here, as the provider reported none.
    Counted,
}

/// A call of an AI function.
#[derive(Clone)]
pub struct AiExecution(pub execution::Model);

#[Object]
impl AiExecution {
    /// The execution's id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The function.
    async fn function_type(&self) -> AiFunctionType {
        self.0.function_type.into()
    }

    /// Where it stands.
    async fn status(&self) -> AiExecutionStatus {
        self.0.status.into()
    }

    /// The model.
    async fn model(&self) -> &str {
        &self.0.model
    }

    /// Who runs the model; `sandbox` answers without a real one.
    async fn provider(&self) -> &str {
        &self.0.provider
    }

    /// Output tokens at most; lower than asked when the balance demanded it.
    async fn max_tokens(&self) -> i32 {
        int(self.0.max_tokens)
    }

    /// Output tokens that were asked for.
    async fn requested_max_tokens(&self) -> i32 {
        int(self.0.requested_max_tokens)
    }

    /// The key that the client gave.
    async fn idempotency_key(&self) -> &str {
        &self.0.idempotency_key
    }

    /// For whom it runs.
    async fn user(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        load_user(ctx, self.0.user_id).await
    }

    /// What the function was given; null when it was erased.
    async fn parameters(&self, ctx: &Context<'_>) -> Result<Option<AiParameters>> {
        let parameters = history::parameters(&caller(ctx).app, &self.0)?;
        Ok(parameters.map(|given| AiParameters {
            input: given.input,
            context: given.context,
            temperature: Decimal(given.temperature),
        }))
    }

    /// When it was started.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// When it ended.
    async fn finished_at(&self) -> Option<DateTime> {
        self.0.finished_at.map(DateTime)
    }

    /// Wall time of the run in milliseconds.
    async fn execution_time_ms(&self) -> Option<i32> {
        self.0.execution_time_ms.map(int)
    }

    /// What came out, also when it broke off; null when nothing did, or when it was erased.
    async fn result(&self, ctx: &Context<'_>) -> Result<Option<AiResult>> {
        let output = history::result(&caller(ctx).app, &self.0)?;
        Ok(output.map(|output| AiResult { output }))
    }

    /// What it costs.
    async fn charge(&self) -> AiCharge {
        AiCharge::of(&self.0)
    }

    /// Why it failed; null while it runs and when it succeeded.
    async fn failure(&self, ctx: &Context<'_>) -> Option<AiFailure> {
        let code = self.0.failure_code?;
        Some(AiFailure {
            code: code.into(),
            message: failure_message(code, caller(ctx).lang),
            retryable: finish::is_retryable(code),
        })
    }
}

/// What a function was given.
#[derive(Clone, Debug, SimpleObject)]
pub struct AiParameters {
    /// The message.
    input: String,
    /// What the model knew beside it.
    context: Option<String>,
    /// Sampling temperature.
    temperature: Decimal,
}

/// What came out of a function.
#[derive(Clone, Debug, SimpleObject)]
pub struct AiResult {
    /// The model's text. Untrusted: show it as text, never as HTML.
    output: String,
}

/// What an execution costs.
#[derive(Clone, Debug, SimpleObject)]
pub struct AiCharge {
    /// Credits that were set aside; the charge is never more.
    credits_held: i32,
    /// Credits charged; 0 while it runs.
    credits_used: i32,
    /// Credits of the charge that were given back.
    credits_refunded: i32,
    /// What one of the charged credits had cost in yen, two decimals.
    cost_per_credit: Option<Decimal>,
    /// What the charged credits had cost.
    total_cost: Option<Money>,
    /// Tokens that the charge was computed from.
    billable_units: i32,
    /// Who counted them.
    usage_source: Option<AiUsageSource>,
    /// The line of the ledger; null without a charge.
    transaction_id: Option<ID>,
}

impl AiCharge {
    fn of(row: &execution::Model) -> Self {
        let tokens = row.input_tokens.unwrap_or(0) + row.output_tokens.unwrap_or(0);
        let per_credit = row.total_cost_yen.and_then(|yen| money::ratio(yen, row.credits_used, 2));
        Self {
            credits_held: int(row.credits_held),
            credits_used: int(row.credits_used),
            credits_refunded: int(row.credits_refunded),
            cost_per_credit: per_credit.map(Decimal),
            total_cost: row.total_cost_yen.map(|yen| Money(money::Money::yen(yen))),
            billable_units: int(tokens),
            usage_source: row.usage_source.map(AiUsageSource::from),
            transaction_id: row.transaction_id.map(|id| id.to_string().into()),
        }
    }
}

/// Why an execution failed.
#[derive(Clone, Debug, SimpleObject)]
pub struct AiFailure {
    /// The reason, for programs.
    code: AiFailureCode,
    /// The reason, in the caller's language.
    message: String,
    /// Whether the same call may well succeed when it is made again, with a new key.
    retryable: bool,
}

fn failure_message(code: execution::FailureCode, lang: Lang) -> String {
    use execution::FailureCode;
    match code {
        FailureCode::ProviderRateLimited => lang.pick(
            "AIプロバイダーが混み合っています。しばらくしてからお試しください。",
            "The AI provider takes no more calls for a moment. Please try again later.",
        ),
        FailureCode::ProviderQuota => lang.pick(
            "AIプロバイダーの利用枠に達しました。運営にお問い合わせください。",
            "The AI provider's quota is used up. Please contact us.",
        ),
        FailureCode::ProviderRejected => lang.pick(
            "AIプロバイダーがリクエストを受け付けませんでした。",
            "The AI provider refused the request.",
        ),
        FailureCode::ProviderUnavailable => lang.pick(
            "AIプロバイダーに接続できませんでした。",
            "The AI provider could not be reached.",
        ),
        FailureCode::ProviderTimeout => lang.pick(
            "AIプロバイダーが時間内に応答しませんでした。",
            "The AI provider did not answer in time.",
        ),
        FailureCode::ProviderEmpty => lang.pick(
            "AIプロバイダーの応答が空でした。",
            "The AI provider answered without content.",
        ),
        FailureCode::OutputBroken => lang.pick(
            "応答が途中で途切れました。届いた分のみ課金されています。",
            "The answer broke off. Only what was delivered is charged.",
        ),
        FailureCode::Cancelled => lang.pick(
            "キャンセルされました。届いた分のみ課金されています。",
            "It was cancelled. Only what was delivered is charged.",
        ),
        FailureCode::Interrupted => lang.pick(
            "サーバーの停止により中断されました。",
            "It was interrupted, as the server stopped.",
        ),
        FailureCode::Internal => lang.pick(
            "サーバー側で問題が発生しました。",
            "Something went wrong on our side.",
        ),
    }
}

/// A function that can be run.
pub struct AiFunction(Offer);

#[Object]
impl AiFunction {
    /// The function.
    async fn function_type(&self) -> AiFunctionType {
        self.0.function.into()
    }

    /// Credits of the default model before the multiplier.
    async fn base_cost(&self) -> i32 {
        let default = self.0.prices.iter().find(|price| price.is_default);
        default.or(self.0.prices.first()).map_or(0, |price| int(price.base_credits))
    }

    /// The models that can be called, with their prices.
    async fn models(&self) -> Vec<AiPrice> {
        self.0.prices.iter().cloned().map(AiPrice).collect()
    }
}

/// A price's version: charge = ceil(base × multiplier), the multiplier by total tokens.
pub struct AiPrice(pub function_price::Model);

#[Object]
impl AiPrice {
    /// The version's id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The function.
    async fn function_type(&self) -> AiFunctionType {
        self.0.function_type.into()
    }

    /// The provider's name of the model.
    async fn model(&self) -> &str {
        &self.0.model
    }

    /// The version; the highest is in force.
    async fn version(&self) -> i32 {
        self.0.version
    }

    /// Whether calls without a model use it.
    async fn is_default(&self) -> bool {
        self.0.is_default
    }

    /// Whether it can be called.
    async fn is_active(&self) -> bool {
        self.0.is_active
    }

    /// Credits before the multiplier.
    async fn base_credits(&self) -> i32 {
        int(self.0.base_credits)
    }

    /// The multipliers, by total tokens.
    async fn tiers(&self) -> Vec<AiPriceTier> {
        let price = &self.0;
        let tier = |up_to: Option<i64>, per_mille: i64| AiPriceTier {
            up_to_tokens: up_to.map(int),
            multiplier: Decimal(rust_decimal::Decimal::new(per_mille, 3).normalize()),
        };
        vec![
            tier(Some(price.tier_1_tokens), price.tier_1_per_mille),
            tier(Some(price.tier_2_tokens), price.tier_2_per_mille),
            tier(Some(price.tier_3_tokens), price.tier_3_per_mille),
            tier(None, price.tier_4_per_mille),
        ]
    }

    /// Credits that a provider's refusal for too many calls costs.
    async fn rate_limit_credits(&self) -> i32 {
        int(self.0.rate_limit_credits)
    }
}

/// A multiplier and how far it reaches.
#[derive(Clone, Copy, Debug, SimpleObject)]
pub struct AiPriceTier {
    /// Total tokens up to which it holds; null for all above.
    up_to_tokens: Option<i32>,
    /// What the base is multiplied by.
    multiplier: Decimal,
}

/// What a call would cost.
#[derive(Clone, Debug, SimpleObject)]
pub struct AiExecutionQuote {
    /// The charge of a short answer.
    credits: i32,
    /// Credits that would be set aside: the charge of the longest answer.
    hold: i32,
    /// Tokens of the input as counted here.
    input_tokens: i32,
    /// Output tokens that the hold pays for; lower than asked when the balance demands it.
    max_tokens: i32,
    /// Whether the call could start now.
    affordable: bool,
    /// The model that would run.
    model: String,
}

impl From<Quote> for AiExecutionQuote {
    fn from(quote: Quote) -> Self {
        Self {
            credits: int(quote.credits),
            hold: int(quote.hold),
            input_tokens: int(quote.input_tokens),
            max_tokens: int(quote.max_tokens),
            affordable: quote.is_affordable,
            model: quote.model,
        }
    }
}

/// What a function is given.
#[derive(Debug, InputObject)]
pub struct AiParametersInput {
    /// The message, 1 to 32 000 characters.
    input: String,
    /// The model; the function's default when absent.
    model: Option<String>,
    /// Sampling temperature, 0 to 2; 0.7 when absent.
    temperature: Option<Decimal>,
    /// Output tokens at most, 1 to 4 000; 800 when absent.
    max_tokens: Option<i32>,
    /// More options. CHATBOT: `topP` 0 to 1, `presencePenalty` and `frequencyPenalty` -2 to 2, `seed`
    /// a whole number, `stop` up to 4 texts.
    custom_options: Option<Json>,
}

/// What is said about a call.
#[derive(Debug, InputObject)]
pub struct AiMetadataInput {
    /// For whom it runs; the caller when absent. Only ADMINs may name another member.
    user_id: Option<ID>,
    /// What the model should know beside the message, at most 8 000 characters.
    context: Option<String>,
    /// Labels to find it again: at most 10, of 1 to 50 characters.
    tags: Option<Vec<String>>,
}

/// A call to make.
#[derive(Debug, InputObject)]
pub struct AiExecuteInput {
    /// The function.
    function_type: AiFunctionType,
    /// What it is given.
    parameters: AiParametersInput,
    /// What is said about it.
    metadata: Option<AiMetadataInput>,
    /// The client's key, 8 to 255 characters. The same key and call is made, and charged, once.
    idempotency_key: String,
}

/// A call to quote.
#[derive(Debug, InputObject)]
pub struct AiQuoteInput {
    /// The function.
    function_type: AiFunctionType,
    /// What it would be given.
    parameters: AiParametersInput,
}

fn wish(
    function: AiFunctionType,
    parameters: AiParametersInput,
    metadata: Option<AiMetadataInput>,
) -> std::result::Result<Wish, Error> {
    let (user, context, tags) = match metadata {
        None => (None, None, Vec::new()),
        Some(said) => {
            let user = said.user_id.map(|id| UserId::parse(&id)).transpose()?;
            (user, said.context, said.tags.unwrap_or_default())
        }
    };
    Ok(Wish {
        function: function.into(),
        input: parameters.input,
        model: parameters.model,
        temperature: parameters.temperature.map(|value| value.0),
        max_tokens: parameters.max_tokens.map(i64::from),
        custom_options: parameters.custom_options.map(|options| options.0),
        user,
        context,
        tags,
    })
}

/// What executions can be sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum AiExecutionOrderField {
    /// When they were started.
    CreatedAt,
    /// When they ended; running ones come last.
    FinishedAt,
    /// Credits charged.
    CreditsUsed,
    /// Wall time of the run; running ones come last.
    ExecutionTimeMs,
}

impl OrderField for AiExecutionOrderField {
    type Entity = execution::Entity;

    fn column(self) -> execution::Column {
        match self {
            Self::CreatedAt => execution::Column::CreatedAt,
            Self::FinishedAt => execution::Column::FinishedAt,
            Self::CreditsUsed => execution::Column::CreditsUsed,
            Self::ExecutionTimeMs => execution::Column::ExecutionTimeMs,
        }
    }
}

/// Compares an execution's labels. All operators given must hold.
#[derive(Clone, Debug, Default, InputObject)]
pub struct AiTagFilter {
    /// Has this label.
    has: Option<String>,
    /// Has one of these labels, at most 10; an empty list matches nothing.
    has_any: Option<Vec<String>>,
}

/// Which executions to list. All that is given must hold.
#[derive(Clone, Debug, Default, InputObject)]
pub struct AiExecutionWhere {
    /// By id.
    pub id: Option<IdFilter>,
    /// By the client's key.
    pub idempotency_key: Option<StringFilter>,
    /// By function.
    pub function_type: Option<EnumFilter<AiFunctionType>>,
    /// By where they stand.
    pub status: Option<EnumFilter<AiExecutionStatus>>,
    /// By model.
    pub model: Option<StringFilter>,
    /// By the person for whom they run.
    pub user_id: Option<IdFilter>,
    /// By credits charged.
    pub credits_used: Option<IntFilter>,
    /// By the time of their start.
    pub created_at: Option<DateTimeFilter>,
    /// By labels.
    pub tags: Option<AiTagFilter>,
    /// All of these.
    #[graphql(name = "AND")]
    pub and: Option<Vec<AiExecutionWhere>>,
    /// Any of these.
    #[graphql(name = "OR")]
    pub or: Option<Vec<AiExecutionWhere>>,
    /// Not this.
    #[graphql(name = "NOT")]
    pub not: Option<Box<AiExecutionWhere>>,
}

impl Where for AiExecutionWhere {
    fn terms(self, terms: &mut Terms) -> Nested<Self> {
        use execution::Column;
        terms.id::<ExecutionId>("id", Column::Id, self.id);
        terms.add("idempotencyKey", Column::IdempotencyKey, self.idempotency_key);
        terms.add("functionType", Column::FunctionType, self.function_type);
        terms.add("status", Column::Status, self.status);
        terms.add("model", Column::Model, self.model);
        terms.id::<UserId>("userId", Column::UserId, self.user_id);
        terms.add("creditsUsed", Column::CreditsUsed, self.credits_used);
        terms.add("createdAt", Column::CreatedAt, self.created_at);
        let labels = self.tags.unwrap_or_default();
        terms.also("has", labels.has.map(|tag| history::tagged(vec![tag])));
        terms.also("hasAny", labels.has_any.map(history::tagged));
        Nested { and: self.and, or: self.or, not: self.not }
    }
}

/// AI functions and their executions.
#[derive(Default)]
pub struct AiQuery;

#[Object]
impl AiQuery {
    /// The functions that can be run, with their models and prices.
    async fn ai_functions(&self, ctx: &Context<'_>) -> Answer<Vec<AiFunction>> {
        let caller = caller(ctx);
        answer(ctx, async {
            let offers = pricing::offers(&caller.app, caller.actor()?).await?;
            Ok(offers.into_iter().map(AiFunction).collect::<Vec<_>>())
        })
        .await
    }

    /// What a call would cost, and whether it could start now. Nothing is held.
    async fn ai_execution_quote(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The call.")] input: AiQuoteInput,
    ) -> Answer<AiExecutionQuote> {
        let caller = caller(ctx);
        answer(ctx, async {
            let wish = wish(input.function_type, input.parameters, None)?;
            let quote = start::quote(&caller.app, caller.actor()?, &wish).await?;
            Ok(AiExecutionQuote::from(quote))
        })
        .await
    }

    /// An execution: one's own, or any of the tenant for ADMIN and MANAGER.
    async fn ai_execution(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The execution's id.")] id: ID,
    ) -> Answer<AiExecution> {
        let caller = caller(ctx);
        answer(ctx, async {
            let id = ExecutionId::parse(&id)?;
            Ok(AiExecution(history::get(&caller.app, caller.actor()?, id).await?))
        })
        .await
    }

    /// Executions, newest first unless they are sorted otherwise: one's own, or all of the tenant for
    /// ADMIN and MANAGER.
    #[expect(clippy::too_many_arguments, reason = "a paged list with filter and order has so many")]
    async fn ai_executions(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "So many from the front, 1 to 100.")] first: Option<i32>,
        #[graphql(desc = "Only what follows this cursor.")] after: Option<String>,
        #[graphql(desc = "So many from the back, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only what precedes this cursor.")] before: Option<String>,
        #[graphql(name = "where", desc = "Only executions that this lets through.")]
        filter: Option<AiExecutionWhere>,
        #[graphql(desc = "How to sort; the newest first when absent.")] order_by: Option<
            Vec<Order<AiExecutionOrderField>>,
        >,
    ) -> Answer<Connection<AiExecution>> {
        let caller = caller(ctx);
        answer(ctx, async {
            let select = history::visible(caller.actor()?)?;
            let order = [(AiExecutionOrderField::CreatedAt, OrderDirection::Desc)];
            let list = List::new(caller.app.db.primary(), select, &order);
            let list = list.filter(filter).order(order_by);
            let page = list.page(PageArgs { first, after, last, before }).await?;
            Ok(page.map(AiExecution))
        })
        .await
    }
}

/// The result of a call.
#[derive(Default, SimpleObject)]
pub struct AiExecutePayload {
    /// The execution; null when it was refused.
    execution: Option<AiExecution>,
    /// The tenant's balance after it.
    balance: Option<CreditBalance>,
    /// Why it was refused. A provider's failure is none: see `execution.failure`.
    user_errors: Vec<UserError>,
}

/// The result of `aiPriceSet`.
#[derive(Default, SimpleObject)]
pub struct AiPricePayload {
    /// The new version.
    price: Option<AiPrice>,
    /// Why it was refused; empty when it was done.
    user_errors: Vec<UserError>,
}

/// A price's new version.
#[derive(Debug, InputObject)]
pub struct AiPriceSetInput {
    /// The function.
    function_type: AiFunctionType,
    /// The provider's name of the model.
    model: String,
    /// Whether calls without a model use it; it takes the place of the present default.
    #[graphql(default)]
    is_default: bool,
    /// Whether it can be called.
    #[graphql(default = true)]
    is_active: bool,
    /// Credits before the multiplier, 0 to 1 000 000.
    base_credits: i32,
    /// Total tokens up to which the first three multipliers hold.
    #[graphql(default_with = "vec![1_000, 4_000, 16_000]")]
    tier_tokens: Vec<i32>,
    /// The four multipliers in thousandths.
    #[graphql(default_with = "vec![1_000, 1_500, 2_000, 3_000]")]
    multipliers_per_mille: Vec<i32>,
    /// Credits that a provider's refusal for too many calls costs.
    #[graphql(default = 1)]
    rate_limit_credits: i32,
    /// The version that the change was made on; 0 for a model without a price.
    expected_version: Option<i32>,
}

/// Running AI functions.
#[derive(Default)]
pub struct AiMutation;

#[Object]
impl AiMutation {
    /// Runs a function and waits for its end, at most 60 s; then answers it as it stands. It goes on
    /// when the client leaves: see `aiExecution`, also by its key.
    async fn ai_execute(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The call.")] input: AiExecuteInput,
    ) -> Answer<AiExecutePayload> {
        let caller = caller(ctx);
        let work = async {
            let key = input.idempotency_key;
            let wish = wish(input.function_type, input.parameters, input.metadata)?;
            let row = start::execute(&caller.app, caller.actor()?, wish, &key).await?;
            with_balance(caller, row).await
        };
        payload(ctx, work, executed, refused).await
    }

    /// Starts a function and answers as soon as its credits are held. Follow `aiExecutionEvents`.
    async fn ai_execution_start(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The call.")] input: AiExecuteInput,
    ) -> Answer<AiExecutePayload> {
        let caller = caller(ctx);
        let work = async {
            let key = input.idempotency_key;
            let wish = wish(input.function_type, input.parameters, input.metadata)?;
            let row = start::start(&caller.app, caller.actor()?, wish, &key).await?;
            with_balance(caller, row).await
        };
        payload(ctx, work, executed, refused).await
    }

    /// Cancels an execution; what was delivered is charged. Waits at most 5 s for its end. One that
    /// has ended is answered as it is.
    async fn ai_execution_cancel(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The execution's id.")] id: ID,
    ) -> Answer<AiExecutePayload> {
        let caller = caller(ctx);
        let work = async {
            let id = ExecutionId::parse(&id)?;
            let row = cancel::cancel(&caller.app, caller.actor()?, id).await?;
            with_balance(caller, row).await
        };
        payload(ctx, work, executed, refused).await
    }

    /// Gives a model's price for a function a new version. For platform admins.
    async fn ai_price_set(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The new version.")] input: AiPriceSetInput,
    ) -> Answer<AiPricePayload> {
        let caller = caller(ctx);
        let work = async {
            let change = price_change(input)?;
            pricing::set(&caller.app, caller.actor()?, change).await
        };
        let done = |row| AiPricePayload { price: Some(AiPrice(row)), user_errors: Vec::new() };
        let refused = |user_errors| AiPricePayload { price: None, user_errors };
        payload(ctx, work, done, refused).await
    }
}

fn price_change(input: AiPriceSetInput) -> std::result::Result<PriceChange, Error> {
    let wide = |values: Vec<i32>| values.into_iter().map(i64::from).collect::<Vec<_>>();
    let tier_tokens = wide(input.tier_tokens).try_into().map_err(|_| {
        Error::invalid("input.tierTokens", "3つ指定してください。", "must be three numbers")
    })?;
    let per_mille = wide(input.multipliers_per_mille).try_into().map_err(|_| {
        let field = "input.multipliersPerMille";
        Error::invalid(field, "4つ指定してください。", "must be four numbers")
    })?;
    Ok(PriceChange {
        function: input.function_type.into(),
        model: input.model,
        is_default: input.is_default,
        is_active: input.is_active,
        base_credits: input.base_credits.into(),
        tier_tokens,
        per_mille,
        rate_limit_credits: input.rate_limit_credits.into(),
        expected_version: input.expected_version.map(i64::from),
    })
}

async fn with_balance(
    caller: &Caller,
    row: execution::Model,
) -> std::result::Result<(execution::Model, CreditBalance), Error> {
    let account = accounts::of_tenant(&caller.app, row.tenant_id).await?;
    Ok((row, CreditBalance::of(Balance::of(&account))))
}

fn executed((row, balance): (execution::Model, CreditBalance)) -> AiExecutePayload {
    AiExecutePayload {
        execution: Some(AiExecution(row)),
        balance: Some(balance),
        user_errors: Vec::new(),
    }
}

fn refused(user_errors: Vec<UserError>) -> AiExecutePayload {
    AiExecutePayload { user_errors, ..AiExecutePayload::default() }
}

/// A step of an execution.
#[derive(Interface)]
#[graphql(
    field(name = "seq", ty = "i32", desc = "The place in the execution's sequence, from 1."),
    field(name = "execution_id", ty = "ID", desc = "The execution's id."),
    field(name = "at", ty = "DateTime", desc = "When it happened.")
)]
pub enum AiExecutionEvent {
    /// It was started.
    Started(AiExecutionStarted),
    /// It has ended.
    Finished(AiExecutionFinished),
}

/// The execution's credits are held and it runs.
pub struct AiExecutionStarted(execution::Model);

#[Object]
impl AiExecutionStarted {
    /// The place in the execution's sequence: 1.
    async fn seq(&self) -> i32 {
        1
    }

    /// The execution's id.
    async fn execution_id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// When it was started.
    async fn at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// Credits that are held for it.
    async fn credits_held(&self) -> i32 {
        int(self.0.credits_held)
    }
}

/// The execution has ended. The last event.
pub struct AiExecutionFinished(execution::Model);

#[Object]
impl AiExecutionFinished {
    /// The place in the execution's sequence.
    async fn seq(&self) -> i32 {
        2
    }

    /// The execution's id.
    async fn execution_id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// When it ended.
    async fn at(&self) -> DateTime {
        DateTime(self.0.finished_at.unwrap_or(self.0.created_at))
    }

    /// The execution with its result and charge.
    async fn execution(&self) -> AiExecution {
        AiExecution(self.0.clone())
    }
}

/// Executions, live.
#[derive(Default)]
pub struct AiSubscription;

#[Subscription]
impl AiSubscription {
    /// The steps of an execution, from its start or from after a step on; completes when it has ended.
    async fn ai_execution_events(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The execution's id.")] execution_id: ID,
        #[graphql(desc = "The `seq` of the last event that the client has.")] after: Option<i32>,
    ) -> Result<impl Stream<Item = Result<AiExecutionEvent>> + use<>> {
        let caller = caller(ctx).clone();
        let id = ExecutionId::parse(&execution_id)?;
        let steps = watch::follow(&caller.app, caller.actor()?, id, after.unwrap_or(0)).await?;
        Ok(steps.map(|step| match step? {
            Step::Started(row) => Ok(AiExecutionStarted(row).into()),
            Step::Finished(row) => Ok(AiExecutionFinished(row).into()),
        }))
    }
}

impl Loader<ExecutionId> for Source {
    type Value = execution::Model;
    type Error = LoadError;

    async fn load(
        &self,
        keys: &[ExecutionId],
    ) -> std::result::Result<HashMap<ExecutionId, Self::Value>, LoadError> {
        let rows = history::rows_of(&self.app, self.viewer.as_ref(), keys).await?;
        Ok(by_key(rows, |row| row.id))
    }
}
