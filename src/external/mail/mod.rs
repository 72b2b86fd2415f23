//! Mail: what is sent, the interface, SMTP and the sandbox, which writes files.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use lettre::Address;
use serde::{Deserialize, Serialize};

mod folder;
mod smtp;

pub use folder::MailFolder;
pub use smtp::SmtpMailer;

/// How long each step of a talk with the server may take.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Longer subjects are cut off by what people read mail with.
const SUBJECT_CHARS_MAX: usize = 200;
/// Of the text, and of the HTML.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// Hands mails to whoever delivers them.
pub trait Mailer: Send + Sync + 'static {
    /// Hands over one mail. A failure after the last byte may mean that it was taken all the same;
    /// whoever tries again sends the same letter, whose id tells the receiver that it is one.
    fn send<'a>(&'a self, letter: &'a Letter) -> BoxFuture<'a, Result<(), MailFailure>>;
}

/// What somebody is to read. Debug shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    /// The reader's address, without a name.
    pub to: String,
    /// One line.
    pub subject: String,
    /// The text that every program can show.
    pub text: String,
    /// The same with looks.
    pub html: Option<String>,
    /// After this it is of no use and is not sent.
    pub expires_at: Option<DateTime<Utc>>,
}

impl Mail {
    /// The reader's address, if the mail can be sent at all: a new line in a header would begin
    /// another one.
    pub fn check(&self) -> Result<Address, MailFailure> {
        let refuse = |why| Err(MailFailure::Refused(format!("not sent: {why}")));
        if self.subject.is_empty() || self.subject.chars().count() > SUBJECT_CHARS_MAX {
            return refuse("the subject is empty or too long");
        }
        if self.subject.chars().any(is_line_breaking) {
            return refuse("the subject has control characters");
        }
        let html = self.html.as_deref().unwrap_or_default();
        if self.text.len() > BODY_BYTES_MAX || html.len() > BODY_BYTES_MAX {
            return refuse("the body is too large");
        }
        if !self.to.bytes().all(|byte| byte.is_ascii_graphic()) {
            return refuse("the address has characters that addresses do not have");
        }
        self.to.parse().or_else(|_| refuse("the address is none"))
    }
}

/// Control characters, and those that Unicode ends lines with.
fn is_line_breaking(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}')
}

impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mail")
    }
}

/// A mail on its way; the same at every attempt.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Letter {
    /// The first part of its Message-ID: letters, digits and hyphens.
    pub id: String,
    /// Its date.
    pub written_at: DateTime<Utc>,
    /// What it says.
    pub mail: Mail,
}

/// Why a mail was not handed over. The text is for the log: no address, nothing of the mail, and
/// none of the server's words, which may repeat them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailFailure {
    /// This mail, or its reader, is refused for good.
    #[error("{0}")]
    Refused(String),
    /// The server is away, busy, or does not let us in; later may help.
    #[error("{0}")]
    Unavailable(String),
}

/// Why settings cannot be used; never contains the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMailSettings {
    /// `EMAIL_SERVER` is no address of a server.
    #[error("EMAIL_SERVER is not smtp://user:password@host:port or smtps://…")]
    Server,
    /// `EMAIL_FROM` is no address.
    #[error("EMAIL_FROM is not an address such as Musubi <no-reply@musubi.example>")]
    From,
    /// Our own address has no host.
    #[error("PUBLIC_URL has no host")]
    PublicUrl,
    /// `EMAIL_CA` is no list of certificates.
    #[error("EMAIL_CA holds no certificate in PEM, or one that cannot be read")]
    Authority,
    /// TLS could not be set up, for instance without trusted root certificates.
    #[error("TLS for EMAIL_SERVER cannot be set up")]
    Tls,
}

/// The host of our own address, for what has to be unique in the world.
fn host_of(public_url: &str) -> Result<String, InvalidMailSettings> {
    let url = reqwest::Url::parse(public_url).map_err(|_| InvalidMailSettings::PublicUrl)?;
    Ok(url.host_str().ok_or(InvalidMailSettings::PublicUrl)?.to_owned())
}
