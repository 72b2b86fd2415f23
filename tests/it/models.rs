//! The chat client against a server that speaks the real protocol, and the sandbox model.

mod failures;
mod sandbox;

use std::time::Duration;

use futures_util::StreamExt;
use musubi::external::models::{
    ChatEvent, ChatModel, ChatRequest, FailureKind, FinishReason, ModelFailure, Usage,
};
use musubi::external::openai::{InvalidSettings, OpenAiModel, OpenAiSettings, Timeouts};
use rust_decimal::Decimal;
use serde_json::{Map, Value, json};

use crate::support::model_server::{ANSWER, Behaviour, ModelServer};

/// No test may hang: whatever is not about time is given far more than it needs.
const PATIENCE: Duration = Duration::from_secs(60);

const PATIENT: Timeouts =
    Timeouts { connect: PATIENCE, first_token: PATIENCE, idle: PATIENCE, total: PATIENCE };

#[derive(Debug, Default, PartialEq)]
struct Outcome {
    texts: Vec<String>,
    usage: Option<Usage>,
    finish: Option<FinishReason>,
    failure: Option<ModelFailure>,
}

impl Outcome {
    fn text(&self) -> String {
        self.texts.concat()
    }

    fn kind(&self) -> Option<FailureKind> {
        self.failure.as_ref().map(|failure| failure.kind)
    }

    fn status(&self) -> Option<u16> {
        self.failure.as_ref().and_then(|failure| failure.status)
    }

    fn detail(&self) -> &str {
        self.failure.as_ref().map(|failure| failure.detail.as_str()).unwrap_or_default()
    }
}

fn settings(server: &ModelServer, timeouts: Timeouts) -> OpenAiSettings {
    OpenAiSettings { base_url: server.base_url(), api_key: "sk-test".to_owned(), timeouts }
}

fn model(server: &ModelServer, timeouts: Timeouts) -> OpenAiModel {
    OpenAiModel::new(settings(server, timeouts)).unwrap_or_else(|error| unreachable!("{error}"))
}

fn question(input: &str) -> ChatRequest {
    ChatRequest {
        execution_id: "exec-1".to_owned(),
        model: "gpt-4o-mini".to_owned(),
        system: Some("You are a concierge.".to_owned()),
        input: input.to_owned(),
        temperature: Decimal::new(70, 2),
        max_tokens: 500,
        options: Map::new(),
    }
}

/// Reads a whole answer and checks the rules that every stream keeps.
async fn read(model: &dyn ChatModel, request: ChatRequest) -> Outcome {
    let mut stream = model.chat(request);
    let reading = async {
        let mut outcome = Outcome::default();
        while let Some(event) = stream.next().await {
            let is_over = outcome.finish.is_some() || outcome.failure.is_some();
            assert!(!is_over, "nothing comes after the end");
            match event {
                Ok(ChatEvent::Text(text)) => {
                    assert!(!text.is_empty());
                    outcome.texts.push(text);
                }
                Ok(ChatEvent::Usage(usage)) => {
                    assert_eq!(outcome.usage.replace(usage), None, "usage comes once");
                }
                Ok(ChatEvent::Finished(reason)) => outcome.finish = Some(reason),
                Err(failure) => {
                    assert!(failure.detail.chars().count() <= 300);
                    outcome.failure = Some(failure);
                }
            }
        }
        assert!(stream.next().await.is_none(), "an ended stream stays ended");
        outcome
    };
    let outcome = tokio::time::timeout(PATIENCE * 2, reading).await;
    outcome.unwrap_or_else(|_| unreachable!("the answer never ended"))
}

/// What one call gives when the server behaves like this for ever.
async fn outcome_of(behaviour: Behaviour) -> Outcome {
    let server = ModelServer::start().await;
    server.respond_by_default(behaviour);
    read(&model(&server, PATIENT), question("When is breakfast?")).await
}

fn raw(events: &[Value]) -> Behaviour {
    Behaviour::Raw { events: events.iter().map(Value::to_string).collect(), stays_open: false }
}

fn text_chunk(text: &str) -> Value {
    json!({"choices": [{"delta": {"content": text}}]})
}

fn finish_chunk(reason: &str) -> Value {
    json!({"choices": [{"delta": {}, "finish_reason": reason}]})
}

#[tokio::test]
async fn an_answer_streams_in_pieces_with_usage_and_a_finish_reason() {
    let outcome = outcome_of(Behaviour::answer(ANSWER)).await;
    assert_eq!(outcome.text(), ANSWER);
    assert_eq!(outcome.texts.len(), 4);
    assert_eq!(outcome.usage, Some(Usage { input_tokens: 12, output_tokens: 34 }));
    assert_eq!(outcome.finish, Some(FinishReason::Stop));
}

#[tokio::test]
async fn the_request_says_all_that_a_compatible_server_needs() {
    let server = ModelServer::start().await;
    let mut request = question("When is breakfast?");
    request.options.insert("top_p".to_owned(), json!(0.9));
    request.options.insert("n".to_owned(), json!(5));
    request.options.insert("stream".to_owned(), json!(false));
    request.options.insert("max_completion_tokens".to_owned(), json!(9));
    let outcome = read(&model(&server, PATIENT), request).await;
    assert_eq!(outcome.failure, None);
    let expected = json!({
        "model": "gpt-4o-mini",
        "messages": [
            {"role": "system", "content": "You are a concierge."},
            {"role": "user", "content": "When is breakfast?"},
        ],
        "temperature": 0.7,
        "max_tokens": 500,
        "top_p": 0.9,
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    assert_eq!(server.requests(), [expected]);

    let headers = &server.headers()[0];
    assert_eq!(headers["authorization"], "Bearer sk-test");
    assert_eq!(headers["idempotency-key"], "exec-1");
    assert_eq!(headers["user-agent"], "musubi");
    assert!(!headers.contains_key("openai-organization"));
    assert!(!headers.contains_key("openai-project"));
}

#[tokio::test]
async fn a_call_is_sent_only_when_its_stream_is_read() {
    let server = ModelServer::start().await;
    let model = model(&server, PATIENT);
    drop(model.chat(question("Never read")));
    read(&model, question("Read")).await;
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn an_answer_cut_at_the_token_limit_says_so() {
    let server = ModelServer::start().await;
    let mut request = question("When is breakfast?");
    request.max_tokens = 3;
    let outcome = read(&model(&server, PATIENT), request).await;
    assert_eq!(outcome.text(), "Breakfast is");
    assert_eq!(outcome.finish, Some(FinishReason::Length));
}

#[tokio::test]
async fn a_server_that_ignores_the_token_limit_is_read_to_its_end() {
    let outcome = outcome_of(Behaviour::IgnoreMaxTokens(30_000)).await;
    assert_eq!(outcome.text().len(), 30_000);
    assert_eq!(outcome.finish, Some(FinishReason::Stop));
}

#[tokio::test]
async fn a_server_that_ignores_streaming_is_understood() {
    let behaviour = Behaviour::Json { text: ANSWER.to_owned(), usage: Some((5, 0)) };
    let outcome = outcome_of(behaviour).await;
    assert_eq!(outcome.texts, [ANSWER]);
    assert_eq!(outcome.usage, Some(Usage { input_tokens: 5, output_tokens: 0 }));
    assert_eq!(outcome.finish, Some(FinishReason::Stop));
}

#[tokio::test]
async fn usage_may_be_missing_zero_partial_or_in_the_last_chunk() {
    let outcome = outcome_of(Behaviour::OmitUsage).await;
    assert_eq!((outcome.usage, outcome.finish), (None, Some(FinishReason::Stop)));

    let zero = Behaviour::Json { text: ANSWER.to_owned(), usage: Some((0, 0)) };
    let expected = Some(Usage { input_tokens: 0, output_tokens: 0 });
    assert_eq!(outcome_of(zero).await.usage, expected);

    let mut last = finish_chunk("stop");
    last["usage"] = json!({"prompt_tokens": 7, "completion_tokens": 2.0, "cost": 0.1});
    let expected = Some(Usage { input_tokens: 7, output_tokens: 2 });
    assert_eq!(outcome_of(raw(&[text_chunk("Hi"), last.clone()])).await.usage, expected);

    last["usage"] = json!({"prompt_tokens": 7, "completion_tokens": null});
    let outcome = outcome_of(raw(&[text_chunk("Hi"), last])).await;
    assert_eq!((outcome.usage, outcome.finish), (None, Some(FinishReason::Stop)));
}

#[tokio::test]
async fn unknown_fields_and_finish_reasons_are_accepted() {
    let events = [
        json!({"choices": null, "usage": null, "error": null, "service_tier": "on_demand"}),
        json!({"choices": [{"delta": null, "finish_reason": ""}]}),
        json!({"choices": [{"delta": {"content": null, "reasoning": "hmm"}}]}),
        json!({"choices": [{"delta": {"content": "Yes."}, "finish_reason": "eos"}]}),
        json!({"x_groq": {"usage": []}}),
    ];
    let outcome = outcome_of(raw(&events)).await;
    assert_eq!(outcome.text(), "Yes.");
    assert_eq!(outcome.finish, Some(FinishReason::Other("eos".to_owned())));
}

#[tokio::test]
async fn a_finished_answer_needs_no_proper_end() {
    let server = ModelServer::start().await;
    let events = vec![text_chunk("Yes.").to_string(), finish_chunk("stop").to_string()];
    server.respond(Behaviour::Raw { events: events.clone(), stays_open: true });
    let timeouts = Timeouts { idle: Duration::from_millis(300), ..PATIENT };
    let outcome = read(&model(&server, timeouts), question("Yes?")).await;
    assert_eq!((outcome.text().as_str(), outcome.finish), ("Yes.", Some(FinishReason::Stop)));
    server.wait_for_aborted(1).await;

    let garbage = [events, vec!["garbage".to_owned()]].concat();
    let outcome = outcome_of(Behaviour::Raw { events: garbage, stays_open: false }).await;
    assert_eq!(outcome.finish, Some(FinishReason::Stop));
}

#[tokio::test]
async fn dropping_the_stream_ends_the_request() {
    let server = ModelServer::start().await;
    let model = model(&server, PATIENT);
    server.respond(Behaviour::HangAfter(2));
    let mut stream = model.chat(question("Never mind"));
    assert!(matches!(stream.next().await, Some(Ok(ChatEvent::Text(_)))));
    assert_eq!(server.aborted(), 0);
    drop(stream);
    assert!(tokio::time::timeout(PATIENCE, server.wait_for_aborted(1)).await.is_ok());

    server.respond(Behaviour::Hang);
    let mut stream = model.chat(question("Never mind"));
    tokio::select! {
        event = stream.next() => unreachable!("the server hangs, but {event:?}"),
        () = server.wait_for_calls(2) => {}
    }
    drop(stream);
    assert!(tokio::time::timeout(PATIENCE, server.wait_for_aborted(2)).await.is_ok());
}

#[tokio::test]
async fn a_thousand_calls_run_at_once() {
    let server = ModelServer::start().await;
    let model = model(&server, PATIENT);
    let calls = (0..1_000).map(|_| read(&model, question("When is breakfast?")));
    let outcomes = futures_util::future::join_all(calls).await;
    assert!(outcomes.iter().all(|outcome| outcome.text() == ANSWER));
    assert_eq!((server.calls(), server.aborted()), (1_000, 0));
}

#[tokio::test]
async fn settings_are_cleaned_or_refused() {
    let server = ModelServer::start().await;
    let mut padded = settings(&server, PATIENT);
    padded.base_url = format!(" {}/ ", padded.base_url);
    padded.api_key = " sk-test\r\n".to_owned();
    let Ok(model) = OpenAiModel::new(padded) else { unreachable!("only padded") };
    assert_eq!(model.provider(), "127.0.0.1");
    assert_eq!(read(&model, question("When is breakfast?")).await.text(), ANSWER);
    assert_eq!(server.headers()[0]["authorization"], "Bearer sk-test");

    for key in ["", "  ", "sk\ntest", "sk test", "sk-\u{0}", "鍵"] {
        let settings = OpenAiSettings { api_key: key.to_owned(), ..settings(&server, PATIENT) };
        assert!(!format!("{settings:?}").contains("sk-test"));
        assert_eq!(OpenAiModel::new(settings).err(), Some(InvalidSettings::ApiKey), "{key:?}");
    }
    for url in ["", "api.openai.com/v1", "ftp://a/v1", "http://u:p@a/v1", "http://a/v1?x=1"] {
        let settings = OpenAiSettings { base_url: url.to_owned(), ..settings(&server, PATIENT) };
        assert_eq!(OpenAiModel::new(settings).err(), Some(InvalidSettings::BaseUrl), "{url}");
    }
}

#[tokio::test]
async fn an_execution_id_that_fits_no_header_is_rejected() {
    let server = ModelServer::start().await;
    let mut request = question("When is breakfast?");
    request.execution_id = "line\nbreak".to_owned();
    let outcome = read(&model(&server, PATIENT), request).await;
    assert_eq!((outcome.kind(), server.calls()), (Some(FailureKind::Rejected), 0));
}
