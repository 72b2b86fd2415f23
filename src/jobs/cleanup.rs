//! Forgetting what is no longer needed, by the table of `src/compliance/retention.rs`.

use chrono::{DateTime, TimeDelta, Utc};

use crate::app::App;
use crate::audit::seal;
use crate::compliance::retention::{Removal, TABLE};
use crate::db;
use crate::error::Result;

/// Rows that one transaction removes at most.
const BATCH: i64 = 1_000;

/// Forgets everything past its time, in small transactions.
pub(crate) async fn clean_up(app: App) -> Result<String> {
    let mut done = Vec::new();
    for class in TABLE {
        let before = app.clock.db_now() - TimeDelta::days(class.days);
        let total = match class.removal {
            Removal::Rows(sql) => forget(&app, sql, before).await?,
            Removal::Record => seal::remove_before(&app, before).await?,
        };
        done.push(format!("{total} {}", class.what));
    }
    Ok(done.join(", "))
}

async fn forget(app: &App, sql: &str, before: DateTime<Utc>) -> Result<u64> {
    let mut total = 0;
    loop {
        let txn = app.db.begin().await?;
        let rows = db::execute(&*txn, sql, vec![before.into(), BATCH.into()]).await?;
        txn.commit().await?;
        total += rows;
        if rows < BATCH.unsigned_abs() {
            return Ok(total);
        }
    }
}
