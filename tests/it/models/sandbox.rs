//! The sandbox model, and token counting.

use std::time::Duration;

use musubi::external::models::{
    FailureKind, FinishReason, SandboxModel, Usage, count_tokens, estimate_input_tokens,
};

use super::{question, read};

fn sandbox() -> SandboxModel {
    let pause = Duration::ZERO;
    SandboxModel { pause, slow_pause: Duration::from_millis(1), hang: Duration::from_millis(1) }
}

#[tokio::test]
async fn the_sandbox_answers_in_the_language_of_the_input() {
    let english = read(&sandbox(), question("When is breakfast?")).await;
    assert!(english.text().starts_with("[Sandbox answer]"));
    assert!(english.text().contains("\"When is breakfast?\""));
    assert!((3..=8).contains(&english.texts.len()));
    assert_eq!(english.finish, Some(FinishReason::Stop));
    let expected = Usage {
        input_tokens: count_tokens("You are a concierge.") + count_tokens("When is breakfast?"),
        output_tokens: count_tokens(&english.text()),
    };
    assert_eq!(english.usage, Some(expected));
    assert_eq!(read(&sandbox(), question("When is breakfast?")).await, english);

    let japanese = read(&sandbox(), question("朝食は何時ですか。")).await;
    assert!(japanese.text().starts_with("【サンドボックス応答】「朝食は何時ですか。」"));
    assert!((3..=8).contains(&japanese.texts.len()));
}

#[tokio::test]
async fn the_sandbox_quotes_little_and_honours_the_token_limit() {
    let outcome = read(&sandbox(), question(&"風呂".repeat(100))).await;
    assert!(outcome.text().contains(&format!("「{}…」", "風呂".repeat(30))));
    for max_tokens in [0, 1, 5, 30] {
        let mut request = question("朝食は何時ですか。");
        request.max_tokens = max_tokens;
        let outcome = read(&sandbox(), request).await;
        assert!(count_tokens(&outcome.text()) <= max_tokens.max(3));
        assert!(!outcome.texts.is_empty());
        assert_eq!(outcome.finish, Some(FinishReason::Length));
    }
}

#[tokio::test]
async fn the_sandbox_shows_every_failure_on_request() {
    let limited = read(&sandbox(), question("please sandbox:fail-429 now")).await;
    assert_eq!((limited.kind(), limited.status()), (Some(FailureKind::RateLimited), Some(429)));
    let failed = read(&sandbox(), question("sandbox:fail-500")).await;
    assert_eq!((failed.kind(), failed.status()), (Some(FailureKind::Unavailable), Some(500)));
    let cut = read(&sandbox(), question("sandbox:cut")).await;
    assert_eq!(cut.kind(), Some(FailureKind::Broken));
    assert!(!cut.texts.is_empty());
    let hung = read(&sandbox(), question("sandbox:hang")).await;
    assert_eq!((hung.kind(), hung.texts.len()), (Some(FailureKind::TimedOut), 0));
    let slow = read(&sandbox(), question("sandbox:slow")).await;
    assert_eq!((slow.failure, slow.finish), (None, Some(FinishReason::Stop)));
}

#[test]
fn estimates_are_never_below_the_count_and_never_above_the_bytes() {
    let overhead = 3 * 2 + 16;
    let texts = ["", "a", "When is breakfast?", "朝食は何時ですか。", &"長い文章。".repeat(500)];
    for text in texts {
        let counted = count_tokens("system") + count_tokens(text);
        let known = estimate_input_tokens("gpt-4o", Some("system"), text);
        assert_eq!(known, (counted * 102).div_ceil(100) + overhead);
        let unknown = estimate_input_tokens("llama-3.3-70b", Some("system"), text);
        let bytes = (6 + text.len()) as u32;
        assert!((counted + overhead..=bytes + overhead).contains(&unknown), "{text}");
    }
    let input = "A sentence of common English words, repeated so that margins show. ".repeat(50);
    let estimate = |model| estimate_input_tokens(model, None, &input);
    let known = (count_tokens(&input) * 102).div_ceil(100) + 3 + 16;
    for model in ["gpt-4o-mini", "gpt-4.1", "gpt-5", "o1", "o4-mini", "openai/gpt-4o"] {
        assert_eq!(estimate(model), known, "{model}");
    }
    for model in ["gpt-3.5-turbo", "gpt-4", "gpt-4-turbo", "olmo-2", "claude-sonnet", "qwen3"] {
        assert!(estimate(model) > known, "{model}");
    }
}
