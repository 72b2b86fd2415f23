//! What a connection does, for the clocks that end it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So many bytes written at once are an answer on its way; HTTP/2's own pings are shorter.
const ANSWER_BYTES: usize = 512;

/// What a connection does.
pub(super) struct Activity {
    has_begun: AtomicBool,
    running: AtomicUsize,
    last: Mutex<Instant>,
    /// Some bytes of a request's head came, and not yet all.
    is_within_head: AtomicBool,
    /// The bytes between requests are no heads: the connection speaks HTTP/2 or WebSocket.
    is_framed: AtomicBool,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            has_begun: AtomicBool::new(false),
            running: AtomicUsize::new(0),
            last: Mutex::new(Instant::now()),
            is_within_head: AtomicBool::new(false),
            is_framed: AtomicBool::new(false),
        }
    }

    /// Whether any request came.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }

    /// How long no request has been running and no answer on its way.
    pub(super) fn idle(&self) -> Duration {
        if self.running.load(Ordering::Relaxed) > 0 {
            return Duration::ZERO;
        }
        self.last.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// From now on, bytes between requests are no heads.
    pub(super) fn set_framed(&self) {
        self.is_framed.store(true, Ordering::Relaxed);
        self.is_within_head.store(false, Ordering::Relaxed);
    }

    /// Bytes came. Outside a request they begin a head, as HTTP/1 reads on only when it has
    /// answered; the next request ends it.
    pub(super) fn note_read(&self) {
        let is_between_requests =
            self.running.load(Ordering::Relaxed) == 0 && !self.is_framed.load(Ordering::Relaxed);
        if is_between_requests {
            self.is_within_head.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the rest of a head is awaited.
    pub(super) fn is_within_head(&self) -> bool {
        self.is_within_head.load(Ordering::Relaxed)
    }

    /// The peer took so many bytes.
    pub(super) fn note_written(&self, bytes: usize) {
        if bytes >= ANSWER_BYTES {
            self.touch();
        }
    }

    fn touch(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// A running request; dropped, it is over, also when the client went away.
pub(super) struct Busy(Arc<Activity>);

impl Busy {
    pub(super) fn begin(activity: &Arc<Activity>) -> Self {
        activity.has_begun.store(true, Ordering::Relaxed);
        activity.is_within_head.store(false, Ordering::Relaxed);
        activity.running.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.touch();
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}
