//! The database: a writer and readers, and transactions that publish on commit.
//!
//! On SQLite one connection writes (`BEGIN IMMEDIATE`, WAL, every commit synced) and several read;
//! on PostgreSQL both are one pool. Transactions stand in a fair queue before it. What a
//! transaction announces goes out after its commit; a dropped one rolls back and announces nothing.

use std::any::Any;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sea_orm::sea_query::ArrayType;
use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, DbBackend,
    EntityTrait, FromQueryResult, IdenStatic, Iterable, ModelTrait, SqliteTransactionMode,
    Statement, TransactionOptions, TransactionTrait, Value,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::{Clock, Pace, Sample};
use crate::config::DbSettings;
use crate::error::{Error, Result};
use crate::nodelay;

/// Those who wait for their turn to write at most; more are refused.
const WRITERS_WAITING_MAX: usize = 10_000;
/// How long a request waits for its turn to write.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the database's clock is read for one measurement; the sharpest reading counts.
const CLOCK_SAMPLES: usize = 3;
/// So far a machine's clock that steps forward is followed gently, where one node is alone.
const GENTLE_MAX: Duration = Duration::from_secs(600);

/// What takes announcements when a transaction is committed. `events` implements it.
pub trait Bus: Send + Sync + 'static {
    /// Publishes one announcement.
    fn publish(&self, announcement: Box<dyn Any + Send + Sync>);
}

/// The database. Clones share the connections.
#[derive(Clone)]
pub struct Db {
    writer: DatabaseConnection,
    reader: DatabaseConnection,
    replica: DatabaseConnection,
    /// The turn to write, first come, first served: one at a time on SQLite; on PostgreSQL three
    /// quarters of the pool, so that reads always find a connection.
    turn: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    statements: Arc<AtomicU64>,
    bus: Arc<dyn Bus>,
}

impl Db {
    /// Connects. The file of an SQLite database is made when it is missing.
    pub async fn connect(settings: &DbSettings, bus: Arc<dyn Bus>) -> Result<Self> {
        let statements = Arc::<AtomicU64>::default();
        let is_sqlite = settings.url.starts_with("sqlite:");
        let writers = if is_sqlite { 1 } else { settings.connections_max };
        let writer = open(settings, &settings.url, writers, &statements).await?;
        let reader = if is_sqlite {
            open(settings, &settings.url, settings.connections_max.min(8), &statements).await?
        } else {
            writer.clone()
        };
        let replica = match &settings.read_url {
            Some(url) => open(settings, url, settings.connections_max, &statements).await?,
            None => reader.clone(),
        };
        let turns = if is_sqlite { 1 } else { (settings.connections_max * 3 / 4).max(1) };
        let turn = Arc::new(Semaphore::new(turns as usize));
        Ok(Self { writer, reader, replica, turn, waiting: Arc::default(), statements, bus })
    }

    /// Begins a transaction. Waits its turn, at most 30 s, behind at most 10 000 others.
    pub async fn begin(&self) -> Result<Txn> {
        let turn = self.wait_for_turn(WRITERS_WAITING_MAX).await?;
        self.start(turn).await
    }

    /// Begins a transaction that is never refused for the length of the queue: a settle.
    pub async fn begin_always(&self) -> Result<Txn> {
        let turn = self.wait_for_turn(usize::MAX).await?;
        self.start(turn).await
    }

    /// Reads that see every commit: on PostgreSQL the primary, on SQLite any reader.
    pub fn primary(&self) -> &DatabaseConnection {
        &self.reader
    }

    /// Reads that gate no write and may be a moment old.
    pub fn replica(&self) -> &DatabaseConnection {
        &self.replica
    }

    /// The writing connection outside a transaction, for migrations.
    pub fn writer(&self) -> &DatabaseConnection {
        &self.writer
    }

    /// Statements that were run since the start, transactions' own included.
    pub fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        execute(self.primary(), "SELECT 1", vec![]).await?;
        Ok(())
    }

    /// All rows of a read that may take longer than a request: a proof over the whole history.
    pub async fn all_unhurried<R: FromQueryResult>(&self, sql: String) -> Result<Vec<R>> {
        if self.primary().get_database_backend() != DbBackend::Postgres {
            return all(self.primary(), sql, vec![]).await;
        }
        let txn = self.begin().await?;
        execute(&*txn, "SET LOCAL statement_timeout = 0", vec![]).await?;
        let rows = all(&*txn, sql, vec![]).await?;
        txn.rollback().await?;
        Ok(rows)
    }

    /// Measures the database's clock and corrects `clock` by it. A file has its machine's clock.
    pub async fn measure_clock(&self, clock: &Clock) -> Result<()> {
        if self.writer.get_database_backend() != DbBackend::Postgres {
            clock.correct(&[clock.sample_own()], Pace::Gently(GENTLE_MAX));
            return Ok(());
        }
        // The first may have to connect, so that its round trip says little.
        let mut samples = Vec::with_capacity(CLOCK_SAMPLES);
        for _ in 0..CLOCK_SAMPLES {
            let asked = Instant::now();
            let row: Option<Shown> =
                one(self.primary(), "SELECT clock_timestamp() AS at", vec![]).await?;
            let answered = Instant::now();
            samples.extend(row.map(|row| Sample { shown: row.at, asked, answered }));
        }
        if !clock.correct(&samples, Pace::AtOnce) {
            tracing::debug!("The database's clock was read too slowly to go by it");
        }
        Ok(())
    }

    /// Closes all connections after their running statements.
    pub async fn close(&self) {
        for connection in [&self.writer, &self.reader, &self.replica] {
            if let Err(error) = connection.close_by_ref().await {
                tracing::debug!(%error, "A connection did not close cleanly: {error}");
            }
        }
    }

    async fn start(&self, turn: OwnedSemaphorePermit) -> Result<Txn> {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let inner = self.writer.begin_with_options(options).await?;
        let bus = Arc::clone(&self.bus);
        Ok(Txn { inner, announcements: Vec::new(), bus, _turn: turn })
    }

    async fn wait_for_turn(&self, waiting_max: usize) -> Result<OwnedSemaphorePermit> {
        let place = Place::take(&self.waiting);
        if place.ahead >= waiting_max {
            return Err(Error::Unavailable("database"));
        }
        match tokio::time::timeout(PATIENCE, Arc::clone(&self.turn).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Error::Unavailable("database")),
        }
    }
}

/// A place in the queue before the writer; left when dropped.
struct Place<'a> {
    waiting: &'a AtomicUsize,
    ahead: usize,
}

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Self {
        Self { waiting, ahead: waiting.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the database's clock shows.
#[derive(FromQueryResult)]
struct Shown {
    at: DateTime<Utc>,
}

/// A transaction. Dropped, it rolls back.
pub struct Txn {
    // Declared before the turn: rolled back before the next writer begins.
    inner: DatabaseTransaction,
    announcements: Vec<Box<dyn Any + Send + Sync>>,
    bus: Arc<dyn Bus>,
    _turn: OwnedSemaphorePermit,
}

impl Txn {
    /// Keeps an announcement until the commit.
    pub fn announce(&mut self, announcement: Box<dyn Any + Send + Sync>) {
        self.announcements.push(announcement);
    }

    /// Waits until no other transaction has this name, and has it to its end. A file has one writer
    /// at a time anyway.
    pub async fn take_name(&self, name: &[u8]) -> Result<()> {
        if self.inner.get_database_backend() == DbBackend::Postgres {
            let bytes = name.iter().take(8).fold(0_i64, |sum, byte| sum << 8 | i64::from(*byte));
            execute(&self.inner, "SELECT pg_advisory_xact_lock($1)", vec![bytes.into()]).await?;
        }
        Ok(())
    }

    /// Commits, then publishes what was announced.
    pub async fn commit(self) -> Result<()> {
        self.inner.commit().await?;
        for announcement in self.announcements {
            self.bus.publish(announcement);
        }
        Ok(())
    }

    /// Rolls back at once.
    pub async fn rollback(self) -> Result<()> {
        Ok(self.inner.rollback().await?)
    }
}

impl Deref for Txn {
    type Target = DatabaseTransaction;

    fn deref(&self) -> &DatabaseTransaction {
        &self.inner
    }
}

/// Runs a statement of the same text on both databases; placeholders are `$1`, `$2` ….
pub async fn execute(
    conn: &impl ConnectionTrait,
    sql: impl Into<String>,
    values: Vec<Value>,
) -> Result<u64> {
    let statement = statement(conn, sql, values);
    Ok(conn.execute_raw(statement).await?.rows_affected())
}

/// All rows of a query, read by column name.
pub async fn all<R: FromQueryResult>(
    conn: &impl ConnectionTrait,
    sql: impl Into<String>,
    values: Vec<Value>,
) -> Result<Vec<R>> {
    let rows = conn.query_all_raw(statement(conn, sql, values)).await?;
    Ok(rows.iter().map(|row| R::from_query_result(row, "")).collect::<Result<_, _>>()?)
}

/// The first row of a query, if there is one.
pub async fn one<R: FromQueryResult>(
    conn: &impl ConnectionTrait,
    sql: impl Into<String>,
    values: Vec<Value>,
) -> Result<Option<R>> {
    let row = conn.query_one_raw(statement(conn, sql, values)).await?;
    Ok(row.map(|row| R::from_query_result(&row, "")).transpose()?)
}

/// `($1, $2), ($3, $4)` for `rows` rows of `columns` values, counted on from `first`.
pub fn tuples(rows: usize, columns: usize, first: usize) -> String {
    let row = |row: usize| {
        let start = first + row * columns;
        let values: Vec<_> = (start..start + columns).map(|n| format!("${n}")).collect();
        format!("({})", values.join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

/// Rows that one statement reads as a table `v` with the columns `column1`, `column2` …
///
/// On PostgreSQL each column travels as one array, so that one prepared text serves any number of
/// rows; a column that is null in all rows travels as one null. Where a column is null in some rows
/// only, and on SQLite, the rows are a `VALUES` list.
#[derive(Default)]
pub struct Rows {
    count: usize,
    columns: Vec<Vec<Value>>,
}

impl Rows {
    /// Adds a row; every row has the same columns.
    pub fn push(&mut self, row: impl IntoIterator<Item = Value>) {
        for (index, value) in row.into_iter().enumerate() {
            match self.columns.get_mut(index) {
                Some(column) => column.push(value),
                None => self.columns.push(vec![value]),
            }
        }
        self.count += 1;
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The table as SQL, and its values, whose placeholders are counted on from `first`.
    pub fn table(self, conn: &impl ConnectionTrait, first: usize) -> (String, Vec<Value>) {
        let is_whole = |column: &Vec<Value>| {
            let present = column.iter().filter(|value| value.is_some()).count();
            present == 0 || present == column.len()
        };
        if conn.get_database_backend() == DbBackend::Postgres && self.columns.iter().all(is_whole) {
            self.arrays(first)
        } else {
            self.tuples(first)
        }
    }

    fn arrays(self, first: usize) -> (String, Vec<Value>) {
        let mut output = Vec::with_capacity(self.columns.len());
        let (mut arrays, mut names) = (Vec::new(), Vec::new());
        let mut values = Vec::with_capacity(self.columns.len());
        for (index, column) in self.columns.into_iter().enumerate() {
            let (name, place) = (index + 1, first + index);
            let head = column.into_iter().try_fold(Vec::new(), |mut present, value| {
                if !value.is_some() {
                    return Err(value);
                }
                present.push(value);
                Ok(present)
            });
            match head {
                Ok(present) => {
                    let kind = present.first().map_or(ArrayType::Bool, Value::array_type);
                    values.push(Value::Array(kind, Some(Box::new(present))));
                    arrays.push(format!("${place}"));
                    names.push(format!("a{name}"));
                    output.push(format!("a{name} AS column{name}"));
                }
                Err(null) => {
                    values.push(null);
                    output.push(format!("${place} AS column{name}"));
                }
            }
        }
        let (output, arrays, names) = (output.join(", "), arrays.join(", "), names.join(", "));
        // A limit that it does not know makes the planner reckon with one row, and so look rows up
        // by their keys, also when it plans while the other table is still small.
        let limit = first + values.len();
        values.push(i64::try_from(self.count).unwrap_or(i64::MAX).into());
        let table =
            format!("(SELECT {output} FROM UNNEST({arrays}) AS a({names}) LIMIT ${limit}) AS v");
        (table, values)
    }

    fn tuples(self, first: usize) -> (String, Vec<Value>) {
        let (rows, columns) = (self.count, self.columns.len());
        let row = |row: usize| {
            let places = (0..columns).map(|column| format!("${}", first + column * rows + row));
            format!("({})", places.collect::<Vec<_>>().join(", "))
        };
        let list = (0..rows).map(row).collect::<Vec<_>>().join(", ");
        (format!("(VALUES {list}) AS v"), self.columns.into_iter().flatten().collect())
    }
}

/// Inserts rows of one table in one statement.
pub async fn insert<E>(conn: &impl ConnectionTrait, models: &[E::Model]) -> Result<()>
where
    E: EntityTrait,
    E::Model: ModelTrait<Entity = E>,
{
    let mut rows = Rows::default();
    for model in models {
        rows.push(E::Column::iter().map(|column| model.get(column)));
    }
    if rows.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = E::Column::iter().map(|column| column.as_str().to_owned()).collect();
    let (table, values) = rows.table(conn, 1);
    let name = E::default().table_name().to_owned();
    let sql = format!("INSERT INTO {name} ({}) SELECT * FROM {table}", names.join(", "));
    execute(conn, sql, values).await?;
    Ok(())
}

/// Locks rows of a table in the ascending order of their ids, so that two transactions that lock
/// several never wait for each other. SQLite has one writer and nothing to lock.
pub async fn lock_in_order(
    conn: &impl ConnectionTrait,
    table: &str,
    ids: impl Iterator<Item = Value>,
) -> Result<()> {
    if conn.get_database_backend() != DbBackend::Postgres {
        return Ok(());
    }
    let mut rows = Rows::default();
    ids.for_each(|id| rows.push([id]));
    let (list, values) = rows.table(conn, 1);
    let sql = format!(
        "SELECT 1 FROM {table} WHERE id IN (SELECT column1 FROM {list}) ORDER BY id FOR UPDATE"
    );
    execute(conn, sql, values).await?;
    Ok(())
}

fn statement(conn: &impl ConnectionTrait, sql: impl Into<String>, values: Vec<Value>) -> Statement {
    Statement::from_sql_and_values(conn.get_database_backend(), sql, values)
}

async fn open(
    settings: &DbSettings,
    url: &str,
    connections_max: u32,
    statements: &Arc<AtomicU64>,
) -> Result<DatabaseConnection> {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(connections_max)
        .min_connections(connections_max.min(1))
        .acquire_timeout(settings.acquire_timeout)
        .connect_timeout(settings.acquire_timeout)
        .idle_timeout(settings.idle_timeout)
        .test_before_acquire(false)
        .sqlx_logging(false);
    if url.starts_with("sqlite:") {
        let ready = SqliteConnectOptions::from_str(url)
            .map_err(Error::broken)?
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10));
        options.map_sqlx_sqlite_opts(move |_| ready.clone());
    } else {
        options.map_sqlx_postgres_opts(|options| {
            options.application_name("musubi").options([
                ("idle_in_transaction_session_timeout", "30s"),
                // The short lists of rows that a statement is given would make the planner prefer
                // a new plan each time, which costs more than most statements.
                ("plan_cache_mode", "force_generic_plan"),
                // A page by its key costs hardly more than the next one, on today's disks.
                ("random_page_cost", "1.1"),
                ("jit", "off"),
                ("lock_timeout", "2s"),
                ("statement_timeout", "60s"),
            ])
        });
        let port = PgConnectOptions::from_str(url).map_or(5432, |options| options.get_port());
        options.map_sqlx_postgres_pool_opts(move |pool| {
            pool.after_connect(move |_, _| {
                Box::pin(async move {
                    nodelay::set_for_port(port);
                    Ok(())
                })
            })
        });
    }
    let mut connection = Database::connect(options).await.map_err(|error| {
        // It may quote the address, and the password in it, which must not reach a log.
        if error.to_string().contains(url) {
            Error::broken("the database's address cannot be read")
        } else {
            error.into()
        }
    })?;
    let statements = Arc::clone(statements);
    connection.set_metric_callback(move |_| {
        statements.fetch_add(1, Ordering::Relaxed);
    });
    Ok(connection)
}
