//! What the chat client makes of refusals, faults, timeouts and broken streams.

use std::time::Duration;

use musubi::external::models::FailureKind;
use musubi::external::openai::{OpenAiModel, Timeouts};
use serde_json::{Value, json};

use super::{PATIENT, finish_chunk, model, outcome_of, question, raw, read, settings, text_chunk};
use crate::support::model_server::{ANSWER, Behaviour, ModelServer};

#[tokio::test]
async fn an_endless_answer_is_broken_off() {
    let outcome = outcome_of(Behaviour::IgnoreMaxTokens(450_000)).await;
    assert_eq!(outcome.kind(), Some(FailureKind::Broken));
    assert!((399_000..=400_000).contains(&outcome.text().len()));
}

#[tokio::test]
async fn a_line_without_end_is_broken_off() {
    let line = "x".repeat(2 * 1024 * 1024);
    let outcome = outcome_of(raw(&[text_chunk("Hello"), text_chunk(&line)])).await;
    assert_eq!(outcome.kind(), Some(FailureKind::Broken));
    assert_eq!(outcome.text(), "Hello");
}

#[tokio::test]
async fn a_plain_body_that_is_too_large_or_no_json_is_broken() {
    let large = json!({"choices": [{"message": {"content": "x".repeat(5 * 1024 * 1024)},
        "finish_reason": "stop"}]});
    let outcome = outcome_of(Behaviour::status(200, &large)).await;
    assert_eq!(outcome.kind(), Some(FailureKind::Broken));

    let outcome = outcome_of(Behaviour::Status {
        status: 200,
        headers: Vec::new(),
        body: "{\"choices\": [".to_owned(),
        content_type: "application/json; charset=utf-8",
    });
    assert_eq!(outcome.await.kind(), Some(FailureKind::Broken));
    assert_eq!(outcome_of(Behaviour::NonJson).await.kind(), Some(FailureKind::Broken));
}

#[tokio::test]
async fn an_error_in_a_plain_success_keeps_its_class() {
    let body = json!({"error": {"code": 402, "message": "no credits"}});
    let outcome = outcome_of(Behaviour::status(200, &body)).await;
    assert_eq!(outcome.kind(), Some(FailureKind::QuotaExhausted));
}

#[tokio::test]
async fn every_status_has_its_class_whatever_the_body_looks_like() {
    use FailureKind::{QuotaExhausted, RateLimited, Rejected, Unavailable};
    let quota = json!({"error": {"type": "insufficient_quota", "code": null}});
    let quota_code = json!({"error": {"type": null, "code": "insufficient_quota"}});
    let no_model = json!({"error": {"message": "no such model", "code": "model_not_found"}});
    let google = json!([{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}]);
    let mistral = json!({"object": "error", "message": "bad", "type": "invalid", "code": 1});
    let numeric = |status| Behaviour::NumericError { status };
    let cases = [
        (Behaviour::status(429, &quota), 429, QuotaExhausted, 1),
        (Behaviour::status(429, &quota_code), 429, QuotaExhausted, 1),
        (Behaviour::status(429, &google), 429, RateLimited, 1),
        (Behaviour::rate_limit("86400"), 429, RateLimited, 1),
        (Behaviour::rate_limit("Wed, 21 Oct 2099 07:28:00 GMT"), 429, RateLimited, 1),
        (Behaviour::status(400, &mistral), 400, Rejected, 1),
        (Behaviour::status(401, &Value::Null), 401, Rejected, 1),
        (Behaviour::status(404, &no_model), 404, Rejected, 1),
        (Behaviour::status(307, &Value::Null), 307, Rejected, 1),
        (Behaviour::status(500, &json!([])), 500, Unavailable, 2),
        (numeric(402), 402, QuotaExhausted, 1),
        (numeric(429), 429, RateLimited, 1),
        (numeric(503), 503, Unavailable, 2),
    ];
    for (behaviour, status, kind, calls) in cases {
        let server = ModelServer::start().await;
        server.respond_by_default(behaviour.clone());
        let outcome = read(&model(&server, PATIENT), question("When is breakfast?")).await;
        let seen = (outcome.kind(), outcome.status(), server.calls());
        assert_eq!(seen, (Some(kind), Some(status), calls), "{behaviour:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_no_json_does_not_lose_the_status() {
    let bodies = [("", ""), ("text/plain", "slow down"), ("text/html", "<h1>Too many</h1>")];
    for (content_type, body) in bodies {
        let outcome = outcome_of(Behaviour::Status {
            status: 429,
            headers: Vec::new(),
            body: body.to_owned(),
            content_type,
        });
        let outcome = outcome.await;
        assert_eq!(outcome.kind(), Some(FailureKind::RateLimited));
        assert_eq!(outcome.status(), Some(429));
    }
}

#[tokio::test]
async fn the_log_detail_names_the_error_but_never_quotes_the_message() {
    let error = json!({"message": "Invalid input: my secret diary", "type":
        "invalid_request_error", "param": "messages[1].content", "code": "my secret diary"});
    let outcome = outcome_of(Behaviour::Status {
        status: 400,
        headers: vec![("x-request-id", "req_7".to_owned())],
        body: json!({"error": error}).to_string(),
        content_type: "application/json",
    });
    let expected = "HTTP 400, type=invalid_request_error param=messages[1].content, request req_7";
    assert_eq!(outcome.await.detail(), expected);
}

#[tokio::test]
async fn the_waiting_time_is_reported_and_a_long_one_never_slept() {
    for (header, seconds) in [("86400", 86_400.0), ("2.5", 2.5), ("1e9", 604_800.0)] {
        let outcome = outcome_of(Behaviour::rate_limit(header)).await;
        let retry_after = outcome.failure.and_then(|failure| failure.retry_after);
        assert_eq!(retry_after, Some(Duration::from_secs_f64(seconds)));
    }
    for header in ["-1", "NaN", "1e300", "soon"] {
        let outcome = outcome_of(Behaviour::rate_limit(header)).await;
        assert_eq!(outcome.failure.map(|failure| failure.retry_after), Some(None), "{header}");
    }
}

#[tokio::test]
async fn a_short_rate_limit_is_retried_once() {
    let server = ModelServer::start().await;
    server.respond(Behaviour::rate_limit("0"));
    let outcome = read(&model(&server, PATIENT), question("When is breakfast?")).await;
    assert_eq!((outcome.text().as_str(), server.calls()), (ANSWER, 2));

    server.respond_by_default(Behaviour::rate_limit("0"));
    let outcome = read(&model(&server, PATIENT), question("When is breakfast?")).await;
    assert_eq!((outcome.kind(), server.calls()), (Some(FailureKind::RateLimited), 4));
}

#[tokio::test]
async fn a_server_fault_is_retried_once_unless_it_asks_for_a_long_wait() {
    let server = ModelServer::start().await;
    server.respond(Behaviour::status(503, &Value::Null));
    let outcome = read(&model(&server, PATIENT), question("When is breakfast?")).await;
    assert_eq!((outcome.text().as_str(), server.calls()), (ANSWER, 2));
    let keys: Vec<_> = server.headers().iter().map(|h| h["idempotency-key"].clone()).collect();
    assert_eq!(keys, ["exec-1", "exec-1"]);

    server.respond(Behaviour::Status {
        status: 503,
        headers: vec![("retry-after", "600".to_owned())],
        body: String::new(),
        content_type: "",
    });
    let outcome = read(&model(&server, PATIENT), question("When is breakfast?")).await;
    assert_eq!((outcome.kind(), server.calls()), (Some(FailureKind::Unavailable), 3));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let server = ModelServer::start().await;
    let model = model(&server, PATIENT);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let port = listener.and_then(|listener| listener.local_addr()).map(|address| address.port());
    let mut settings = settings(&server, PATIENT);
    settings.base_url = format!("http://127.0.0.1:{}/v1", port.unwrap_or(1));
    let absent = OpenAiModel::new(settings).unwrap_or(model);
    let outcome = read(&absent, question("Anyone?")).await;
    assert_eq!((outcome.kind(), outcome.status()), (Some(FailureKind::Unavailable), None));
    assert_eq!(server.calls(), 0);
}

#[tokio::test]
async fn a_server_that_never_answers_times_out() {
    let server = ModelServer::start().await;
    server.respond_by_default(Behaviour::Hang);
    let timeouts = Timeouts { first_token: Duration::from_millis(100), ..PATIENT };
    let outcome = read(&model(&server, timeouts), question("Hello?")).await;
    assert_eq!(outcome.kind(), Some(FailureKind::TimedOut));
    server.wait_for_aborted(1).await;
}

#[tokio::test]
async fn a_stream_without_a_first_text_times_out() {
    let server = ModelServer::start().await;
    server.respond_by_default(Behaviour::HangAfter(0));
    let timeouts = Timeouts { first_token: Duration::from_millis(100), ..PATIENT };
    let outcome = read(&model(&server, timeouts), question("Hello?")).await;
    assert_eq!(outcome.kind(), Some(FailureKind::TimedOut));
    server.wait_for_aborted(1).await;
}

#[tokio::test]
async fn a_stream_that_stalls_after_its_first_text_is_broken() {
    let server = ModelServer::start().await;
    server.respond_by_default(Behaviour::HangAfter(2));
    let timeouts = Timeouts { idle: Duration::from_millis(300), ..PATIENT };
    let outcome = read(&model(&server, timeouts), question("Hello?")).await;
    assert_eq!(outcome.kind(), Some(FailureKind::Broken));
    assert_eq!(outcome.text(), ANSWER);
    server.wait_for_aborted(1).await;
}

#[tokio::test]
async fn a_stream_that_drips_too_long_is_broken() {
    let server = ModelServer::start().await;
    server.respond_by_default(Behaviour::Answer {
        text: "x".repeat(1_000),
        usage: None,
        pieces: 1_000,
        delay: Duration::from_millis(50),
    });
    let timeouts = Timeouts { total: Duration::from_millis(1_500), ..PATIENT };
    let outcome = read(&model(&server, timeouts), question("Hello?")).await;
    assert_eq!(outcome.kind(), Some(FailureKind::Broken));
    assert!(!outcome.texts.is_empty());
    server.wait_for_aborted(1).await;
}

#[tokio::test]
async fn a_stream_that_ends_without_a_finish_reason_is_broken() {
    for behaviour in [Behaviour::Cut(0), Behaviour::Cut(2), Behaviour::Reset(0)] {
        let outcome = outcome_of(behaviour).await;
        assert_eq!((outcome.kind(), outcome.finish), (Some(FailureKind::Broken), None));
    }
    let outcome = outcome_of(Behaviour::Reset(2)).await;
    assert_eq!((outcome.kind(), outcome.text()), (Some(FailureKind::Broken), ANSWER.to_owned()));
}

#[tokio::test]
async fn an_error_in_the_stream_has_its_class_only_before_the_first_text() {
    let cases = [
        (json!({"code": 429, "message": "limit"}), FailureKind::RateLimited),
        (json!({"type": "rate_limit_error"}), FailureKind::RateLimited),
        (json!({"code": "insufficient_quota"}), FailureKind::QuotaExhausted),
        (json!({"code": 402}), FailureKind::QuotaExhausted),
        (json!({"code": "400"}), FailureKind::Rejected),
        (json!({"type": "invalid_request_error"}), FailureKind::Rejected),
        (json!({"type": "server_error"}), FailureKind::Unavailable),
        (json!("overloaded"), FailureKind::Unavailable),
        (json!({}), FailureKind::Unavailable),
    ];
    for (error, kind) in cases {
        let early = Behaviour::MidStreamError { pieces: 0, error: error.clone() };
        assert_eq!(outcome_of(early).await.kind(), Some(kind), "{error}");
        let late = Behaviour::MidStreamError { pieces: 1, error: error.clone() };
        let outcome = outcome_of(late).await;
        assert_eq!(outcome.kind(), Some(FailureKind::Broken), "{error}");
        assert_eq!(outcome.text(), ANSWER);
    }
}

#[tokio::test]
async fn an_openrouter_answer_that_finishes_with_error_is_broken() {
    let outcome = outcome_of(raw(&[text_chunk("Hel"), finish_chunk("error")])).await;
    assert_eq!((outcome.kind(), outcome.text()), (Some(FailureKind::Broken), "Hel".to_owned()));
}

#[tokio::test]
async fn a_malformed_chunk_is_broken_and_never_quoted() {
    for chunk in ["{\"choices\": [", "my secret diary", "{\"choices\": \"my secret diary\"}"] {
        let events = vec![text_chunk("Hello").to_string(), chunk.to_owned()];
        let outcome = outcome_of(Behaviour::Raw { events, stays_open: true }).await;
        assert_eq!(outcome.kind(), Some(FailureKind::Broken));
        assert!(!outcome.detail().contains("secret"));
    }
}

#[tokio::test]
async fn finishing_without_text_is_empty() {
    let outcome = outcome_of(Behaviour::EmptyAnswer).await;
    assert_eq!((outcome.kind(), outcome.finish), (Some(FailureKind::Empty), None));
}

#[tokio::test]
async fn an_empty_finish_reason_is_none() {
    let outcome = outcome_of(raw(&[text_chunk("Yes."), finish_chunk("")])).await;
    assert_eq!(outcome.kind(), Some(FailureKind::Broken));
}
