//! Reserving credits for executions: key, account, execution, hold, in one transaction.
//!
//! Written over a slice; for one call it takes four statements (five with tags).

use chrono::{DateTime, Utc};
use sea_orm::{EntityTrait, IntoActiveModel};
use uuid::Uuid;

use crate::ai::pricing::HoldOption;
use crate::credits::service::admit::{self, Admission, NewHold, Want};
use crate::db::Txn;
use crate::entity::{execution, execution_tag};
use crate::error::Result;
use crate::idempotency::{self, Claim, Key};
use crate::ids::{ExecutionId, HoldId};

/// An execution that wants credits.
#[derive(Clone, Debug)]
pub struct Request {
    /// The client's key.
    pub key: Key,
    /// The row, but for what the hold decides.
    pub execution: execution::Model,
    /// Its labels.
    pub tags: Vec<String>,
    /// What can be held, the wish first.
    pub options: Vec<HoldOption>,
    /// When the hold may be swept unless it is renewed.
    pub lease_until: DateTime<Utc>,
}

/// The answer to a [`Request`].
#[derive(Clone, Debug)]
pub enum Answer {
    /// Reserved: the execution may run, paid by this hold.
    Reserved(Box<execution::Model>, HoldId),
    /// The key belongs to this execution.
    Known(ExecutionId),
    /// The key belongs to another body.
    KeyConflict,
    /// Not reserved, for this reason; nothing is remembered.
    Refused(Admission),
}

/// Reserves for a slice of requests, answered in their order. The caller commits if any of them was
/// reserved; the keys of the refused are gone either way.
pub async fn reserve(
    txn: &mut Txn,
    requests: Vec<Request>,
    now: DateTime<Utc>,
) -> Result<Vec<Answer>> {
    let keys: Vec<Key> = requests.iter().map(|request| request.key.clone()).collect();
    let claims = idempotency::claim(txn, &keys, now).await?;
    let wants: Vec<Want> = requests
        .iter()
        .zip(&claims)
        .filter(|(_, claim)| **claim == Claim::New)
        .map(|(request, _)| Want {
            account: request.execution.account_id,
            amounts: request.options.iter().map(|option| option.credits).collect(),
        })
        .collect();
    let mut admissions = admit::admit(txn, &wants, now).await?.into_iter();

    let mut batch = Batch::default();
    let mut answers = Vec::with_capacity(requests.len());
    for (request, claim) in requests.into_iter().zip(claims) {
        answers.push(match claim {
            Claim::Known(object) => Answer::Known(ExecutionId(object)),
            Claim::Conflict => Answer::KeyConflict,
            Claim::New => batch.take(request, admissions.next().unwrap_or(Admission::Closed)),
        });
    }
    batch.write(txn, now).await?;
    Ok(answers)
}

/// Rows of the admitted, and keys of the refused.
#[derive(Default)]
struct Batch {
    executions: Vec<execution::Model>,
    tags: Vec<execution_tag::Model>,
    holds: Vec<NewHold>,
    refused: Vec<Uuid>,
}

impl Batch {
    fn take(&mut self, request: Request, admission: Admission) -> Answer {
        let Admission::Admitted { choice, version } = admission else {
            self.refused.push(request.key.object);
            return Answer::Refused(admission);
        };
        let mut execution = request.execution;
        if let Some(option) = request.options.get(choice) {
            execution.max_tokens = option.max_tokens;
            execution.credits_held = option.credits;
        }
        let hold = NewHold {
            id: HoldId::new(),
            account: execution.account_id,
            execution: execution.id,
            user: execution.user_id,
            function: execution.function_type,
            amount: execution.credits_held,
            version,
            lease_until: request.lease_until,
        };
        let tags = request.tags.into_iter();
        self.tags.extend(tags.map(|tag| execution_tag::Model { execution_id: execution.id, tag }));
        let answer = Answer::Reserved(Box::new(execution.clone()), hold.id);
        self.executions.push(execution);
        self.holds.push(hold);
        answer
    }

    async fn write(self, txn: &Txn, now: DateTime<Utc>) -> Result<()> {
        if !self.executions.is_empty() {
            let rows = self.executions.into_iter().map(IntoActiveModel::into_active_model);
            execution::Entity::insert_many(rows).exec_without_returning(&**txn).await?;
        }
        if !self.tags.is_empty() {
            let rows = self.tags.into_iter().map(IntoActiveModel::into_active_model);
            execution_tag::Entity::insert_many(rows).exec_without_returning(&**txn).await?;
        }
        admit::write_holds(txn, self.holds, now).await?;
        idempotency::forget(txn, &self.refused).await
    }
}
