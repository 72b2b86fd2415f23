//! Who has sockets open here: a session or an API key that ends takes its sockets with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::actor::{Actor, Credential};
use crate::app::App;
use crate::events::{Event, Signal, Topic};

/// The sessions and API keys with sockets on this node.
#[derive(Default)]
pub(super) struct Presence(Mutex<HashMap<Uuid, Present>>);

struct Present {
    ended: CancellationToken,
    sockets: usize,
}

/// A socket of a session or an API key; leaves when dropped.
pub(super) struct Attendance {
    presence: Arc<Presence>,
    id: Uuid,
    ended: CancellationToken,
}

impl Presence {
    /// Notes a socket. None: a bare token, which ends by its time alone.
    pub(super) fn attend(self: &Arc<Self>, actor: &Actor) -> Option<Attendance> {
        let id = match &actor.credential {
            Credential::Token => return None,
            Credential::Session(id) => id.0,
            Credential::Key(key) => key.id.0,
        };
        let mut present = self.lock();
        let entry = present
            .entry(id)
            .or_insert_with(|| Present { ended: CancellationToken::new(), sockets: 0 });
        entry.sockets += 1;
        let ended = entry.ended.clone();
        drop(present);
        Some(Attendance { presence: Arc::clone(self), id, ended })
    }

    /// Listens for ends until shutdown. One that is missed is found by the socket's next look.
    pub(super) async fn listen(&self, app: &App) {
        let mut ends = app.events.subscribe(Topic::Access);
        while let Some(signal) = ends.next().await {
            let Signal::Event(event) = signal else { continue };
            if let Event::AccessEnded(id) = event.as_ref()
                && let Some(present) = self.lock().get(id)
            {
                present.ended.cancel();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Present>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attendance {
    /// Completes when the session or the key has ended.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        let mut present = self.presence.lock();
        if let Some(entry) = present.get_mut(&self.id) {
            entry.sockets -= 1;
            if entry.sockets == 0 {
                present.remove(&self.id);
            }
        }
    }
}
