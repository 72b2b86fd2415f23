//! The nightly proof of the books.

use serde_json::json;

use crate::alerts::{self, AlertKind, NewAlert};
use crate::app::App;
use crate::entity::alert::AlertSeverity;
use crate::error::Result;
use crate::verify;

/// Verifies everything and alerts the operators of any drift, once a day.
pub(crate) async fn prove(app: App) -> Result<String> {
    let drifts = verify::verify(&app).await?;
    let Some(first) = drifts.first() else { return Ok("everything adds up".to_owned()) };
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await?;
    let alert = NewAlert {
        tenant: None,
        kind: AlertKind::LedgerDrift,
        severity: AlertSeverity::Critical,
        dedupe_key: format!("LEDGER_DRIFT:{}", now.date_naive()),
        data: json!({ "drifts": drifts.len(), "first": first.to_string() }),
    };
    alerts::raise(&mut txn, alert, now).await?;
    txn.commit().await?;
    Ok(format!("{} rows do not add up; the first: {first}", drifts.len()))
}
