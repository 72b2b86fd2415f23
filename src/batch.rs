//! Work done for many callers at once: group commit, and reads that callers share.
//!
//! Callers stand in one queue for each kind of work. One of them being served, the others gather;
//! the next round takes all of them, as many as there are, so that nothing waits on purpose and
//! the price of a round (a commit, a round trip) is shared by all who are in it. A round always
//! starts after the callers in it have asked, so that what it reads is never older than the ask.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::sync::oneshot;

use crate::db::Txn;
use crate::error::{Error, Result};
use crate::tasks::Tasks;

/// Callers of one read that wait at most; more are refused.
const READERS_WAITING_MAX: usize = 20_000;
/// Keys that one read takes at most.
const KEYS_MAX: usize = 500;
/// Callers who share one transaction at most.
const COMMITTED_MAX: usize = 256;

/// A piece of work that is better done together with others of its kind.
pub trait Work: Sized + Send + 'static {
    /// What it is done with: the program's `App`.
    type Context: Clone + Send + Sync + 'static;
    /// What the caller gets.
    type Answer: Send + 'static;
    /// Rounds that are under way at the same time at most.
    const ROUNDS_MAX: usize = 1;

    /// Callers that it waits behind at most; beyond it is refused as unavailable.
    fn waiting_max(&self) -> usize;

    /// One round: takes callers from the queue when it is ready to serve them, and answers each.
    /// Whoever is not answered gets a fault.
    fn round(context: Self::Context, queue: Queue<Self>) -> impl Future<Output = ()> + Send;
}

/// A caller who waits.
pub struct Ticket<W: Work> {
    /// What is to be done.
    pub work: W,
    answer: oneshot::Sender<Result<W::Answer>>,
}

impl<W: Work> Ticket<W> {
    /// Answers the caller. One who has left does not hear it.
    pub fn answer(self, answer: Result<W::Answer>) {
        let _ = self.answer.send(answer);
    }

    /// The work, and the way to answer it.
    pub fn split(self) -> (W, Reply<W::Answer>) {
        (self.work, Reply(self.answer))
    }
}

/// The way back to a caller.
pub struct Reply<A>(oneshot::Sender<Result<A>>);

impl<A> Reply<A> {
    /// Answers the caller. One who has left does not hear it.
    pub fn send(self, answer: Result<A>) {
        let _ = self.0.send(answer);
    }
}

/// Those who wait for one kind of work.
pub struct Queue<W: Work>(Arc<Lane<W>>);

impl<W: Work> Queue<W> {
    /// Takes those who have waited longest, at most `max`.
    pub fn take(&self, max: usize) -> Vec<Ticket<W>> {
        let mut lane = self.0.lock();
        let count = lane.waiting.len().min(max);
        lane.waiting.drain(..count).collect()
    }

    /// Puts callers back to the front, for the next round.
    pub fn put_back(&self, tickets: Vec<Ticket<W>>) {
        let mut lane = self.0.lock();
        for ticket in tickets.into_iter().rev() {
            lane.waiting.push_front(ticket);
        }
    }
}

struct Lane<W: Work>(Mutex<Waiting<W>>);

struct Waiting<W: Work> {
    waiting: VecDeque<Ticket<W>>,
    /// How many serve them, each with a round of its own.
    serving: usize,
}

impl<W: Work> Lane<W> {
    fn new() -> Self {
        Self(Mutex::new(Waiting { waiting: VecDeque::new(), serving: 0 }))
    }

    /// Joins the queue. True: there may be one more who serves it, and it counts already.
    fn join(&self, ticket: Ticket<W>) -> Result<bool> {
        let mut lane = self.lock();
        if lane.waiting.len() >= ticket.work.waiting_max() {
            return Err(Error::Unavailable("queue"));
        }
        lane.waiting.push_back(ticket);
        let is_welcome = lane.serving < W::ROUNDS_MAX;
        lane.serving += usize::from(is_welcome);
        Ok(is_welcome)
    }

    /// Ends one service when nobody waits.
    fn is_over(&self) -> bool {
        let mut lane = self.lock();
        let is_over = lane.waiting.is_empty();
        lane.serving -= usize::from(is_over);
        is_over
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<W>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve<W: Work>(lane: Arc<Lane<W>>, context: W::Context) {
    loop {
        let round = W::round(context.clone(), Queue(Arc::clone(&lane)));
        if AssertUnwindSafe(round).catch_unwind().await.is_err() {
            tracing::error!("A round of {} panicked", std::any::type_name::<W>());
            // Those who wait may be the reason; each hears of a fault.
            lane.lock().waiting.clear();
        }
        if lane.is_over() {
            return;
        }
    }
}

/// All queues of this process, by the kind of their work. Clones share them.
#[derive(Clone)]
pub struct Batches {
    lanes: Arc<Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>>,
    tasks: Tasks,
}

impl Batches {
    /// No queues yet. Rounds run as `tasks`, so that a shutdown waits for them.
    pub fn new(tasks: &Tasks) -> Self {
        Self { lanes: Arc::default(), tasks: tasks.clone() }
    }

    /// Does a piece of work together with others of its kind.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when too many wait, and what the round answers.
    pub async fn submit<W: Work>(&self, context: &W::Context, work: W) -> Result<W::Answer> {
        let lane = self.lane::<W>();
        let (answer, answered) = oneshot::channel();
        if lane.join(Ticket { work, answer })? {
            self.tasks.spawn(serve(lane, context.clone()));
        }
        answered.await.unwrap_or_else(|_| Err(Error::broken("a round ended without an answer")))
    }

    /// Writes something in one transaction with what others of its kind write.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when too many wait, and what the write answers.
    pub async fn commit<C: Commit>(&self, context: &C::Context, write: C) -> Result<C::Answer> {
        self.submit(context, Writing(write)).await
    }

    /// Reads one thing together with whoever else asks for such things. None: it is not there.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when too many wait, and what the read answers.
    pub async fn find<L: Lookup>(&self, context: &L::Context, key: L::Key) -> Result<Found<L>> {
        self.submit(context, Reading::<L>(key)).await
    }

    fn lane<W: Work>(&self) -> Arc<Lane<W>> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = lanes
            .entry(TypeId::of::<W>())
            .or_insert_with(|| Arc::new(Lane::<W>::new()) as Arc<dyn Any + Send + Sync>);
        // It was put there under its own type.
        Arc::clone(lane).downcast::<Lane<W>>().unwrap_or_else(|_| Arc::new(Lane::new()))
    }
}

/// A read by key that many callers make at once.
pub trait Lookup: Sized + Send + 'static {
    /// What it reads with: the program's `App`.
    type Context: Clone + Send + Sync + 'static;
    /// What is asked for.
    type Key: Clone + Eq + Hash + Send + Sync + 'static;
    /// What is found.
    type Value: Clone + Send + Sync + 'static;

    /// Reads all keys at once; they are distinct, and those without a value are left out.
    fn read(
        context: &Self::Context,
        keys: Vec<Self::Key>,
    ) -> impl Future<Output = Result<HashMap<Self::Key, Self::Value>>> + Send;
}

/// What a [`Lookup`] found.
pub type Found<L> = Option<<L as Lookup>::Value>;

struct Reading<L: Lookup>(L::Key);

impl<L: Lookup> Work for Reading<L> {
    type Context = L::Context;
    type Answer = Found<L>;

    fn waiting_max(&self) -> usize {
        READERS_WAITING_MAX
    }

    async fn round(context: Self::Context, queue: Queue<Self>) {
        let mut tickets = queue.take(READERS_WAITING_MAX);
        let mut keys: HashSet<L::Key> = HashSet::new();
        let mut count = 0;
        while let Some(ticket) = tickets.get(count).filter(|_| keys.len() < KEYS_MAX) {
            keys.insert(ticket.work.0.clone());
            count += 1;
        }
        queue.put_back(tickets.split_off(count));
        match L::read(&context, keys.into_iter().collect()).await {
            Ok(found) => {
                for ticket in tickets {
                    let value = found.get(&ticket.work.0).cloned();
                    ticket.answer(Ok(value));
                }
            }
            Err(error) => {
                for ticket in tickets {
                    ticket.answer(Err(error.repeat()));
                }
            }
        }
    }
}

/// A write that shares its transaction with others of its kind.
pub trait Commit: Sized + Send + Sync + 'static {
    /// What it is done with: the program's `App`.
    type Context: Clone + Send + Sync + 'static;
    /// What the caller gets.
    type Answer: Send + 'static;
    /// Writes of different parts have nothing to do with each other.
    type Part: Ord + Send;
    /// Rounds that are under way at the same time at most.
    const ROUNDS_MAX: usize = 1;

    /// Callers that it waits behind at most; beyond it is refused as unavailable.
    fn waiting_max(&self) -> usize;

    /// The part that it belongs to.
    fn part(&self) -> Self::Part;

    /// Begins a transaction. Callers who come meanwhile go along.
    fn begin(context: &Self::Context) -> impl Future<Output = Result<Txn>> + Send;

    /// Does all of them, commits, and answers them in their order.
    fn write(
        context: &Self::Context,
        txn: Txn,
        writes: &[Self],
    ) -> impl Future<Output = Result<Vec<Self::Answer>>> + Send;
}

struct Writing<C: Commit>(C);

/// Writes, and the ways to answer them.
type Pending<C> = (Vec<C>, Vec<Reply<<C as Commit>::Answer>>);

impl<C: Commit> Work for Writing<C> {
    type Context = C::Context;
    type Answer = C::Answer;
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
        let Some((pending, error)) = attempt(&context, txn, pending).await else { return };
        if pending.0.len() < 2 {
            return refuse(pending, &error);
        }
        tracing::warn!(%error, "A shared transaction failed and is done in parts: {error}");
        let is_away = AtomicBool::new(false);
        let parts = by_part(pending).into_values();
        join_all(parts.map(|part| in_parts(&context, part, &is_away))).await;
    }
}

/// Does the writes of one part by themselves, and one by one when that fails too.
async fn in_parts<C: Commit>(context: &C::Context, part: Pending<C>, is_away: &AtomicBool) {
    let Some((txn, pending)) = begin_again(context, part, is_away).await else { return };
    let Some((pending, error)) = attempt(context, txn, pending).await else { return };
    if pending.0.len() < 2 || matches!(error, Error::Unavailable(_)) {
        return refuse(pending, &error);
    }
    for (write, reply) in pending.0.into_iter().zip(pending.1) {
        let alone = (vec![write], vec![reply]);
        let Some((txn, alone)) = begin_again(context, alone, is_away).await else { continue };
        if let Some((alone, error)) = attempt(context, txn, alone).await {
            refuse(alone, &error);
        }
    }
}

/// Begins once more. When the database is away the first to notice tells the others, so that they
/// do not wait for it one after the other.
async fn begin_again<C: Commit>(
    context: &C::Context,
    pending: Pending<C>,
    is_away: &AtomicBool,
) -> Option<(Txn, Pending<C>)> {
    let begun = if is_away.load(Ordering::Relaxed) {
        Err(Error::Unavailable("database"))
    } else {
        C::begin(context).await
    };
    match begun {
        Ok(txn) => Some((txn, pending)),
        Err(error) => {
            is_away.store(true, Ordering::Relaxed);
            refuse(pending, &error);
            None
        }
    }
}

/// Does the writes and answers them, or gives them back with the reason.
async fn attempt<C: Commit>(
    context: &C::Context,
    txn: Txn,
    (writes, replies): Pending<C>,
) -> Option<(Pending<C>, Error)> {
    match C::write(context, txn, &writes).await {
        Ok(answers) => {
            for (reply, answer) in replies.into_iter().zip(answers) {
                reply.send(Ok(answer));
            }
            None
        }
        Err(error) => Some(((writes, replies), error)),
    }
}

fn by_part<C: Commit>((writes, replies): Pending<C>) -> BTreeMap<C::Part, Pending<C>> {
    let mut parts: BTreeMap<C::Part, Pending<C>> = BTreeMap::new();
    for (write, reply) in writes.into_iter().zip(replies) {
        let part = parts.entry(write.part()).or_default();
        part.0.push(write);
        part.1.push(reply);
    }
    parts
}

fn refuse<C: Commit>((_, replies): Pending<C>, error: &Error) {
    for reply in replies {
        reply.send(Err(error.repeat()));
    }
}
