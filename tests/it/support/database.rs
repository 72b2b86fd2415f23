//! A migrated database for each test: a copy of a file, or of a PostgreSQL template.

use std::path::PathBuf;

use migration::{Migrator, MigratorTrait};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection};
use tempfile::TempDir;
use tokio::sync::OnceCell;

/// A database that goes when the test is over.
pub(crate) struct TestDatabase {
    url: String,
    place: Place,
}

enum Place {
    /// The folder goes with this value.
    File(#[expect(dead_code, reason = "held for its drop")] TempDir),
    Postgres(String),
}

/// Whether this run is on PostgreSQL (and Redis).
pub(crate) fn is_postgres() -> bool {
    std::env::var("MUSUBI_TEST_DATABASE").is_ok_and(|name| name == "postgres")
}

/// The server's own database; tests make theirs beside it.
fn server() -> String {
    std::env::var("MUSUBI_TEST_POSTGRES")
        .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432".to_owned())
}

/// Redis, in the run that has one.
pub(crate) fn redis_url() -> Option<String> {
    is_postgres().then(|| {
        std::env::var("MUSUBI_TEST_REDIS").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned())
    })
}

impl TestDatabase {
    pub(crate) async fn create() -> Self {
        if is_postgres() {
            let template = template().await;
            let name = format!("musubi_t_{}", musubi::ids::new_uuid().simple());
            run(&format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
            Self { url: format!("{}/{name}", server()), place: Place::Postgres(name) }
        } else {
            let folder = TempDir::new().unwrap();
            let file = folder.path().join("musubi.db");
            std::fs::copy(file_template().await, &file).unwrap();
            let url = format!("sqlite:{}", file.display());
            Self { url, place: Place::File(folder) }
        }
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let Place::Postgres(name) = &self.place else { return };
        let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        // The test's own runtime may be gone already.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(run(&sql));
        });
        let _ = dropped.join();
    }
}

async fn run(sql: &str) {
    let admin = admin().await;
    admin.execute_unprepared(sql).await.unwrap();
    admin.close().await.unwrap();
}

async fn admin() -> DatabaseConnection {
    let mut options = sea_orm::ConnectOptions::new(format!("{}/postgres", server()));
    options.max_connections(1).sqlx_logging(false);
    Database::connect(options).await.expect("PostgreSQL answers")
}

/// One migrated database for the whole run. What runs that are over have left is dropped first.
async fn template() -> &'static str {
    static TEMPLATE: OnceCell<String> = OnceCell::const_new();
    TEMPLATE
        .get_or_init(|| async {
            drop_leftovers().await;
            let name = format!("musubi_template_{}", std::process::id());
            run(&format!("CREATE DATABASE {name}")).await;
            let mut options = sea_orm::ConnectOptions::new(format!("{}/{name}", server()));
            options.max_connections(1).sqlx_logging(false);
            let fresh = Database::connect(options).await.unwrap();
            Migrator::up(&fresh, None).await.unwrap();
            fresh.close().await.unwrap();
            name
        })
        .await
}

/// Templates carry the number of their process; those of processes that are gone are dropped.
async fn drop_leftovers() {
    let admin = admin().await;
    let sql = "SELECT datname AS name FROM pg_database WHERE datname LIKE 'musubi_t%'";
    let rows: Vec<Leftover> = musubi::db::all(&admin, sql, vec![]).await.unwrap();
    admin.close().await.unwrap();
    let is_over = |name: &str| match name.strip_prefix("musubi_template_") {
        Some(number) => !std::path::Path::new("/proc").join(number).exists(),
        None => false,
    };
    for row in rows.iter().filter(|row| is_over(&row.name)) {
        run(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", row.name)).await;
    }
}

#[derive(sea_orm::FromQueryResult)]
struct Leftover {
    name: String,
}

async fn file_template() -> &'static PathBuf {
    static TEMPLATE: OnceCell<(TempDir, PathBuf)> = OnceCell::const_new();
    let (_, file) = TEMPLATE
        .get_or_init(|| async {
            let folder = TempDir::new().unwrap();
            let file = folder.path().join("template.db");
            let url = format!("sqlite:{}?mode=rwc", file.display());
            let fresh = Database::connect(url).await.unwrap();
            Migrator::up(&fresh, None).await.unwrap();
            fresh.close().await.unwrap();
            (folder, file)
        })
        .await;
    file
}
