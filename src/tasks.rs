//! Work that outlives a request: tracked, cancellable by id, drained at shutdown.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// All background work of this process. Clones share it.
#[derive(Clone, Default)]
pub struct Tasks(Arc<Inner>);

#[derive(Default)]
struct Inner {
    tracker: TaskTracker,
    stopping: CancellationToken,
    running: Mutex<HashMap<Uuid, Running>>,
}

/// A piece of work that runs here under an id.
#[derive(Clone)]
pub struct Running {
    /// Asks the work to end early.
    pub cancel: CancellationToken,
    finished: watch::Receiver<bool>,
}

impl Running {
    /// Waits until the work is over.
    pub async fn finished(&mut self) {
        // An error means that the worker is gone, which is over too.
        let _ = self.finished.wait_for(|finished| *finished).await;
    }
}

/// Held by the work itself; dropping it, also by a panic, takes the work off the register.
pub struct Registration {
    tasks: Tasks,
    id: Uuid,
    cancel: CancellationToken,
    finished: watch::Sender<bool>,
}

impl Registration {
    /// Completes when somebody asks the work to end early.
    pub async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.tasks.lock().remove(&self.id);
        self.finished.send_replace(true);
    }
}

impl Tasks {
    /// Runs work that shutdown waits for.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
    pub fn spawn<F>(&self, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.tracker.spawn(work);
    }

    /// Puts work on the register under its id.
    pub fn register(&self, id: Uuid) -> Registration {
        let (finished, receiver) = watch::channel(false);
        let cancel = CancellationToken::new();
        let running = Running { cancel: cancel.clone(), finished: receiver };
        self.lock().insert(id, running);
        Registration { tasks: self.clone(), id, cancel, finished }
    }

    /// The work that runs here under this id.
    pub fn running(&self, id: Uuid) -> Option<Running> {
        self.lock().get(&id).cloned()
    }

    /// How many pieces of work are on the register.
    pub fn count_running(&self) -> usize {
        self.lock().len()
    }

    /// Completes when shutdown begins. Loops stop on it; work under an id finishes first.
    pub fn stopping(&self) -> CancellationToken {
        self.0.stopping.clone()
    }

    /// Begins the shutdown and waits for all work, at most `patience`. Says whether all ended.
    pub async fn drain(&self, patience: Duration) -> bool {
        self.0.stopping.cancel();
        self.0.tracker.close();
        tokio::time::timeout(patience, self.0.tracker.wait()).await.is_ok()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Running>> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
