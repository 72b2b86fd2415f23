//! One connection from its first byte to its last.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::response::Response;
use axum::{BoxError, Router};
use bytes::Bytes;
use http::{StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::http::Limits;
use crate::http::client::Peer;
use crate::http::server::Place;
use crate::http::server::activity::{Activity, Busy};
use crate::http::server::stream::Guarded;

/// One connection; as a service it hands its requests to the router.
#[derive(Clone)]
pub(super) struct Connection {
    router: Router,
    activity: Arc<Activity>,
    place: Place,
    peer: Option<Peer>,
}

/// How far the end of a connection is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// It goes on.
    No,
    /// It was idle for too long: what still hangs on it gets a last moment.
    Idle,
    /// The server stops: it waits for what runs.
    Drain,
}

impl Connection {
    pub(super) fn new(router: Router, place: Place) -> Self {
        Self { router, activity: Arc::new(Activity::new()), place, peer: None }
    }

    pub(super) async fn run(
        mut self,
        stream: TcpStream,
        builder: Arc<Builder<TokioExecutor>>,
        limits: Limits,
        closing: CancellationToken,
        aborting: CancellationToken,
    ) {
        let activity = Arc::clone(&self.activity);
        self.peer = stream.peer_addr().ok().map(|peer| Peer(peer.ip()));
        let stream = Guarded::new(stream, Arc::clone(&activity), &limits);
        let service = TowerToHyperService::new(self);
        let mut connection =
            pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
        let mut check_at = Instant::now() + limits.header_timeout;
        let mut ending = Ending::No;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(error, "A connection ended early: {error}");
                    }
                    return;
                }
                () = aborting.cancelled() => return,
                () = closing.cancelled(), if ending != Ending::Drain => {
                    ending = Ending::Drain;
                    connection.as_mut().graceful_shutdown();
                }
                () = sleep_until(check_at), if ending != Ending::Drain => {
                    let idle = activity.idle();
                    // A connection that sent no request at all has not even a protocol yet.
                    if !activity.has_begun() || (ending == Ending::Idle && idle > Duration::ZERO) {
                        return;
                    }
                    let mut left = limits.idle_timeout.saturating_sub(idle);
                    if left == Duration::ZERO {
                        ending = Ending::Idle;
                        left = limits.write_timeout;
                        connection.as_mut().graceful_shutdown();
                    }
                    check_at = Instant::now() + left;
                }
            }
        }
    }
}

impl<B> Service<http::Request<B>> for Connection
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Arc::clone(&self.place));
        if let Some(peer) = self.peer {
            request.extensions_mut().insert(peer);
        }
        let activity = Arc::clone(&self.activity);
        let busy = Busy::begin(&activity);
        if request.version() == Version::HTTP_2 {
            activity.set_framed();
        }
        let answer = self.router.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let is_upgraded =
                |answer: &Response| answer.status() == StatusCode::SWITCHING_PROTOCOLS;
            if answer.as_ref().is_ok_and(is_upgraded) {
                activity.set_framed();
            }
            drop(busy);
            answer
        })
    }
}
