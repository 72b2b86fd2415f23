//! The mails of signing in, in Japanese and English.

use chrono::{DateTime, Utc};
use sea_orm::EntityTrait;

use crate::app::App;
use crate::db::Txn;
use crate::entity::linked_account::{self, Provider};
use crate::entity::user;
use crate::error::{Error, Lang, Result};
use crate::external::mail::Mail;
use crate::identity::service::people;
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

/// What became of an account at a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// People sign in with it from now on.
    Made,
    /// Nobody signs in with it any more.
    Ended,
}

/// The subject and the text: a way to sign in as them is there or gone, whoever did it.
fn account(lang: Lang, (provider, link): (Provider, Link)) -> (String, String) {
    let name = match provider {
        Provider::Discord => "Discord",
        Provider::Github => "GitHub",
    };
    let (subject, what) = match link {
        Link::Made => (
            lang.pick(format!("{name}と連携しました"), format!("{name} was linked")),
            lang.pick(
                format!("あなたのアカウントが{name}と連携され、{name}でサインインできるようになりました。"),
                format!("A {name} account was linked to yours: it signs in as you from now on."),
            ),
        ),
        Link::Ended => (
            lang.pick(format!("{name}との連携を解除しました"), format!("{name} was unlinked")),
            lang.pick(
                format!("あなたのアカウントと{name}の連携が解除され、{name}ではサインインできなくなりました。"),
                format!("The {name} account was unlinked from yours: it signs in as you no more."),
            ),
        ),
    };
    let advice = lang.pick(
        "ご自身の操作であれば、何もする必要はありません。\n\
         心当たりがない場合は、メールのリンクでサインインし、すべてのセッションを終了して、\
         知らない連携を解除してください。そのうえで管理者にお知らせください。\n",
        "If that was you, there is nothing to do. If it was not: sign in by a link in a mail, end \
         all sessions, unlink what is not yours, and tell an administrator.\n",
    );
    (subject, format!("{what}\n\n{advice}"))
}

/// Tells the person, once, that an account of theirs was linked or unlinked. An address that no
/// mail can be sent to hinders nothing.
pub(super) async fn tell_of_account(
    app: &App,
    txn: &mut Txn,
    row: &linked_account::Model,
    link: Link,
) -> Result<()> {
    let person = user::Entity::find_by_id(row.user_id).one(&**txn).await?;
    let person = person.ok_or(Error::NotFound("user"))?;
    let lang = if person.locale == "en" { Lang::En } else { Lang::Ja };
    let (subject, text) = account(lang, (row.provider, link));
    let to = people::email_of(app, &person)?;
    let mail = Mail { to, subject, text, html: None, expires_at: None };
    if mail.check().is_err() {
        tracing::debug!(user.id = %person.id, "There is no address to tell of a linked account");
        return Ok(());
    }
    let key = match link {
        Link::Made => format!("account-linked:{}", row.id),
        Link::Ended => format!("account-unlinked:{}", row.id),
    };
    mail::push(app, txn, &mail, Some(key)).await
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
