//! The real program as an operator runs it: a process with an environment, a folder and a database
//! of its own, killed when the test is over.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt, StreamExt};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::database::{TestDatabase, redis_url};
use super::model_server::ModelServer;
use super::{Setting, TestApp};

/// How long anything may take before the test gives up; never a measure of speed.
const PATIENCE: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks again and again until there is something to see.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < give_up, "waited in vain: {what}");
        sleep(LOOK_EVERY).await;
    }
}

/// Where processes live: their folder, environment and database.
pub(crate) struct Home {
    folder: TempDir,
    settings: BTreeMap<String, String>,
    launches: AtomicUsize,
    hotel: Option<Guests>,
    database: Option<TestDatabase>,
}

/// Tokens of the hotel's people, what they can buy, and what must not be found in clear.
pub(crate) struct Guests {
    /// The hotel's own id.
    pub(crate) tenant: String,
    pub(crate) admin: String,
    pub(crate) user: String,
    /// A platform admin.
    pub(crate) root: String,
    pub(crate) emails: Vec<String>,
    /// A package of 500 credits.
    pub(crate) package: String,
}

/// What a command said at its end.
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Home {
    /// An empty folder and nothing set: what a newcomer has.
    pub(crate) fn empty() -> Self {
        Self {
            folder: TempDir::new().unwrap(),
            settings: BTreeMap::new(),
            launches: AtomicUsize::new(0),
            hotel: None,
            database: None,
        }
        // A free port, and output without colours.
        .with("PORT", "0")
        .with("NO_COLOR", "1")
    }

    /// A migrated database with a hotel that bought credits, a lease of 2 s, and the sandbox.
    pub(crate) async fn hotel(credits: i64) -> Self {
        let seed = Setting::default().real_time().start().await;
        let hotel = seed.hotel().await.with_credits(credits).await;
        let mut emails = Vec::new();
        for person in [&hotel.admin, &hotel.manager, &hotel.support, &hotel.user] {
            let users = musubi::identity::users(&seed.app, &person.actor, &[person.id]).await;
            let user = users.unwrap().remove(0);
            emails.push(musubi::identity::email_of(&seed.app, &user).unwrap());
        }
        let guests = Guests {
            tenant: hotel.id.to_string(),
            admin: hotel.admin.token.clone(),
            user: hotel.user.token.clone(),
            root: seed.platform_admin(None).await.token,
            emails,
            package: crate::payments::package(&seed, json!({})).await,
        };
        // Nobody but the processes may hold the database open: they recover it alone.
        let TestApp { app, database, .. } = seed;
        let index_key = STANDARD.encode(app.config.index_key);
        app.tasks.drain(PATIENCE).await;
        app.db.close().await;
        let key = |byte: u8| STANDARD.encode([byte; 32]);
        let mut home = Self { hotel: Some(guests), ..Self::empty() }
            .with("DATABASE_URL", &database.url())
            .with("DATABASE_CONNECTIONS", "6")
            .with("PUBLIC_URL", "http://localhost:3200")
            .with("JWT_KEYS", &format!("jwt1:{}", key(1)))
            .with("ENCRYPTION_KEYS", &format!("enc1:{}", key(2)))
            .with("INDEX_KEY", &index_key)
            .with("MUSUBI_RATE_LIMITS", "off")
            .with("MUSUBI_HOLD_LEASE_SECONDS", "2");
        if let Some(url) = redis_url() {
            home = home.with("REDIS_URL", &url);
        }
        home.database = Some(database);
        home
    }

    /// Models are asked at the double.
    pub(crate) fn with_models(self, models: &ModelServer) -> Self {
        self.with("OPENAI_BASE_URL", &models.base_url()).with("OPENAI_API_KEY", "test-key")
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.settings.remove(name);
        self
    }

    pub(crate) fn setting(&self, name: &str) -> &str {
        &self.settings[name]
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn guests(&self) -> &Guests {
        self.hotel.as_ref().expect("a home with a hotel")
    }

    pub(crate) fn database_url(&self) -> &str {
        &self.settings["DATABASE_URL"]
    }

    /// Starts a process and does not wait for it.
    pub(crate) fn launch(&self, arguments: &[&str]) -> Process {
        let number = self.launches.fetch_add(1, Ordering::Relaxed);
        let logs = self.folder.path().join("logs");
        fs::create_dir_all(&logs).unwrap();
        let out = logs.join(format!("{number}.out"));
        let err = logs.join(format!("{number}.err"));
        let child = Command::new(env!("CARGO_BIN_EXE_musubi"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .envs(&self.settings)
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .spawn()
            .expect("the program starts");
        Process { child, out, err, address: String::new() }
    }

    /// Starts a server and waits until it is ready.
    pub(crate) async fn serve(&self) -> Process {
        let mut process = self.launch(&["serve"]);
        process.ready().await;
        process
    }

    /// Runs a command to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        let mut process = self.launch(arguments);
        let status = process.exit().await;
        Ran { status, out: process.said(), err: process.logged() }
    }

    /// Runs a command that must succeed; answers what it printed.
    pub(crate) async fn gets(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments).await;
        assert!(ran.status.success(), "{arguments:?}: {} {}", ran.out, ran.err);
        ran.out
    }

    /// `musubi verify` finds nothing.
    pub(crate) async fn adds_up(&self) {
        assert_eq!(self.gets(&["verify"]).await.trim(), "Everything adds up.");
    }

    /// All that all processes of this home ever printed.
    pub(crate) fn printed(&self) -> String {
        let logs = fs::read_dir(self.folder.path().join("logs")).unwrap();
        logs.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect()
    }

    /// A connection of the test's own.
    pub(crate) async fn connect(&self) -> Books {
        let mut options = sea_orm::ConnectOptions::new(self.database_url());
        options.max_connections(1).sqlx_logging(false);
        Books(Database::connect(options).await.unwrap())
    }
}

/// A look into the database from outside the program.
pub(crate) struct Books(DatabaseConnection);

impl Books {
    /// Whether it is PostgreSQL; SQLite otherwise.
    pub(crate) fn is_postgres(&self) -> bool {
        self.0.get_database_backend() == DbBackend::Postgres
    }

    /// A query's only number.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let statement = Statement::from_string(self.0.get_database_backend(), sql);
        let row = self.0.query_one_raw(statement).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        row.unwrap_or_else(|| panic!("{sql}: no row")).try_get_by_index(0).unwrap()
    }

    /// A query's only number, if the query can be answered yet.
    pub(crate) async fn try_number(&self, sql: &str) -> Option<i64> {
        let statement = Statement::from_string(self.0.get_database_backend(), sql);
        self.0.query_one_raw(statement).await.ok()??.try_get_by_index(0).ok()
    }

    pub(crate) async fn execute(&self, sql: &str) -> Result<u64, sea_orm::DbErr> {
        Ok(self.0.execute_unprepared(sql).await?.rows_affected())
    }

    /// Waits until no hold is active.
    pub(crate) async fn until_nothing_is_held(&self) {
        until("nothing is held", async || {
            let held =
                self.number("SELECT COUNT(*) FROM ai_credit_holds WHERE state = 'ACTIVE'").await;
            (held == 0).then_some(())
        })
        .await;
    }

    pub(crate) async fn close(self) {
        self.0.close().await.unwrap();
    }
}

/// A running program; killed when dropped.
pub(crate) struct Process {
    child: Child,
    out: PathBuf,
    err: PathBuf,
    address: String,
}

impl Process {
    /// Waits until it says where it listens and is ready there.
    pub(crate) async fn ready(&mut self) {
        self.address = until("the program listens", async || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the program ended with {status}: {} {}", self.said(), self.logged());
            }
            let logged = self.logged();
            let rest = logged.split_once("Listening on ")?.1.split_once(':')?.1;
            let port = rest.split_once(|c: char| !c.is_ascii_digit())?.0;
            Some(format!("127.0.0.1:{port}"))
        })
        .await;
        until("the program is ready", async || self.is_ready().await.then_some(())).await;
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The number of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What readiness says; a refused connection is not ready.
    pub(crate) async fn is_ready(&self) -> bool {
        self.fetch("/health/ready").await.is_some_and(|(status, _)| status == 200)
    }

    /// A GET: its status and body.
    pub(crate) async fn fetch(&self, path: &str) -> Option<(u16, String)> {
        let reply = http().get(format!("http://{}{path}", self.address)).send().await.ok()?;
        let status = reply.status().as_u16();
        Some((status, reply.text().await.ok()?))
    }

    pub(crate) fn client(&self, token: &str) -> Client {
        Client::new(&self.address, token)
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args(["-TERM", &id]).status().expect("kill runs");
        assert!(status.success(), "kill -TERM {id}");
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn exit(&mut self) -> ExitStatus {
        until("the program ends", async || self.child.try_wait().unwrap()).await
    }

    /// SIGTERM and an end in order.
    pub(crate) async fn stop(&mut self) {
        self.terminate();
        let status = self.exit().await;
        assert!(status.success(), "{status}: {}", self.logged());
    }

    /// Its standard output so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.out).unwrap()
    }

    /// Its standard error so far.
    pub(crate) fn logged(&self) -> String {
        fs::read_to_string(&self.err).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap()
}

/// A GraphQL client over HTTP.
#[derive(Clone)]
pub(crate) struct Client {
    url: String,
    token: String,
    http: reqwest::Client,
}

impl Client {
    pub(crate) fn new(address: &str, token: &str) -> Self {
        let url = format!("http://{address}/graphql");
        Self { url, token: token.to_owned(), http: http() }
    }

    /// The whole response, or what went wrong on the way.
    pub(crate) async fn tries(&self, query: &str, variables: Value) -> Result<Value, String> {
        let request = self
            .http
            .post(&self.url)
            .header("content-type", "application/json")
            .header("accept-language", "en")
            .header("authorization", format!("Bearer {}", self.token))
            .body(json!({ "query": query, "variables": variables }).to_string());
        let reply = request.send().await.map_err(|error| format!("{error:?}"))?;
        let text = reply.text().await.map_err(|error| format!("{error:?}"))?;
        serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))
    }

    /// The data; any error fails the test.
    pub(crate) async fn gets(&self, query: &str, variables: Value) -> Value {
        let reply = self.tries(query, variables).await.unwrap();
        assert!(reply["errors"].is_null(), "{query}: {reply}");
        reply["data"].clone()
    }

    /// Runs CHATBOT and waits for its end. Answers the execution.
    pub(crate) async fn executes(&self, input: &str, key: &str) -> Value {
        let data = self.gets(EXECUTE, execute_input(input, key)).await;
        let payload = &data["aiExecute"];
        assert_eq!(payload["userErrors"], json!([]), "{payload}");
        payload["execution"].clone()
    }

    /// Starts CHATBOT and does not wait. Answers the execution.
    pub(crate) async fn starts(&self, input: &str, key: &str) -> Value {
        let data = self.gets(START, execute_input(input, key)).await;
        let payload = &data["aiExecutionStart"];
        assert_eq!(payload["userErrors"], json!([]), "{payload}");
        payload["execution"].clone()
    }

    /// The execution of an id.
    pub(crate) async fn execution(&self, id: &Value) -> Value {
        let query = format!("query ($id: ID!) {{ aiExecution(id: $id) {{ {EXECUTION} }} }}");
        self.gets(&query, json!({ "id": id })).await["aiExecution"].clone()
    }

    /// All executions of a key.
    pub(crate) async fn executions_of(&self, key: &str) -> Vec<Value> {
        let query = format!(
            "query ($key: String!) {{ aiExecutions(where: {{ idempotencyKey: {{ eq: $key }} }})
             {{ nodes {{ {EXECUTION} }} }} }}"
        );
        let data = self.gets(&query, json!({ "key": key })).await;
        data["aiExecutions"]["nodes"].as_array().unwrap().clone()
    }

    /// Waits until an execution has ended.
    pub(crate) async fn until_ended(&self, id: &Value) -> Value {
        until("the execution ends", async || {
            let execution = self.execution(id).await;
            (execution["status"] != "RUNNING").then_some(execution)
        })
        .await
    }

    /// Current and held.
    pub(crate) async fn balance(&self) -> (i64, i64) {
        let data = self.gets("{ creditAccount { balance { current held } } }", json!({})).await;
        let balance = &data["creditAccount"]["balance"];
        (balance["current"].as_i64().unwrap(), balance["held"].as_i64().unwrap())
    }
}

/// What tests look at in an execution.
const EXECUTION: &str = "id status idempotencyKey provider result { output } \
                         failure { code retryable } charge { creditsUsed creditsHeld }";
pub(crate) const EXECUTE: &str = "mutation ($input: AiExecuteInput!) { aiExecute(input: $input) {
    execution { id status idempotencyKey provider result { output } failure { code retryable }
                charge { creditsUsed creditsHeld } }
    userErrors { code message } } }";
pub(crate) const START: &str = "mutation ($input: AiExecuteInput!) {
    aiExecutionStart(input: $input) { execution { id status } userErrors { code message } } }";

pub(crate) fn execute_input(input: &str, key: &str) -> Value {
    let parameters = json!({ "input": input, "maxTokens": 50 });
    json!({ "input":
        { "functionType": "CHATBOT", "parameters": parameters, "idempotencyKey": key } })
}

/// A subscriber over `graphql-transport-ws`.
pub(crate) struct Watcher(WebSocketStream<MaybeTlsStream<TcpStream>>);

/// What a subscriber sees.
#[derive(Debug, PartialEq)]
pub(crate) enum Seen {
    Data(Value),
    Complete,
    Closed(u16),
    Lost,
}

impl Watcher {
    /// Signs in and subscribes.
    pub(crate) async fn watch(
        process: &Process,
        token: &str,
        query: &str,
        variables: Value,
    ) -> Self {
        let url = format!("ws://{}/graphql", process.address());
        let mut request = url.into_client_request().unwrap();
        let protocol = "graphql-transport-ws".parse().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", protocol);
        let (socket, _) = connect_async(request).await.unwrap();
        let mut watcher = Self(socket);
        let bearer = json!({ "authorization": format!("Bearer {token}") });
        watcher.send(json!({ "type": "connection_init", "payload": bearer })).await;
        let ack = watcher.message().await;
        assert_eq!(ack, Ok(json!({ "type": "connection_ack" })));
        let payload = json!({ "query": query, "variables": variables });
        watcher.send(json!({ "type": "subscribe", "id": "1", "payload": payload })).await;
        watcher
    }

    pub(crate) async fn next(&mut self) -> Seen {
        loop {
            let message = match self.message().await {
                Ok(message) => message,
                Err(end) => return end,
            };
            match message["type"].as_str().unwrap() {
                "next" => return Seen::Data(message["payload"]["data"].clone()),
                "complete" => return Seen::Complete,
                "ping" => self.send(json!({ "type": "pong" })).await,
                "pong" => {}
                other => panic!("{other}: {message}"),
            }
        }
    }

    /// What comes before the socket's end, and how it ends.
    pub(crate) async fn closes(&mut self) -> Seen {
        loop {
            match self.next().await {
                Seen::Data(_) | Seen::Complete => {}
                end @ (Seen::Closed(_) | Seen::Lost) => return end,
            }
        }
    }

    async fn send(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn message(&mut self) -> Result<Value, Seen> {
        loop {
            let came = timeout(PATIENCE, self.0.next()).await;
            match came.expect("waited in vain for a message") {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Err(Seen::Closed(frame.code.into()));
                }
                _ => return Err(Seen::Lost),
            }
        }
    }
}
