//! Mails, in the durable queue until they are sent.

use chrono::{DateTime, Utc};

use crate::app::App;
use crate::db::Txn;
use crate::error::Result;
use crate::queue::{self, NewItem};

/// A mail.
#[derive(Clone, Debug)]
pub struct Mail {
    /// To whom.
    pub to: String,
    /// Its subject.
    pub subject: String,
    /// Its text.
    pub text: String,
    /// The same as HTML.
    pub html: Option<String>,
    /// It is not sent after this.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Pushes a mail.
pub async fn push(app: &App, txn: &mut Txn, mail: &Mail, dedupe_key: Option<String>) -> Result<()> {
    let payload = serde_json::json!({ "to": mail.to, "subject": mail.subject, "text": mail.text });
    let item = NewItem { kind: "mail", payload: &payload, dedupe_key, run_at: app.clock.db_now() };
    queue::push(txn, item, &app.crypto).await?;
    Ok(())
}
