//! What a call is given, what it would cost, and what comes of it.

use async_graphql::{ID, InputObject, SimpleObject};

use crate::ai::graphql::execution::AiExecution;
use crate::ai::input::Wish;
use crate::ai::service::start::Quote;
use crate::credits::graphql::{AiFunctionType, CreditBalance};
use crate::credits::service::account as accounts;
use crate::credits::watch::Balance;
use crate::entity::execution;
use crate::error::Result;
use crate::graphql::caller::Caller;
use crate::graphql::payload::{UserError, int};
use crate::graphql::scalars::{Decimal, Json};
use crate::ids::{TypedId, UserId};

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
    /// More options. CHATBOT: `topP` 0 to 1, `presencePenalty` and `frequencyPenalty` -2 to 2,
    /// `seed` a whole number, `stop` up to 4 texts.
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
    pub(super) function_type: AiFunctionType,
    /// What it is given.
    pub(super) parameters: AiParametersInput,
    /// What is said about it.
    pub(super) metadata: Option<AiMetadataInput>,
    /// The client's key, 8 to 255 characters. The same key and call is made, and charged, once.
    pub(super) idempotency_key: String,
}

/// A call to quote.
#[derive(Debug, InputObject)]
pub struct AiQuoteInput {
    /// The function.
    pub(super) function_type: AiFunctionType,
    /// What it would be given.
    pub(super) parameters: AiParametersInput,
}

pub(super) fn wish(
    function: AiFunctionType,
    parameters: AiParametersInput,
    metadata: Option<AiMetadataInput>,
) -> Result<Wish> {
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

pub(super) async fn with_balance(
    caller: &Caller,
    row: execution::Model,
) -> Result<(execution::Model, CreditBalance)> {
    let account = accounts::of_tenant(&caller.app, row.tenant_id).await?;
    Ok((row, CreditBalance::of(Balance::of(&account))))
}

pub(super) fn executed((row, balance): (execution::Model, CreditBalance)) -> AiExecutePayload {
    AiExecutePayload {
        execution: Some(AiExecution(row)),
        balance: Some(balance),
        user_errors: Vec::new(),
    }
}

pub(super) fn refused(user_errors: Vec<UserError>) -> AiExecutePayload {
    AiExecutePayload { user_errors, ..AiExecutePayload::default() }
}
