//! Writes that share a transaction, and what happens to those that spoil it for others: a part
//! that fails goes on beside the rounds until it succeeds, so that a locked row is waited for by
//! those who need it and by nobody else.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::batch::{Queue, Reply, Ticket, Work};
use crate::db::Txn;
use crate::error::{Error, LOCK, Result};

/// Callers who share one transaction at most.
const COMMITTED_MAX: usize = 256;
/// Parts that are written beside the rounds at once at most: connections are for others, too.
const BESIDE_MAX: usize = 8;
/// How long a part stays beside the rounds after a lock of it was not had in time.
const BLOCKED: Duration = Duration::from_secs(10);
/// How long the database counts as away after a transaction could not begin.
const AWAY: Duration = Duration::from_millis(100);

/// A write that shares its transaction with others of its kind.
pub trait Commit: Sized + Send + Sync + 'static {
    /// What it is done with: the program's `App`.
    type Context: Clone + Send + Sync + 'static;
    /// What the caller gets.
    type Answer: Send + 'static;
    /// Writes of different parts have nothing to do with each other.
    type Part: Ord + Copy + Send + 'static;
    /// Rounds that are under way at the same time at most.
    const ROUNDS_MAX: usize = 1;

    /// Callers that it waits behind at most; beyond it is refused as unavailable.
    fn waiting_max(&self) -> usize;

    /// The part that it belongs to.
    fn part(&self) -> Self::Part;

    /// Begins a transaction. Callers who come meanwhile go along.
    fn begin(context: &Self::Context) -> impl Future<Output = Result<Txn>> + Send;

    /// Does all of them, commits, and answers them in their order. It may be asked for a write
    /// again whose first answer was lost, as a commit's can be.
    fn write(
        context: &Self::Context,
        txn: Txn,
        writes: &[Self],
    ) -> impl Future<Output = Result<Vec<Self::Answer>>> + Send;
}

pub(super) struct Writing<C: Commit>(pub(super) C);

/// Writes, and the ways to answer them.
type Pending<C> = (Vec<C>, Vec<Reply<<C as Commit>::Answer>>);

impl<C: Commit> Work for Writing<C> {
    type Context = C::Context;
    type Answer = C::Answer;
    type Shared = Beside<C>;
    const ROUNDS_MAX: usize = C::ROUNDS_MAX;

    fn waiting_max(&self) -> usize {
        self.0.waiting_max()
    }

    async fn round(context: Self::Context, queue: Queue<Self>) {
        let begun = C::begin(&context).await;
        let tickets = queue.take(COMMITTED_MAX);
        let pending: Pending<C> = tickets
            .into_iter()
            .map(Ticket::split)
            .map(|(writing, reply)| (writing.0, reply))
            .unzip();
        let txn = match begun {
            Ok(txn) => txn,
            Err(error) => return refuse(pending, &error),
        };
        let beside = queue.shared();
        let (pending, woken) = beside.divert(pending);
        go_on_beside(&context, &queue, woken);
        if pending.0.is_empty() {
            return;
        }
        let Some((pending, error)) = attempt(&context, txn, pending).await else { return };
        if let [write] = pending.0.as_slice() {
            beside.note(write.part(), matches!(error, Error::Unavailable(LOCK)));
            return refuse(pending, &error);
        }
        tracing::warn!(%error, "A shared transaction failed and is done in parts: {error}");
        go_on_beside(&context, &queue, beside.take_over(pending));
    }
}

/// Parts that are written beside the rounds.
pub(super) struct Beside<C: Commit> {
    parts: Mutex<BTreeMap<C::Part, Aside<C>>>,
    places: Semaphore,
    away_until: Mutex<Option<Instant>>,
}

/// A part beside the rounds, and who waits for it.
struct Aside<C: Commit> {
    waiting: Pending<C>,
    is_served: bool,
    blocked_until: Option<Instant>,
}

impl<C: Commit> Default for Aside<C> {
    fn default() -> Self {
        Self { waiting: (Vec::new(), Vec::new()), is_served: false, blocked_until: None }
    }
}

impl<C: Commit> Default for Beside<C> {
    fn default() -> Self {
        Self {
            parts: Mutex::default(),
            places: Semaphore::new(BESIDE_MAX),
            away_until: Mutex::default(),
        }
    }
}

impl<C: Commit> Aside<C> {
    /// Joins; true when nobody serves it yet. Too many are refused.
    fn join(&mut self, write: C, reply: Reply<C::Answer>) -> bool {
        if self.waiting.0.len() >= write.waiting_max() {
            reply.send(Err(Error::Unavailable("queue")));
        } else {
            self.waiting.0.push(write);
            self.waiting.1.push(reply);
        }
        !std::mem::replace(&mut self.is_served, true)
    }

    fn is_beside(&self, now: Instant) -> bool {
        self.is_served || self.blocked_until.is_some_and(|until| now < until)
    }
}

impl<C: Commit> Beside<C> {
    /// Those who go with the round; the others join their parts, some of which are to be served.
    fn divert(&self, pending: Pending<C>) -> (Pending<C>, Vec<C::Part>) {
        let mut parts = self.lock();
        if parts.is_empty() {
            return (pending, Vec::new());
        }
        let now = Instant::now();
        parts.retain(|_, aside| aside.is_beside(now));
        let mut stay: Pending<C> = (Vec::new(), Vec::new());
        let mut woken = Vec::new();
        for (write, reply) in pending.0.into_iter().zip(pending.1) {
            let part = write.part();
            if let Some(aside) = parts.get_mut(&part) {
                woken.extend(aside.join(write, reply).then_some(part));
            } else {
                stay.0.push(write);
                stay.1.push(reply);
            }
        }
        (stay, woken)
    }

    /// Takes all over; answers the parts that are to be served.
    fn take_over(&self, pending: Pending<C>) -> Vec<C::Part> {
        let mut parts = self.lock();
        let mut woken = Vec::new();
        for (write, reply) in pending.0.into_iter().zip(pending.1) {
            let part = write.part();
            let aside = parts.entry(part).or_default();
            woken.extend(aside.join(write, reply).then_some(part));
        }
        woken
    }

    /// The next who wait for a part; none when its service is over.
    fn next(&self, part: C::Part) -> Option<Pending<C>> {
        let mut parts = self.lock();
        let aside = parts.get_mut(&part)?;
        let count = aside.waiting.0.len().min(COMMITTED_MAX);
        if count == 0 {
            aside.is_served = false;
            if aside.blocked_until.is_none() {
                parts.remove(&part);
            }
            return None;
        }
        let writes = aside.waiting.0.drain(..count).collect();
        Some((writes, aside.waiting.1.drain(..count).collect()))
    }

    /// Keeps whether a part could not be written in time.
    fn note(&self, part: C::Part, is_blocked: bool) {
        let mut parts = self.lock();
        if is_blocked {
            let aside = parts.entry(part).or_default();
            aside.blocked_until = Some(Instant::now() + BLOCKED);
        } else if let Some(aside) = parts.get_mut(&part) {
            aside.blocked_until = None;
        }
    }

    /// Begins a transaction. When the database is away the first to notice tells the others, so
    /// that they do not wait for it one after the other.
    async fn begin(&self, context: &C::Context) -> Result<Txn> {
        let away_until = *self.away_until.lock().unwrap_or_else(PoisonError::into_inner);
        if away_until.is_some_and(|until| Instant::now() < until) {
            return Err(Error::Unavailable("database"));
        }
        let begun = C::begin(context).await;
        if begun.is_err() {
            let until = Some(Instant::now() + AWAY);
            *self.away_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
        }
        begun
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<C::Part, Aside<C>>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn go_on_beside<C: Commit>(
    context: &C::Context,
    queue: &Queue<Writing<C>>,
    parts: impl IntoIterator<Item = C::Part>,
) {
    for part in parts {
        queue.spawn(serve_beside(context.clone(), queue.clone(), part));
    }
}

/// Writes a part by itself until nobody waits for it.
async fn serve_beside<C: Commit>(context: C::Context, queue: Queue<Writing<C>>, part: C::Part) {
    let beside = queue.shared();
    loop {
        let place = beside.places.acquire().await;
        let Some(pending) = beside.next(part) else { return };
        // A panic is a fault for those it took, and leaves the part in service.
        let written = AssertUnwindSafe(write_part(&context, beside, pending)).catch_unwind().await;
        beside.note(part, written.unwrap_or(false));
        drop(place);
    }
}

/// Does the writes of one part by themselves, and one by one when that fails too. Says whether
/// they could not be written in time.
async fn write_part<C: Commit>(
    context: &C::Context,
    beside: &Beside<C>,
    pending: Pending<C>,
) -> bool {
    let txn = match beside.begin(context).await {
        Ok(txn) => txn,
        Err(error) => {
            refuse(pending, &error);
            return false;
        }
    };
    let Some((pending, error)) = attempt(context, txn, pending).await else { return false };
    if pending.0.len() < 2 || matches!(error, Error::Unavailable(_)) {
        refuse(pending, &error);
        return matches!(error, Error::Unavailable(LOCK));
    }
    for (write, reply) in pending.0.into_iter().zip(pending.1) {
        let alone = (vec![write], vec![reply]);
        match beside.begin(context).await {
            Ok(txn) => {
                if let Some((alone, error)) = attempt(context, txn, alone).await {
                    refuse(alone, &error);
                }
            }
            Err(error) => refuse(alone, &error),
        }
    }
    false
}

/// Does the writes and answers them, or gives them back with the reason.
async fn attempt<C: Commit>(
    context: &C::Context,
    txn: Txn,
    (writes, replies): Pending<C>,
) -> Option<(Pending<C>, Error)> {
    let written = AssertUnwindSafe(C::write(context, txn, &writes)).catch_unwind().await;
    match written.unwrap_or_else(|_| Err(Error::broken("a panic in a shared transaction"))) {
        Ok(answers) => {
            for (reply, answer) in replies.into_iter().zip(answers) {
                reply.send(Ok(answer));
            }
            None
        }
        Err(error) => Some(((writes, replies), error)),
    }
}

fn refuse<C: Commit>((_, replies): Pending<C>, error: &Error) {
    for reply in replies {
        reply.send(Err(error.repeat()));
    }
}
