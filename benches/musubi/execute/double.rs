//! A double of a chat provider that streams the same answer at once, as OpenAI's protocol has it.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::Response;
use axum::routing::post;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::pairs::ANSWER;

/// Starts the double on a free port.
pub(super) async fn start() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let events: Vec<Bytes> = events();
    let answer = move |_: Bytes| {
        let events = events.clone();
        async move { streamed(events) }
    };
    let routes = Router::new().route("/v1/chat/completions", post(answer));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address
}

/// A request as the program sends it.
pub(super) fn request() -> String {
    json!({ "model": "gpt-4o-mini", "messages": [{ "role": "user", "content": "朝食は？" }],
        "temperature": 0.7, "max_completion_tokens": 200, "stream": true,
        "stream_options": { "include_usage": true } })
    .to_string()
}

fn events() -> Vec<Bytes> {
    let chunk = |choices: Value, usage: Value| {
        json!({ "id": "chatcmpl-double", "object": "chat.completion.chunk",
            "created": 1_760_000_000, "model": "gpt-4o-mini", "choices": choices, "usage": usage })
    };
    let choice = |delta: Value, reason: Value| json!([{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": reason }]);
    let opening = json!({ "role": "assistant", "content": "", "refusal": null });
    let usage = json!({ "prompt_tokens": 24, "completion_tokens": 14, "total_tokens": 38 });
    let events = [
        chunk(choice(opening, Value::Null), Value::Null).to_string(),
        chunk(choice(json!({ "content": ANSWER }), Value::Null), Value::Null).to_string(),
        chunk(choice(json!({}), json!("stop")), Value::Null).to_string(),
        chunk(json!([]), usage).to_string(),
        "[DONE]".to_owned(),
    ];
    events.iter().map(|event| Bytes::from(format!("data: {event}\n\n"))).collect()
}

fn streamed(events: Vec<Bytes>) -> Response {
    let events = stream::iter(events.into_iter().map(Ok::<_, Infallible>));
    let mut response = Response::new(Body::from_stream(events));
    let kind = http::HeaderValue::from_static("text/event-stream; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}
