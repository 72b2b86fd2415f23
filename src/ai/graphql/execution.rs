//! An execution as the API shows it.

use async_graphql::{Context, Description, Enum, ID, Object, Result, SimpleObject};

use crate::actor::Permission;
use crate::ai::service::{finish, history};
use crate::anomaly::graphql::AnomalyScore;
use crate::credits::graphql::AiFunctionType;
use crate::entity::execution;
use crate::error::Lang;
use crate::graphql::caller::caller;
use crate::graphql::payload::int;
use crate::graphql::scalars::{DateTime, Decimal, Money};
use crate::identity::graphql::{User, load_user};
use crate::ids::ExecutionId;
use crate::loads;
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
#[derive(Clone, Description)]
pub struct AiExecution(pub execution::Model);

#[Object(use_type_description)]
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
    fn parameters(&self, ctx: &Context<'_>) -> Result<Option<AiParameters>> {
        let parameters = history::parameters(&caller(ctx).app, &self.0)?;
        Ok(parameters.map(|given| AiParameters {
            input: given.input,
            context: given.context,
            temperature: Decimal(given.temperature),
        }))
    }

    /// How unusual it was when its credits were held. For ADMIN.
    fn anomaly(&self, ctx: &Context<'_>) -> Result<AnomalyScore> {
        caller(ctx).actor()?.require(Permission::AuditRead)?;
        Ok(AnomalyScore::of(&self.0)?)
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
    fn result(&self, ctx: &Context<'_>) -> Result<Option<AiResult>> {
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
        FailureCode::ProviderEmpty => lang
            .pick("AIプロバイダーの応答が空でした。", "The AI provider answered without content."),
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
        FailureCode::Internal => {
            lang.pick("サーバー側で問題が発生しました。", "Something went wrong on our side.")
        }
    }
}

loads! { ExecutionId => execution::Model, history::rows_of; }
