//! What the settings of each part are, before anything is read.

use std::fmt;
use std::time::Duration;

/// Where the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// A developer's machine: demo data, sandbox third parties, GraphiQL with a token.
    Development,
    /// Real customers.
    Production,
}

/// Where the database is and how many connections it may take.
#[derive(Clone, Debug)]
pub struct DbSettings {
    /// `sqlite:PATH` or `postgres://…`.
    pub url: String,
    /// A replica for reads that gate no write. Balances are never read there.
    pub read_url: Option<String>,
    /// Connections of each pool at most.
    pub connections_max: u32,
    /// How long a pooled connection is awaited.
    pub acquire_timeout: Duration,
    /// Connections that are idle for so long are closed.
    pub idle_timeout: Duration,
}

/// A value that Debug does not show.
#[derive(Clone)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// How mail goes out.
#[derive(Clone, Debug, Default)]
pub struct EmailSettings {
    /// The server, with its user and password; none is the sandbox.
    pub server: Option<Secret>,
    /// Certificates of authorities that its own is trusted by, besides the system's, as PEM.
    pub ca: Option<String>,
    /// Whom mails come from, such as `Musubi <no-reply@musubi.example>`.
    pub from: String,
}

/// How money comes in.
#[derive(Clone, Debug)]
pub struct StripeSettings {
    /// Our secret key; none is the sandbox.
    pub secret_key: Option<Secret>,
    /// The key that pages use.
    pub publishable_key: Option<String>,
    /// Secrets that sign what Stripe tells us; any of them counts.
    pub webhook_secrets: Vec<Secret>,
    /// Where Stripe is asked; none is Stripe itself.
    pub api_base: Option<String>,
    /// Days that the payer of an invoice has.
    pub invoice_days: u16,
}

impl Default for StripeSettings {
    fn default() -> Self {
        Self {
            secret_key: None,
            publishable_key: None,
            webhook_secrets: Vec::new(),
            api_base: None,
            invoice_days: 30,
        }
    }
}

/// Who issues receipts: what a 適格請求書 says of its issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// The name under which the business is registered.
    pub name: String,
    /// Its address.
    pub address: String,
    /// T and thirteen digits.
    pub registration_number: String,
}

impl Issuer {
    /// For development; nobody has this number.
    pub fn sample() -> Self {
        Self {
            name: "株式会社むすび（見本）".to_owned(),
            address: "〒100-0000 東京都千代田区見本町1-2-3".to_owned(),
            registration_number: "T0000000000000".to_owned(),
        }
    }
}

/// Who else tells who people are; none is not offered.
#[derive(Clone, Debug, Default)]
pub struct OauthSettings {
    /// Discord.
    pub discord: Option<OauthClient>,
    /// GitHub.
    pub github: Option<OauthClient>,
}

/// What we are at a provider of sign-in, and where it is asked.
#[derive(Clone, Debug)]
pub struct OauthClient {
    /// Our id.
    pub id: String,
    /// Our secret.
    pub secret: Secret,
    /// Where people are sent to.
    pub authorize_url: String,
    /// Where a code becomes a token.
    pub token_url: String,
    /// Where a token tells whose it is.
    pub user_url: String,
    /// Where it tells their addresses, when the person's own entry does not.
    pub emails_url: Option<String>,
}

/// How callers are limited.
#[derive(Clone, Debug)]
pub struct LimitSettings {
    /// Whether they are; `off` is for load tests. Tries to sign in are limited either way.
    pub is_on: bool,
    /// How long Redis is waited for before a node counts alone.
    pub redis_patience: Duration,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self { is_on: true, redis_patience: Duration::from_millis(30) }
    }
}
