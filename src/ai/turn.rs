//! What calls write at their turns: reserve, depart, settle. All of it goes through one queue, so
//! that the turns of many calls share an account's lock and a commit.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use crate::ai::service::finish::{self, Ended};
use crate::ai::service::reserve::{self, Answer, Call, Dispatched, Request};
use crate::ai::service::run::Departure;
use crate::app::App;
use crate::batch::Commit;
use crate::credits::service::{admit, settle};
use crate::db::Txn;
use crate::entity::execution;
use crate::error::{Error, Result};
use crate::events::{self, Event};
use crate::ids::{AccountId, HoldId};

/// Turns that a reserve waits behind at most; beyond it is refused.
const WAITING_MAX: usize = 10_000;

/// Something to write of a call.
pub(crate) enum Turn {
    /// It wants credits.
    Reserve(Box<Call>),
    /// It is about to leave for the provider.
    Depart(Departure),
    /// It has ended.
    Settle(Ended),
}

/// The answer to a [`Turn`].
pub(crate) enum Told {
    /// What became of the call.
    Reserved(Box<Dispatched>),
    /// Whether the hold is still ours.
    Departed(bool),
    /// The execution as it was settled; none when that was done before.
    Settled(Option<Box<execution::Model>>),
}

/// Reserves for a call and, when that succeeds, runs it.
pub(crate) async fn reserve(app: &App, call: Call) -> Result<Dispatched> {
    match app.batches.commit(app, Turn::Reserve(Box::new(call))).await? {
        Told::Reserved(dispatched) => Ok(*dispatched),
        Told::Departed(_) | Told::Settled(_) => Err(astray()),
    }
}

/// Marks that a call is about to leave. False: its hold is no longer ours.
pub(crate) async fn depart(app: &App, departure: Departure) -> Result<bool> {
    match app.batches.commit(app, Turn::Depart(departure)).await? {
        Told::Departed(is_ours) => Ok(is_ours),
        Told::Reserved(_) | Told::Settled(_) => Err(astray()),
    }
}

/// Settles a run. None: it was settled before.
pub(crate) async fn settle(app: &App, ended: Ended) -> Result<Option<execution::Model>> {
    match app.batches.commit(app, Turn::Settle(ended)).await? {
        Told::Settled(settled) => Ok(settled.map(|execution| *execution)),
        Told::Reserved(_) | Told::Departed(_) => Err(astray()),
    }
}

fn astray() -> Error {
    Error::broken("the answer to another turn")
}

impl Commit for Turn {
    type Context = App;
    type Answer = Told;
    /// A departure needs no account: one that is locked must not keep it.
    type Part = (AccountId, bool);
    /// While one round waits for the account or its commit, the next writes what needs no lock.
    const ROUNDS_MAX: usize = 2;

    /// A settlement is never refused.
    fn waiting_max(&self) -> usize {
        match self {
            Self::Reserve(_) => WAITING_MAX,
            Self::Depart(_) | Self::Settle(_) => usize::MAX,
        }
    }

    fn part(&self) -> (AccountId, bool) {
        match self {
            Self::Reserve(call) => (call.request.execution.account_id, false),
            Self::Depart(departure) => (departure.account, true),
            Self::Settle(ended) => (ended.job.execution.account_id, false),
        }
    }

    async fn begin(app: &App) -> Result<Txn> {
        app.db.begin_always().await
    }

    async fn write(app: &App, mut txn: Txn, turns: &[Self]) -> Result<Vec<Told>> {
        let round = Round::of(turns);
        let written = round.write(app, &mut txn, app.clock.db_now()).await?;
        if round.leaves_something(&written) {
            txn.commit().await?;
        } else {
            txn.rollback().await?;
        }
        round.tell(app, turns, written)
    }
}

/// The turns of a round by their kind, each in the order of arrival.
#[derive(Default)]
struct Round<'a> {
    calls: Vec<&'a Call>,
    departures: Vec<&'a Departure>,
    ended: Vec<&'a Ended>,
}

/// What was written for each of them.
struct Written {
    answers: Vec<Answer>,
    departed: Vec<bool>,
    settled: Vec<Option<execution::Model>>,
}

impl<'a> Round<'a> {
    fn of(turns: &'a [Turn]) -> Self {
        let mut round = Self::default();
        for turn in turns {
            match turn {
                Turn::Reserve(call) => round.calls.push(call),
                Turn::Depart(departure) => round.departures.push(departure),
                Turn::Settle(ended) => round.ended.push(ended),
            }
        }
        round
    }

    /// Keys, then holds, then accounts: everybody locks in this order. Settles come before
    /// reserves, which may need what they set free.
    async fn write(&self, app: &App, txn: &mut Txn, now: DateTime<Utc>) -> Result<Written> {
        let requests: Vec<&Request> = self.calls.iter().map(|call| &call.request).collect();
        let runs: Vec<_> = self.ended.iter().map(|ended| ended.run(now)).collect();
        let claims = reserve::claim(txn, &requests, now).await?;
        let claimed = finish::claim(txn, &runs, now).await?;
        let departed = self.depart(txn, now).await?;
        let mut accounts: BTreeSet<AccountId> = claimed.accounts().collect();
        accounts.extend(reserve::accounts(&requests, &claims));
        admit::lock_accounts(txn, &accounts).await?;
        let resolved = settle::settle_claimed(txn, claimed, now).await?;
        let settled = finish::write_down(app, txn, (&runs, resolved), now).await?;
        let answers = reserve::reserve_claimed(txn, (&requests, claims), now).await?;
        Ok(Written { answers, departed, settled })
    }

    async fn depart(&self, txn: &mut Txn, now: DateTime<Utc>) -> Result<Vec<bool>> {
        let holds: Vec<HoldId> = self.departures.iter().map(|departure| departure.hold).collect();
        let ours = admit::mark_in_flight(txn, &holds, now).await?;
        for departure in &self.departures {
            events::announce(txn, Event::Execution(departure.change.clone()));
        }
        Ok(holds.iter().map(|hold| ours.contains(hold)).collect())
    }

    fn leaves_something(&self, written: &Written) -> bool {
        let is_reserved = |answer: &Answer| matches!(answer, Answer::Reserved(..));
        !self.departures.is_empty()
            || !self.ended.is_empty()
            || written.answers.iter().any(is_reserved)
    }

    /// The answers in the order of the turns. What was reserved begins to run, whether its caller
    /// still waits or not.
    fn tell(&self, app: &App, turns: &[Turn], written: Written) -> Result<Vec<Told>> {
        let calls = self.calls.iter().zip(written.answers);
        let mut reserved = calls.map(|(call, answer)| call.dispatch(app, answer));
        let mut departed = written.departed.into_iter();
        let mut settled = written.settled.into_iter();
        let tell = |turn: &Turn| match turn {
            Turn::Reserve(_) => reserved.next().map(|told| Told::Reserved(Box::new(told))),
            Turn::Depart(_) => departed.next().map(Told::Departed),
            Turn::Settle(_) => settled.next().map(|told| Told::Settled(told.map(Box::new))),
        };
        let told: Option<Vec<Told>> = turns.iter().map(tell).collect();
        told.ok_or_else(|| Error::broken("a turn without an answer"))
    }
}
