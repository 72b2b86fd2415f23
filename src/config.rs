//! The only reader of the environment. Each variable may also come as `NAME_FILE`, a path.
//!
//! In production the start stops with one message that names all that is missing. In development
//! keys are made once and kept beside the database, and third parties default to the sandbox.

mod settings;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;

use crate::crypto::{Key, random_secret};
use crate::error::{Error, Result};
pub use settings::{
    DbSettings, EmailSettings, Environment, Issuer, LimitSettings, OauthClient, OauthSettings,
    Secret, StripeSettings,
};

/// The program's release.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// All settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the program runs.
    pub environment: Environment,
    /// The address to listen on. In development GraphiQL signs everybody in as the demo's admin, so
    /// that only this machine is let in unless it is told otherwise.
    pub host: IpAddr,
    /// The port to listen on; 0 takes a free one.
    pub port: u16,
    /// How others reach us: scheme, host and port, without a slash at the end.
    pub public_url: String,
    /// Who issues access tokens. Without a `PUBLIC_URL` it does not depend on the port, so that a
    /// token made by the command line is good for a server on any.
    pub token_issuer: String,
    /// The database.
    pub database: DbSettings,
    /// Redis, for several nodes. Without it one node works alone.
    pub redis_url: Option<Secret>,
    /// Ed25519 seeds for access tokens; the first signs, all verify.
    pub jwt_keys: Vec<Key>,
    /// Keys of sealed columns; the first seals, all open.
    pub encryption_keys: Vec<Key>,
    /// The key of blind indexes and digests. It never changes.
    pub index_key: [u8; 32],
    /// The key for the model provider; none is the sandbox.
    pub openai_api_key: Option<Secret>,
    /// The provider's OpenAI-compatible endpoint.
    pub openai_base_url: String,
    /// How mail goes out.
    pub email: EmailSettings,
    /// How money comes in.
    pub stripe: StripeSettings,
    /// Who issues receipts; without, there are none.
    pub receipts: Option<Issuer>,
    /// Who else tells who people are.
    pub oauth: OauthSettings,
    /// How callers are limited.
    pub limits: LimitSettings,
    /// How long a hold stays without its owner renewing it.
    pub hold_lease: Duration,
    /// Browser origins besides our own and those of the tenants' sites that may come.
    pub allowed_origins: Vec<String>,
    /// Proxies whose word about the sender's address counts.
    pub trusted_proxies: Vec<IpNet>,
    /// Log lines as JSON.
    pub log_json: bool,
    /// What is logged, as `tracing` filters say it.
    pub log_filter: String,
}

impl Config {
    /// Whether real customers are served.
    pub fn is_production(&self) -> bool {
        self.environment == Environment::Production
    }

    /// Whether AI calls go to a real provider.
    pub fn has_real_models(&self) -> bool {
        self.openai_api_key.is_some()
    }

    /// Where files of ours lie: the folder of the SQLite file, or `data`.
    pub fn data_folder(&self) -> PathBuf {
        data_folder(&self.database.url)
    }

    /// Reads the environment. The error names everything that is missing or malformed, at once.
    pub fn from_env() -> Result<Self, ConfigError> {
        let mut reader = Reader::new(|name| {
            #[expect(clippy::disallowed_methods, reason = "the one reader of the environment")]
            std::env::var(name).ok()
        });
        let config = reader.config();
        match (config, reader.problems.is_empty()) {
            (Some(config), true) => Ok(config),
            (_, _) => Err(ConfigError(reader.problems)),
        }
    }
}

/// Everything that keeps the program from starting.
#[derive(Debug)]
pub struct ConfigError(Vec<String>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "The configuration is not complete:")?;
        for problem in &self.0 {
            writeln!(f, "  - {problem}")?;
        }
        write!(f, "Every variable is described in .env.example.")
    }
}

impl std::error::Error for ConfigError {}

/// Reads variables and keeps what is wrong with them.
struct Reader<F> {
    source: F,
    problems: Vec<String>,
}

impl<F: Fn(&str) -> Option<String>> Reader<F> {
    fn new(source: F) -> Self {
        Self { source, problems: Vec::new() }
    }

    fn config(&mut self) -> Option<Config> {
        let environment = match self.text("MUSUBI_ENV").as_deref() {
            None | Some("development") => Environment::Development,
            Some("production") => Environment::Production,
            Some(_) => {
                self.problem("MUSUBI_ENV", "is development or production");
                return None;
            }
        };
        let is_production = environment == Environment::Production;
        // What is wrong here must not hide what is missing further down.
        let port = self.number("PORT", 3200).unwrap_or(3200);
        let everywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let nearby = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let host = self.number("MUSUBI_HOST", if is_production { everywhere } else { nearby });
        let host = host.unwrap_or(nearby);
        let url = self.or_default("DATABASE_URL", is_production, "sqlite:data/musubi.db");
        let read_url = self.text("DATABASE_READ_URL");
        self.check_database("DATABASE_URL", &url);
        self.check_database("DATABASE_READ_URL", read_url.as_ref().unwrap_or(&url));
        let given_url = self.text("PUBLIC_URL");
        if given_url.is_none() && is_production {
            self.problem("PUBLIC_URL", "is missing");
        }
        let token_issuer = given_url.clone().unwrap_or_else(|| "http://localhost".to_owned());
        let public_url = given_url.unwrap_or_else(|| format!("http://localhost:{port}"));
        let keys = self.keys(is_production, &url);
        let openai_base_url = self.text("OPENAI_BASE_URL");
        let openai_api_key = self.openai_key(is_production, openai_base_url.is_some());
        let email = self.email(is_production);
        let stripe = self.stripe(is_production);
        let oauth = self.oauth();
        let limits = self.limits(is_production);
        let lease = self.number("MUSUBI_HOLD_LEASE_SECONDS", 120_u64)?;
        if !(2..=3_600).contains(&lease) {
            self.problem("MUSUBI_HOLD_LEASE_SECONDS", "is 2 to 3600");
        }
        let keys = keys?;
        Some(Config {
            environment,
            host,
            port,
            public_url: public_url.trim_end_matches('/').to_owned(),
            token_issuer: token_issuer.trim_end_matches('/').to_owned(),
            database: DbSettings {
                url,
                read_url,
                connections_max: self.number("DATABASE_CONNECTIONS", 20)?,
                acquire_timeout: Duration::from_secs(3),
                idle_timeout: Duration::from_secs(600),
            },
            redis_url: self.text("REDIS_URL").map(Secret),
            jwt_keys: keys.jwt,
            encryption_keys: keys.encryption,
            index_key: keys.index,
            openai_api_key,
            openai_base_url: openai_base_url
                .unwrap_or_else(|| "https://api.openai.com/v1".to_owned()),
            email,
            stripe,
            receipts: self.issuer(is_production),
            oauth,
            limits,
            hold_lease: Duration::from_secs(lease),
            allowed_origins: self.list("ALLOWED_ORIGINS"),
            trusted_proxies: self.networks("TRUSTED_PROXIES"),
            log_json: self.text("LOG_FORMAT").as_deref() == Some("json"),
            log_filter: self.text("RUST_LOG").unwrap_or_else(|| "info,sqlx=warn".to_owned()),
        })
    }

    /// The variable, or the content of the file that `NAME_FILE` names. Empty counts as absent.
    fn text(&mut self, name: &str) -> Option<String> {
        let file = (self.source)(&format!("{name}_FILE")).filter(|path| !path.is_empty());
        let value = match file {
            Some(path) => match std::fs::read_to_string(&path) {
                Ok(content) => Some(content),
                Err(error) => {
                    self.problem(&format!("{name}_FILE"), &format!("cannot be read: {error}"));
                    None
                }
            },
            None => (self.source)(name),
        };
        value.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    fn or_default(&mut self, name: &str, is_required: bool, default: &str) -> String {
        match self.text(name) {
            Some(text) => text,
            None => {
                if is_required {
                    self.problem(name, "is missing");
                }
                default.to_owned()
            }
        }
    }

    /// The driver's own complaint would repeat the address with its password.
    fn check_database(&mut self, name: &str, url: &str) {
        let is_known = |scheme: &&str| url.starts_with(*scheme);
        if !["sqlite:", "postgres://", "postgresql://"].iter().any(is_known) {
            self.problem(name, "is not sqlite:PATH or postgres://…");
        }
    }

    fn number<N: std::str::FromStr>(&mut self, name: &str, default: N) -> Option<N> {
        match self.text(name) {
            None => Some(default),
            Some(text) => match text.parse() {
                Ok(number) => Some(number),
                Err(_) => {
                    self.problem(name, "is not a value in range");
                    None
                }
            },
        }
    }

    fn list(&mut self, name: &str) -> Vec<String> {
        let text = self.text(name).unwrap_or_default();
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }

    /// Networks or single addresses.
    fn networks(&mut self, name: &str) -> Vec<IpNet> {
        let mut networks = Vec::new();
        for item in self.list(name) {
            match item.parse().or_else(|_| item.parse::<IpAddr>().map(IpNet::from)) {
                Ok(network) => networks.push(network),
                Err(_) => self.problem(name, "is not a list of addresses and networks"),
            }
        }
        networks
    }

    /// A custom endpoint often needs no key; OpenAI's own always does.
    fn openai_key(&mut self, is_production: bool, has_own_endpoint: bool) -> Option<Secret> {
        match self.text("OPENAI_API_KEY") {
            Some(key) => Some(Secret(key)),
            None if has_own_endpoint => Some(Secret("none".to_owned())),
            None => {
                if is_production {
                    self.problem("OPENAI_API_KEY", "is missing (the sandbox is for development)");
                }
                None
            }
        }
    }

    /// In development mails are files until there is a server.
    fn email(&mut self, is_production: bool) -> EmailSettings {
        let server = self.text("EMAIL_SERVER");
        let from = self.text("EMAIL_FROM");
        for (name, is_missing) in
            [("EMAIL_SERVER", server.is_none()), ("EMAIL_FROM", from.is_none())]
        {
            if is_missing && is_production {
                self.problem(name, "is missing");
            }
        }
        let is_known = |url: &str| url.starts_with("smtp://") || url.starts_with("smtps://");
        if server.as_deref().is_some_and(|url| !is_known(url)) {
            self.problem("EMAIL_SERVER", "is not smtp://… or smtps://…");
        }
        let from = from.unwrap_or_else(|| "Musubi <no-reply@localhost>".to_owned());
        let ca = self.text("EMAIL_CA");
        if ca.as_deref().is_some_and(|pem| !pem.contains("-----BEGIN CERTIFICATE-----")) {
            self.problem("EMAIL_CA", "holds no certificate in PEM");
        }
        EmailSettings { server: server.map(Secret), ca, from }
    }

    /// In development nobody pays until there is a key.
    fn stripe(&mut self, is_production: bool) -> StripeSettings {
        let secret_key = self.text("STRIPE_SECRET_KEY");
        let publishable_key = self.text("STRIPE_PUBLISHABLE_KEY");
        let webhook_secrets = self.list("STRIPE_WEBHOOK_SECRET");
        for (name, is_missing) in [
            ("STRIPE_SECRET_KEY", secret_key.is_none()),
            ("STRIPE_PUBLISHABLE_KEY", publishable_key.is_none()),
            ("STRIPE_WEBHOOK_SECRET", webhook_secrets.is_empty()),
        ] {
            if is_missing && is_production {
                self.problem(name, "is missing (the sandbox is for development)");
            }
        }
        let is_secret = |key: &str| key.starts_with("sk_") || key.starts_with("rk_");
        if secret_key.as_deref().is_some_and(|key| !is_secret(key)) {
            self.problem("STRIPE_SECRET_KEY", "is not sk_… or rk_…");
        }
        // What pages are given must not be the secret one.
        if publishable_key.as_deref().is_some_and(|key| !key.starts_with("pk_")) {
            self.problem("STRIPE_PUBLISHABLE_KEY", "is not pk_…");
        }
        let invoice_days = self.number("INVOICE_DAYS", 30).unwrap_or(30);
        if !(1..=365).contains(&invoice_days) {
            self.problem("INVOICE_DAYS", "is 1 to 365");
        }
        StripeSettings {
            secret_key: secret_key.map(Secret),
            publishable_key,
            webhook_secrets: webhook_secrets.into_iter().map(Secret).collect(),
            api_base: self.text("STRIPE_API_BASE"),
            invoice_days,
        }
    }

    /// All of it or nothing; in development somebody who is nobody.
    fn issuer(&mut self, is_production: bool) -> Option<Issuer> {
        let name = self.text("RECEIPT_ISSUER_NAME");
        let address = self.text("RECEIPT_ISSUER_ADDRESS");
        let registration_number = self.text("INVOICE_REGISTRATION_NUMBER");
        let (name, address, registration_number) = match (name, address, registration_number) {
            (Some(name), Some(address), Some(number)) => (name, address, number),
            (None, None, None) => return (!is_production).then(Issuer::sample),
            _ => {
                let others = "belongs with RECEIPT_ISSUER_ADDRESS and INVOICE_REGISTRATION_NUMBER";
                self.problem("RECEIPT_ISSUER_NAME", others);
                return None;
            }
        };
        // What has room on a receipt.
        if name.chars().count() > 60 || address.chars().count() > 120 {
            self.problem("RECEIPT_ISSUER_NAME", "has 60 characters at most, the address 120");
        }
        let digits = registration_number.strip_prefix('T').unwrap_or_default();
        if digits.len() != 13 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            self.problem("INVOICE_REGISTRATION_NUMBER", "is not T and thirteen digits");
        }
        Some(Issuer { name, address, registration_number })
    }

    fn oauth(&mut self) -> OauthSettings {
        let discord = self.oauth_client("DISCORD_CLIENT_ID", "DISCORD_CLIENT_SECRET");
        let github = self.oauth_client("GITHUB_CLIENT_ID", "GITHUB_CLIENT_SECRET");
        let mut url = |name: &str, default: &str| self.or_default(name, false, default);
        OauthSettings {
            discord: discord.map(|(id, secret)| OauthClient {
                id,
                secret,
                authorize_url: url("DISCORD_AUTHORIZE_URL", "https://discord.com/oauth2/authorize"),
                token_url: url("DISCORD_TOKEN_URL", "https://discord.com/api/oauth2/token"),
                user_url: url("DISCORD_USER_URL", "https://discord.com/api/users/@me"),
                emails_url: None,
            }),
            github: github.map(|(id, secret)| OauthClient {
                id,
                secret,
                authorize_url: url(
                    "GITHUB_AUTHORIZE_URL",
                    "https://github.com/login/oauth/authorize",
                ),
                token_url: url("GITHUB_TOKEN_URL", "https://github.com/login/oauth/access_token"),
                user_url: url("GITHUB_USER_URL", "https://api.github.com/user"),
                emails_url: Some(url("GITHUB_EMAILS_URL", "https://api.github.com/user/emails")),
            }),
        }
    }

    fn limits(&mut self, is_production: bool) -> LimitSettings {
        let name = "MUSUBI_RATE_LIMITS";
        let is_on = match self.text(name).as_deref() {
            None | Some("on") => true,
            Some("off") => {
                if is_production {
                    self.problem(name, "is off, which is for load tests only");
                }
                false
            }
            Some(_) => {
                self.problem(name, "is not on or off");
                true
            }
        };
        LimitSettings { is_on, ..LimitSettings::default() }
    }

    /// Both or neither.
    fn oauth_client(&mut self, id_name: &str, secret_name: &str) -> Option<(String, Secret)> {
        match (self.text(id_name), self.text(secret_name)) {
            (Some(id), Some(secret)) => Some((id, Secret(secret))),
            (None, None) => None,
            (Some(_), None) => {
                self.problem(secret_name, &format!("is missing beside {id_name}"));
                None
            }
            (None, Some(_)) => {
                self.problem(id_name, &format!("is missing beside {secret_name}"));
                None
            }
        }
    }

    fn keys(&mut self, is_production: bool, database_url: &str) -> Option<KeySet> {
        let mut given = BTreeMap::new();
        for name in ["JWT_KEYS", "ENCRYPTION_KEYS", "INDEX_KEY"] {
            if let Some(text) = self.text(name) {
                given.insert(name, text);
            } else if is_production {
                self.problem(name, "is missing");
            }
        }
        if !is_production && given.len() < 3 {
            match development_keys(database_url) {
                Ok(made) => {
                    for (name, text) in made {
                        given.entry(name).or_insert(text);
                    }
                    // Made anew, they would not open what the old ones sealed.
                    for name in ["JWT_KEYS", "ENCRYPTION_KEYS", "INDEX_KEY"] {
                        if !given.contains_key(name) {
                            let path = keys_path(database_url);
                            self.problem(name, &format!("is missing in {}", path.display()));
                        }
                    }
                }
                Err(error) => {
                    self.problem("keys", &format!("cannot be kept beside the database: {error}"));
                }
            }
        }
        let jwt = self.key_list("JWT_KEYS", given.get("JWT_KEYS")?);
        let encryption = self.key_list("ENCRYPTION_KEYS", given.get("ENCRYPTION_KEYS")?);
        let index = decode_secret(given.get("INDEX_KEY")?);
        if index.is_none() {
            self.problem("INDEX_KEY", "is not 32 bytes in base64");
        }
        Some(KeySet { jwt: jwt?, encryption: encryption?, index: index? })
    }

    fn key_list(&mut self, name: &str, text: &str) -> Option<Vec<Key>> {
        let keys: Option<Vec<Key>> = text.split(',').map(parse_key).collect();
        if keys.is_none() {
            self.problem(name, "is not a list of kid:key with keys of 32 bytes in base64");
        }
        keys
    }

    fn problem(&mut self, name: &str, what: &str) {
        self.problems.push(format!("{name} {what}"));
    }
}

struct KeySet {
    jwt: Vec<Key>,
    encryption: Vec<Key>,
    index: [u8; 32],
}

fn parse_key(item: &str) -> Option<Key> {
    let (kid, secret) = item.trim().split_once(':')?;
    let is_kid = !kid.is_empty()
        && kid.len() <= 32
        && kid.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    is_kid.then_some(())?;
    Some(Key { kid: kid.to_owned(), secret: decode_secret(secret)? })
}

fn decode_secret(text: &str) -> Option<[u8; 32]> {
    STANDARD.decode(text.trim()).ok()?.try_into().ok()
}

/// Keys for development: read from `keys.env` beside the SQLite file (or in `data/`), made there
/// once when it is missing.
fn development_keys(database_url: &str) -> Result<Vec<(&'static str, String)>> {
    let path = keys_path(database_url);
    if let Ok(text) = std::fs::read_to_string(&path) {
        return Ok(parse_keys_file(&text));
    }
    let mut made = Vec::new();
    for (name, prefix) in [("JWT_KEYS", "dev1:"), ("ENCRYPTION_KEYS", "dev1:"), ("INDEX_KEY", "")] {
        made.push((name, format!("{prefix}{}", STANDARD.encode(random_secret()?))));
    }
    let lines: Vec<_> = made.iter().map(|(name, text)| format!("{name}={text}\n")).collect();
    write_private(&path, &lines.concat()).map_err(Error::broken)?;
    // Another process may have won the race to make them.
    let text = std::fs::read_to_string(&path).map_err(Error::broken)?;
    Ok(parse_keys_file(&text))
}

fn parse_keys_file(text: &str) -> Vec<(&'static str, String)> {
    let value = |name: &str| {
        text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
    };
    ["JWT_KEYS", "ENCRYPTION_KEYS", "INDEX_KEY"]
        .into_iter()
        .filter_map(|name| Some((name, value(name)?)))
        .collect()
}

fn keys_path(database_url: &str) -> PathBuf {
    data_folder(database_url).join("keys.env")
}

fn data_folder(database_url: &str) -> PathBuf {
    let file = database_url
        .strip_prefix("sqlite:")
        .map(|path| path.trim_start_matches("//").split('?').next().unwrap_or_default());
    file.and_then(|file| Path::new(file).parent()).unwrap_or(Path::new("data")).to_owned()
}

/// Makes a file that only we may read, whole or not at all; leaves one that exists.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let draft = path.with_extension(format!("{}.draft", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    // A link, unlike a renaming, never replaces what another process has just made.
    let linked = std::fs::hard_link(&draft, path);
    std::fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
