//! Accepts connections, bounds them, and ends them in order. `axum::serve` has no time limit for
//! the head of a request and no bound on connections, hence a loop of our own.

mod activity;
mod connection;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::{Error, Result};
use crate::http::{Limits, Setup, Shared, router};
use connection::Connection;

/// The longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 100;
/// How long to wait after accepting failed, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A connection's place among all; a WebSocket keeps it after its handshake.
pub(super) type Place = Arc<OwnedSemaphorePermit>;

/// Serves until SIGTERM or SIGINT, then ends in order. A second signal ends the wait with an error,
/// after which the caller should exit at once.
pub async fn serve_until_signalled(setup: Setup, listener: TcpListener) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::broken)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::broken)?;
    let first = CancellationToken::new();
    let signals = async {
        either(&mut terminate, &mut interrupt).await;
        tracing::info!("A signal came: shutting down");
        first.cancel();
        either(&mut terminate, &mut interrupt).await;
    };
    tokio::select! {
        served = serve(setup, listener, first.cancelled()) => served,
        () = signals => Err(Error::broken("a second signal ended the shutdown")),
    }
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Serves until `shutdown` completes, then ends in order: readiness turns 503, no connection is
/// accepted, WebSockets close with 1012, requests end, background work ends.
pub async fn serve(
    setup: Setup,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let shared = Shared::new(setup);
    shared.follow().await;
    let connections = Connections::new(&shared);
    let notice = async {
        shutdown.await;
        shared.begin_draining();
        sleep(shared.limits().drain_notice).await;
    };
    tokio::select! {
        () = connections.accept(&listener) => {}
        () = notice => {}
    }
    drop(listener);
    let tasks = &shared.app().tasks;
    // WebSockets and loops stop on it now; `drain` would say so only after the requests.
    tasks.stopping().cancel();
    let patience = shared.limits().drain_patience;
    connections.close(patience).await;
    if !tasks.drain(patience).await {
        tracing::warn!("Background work did not end in time");
    }
    Ok(())
}

/// The connections that are open.
struct Connections {
    shared: Shared,
    router: Router,
    builder: Arc<Builder<TokioExecutor>>,
    places: Arc<Semaphore>,
    open: TaskTracker,
    closing: CancellationToken,
    aborting: CancellationToken,
}

impl Connections {
    fn new(shared: &Shared) -> Self {
        Self {
            shared: shared.clone(),
            router: router(shared),
            builder: Arc::new(builder(shared.limits())),
            places: Arc::new(Semaphore::new(shared.limits().connections_max)),
            open: TaskTracker::new(),
            closing: CancellationToken::new(),
            aborting: CancellationToken::new(),
        }
    }

    /// Accepts for ever. Beyond the bound, connections wait in the system's backlog.
    async fn accept(&self, listener: &TcpListener) {
        while let Ok(place) = Arc::clone(&self.places).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => self.begin(stream, Arc::new(place)),
                Err(error) => {
                    tracing::warn!(%error, "A connection was not accepted: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn begin(&self, stream: TcpStream, place: Place) {
        // Small answers must not wait for more; a socket that refuses it works too.
        let _ = stream.set_nodelay(true);
        let work = Connection::new(self.router.clone(), place).run(
            stream,
            Arc::clone(&self.builder),
            self.shared.limits().clone(),
            self.closing.clone(),
            self.aborting.clone(),
        );
        self.shared.app().tasks.spawn(self.open.track_future(work));
    }

    /// Ends connections after their running requests, or after `patience`.
    async fn close(&self, patience: Duration) {
        self.closing.cancel();
        self.open.close();
        if timeout(patience, self.open.wait()).await.is_err() {
            tracing::warn!("{} connections did not end in time", self.open.len());
            self.aborting.cancel();
        }
    }
}

fn builder(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // Ours begins with a head's first byte: see `stream`.
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(limits.ping_pause))
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32);
    builder
}
