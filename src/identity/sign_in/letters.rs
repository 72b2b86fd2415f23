//! The mails of signing in, in Japanese and English.

use chrono::{DateTime, Utc};

use crate::app::App;
use crate::db::Txn;
use crate::error::{Error, Lang, Result};
use crate::external::mail::Mail;
use crate::mail;

/// A mail to one person.
pub(super) struct Letter {
    to: String,
    subject: String,
    text: String,
}

/// The link that signs in.
pub(super) fn link(lang: Lang, email: &str, address: &str) -> Letter {
    let subject = lang.pick("サインイン用リンク", "Your sign-in link");
    let text = lang.pick(
        format!(
            "次のリンクを開くとサインインできます（15分間・1回限り）。\n\n{address}\n\n\
             心当たりがない場合は、このメールを破棄してください。\n"
        ),
        format!(
            "Open this link to sign in. It is good once, for 15 minutes.\n\n{address}\n\n\
             If you did not ask for it, ignore this mail.\n"
        ),
    );
    Letter { to: email.to_owned(), subject, text }
}

/// Somebody asked for a link with an address that nobody has here.
pub(super) fn unknown(lang: Lang, email: &str) -> Letter {
    let subject = lang.pick("サインインについて", "About your sign-in");
    let text = lang.pick(
        "このメールアドレスは登録されていないため、サインインできません。\n\
         管理者に招待を依頼してください。心当たりがない場合は、このメールを破棄してください。\n",
        "This address is not known here, so that it cannot sign in. Ask an administrator to \
         invite you. If you did not ask for it, ignore this mail.\n",
    );
    Letter { to: email.to_owned(), subject, text }
}

/// Gives a letter to the durable queue; it is not sent after `until`.
pub(super) async fn send(
    app: &App,
    txn: &mut Txn,
    letter: Letter,
    until: Option<DateTime<Utc>>,
) -> Result<()> {
    let Letter { to, subject, text } = letter;
    let mail = Mail { to, subject, text, html: None, expires_at: until };
    mail.check().map_err(|_| {
        Error::invalid("email", "このアドレスにはメールを送れません。", "cannot be sent mail")
    })?;
    mail::push(app, txn, &mail, None).await
}
