//! The program behind a socket, in this process.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use musubi::app::App;
use musubi::graphql::engine::Engine;
use musubi::http::{self, Limits, Prefill, Prefiller, Probe, Setup};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::people::Hotel;
use super::{Setting, TestApp};

/// A server on a free port, with a hotel of 10 000 credits.
pub(crate) struct TestServer {
    pub(crate) app: TestApp,
    pub(crate) hotel: Hotel,
    url: String,
    shutdown: CancellationToken,
    served: tokio::task::JoinHandle<()>,
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Self::start_with(Setting::default().real_time(), Limits::default()).await
    }

    pub(crate) async fn start_with(setting: Setting, limits: Limits) -> Self {
        let app = setting.start().await;
        let engine = app.engine.clone();
        Self::serve(app, engine, limits).await
    }

    /// Serves another schema than ours.
    pub(crate) async fn start_over(engine: Engine, limits: Limits) -> Self {
        Self::serve(Setting::default().real_time().start().await, engine, limits).await
    }

    /// Serves a program.
    pub(crate) async fn serve(app: TestApp, engine: Engine, limits: Limits) -> Self {
        let hotel = app.hotel().await.with_credits(10_000).await;
        musubi::jobs::start(&app.app);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let is_development = !app.app.config.is_production();
        let setup = Setup {
            app: app.app.clone(),
            engine,
            limits,
            graphiql: is_development.then_some(fill_in as Prefiller),
            probes: vec![
                Probe::essential("database", |app| async move { app.db.ping().await }.boxed()),
                Probe::optional("models", |_| async { Ok(()) }.boxed()),
            ],
        };
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone().cancelled_owned();
        let served = tokio::spawn(async move { http::serve(setup, listener, stop).await.unwrap() });
        Self { app, hotel, url, shutdown, served }
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// A token for somebody of the hotel: `admin`, `manager`, `support` or `user`.
    pub(crate) fn token(&self, role: &str) -> String {
        let person = match role {
            "admin" => &self.hotel.admin,
            "manager" => &self.hotel.manager,
            "support" => &self.hotel.support,
            _ => &self.hotel.user,
        };
        person.token.clone()
    }

    /// Begins to stop, as on SIGTERM.
    pub(crate) fn begin_shut_down(&self) {
        self.shutdown.cancel();
    }

    /// Stops as on SIGTERM and waits for the end.
    pub(crate) async fn shut_down(self) {
        self.begin_shut_down();
        tokio::time::timeout(Duration::from_secs(60), self.served).await.unwrap().unwrap();
    }
}

fn fill_in(_: App) -> BoxFuture<'static, Prefill> {
    async { Prefill { bearer: Some("test-token".to_owned()), tabs: json!([]) } }.boxed()
}
