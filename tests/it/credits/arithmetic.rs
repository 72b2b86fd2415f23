//! Charges, holds, shrinking and the efficiency score, against figures worked out by hand.

use musubi::ai::pricing::{HoldOption, charge, hold_options, in_force};
use musubi::credits::reports::efficiency::{MonthUse, Term, score};
use musubi::credits::service::admit::Admission;
use musubi::entity::function_price::{self, AiFunctionType};
use musubi::entity::plan::PlanType;
use musubi::money::{ratio, share};
use serde_json::json;

use super::{assert_books, hold, release, subscriber, try_hold};
use crate::support::TestApp;

async fn chatbot() -> function_price::Model {
    let app = TestApp::start().await;
    in_force(&app.app, AiFunctionType::Chatbot, None).await.unwrap()
}

fn options(list: &[(i64, i64)]) -> Vec<HoldOption> {
    list.iter()
        .map(|(credits, max_tokens)| HoldOption { credits: *credits, max_tokens: *max_tokens })
        .collect()
}

#[tokio::test]
async fn a_charge_is_the_base_times_the_tier_of_its_tokens_rounded_up() {
    let price = chatbot().await;

    let charges = [1, 1_000, 1_001, 1_200, 4_000, 4_001, 16_000, 16_001, 900_000];
    let charges = charges.map(|tokens| charge(&price, tokens));

    assert_eq!(charges, [2, 2, 3, 3, 3, 4, 4, 6, 6]);
    let base = |base_credits| function_price::Model { base_credits, ..price.clone() };
    let of_base = |base_credits| [1, 1_001, 4_001, 16_001].map(|n| charge(&base(base_credits), n));
    assert_eq!(of_base(5), [5, 8, 10, 15]);
    assert_eq!(of_base(15), [15, 23, 30, 45]);
    assert_eq!(of_base(0), [0, 0, 0, 0]);
}

#[tokio::test]
async fn a_hold_shrinks_into_cheaper_tiers_but_never_under_100_tokens() {
    let price = chatbot().await;

    assert_eq!(hold_options(&price, 50, 800), options(&[(2, 800)]));
    assert_eq!(hold_options(&price, 200, 800), options(&[(2, 800)]));
    assert_eq!(hold_options(&price, 201, 800), options(&[(3, 800), (2, 799)]));
    assert_eq!(hold_options(&price, 900, 800), options(&[(3, 800), (2, 100)]));
    assert_eq!(hold_options(&price, 901, 800), options(&[(3, 800)]));
    assert_eq!(hold_options(&price, 500, 4_000), options(&[(4, 4_000), (3, 3_500), (2, 500)]));
    assert_eq!(hold_options(&price, 15_000, 4_000), options(&[(6, 4_000), (4, 1_000)]));
}

#[tokio::test]
async fn tiers_of_the_same_price_are_no_option() {
    let flat = function_price::Model { tier_2_per_mille: 1_000, ..chatbot().await };

    assert_eq!(hold_options(&flat, 500, 4_000), options(&[(4, 4_000), (2, 3_500)]));
}

#[tokio::test]
async fn a_call_that_is_not_affordable_is_lowered_to_what_is() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(2).await;

    let parameters = json!({ "input": "こんにちは", "maxTokens": 2_000 });
    let reply = hotel.user.executes_with(parameters, "lowered-to-two").await;

    let execution = &reply["execution"];
    assert_eq!(execution["charge"]["creditsHeld"], 2, "{reply}");
    let max_tokens = execution["maxTokens"].as_i64().unwrap();
    assert!((900..1_000).contains(&max_tokens), "{max_tokens}");
    assert_books(&app).await;
}

#[tokio::test]
async fn a_refusal_names_what_is_needed_free_and_held() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(10).await;
    let job = hold(&app.app, &hotel, 9).await;

    let parameters = json!({ "input": "こんにちは", "maxTokens": 2_000 });
    let reply = hotel.user.executes_with(parameters, "one-is-too-few").await;

    let error = &reply["userErrors"][0];
    assert_eq!(error["code"], "INSUFFICIENT_CREDITS", "{reply}");
    assert_eq!(
        (&error["needed"], &error["available"], &error["held"]),
        (&json!(2), &json!(1), &json!(9))
    );
    release(&app.app, &job).await;
    let again = hotel.user.executes("こんにちは", "one-is-too-few").await;
    assert_eq!(again["execution"]["status"], "SUCCEEDED", "the refusal was remembered: {again}");
    assert_books(&app).await;
}

#[tokio::test]
async fn the_first_amount_that_fits_is_held() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(10).await;

    let job = try_hold(&app.app, &hotel, &[30, 11, 10, 2]).await.unwrap();
    let refusal = try_hold(&app.app, &hotel, &[30, 1]).await.unwrap_err();

    assert_eq!((job.execution.credits_held, job.execution.max_tokens), (10, 110));
    assert_eq!(refusal, Admission::Insufficient { available: 0, held: 10 });
    assert_eq!(hotel.balance().await, (10, 10));
    assert_books(&app).await;
}

#[tokio::test]
async fn a_quote_is_what_a_call_then_holds() {
    let app = TestApp::start().await;
    let hotel = subscriber(&app, PlanType::Essential).await;
    let query = "query ($input: AiQuoteInput!) { aiExecutionQuote(input: $input) {
        credits hold inputTokens maxTokens affordable model } }";
    let parameters = json!({ "input": "こんにちは", "maxTokens": 4_000 });
    let input = json!({ "functionType": "CHATBOT", "parameters": parameters });

    let quote = hotel.user.gets(query, json!({ "input": input })).await["aiExecutionQuote"].clone();
    let reply = hotel.user.executes_with(parameters, "as-it-was-quoted").await;

    assert_eq!((&quote["credits"], &quote["hold"]), (&json!(2), &json!(4)), "{quote}");
    assert_eq!(quote["affordable"], true);
    assert_eq!(reply["execution"]["charge"]["creditsHeld"], quote["hold"]);
    assert_eq!(hotel.balance().await, (198, 0));
}

fn month(runs: i64, failures: i64, credits: i64, credits_on_success: i64) -> MonthUse {
    MonthUse { runs, failures, credits, credits_on_success, most_used: None }
}

#[test]
fn the_worked_example_of_the_efficiency_score_is_92_42() {
    let score = score(&month(100, 10, 190, 180), 200).unwrap();

    assert_eq!((score.hundredths, score.weakest), (9_242, Term::Success));
}

#[test]
fn the_score_has_its_bounds_and_a_term_without_divisor_counts_nothing() {
    let of =
        |used: MonthUse, free| score(&used, free).map(|score| (score.hundredths, score.weakest));

    assert_eq!(of(month(0, 0, 0, 0), 200), None);
    assert_eq!(of(month(10, 0, 900, 900), 200).unwrap().0, 10_000);
    assert_eq!(of(month(10, 10, 0, 0), 200).unwrap().0, 0);
    assert_eq!(of(month(10, 0, 50, 50), 0), Some((8_000, Term::FreeCreditsUsed)));
    assert_eq!(of(month(10, 0, 0, 0), 200), Some((5_000, Term::CreditsOnSuccess)));
    assert_eq!(of(month(4, 3, 200, 190), 200), Some((6_100, Term::Success)));
}

#[test]
fn shares_and_ratios_round_half_up() {
    assert_eq!([share(3, 1, 2), share(1, 1, 3), share(2, 1, 3), share(5, 0, 3)], [2, 0, 1, 0]);
    assert_eq!(share(5, 1, 0), 0);
    assert_eq!(share(2_000_000_000, 1_999_999_999, 2_000_000_000), 1_999_999_999);
    assert_eq!(ratio(1, 8, 2).unwrap().to_string(), "0.13");
    assert_eq!(ratio(1, 0, 2), None);
}
