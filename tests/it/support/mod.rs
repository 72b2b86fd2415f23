//! The harness: a program of its own for each test, on a database of its own.

pub(crate) mod authority;
pub(crate) mod database;
pub(crate) mod doubles;
pub(crate) mod log;
pub(crate) mod model_server;
pub(crate) mod npm;
pub(crate) mod outbox;
pub(crate) mod people;
pub(crate) mod process;
pub(crate) mod redis_server;
pub(crate) mod server;
pub(crate) mod stripe;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, TimeDelta, Utc};
use musubi::app::{App, External};
use musubi::clock::Clock;
use musubi::config::{
    Config, DbSettings, EmailSettings, Environment, Issuer, LimitSettings, OauthSettings, Secret,
    StripeSettings,
};
use musubi::crypto::Key;
use musubi::external::mail::Mailer;
use musubi::external::models::{ChatModel, SandboxModel};
use musubi::external::oauth::Providers;
use musubi::external::openai::{OpenAiModel, OpenAiSettings, Timeouts};
use musubi::external::stripe::{Payments, SandboxPayments, StripeClient};
use musubi::graphql::engine::Engine;
use musubi::graphql::guard::Limits;
use musubi::queue;

use database::TestDatabase;
use model_server::ModelServer;
use outbox::Outbox;
pub(crate) use server::TestServer;
use stripe::StripeServer;

/// The time at which every test begins: noon in Tokyo on a Saturday.
pub(crate) fn beginning() -> DateTime<Utc> {
    "2026-11-21T03:00:00Z".parse().unwrap()
}

/// A program with a database of its own and a clock that stands still until it is moved.
pub(crate) struct TestApp {
    pub(crate) app: App,
    pub(crate) clock: Clock,
    pub(crate) engine: Engine,
    /// What was sent, unless the setting named another mailer.
    pub(crate) outbox: Arc<Outbox>,
    database: TestDatabase,
}

/// What a test wants other than usual.
#[derive(Default)]
pub(crate) struct Setting {
    models: Option<Arc<dyn ChatModel>>,
    mailer: Option<Arc<dyn Mailer>>,
    payments: Option<Arc<dyn Payments>>,
    stripe: StripeSettings,
    oauth: Option<Providers>,
    clock: Option<Clock>,
    redis_url: Option<String>,
    lease: Option<Duration>,
    environment: Option<Environment>,
    allowed_origins: Vec<String>,
    limits: bool,
    no_redis: bool,
    no_receipts: bool,
    patience: Option<Duration>,
}

impl Setting {
    /// Models are asked over HTTP, with patience that suits a test.
    pub(crate) fn model_server(self, server: &ModelServer) -> Self {
        let timeouts = Timeouts {
            connect: Duration::from_secs(2),
            first_token: Duration::from_secs(2),
            idle: Duration::from_secs(2),
            total: Duration::from_secs(20),
        };
        self.model_server_with(server, timeouts)
    }

    pub(crate) fn model_server_with(self, server: &ModelServer, timeouts: Timeouts) -> Self {
        let settings = OpenAiSettings {
            base_url: server.base_url(),
            api_key: "test-key".to_owned(),
            timeouts,
        };
        let models: Arc<dyn ChatModel> = Arc::new(OpenAiModel::new(settings).unwrap());
        Self { models: Some(models), ..self }
    }

    pub(crate) fn mailer(self, mailer: impl Mailer) -> Self {
        Self { mailer: Some(Arc::new(mailer)), ..self }
    }

    /// People may sign in with these.
    pub(crate) fn oauth(self, providers: Providers) -> Self {
        Self { oauth: Some(providers), ..self }
    }

    /// Stripe is asked over HTTP.
    pub(crate) fn stripe(self, server: &StripeServer) -> Self {
        self.stripe_within(server, None)
    }

    /// The same, with so much time for an attempt.
    pub(crate) fn stripe_within(self, server: &StripeServer, attempt: Option<Duration>) -> Self {
        let client = StripeClient::new(server.options(attempt)).unwrap();
        let payments: Arc<dyn Payments> = Arc::new(client);
        Self { payments: Some(payments), stripe: server.settings(), ..self }
    }

    /// The time goes by as it does outside.
    pub(crate) fn real_time(self) -> Self {
        Self { clock: Some(Clock::system()), ..self }
    }

    pub(crate) fn redis(self, url: impl Into<String>) -> Self {
        Self { redis_url: Some(url.into()), ..self }
    }

    pub(crate) fn lease(self, lease: Duration) -> Self {
        Self { lease: Some(lease), ..self }
    }

    /// An origin that the operator trusts.
    pub(crate) fn allowed_origin(mut self, origin: &str) -> Self {
        self.allowed_origins.push(origin.to_owned());
        self
    }

    /// Callers are limited.
    pub(crate) fn limited(self) -> Self {
        Self { limits: true, ..self }
    }

    /// How long Redis is waited for; long when absent, as a busy machine is slow to answer.
    pub(crate) fn patience(self, patience: Duration) -> Self {
        Self { patience: Some(patience), ..self }
    }

    /// Without Redis, also in the run that has one.
    pub(crate) fn alone(self) -> Self {
        Self { no_redis: true, ..self }
    }

    /// Nobody issues receipts.
    pub(crate) fn no_receipts(self) -> Self {
        Self { no_receipts: true, ..self }
    }

    /// As real customers are served.
    pub(crate) fn production(self) -> Self {
        Self { environment: Some(Environment::Production), ..self }
    }

    pub(crate) async fn start(self) -> TestApp {
        let database = TestDatabase::create().await;
        let clock = self.clock.unwrap_or_else(|| Clock::fixed(beginning()));
        let mut config = config(database.url());
        config.redis_url = self.redis_url.or_else(database::redis_url).map(Secret);
        config.redis_url = config.redis_url.filter(|_| !self.no_redis);
        config.limits.is_on = self.limits;
        config.limits.redis_patience = self.patience.unwrap_or(config.limits.redis_patience);
        config.stripe = self.stripe;
        config.receipts = config.receipts.filter(|_| !self.no_receipts);
        config.allowed_origins = self.allowed_origins;
        config.environment = self.environment.unwrap_or(config.environment);
        config.hold_lease = self.lease.unwrap_or(config.hold_lease);
        let sandbox = SandboxModel { pause: Duration::ZERO, ..SandboxModel::default() };
        let models = self.models.unwrap_or_else(|| Arc::new(sandbox));
        let outbox = Arc::new(Outbox::default());
        let mailer = self.mailer.unwrap_or_else(|| Arc::clone(&outbox) as Arc<dyn Mailer>);
        let oauth = Arc::new(self.oauth.unwrap_or_else(Providers::none));
        let payments =
            self.payments.unwrap_or_else(|| Arc::new(SandboxPayments::at(clock.clone())));
        let external = External { models, mailer, payments, oauth };
        let app = App::start(config, clock.clone(), external).await.unwrap();
        let engine = Engine::new(Limits::default()).unwrap();
        TestApp { app, clock, engine, outbox, database }
    }
}

impl TestApp {
    /// The usual: fixed clock, sandbox model that answers at once.
    pub(crate) async fn start() -> Self {
        Setting::default().start().await
    }

    /// Another node on the same database (and Redis), with the same time.
    pub(crate) async fn replica(&self) -> App {
        self.replica_ahead(TimeDelta::zero()).await
    }

    /// Another node whose own clock is ahead by so much.
    pub(crate) async fn replica_ahead(&self, ahead: TimeDelta) -> App {
        let config = self.app.config.as_ref().clone();
        App::start(config, self.clock.skewed(ahead), self.external()).await.unwrap()
    }

    /// The third parties of the program, for another node.
    pub(crate) fn external(&self) -> External {
        External {
            models: Arc::clone(&self.app.models),
            mailer: Arc::clone(&self.app.mailer),
            payments: Arc::clone(&self.app.payments),
            oauth: Arc::clone(&self.app.oauth),
        }
    }

    /// Tries the mails that are due; answers how many that were.
    pub(crate) async fn send_mails(&self) -> usize {
        let parts = queue::Parts::from(&self.app);
        queue::work_once(&parts, &self.app, &[musubi::mail::HANDLER]).await.unwrap()
    }

    /// The drifts that `musubi verify` would name.
    pub(crate) async fn drifts(&self) -> Vec<String> {
        musubi::audit::flush(&self.app).await.unwrap();
        musubi::audit::seal::seal_all(&self.app).await.unwrap();
        let drifts = musubi::verify::verify(&self.app).await.unwrap();
        drifts.iter().map(ToString::to_string).collect()
    }
}

/// Settings of a test: keys that are no secret.
pub(crate) fn config(database_url: String) -> Config {
    let key = |kid: &str, byte: u8| Key { kid: kid.to_owned(), secret: [byte; 32] };
    // Tests share a Redis, and most of them an address: each counts by itself.
    let index_key = digest(&SHA256, database_url.as_bytes()).as_ref().try_into().unwrap();
    let limits = LimitSettings { is_on: false, redis_patience: Duration::from_secs(5) };
    Config {
        environment: Environment::Development,
        host: std::net::Ipv4Addr::LOCALHOST.into(),
        port: 0,
        public_url: "http://localhost:3200".to_owned(),
        token_issuer: "http://localhost:3200".to_owned(),
        database: DbSettings {
            url: database_url,
            read_url: None,
            connections_max: 8,
            acquire_timeout: Duration::from_secs(3),
            idle_timeout: Duration::from_secs(60),
        },
        redis_url: None,
        jwt_keys: vec![key("jwt1", 1)],
        encryption_keys: vec![key("enc1", 2)],
        index_key,
        openai_api_key: None,
        openai_base_url: "http://127.0.0.1:9/v1".to_owned(),
        email: EmailSettings::default(),
        receipts: Some(Issuer::sample()),
        oauth: OauthSettings::default(),
        limits,
        stripe: StripeSettings::default(),
        hold_lease: Duration::from_secs(120),
        allowed_origins: Vec::new(),
        trusted_proxies: Vec::new(),
        log_json: false,
        log_filter: "warn".to_owned(),
    }
}
