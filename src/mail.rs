//! Mail to people: put into the queue with what causes it, sent at least once.
//!
//! A worker that dies after the server took a mail, and before that was recorded, has it sent
//! again. Both carry one Message-ID, by which mailboxes know the second for the first.

use serde_json::{Value as Json, json};

use crate::app::App;
use crate::db::Txn;
use crate::error::{Error, Result};
use crate::external::mail::{Letter, Mail, MailFailure};
use crate::ids::new_uuid;
use crate::queue::{self, Handler, Hopeless, NewItem};

const KIND: &str = "mail";

/// Sends what was pushed. Eight attempts take five to ten minutes.
pub const HANDLER: Handler<App> =
    Handler { kind: KIND, run: |app, payload| Box::pin(send(app, payload)), attempts_max: 8 };

/// Has a mail sent after the transaction's commit; with a key that is there already, nothing.
pub async fn push(app: &App, txn: &mut Txn, mail: &Mail, dedupe_key: Option<String>) -> Result<()> {
    mail.check().map_err(Error::broken)?;
    let now = app.clock.db_now();
    let letter = Letter { id: new_uuid().to_string(), written_at: now, mail: mail.clone() };
    let item = NewItem { kind: KIND, payload: &json!(letter), dedupe_key, run_at: now };
    queue::push(txn, item, &app.crypto).await?;
    Ok(())
}

async fn send(app: App, payload: Json) -> Result<()> {
    let letter: Letter = serde_json::from_value(payload)
        .map_err(|_| Hopeless("the mail cannot be read".to_owned()))?;
    if letter.mail.expires_at.is_some_and(|end| end <= app.clock.db_now()) {
        return Err(Hopeless("the mail was not sent before it was out of date".to_owned()).into());
    }
    match app.mailer.send(&letter).await {
        Ok(()) => Ok(()),
        Err(MailFailure::Refused(why)) => Err(Hopeless(why).into()),
        Err(failure @ MailFailure::Unavailable(_)) => Err(Error::broken(failure)),
    }
}
