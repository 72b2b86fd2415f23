//! Reserving credits for executions: key, account, execution, hold, in one transaction. Many calls
//! share it, and each runs as soon as it is committed, whether its caller still waits or not.
//!
//! Written over a slice; for one call it takes four statements (five with tags).

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::ai::input::Parameters;
use crate::ai::pricing::HoldOption;
use crate::ai::service::run::{self, Job};
use crate::app::App;
use crate::credits::service::admit::{self, Admission, NewHold, Want};
use crate::db::{self, Txn};
use crate::entity::credit_hold::{self, HoldState};
use crate::entity::{execution, execution_tag, function_price};
use crate::error::{Error, Result};
use crate::idempotency::{self, Claim, Key};
use crate::ids::{AccountId, ExecutionId, HoldId};

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
    /// How long the hold stays unless it is renewed.
    pub lease: TimeDelta,
}

/// The answer to a [`Request`].
#[derive(Clone, Debug)]
pub enum Answer {
    /// Reserved, now or by an attempt whose answer was lost: the execution may run, paid by this
    /// hold.
    Reserved(Box<execution::Model>, HoldId),
    /// The key belongs to this execution.
    Known(ExecutionId),
    /// The key belongs to another body.
    KeyConflict,
    /// Not reserved, for this reason; nothing is remembered.
    Refused(Admission),
}

/// Reserves for a slice of requests, answered in their order. The caller commits if any of them was
/// reserved; the keys of the refused are gone either way. Of two with the same key, the second
/// joins the first, also in its refusal.
pub async fn reserve(
    txn: &mut Txn,
    requests: &[Request],
    now: DateTime<Utc>,
) -> Result<Vec<Answer>> {
    let requests: Vec<&Request> = requests.iter().collect();
    let claims = claim(txn, &requests, now).await?;
    let accounts = accounts(&requests, &claims).collect();
    admit::lock_accounts(txn, &accounts).await?;
    reserve_claimed(txn, (&requests, claims), now).await
}

/// The first step of a reserve, before any account is locked.
pub(crate) async fn claim(
    txn: &Txn,
    requests: &[&Request],
    now: DateTime<Utc>,
) -> Result<Vec<Claim>> {
    let keys: Vec<Key> = requests.iter().map(|request| request.key.clone()).collect();
    idempotency::claim(txn, &keys, now).await
}

/// The accounts that requests with a new key want credits of.
pub(crate) fn accounts(requests: &[&Request], claims: &[Claim]) -> impl Iterator<Item = AccountId> {
    let new = requests.iter().zip(claims).filter(|(_, claim)| **claim == Claim::New);
    new.map(|(request, _)| request.execution.account_id)
}

/// The second step of a reserve: the caller has locked the accounts if there are several.
pub(crate) async fn reserve_claimed(
    txn: &mut Txn,
    (requests, claims): (&[&Request], Vec<Claim>),
    now: DateTime<Utc>,
) -> Result<Vec<Answer>> {
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
    let mut done = done_before(txn, requests, &claims).await?;

    let mut batch = Batch::default();
    for (request, claim) in requests.iter().zip(&claims) {
        if *claim == Claim::New {
            batch.take(request, admissions.next().unwrap_or(Admission::Closed), now);
        }
    }
    batch.write(txn, requests, now).await?;
    let mut admitted = batch.executions.into_iter().zip(batch.hold_ids);
    let mut answer = |claim: Claim, key: &Key| match claim {
        Claim::Conflict => Some(Answer::KeyConflict),
        Claim::Known(object) => Some(match (done.remove(&object), batch.refused.get(&object)) {
            (Some((row, hold)), _) => Answer::Reserved(Box::new(row), hold),
            (None, Some(admission)) => Answer::Refused(*admission),
            (None, None) => Answer::Known(ExecutionId(object)),
        }),
        Claim::New => match batch.refused.get(&key.object) {
            Some(admission) => Some(Answer::Refused(*admission)),
            None => admitted.next().map(|(row, hold)| Answer::Reserved(Box::new(row), hold)),
        },
    };
    let answers: Option<Vec<Answer>> = claims
        .into_iter()
        .zip(requests)
        .map(|(claim, request)| answer(claim, &request.key))
        .collect();
    answers.ok_or_else(|| Error::broken("a request without an answer"))
}

/// What these very requests reserved before: the commit was done and its answer lost, so that
/// nobody runs them yet.
async fn done_before(
    txn: &Txn,
    requests: &[&Request],
    claims: &[Claim],
) -> Result<HashMap<Uuid, (execution::Model, HoldId)>> {
    let is_own =
        |(request, claim): &(&&Request, &Claim)| **claim == Claim::Known(request.key.object);
    let own = requests.iter().zip(claims).filter(is_own);
    let ids: Vec<ExecutionId> = own.map(|(request, _)| request.execution.id).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let holds = credit_hold::Entity::find()
        .filter(credit_hold::Column::ExecutionId.is_in(ids.iter().copied()))
        .filter(credit_hold::Column::State.eq(HoldState::Active))
        .filter(credit_hold::Column::InFlightAt.is_null())
        .all(&**txn)
        .await?;
    let holds: HashMap<ExecutionId, HoldId> =
        holds.into_iter().map(|hold| (hold.execution_id, hold.id)).collect();
    let rows = execution::Entity::find().filter(execution::Column::Id.is_in(ids)).all(&**txn);
    let with_hold = |row: execution::Model| {
        let hold = *holds.get(&row.id)?;
        Some((row.id.0, (row, hold)))
    };
    Ok(rows.await?.into_iter().filter_map(with_hold).collect())
}

/// Rows of the admitted, and keys of the refused.
#[derive(Default)]
struct Batch {
    executions: Vec<execution::Model>,
    hold_ids: Vec<HoldId>,
    tags: Vec<execution_tag::Model>,
    holds: Vec<NewHold>,
    refused: HashMap<Uuid, Admission>,
}

impl Batch {
    fn take(&mut self, request: &Request, admission: Admission, now: DateTime<Utc>) {
        let Admission::Admitted { choice, version } = admission else {
            self.refused.insert(request.key.object, admission);
            return;
        };
        let mut execution = request.execution.clone();
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
            lease_until: now + request.lease,
        };
        let tag =
            |tag: &String| execution_tag::Model { execution_id: execution.id, tag: tag.clone() };
        self.tags.extend(request.tags.iter().map(tag));
        self.executions.push(execution);
        self.hold_ids.push(hold.id);
        self.holds.push(hold);
    }

    async fn write(&mut self, txn: &Txn, requests: &[&Request], now: DateTime<Utc>) -> Result<()> {
        db::insert::<execution::Entity>(&**txn, &self.executions).await?;
        db::insert::<execution_tag::Entity>(&**txn, &self.tags).await?;
        admit::write_holds(txn, std::mem::take(&mut self.holds), now).await?;
        let keys = requests.iter().map(|request| &request.key);
        let refused = keys.filter(|key| self.refused.contains_key(&key.object));
        idempotency::forget(txn, refused).await
    }
}

/// A call that wants credits and is to run with them.
pub(crate) struct Call {
    /// What it wants.
    pub(crate) request: Request,
    /// At what price.
    pub(crate) price: Arc<function_price::Model>,
    /// What the function is given.
    pub(crate) parameters: Arc<Parameters>,
}

/// What became of a [`Call`], and for one that runs here the way to hear of its end.
pub(crate) type Dispatched = (Answer, Option<oneshot::Receiver<execution::Model>>);

impl Call {
    /// Runs it if it was reserved and does not run yet.
    pub(crate) fn dispatch(&self, app: &App, answer: Answer) -> Dispatched {
        match &answer {
            Answer::Reserved(execution, _) if app.tasks.running(execution.id.0).is_some() => {
                (Answer::Known(execution.id), None)
            }
            Answer::Reserved(execution, hold) => {
                let job = Job {
                    execution: execution.as_ref().clone(),
                    hold: *hold,
                    price: Arc::clone(&self.price),
                    parameters: Arc::clone(&self.parameters),
                };
                let ended = run::spawn(app, job);
                (answer, Some(ended))
            }
            Answer::Known(_) | Answer::KeyConflict | Answer::Refused(_) => (answer, None),
        }
    }
}
