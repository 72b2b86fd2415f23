//! Ending an execution: what the outcome costs, and the settlement that writes both down.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sea_orm::Value;
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use crate::ai::pricing;
use crate::ai::service::run::{self, Job, Output};
use crate::ai::service::start::result_place;
use crate::ai::turn;
use crate::alerts::{self, AlertKind, NewAlert};
use crate::app::App;
use crate::credits::service::settle::{self, Claimed, Resolution, Resolved, Settlement};
use crate::db::{self, Rows, Txn};
use crate::entity::alert::AlertSeverity;
use crate::entity::execution;
use crate::entity::execution::{ExecutionStatus, FailureCode, UsageSource};
use crate::error::Result;
use crate::events::{self, Event, ExecutionChanged};
use crate::external::models::{FailureKind, count_tokens};
use crate::ids::{ExecutionId, TenantId, new_uuid};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The answer is complete.
    Finished,
    /// The provider failed.
    Failed(FailureKind),
    /// The answer stopped without an end.
    CutOff,
    /// Somebody cancelled it.
    Cancelled,
    /// It never left us.
    NotSent,
    /// Our own code failed.
    Panicked,
}

/// What an ending comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Where the execution stands.
    pub status: ExecutionStatus,
    /// Why it failed.
    pub failure: Option<FailureCode>,
    /// Credits charged, at most the hold.
    pub charge: i64,
    /// Credits of the computed charge above the hold; not charged.
    pub shortfall: i64,
    /// Tokens read and written; none when nothing came.
    pub tokens: Option<(i64, i64)>,
    /// Who counted them.
    pub usage_source: Option<UsageSource>,
}

/// What a run costs. Success: the formula on the provider's count, on ours when it gave none.
/// Failure: the table in the README.
pub fn judge(job: &Job, ending: Ending, output: &Output) -> Verdict {
    let has_output = !output.text.is_empty();
    let (status, failure) = match ending {
        Ending::Finished => (ExecutionStatus::Succeeded, None),
        Ending::Cancelled => (ExecutionStatus::Cancelled, Some(FailureCode::Cancelled)),
        Ending::Panicked | Ending::NotSent => {
            (ExecutionStatus::Failed, Some(FailureCode::Internal))
        }
        Ending::Failed(_) | Ending::CutOff if has_output => {
            (ExecutionStatus::Failed, Some(FailureCode::OutputBroken))
        }
        Ending::CutOff => (ExecutionStatus::Failed, Some(FailureCode::ProviderEmpty)),
        Ending::Failed(kind) => (ExecutionStatus::Failed, Some(code_of(kind))),
    };
    let counted = (job.execution.estimated_tokens, i64::from(count_tokens(&output.text)));
    let reported = output.usage.filter(|_| ending == Ending::Finished);
    let (tokens, source) = match reported {
        Some(usage) => {
            let reported = (i64::from(usage.input_tokens), i64::from(usage.output_tokens));
            (Some(reported), Some(UsageSource::Provider))
        }
        None if has_output => (Some(counted), Some(UsageSource::Counted)),
        None => (None, None),
    };
    let computed = match (tokens, failure) {
        (Some((read, written)), _) => pricing::charge(&job.price, read.saturating_add(written)),
        (None, Some(FailureCode::ProviderRateLimited)) => job.price.rate_limit_credits,
        (None, _) => 0,
    };
    let charge = computed.min(job.execution.credits_held);
    Verdict { status, failure, charge, shortfall: computed - charge, tokens, usage_source: source }
}

fn code_of(kind: FailureKind) -> FailureCode {
    match kind {
        FailureKind::RateLimited => FailureCode::ProviderRateLimited,
        FailureKind::QuotaExhausted => FailureCode::ProviderQuota,
        FailureKind::Rejected => FailureCode::ProviderRejected,
        // Broken before its first word: there is nothing of it to keep or to charge.
        FailureKind::Unavailable | FailureKind::Broken => FailureCode::ProviderUnavailable,
        FailureKind::TimedOut => FailureCode::ProviderTimeout,
        FailureKind::Empty => FailureCode::ProviderEmpty,
    }
}

/// Whether the same call may well succeed when it is made again.
pub fn is_retryable(failure: FailureCode) -> bool {
    match failure {
        FailureCode::ProviderRateLimited
        | FailureCode::ProviderUnavailable
        | FailureCode::ProviderTimeout
        | FailureCode::ProviderEmpty
        | FailureCode::OutputBroken
        | FailureCode::Interrupted
        | FailureCode::Internal => true,
        FailureCode::ProviderQuota | FailureCode::ProviderRejected | FailureCode::Cancelled => {
            false
        }
    }
}

/// Settles the run, again after any fault of the database, until its lease has ended: then the
/// sweep answers it. Returns the execution as it was settled here.
pub async fn finish(
    app: &App,
    job: impl Into<Arc<Job>>,
    ending: Ending,
    (output, time_ms): (Output, i64),
) -> Option<execution::Model> {
    let job: Arc<Job> = job.into();
    let verdict = judge(&job, ending, &output);
    let ended = Ended { job, attempt: new_uuid(), verdict, output: Arc::new(output), time_ms };
    let id = ended.job.execution.id;
    let give_up = Instant::now() + app.config.hold_lease;
    let mut pause = Duration::from_millis(100);
    loop {
        let error = match turn::settle(app, ended.clone()).await {
            Ok(settled) => return settled,
            Err(error) => error,
        };
        tracing::warn!(
            %error, execution.id = %id, "A settlement failed and is tried again: {error}"
        );
        if Instant::now() + pause >= give_up {
            tracing::error!(execution.id = %id, "A settlement was given up");
            return None;
        }
        // Meanwhile the sweep must not take it for left behind. A hold that is lost may be one
        // that was settled, and the answer to it lost: the next try finds that.
        run::renew(app, &ended.job).await;
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

/// A run that has ended here, on its way to be settled together with others.
#[derive(Clone)]
pub(crate) struct Ended {
    /// What ran.
    pub(crate) job: Arc<Job>,
    attempt: Uuid,
    verdict: Verdict,
    output: Arc<Output>,
    time_ms: i64,
}

impl Ended {
    /// The run as it is settled.
    pub(crate) fn run(&self, finished_at: DateTime<Utc>) -> Run<'_> {
        let Self { job, attempt, verdict, output, time_ms } = self;
        Run { job, attempt: *attempt, verdict, output, time_ms: *time_ms, finished_at }
    }
}

/// A run that has ended and is to be settled.
pub(crate) struct Run<'a> {
    /// What ran.
    pub(crate) job: &'a Job,
    /// This attempt to settle it; the same attempt made twice is found done.
    pub(crate) attempt: Uuid,
    /// What it comes to.
    pub(crate) verdict: &'a Verdict,
    /// What came out.
    pub(crate) output: &'a Output,
    /// Wall time in milliseconds.
    pub(crate) time_ms: i64,
    /// When it ended.
    pub(crate) finished_at: DateTime<Utc>,
}

impl Run<'_> {
    fn resolution(&self) -> Resolution {
        let execution = &self.job.execution;
        Resolution {
            hold: self.job.hold,
            attempt: self.attempt,
            charge: self.verdict.charge,
            is_success: self.verdict.status == ExecutionStatus::Succeeded,
            params: json!({
                "model": execution.model,
                "temperature": self.job.parameters.temperature.normalize().to_string(),
                "maxTokens": execution.max_tokens,
            }),
            time_ms: self.time_ms,
        }
    }

    /// The execution as it is now.
    fn ended(&self, app: &App, settlement: &Settlement) -> Result<execution::Model> {
        let execution = &self.job.execution;
        let result = match self.output.text.as_str() {
            "" => None,
            text => Some(app.crypto.seal(result_place(execution.id), text)?),
        };
        Ok(execution::Model {
            status: self.verdict.status,
            result,
            input_tokens: self.verdict.tokens.map(|(read, _)| read),
            output_tokens: self.verdict.tokens.map(|(_, written)| written),
            usage_source: self.verdict.usage_source,
            credits_used: settlement.hold.charge,
            shortfall: self.verdict.shortfall,
            total_cost_yen: settlement.cost,
            transaction_id: settlement.transaction,
            failure_code: self.verdict.failure,
            execution_time_ms: Some(self.time_ms),
            finished_at: Some(self.finished_at),
            ..execution.clone()
        })
    }
}

/// Settles a slice of runs: holds, account, grants and ledger first, then the executions. Answers
/// each as it was settled; none when it had been settled before.
pub(crate) async fn settle_runs(
    app: &App,
    txn: &mut Txn,
    runs: &[Run<'_>],
    now: DateTime<Utc>,
) -> Result<Vec<Option<execution::Model>>> {
    let resolutions: Vec<Resolution> = runs.iter().map(Run::resolution).collect();
    let resolved = settle::settle(txn, &resolutions, now).await?;
    write_down(app, txn, (runs, resolved), now).await
}

/// The first step of a settlement, before any account is locked.
pub(crate) async fn claim(txn: &Txn, runs: &[Run<'_>], now: DateTime<Utc>) -> Result<Claimed> {
    settle::claim(txn, runs.iter().map(Run::resolution).collect(), now).await
}

/// The last step of a settlement, after the credits: the executions.
pub(crate) async fn write_down(
    app: &App,
    txn: &mut Txn,
    (runs, resolved): (&[Run<'_>], Vec<Resolved>),
    now: DateTime<Utc>,
) -> Result<Vec<Option<execution::Model>>> {
    let mut answers = Vec::with_capacity(runs.len());
    for (run, resolved) in runs.iter().zip(resolved) {
        let settlement = match resolved {
            Resolved::Now(settlement) => settlement,
            Resolved::Done => {
                answers.push(None);
                continue;
            }
            Resolved::ByOther => {
                tracing::warn!(
                    execution.id = %run.job.execution.id,
                    "The result of an execution came after its hold was swept; it is void"
                );
                answers.push(None);
                continue;
            }
        };
        let ended = run.ended(app, &settlement)?;
        if run.verdict.shortfall > 0 {
            raise_shortfall(txn, run.job, run.verdict, now).await?;
        }
        announce_finished(txn, ended.id, ended.tenant_id);
        answers.push(Some(ended));
    }
    write_ended(txn, answers.iter().flatten()).await?;
    Ok(answers)
}

async fn write_ended(txn: &Txn, ended: impl Iterator<Item = &execution::Model>) -> Result<()> {
    let mut rows = Rows::default();
    for row in ended {
        rows.push([
            Value::from(row.id),
            row.status.as_str().into(),
            row.result.clone().into(),
            row.input_tokens.into(),
            row.output_tokens.into(),
            row.usage_source.map(|source| source.as_str().to_owned()).into(),
            row.credits_used.into(),
            row.shortfall.into(),
            row.total_cost_yen.into(),
            row.transaction_id.into(),
            row.failure_code.map(|code| code.as_str().to_owned()).into(),
            row.execution_time_ms.into(),
            row.finished_at.into(),
        ]);
    }
    if rows.is_empty() {
        return Ok(());
    }
    let (table, values) = rows.table(&**txn, 1);
    let sql = format!(
        "UPDATE ai_executions SET status = v.column2, result = v.column3,
         input_tokens = v.column4, output_tokens = v.column5, usage_source = v.column6,
         credits_used = v.column7, shortfall = v.column8, total_cost_yen = v.column9,
         transaction_id = v.column10, failure_code = v.column11,
         execution_time_ms = v.column12, finished_at = v.column13
         FROM {table} WHERE ai_executions.id = v.column1 AND ai_executions.status = 'RUNNING'"
    );
    db::execute(&**txn, sql, values).await?;
    Ok(())
}

/// Writes the executions of swept holds down as interrupted.
pub(crate) async fn write_interrupted(
    txn: &mut Txn,
    settlements: &[Settlement],
    now: DateTime<Utc>,
) -> Result<()> {
    for settlement in settlements {
        let sql = "UPDATE ai_executions SET status = 'FAILED', failure_code = 'INTERRUPTED',
                   credits_used = $2, total_cost_yen = $3, transaction_id = $4, finished_at = $5
                   WHERE id = $1 AND status = 'RUNNING' RETURNING tenant_id";
        let hold = &settlement.hold;
        let values: Vec<Value> = vec![
            hold.execution_id.into(),
            hold.charge.into(),
            settlement.cost.into(),
            settlement.transaction.into(),
            now.into(),
        ];
        #[derive(sea_orm::FromQueryResult)]
        struct Owner {
            tenant_id: TenantId,
        }
        let owner: Option<Owner> = db::one(&**txn, sql, values).await?;
        if let Some(owner) = owner {
            announce_finished(txn, hold.execution_id, owner.tenant_id);
        }
    }
    Ok(())
}

fn announce_finished(txn: &mut Txn, execution: ExecutionId, tenant: TenantId) {
    let change = ExecutionChanged { execution, tenant, is_finished: true };
    events::announce(txn, Event::Execution(change));
}

/// We pay the difference, and want to know why.
async fn raise_shortfall(
    txn: &mut Txn,
    job: &Job,
    verdict: &Verdict,
    now: DateTime<Utc>,
) -> Result<()> {
    let alert = NewAlert {
        tenant: None,
        kind: AlertKind::ChargeShortfall,
        severity: AlertSeverity::Warning,
        dedupe_key: format!("CHARGE_SHORTFALL:{}", job.execution.id),
        data: json!({
            "execution": job.execution.id.to_string(),
            "model": job.execution.model,
            "held": job.execution.credits_held,
            "shortfall": verdict.shortfall,
        }),
    };
    alerts::raise(txn, alert, now).await?;
    Ok(())
}
