//! The few words that differ between the two databases, written once.

use sea_orm_migration::prelude::{DbErr, SchemaManager};
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

/// In a step's SQL: the word, then what it means on PostgreSQL and on SQLite.
const WORDS: [(&str, &str, &str); 4] = [
    ("{uuid}", "uuid", "uuid_text"),
    ("{instant}", "timestamptz", "timestamp_with_timezone_text"),
    ("{bytes}", "bytea", "blob"),
    ("{json}", "jsonb", "jsonb_text"),
];

/// Runs a step's statements, separated by blank lines.
pub(crate) async fn run(manager: &SchemaManager<'_>, sql: &str) -> Result<(), DbErr> {
    let connection = manager.get_connection();
    let is_postgres = connection.get_database_backend() == DbBackend::Postgres;
    let mut text = sql.to_owned();
    for (word, postgres, sqlite) in WORDS {
        text = text.replace(word, if is_postgres { postgres } else { sqlite });
    }
    for statement in text.split("\n\n").map(str::trim).filter(|statement| !statement.is_empty()) {
        connection.execute_unprepared(statement).await?;
    }
    Ok(())
}

/// A key and the present instant, as literals of the database at hand.
pub(crate) fn literals(manager: &SchemaManager<'_>, key: u128) -> (String, &'static str) {
    match manager.get_connection().get_database_backend() {
        DbBackend::Postgres => (format!("CAST('{key:032x}' AS uuid)"), "now()"),
        _ => (format!("X'{key:032x}'"), "strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now')"),
    }
}

/// Makes a table append-only: no UPDATE, DELETE or TRUNCATE goes through.
pub(crate) async fn forbid_changes(manager: &SchemaManager<'_>, table: &str) -> Result<(), DbErr> {
    let connection = manager.get_connection();
    for (action, each) in [("UPDATE", "ROW"), ("DELETE", "ROW"), ("TRUNCATE", "STATEMENT")] {
        let name = format!("{table}_no_{}", action.to_lowercase());
        let statements = match connection.get_database_backend() {
            DbBackend::Postgres => vec![
                format!(
                    "CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS
                     $$ BEGIN RAISE EXCEPTION '{table} is append-only'; END $$"
                ),
                format!(
                    "CREATE TRIGGER {name} BEFORE {action} ON {table}
                     FOR EACH {each} EXECUTE FUNCTION {name}()"
                ),
            ],
            // SQLite has no TRUNCATE.
            _ if action == "TRUNCATE" => Vec::new(),
            _ => vec![format!(
                "CREATE TRIGGER {name} BEFORE {action} ON {table}
                 BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )],
        };
        for statement in statements {
            connection.execute_unprepared(&statement).await?;
        }
    }
    Ok(())
}
