//! What every use case needs, and nothing that belongs to a domain. Cloned into every request.

use std::ops::Deref;
use std::sync::Arc;

use uuid::Uuid;

use crate::batch::Batches;
use crate::clock::Clock;
use crate::config::Config;
use crate::crypto::Crypto;
use crate::db::Db;
use crate::error::Result;
use crate::events::Events;
use crate::external::models::ChatModel;
use crate::ids::new_uuid;
use crate::tasks::Tasks;
use crate::tokens::Tokens;

/// The program. A clone is one pointer, as every request and every socket holds some.
#[derive(Clone)]
pub struct App(Arc<Parts>);

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// The program's parts. Clones share them.
#[derive(Clone)]
pub struct Parts {
    /// The settings.
    pub config: Arc<Config>,
    /// The time.
    pub clock: Clock,
    /// The database.
    pub db: Db,
    /// Live events.
    pub events: Events,
    /// Sealing and indexes.
    pub crypto: Crypto,
    /// Access tokens.
    pub tokens: Arc<Tokens>,
    /// Background work.
    pub tasks: Tasks,
    /// Queues of work that is done together.
    pub batches: Batches,
    /// The models' provider.
    pub models: Arc<dyn ChatModel>,
    /// This process, in leases and events.
    pub node: Uuid,
}

impl App {
    /// Connects everything. `models` is the real provider or the sandbox.
    pub async fn start(config: Config, clock: Clock, models: Arc<dyn ChatModel>) -> Result<Self> {
        let node = new_uuid();
        let tasks = Tasks::default();
        let batches = Batches::new(&tasks);
        let crypto = Crypto::new(&config.encryption_keys, &config.index_key)?;
        let tokens = Arc::new(Tokens::new(&config.token_issuer, &config.jwt_keys)?);
        let events = Events::start(&config, node, &tasks);
        let db = Db::connect(&config.database, Arc::new(events.clone())).await?;
        let config = Arc::new(config);
        let parts =
            Parts { config, clock, db, events, crypto, tokens, tasks, batches, models, node };
        Ok(Self(Arc::new(parts)))
    }

    /// The same program at another time. Its queues are its own.
    pub fn at(&self, clock: Clock) -> Self {
        let batches = Batches::new(&self.tasks);
        Self(Arc::new(Parts { clock, batches, ..Parts::clone(self) }))
    }
}

impl From<&App> for crate::queue::Parts {
    fn from(app: &App) -> Self {
        Self {
            db: app.db.clone(),
            clock: app.clock.clone(),
            crypto: app.crypto.clone(),
            events: app.events.clone(),
            tasks: app.tasks.clone(),
            node: app.node,
        }
    }
}
