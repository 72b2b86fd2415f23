//! A double of a chat provider: a real HTTP server that speaks OpenAI's protocol.
//!
//! It checks what a real server checks (key, model, messages), honours `stream`,
//! `stream_options.include_usage` and the token limit, and does what its script says.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::post;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What the server does with one call.
#[derive(Debug, Clone)]
pub(crate) enum Behaviour {
    /// Streams `text`, cut to the token limit, in `pieces` with `delay` before each.
    Answer { text: String, usage: Option<(u32, u32)>, pieces: usize, delay: Duration },
    /// Ignores `stream` and answers with one JSON body.
    Json { text: String, usage: Option<(u32, u32)> },
    /// Any status with any body.
    Status {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
        content_type: &'static str,
    },
    /// 200 with a page of HTML, like a captive portal.
    NonJson,
    /// OpenRouter's error: the status repeated as a number in `error.code`.
    NumericError { status: u16 },
    /// Takes the request and never answers.
    Hang,
    /// Stalls after this many pieces.
    HangAfter(usize),
    /// Ends the response after this many pieces, in good form but without a finish reason.
    Cut(usize),
    /// Breaks the connection after this many pieces.
    Reset(usize),
    /// Sends this `error` after this many pieces, then ends.
    MidStreamError { pieces: usize, error: Value },
    /// A good answer that reports no usage though it was asked for.
    OmitUsage,
    /// Finishes without text.
    EmptyAnswer,
    /// Writes this many characters whatever the token limit says.
    IgnoreMaxTokens(usize),
    /// Sends these events' data as they are, then ends the response or keeps it open.
    Raw { events: Vec<String>, stays_open: bool },
}

/// The text of every answer that does not bring its own.
pub(crate) const ANSWER: &str = "Breakfast is served from seven to ten in the garden room.";

impl Behaviour {
    /// A good answer in four pieces that reports 12 input and 34 output tokens.
    pub(crate) fn answer(text: &str) -> Self {
        Self::Answer {
            text: text.to_owned(),
            usage: Some((12, 34)),
            pieces: 4,
            delay: Duration::ZERO,
        }
    }

    /// A status with a JSON body.
    pub(crate) fn status(status: u16, body: &Value) -> Self {
        Self::Status {
            status,
            headers: Vec::new(),
            body: body.to_string(),
            content_type: "application/json",
        }
    }

    /// OpenAI's 429, with `Retry-After` in seconds.
    pub(crate) fn rate_limit(retry_after: &str) -> Self {
        let error = json!({"message": "Rate limit reached", "type": "requests", "param": null,
            "code": "rate_limit_exceeded"});
        Self::Status {
            status: 429,
            headers: vec![("retry-after", retry_after.to_owned())],
            body: json!({"error": error}).to_string(),
            content_type: "application/json",
        }
    }
}

/// The running server; dropping it closes its port.
pub(crate) struct ModelServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    _server: JoinSet<io::Result<()>>,
}

struct Shared {
    script: Mutex<Script>,
    calls: watch::Sender<usize>,
    aborted: watch::Sender<usize>,
}

struct Script {
    queue: VecDeque<Behaviour>,
    default: Behaviour,
    requests: Vec<Value>,
    headers: Vec<HeaderMap>,
}

impl ModelServer {
    /// Listens on a free local port and answers every call with [`ANSWER`] until told otherwise.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.unwrap_or_else(|error| unreachable!("no local port: {error}"));
        let address = listener.local_addr();
        let address = address.unwrap_or_else(|error| unreachable!("no local address: {error}"));
        let shared = Arc::new(Shared {
            script: Mutex::new(Script {
                queue: VecDeque::new(),
                default: Behaviour::answer(ANSWER),
                requests: Vec::new(),
                headers: Vec::new(),
            }),
            calls: watch::Sender::new(0),
            aborted: watch::Sender::new(0),
        });
        let routes = Router::new()
            .route("/v1/chat/completions", post(complete))
            .with_state(Arc::clone(&shared));
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, routes).await });
        Self { address, shared, _server: server }
    }

    /// The base URL to configure, version included.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Queues what to do with the next call that has no behaviour yet.
    pub(crate) fn respond(&self, behaviour: Behaviour) -> &Self {
        self.shared.script().queue.push_back(behaviour);
        self
    }

    /// Sets what to do when the queue is empty.
    pub(crate) fn respond_by_default(&self, behaviour: Behaviour) -> &Self {
        self.shared.script().default = behaviour;
        self
    }

    /// Calls received so far, retries included.
    pub(crate) fn calls(&self) -> usize {
        *self.shared.calls.borrow()
    }

    /// Waits until this many calls were received.
    pub(crate) async fn wait_for_calls(&self, calls: usize) {
        let mut seen = self.shared.calls.subscribe();
        let _ = seen.wait_for(|seen| *seen >= calls).await;
    }

    /// The bodies of all calls, in order of arrival.
    pub(crate) fn requests(&self) -> Vec<Value> {
        self.shared.script().requests.clone()
    }

    /// The headers of all calls, in order of arrival.
    pub(crate) fn headers(&self) -> Vec<HeaderMap> {
        self.shared.script().headers.clone()
    }

    /// Calls whose client closed the connection before the answer was complete.
    pub(crate) fn aborted(&self) -> usize {
        *self.shared.aborted.borrow()
    }

    /// Waits until this many calls were aborted by their client.
    pub(crate) async fn wait_for_aborted(&self, calls: usize) {
        let mut seen = self.shared.aborted.subscribe();
        let _ = seen.wait_for(|seen| *seen >= calls).await;
    }
}

impl Shared {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a call as aborted unless its answer was completed.
struct Watch {
    shared: Arc<Shared>,
    is_complete: bool,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.is_complete {
            self.shared.aborted.send_modify(|aborted| *aborted += 1);
        }
    }
}

async fn complete(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let mut watch = Watch { shared: Arc::clone(&shared), is_complete: false };
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let refusal = refuse(&headers, &request);
    let behaviour = {
        let mut script = shared.script();
        script.headers.push(headers);
        script.requests.push(request.clone());
        script.queue.pop_front().unwrap_or_else(|| script.default.clone())
    };
    shared.calls.send_modify(|calls| *calls += 1);
    if matches!(behaviour, Behaviour::Hang) {
        std::future::pending::<()>().await;
    }
    if let Some(response) = refusal.or_else(|| whole(&behaviour, &request)) {
        watch.is_complete = true;
        return response;
    }
    streamed(script_of(behaviour, &request), watch)
}

/// What a real server refuses before it looks for a model.
fn refuse(headers: &HeaderMap, request: &Value) -> Option<Response> {
    let key = headers.get("authorization").and_then(|value| value.to_str().ok());
    if !key.is_some_and(|key| key.starts_with("Bearer ") && key.len() > 7) {
        return Some(error(401, "You didn't provide an API key.", "invalid_api_key"));
    }
    let has_messages = request["messages"].as_array().is_some_and(|list| !list.is_empty());
    if !request["model"].is_string() || !has_messages {
        return Some(error(400, "You must provide a model and messages.", "missing_parameter"));
    }
    None
}

fn error(status: u16, message: &str, code: &str) -> Response {
    let error = json!({"message": message, "type": "invalid_request_error", "param": null,
        "code": code});
    respond(status, "application/json", &[], json!({"error": error}).to_string().into())
}

fn respond(
    status: u16,
    content_type: &'static str,
    headers: &[(&'static str, String)],
    body: Body,
) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    if !content_type.is_empty() {
        response.headers_mut().insert("content-type", HeaderValue::from_static(content_type));
    }
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}

/// Behaviours that answer in one piece.
fn whole(behaviour: &Behaviour, request: &Value) -> Option<Response> {
    let is_streaming = request["stream"].as_bool().unwrap_or(false);
    match behaviour {
        Behaviour::Status { status, headers, body, content_type } => {
            Some(respond(*status, content_type, headers, body.clone().into()))
        }
        Behaviour::NumericError { status } => {
            let error = json!({"code": status, "message": "Provider returned error",
                "metadata": {"provider_name": "Double", "raw": "limit"}});
            let body = json!({"error": error, "user_id": "user_1"}).to_string();
            Some(respond(*status, "application/json", &[], body.into()))
        }
        Behaviour::NonJson => {
            let page = "<!doctype html>\n<title>Welcome</title>\n<p>Please sign in.</p>\n";
            Some(respond(200, "text/html; charset=utf-8", &[], page.into()))
        }
        Behaviour::Json { text, usage } => Some(completion(request, text, *usage)),
        Behaviour::Answer { text, usage, .. } if !is_streaming => {
            Some(completion(request, text, *usage))
        }
        _ => None,
    }
}

fn completion(request: &Value, text: &str, usage: Option<(u32, u32)>) -> Response {
    let (text, finish_reason) = limited(text, request);
    let choice = json!({"index": 0, "message": {"role": "assistant", "content": text,
        "refusal": null}, "logprobs": null, "finish_reason": finish_reason});
    let mut body = json!({"id": "chatcmpl-double", "object": "chat.completion",
        "created": 1_760_000_000, "model": request["model"], "choices": [choice],
        "system_fingerprint": "fp_double"});
    if let Some(usage) = usage {
        body["usage"] = usage_object(usage);
    }
    let body = serde_json::to_string_pretty(&body).unwrap_or_default();
    respond(200, "application/json", &[], body.into())
}

/// The events of one answer and how the response ends.
struct Plan {
    events: Vec<String>,
    delay: Duration,
    ending: Ending,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Close,
    Hang,
    Reset,
}

fn script_of(behaviour: Behaviour, request: &Value) -> Plan {
    let is_usage_wanted = request["stream_options"]["include_usage"].as_bool().unwrap_or(false);
    let mut delay = Duration::ZERO;
    let mut ending = Ending::Close;
    let answer = |text: &str, pieces, finish: Option<&str>, usage: Option<(u32, u32)>| {
        answer_events(request, text, pieces, finish, usage.filter(|_| is_usage_wanted))
    };
    let events = match behaviour {
        Behaviour::Answer { text, usage, pieces, delay: pause } => {
            delay = pause;
            let (text, finish) = limited(&text, request);
            answer(&text, pieces, Some(finish), usage)
        }
        Behaviour::OmitUsage => answer(ANSWER, 4, Some("stop"), None),
        Behaviour::EmptyAnswer => answer("", 0, Some("stop"), Some((12, 0))),
        Behaviour::IgnoreMaxTokens(chars) => {
            let text: String = ANSWER.chars().cycle().take(chars).collect();
            answer(&text, chars / 1_000 + 1, Some("stop"), Some((12, 34)))
        }
        Behaviour::HangAfter(pieces) => {
            ending = Ending::Hang;
            answer(ANSWER, pieces, None, None)
        }
        Behaviour::Cut(pieces) => answer(ANSWER, pieces, None, None),
        Behaviour::Reset(pieces) => {
            ending = Ending::Reset;
            answer(ANSWER, pieces, None, None)
        }
        Behaviour::MidStreamError { pieces, error } => {
            let mut events = answer(ANSWER, pieces, None, None);
            events.push(json!({"error": error}).to_string());
            events
        }
        Behaviour::Raw { events, stays_open } => {
            ending = if stays_open { Ending::Hang } else { Ending::Close };
            events
        }
        Behaviour::Json { .. }
        | Behaviour::Status { .. }
        | Behaviour::NonJson
        | Behaviour::NumericError { .. }
        | Behaviour::Hang => Vec::new(),
    };
    Plan { events, delay, ending }
}

/// The events of OpenAI's stream; without a finish reason the stream just stops.
fn answer_events(
    request: &Value,
    text: &str,
    pieces: usize,
    finish: Option<&str>,
    usage: Option<(u32, u32)>,
) -> Vec<String> {
    let chunk = |choices: Value, usage: Value| {
        let mut chunk = json!({"id": "chatcmpl-double", "object": "chat.completion.chunk",
            "created": 1_760_000_000, "model": request["model"], "service_tier": "default",
            "system_fingerprint": "fp_double", "choices": choices, "usage": usage});
        chunk["obfuscation"] = "x8Kq".into();
        chunk.to_string()
    };
    let choice = |delta: Value, reason: Option<&str>| {
        let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": reason});
        Value::Array(vec![choice])
    };
    let opening = json!({"role": "assistant", "content": "", "refusal": null});
    let mut events = vec![chunk(choice(opening, None), Value::Null)];
    let chars: Vec<char> = text.chars().collect();
    for piece in 0..pieces {
        let range = piece * chars.len() / pieces..(piece + 1) * chars.len() / pieces;
        let content: String = chars[range].iter().collect();
        events.push(chunk(choice(json!({"content": content}), None), Value::Null));
    }
    if finish.is_some() {
        events.push(chunk(choice(json!({}), finish), Value::Null));
        if let Some(usage) = usage {
            events.push(chunk(json!([]), usage_object(usage)));
        }
        events.push("[DONE]".to_owned());
    }
    events
}

fn usage_object((input, output): (u32, u32)) -> Value {
    json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0}})
}

/// Cuts the text to the request's token limit, at four bytes a token.
fn limited(text: &str, request: &Value) -> (String, &'static str) {
    let limit = request["max_completion_tokens"].as_u64().or(request["max_tokens"].as_u64());
    let max_bytes = limit.map_or(usize::MAX, |tokens| tokens as usize * 4);
    if text.len() <= max_bytes {
        return (text.to_owned(), "stop");
    }
    (text[..text.floor_char_boundary(max_bytes)].to_owned(), "length")
}

fn streamed(plan: Plan, watch: Watch) -> Response {
    let Plan { events, delay, ending } = plan;
    let events = stream::iter(events).then(move |event| async move {
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        Ok::<_, io::Error>(Bytes::from(format!("data: {event}\n\n")))
    });
    let end = stream::once(async move {
        let mut watch = watch;
        match ending {
            Ending::Close => {}
            Ending::Hang => match std::future::pending::<Infallible>().await {},
            Ending::Reset => {
                watch.is_complete = true;
                // Lets the server flush: a broken body would take unsent pieces with it.
                tokio::task::yield_now().await;
                return Err(io::Error::other("reset by the script"));
            }
        }
        watch.is_complete = true;
        Ok(Bytes::new())
    });
    let body = Body::from_stream(events.chain(end));
    respond(200, "text/event-stream; charset=utf-8", &[], body)
}
