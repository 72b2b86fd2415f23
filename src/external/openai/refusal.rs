//! What a provider's error body says, in whatever shape it comes.

use serde_json::Value;

use crate::external::models::FailureKind;

/// The parts of an error body that are words of the protocol.
///
/// The message is left out on purpose: providers quote the request in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Refusal {
    kind: Option<String>,
    code: Option<String>,
    param: Option<String>,
}

impl Refusal {
    /// Reads a body; one that is not JSON says nothing.
    pub(super) fn parse(body: &[u8]) -> Self {
        serde_json::from_slice(body).map(|body| Self::read(&body)).unwrap_or_default()
    }

    /// Reads `{"error": {…}}`, a bare error object, or a list of either.
    pub(super) fn read(body: &Value) -> Self {
        let body = body.get(0).unwrap_or(body);
        let error = body.get("error").unwrap_or(body);
        // Google's compatible endpoint has its class in `status`.
        let kind = word(error.get("type")).or_else(|| word(error.get("status")));
        Self { kind, code: word(error.get("code")), param: word(error.get("param")) }
    }

    /// The class of a response with this status.
    pub(super) fn class(&self, status: u16) -> FailureKind {
        match status {
            402 => FailureKind::QuotaExhausted,
            429 if self.says("insufficient_quota") => FailureKind::QuotaExhausted,
            429 => FailureKind::RateLimited,
            500.. => FailureKind::Unavailable,
            _ => FailureKind::Rejected,
        }
    }

    /// The class of an error that came inside a stream, where only the body can tell.
    pub(super) fn class_in_stream(&self) -> FailureKind {
        let status = self.status().filter(|status| (400..600).contains(status));
        if self.says("insufficient_quota") {
            FailureKind::QuotaExhausted
        } else if let Some(status) = status {
            self.class(status)
        } else if self.says("rate_limit_exceeded") || self.says("rate_limit_error") {
            FailureKind::RateLimited
        } else if self.says("invalid_request_error") {
            FailureKind::Rejected
        } else {
            FailureKind::Unavailable
        }
    }

    /// The status that some providers repeat as the error's code.
    pub(super) fn status(&self) -> Option<u16> {
        self.code.as_deref().and_then(|code| code.parse().ok())
    }

    /// For the log, such as `type=server_error code=500`.
    pub(super) fn describe(&self) -> String {
        let parts = [("type", &self.kind), ("code", &self.code), ("param", &self.param)];
        let known = parts
            .iter()
            .filter_map(|(name, word)| word.as_ref().map(|word| format!("{name}={word}")));
        let known: Vec<String> = known.collect();
        if known.is_empty() { "no error type or code".to_owned() } else { known.join(" ") }
    }

    fn says(&self, word: &str) -> bool {
        self.kind.as_deref() == Some(word) || self.code.as_deref() == Some(word)
    }
}

/// A number or an identifier; anything that could be prose is refused.
fn word(value: Option<&Value>) -> Option<String> {
    const MAX_BYTES: usize = 64;
    match value? {
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => {
            let is_identifier = text.len() <= MAX_BYTES
                && !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-[]".contains(&b));
            is_identifier.then(|| text.clone())
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}
