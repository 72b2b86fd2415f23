//! Forgetting what is no longer needed, by one table of retention. The ledger stays for ever.

use chrono::TimeDelta;

use crate::app::App;
use crate::db;
use crate::error::Result;

/// Rows that one transaction removes at most.
const BATCH: i64 = 1_000;

struct Retention {
    what: &'static str,
    days: i64,
    /// Removes at most `$2` rows that are older than `$1`.
    sql: &'static str,
}

const TABLE: &[Retention] = &[
    Retention {
        what: "idempotency keys",
        days: 30,
        sql: "DELETE FROM idempotency_keys WHERE id IN
              (SELECT id FROM idempotency_keys WHERE created_at < $1 LIMIT $2)",
    },
    Retention {
        what: "work items",
        days: 14,
        sql: "DELETE FROM queue_items WHERE id IN
              (SELECT id FROM queue_items WHERE finished_at < $1 LIMIT $2)",
    },
    Retention {
        // The newest run of each job stays, or its slot would run again.
        what: "job runs",
        days: 90,
        sql: "DELETE FROM job_runs WHERE id IN
              (SELECT r.id FROM job_runs r WHERE r.finished_at < $1 AND r.slot <
               (SELECT MAX(n.slot) FROM job_runs n WHERE n.name = r.name) LIMIT $2)",
    },
    Retention {
        what: "alerts",
        days: 400,
        sql: "DELETE FROM alerts WHERE id IN
              (SELECT id FROM alerts WHERE created_at < $1 LIMIT $2)",
    },
    Retention {
        what: "sign-in links",
        days: 1,
        sql: "DELETE FROM sign_in_links WHERE id IN
              (SELECT id FROM sign_in_links WHERE expires_at < $1 LIMIT $2)",
    },
    Retention {
        what: "hand-overs",
        days: 1,
        sql: "DELETE FROM hand_overs WHERE id IN
              (SELECT id FROM hand_overs WHERE expires_at < $1 LIMIT $2)",
    },
    Retention {
        // One that ran out was never ended by anybody.
        what: "sessions",
        days: 90,
        sql: "DELETE FROM sessions WHERE id IN
              (SELECT id FROM sessions WHERE COALESCE(ended_at, expires_at) < $1
               AND (ended_at < $1 OR expires_at < $1) LIMIT $2)",
    },
    Retention {
        what: "invitations",
        days: 400,
        sql: "DELETE FROM invitations WHERE id IN
              (SELECT id FROM invitations WHERE expires_at < $1 LIMIT $2)",
    },
    Retention {
        what: "prompts and results",
        days: 400,
        sql: "UPDATE ai_executions SET parameters = NULL, result = NULL WHERE id IN
              (SELECT id FROM ai_executions WHERE finished_at < $1
               AND (parameters IS NOT NULL OR result IS NOT NULL) LIMIT $2)",
    },
];

/// Forgets everything past its time, in small transactions.
pub(crate) async fn clean_up(app: App) -> Result<String> {
    let mut done = Vec::new();
    for retention in TABLE {
        let before = app.clock.db_now() - TimeDelta::days(retention.days);
        let mut total = 0;
        loop {
            let txn = app.db.begin().await?;
            let values = vec![before.into(), BATCH.into()];
            let rows = db::execute(&*txn, retention.sql, values).await?;
            txn.commit().await?;
            total += rows;
            if rows < BATCH.unsigned_abs() {
                break;
            }
        }
        done.push(format!("{total} {}", retention.what));
    }
    Ok(done.join(", "))
}
