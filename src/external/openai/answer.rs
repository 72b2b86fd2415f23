//! Reads the event stream of one answer.

use std::collections::VecDeque;
use std::time::Duration;

use async_openai::error::OpenAIError;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::external::models::{ChatEvent, FailureKind, FinishReason, ModelFailure, Usage};

use super::Timeouts;
use super::refusal::Refusal;
use super::transport::TransportError;

/// The longest answer we pass on, in characters.
const MAX_CHARS: usize = 400_000;
/// How long the usage and the end may come after the finish reason.
const FINISH_GRACE: Duration = Duration::from_secs(2);

pub(super) type Upstream = BoxStream<'static, Result<Chunk, OpenAIError>>;

/// What we read of a chunk. Providers differ in everything else, so nothing else is looked at.
#[derive(Debug, Deserialize)]
pub(super) struct Chunk {
    choices: Option<Vec<Choice>>,
    usage: Option<ReportedUsage>,
    error: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    delta: Option<Message>,
    /// In place of `delta` when the server ignored `stream`.
    message: Option<Message>,
    finish_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Message {
    content: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct ReportedUsage {
    prompt_tokens: Option<f64>,
    completion_tokens: Option<f64>,
}

/// An answer being read; `next` yields its events until it has ended.
pub(super) struct Answer {
    upstream: Option<Upstream>,
    first_token_by: Instant,
    end_by: Instant,
    idle: Duration,
    chars: usize,
    usage: Option<Usage>,
    finish: Option<FinishReason>,
    ready: VecDeque<Result<ChatEvent, ModelFailure>>,
}

impl Answer {
    pub(super) fn new(upstream: Upstream, started: Instant, timeouts: Timeouts) -> Self {
        Self {
            upstream: Some(upstream),
            first_token_by: started + timeouts.first_token,
            end_by: started + timeouts.total,
            idle: timeouts.idle,
            chars: 0,
            usage: None,
            finish: None,
            ready: VecDeque::new(),
        }
    }

    /// An answer that never began.
    pub(super) fn failed(failure: ModelFailure) -> Self {
        let now = Instant::now();
        Self {
            upstream: None,
            first_token_by: now,
            end_by: now,
            idle: Duration::ZERO,
            chars: 0,
            usage: None,
            finish: None,
            ready: VecDeque::from([Err(failure)]),
        }
    }

    pub(super) async fn next(&mut self) -> Option<Result<ChatEvent, ModelFailure>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let limit = self.limit();
            let upstream = self.upstream.as_mut()?;
            match timeout_at(limit, upstream.next()).await {
                Ok(Some(Ok(chunk))) => self.take(chunk),
                Ok(Some(Err(error))) => self.end(failure(error)),
                Ok(None) => self.end(broken("the stream ended without a finish reason")),
                Err(_elapsed) if self.chars == 0 => self.end(timed_out("no text in time")),
                Err(_elapsed) => self.end(broken("the stream stalled or took too long")),
            }
        }
    }

    fn limit(&self) -> Instant {
        let limit = if self.finish.is_some() {
            Instant::now() + FINISH_GRACE.min(self.idle)
        } else if self.chars == 0 {
            self.first_token_by
        } else {
            Instant::now() + self.idle
        };
        limit.min(self.end_by)
    }

    fn take(&mut self, chunk: Chunk) {
        if let Some(error) = chunk.error {
            return self.end(self.interruption(&error));
        }
        if let Some(usage) = chunk.usage.and_then(ReportedUsage::complete) {
            self.usage = Some(usage);
        }
        // We never ask for more than one choice.
        let Some(choice) = chunk.choices.unwrap_or_default().into_iter().next() else {
            return;
        };
        let message = choice.delta.or(choice.message);
        if let Some(Value::String(text)) = message.and_then(|message| message.content) {
            self.take_text(text);
        }
        match choice.finish_reason.as_deref() {
            // OpenRouter's word for an answer that its provider broke off.
            Some("error") => self.end(self.interruption(&Value::Null)),
            Some(word) => self.finish = FinishReason::parse(word).or(self.finish.take()),
            None => {}
        }
    }

    fn take_text(&mut self, text: String) {
        if text.is_empty() || self.upstream.is_none() {
            return;
        }
        self.chars += text.chars().count();
        if self.chars > MAX_CHARS {
            self.finish = None;
            return self.end(broken("the answer is longer than 400000 characters"));
        }
        self.ready.push_back(Ok(ChatEvent::Text(text)));
    }

    /// An error in the middle of the stream keeps its class only while nothing was written.
    fn interruption(&self, error: &Value) -> ModelFailure {
        let refusal = Refusal::read(error);
        let kind = if self.chars == 0 { refusal.class_in_stream() } else { FailureKind::Broken };
        let detail = format!("error in the stream, {}", refusal.describe());
        let failure = ModelFailure::new(kind, detail);
        match refusal.status() {
            Some(status) => failure.with_status(status),
            None => failure,
        }
    }

    /// Ends the request; a finish reason that was seen makes it a success in spite of `failure`.
    fn end(&mut self, failure: ModelFailure) {
        if self.upstream.take().is_none() {
            return;
        }
        match self.finish.take() {
            None => self.ready.push_back(Err(failure)),
            Some(reason) if self.chars == 0 => {
                let detail = format!("finished without text: {}", reason.as_str());
                self.ready.push_back(Err(ModelFailure::new(FailureKind::Empty, detail)));
            }
            Some(reason) => {
                self.ready.extend(self.usage.take().map(|usage| Ok(ChatEvent::Usage(usage))));
                self.ready.push_back(Ok(ChatEvent::Finished(reason)));
            }
        }
    }
}

impl ReportedUsage {
    /// Both numbers, zero included; half a report is none. The casts saturate.
    fn complete(self) -> Option<Usage> {
        Some(Usage {
            input_tokens: self.prompt_tokens? as u32,
            output_tokens: self.completion_tokens? as u32,
        })
    }
}

pub(super) fn timed_out(detail: &str) -> ModelFailure {
    ModelFailure::new(FailureKind::TimedOut, detail)
}

fn broken(detail: &str) -> ModelFailure {
    ModelFailure::new(FailureKind::Broken, detail)
}

/// The class of a library error. Its text is never used: it may quote the body.
pub(super) fn failure(error: OpenAIError) -> ModelFailure {
    match error {
        OpenAIError::Boxed(error) => match error.downcast_ref::<TransportError>() {
            Some(error) => error.failure(),
            None => ModelFailure::new(FailureKind::Unavailable, "unknown transport error"),
        },
        OpenAIError::Reqwest(_) => {
            ModelFailure::new(FailureKind::Unavailable, "unknown HTTP error")
        }
        OpenAIError::JSONDeserialize(error, _) => {
            broken(&format!("malformed chunk: {:?} at column {}", error.classify(), error.column()))
        }
        OpenAIError::StreamError(_) => broken("the event stream was cut off or malformed"),
        OpenAIError::ApiError(error) => {
            let status = error.status_code.as_u16();
            ModelFailure::new(Refusal::default().class(status), "error response")
                .with_status(status)
        }
        OpenAIError::InvalidArgument(_)
        | OpenAIError::FileSaveError(_)
        | OpenAIError::FileReadError(_) => {
            ModelFailure::new(FailureKind::Rejected, "request could not be built")
        }
    }
}
