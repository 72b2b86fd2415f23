//! Sends one request: status and body limits, and at most one retry.
//!
//! async-openai forgets the status of an error body it cannot parse, retries three times and
//! sleeps as long as the server says; this service replaces all of that.

use std::error::Error;
use std::time::Duration;

use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::HeaderMap;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Body, Response};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout_at};

use crate::external::http_client::root_cause;
use crate::external::models::{FailureKind, ModelFailure};

use super::refusal::Refusal;

/// The longest `Retry-After` we sleep; a longer one is the caller's to schedule.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A longer `Retry-After` is reported as this long.
const LONGEST_WAIT: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How long and how much we read of an error's body; the status is known without it.
const ERROR_BODY_WAIT: Duration = Duration::from_secs(2);
const ERROR_BODY_BYTES: usize = 16 * 1024;
/// The largest answer of a server that ignores `stream`.
const JSON_BODY_BYTES: usize = 4 * 1024 * 1024;
/// async-openai buffers without bound what the caller has not read yet; these bound it.
const STREAM_BYTES: usize = 64 * 1024 * 1024;
const STREAM_LINE_BYTES: usize = 1024 * 1024;

/// Why no stream could be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransportError {
    #[error("provider answered {}", .0.status)]
    Refused(ProviderError),
    #[error("could not connect: {0}")]
    Unreachable(String),
    #[error("connection ended before an answer: {0}")]
    Lost(String),
    #[error("request could not be built")]
    Unsendable,
    #[error("answer {0}")]
    Malformed(&'static str),
}

/// A response whose status is not a success.
#[derive(Debug)]
pub(super) struct ProviderError {
    status: u16,
    retry_after: Option<Duration>,
    refusal: Refusal,
    request_id: String,
}

impl From<TransportError> for OpenAIError {
    fn from(error: TransportError) -> Self {
        Self::Boxed(Box::new(error))
    }
}

impl TransportError {
    pub(super) fn failure(&self) -> ModelFailure {
        match self {
            Self::Refused(error) => {
                let ProviderError { status, retry_after, refusal, request_id } = error;
                let detail = format!("HTTP {status}, {}{request_id}", refusal.describe());
                ModelFailure::new(refusal.class(*status), detail)
                    .with_status(*status)
                    .with_retry_after(*retry_after)
            }
            Self::Unreachable(_) | Self::Lost(_) => {
                ModelFailure::new(FailureKind::Unavailable, self.to_string())
            }
            Self::Unsendable => ModelFailure::new(FailureKind::Rejected, self.to_string()),
            Self::Malformed(_) => {
                ModelFailure::new(FailureKind::Broken, self.to_string()).with_status(200)
            }
        }
    }

    /// How long to wait before the one retry; `None` when retrying is useless or not ours to do.
    fn pause_before_retry(&self) -> Option<Duration> {
        let jitter = Duration::from_millis(fastrand::u64(200..=500));
        match self {
            Self::Unreachable(_) => Some(jitter),
            Self::Refused(error) => match error.refusal.class(error.status) {
                FailureKind::Unavailable => {
                    let pause = error.retry_after.unwrap_or_default().max(jitter);
                    (pause <= LONGEST_PAUSE).then_some(pause)
                }
                FailureKind::RateLimited => {
                    error.retry_after.filter(|pause| *pause <= LONGEST_PAUSE)
                }
                FailureKind::QuotaExhausted
                | FailureKind::Rejected
                | FailureKind::TimedOut
                | FailureKind::Broken
                | FailureKind::Empty => None,
            },
            Self::Lost(_) | Self::Unsendable | Self::Malformed(_) => None,
        }
    }
}

/// The service that async-openai sends its requests through.
pub(super) fn service(
    http: reqwest::Client,
) -> impl tower::Service<
    HttpRequestFactory,
    Response = Response,
    Error = TransportError,
    Future: Send + 'static,
> + Clone
+ Send
+ Sync
+ 'static {
    tower::service_fn(move |factory| send(http.clone(), factory))
}

async fn send(
    http: reqwest::Client,
    factory: HttpRequestFactory,
) -> Result<Response, TransportError> {
    let response = match attempt(&http, &factory).await {
        Ok(response) => response,
        Err(error) => {
            let Some(pause) = error.pause_before_retry() else {
                return Err(error);
            };
            tracing::debug!("Retrying a model call after {} ms: {error}", pause.as_millis());
            sleep(pause).await;
            attempt(&http, &factory).await?
        }
    };
    if is_json(response.headers()) { stream_of_one(response).await } else { Ok(bounded(response)) }
}

async fn attempt(
    http: &reqwest::Client,
    factory: &HttpRequestFactory,
) -> Result<Response, TransportError> {
    let request = factory.build().await.map_err(|_| TransportError::Unsendable)?;
    let response = http.execute(request).await.map_err(|error| {
        let cause = root_cause(&error);
        if error.is_connect() {
            TransportError::Unreachable(cause)
        } else if error.is_builder() {
            TransportError::Unsendable
        } else {
            TransportError::Lost(cause)
        }
    })?;
    if response.status().is_success() {
        return Ok(response);
    }
    Err(TransportError::Refused(provider_error(response).await))
}

async fn provider_error(mut response: Response) -> ProviderError {
    let status = response.status().as_u16();
    let retry_after = retry_after(response.headers());
    let request_id = request_id(response.headers());
    let limit = Instant::now() + ERROR_BODY_WAIT;
    let mut body = Vec::new();
    while body.len() < ERROR_BODY_BYTES {
        let Ok(Ok(Some(piece))) = timeout_at(limit, response.chunk()).await else {
            break;
        };
        body.extend_from_slice(&piece);
    }
    ProviderError { status, retry_after, refusal: Refusal::parse(&body), request_id }
}

/// Seconds or, from some providers, milliseconds; the date form is not read.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let seconds = number("retry-after-ms").map(|ms| ms / 1_000.0);
    let seconds = seconds.or_else(|| number(RETRY_AFTER.as_str()))?;
    let wait = Duration::try_from_secs_f64(seconds).ok()?;
    Some(wait.min(LONGEST_WAIT))
}

/// The provider's own id of the call, which its support asks for.
fn request_id(headers: &HeaderMap) -> String {
    const MAX_CHARS: usize = 80;
    let id = headers.get("x-request-id").and_then(|id| id.to_str().ok());
    id.map(|id| format!(", request {}", id.chars().take(MAX_CHARS).collect::<String>()))
        .unwrap_or_default()
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.and_then(|value| value.split(';').next()).unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

/// Turns the answer of a server that ignores `stream` into a stream of one event.
async fn stream_of_one(mut response: Response) -> Result<Response, TransportError> {
    let mut body = Vec::new();
    loop {
        let piece = response.chunk().await.map_err(|_| TransportError::Malformed("was cut off"))?;
        let Some(piece) = piece else { break };
        if body.len() + piece.len() > JSON_BODY_BYTES {
            return Err(TransportError::Malformed("is larger than 4 MiB"));
        }
        body.extend_from_slice(&piece);
    }
    let value: Value =
        serde_json::from_slice(&body).map_err(|_| TransportError::Malformed("is not JSON"))?;
    Ok(event_stream(Body::from(format!("data: {value}\n\ndata: [DONE]\n\n"))))
}

fn bounded(response: Response) -> Response {
    // A last event without its blank line would be dropped by the parser.
    let end = stream::once(async { Ok(Bytes::from_static(b"\n\n")) });
    event_stream(Body::wrap_stream(limited(response.bytes_stream()).chain(end)))
}

fn limited(
    pieces: impl Stream<Item = Result<Bytes, reqwest::Error>>,
) -> impl Stream<Item = Result<Bytes, Box<dyn Error + Send + Sync>>> {
    let mut total = 0;
    let mut line = 0;
    pieces.map(move |piece| {
        let piece = piece?;
        total += piece.len();
        line = match piece.iter().rposition(|byte| *byte == b'\n') {
            Some(at) => piece.len() - at,
            None => line + piece.len(),
        };
        if total > STREAM_BYTES || line > STREAM_LINE_BYTES {
            return Err("the event stream is too large".into());
        }
        Ok(piece)
    })
}

fn event_stream(body: Body) -> Response {
    http::Response::new(body).into()
}
