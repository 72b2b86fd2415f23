//! Which documents a caller may run: any, or registered ones only.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_graphql::ServerError;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt;
use quick_cache::sync::Cache;
use tokio::task::unconstrained;

use crate::actor::{Actor, Permission};
use crate::app::App;
use crate::documents;
use crate::error::{Error, Lang};
use crate::events::{Signal, Subscription, Topic};
use crate::graphql::engine::Call;
use crate::http::Shared;
use crate::http::reply;

/// Registered documents that are kept in memory at most.
const KNOWN_MAX: usize = 2_000;

/// Ids without a document that are kept in memory at most, each for so long. A registration that
/// this node hears of ends them all.
const UNKNOWN_MAX: usize = 2_000;
const UNKNOWN_LIFETIME: TimeDelta = TimeDelta::seconds(10);

/// Documents that were asked for lately, by their ids: those registered, and those that nobody
/// knew, so that a page that repeats one does not read the database each time.
pub(super) struct Documents {
    known: Cache<String, Arc<str>>,
    unknown: Mutex<Unknown>,
}

/// Ids that nobody had registered.
struct Unknown {
    asked: Cache<String, DateTime<Utc>>,
    registrations: Subscription,
    /// How many registrations this node has heard of.
    heard: u64,
}

/// Where a call comes from, as far as documents matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// A page in a browser.
    Browser,
    /// A program.
    Program,
}

/// Why a document does not run.
#[derive(Debug)]
pub(super) enum Denied {
    /// Nobody registered a document with this id.
    Unknown,
    /// Browsers run registered documents only.
    Unregistered,
    /// It could not be looked up.
    Fault(Error),
}

impl Documents {
    /// None yet.
    pub(super) fn new(app: &App) -> Self {
        let registrations = app.events.subscribe(Topic::Documents);
        let unknown = Unknown { asked: Cache::new(UNKNOWN_MAX), registrations, heard: 0 };
        Self { known: Cache::new(KNOWN_MAX), unknown: Mutex::new(unknown) }
    }

    /// Fills in the text of a document that was named by its id, and judges the text of one that
    /// came whole.
    pub(super) async fn admit(
        &self,
        shared: &Shared,
        call: &mut Call,
        (actor, sender): (Option<&Actor>, Sender),
    ) -> Result<(), Denied> {
        if let Some(id) = call.document_id.take().filter(|_| call.query.is_empty()) {
            let text = self.find(shared, id).await?.ok_or(Denied::Unknown)?;
            text.as_ref().clone_into(&mut call.query);
            return Ok(());
        }
        let is_free = actor.is_some_and(|it| it.key().is_some() || it.may(Permission::Platform));
        if is_free || sender == Sender::Program || !shared.app().config.is_production() {
            return Ok(());
        }
        let found = self.find(shared, documents::id_of(&call.query)).await?;
        found.map(|_| ()).ok_or(Denied::Unregistered)
    }

    async fn find(&self, shared: &Shared, id: String) -> Result<Option<Arc<str>>, Denied> {
        let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_id {
            return Ok(None);
        }
        if let Some(text) = self.known.get(&id) {
            return Ok(Some(text));
        }
        let app = shared.app();
        let heard = match self.unknown().look(&id, app.clock.db_now()) {
            Look::Unknown => return Ok(None),
            Look::Ask { heard } => heard,
        };
        let found = documents::find(app, &id).await.map_err(Denied::Fault)?;
        let Some(text) = found.map(Arc::<str>::from) else {
            self.unknown().note(id, heard, app.clock.db_now());
            return Ok(None);
        };
        self.known.insert(id, Arc::clone(&text));
        Ok(Some(text))
    }

    fn unknown(&self) -> MutexGuard<'_, Unknown> {
        self.unknown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of an id that is not known to be registered.
enum Look {
    /// Nobody had registered it a moment ago.
    Unknown,
    /// The database has to be asked.
    Ask {
        /// The registrations that were heard of before.
        heard: u64,
    },
}

impl Unknown {
    fn look(&mut self, id: &str, now: DateTime<Utc>) -> Look {
        self.hear();
        let is_fresh = |asked: DateTime<Utc>| now - asked < UNKNOWN_LIFETIME;
        if self.asked.get(id).is_some_and(is_fresh) {
            return Look::Unknown;
        }
        Look::Ask { heard: self.heard }
    }

    /// Remembers that the database knew nothing, unless there was a registration since.
    fn note(&mut self, id: String, heard: u64, now: DateTime<Utc>) {
        self.hear();
        if self.heard == heard {
            self.asked.insert(id, now);
        }
    }

    /// Forgets all when something was registered. What was announced is here already: nobody waits.
    fn hear(&mut self) {
        let next = |told: &mut Subscription| unconstrained(told.next()).now_or_never().flatten();
        while let Some(Signal::Event(_) | Signal::Resync) = next(&mut self.registrations) {
            self.heard += 1;
            self.asked.clear();
        }
    }
}

impl Denied {
    /// The error that the client reads. The first code is the one that clients with persisted
    /// queries know.
    pub(super) fn error(&self, lang: Lang, request_id: &str) -> ServerError {
        match self {
            Self::Unknown => {
                let message = "No document with this id is registered.";
                reply::graphql_error("PERSISTED_QUERY_NOT_FOUND", message, request_id)
            }
            Self::Unregistered => {
                let message = "Pages may run registered documents only.";
                reply::graphql_error("DOCUMENT_NOT_REGISTERED", message, request_id)
            }
            Self::Fault(error) => reply::our_error(error, lang, request_id),
        }
    }
}
