//! Redis as a wire between nodes: one pub/sub channel. Callers never wait for it; whoever listens
//! is told when the wire was down, because what was said meanwhile is gone.

use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisResult};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::Secret;
use crate::error::{Error, Result};

/// How long a command may take.
const COMMAND_PATIENCE: Duration = Duration::from_millis(100);
/// How long connecting, subscribing or a keep-alive may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);
/// How long the speaker does not try again after a failure.
const BREAK: Duration = Duration::from_secs(1);
/// Messages in one round trip at most.
const BATCH_MAX: usize = 128;
/// A silent wire is tested after this long: a dead peer does not always say goodbye.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// The pause before listening again, at first and at most.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// What a listener hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// The wire is up, for the first time or again. Earlier messages may be missing.
    Connected,
    /// A message of some node, ours included.
    Message(&'a [u8]),
}

/// A pub/sub channel of a Redis server.
pub struct Channel {
    client: Client,
    name: String,
    is_connected: AtomicBool,
}

impl Channel {
    /// A channel by its name. Connects later; only a malformed address is an error here.
    pub fn new(url: &Secret, name: String) -> Result<Self> {
        let client = Client::open(url.0.as_str()).map_err(Error::broken)?;
        Ok(Self { client, name, is_connected: AtomicBool::new(false) })
    }

    /// Whether the listener has a connection right now.
    pub fn is_connected(&self) -> bool {
        self.is_connected.load(Ordering::Relaxed)
    }

    /// Says what comes out of `queue`, until shutdown has begun and the queue is empty. While Redis
    /// does not answer, messages are dropped.
    pub async fn speak(&self, mut queue: mpsc::Receiver<Vec<u8>>, stopping: CancellationToken) {
        let mut connection = None;
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let mut broken_until = None;
        let mut is_failing = false;
        while receive(&mut queue, &mut batch, &stopping).await {
            let messages = std::mem::take(&mut batch);
            if broken_until.is_some_and(|until| Instant::now() < until) {
                continue;
            }
            match self.say(&mut connection, &messages).await {
                Ok(()) => {
                    if is_failing {
                        info!("Redis takes messages again");
                    }
                    is_failing = false;
                }
                Err(error) => {
                    if !is_failing {
                        warn!(%error, "Redis takes no messages, they are dropped: {error}");
                    }
                    is_failing = true;
                    connection = None;
                    broken_until = Some(Instant::now() + BREAK);
                }
            }
        }
    }

    /// Tells `hear` of every message and of every new connection, until shutdown begins.
    pub async fn listen(&self, stopping: CancellationToken, mut hear: impl FnMut(Heard<'_>)) {
        let mut pause = PAUSE_MIN;
        let mut is_failing = false;
        loop {
            let began = Instant::now();
            let outcome = tokio::select! {
                biased;
                () = stopping.cancelled() => return,
                outcome = self.listen_once(&mut hear) => outcome,
            };
            let was_connected = self.is_connected.swap(false, Ordering::Relaxed);
            let Err(error) = outcome;
            if was_connected || !is_failing {
                warn!(%error, "Redis is away, events stay on their nodes: {error}");
            }
            is_failing = true;
            if was_connected && began.elapsed() > PAUSE_MAX {
                pause = PAUSE_MIN;
            }
            tokio::select! {
                biased;
                () = stopping.cancelled() => return,
                () = sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)) => {}
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn listen_once(&self, hear: &mut impl FnMut(Heard<'_>)) -> RedisResult<Infallible> {
        let mut pubsub = within(CONNECT_PATIENCE, self.client.get_async_pubsub()).await?;
        within(CONNECT_PATIENCE, pubsub.subscribe(&self.name)).await?;
        self.is_connected.store(true, Ordering::Relaxed);
        info!("Connected to Redis, events reach all nodes");
        hear(Heard::Connected);
        let (mut sink, mut messages) = pubsub.split();
        loop {
            match timeout(SILENCE_MAX, messages.next()).await {
                Ok(Some(message)) => hear(Heard::Message(message.get_payload_bytes())),
                Ok(None) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Err(_) => {
                    within(CONNECT_PATIENCE, sink.ping::<redis::Value>()).await?;
                }
            }
        }
    }

    async fn say(
        &self,
        connection: &mut Option<MultiplexedConnection>,
        messages: &[Vec<u8>],
    ) -> RedisResult<()> {
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(self.connect().await?),
        };
        let mut pipe = redis::pipe();
        for message in messages {
            pipe.cmd("PUBLISH").arg(&self.name).arg(message.as_slice()).ignore();
        }
        within(COMMAND_PATIENCE, pipe.query_async(connection)).await
    }

    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_PATIENCE))
            .set_response_timeout(Some(COMMAND_PATIENCE));
        let connecting = self.client.get_multiplexed_async_connection_with_config(&config);
        within(CONNECT_PATIENCE, connecting).await
    }
}

/// Fills `batch`; false when shutdown has begun and nothing is left.
async fn receive(
    queue: &mut mpsc::Receiver<Vec<u8>>,
    batch: &mut Vec<Vec<u8>>,
    stopping: &CancellationToken,
) -> bool {
    tokio::select! {
        // The queue first, so that what was said before the shutdown still goes out.
        biased;
        count = queue.recv_many(batch, BATCH_MAX) => count > 0,
        () = stopping.cancelled() => false,
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
