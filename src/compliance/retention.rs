//! How long what is kept: one table, by which the nightly cleanup forgets and the compliance check
//! looks. The ledger stays for ever.

use chrono::{DateTime, TimeDelta, Utc};

use crate::app::App;
use crate::db;
use crate::error::Result;

/// A class of things that are kept for a time.
pub struct Retention {
    /// Its name.
    pub what: &'static str,
    /// Days that it is kept.
    pub days: i64,
    /// The oldest, as `oldest`; nothing when there is none.
    pub oldest: &'static str,
    /// How it is forgotten.
    pub removal: Removal,
}

/// How a class is forgotten.
pub enum Removal {
    /// A statement that forgets at most `$2` rows that are older than `$1`.
    Rows(&'static str),
    /// Sealed lines of the audit record, from the beginning of their chains.
    Record,
}

/// The table.
pub const TABLE: &[Retention] = &[
    Retention {
        what: "idempotency keys",
        days: 30,
        oldest: "SELECT created_at AS oldest FROM idempotency_keys ORDER BY created_at LIMIT 1",
        removal: Removal::Rows(
            "DELETE FROM idempotency_keys WHERE id IN
             (SELECT id FROM idempotency_keys WHERE created_at < $1 LIMIT $2)",
        ),
    },
    Retention {
        what: "work items",
        days: 14,
        oldest: "SELECT finished_at AS oldest FROM queue_items WHERE finished_at IS NOT NULL
                 ORDER BY finished_at LIMIT 1",
        removal: Removal::Rows(
            "DELETE FROM queue_items WHERE id IN
             (SELECT id FROM queue_items WHERE finished_at < $1 LIMIT $2)",
        ),
    },
    Retention {
        // The newest run of each job stays, or its slot would run again.
        what: "job runs",
        days: 90,
        oldest: "SELECT r.finished_at AS oldest FROM job_runs r WHERE r.finished_at IS NOT NULL
                 AND r.slot < (SELECT MAX(n.slot) FROM job_runs n WHERE n.name = r.name)
                 ORDER BY r.finished_at LIMIT 1",
        removal: Removal::Rows(
            "DELETE FROM job_runs WHERE id IN
             (SELECT r.id FROM job_runs r WHERE r.finished_at < $1 AND r.slot <
              (SELECT MAX(n.slot) FROM job_runs n WHERE n.name = r.name) LIMIT $2)",
        ),
    },
    Retention {
        // The invoice itself stays beside its purchase.
        what: "addresses of invoices",
        days: 400,
        oldest: "SELECT updated_at AS oldest FROM credit_invoices WHERE email IS NOT NULL
                 AND status IN ('PAID', 'VOID') ORDER BY updated_at LIMIT 1",
        removal: Removal::Rows(
            "UPDATE credit_invoices SET email = NULL, hosted_url = NULL, pdf_url = NULL
             WHERE purchase_id IN
             (SELECT purchase_id FROM credit_invoices WHERE email IS NOT NULL
              AND status IN ('PAID', 'VOID') AND updated_at < $1 LIMIT $2)",
        ),
    },
    Retention {
        what: "alerts",
        days: 400,
        oldest: "SELECT created_at AS oldest FROM alerts ORDER BY created_at LIMIT 1",
        removal: Removal::Rows(
            "DELETE FROM alerts WHERE id IN
             (SELECT id FROM alerts WHERE created_at < $1 LIMIT $2)",
        ),
    },
    Retention {
        what: "sign-in links",
        days: 1,
        oldest: "SELECT expires_at AS oldest FROM sign_in_links ORDER BY expires_at LIMIT 1",
        removal: Removal::Rows(
            "DELETE FROM sign_in_links WHERE id IN
             (SELECT id FROM sign_in_links WHERE expires_at < $1 LIMIT $2)",
        ),
    },
    Retention {
        what: "hand-overs",
        days: 1,
        oldest: "SELECT expires_at AS oldest FROM hand_overs ORDER BY expires_at LIMIT 1",
        removal: Removal::Rows(
            "DELETE FROM hand_overs WHERE id IN
             (SELECT id FROM hand_overs WHERE expires_at < $1 LIMIT $2)",
        ),
    },
    Retention {
        what: "blocks",
        days: 2_555,
        oldest: "SELECT created_at AS oldest FROM user_blocks ORDER BY created_at LIMIT 1",
        removal: Removal::Rows(
            "DELETE FROM user_blocks WHERE id IN
             (SELECT id FROM user_blocks WHERE created_at < $1 LIMIT $2)",
        ),
    },
    Retention {
        what: "events of Stripe",
        days: 400,
        oldest: "SELECT received_at AS oldest FROM stripe_events ORDER BY received_at LIMIT 1",
        removal: Removal::Rows(
            "DELETE FROM stripe_events WHERE id IN
             (SELECT id FROM stripe_events WHERE received_at < $1 LIMIT $2)",
        ),
    },
    Retention {
        what: "removed cards",
        days: 400,
        oldest: "SELECT removed_at AS oldest FROM stored_cards WHERE removed_at IS NOT NULL
                 ORDER BY removed_at LIMIT 1",
        removal: Removal::Rows(
            "DELETE FROM stored_cards WHERE id IN
             (SELECT id FROM stored_cards WHERE removed_at < $1 LIMIT $2)",
        ),
    },
    Retention {
        // One that ran out was never ended by anybody.
        what: "sessions",
        days: 90,
        oldest: "SELECT COALESCE(ended_at, expires_at) AS oldest FROM sessions
                 ORDER BY COALESCE(ended_at, expires_at) LIMIT 1",
        removal: Removal::Rows(
            "DELETE FROM sessions WHERE id IN
             (SELECT id FROM sessions WHERE COALESCE(ended_at, expires_at) < $1
              AND (ended_at < $1 OR expires_at < $1) LIMIT $2)",
        ),
    },
    Retention {
        what: "invitations",
        days: 400,
        oldest: "SELECT expires_at AS oldest FROM invitations ORDER BY expires_at LIMIT 1",
        removal: Removal::Rows(
            "DELETE FROM invitations WHERE id IN
             (SELECT id FROM invitations WHERE expires_at < $1 LIMIT $2)",
        ),
    },
    Retention {
        what: "prompts and results",
        days: 400,
        oldest: "SELECT finished_at AS oldest FROM ai_executions WHERE finished_at IS NOT NULL
                 AND (parameters IS NOT NULL OR result IS NOT NULL) ORDER BY finished_at LIMIT 1",
        removal: Removal::Rows(
            "UPDATE ai_executions SET parameters = NULL, result = NULL WHERE id IN
             (SELECT id FROM ai_executions WHERE finished_at < $1
              AND (parameters IS NOT NULL OR result IS NOT NULL) LIMIT $2)",
        ),
    },
    Retention {
        what: "addresses and user agents",
        days: 90,
        oldest: "SELECT created_at AS oldest FROM system_event_origins ORDER BY created_at LIMIT 1",
        removal: Removal::Rows(
            "DELETE FROM system_event_origins WHERE event_id IN
             (SELECT event_id FROM system_event_origins WHERE created_at < $1 LIMIT $2)",
        ),
    },
    Retention {
        what: "audit events",
        days: 2_555,
        // The beginnings of chains; younger lines may stand before older ones for a moment.
        oldest: "SELECT e.occurred_at AS oldest FROM audit_chains c JOIN system_event e
                 ON e.chain_id = c.chain_id AND e.seq = c.anchor_seq + 1
                 ORDER BY e.occurred_at LIMIT 1",
        removal: Removal::Record,
    },
];

/// A class with things that should have been forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overdue {
    /// The class.
    pub what: &'static str,
    /// Days that it is kept.
    pub days: i64,
    /// The oldest that is there.
    pub oldest: DateTime<Utc>,
}

/// Classes whose oldest thing is past its time by more than two days: the cleanup runs each night,
/// and may miss one.
pub async fn overdue(app: &App) -> Result<Vec<Overdue>> {
    #[derive(sea_orm::FromQueryResult)]
    struct Row {
        oldest: DateTime<Utc>,
    }
    let now = app.clock.db_now();
    let mut overdue = Vec::new();
    for Retention { what, days, oldest, .. } in TABLE {
        let row: Option<Row> = db::one(app.db.primary(), *oldest, vec![]).await?;
        let limit = now - TimeDelta::days(days + 2);
        if let Some(row) = row.filter(|row| row.oldest < limit) {
            overdue.push(Overdue { what, days: *days, oldest: row.oldest });
        }
    }
    Ok(overdue)
}
