//! Mail by SMTP. Connections are used again; one that anything went wrong on, or whose user was
//! cut off in the middle, is not, as its answers would be taken for another mail's.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::future::{BoxFuture, FutureExt};
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message, MultiPart, SinglePart};
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, Certificate, TlsParameters, TlsParametersBuilder,
};
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, transport::smtp::response::Severity};
use reqwest::Url;
use tokio::time::{Instant, timeout};

use crate::config::Secret;

use super::{InvalidMailSettings, Letter, MailFailure, Mailer, host_of};

/// Shorter than servers keep an idle connection.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// Idle connections that are kept.
const PARKED_MAX: usize = 4;
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// A mail server.
pub struct SmtpMailer {
    server: Server,
    from: Mailbox,
    /// Of our own address: in Message-IDs, and whom we say we are.
    host: String,
    patience: Duration,
    parked: Mutex<Vec<Parked>>,
}

struct Parked {
    connection: AsyncSmtpConnection,
    since: Instant,
}

struct Server {
    host: String,
    port: u16,
    encryption: Encryption,
    credentials: Option<Credentials>,
}

enum Encryption {
    /// From the first byte.
    Tls(TlsParameters),
    /// By STARTTLS, or nothing is said.
    StartTls(TlsParameters),
    /// By STARTTLS when the server offers it: a relay without credentials.
    Offered(TlsParameters),
    /// None: the server is on this machine.
    None,
}

impl fmt::Debug for SmtpMailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmtpMailer").field("host", &self.server.host).finish_non_exhaustive()
    }
}

/// One step of the talk that went wrong.
struct Fault {
    step: &'static str,
    /// The server's answer, when it gave one.
    code: Option<String>,
    /// Our own words, when it did not.
    detail: String,
    is_permanent: bool,
}

impl SmtpMailer {
    /// Checks the settings; connects to nothing. The server comes with the certificates in PEM that
    /// it is trusted by besides the system's. `public_url` is our own address, `patience` is for
    /// each step: connecting, signing in, each command, the mail itself.
    pub fn new(
        (server, authorities): (&Secret, Option<&str>),
        from: &str,
        public_url: &str,
        patience: Duration,
    ) -> Result<Self, InvalidMailSettings> {
        let from = from.parse().map_err(|_| InvalidMailSettings::From)?;
        let server = Server::parse(&server.0, authorities)?;
        let host = host_of(public_url)?;
        Ok(Self { server, from, host, patience, parked: Mutex::default() })
    }

    async fn deliver(&self, letter: &Letter) -> Result<(), MailFailure> {
        let to = letter.mail.check()?;
        let message = self.message(letter, to.clone())?;
        let mut connection = match self.take_parked().await {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let outcome = self.hand_over(&mut connection, to, &message).await;
        match outcome {
            Ok(()) => self.park(connection),
            Err(_) => close(connection).await,
        }
        outcome
    }

    fn message(&self, letter: &Letter, to: Address) -> Result<Vec<u8>, MailFailure> {
        let mail = &letter.mail;
        // Tells programs that answer for somebody away not to.
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        let builder = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(mail.subject.clone())
            .date(SystemTime::from(letter.written_at))
            .message_id(Some(format!("<{}@{}>", letter.id, self.host)))
            .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()));
        let message = match &mail.html {
            None => builder.singlepart(SinglePart::plain(mail.text.clone())),
            Some(html) => builder
                .multipart(MultiPart::alternative_plain_html(mail.text.clone(), html.clone())),
        };
        let message =
            message.map_err(|error| MailFailure::Refused(format!("not sent: {error}")))?;
        Ok(message.formatted())
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, MailFailure> {
        let Server { host, port, encryption, credentials } = &self.server;
        let hello = ClientId::Domain(self.host.clone());
        let wrapped = match encryption {
            Encryption::Tls(parameters) => Some(parameters.clone()),
            Encryption::StartTls(_) | Encryption::Offered(_) | Encryption::None => None,
        };
        let connecting = AsyncSmtpConnection::connect_tokio1(
            (host.as_str(), *port),
            Some(self.patience),
            &hello,
            wrapped,
            None,
        );
        let mut connection = self.step("connecting", connecting).await?;
        let upgrade = match encryption {
            Encryption::StartTls(parameters) => Some(parameters),
            Encryption::Offered(parameters) => connection.can_starttls().then_some(parameters),
            Encryption::Tls(_) | Encryption::None => None,
        };
        if let Some(parameters) = upgrade {
            self.step("STARTTLS", connection.starttls(parameters.clone(), &hello)).await?;
        }
        if let Some(credentials) = credentials {
            let mechanisms = [Mechanism::Plain, Mechanism::Login];
            self.step("signing in", connection.auth(&mechanisms, credentials)).await?;
        }
        Ok(connection)
    }

    /// A refusal of the sender is a mistake of our settings; of the reader or the mail it is final.
    async fn hand_over(
        &self,
        connection: &mut AsyncSmtpConnection,
        to: Address,
        message: &[u8],
    ) -> Result<(), MailFailure> {
        let from = MailFrom::new(Some(self.from.email.clone()), Vec::new());
        self.step("the sender", connection.command(from)).await?;
        let recipient = Rcpt::new(to, Vec::new());
        self.step("the recipient", connection.command(recipient)).await.map_err(Fault::of_mail)?;
        self.step("the mail", connection.command(Data)).await.map_err(Fault::of_mail)?;
        self.step("the mail", connection.message(message)).await.map_err(Fault::of_mail)?;
        Ok(())
    }

    async fn step<T>(
        &self,
        step: &'static str,
        work: impl Future<Output = Result<T, SmtpError>>,
    ) -> Result<T, Fault> {
        match timeout(self.patience, work).await {
            Ok(outcome) => outcome.map_err(|error| Fault::new(step, &error)),
            Err(_) => {
                let detail = "no answer in time".to_owned();
                Err(Fault { step, code: None, detail, is_permanent: false })
            }
        }
    }

    /// A connection that is there and still answers.
    async fn take_parked(&self) -> Option<AsyncSmtpConnection> {
        loop {
            let Parked { mut connection, since } = self.parked().pop()?;
            if since.elapsed() > IDLE_MAX {
                close(connection).await;
                continue;
            }
            if let Ok(true) = timeout(CLOSE_PATIENCE, connection.test_connected()).await {
                return Some(connection);
            }
        }
    }

    fn park(&self, connection: AsyncSmtpConnection) {
        let mut parked = self.parked();
        if parked.len() < PARKED_MAX {
            parked.push(Parked { connection, since: Instant::now() });
        }
    }

    fn parked(&self) -> MutexGuard<'_, Vec<Parked>> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mailer for SmtpMailer {
    fn send<'a>(&'a self, letter: &'a Letter) -> BoxFuture<'a, Result<(), MailFailure>> {
        self.deliver(letter).boxed()
    }
}

async fn close(mut connection: AsyncSmtpConnection) {
    // Whether the goodbye arrives changes nothing.
    let _ = timeout(CLOSE_PATIENCE, connection.abort()).await;
}

impl Fault {
    fn new(step: &'static str, error: &SmtpError) -> Self {
        let code = error.status();
        let is_permanent =
            code.is_some_and(|code| code.severity == Severity::PermanentNegativeCompletion);
        // What the server says may repeat the address or the mail.
        let detail = match code.is_some() || error.is_response() {
            true => "an answer that is none".to_owned(),
            false => error.to_string(),
        };
        Self { step, code: code.map(|code| code.to_string()), detail, is_permanent }
    }

    /// What it means when the server was asked to take this very mail.
    fn of_mail(self) -> MailFailure {
        match self.is_permanent {
            true => MailFailure::Refused(self.to_string()),
            false => MailFailure::from(self),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.code.as_ref().unwrap_or(&self.detail);
        write!(f, "the mail server, {}: {what}", self.step)
    }
}

impl From<Fault> for MailFailure {
    fn from(fault: Fault) -> Self {
        Self::Unavailable(fault.to_string())
    }
}

impl Server {
    fn parse(url: &str, authorities: Option<&str>) -> Result<Self, InvalidMailSettings> {
        const INVALID: InvalidMailSettings = InvalidMailSettings::Server;
        let url = Url::parse(url).map_err(|_| INVALID)?;
        let has_more = !matches!(url.path(), "" | "/");
        if has_more || url.query().is_some() || url.fragment().is_some() {
            return Err(INVALID);
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(INVALID)?;
        // An IPv6 address has brackets in a URL only.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let decode = |text: &str| percent_decode(text).ok_or(INVALID);
        let credentials = match (url.username(), url.password()) {
            ("", None) => None,
            (user, Some(password)) => Some(Credentials::new(decode(user)?, decode(password)?)),
            (_, None) => return Err(INVALID),
        };
        let parameters = || trusting(&host, authorities);
        let (encryption, usual_port) = match url.scheme() {
            "smtps" => (Encryption::Tls(parameters()?), 465),
            "smtp" if is_this_machine(&host) => (Encryption::None, 25),
            "smtp" if credentials.is_some() => (Encryption::StartTls(parameters()?), 587),
            "smtp" => (Encryption::Offered(parameters()?), 25),
            _ => return Err(INVALID),
        };
        let port = url.port().unwrap_or(usual_port);
        Ok(Self { host, port, encryption, credentials })
    }
}

/// How a server of that name is known: by the system's authorities, and by these.
fn trusting(host: &str, authorities: Option<&str>) -> Result<TlsParameters, InvalidMailSettings> {
    let builder = TlsParameters::builder(host.to_owned());
    let Some(pem) = authorities else {
        return builder.build().map_err(|_| InvalidMailSettings::Tls);
    };
    if !pem.contains("-----BEGIN CERTIFICATE-----") {
        return Err(InvalidMailSettings::Authority);
    }
    let added = Certificate::from_pem(pem.as_bytes()).map(|own| builder.add_root_certificate(own));
    let built = added.and_then(TlsParametersBuilder::build);
    built.map_err(|_| InvalidMailSettings::Authority)
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'%' {
            let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
            bytes.push(u8::try_from(digit(0)? * 16 + digit(1)?).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}
