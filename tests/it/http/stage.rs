//! A schema of its own for what ours never does: resolvers that wait, panic, pour out events or
//! answer at length.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_graphql::{Context, Object, Schema, Subscription};
use futures_util::stream::{self, Stream, StreamExt};
use musubi::graphql::engine::Engine;
use musubi::graphql::guard;
use musubi::http::Limits;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use crate::support::TestServer;

/// What the resolvers do, seen from outside.
#[derive(Clone)]
pub(crate) struct Stage(Arc<Inner>);

struct Inner {
    gate: watch::Sender<bool>,
    begun: AtomicUsize,
    finished: AtomicUsize,
    left: AtomicUsize,
    poured: AtomicUsize,
}

/// Counts resolvers that ended in any way.
struct Entered(Stage);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.0.left.fetch_add(1, Ordering::SeqCst);
    }
}

impl Stage {
    pub(crate) async fn serve(limits: Limits) -> (TestServer, Self) {
        let stage = Self(Arc::new(Inner {
            gate: watch::Sender::new(false),
            begun: AtomicUsize::new(0),
            finished: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            poured: AtomicUsize::new(0),
        }));
        let schema = Schema::build(Query, Mutation, Events).data(stage.clone()).finish();
        let engine = Engine::over(schema, guard::Limits::default()).unwrap();
        (TestServer::start_over(engine, limits).await, stage)
    }

    /// Lets all that waits go on, from now on at once.
    pub(crate) fn open_gate(&self) {
        self.0.gate.send_replace(true);
    }

    /// Waits until so many resolvers have begun to wait.
    pub(crate) async fn see_begun(&self, count: usize) {
        until("resolvers begin", async || self.0.begun.load(Ordering::SeqCst) == count).await;
    }

    /// Waits until so many resolvers have ended, in any way.
    pub(crate) async fn see_left(&self, count: usize) {
        until("resolvers end", async || self.0.left.load(Ordering::SeqCst) == count).await;
    }

    /// How many resolvers came to their end.
    pub(crate) fn finished(&self) -> usize {
        self.0.finished.load(Ordering::SeqCst)
    }

    /// How many events hot streams have made.
    pub(crate) fn poured(&self) -> usize {
        self.0.poured.load(Ordering::SeqCst)
    }

    async fn wait(&self) -> bool {
        self.0.begun.fetch_add(1, Ordering::SeqCst);
        let _entered = Entered(self.clone());
        self.0.gate.subscribe().wait_for(|is_open| *is_open).await.unwrap();
        self.0.finished.fetch_add(1, Ordering::SeqCst);
        true
    }
}

/// Looks again and again until it is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(30);
    while !is_so().await {
        assert!(Instant::now() < give_up, "waited in vain: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Looks again and again until there is something.
pub(crate) async fn eventually<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < give_up, "waited in vain");
        sleep(Duration::from_millis(5)).await;
    }
}

fn stage<'a>(ctx: &Context<'a>) -> &'a Stage {
    ctx.data_unchecked::<Stage>()
}

struct Query;

#[Object]
impl Query {
    /// Waits for the gate.
    async fn waits(&self, ctx: &Context<'_>) -> Option<bool> {
        Some(stage(ctx).wait().await)
    }

    fn panics(&self) -> Option<bool> {
        panic!("a resolver's own fault")
    }

    /// So many letters.
    fn letters(&self, count: i32) -> Option<String> {
        Some("x".repeat(count as usize))
    }
}

struct Mutation;

#[Object]
impl Mutation {
    /// Waits for the gate.
    async fn waits(&self, ctx: &Context<'_>) -> Option<bool> {
        Some(stage(ctx).wait().await)
    }

    fn panics(&self) -> Option<bool> {
        panic!("a mutation's own fault")
    }
}

/// The library wants even the beginning of a stream to be asynchronous.
struct Events;

#[Subscription(name = "Subscription")]
impl Events {
    /// An event of so many letters whenever anybody looks.
    async fn pours(&self, ctx: &Context<'_>, count: i32) -> impl Stream<Item = String> + use<> {
        yield_now().await;
        let entered = Entered(stage(ctx).clone());
        let text = "x".repeat(count as usize);
        stream::repeat_with(move || {
            entered.0.0.poured.fetch_add(1, Ordering::SeqCst);
            text.clone()
        })
    }

    /// One event and then silence.
    async fn idles(&self, ctx: &Context<'_>) -> impl Stream<Item = bool> + use<> {
        yield_now().await;
        let entered = Entered(stage(ctx).clone());
        stream::iter([true]).chain(stream::pending()).map(move |event| {
            let _ = &entered;
            event
        })
    }

    /// One event and then a panic.
    async fn breaks(&self) -> impl Stream<Item = bool> + use<> {
        yield_now().await;
        stream::iter([true, false]).map(|event| {
            assert!(event, "a stream's own fault");
            event
        })
    }
}
