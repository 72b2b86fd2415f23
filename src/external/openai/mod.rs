//! Chat completions of OpenAI and of every server that speaks its protocol.
//!
//! `transport` sends the request and owns status, retry and size; `answer` turns the event stream
//! into our events and owns the timeouts after the response has begun.

mod answer;
mod refusal;
mod transport;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::error::OpenAIError;
use async_openai::traits::RequestOptionsBuilder;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use reqwest::Url;
use serde_json::{Map, Number, Value, json};
use tokio::time::Instant;

use crate::external::http_client::{http_client, root_cause};
use crate::external::models::{ChatEvent, ChatModel, ChatRequest, ModelFailure};

use self::answer::Answer;

/// Where and how to call the provider.
#[derive(Clone)]
pub struct OpenAiSettings {
    /// Address up to and including the version, such as `https://api.openai.com/v1`.
    pub base_url: String,
    /// The key, sent as a bearer token.
    pub api_key: String,
    /// How long to wait for what.
    pub timeouts: Timeouts,
}

impl fmt::Debug for OpenAiSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAiSettings")
            .field("base_url", &self.base_url)
            .field("timeouts", &self.timeouts)
            .finish_non_exhaustive()
    }
}

/// How long a call may take; models that reason for long need a longer `first_token`.
///
/// More than an hour counts as an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Name look-up, TCP and TLS together, for each of at most two attempts.
    pub connect: Duration,
    /// From the start of the call to the first text, a retry included.
    pub first_token: Duration,
    /// Between two chunks once text has begun.
    pub idle: Duration,
    /// The whole call.
    pub total: Duration,
}

impl Timeouts {
    /// Keeps sums with the clock from overflowing.
    fn bounded(self) -> Self {
        let bounded = |timeout: Duration| timeout.min(Duration::from_secs(3_600));
        Self {
            connect: bounded(self.connect),
            first_token: bounded(self.first_token),
            idle: bounded(self.idle),
            total: bounded(self.total),
        }
    }
}

impl Default for Timeouts {
    /// 3 s to connect, 20 s to the first text, 20 s between chunks, 60 s in total.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            first_token: Duration::from_secs(20),
            idle: Duration::from_secs(20),
            total: Duration::from_secs(60),
        }
    }
}

/// Why settings cannot be used; never contains the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSettings {
    /// The base URL is not a plain http or https address.
    #[error("base URL must be an http or https address without credentials, query or fragment")]
    BaseUrl,
    /// The key is empty or cannot be sent in a header.
    #[error("API key must be visible ASCII characters without spaces")]
    ApiKey,
    /// The HTTP client could not be set up, for instance without trusted root certificates.
    #[error("HTTP client: {0}")]
    HttpClient(String),
}

/// A provider that speaks OpenAI's chat completions protocol.
pub struct OpenAiModel {
    client: Arc<Client<OpenAIConfig>>,
    provider: String,
    max_tokens_field: &'static str,
    timeouts: Timeouts,
}

impl OpenAiModel {
    /// Checks the settings and prepares a client; connects to nothing.
    pub fn new(settings: OpenAiSettings) -> Result<Self, InvalidSettings> {
        let api_base = settings.base_url.trim().trim_end_matches('/');
        let (host, is_encrypted) = check_base_url(api_base)?;
        let api_key = settings.api_key.trim();
        if api_key.is_empty() || !api_key.chars().all(|c| c.is_ascii_graphic()) {
            return Err(InvalidSettings::ApiKey);
        }

        // `OpenAIConfig::new` reads OPENAI_* variables, so every value is set here.
        let config = OpenAIConfig::new()
            .with_api_base(api_base)
            .with_api_key(api_key)
            .with_org_id("")
            .with_project_id("");
        let timeouts = settings.timeouts.bounded();
        let http = http_client(timeouts.connect, is_encrypted)
            .map_err(|error| InvalidSettings::HttpClient(root_cause(&error)))?;
        let service = transport::service(http.clone());
        let client = Client::build(http, config).with_http_service(service);

        let is_openai = host == "api.openai.com";
        Ok(Self {
            client: Arc::new(client),
            provider: if is_openai { "openai".to_owned() } else { host },
            // OpenAI's newer models refuse `max_tokens`; other servers may know only that one.
            max_tokens_field: if is_openai { "max_completion_tokens" } else { "max_tokens" },
            timeouts,
        })
    }

    fn body(&self, request: ChatRequest) -> Map<String, Value> {
        const NOT_OPTIONAL: [&str; 3] = ["n", "max_tokens", "max_completion_tokens"];
        let mut messages = Vec::new();
        if let Some(system) = request.system {
            messages.push(json!({"role": "system", "content": system}));
        }
        messages.push(json!({"role": "user", "content": request.input}));

        let mut body = request.options;
        body.retain(|name, _| !NOT_OPTIONAL.contains(&name.as_str()));
        let temperature = request.temperature.normalize().to_string().parse::<Number>().ok();
        if let Some(temperature) = temperature {
            body.insert("temperature".to_owned(), Value::Number(temperature));
        }
        body.insert(self.max_tokens_field.to_owned(), request.max_tokens.into());
        body.insert("model".to_owned(), request.model.into());
        body.insert("messages".to_owned(), messages.into());
        body.insert("stream".to_owned(), true.into());
        body.insert("stream_options".to_owned(), json!({"include_usage": true}));
        body
    }
}

impl ChatModel for OpenAiModel {
    /// `openai` for OpenAI itself, otherwise the host's name.
    fn provider(&self) -> &str {
        &self.provider
    }

    fn chat(&self, request: ChatRequest) -> BoxStream<'static, Result<ChatEvent, ModelFailure>> {
        let client = Arc::clone(&self.client);
        let timeouts = self.timeouts;
        let execution_id = request.execution_id.clone();
        let body = self.body(request);
        stream::once(async move {
            let started = Instant::now();
            let opening = open(&client, execution_id, body);
            let limit = started + timeouts.first_token.min(timeouts.total);
            match tokio::time::timeout_at(limit, opening).await {
                Ok(Ok(upstream)) => Answer::new(upstream, started, timeouts),
                Ok(Err(error)) => Answer::failed(answer::failure(error)),
                Err(_elapsed) => Answer::failed(answer::timed_out("no response in time")),
            }
        })
        .flat_map(|answer| {
            stream::unfold(answer, |mut answer| async move {
                let event = answer.next().await?;
                Some((event, answer))
            })
        })
        .boxed()
    }
}

async fn open(
    client: &Client<OpenAIConfig>,
    execution_id: String,
    body: Map<String, Value>,
) -> Result<answer::Upstream, OpenAIError> {
    let chat = client.chat().header("idempotency-key", execution_id)?;
    chat.create_stream_byot(body).await
}

/// Returns the host and whether it is called over TLS.
fn check_base_url(api_base: &str) -> Result<(String, bool), InvalidSettings> {
    let url = Url::parse(api_base).map_err(|_| InvalidSettings::BaseUrl)?;
    let is_encrypted = match url.scheme() {
        "https" => true,
        "http" => false,
        _ => return Err(InvalidSettings::BaseUrl),
    };
    let has_credentials = !url.username().is_empty() || url.password().is_some();
    if has_credentials || url.query().is_some() || url.fragment().is_some() {
        return Err(InvalidSettings::BaseUrl);
    }
    let host = url.host_str().ok_or(InvalidSettings::BaseUrl)?;
    Ok((host.to_owned(), is_encrypted))
}
