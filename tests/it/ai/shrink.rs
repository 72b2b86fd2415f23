//! A balance that pays only for a shorter answer.

use musubi::ai::pricing::{self, HoldOption};
use musubi::entity::function_price::AiFunctionType;
use serde_json::{Value, json};

use super::call;
use crate::support::model_server::ModelServer;
use crate::support::people::Person;
use crate::support::{Setting, TestApp};

const QUOTE: &str = "query ($input: AiQuoteInput!) { aiExecutionQuote(input: $input) {
    credits hold inputTokens maxTokens affordable model } }";

async fn quote(person: &Person, parameters: &Value) -> Value {
    let input = json!({ "functionType": "CHATBOT", "parameters": parameters });
    person.gets(QUOTE, json!({ "input": input })).await["aiExecutionQuote"].clone()
}

/// A text of so many tokens and a few more.
fn text_of(tokens: usize) -> String {
    "breakfast ".repeat(tokens)
}

#[tokio::test]
async fn a_short_balance_shortens_the_answer_as_the_quote_said() {
    let server = ModelServer::start().await;
    let app = Setting::default().model_server(&server).start().await;
    // Credits, credits held then, tokens of input and output together that they pay for.
    let cases = [(4, 4, None), (3, 3, Some(4_000)), (2, 2, Some(1_000))];
    for (number, (credits, hold, total)) in cases.into_iter().enumerate() {
        let hotel = app.hotel().await.with_credits(credits).await;
        let parameters = json!({ "input": "When is breakfast?", "maxTokens": 4_000 });

        let quote = quote(&hotel.user, &parameters).await;
        let payload = hotel.user.starts(call(parameters, "shortened")).await;

        let execution = &payload["execution"];
        let input = quote["inputTokens"].as_i64().unwrap();
        let max_tokens = total.map_or(4_000, |total| total - input);
        assert_eq!(quote["affordable"], true);
        assert_eq!(quote["hold"], hold, "{quote}");
        assert_eq!(quote["maxTokens"], max_tokens, "{quote}");
        assert_eq!(execution["charge"]["creditsHeld"], hold);
        assert_eq!(execution["maxTokens"], max_tokens);
        assert_eq!(execution["requestedMaxTokens"], 4_000);
        hotel.user.sees_end_of(execution["id"].as_str().unwrap()).await;
        assert_eq!(server.requests()[number]["max_tokens"], max_tokens);
        assert_eq!(hotel.balance().await, (credits - 2, 0));
    }
    assert!(app.drifts().await.is_empty());
}

#[tokio::test]
async fn what_no_shorter_answer_makes_affordable_is_refused() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(1).await;
    let parameters = json!({ "input": "When is breakfast?", "maxTokens": 4_000 });

    let quote = quote(&hotel.user, &parameters).await;
    let payload = hotel.user.executes_with(parameters, "refused-1").await;

    assert_eq!(quote["affordable"], false);
    assert_eq!((&quote["hold"], &quote["maxTokens"]), (&json!(4), &json!(4_000)));
    let error = &payload["userErrors"][0];
    assert_eq!(error["code"], "INSUFFICIENT_CREDITS");
    assert_eq!((&error["needed"], &error["available"]), (&json!(2), &json!(1)));
    assert_eq!(hotel.balance().await, (1, 0));
}

#[tokio::test]
async fn an_answer_is_never_shortened_under_a_hundred_tokens() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(2).await;
    // About 950 tokens of input: the first tier has room for some fifty tokens of output.
    let parameters = json!({ "input": text_of(910), "maxTokens": 800 });

    let quote = quote(&hotel.user, &parameters).await;
    let payload = hotel.user.executes_with(parameters, "too-short").await;

    let input = quote["inputTokens"].as_i64().unwrap();
    assert!((901..1_000).contains(&input), "{quote}");
    assert_eq!(quote["affordable"], false);
    assert_eq!(payload["userErrors"][0]["needed"], 3, "{payload}");
    assert_eq!(hotel.balance().await, (2, 0));
}

#[tokio::test]
async fn the_floor_is_a_hundred_tokens_exactly() {
    let app = TestApp::start().await;
    let price = pricing::in_force(&app.app, AiFunctionType::Chatbot, None).await.unwrap();
    let options = |input, max| pricing::hold_options(&price, input, max);
    let option = |credits, max_tokens| HoldOption { credits, max_tokens };

    assert_eq!(options(900, 800), [option(3, 800), option(2, 100)]);
    assert_eq!(options(901, 800), [option(3, 800)]);
    assert_eq!(options(900, 100), [option(2, 100)]);
    assert_eq!(options(100, 900), [option(2, 900)]);
    assert_eq!(options(100, 901), [option(3, 901), option(2, 900)]);
    assert_eq!(options(15_000, 4_000), [option(6, 4_000), option(4, 1_000)]);
}

#[tokio::test]
async fn whatever_the_balance_the_quote_is_what_is_then_held() {
    let app = TestApp::start().await;
    let texts = [text_of(1), text_of(700), text_of(1_500)];
    for credits in 1..=6 {
        for (index, text) in texts.iter().enumerate() {
            for max_tokens in [1, 99, 400, 2_500, 4_000] {
                let hotel = app.hotel().await.with_credits(credits).await;
                let parameters = json!({ "input": text, "maxTokens": max_tokens });

                let quote = quote(&hotel.user, &parameters).await;
                let payload = hotel.user.executes_with(parameters, "quoted-key").await;

                let about = format!("{credits} {index} {max_tokens}: {quote} {payload}");
                if quote["affordable"] == true {
                    let execution = &payload["execution"];
                    assert_eq!(execution["charge"]["creditsHeld"], quote["hold"], "{about}");
                    assert_eq!(execution["maxTokens"], quote["maxTokens"], "{about}");
                    let floor = i64::min(100, max_tokens);
                    assert!(execution["maxTokens"].as_i64().unwrap() >= floor, "{about}");
                } else {
                    let code = &payload["userErrors"][0]["code"];
                    assert_eq!(code, "INSUFFICIENT_CREDITS", "{about}");
                }
            }
        }
    }
    assert!(app.drifts().await.is_empty());
}
