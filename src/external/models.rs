//! Chat models: the interface, a sandbox model that needs no provider, and token counting.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use rust_decimal::Decimal;
use serde_json::{Map, Value};

/// A model that answers one message at a time.
pub trait ChatModel: Send + Sync + 'static {
    /// Name of the provider, for records and metrics, such as `openai` or `sandbox`.
    fn provider(&self) -> &str;

    /// Starts one call and streams its answer; nothing is sent before the first poll.
    ///
    /// A successful stream is one or more `Text`, at most one `Usage`, then exactly one `Finished`
    /// as its last item. A failed stream ends with exactly one `Err` instead, which may follow
    /// some `Text`. Dropping the stream ends the provider's request.
    fn chat(&self, request: ChatRequest) -> BoxStream<'static, Result<ChatEvent, ModelFailure>>;
}

/// One chat call to a model.
#[derive(Debug, Clone)]
pub struct ChatRequest {
    /// Our execution's id, sent to the provider as `Idempotency-Key`.
    pub execution_id: String,
    /// The provider's name of the model.
    pub model: String,
    /// Instructions that come before the input.
    pub system: Option<String>,
    /// The customer's message.
    pub input: String,
    /// Sampling temperature, usually 0 to 2.
    pub temperature: Decimal,
    /// Most tokens the model may write.
    pub max_tokens: u32,
    /// Allow-listed extra fields such as `top_p` or `stop`; our own fields win over them.
    pub options: Map<String, Value>,
}

/// One step of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChatEvent {
    /// The next piece of text, never empty.
    Text(String),
    /// What the provider counted; absent when it does not report usage.
    Usage(Usage),
    /// The answer is complete, and why it ended.
    Finished(FinishReason),
}

/// Tokens as the provider counted them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Tokens read: instructions, input and the provider's own framing.
    pub input_tokens: u32,
    /// Tokens written, including reasoning that is not shown.
    pub output_tokens: u32,
}

/// Why an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FinishReason {
    /// The model was done.
    Stop,
    /// `max_tokens` was reached.
    Length,
    /// The provider's content filter stopped the answer.
    ContentFilter,
    /// A reason of another provider, at most 40 characters.
    Other(String),
}

impl FinishReason {
    const MAX_CHARS: usize = 40;

    /// Reads the protocol's word; an empty one is no reason.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "" => None,
            "stop" => Some(Self::Stop),
            "length" => Some(Self::Length),
            "content_filter" => Some(Self::ContentFilter),
            other => Some(Self::Other(other.chars().take(Self::MAX_CHARS).collect())),
        }
    }

    /// The protocol's word, such as `stop`.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ContentFilter => "content_filter",
            Self::Other(word) => word,
        }
    }
}

/// Why a call gave no complete answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind:?}: {detail}")]
pub struct ModelFailure {
    /// The class, which decides what the failure costs.
    pub kind: FailureKind,
    /// For our log only, never for customers: at most 300 characters, no prompt, no answer.
    pub detail: String,
    /// How long the provider asks us to wait.
    pub retry_after: Option<Duration>,
    /// The provider's HTTP status, when it answered at all.
    pub status: Option<u16>,
}

impl ModelFailure {
    const MAX_DETAIL_CHARS: usize = 300;

    /// A failure without status or waiting time; the detail is cut to its limit.
    pub fn new(kind: FailureKind, detail: impl AsRef<str>) -> Self {
        let detail = detail.as_ref().chars().take(Self::MAX_DETAIL_CHARS).collect();
        Self { kind, detail, retry_after: None, status: None }
    }

    /// Adds the provider's HTTP status.
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Adds how long the provider asks us to wait.
    pub fn with_retry_after(mut self, retry_after: Option<Duration>) -> Self {
        self.retry_after = retry_after;
        self
    }
}

/// Classes of failure, as the ledger's table "What a failure costs" tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The provider's rate limit (429).
    RateLimited,
    /// Our account at the provider is out of money or quota.
    QuotaExhausted,
    /// The provider refuses the request: wrong model, parameter or key.
    Rejected,
    /// The provider cannot be reached or reports a fault of its own (5xx).
    Unavailable,
    /// No text in time.
    TimedOut,
    /// Ended or stalled after its first text, or the stream was malformed or incomplete.
    Broken,
    /// The model finished without writing anything.
    Empty,
}

/// Counts tokens with the `o200k` vocabulary (GPT-4o and later), in time linear in the text.
///
/// The first call in a process also loads the vocabulary.
pub fn count_tokens(text: &str) -> u32 {
    saturate(count(text))
}

/// An upper estimate of the input tokens a provider will count, for reserving credits.
///
/// Models with the `o200k` vocabulary: count × 1.02. Others: count × 1.35 or a third of the bytes,
/// whichever is more, but never more than the bytes, which bound every byte-level tokenizer. Both
/// add 3 tokens per message and 16 per request. Rounded up. Source: `ai.md` §7.3.
pub fn estimate_input_tokens(model: &str, system: Option<&str>, input: &str) -> u32 {
    let system = system.unwrap_or_default();
    let messages = if system.is_empty() { 1 } else { 2 };
    let counted = count(system) + count(input);
    let text = if has_o200k_vocabulary(model) {
        (counted * 102).div_ceil(100)
    } else {
        let bytes = (system.len() + input.len()) as u64;
        (counted * 135).div_ceil(100).max(bytes.div_ceil(3)).min(bytes)
    };
    saturate(text + 3 * messages + 16)
}

/// GPT-3.5 and GPT-4 before 4o have an older vocabulary that needs the wider margin.
fn has_o200k_vocabulary(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    let is_legacy = name == "gpt-4" || name.starts_with("gpt-4-") || name.starts_with("gpt-3");
    let is_o_series =
        name.strip_prefix('o').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    is_o_series || (name.starts_with("gpt-") && !is_legacy)
}

fn count(text: &str) -> u64 {
    bpe_openai::o200k_base().count(text) as u64
}

fn saturate(tokens: u64) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

/// A model without a provider: the same question always gets the same answer, for nothing.
///
/// It answers in Japanese when the input has kana or kanji, otherwise in English, marks the answer
/// as a sandbox answer and quotes up to 60 characters of the input. These words in the input show
/// every state a front end has to handle:
///
/// | word | what happens |
/// |---|---|
/// | `sandbox:fail-429` | fails at once with `RateLimited`, to be retried after 30 s |
/// | `sandbox:fail-500` | fails at once with `Unavailable` |
/// | `sandbox:cut` | writes half of the answer, then fails with `Broken` |
/// | `sandbox:hang` | writes nothing and fails with `TimedOut` after `hang` |
/// | `sandbox:slow` | the usual answer, with `slow_pause` before every piece |
#[derive(Debug, Clone)]
pub struct SandboxModel {
    /// Pause before each piece of text; zero streams as fast as it is read.
    pub pause: Duration,
    /// Pause before each piece under `sandbox:slow`.
    pub slow_pause: Duration,
    /// How long `sandbox:hang` stays silent.
    pub hang: Duration,
}

impl Default for SandboxModel {
    /// Paced like a quick model: 40 ms per piece, 1.5 s when slow, 20 s of silence when hanging.
    fn default() -> Self {
        Self {
            pause: Duration::from_millis(40),
            slow_pause: Duration::from_millis(1_500),
            hang: Duration::from_secs(20),
        }
    }
}

impl ChatModel for SandboxModel {
    fn provider(&self) -> &str {
        "sandbox"
    }

    fn chat(&self, request: ChatRequest) -> BoxStream<'static, Result<ChatEvent, ModelFailure>> {
        match Scenario::named_in(&request.input) {
            Scenario::Answer => play(sandbox_answer(&request), self.pause),
            Scenario::Slow => play(sandbox_answer(&request), self.slow_pause),
            Scenario::Cut => play(cut(sandbox_answer(&request)), self.pause),
            Scenario::RateLimited => {
                let failure = ModelFailure::new(FailureKind::RateLimited, "sandbox:fail-429")
                    .with_status(429)
                    .with_retry_after(Some(Duration::from_secs(30)));
                fail_after(Duration::ZERO, failure)
            }
            Scenario::Unavailable => {
                let failure = ModelFailure::new(FailureKind::Unavailable, "sandbox:fail-500");
                fail_after(Duration::ZERO, failure.with_status(500))
            }
            Scenario::Hang => {
                fail_after(self.hang, ModelFailure::new(FailureKind::TimedOut, "sandbox:hang"))
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Scenario {
    Answer,
    Slow,
    Cut,
    RateLimited,
    Unavailable,
    Hang,
}

impl Scenario {
    const WORDS: [(&'static str, Self); 5] = [
        ("sandbox:fail-429", Self::RateLimited),
        ("sandbox:fail-500", Self::Unavailable),
        ("sandbox:cut", Self::Cut),
        ("sandbox:hang", Self::Hang),
        ("sandbox:slow", Self::Slow),
    ];

    fn named_in(input: &str) -> Self {
        let named = Self::WORDS.iter().find(|(word, _)| input.contains(word));
        named.map_or(Self::Answer, |(_, scenario)| *scenario)
    }
}

type Events = Vec<Result<ChatEvent, ModelFailure>>;

fn sandbox_answer(request: &ChatRequest) -> Events {
    let whole = sandbox_text(&request.input);
    let text = first_tokens(&whole, request.max_tokens.max(1));
    let reason = if text == whole { FinishReason::Stop } else { FinishReason::Length };
    let system = request.system.as_deref().unwrap_or_default();
    let usage = Usage {
        input_tokens: saturate(count(system) + count(&request.input)),
        output_tokens: count_tokens(&text),
    };
    let text = pieces(&text).into_iter().map(ChatEvent::Text);
    text.chain([ChatEvent::Usage(usage), ChatEvent::Finished(reason)]).map(Ok).collect()
}

fn sandbox_text(input: &str) -> String {
    const QUOTED_CHARS: usize = 60;
    let line: Vec<&str> = input.split_whitespace().collect();
    let line = line.join(" ");
    let mut quote: String = line.chars().take(QUOTED_CHARS).collect();
    if quote.len() < line.len() {
        quote.push('…');
    }
    if input.chars().any(is_kana_or_kanji) {
        format!(
            "【サンドボックス応答】「{quote}」について承りました。実際のAIは呼び出していません。\
             ご滞在中のご要望は、フロント係が確認のうえ、折り返しご案内いたします。"
        )
    } else {
        format!(
            "[Sandbox answer] Thank you for your message: \"{quote}\". No AI model was called. \
             Our front desk will look into it and come back to you shortly."
        )
    }
}

fn is_kana_or_kanji(c: char) -> bool {
    matches!(c,
        '\u{3005}' | '\u{3040}'..='\u{30FF}' | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}'
        | '\u{FF66}'..='\u{FF9D}')
}

/// The longest beginning of `text` within the limit, but at least one character.
fn first_tokens(text: &str, max_tokens: u32) -> String {
    let mut kept = text.to_owned();
    while count_tokens(&kept) > max_tokens && kept.chars().nth(1).is_some() {
        kept.pop();
    }
    kept
}

/// Cuts a text into 3 to 8 pieces, fewer only when it has fewer characters.
fn pieces(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let pieces = (3 + chars.len() % 6).min(chars.len()).max(1);
    let edge = |piece: usize| piece * chars.len() / pieces;
    (0..pieces).map(|piece| chars[edge(piece)..edge(piece + 1)].iter().collect()).collect()
}

fn cut(mut events: Events) -> Events {
    let is_text = |event: &Result<ChatEvent, ModelFailure>| matches!(event, Ok(ChatEvent::Text(_)));
    let texts = events.iter().filter(|event| is_text(event)).count();
    events.truncate(texts.div_ceil(2));
    events.push(Err(ModelFailure::new(FailureKind::Broken, "sandbox:cut")));
    events
}

fn play(events: Events, pause: Duration) -> BoxStream<'static, Result<ChatEvent, ModelFailure>> {
    stream::iter(events)
        .then(move |event| async move {
            if matches!(event, Ok(ChatEvent::Text(_))) && !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            event
        })
        .boxed()
}

fn fail_after(
    wait: Duration,
    failure: ModelFailure,
) -> BoxStream<'static, Result<ChatEvent, ModelFailure>> {
    stream::once(async move {
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Err(failure)
    })
    .boxed()
}
