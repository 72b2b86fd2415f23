//! Discord and GitHub, which tell who somebody is: the authorization-code flow with PKCE (S256).
//!
//! A token is asked for one answer, or two, and dropped. Nothing of a token, a code, a person or a
//! provider's own words reaches a log.

use std::fmt;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::config::{OauthClient, OauthSettings, Secret};
use crate::external::http_client::{http_client, root_cause};
use crate::text_enum;

/// How long each request may take.
pub const PATIENCE: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const ID_CHARS_MAX: usize = 64;
const NAME_CHARS_MAX: usize = 100;
const EMAIL_BYTES_MAX: usize = 254;
const SCOPE_CHARS_MAX: usize = 200;
const CODE_CHARS_MAX: usize = 60;

text_enum! {
    /// Who tells us who somebody is.
    Provider {
        /// Discord.
        Discord = "DISCORD",
        /// GitHub.
        Github = "GITHUB",
    }
}

impl Provider {
    /// What we ask the person to let us see.
    fn scope(self) -> &'static str {
        match self {
            Self::Discord => "identify email",
            Self::Github => "read:user user:email",
        }
    }
}

/// Who somebody is, as the provider says. Debug shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The provider's own id of the person. It never changes; names and addresses do.
    pub provider_account_id: String,
    /// What the person is called there.
    pub name: String,
    /// Their primary address, if the provider has verified it; no other is told.
    pub email: Option<String>,
    /// Whether the provider has verified the primary address: false without one, too.
    pub is_email_verified: bool,
    /// What the person let us see.
    pub scope: String,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

/// Why nobody was identified. The text is for the log: it names no person and holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OauthFailure {
    /// We have no client at this provider.
    #[error("not offered")]
    NotOffered,
    /// The provider refuses: the code, its verifier, our secret or the token.
    #[error("refused: {0}")]
    Refused(String),
    /// The provider is away, busy or slow; trying again from the start may help.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The provider answered what it should not.
    #[error("the answer {0}")]
    Nonsense(&'static str),
}

/// Why settings cannot be used; never contains the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProvider {
    /// An endpoint is not a plain http or https address.
    #[error("an address of {0} is not http or https, or has credentials or a fragment")]
    Endpoint(Provider),
    /// The HTTP client could not be set up, for instance without trusted root certificates.
    #[error("HTTP client: {0}")]
    HttpClient(String),
}

/// The providers that we have a client at.
pub struct Providers(Vec<Client>);

struct Client {
    provider: Provider,
    id: String,
    secret: Secret,
    authorize_url: Url,
    token_url: Url,
    user_url: Url,
    emails_url: Option<Url>,
    http: reqwest::Client,
    patience: Duration,
}

impl Providers {
    /// Checks the settings; connects to nothing. `patience` is for each request.
    pub fn new(settings: &OauthSettings, patience: Duration) -> Result<Self, InvalidProvider> {
        let given = [(Provider::Discord, &settings.discord), (Provider::Github, &settings.github)];
        let clients = given.into_iter().filter_map(|(provider, client)| {
            Some(Client::new(provider, client.as_ref()?, patience))
        });
        clients.collect::<Result<_, _>>().map(Self)
    }

    /// Nobody else is asked.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// Those that people may choose from.
    pub fn offered(&self) -> impl Iterator<Item = Provider> {
        self.0.iter().map(|client| client.provider)
    }

    /// Where to send the person. The provider sends them back to `redirect_uri` with `state` and a
    /// code, or an error. `code_challenge` is the base64url of the verifier's SHA-256.
    pub fn authorize_url(
        &self,
        provider: Provider,
        state: &str,
        code_challenge: &str,
        redirect_uri: &str,
    ) -> Result<String, OauthFailure> {
        let client = self.client(provider)?;
        let mut url = client.authorize_url.clone();
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &client.id)
            .append_pair("redirect_uri", redirect_uri)
            .append_pair("scope", provider.scope())
            .append_pair("state", state)
            .append_pair("code_challenge", code_challenge)
            .append_pair("code_challenge_method", "S256");
        Ok(url.into())
    }

    /// Asks whose code this is. A code is good for one question.
    pub async fn identify(
        &self,
        provider: Provider,
        code: &str,
        verifier: &str,
        redirect_uri: &str,
    ) -> Result<Identity, OauthFailure> {
        let client = self.client(provider)?;
        let (token, scope) = client.exchange(code, verifier, redirect_uri).await?;
        let (id, name, email) = match provider {
            Provider::Discord => client.discord_user(&token).await?,
            Provider::Github => client.github_user(&token).await?,
        };
        let is_id = !id.is_empty()
            && id.chars().count() <= ID_CHARS_MAX
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_id {
            return Err(OauthFailure::Nonsense("has no id of the person"));
        }
        let email = email.filter(|email| is_plausible_email(email));
        Ok(Identity {
            provider_account_id: id,
            name: shorten(&name, NAME_CHARS_MAX),
            is_email_verified: email.is_some(),
            email,
            scope: shorten(&scope, SCOPE_CHARS_MAX),
        })
    }

    fn client(&self, provider: Provider) -> Result<&Client, OauthFailure> {
        let mut clients = self.0.iter();
        clients.find(|client| client.provider == provider).ok_or(OauthFailure::NotOffered)
    }
}

/// A person: the provider's id, a name, and the primary address when it is verified.
type Person = (String, String, Option<String>);

/// What a token's endpoint says. GitHub refuses with a success.
#[derive(Deserialize)]
struct Granted {
    access_token: Option<String>,
    scope: Option<String>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Refusal {
    error: Option<String>,
}

#[derive(Deserialize)]
struct DiscordUser {
    id: String,
    username: String,
    global_name: Option<String>,
    email: Option<String>,
    #[serde(default)]
    verified: bool,
}

#[derive(Deserialize)]
struct GithubUser {
    id: u64,
    login: String,
    name: Option<String>,
}

#[derive(Deserialize)]
struct GithubEmail {
    email: String,
    primary: bool,
    verified: bool,
}

impl Client {
    fn new(
        provider: Provider,
        client: &OauthClient,
        patience: Duration,
    ) -> Result<Self, InvalidProvider> {
        let read = |text: &str| read_url(text).ok_or(InvalidProvider::Endpoint(provider));
        let token_url = read(&client.token_url)?;
        let user_url = read(&client.user_url)?;
        let emails_url = client.emails_url.as_deref().map(read).transpose()?;
        let called = [Some(&token_url), Some(&user_url), emails_url.as_ref()];
        let is_encrypted = called.into_iter().flatten().any(|url| url.scheme() == "https");
        let http = http_client(patience, is_encrypted)
            .map_err(|error| InvalidProvider::HttpClient(root_cause(&error)))?;
        Ok(Self {
            provider,
            id: client.id.clone(),
            secret: client.secret.clone(),
            authorize_url: read(&client.authorize_url)?,
            token_url,
            user_url,
            emails_url,
            http,
            patience,
        })
    }

    /// A token for the code, and its scope.
    async fn exchange(
        &self,
        code: &str,
        verifier: &str,
        redirect_uri: &str,
    ) -> Result<(Secret, String), OauthFailure> {
        let form = form(&[
            ("grant_type", "authorization_code"),
            ("client_id", &self.id),
            ("client_secret", &self.secret.0),
            ("code", code),
            ("code_verifier", verifier),
            ("redirect_uri", redirect_uri),
        ]);
        let request = self
            .http
            .post(self.token_url.clone())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form);
        let granted: Granted = self.ask(request).await?;
        if let Some(error) = granted.error {
            return Err(OauthFailure::Refused(sanitise(&error)));
        }
        let token = granted.access_token.unwrap_or_default();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(OauthFailure::Nonsense("has no token"));
        }
        let scope = granted.scope.unwrap_or_else(|| self.provider.scope().to_owned());
        Ok((Secret(token), scope))
    }

    async fn discord_user(&self, token: &Secret) -> Result<Person, OauthFailure> {
        let user: DiscordUser = self.ask(self.get(&self.user_url, token)).await?;
        let name = user.global_name.filter(|name| !name.trim().is_empty());
        let email = user.email.filter(|_| user.verified);
        Ok((user.id, name.unwrap_or(user.username), email))
    }

    async fn github_user(&self, token: &Secret) -> Result<Person, OauthFailure> {
        let user: GithubUser = self.ask(self.get(&self.user_url, token)).await?;
        let emails = match &self.emails_url {
            None => Vec::new(),
            Some(url) => {
                let mut url = url.clone();
                url.query_pairs_mut().append_pair("per_page", "100");
                match self.ask(self.get(&url, token)).await {
                    // The person did not let us see them.
                    Err(OauthFailure::Refused(_)) => Vec::new(),
                    outcome => outcome?,
                }
            }
        };
        let primary = emails.into_iter().find(|email: &GithubEmail| email.primary);
        let email = primary.filter(|email| email.verified).map(|email| email.email);
        let name = user.name.filter(|name| !name.trim().is_empty());
        Ok((user.id.to_string(), name.unwrap_or(user.login), email))
    }

    fn get(&self, url: &Url, token: &Secret) -> RequestBuilder {
        self.http.get(url.clone()).bearer_auth(&token.0)
    }

    /// The answer to one request.
    async fn ask<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, OauthFailure> {
        let lost =
            |error: reqwest::Error| OauthFailure::Unavailable(root_cause(&error.without_url()));
        // GitHub answers in a form of its own unless it is asked for JSON.
        let request = request.header(ACCEPT, "application/json").timeout(self.patience);
        let mut response = request.send().await.map_err(lost)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(lost)? {
            if body.len() + piece.len() > ANSWER_BYTES_MAX {
                return Err(OauthFailure::Nonsense("is larger than 64 KiB"));
            }
            body.extend_from_slice(&piece);
        }
        if status.is_success() {
            // The reader's complaint would repeat what it cannot read.
            return serde_json::from_slice(&body)
                .map_err(|_| OauthFailure::Nonsense("is not what was asked for"));
        }
        Err(failure(status, &body))
    }
}

fn failure(status: StatusCode, body: &[u8]) -> OauthFailure {
    let is_passing = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
    if status.is_server_error() || is_passing {
        return OauthFailure::Unavailable(format!("HTTP {}", status.as_u16()));
    }
    if !status.is_client_error() {
        return OauthFailure::Nonsense("is neither a success nor a refusal");
    }
    let refusal = serde_json::from_slice::<Refusal>(body).ok().and_then(|refusal| refusal.error);
    OauthFailure::Refused(match refusal {
        Some(error) => sanitise(&error),
        None => format!("HTTP {}", status.as_u16()),
    })
}

/// The protocol's word for an error, such as `invalid_grant`; nothing else gets through.
fn sanitise(error: &str) -> String {
    let is_word = |letter: &char| letter.is_ascii_alphanumeric() || "_-.".contains(*letter);
    error.chars().filter(is_word).take(CODE_CHARS_MAX).collect()
}

fn form(pairs: &[(&str, &str)]) -> String {
    let url = Url::parse_with_params("form:", pairs).ok();
    url.and_then(|url| url.query().map(str::to_owned)).unwrap_or_default()
}

fn read_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_http = matches!(url.scheme(), "http" | "https") && url.has_host();
    let has_credentials = !url.username().is_empty() || url.password().is_some();
    (is_http && !has_credentials && url.fragment().is_none()).then_some(url)
}

/// One line, without what would move the text around it.
fn shorten(text: &str, chars_max: usize) -> String {
    let line: String = text.chars().filter(|letter| !letter.is_control()).collect();
    line.trim().chars().take(chars_max).collect()
}

fn is_plausible_email(email: &str) -> bool {
    let parts = email.split_once('@');
    email.len() <= EMAIL_BYTES_MAX
        && parts.is_some_and(|(user, host)| !user.is_empty() && !host.is_empty())
        && !email.chars().any(|letter| letter.is_control() || letter.is_whitespace())
}
