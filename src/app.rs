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
use crate::external::mail::{InvalidMailSettings, MailFolder, Mailer};
use crate::external::models::{ChatModel, SandboxModel};
use crate::external::oauth::Providers;
use crate::external::stripe::{Payments, SandboxPayments};
use crate::ids::new_uuid;
use crate::journal::Journal;
use crate::meter::Meter;
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
    /// What callers took of their limits.
    pub meter: Meter,
    /// Sealing and indexes.
    pub crypto: Crypto,
    /// Access tokens.
    pub tokens: Arc<Tokens>,
    /// Background work.
    pub tasks: Tasks,
    /// Queues of work that is done together.
    pub batches: Batches,
    /// Lines of the audit record that wait to be written.
    pub journal: Journal,
    /// The models' provider.
    pub models: Arc<dyn ChatModel>,
    /// Who takes our mail.
    pub mailer: Arc<dyn Mailer>,
    /// Who takes money.
    pub payments: Arc<dyn Payments>,
    /// Who else tells who people are.
    pub oauth: Arc<Providers>,
    /// This process, in leases and events.
    pub node: Uuid,
}

/// The third parties that use cases ask.
#[derive(Clone)]
pub struct External {
    /// The models' provider.
    pub models: Arc<dyn ChatModel>,
    /// Who takes our mail.
    pub mailer: Arc<dyn Mailer>,
    /// Who takes money.
    pub payments: Arc<dyn Payments>,
    /// Who else tells who people are.
    pub oauth: Arc<Providers>,
}

impl External {
    /// Nobody is asked: models without a provider, mails as files, payments that nobody makes,
    /// nobody else to sign in with.
    pub fn sandbox(config: &Config) -> Result<Self, InvalidMailSettings> {
        let folder = config.data_folder().join("mail");
        let mailer = MailFolder::new(folder, &config.email.from, &config.public_url)?;
        Ok(Self {
            models: Arc::new(SandboxModel::default()),
            mailer: Arc::new(mailer),
            payments: Arc::new(SandboxPayments::default()),
            oauth: Arc::new(Providers::none()),
        })
    }
}

impl App {
    /// Connects everything. Each of `external` is the real one or the sandbox.
    pub async fn start(config: Config, clock: Clock, external: External) -> Result<Self> {
        let node = new_uuid();
        let tasks = Tasks::default();
        let batches = Batches::new(&tasks);
        let crypto = Crypto::new(&config.encryption_keys, &config.index_key)?;
        let tokens = Arc::new(Tokens::new(&config.token_issuer, &config.jwt_keys)?);
        let events = Events::start(&config, node, &tasks);
        let meter = Meter::start(&config, &clock, &tasks);
        let db = Db::connect(&config.database, Arc::new(events.clone())).await?;
        let config = Arc::new(config);
        let External { models, mailer, payments, oauth } = external;
        Ok(Self(Arc::new(Parts {
            config,
            clock,
            db,
            events,
            meter,
            crypto,
            tokens,
            tasks,
            batches,
            journal: Journal::default(),
            models,
            mailer,
            payments,
            oauth,
            node,
        })))
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
