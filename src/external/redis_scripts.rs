//! Redis as a shared counter: scripts that run as one step, over one connection. Callers wait for
//! a moment only, and go on without it when it does not answer.

use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use aws_lc_rs::digest;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisResult, ServerErrorKind};
use tokio::time::timeout;

use crate::config::Secret;
use crate::error::{Error, Result};

/// How long connecting may take, and a step that nobody waits for.
const UNHURRIED: Duration = Duration::from_secs(1);

/// A script, sent by its digest once the server has it.
pub struct Script {
    text: &'static str,
    digest: OnceLock<String>,
}

impl Script {
    /// A script by its text.
    pub const fn new(text: &'static str) -> Self {
        Self { text, digest: OnceLock::new() }
    }

    /// What the server knows it by.
    fn digest(&self) -> &str {
        self.digest.get_or_init(|| {
            let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, self.text.as_bytes());
            hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
        })
    }
}

/// What a script is run with.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// Keys.
    pub keys: Vec<String>,
    /// Arguments.
    pub arguments: Vec<String>,
}

impl Call {
    /// Adds an argument.
    pub fn push(&mut self, argument: impl ToString) {
        self.arguments.push(argument.to_string());
    }
}

/// A Redis server.
pub struct Server(Client);

impl Server {
    /// A server by its address. Connects later; only a malformed address is an error here.
    pub fn new(url: &Secret) -> Result<Self> {
        Ok(Self(Client::open(url.0.as_str()).map_err(Error::broken)?))
    }

    /// Connects, and asks which run of the server this is.
    pub async fn connect(&self) -> Result<Session> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(UNHURRIED))
            .set_response_timeout(Some(UNHURRIED));
        let connecting = self.0.get_multiplexed_async_connection_with_config(&config);
        let mut connection = within(UNHURRIED, connecting).await?;
        let mut question = redis::cmd("INFO");
        question.arg("server");
        let told: String = match within(UNHURRIED, question.query_async(&mut connection)).await {
            Ok(told) => told,
            // Not everybody may ask this; then all runs look like one.
            Err(error) if matches!(error.kind(), ErrorKind::Server(_)) => String::new(),
            Err(error) => return Err(error.into()),
        };
        let run = told.lines().find_map(|line| line.strip_prefix("run_id:"));
        let run = run.unwrap_or_default().trim().chars().take(8).collect();
        Ok(Session { connection, run })
    }
}

/// A connection that many share.
#[derive(Clone)]
pub struct Session {
    connection: MultiplexedConnection,
    run: String,
}

impl Session {
    /// Names the server's run: another one may have lost what it was told.
    pub fn run_id(&self) -> &str {
        &self.run
    }

    /// Runs a script; answers its numbers.
    pub async fn run(&self, script: &Script, call: &Call, patience: Duration) -> Result<Vec<i64>> {
        let mut connection = self.connection.clone();
        let by_digest = command("EVALSHA", script.digest(), call);
        match within(patience, by_digest.query_async(&mut connection)).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                let whole = command("EVAL", script.text, call);
                Ok(within(patience, whole.query_async(&mut connection)).await?)
            }
            answer => Ok(answer?),
        }
    }

    /// Runs a script for each of these, in one round trip. Their answers do not matter.
    pub async fn run_all(&self, script: &Script, calls: &[Call]) -> Result<()> {
        let mut connection = self.connection.clone();
        let mut pipe = redis::pipe();
        for call in calls {
            pipe.add_command(command("EVAL", script.text, call)).ignore();
        }
        Ok(within(UNHURRIED, pipe.query_async(&mut connection)).await?)
    }
}

fn command(name: &str, script: &str, call: &Call) -> redis::Cmd {
    let mut command = redis::cmd(name);
    command.arg(script).arg(call.keys.len()).arg(&call.keys).arg(&call.arguments);
    command
}

impl From<redis::RedisError> for Error {
    fn from(error: redis::RedisError) -> Self {
        Self::broken(error)
    }
}

async fn within<T>(
    patience: Duration,
    work: impl Future<Output = RedisResult<T>>,
) -> RedisResult<T> {
    match timeout(patience, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}
