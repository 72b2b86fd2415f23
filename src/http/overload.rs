//! How much may run here at once. What is too much is refused at once and nothing queues: who is
//! told to come back in two seconds is served better than who waits for thirty.
//!
//! Queries and mutations have bounds of their own, so that a flood of reading keeps nobody from
//! paying. Health has none. Subscriptions are bounded by their sockets.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::graphql::engine::{Call, OperationKind};
use crate::http::Limits;
use crate::ids::UserId;

/// The log says so seldom that something was refused.
const LOG_PAUSE: Duration = Duration::from_secs(10);
/// Callers that were refused come back after so many seconds at least and at most, and so not all
/// at once.
const RETRY_SECONDS: std::ops::RangeInclusive<u32> = 1..=3;

/// What runs here, against its bounds.
pub(super) struct Room {
    queries: Arc<Semaphore>,
    mutations: Arc<Semaphore>,
    sockets: Arc<Semaphore>,
    callers: Arc<Callers>,
    logged: Mutex<Option<Instant>>,
}

/// There is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full {
    /// When to try again.
    pub(super) retry_after_seconds: u32,
}

/// The place of what runs; dropped, it is free. A subscription takes none.
pub(super) type Place = Option<OwnedSemaphorePermit>;

impl Room {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            queries: Arc::new(Semaphore::new(limits.queries_max)),
            mutations: Arc::new(Semaphore::new(limits.mutations_max)),
            sockets: Arc::new(Semaphore::new(limits.sockets_max)),
            callers: Arc::new(Callers {
                sockets_max: limits.sockets_per_user_max,
                sockets: Mutex::default(),
            }),
            logged: Mutex::new(None),
        }
    }

    /// A place for a call that cannot be a mutation, before anything was spent on it; none when
    /// only the parsed document will tell.
    pub(super) fn for_reading(&self, call: &Call) -> Result<Place, Full> {
        if call.query.contains("mutation") {
            return Ok(None);
        }
        self.for_operation(OperationKind::Query)
    }

    /// A place for an operation.
    pub(super) fn for_operation(&self, kind: OperationKind) -> Result<Place, Full> {
        match kind {
            OperationKind::Query => self.take(&self.queries, "queries").map(Some),
            OperationKind::Mutation => self.take(&self.mutations, "mutations").map(Some),
            OperationKind::Subscription => Ok(None),
        }
    }

    /// A place for a WebSocket.
    pub(super) fn for_socket(&self) -> Result<OwnedSemaphorePermit, Full> {
        self.take(&self.sockets, "WebSockets")
    }

    /// A place for one more WebSocket of somebody; `None` is everybody who did not sign in.
    pub(super) fn for_caller(&self, user: Option<UserId>) -> Result<CallerPlace, Full> {
        let mut sockets = self.callers.lock();
        let count = sockets.entry(user).or_default();
        if *count >= self.callers.sockets_max {
            return Err(self.full("WebSockets of one caller"));
        }
        *count += 1;
        Ok(CallerPlace { user, callers: Arc::clone(&self.callers) })
    }

    fn take(
        &self,
        places: &Arc<Semaphore>,
        what: &'static str,
    ) -> Result<OwnedSemaphorePermit, Full> {
        Arc::clone(places).try_acquire_owned().map_err(|_| self.full(what))
    }

    fn full(&self, what: &'static str) -> Full {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|at| at.elapsed() >= LOG_PAUSE) {
            *logged = Some(Instant::now());
            tracing::warn!(what, "Overload: too many {what}; some are refused");
        }
        Full { retry_after_seconds: fastrand::u32(RETRY_SECONDS) }
    }
}

/// WebSockets by whose they are.
struct Callers {
    sockets_max: usize,
    sockets: Mutex<HashMap<Option<UserId>, usize>>,
}

impl Callers {
    fn lock(&self) -> MutexGuard<'_, HashMap<Option<UserId>, usize>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket among those of its user; dropped, it is free.
pub(super) struct CallerPlace {
    user: Option<UserId>,
    callers: Arc<Callers>,
}

impl Drop for CallerPlace {
    fn drop(&mut self) {
        let mut sockets = self.callers.lock();
        if let Some(count) = sockets.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                sockets.remove(&self.user);
            }
        }
    }
}
