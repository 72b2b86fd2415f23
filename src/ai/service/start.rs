//! Starting an execution: check, price, reserve, hand over to a task that outlives the request.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::actor::{Actor, Permission};
use crate::ai::input::{Checked, Parameters, Wish};
use crate::ai::pricing::{self, HoldOption};
use crate::ai::service::reserve::{Answer, Call, Dispatched, Request};
use crate::ai::service::{history, watch};
use crate::ai::turn;
use crate::app::App;
use crate::credits::error::CreditError;
use crate::credits::service::admit::Admission;
use crate::credits::service::{account, due};
use crate::crypto::Place;
use crate::entity::execution::ExecutionStatus;
use crate::entity::{credit_account, execution, function_price};
use crate::error::{Error, Result};
use crate::external::models::estimate_input_tokens;
use crate::idempotency::{Key, KeyConflict};
use crate::ids::{ApiKeyId, ExecutionId, TenantId, UserId};

/// How often a reserve tries again after it applied what was due.
const DUE_TRIES: usize = 3;
/// How long `aiExecute` waits for the end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Executions that run on this node at most; more are refused before anything is held.
const RUNNING_MAX: usize = 5_000;

/// What a call would cost.
#[derive(Clone, Debug)]
pub struct Quote {
    /// The charge of a short answer.
    pub credits: i64,
    /// Credits that would be held, which is the charge of the longest answer.
    pub hold: i64,
    /// Counted tokens of input and context.
    pub input_tokens: i64,
    /// Output tokens that the hold pays for; lower than asked when the balance demands it.
    pub max_tokens: i64,
    /// Whether the call could start now.
    pub is_affordable: bool,
    /// The model that would run.
    pub model: String,
}

/// Says what a call would cost and whether it could start now. Nothing is held.
pub async fn quote(app: &App, actor: &Actor, wish: &Wish) -> Result<Quote> {
    actor.require(Permission::AiExecute)?;
    let checked = wish.check()?;
    let price = pricing::in_force(app, wish.function, wish.model.as_deref()).await?;
    let account = account::of_tenant(app, actor.tenant()?).await?;
    let is_due = account.next_due_at <= app.clock.db_now();
    let account = if is_due && due::apply_due(app, account.id).await? {
        account::of_tenant(app, actor.tenant()?).await?
    } else {
        account
    };
    let input_tokens = count(&price, &checked);
    let options = pricing::hold_options(&price, input_tokens, checked.max_tokens);
    let available = account.current_balance - account.held;
    let fitting = options.iter().find(|option| option.credits <= available);
    let wished = HoldOption { credits: 0, max_tokens: checked.max_tokens };
    let chosen = fitting.or(options.first()).unwrap_or(&wished);
    Ok(Quote {
        credits: pricing::charge(&price, input_tokens + 1),
        hold: chosen.credits,
        input_tokens,
        max_tokens: chosen.max_tokens,
        is_affordable: fitting.is_some(),
        model: price.model,
    })
}

/// Starts a call and waits for its end, at most 60 s; then answers it as it stands.
pub async fn execute(app: &App, actor: &Actor, wish: Wish, key: &str) -> Result<execution::Model> {
    let deadline = Instant::now() + PATIENCE;
    let (started, ended) = begin(app, actor, wish, key).await?;
    if started.status != ExecutionStatus::Running {
        return Ok(started);
    }
    match ended {
        Some(ended) => watch::told(app, started, ended, deadline).await,
        None => watch::finished(app, started, deadline).await,
    }
}

/// Starts a call: it is paid for, or refused, before this returns. A key that is known answers its
/// execution, running or ended.
pub async fn start(app: &App, actor: &Actor, wish: Wish, key: &str) -> Result<execution::Model> {
    Ok(begin(app, actor, wish, key).await?.0)
}

type Begun = (execution::Model, Option<oneshot::Receiver<execution::Model>>);

async fn begin(app: &App, actor: &Actor, wish: Wish, key: &str) -> Result<Begun> {
    actor.require(Permission::AiExecute)?;
    let tenant = actor.tenant()?;
    let checked = wish.check()?;
    // First and alone: a stranger's id and one that nobody has are to cost the same.
    let user = beneficiary(app, actor, tenant, &wish).await?;
    let (price, account) = tokio::try_join!(
        pricing::in_force(app, wish.function, wish.model.as_deref()),
        account::of_tenant(app, tenant),
    )?;
    let id = ExecutionId::new();
    let key = Key::new(
        &app.crypto,
        (tenant, actor.principal()),
        // `aiExecute` and `aiExecutionStart` share their keys.
        "aiExecute",
        (key, &wish.fingerprint()),
        id.0,
    )?;
    let input_tokens = count(&price, &checked);
    let draft = Draft {
        id,
        account: &account,
        price: &price,
        checked: &checked,
        user,
        requested_by: actor.user_id,
        key: actor.key().map(|key| key.id),
        input_tokens,
    };
    let terms = (Arc::new(price.clone()), Arc::new(checked.parameters.clone()));
    for _ in 0..=DUE_TRIES {
        let request = draft.request(app, key.clone(), app.clock.db_now())?;
        let (answer, ended) = dispatch(app, request, &terms).await?;
        match answer {
            Answer::Reserved(execution, _) => return Ok((*execution, ended)),
            Answer::Known(id) => return Ok((history::row(app, tenant, id).await?, None)),
            Answer::KeyConflict => return Err(KeyConflict.into()),
            Answer::Refused(Admission::Due) => {
                due::apply_due(app, account.id).await?;
            }
            Answer::Refused(Admission::Insufficient { available, held }) => {
                let options = pricing::hold_options(&price, input_tokens, checked.max_tokens);
                let needed = options.last().map_or(0, |option| option.credits);
                return Err(CreditError::Insufficient { needed, available, held }.into());
            }
            Answer::Refused(Admission::Closed | Admission::Admitted { .. }) => {
                return Err(CreditError::AccountClosed.into());
            }
        }
    }
    Err(Error::Unavailable("credit account"))
}

/// Reserves together with other calls and, when that succeeds, runs. A caller who leaves in between
/// leaves no execution behind that is held and never runs.
async fn dispatch(
    app: &App,
    request: Request,
    (price, parameters): &(Arc<function_price::Model>, Arc<Parameters>),
) -> Result<Dispatched> {
    if app.tasks.count_running() >= RUNNING_MAX || app.tasks.stopping().is_cancelled() {
        return Err(Error::Unavailable("AI execution"));
    }
    let (price, parameters) = (Arc::clone(price), Arc::clone(parameters));
    turn::reserve(app, Call { request, price, parameters }).await
}

/// For whom the call runs: the caller, or a member whom an ADMIN names.
async fn beneficiary(app: &App, actor: &Actor, tenant: TenantId, wish: &Wish) -> Result<UserId> {
    match wish.user {
        None => Ok(actor.user_id),
        Some(user) if user == actor.user_id => Ok(user),
        Some(user) => {
            actor.require(Permission::AiExecuteForOthers)?;
            if crate::identity::is_member(app, tenant, user).await? {
                Ok(user)
            } else {
                Err(Error::NotFound("user"))
            }
        }
    }
}

/// Counted tokens of what the model is given.
pub(crate) fn count(price: &function_price::Model, checked: &Checked) -> i64 {
    let parameters = &checked.parameters;
    let system = parameters.context.as_deref();
    estimate_input_tokens(&price.model, system, &parameters.input).into()
}

/// What is known of an execution before it is reserved.
pub(crate) struct Draft<'a> {
    /// Its id.
    pub(crate) id: ExecutionId,
    /// Who pays.
    pub(crate) account: &'a credit_account::Model,
    /// At what price.
    pub(crate) price: &'a function_price::Model,
    /// What the function is given.
    pub(crate) checked: &'a Checked,
    /// For whom it runs.
    pub(crate) user: UserId,
    /// Who asked.
    pub(crate) requested_by: UserId,
    /// The API key by which they asked.
    pub(crate) key: Option<ApiKeyId>,
    /// Counted tokens of the input.
    pub(crate) input_tokens: i64,
}

impl Draft<'_> {
    /// The request to reserve credits for it.
    pub(crate) fn request(&self, app: &App, key: Key, now: DateTime<Utc>) -> Result<Request> {
        let max_tokens = self.checked.max_tokens;
        Ok(Request {
            execution: self.row(app, &key.key, now)?,
            key,
            tags: self.checked.tags.clone(),
            options: pricing::hold_options(self.price, self.input_tokens, max_tokens),
            lease: lease(app),
        })
    }

    fn row(&self, app: &App, key: &str, now: DateTime<Utc>) -> Result<execution::Model> {
        let text = serde_json::to_string(&self.checked.parameters)?;
        Ok(execution::Model {
            id: self.id,
            tenant_id: self.account.tenant_id,
            account_id: self.account.id,
            user_id: self.user,
            requested_by: self.requested_by,
            api_key_id: self.key,
            idempotency_key: key.to_owned(),
            function_type: self.price.function_type,
            model: self.price.model.clone(),
            provider: app.models.provider().to_owned(),
            price_id: self.price.id,
            status: ExecutionStatus::Running,
            parameters: Some(app.crypto.seal(parameters_place(self.id), &text)?),
            result: None,
            max_tokens: self.checked.max_tokens,
            requested_max_tokens: self.checked.max_tokens,
            estimated_tokens: self.input_tokens,
            input_tokens: None,
            output_tokens: None,
            usage_source: None,
            credits_held: 0,
            credits_used: 0,
            credits_refunded: 0,
            shortfall: 0,
            total_cost_yen: None,
            transaction_id: None,
            failure_code: None,
            cancel_requested_at: None,
            execution_time_ms: None,
            created_at: now,
            finished_at: None,
        })
    }
}

/// How long a hold stays without its owner renewing it.
pub(crate) fn lease(app: &App) -> TimeDelta {
    TimeDelta::from_std(app.config.hold_lease).unwrap_or(TimeDelta::minutes(2))
}

/// Where an execution's parameters are sealed to.
pub(crate) fn parameters_place(id: ExecutionId) -> Place {
    Place { table: "ai_executions", column: "parameters", row: id.0 }
}

/// Where an execution's result is sealed to.
pub(crate) fn result_place(id: ExecutionId) -> Place {
    Place { table: "ai_executions", column: "result", row: id.0 }
}
