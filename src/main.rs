//! The program: subcommands, and nothing else.

use std::process::ExitCode;
use std::sync::Arc;

use chrono::TimeDelta;
use clap::{Parser, Subcommand};
use futures_util::FutureExt;
use migration::{Migrator, MigratorTrait};
use serde_json::json;
use tokio::net::TcpListener;

use musubi::app::{App, External};
use musubi::clock::Clock;
use musubi::config::Config;
use musubi::external::mail::{self, SmtpMailer};
use musubi::external::models::count_tokens;
use musubi::external::oauth::{self, Providers};
use musubi::external::openai::{OpenAiModel, OpenAiSettings, Timeouts};
use musubi::external::stripe::{StripeClient, StripeOptions};
use musubi::graphql::engine::Engine;
use musubi::graphql::{guard, schema};
use musubi::http::{self, Prefill, Probe, Setup};
use musubi::{audit, compliance, demo, documents, identity, jobs, verify};

/// Bytes of a thread's stack, of which only what is used takes memory. Without optimisation the
/// schema's own steps take over 1 MiB, of 2 that a thread has by default.
const STACK: usize = 8 * 1024 * 1024;

/// Many small allocations on many threads, freed on others, is what the system's allocator is bad
/// at; and this one gives memory back when a crowd of sockets has left.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Musubi: prepaid AI credits, CRM, projects, content and commerce as one GraphQL backend.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the API (the default). In development: migrates, and fills an empty database.
    Serve,
    /// Apply the migrations that are missing.
    Migrate,
    /// Print the GraphQL schema.
    Schema,
    /// Print an access token for an existing user as the last line.
    Token {
        /// The user's e-mail address.
        #[arg(long)]
        email: String,
        /// The slug of the tenant to act in; the user's own when they have one.
        #[arg(long)]
        tenant: Option<String>,
        /// How long the token is good for, 1 to 168 hours.
        #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(i64).range(1..=168))]
        hours: i64,
    },
    /// Fill an empty database with two tenants and a year of history.
    Demo,
    /// Run a job now.
    Job {
        /// Its name.
        name: String,
    },
    /// Registered documents: what pages may run in production.
    Documents {
        #[command(subcommand)]
        command: Documents,
    },
    /// Prove that ledger, balances, grants and holds agree; fails and names what does not.
    Verify,
}

#[derive(Subcommand)]
enum Documents {
    /// Register every `*.graphql` file of a folder, and the values of every `*.json` object in it
    /// (a manifest of persisted documents).
    Register {
        /// The folder.
        folder: std::path::PathBuf,
    },
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome {
    let command = Cli::parse().command.unwrap_or(Command::Serve);
    if matches!(command, Command::Schema) {
        return say(schema::sdl().trim_end());
    }
    // One provider for every TLS connection of the process.
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.install_default().map_err(|_| "a TLS provider is installed already")?;
    let config = Config::from_env()?;
    start_log(&config);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().thread_stack_size(STACK).build()?;
    runtime.block_on(async { Box::pin(dispatch(command, config)).await })
}

async fn dispatch(command: Command, config: Config) -> Outcome {
    let external = external(&config)?;
    let app = App::start(config, Clock::system(), external).await?;
    if let Err(error) = app.db.measure_clock(&app.clock).await {
        tracing::warn!(%error, "The database's clock could not be read: {error}");
    }
    prepare_database(&app, &command).await?;
    match command {
        Command::Serve => Box::pin(serve(app)).await,
        Command::Schema => Ok(()),
        Command::Migrate => say("The database is up to date."),
        Command::Demo => match Box::pin(demo::fill(&app)).await? {
            true => say("The demo data is in place."),
            false => say("The database has tenants already; nothing was done."),
        },
        Command::Token { email, tenant, hours } => token(&app, &email, tenant, hours).await,
        Command::Job { name } => say(&jobs::run_now(&app, jobs::JOBS, &name).await?),
        Command::Documents { command: Documents::Register { folder } } => {
            register(&app, &folder).await
        }
        Command::Verify => {
            let drifts = verify::verify(&app).await?;
            for drift in &drifts {
                say(&drift.to_string())?;
            }
            match drifts.len() {
                0 => say("Everything adds up."),
                count => Err(format!("{count} rows do not add up").into()),
            }
        }
    }
}

/// In development a newcomer's database is made and kept up to date; in production only `migrate`
/// changes it, and everything else says so when it is not.
async fn prepare_database(app: &App, command: &Command) -> Outcome {
    let makes = matches!(command, Command::Serve | Command::Demo) && !app.config.is_production();
    let lacks = !Migrator::get_pending_migrations(app.db.writer()).await?.is_empty();
    if lacks && (makes || matches!(command, Command::Migrate)) {
        Migrator::up(app.db.writer(), None).await?;
        audit::seal::adopt(app).await?;
    } else if lacks {
        return Err("the database lacks migrations: run `musubi migrate` first".into());
    }
    Ok(())
}

/// The third parties that the settings name; the sandbox stands in for the others.
fn external(config: &Config) -> Result<External, Box<dyn std::error::Error + Send + Sync>> {
    let mut external = External::sandbox(config)?;
    if let Some(key) = &config.openai_api_key {
        external.models = Arc::new(OpenAiModel::new(OpenAiSettings {
            base_url: config.openai_base_url.clone(),
            api_key: key.0.clone(),
            timeouts: Timeouts::default(),
        })?);
    }
    if let Some(server) = &config.email.server {
        let (from, host) = (&config.email.from, &config.public_url);
        let server = (server, config.email.ca.as_deref());
        let mailer = SmtpMailer::new(server, from, host, mail::PATIENCE)?;
        external.mailer = Arc::new(mailer);
    }
    if let Some(key) = &config.stripe.secret_key {
        let options = StripeOptions::new(key.clone(), config.stripe.api_base.clone());
        external.payments = Arc::new(StripeClient::new(options)?);
    }
    external.oauth = Arc::new(Providers::new(&config.oauth, oauth::PATIENCE)?);
    Ok(external)
}

async fn serve(app: App) -> Outcome {
    let is_development = !app.config.is_production();
    // The vocabulary is read before the first customer has to wait for it.
    count_tokens("");
    let listener = TcpListener::bind((app.config.host, app.config.port))
        .await
        .map_err(|error| format!("port {} cannot be listened on: {error}", app.config.port))?;
    let address = listener.local_addr()?;
    if is_development {
        match demo::state(&app).await? {
            demo::State::Empty => {
                say("Filling the empty database with a year of demo data …")?;
                Box::pin(demo::fill(&app)).await?;
            }
            demo::State::Interrupted => {
                say("The demo data is not complete, as its filling was interrupted: start on an \
                 empty database for all of it.")?
            }
            demo::State::Filled => {}
        }
    }
    let engine = Engine::new(guard::Limits::default())?;
    compliance::note_keys(&app).await?;
    jobs::start(&app);
    let setup = Setup {
        probes: probes(&app),
        limits: http::Limits::default(),
        graphiql: is_development.then_some(prefill as http::Prefiller),
        engine,
        app: app.clone(),
    };
    if is_development {
        say(&format!(
            "\n  GraphiQL  http://localhost:{port}/graphiql  (signed in as admin@tsubaki.test)\n  \
             Somebody else's token: cargo run -- token --email user@tsubaki.test\n  \
             People: admin@ manager@ support@ user@ at tsubaki.test and studio.test, {root}\n",
            port = address.port(),
            root = demo::ROOT,
        ))?;
    }
    tracing::info!(%address, "Listening on {address}");
    http::serve_until_signalled(setup, listener).await?;
    if let Err(error) = audit::flush(&app).await {
        tracing::error!(%error, "The last lines of the audit record are lost: {error}");
    }
    app.db.close().await;
    Ok(())
}

fn probes(app: &App) -> Vec<Probe> {
    let mut probes =
        vec![Probe::essential("database", |app| async move { app.db.ping().await }.boxed())];
    if app.config.redis_url.is_some() {
        probes.push(Probe::optional("redis", |app| {
            async move {
                let is_up = app.events.is_connected().unwrap_or(false);
                if is_up { Ok(()) } else { Err(musubi::error::Error::Unavailable("redis")) }
            }
            .boxed()
        }));
    }
    probes.push(Probe::optional("models", |_| async { Ok(()) }.boxed()));
    probes
}

/// Fills GraphiQL with the demo admin's token and the newcomer's path. Development only.
fn prefill(app: App) -> futures_util::future::BoxFuture<'static, Prefill> {
    async move {
        let bearer = demo_token(&app).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "GraphiQL has no token: {error}");
            None
        });
        Prefill {
            bearer,
            tabs: json!([
                { "query": include_str!("http/graphiql/tabs/dashboard.graphql") },
                { "query": include_str!("http/graphiql/tabs/balance.graphql") },
                { "query": include_str!("http/graphiql/tabs/execute.graphql") },
            ]),
        }
    }
    .boxed()
}

async fn demo_token(app: &App) -> musubi::error::Result<Option<String>> {
    let user = identity::find_by_email(app, "admin@tsubaki.test").await?;
    let tenant = identity::tenant_by_slug(app, "tsubaki").await?;
    match (user, tenant) {
        (Some(user), Some(tenant)) => {
            let hours = TimeDelta::hours(12);
            Ok(Some(identity::issue_token(app, user.id, Some(tenant.id), hours).await?))
        }
        (_, _) => Ok(None),
    }
}

async fn token(app: &App, email: &str, tenant: Option<String>, hours: i64) -> Outcome {
    let user = identity::find_by_email(app, email).await?;
    let user = user.ok_or_else(|| format!("there is no user {email}"))?;
    let tenant = match tenant {
        Some(slug) => {
            let found = identity::tenant_by_slug(app, &slug).await?;
            Some(found.ok_or_else(|| format!("there is no tenant {slug}"))?.id)
        }
        None => identity::only_tenant_of(app, user.id).await?,
    };
    let token = identity::issue_token(app, user.id, tenant, TimeDelta::hours(hours)).await?;
    say(&token)
}

/// Registers the documents of a folder; none when one of them is wrong.
async fn register(app: &App, folder: &std::path::Path) -> Outcome {
    let engine = Engine::new(guard::Limits::default())?;
    let mut texts = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        match path.extension().and_then(|kind| kind.to_str()) {
            Some("graphql") => texts.push((path.clone(), std::fs::read_to_string(&path)?)),
            Some("json") => {
                let manifest: std::collections::BTreeMap<String, String> =
                    serde_json::from_str(&std::fs::read_to_string(&path)?)?;
                texts.extend(manifest.into_values().map(|text| (path.clone(), text)));
            }
            Some(_) | None => {}
        }
    }
    for (path, text) in &texts {
        if let Some(fault) = engine.fault_of(text) {
            return Err(format!("{}: {fault}", path.display()).into());
        }
    }
    let documents: Vec<String> = texts.into_iter().map(|(_, text)| text).collect();
    let added = documents::register(app, &documents).await?;
    say(&format!("{} documents, {added} of them new.", documents.len()))
}

fn start_log(config: &Config) {
    // async-openai logs bodies when it cannot read them.
    let directives = format!("{},async_openai=off", config.log_filter);
    let filter = tracing_subscriber::EnvFilter::new(directives);
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if config.log_json { log.json().init() } else { log.init() }
}

/// Prints a line for the person at the terminal.
fn say(text: &str) -> Outcome {
    use std::io::Write;
    Ok(writeln!(std::io::stdout(), "{text}")?)
}
