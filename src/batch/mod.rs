//! Work done for many callers at once: group commit, and reads that callers share.
//!
//! Callers stand in one queue for each kind of work. One of them being served, the others gather;
//! the next round takes all of them, as many as there are, so that nothing waits on purpose and
//! the price of a round (a commit, a round trip) is shared by all who are in it. A round always
//! starts after the callers in it have asked, so that what it reads is never older than the ask.

mod commit;

use std::any::{Any, TypeId};
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::tasks::Tasks;
pub use commit::Commit;
use commit::Writing;

/// Callers of one read that wait at most; more are refused.
const READERS_WAITING_MAX: usize = 20_000;
/// Keys that one read takes at most.
const KEYS_MAX: usize = 500;

/// A piece of work that is better done together with others of its kind.
pub trait Work: Sized + Send + 'static {
    /// What it is done with: the program's `App`.
    type Context: Clone + Send + Sync + 'static;
    /// What the caller gets.
    type Answer: Send + 'static;
    /// What the rounds of this kind share.
    type Shared: Default + Send + Sync + 'static;
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

/// Those who wait for one kind of work. Clones are the same queue.
pub struct Queue<W: Work>(Arc<Lane<W>>);

impl<W: Work> Clone for Queue<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<W: Work> Queue<W> {
    /// Takes those who have waited longest, at most `max`.
    pub fn take(&self, max: usize) -> Vec<Ticket<W>> {
        let mut lane = self.0.lock();
        lane.taken += 1;
        let count = lane.waiting.len().min(max);
        lane.waiting.drain(..count).collect()
    }

    /// What the rounds share.
    pub fn shared(&self) -> &W::Shared {
        &self.0.shared
    }

    /// Goes on beside the rounds; a shutdown waits for it.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.0.tasks.spawn(work);
    }

    /// Puts callers back to the front, for the next round.
    pub fn put_back(&self, tickets: Vec<Ticket<W>>) {
        let mut lane = self.0.lock();
        for ticket in tickets.into_iter().rev() {
            lane.waiting.push_front(ticket);
        }
    }
}

struct Lane<W: Work> {
    waiting: Mutex<Waiting<W>>,
    shared: W::Shared,
    tasks: Tasks,
}

struct Waiting<W: Work> {
    waiting: VecDeque<Ticket<W>>,
    /// How often rounds took some of them.
    taken: u64,
    /// How many serve them, each with a round of its own.
    serving: usize,
}

impl<W: Work> Lane<W> {
    fn new(tasks: Tasks) -> Self {
        let waiting = Waiting { waiting: VecDeque::new(), taken: 0, serving: 0 };
        Self { waiting: Mutex::new(waiting), shared: W::Shared::default(), tasks }
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
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve<W: Work>(lane: Arc<Lane<W>>, context: W::Context) {
    loop {
        let taken = lane.lock().taken;
        let round = W::round(context.clone(), Queue(Arc::clone(&lane)));
        if AssertUnwindSafe(round).catch_unwind().await.is_err() {
            tracing::error!("A round of {} panicked", std::any::type_name::<W>());
            // Those whom it took hear of a fault. When it took nobody, the next would do no better.
            let mut waiting = lane.lock();
            if waiting.taken == taken {
                waiting.waiting.clear();
            }
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
        let lane = lanes.entry(TypeId::of::<W>()).or_insert_with(|| {
            Arc::new(Lane::<W>::new(self.tasks.clone())) as Arc<dyn Any + Send + Sync>
        });
        // It was put there under its own type.
        Arc::clone(lane)
            .downcast::<Lane<W>>()
            .unwrap_or_else(|_| Arc::new(Lane::new(self.tasks.clone())))
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
    type Shared = ();

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
