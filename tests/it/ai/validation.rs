//! Values out of range are refused with their path, before anything is held or sent.

use serde_json::{Value, json};

use super::{call, error_code, executions, within};
use crate::support::model_server::ModelServer;
use crate::support::people::{EXECUTE, Hotel};
use crate::support::{Setting, TestApp};

async fn stage() -> (ModelServer, TestApp, Hotel) {
    let server = ModelServer::start().await;
    let app = Setting::default().model_server(&server).start().await;
    let hotel = app.hotel().await.with_credits(100).await;
    (server, app, hotel)
}

async fn assert_untouched((server, app, hotel): (ModelServer, TestApp, Hotel)) {
    assert_eq!(hotel.balance().await, (100, 0));
    assert_eq!(server.calls(), 0);
    assert!(executions(&app.app).await.is_empty());
}

#[tokio::test]
async fn every_value_out_of_range_is_refused_with_its_path() {
    let (server, app, hotel) = stage().await;
    let parameters = [
        (json!({ "input": "" }), "input"),
        (json!({ "input": " \n\t " }), "input"),
        (json!({ "input": "a".repeat(32_001) }), "input"),
        (json!({ "input": "あ".repeat(32_001) }), "input"),
        (json!({ "temperature": -0.1 }), "temperature"),
        (json!({ "temperature": "2.1" }), "temperature"),
        (json!({ "temperature": "2.0000000000000000000000001" }), "temperature"),
        (json!({ "maxTokens": 0 }), "maxTokens"),
        (json!({ "maxTokens": -1 }), "maxTokens"),
        (json!({ "maxTokens": 4_001 }), "maxTokens"),
        (json!({ "customOptions": [] }), "customOptions"),
        (json!({ "customOptions": "topP" }), "customOptions"),
        (json!({ "customOptions": { "n": 2 } }), "customOptions.n"),
        (json!({ "customOptions": { "max_tokens": 9 } }), "customOptions.max_tokens"),
        (json!({ "customOptions": { "top_p": 1 } }), "customOptions.top_p"),
        (json!({ "customOptions": { "topP": 1.01 } }), "customOptions.topP"),
        (json!({ "customOptions": { "topP": "1" } }), "customOptions.topP"),
        (json!({ "customOptions": { "presencePenalty": 2.1 } }), "customOptions.presencePenalty"),
        (json!({ "customOptions": { "frequencyPenalty": -3 } }), "customOptions.frequencyPenalty"),
        (json!({ "customOptions": { "seed": 1.5 } }), "customOptions.seed"),
        (json!({ "customOptions": { "stop": "x" } }), "customOptions.stop"),
        (json!({ "customOptions": { "stop": [] } }), "customOptions.stop"),
        (json!({ "customOptions": { "stop": [""] } }), "customOptions.stop"),
        (json!({ "customOptions": { "stop": ["1", "2", "3", "4", "5"] } }), "customOptions.stop"),
    ];
    for (change, path) in parameters {
        let mut parameters = json!({ "input": "When is breakfast?" });
        for (name, value) in change.as_object().unwrap() {
            parameters[name] = value.clone();
        }
        let payload = hotel.user.executes_with(parameters, "out-of-range").await;
        let expected: Vec<&str> =
            ["input", "parameters"].into_iter().chain(path.split('.')).collect();
        assert_eq!(payload["userErrors"][0]["code"], "INVALID_INPUT", "{path}: {payload}");
        assert_eq!(payload["userErrors"][0]["field"], json!(expected), "{path}: {payload}");
        assert_eq!(payload["userErrors"].as_array().unwrap().len(), 1, "{path}: {payload}");
    }
    let metadata = [
        (json!({ "tags": (0..11).map(|n| n.to_string()).collect::<Vec<_>>() }), "tags"),
        (json!({ "tags": [""] }), "tags"),
        (json!({ "tags": ["ok", " "] }), "tags"),
        (json!({ "tags": ["x".repeat(51)] }), "tags"),
        (json!({ "context": "a".repeat(8_001) }), "context"),
    ];
    for (metadata, path) in metadata {
        let mut input = call(json!({ "input": "When?" }), "out-of-range");
        input["metadata"] = metadata;
        let payload = hotel.user.starts(input).await;
        assert_eq!(payload["userErrors"][0]["code"], "INVALID_INPUT", "{path}: {payload}");
        let expected = json!(["input", "metadata", path]);
        assert_eq!(payload["userErrors"][0]["field"], expected, "{path}: {payload}");
    }
    assert_untouched((server, app, hotel)).await;
}

#[tokio::test]
async fn all_that_is_wrong_is_said_at_once() {
    let (server, app, hotel) = stage().await;
    let parameters = json!({ "input": "", "temperature": 3, "maxTokens": 0,
        "customOptions": { "n": 1, "a.b": 1 } });

    let payload = hotel.user.executes_with(parameters, "out-of-range").await;

    let paths: Vec<&Value> =
        payload["userErrors"].as_array().unwrap().iter().map(|error| &error["field"]).collect();
    for path in [
        json!(["input", "parameters", "input"]),
        json!(["input", "parameters", "temperature"]),
        json!(["input", "parameters", "maxTokens"]),
        json!(["input", "parameters", "customOptions", "n"]),
        // A dot in the client's own name is no step of the path.
        json!(["input", "parameters", "customOptions", "a.b"]),
    ] {
        assert!(paths.contains(&&path), "{path}: {payload}");
    }
    assert_untouched((server, app, hotel)).await;
}

#[tokio::test]
async fn text_that_the_database_cannot_keep_is_refused_and_no_fault_of_ours() {
    let (server, app, hotel) = stage().await;
    let nul = "with-a-\0-in-it";
    let mut tagged = call(json!({ "input": "When?" }), "tagged-with-nul");
    tagged["metadata"] = json!({ "tags": [nul] });
    let inputs = [
        call(json!({ "input": "When?" }), nul),
        call(json!({ "input": "When?", "model": nul }), "model-with-nul"),
        tagged,
    ];
    for input in inputs {
        let reply = hotel.user.asks(EXECUTE, json!({ "input": input })).await;
        let is_refused = reply["data"]["aiExecute"]["userErrors"][0]["code"].is_string()
            || ["INVALID_INPUT", "BAD_USER_INPUT", "GRAPHQL_VALIDATION_FAILED"]
                .contains(&error_code(&reply));
        assert!(is_refused, "{input}: {reply}");
    }
    assert_untouched((server, app, hotel)).await;
}

#[tokio::test]
async fn what_is_in_range_reaches_the_provider_as_it_was_given() {
    let (server, app, hotel) = stage().await;
    let options = json!({ "topP": 0.5, "presencePenalty": -2, "frequencyPenalty": 2, "seed": 7,
        "stop": ["a", "b", "c", "d"] });
    let inputs = [
        json!({ "input": "When?", "temperature": 0, "maxTokens": 1 }),
        json!({
            "input": "When?", "temperature": "2", "maxTokens": 4_000, "customOptions": options,
        }),
        json!({ "input": "a".repeat(32_000) }),
    ];
    for (number, parameters) in inputs.into_iter().enumerate() {
        let key = format!("in-range-{number}");
        let payload = within(hotel.user.executes_with(parameters, &key)).await;
        assert_eq!(payload["execution"]["status"], "SUCCEEDED", "{payload}");
    }
    let mut with_context = call(json!({ "input": "When?" }), "with-context");
    with_context["metadata"] = json!({ "context": "The hotel is closed.", "tags": ["vip", "vip"] });
    let id = hotel.user.starts(with_context).await["execution"]["id"].as_str().unwrap().to_owned();
    hotel.user.sees_end_of(&id).await;

    let sent = server.requests();
    assert_eq!((&sent[0]["temperature"], &sent[0]["max_tokens"]), (&json!(0), &json!(1)));
    assert_eq!((&sent[1]["temperature"], &sent[1]["max_tokens"]), (&json!(2), &json!(4_000)));
    assert_eq!((&sent[1]["top_p"], &sent[1]["seed"]), (&json!(0.5), &json!(7)));
    assert_eq!(sent[1]["presence_penalty"], -2);
    assert_eq!(sent[1]["stop"], json!(["a", "b", "c", "d"]));
    assert_eq!((&sent[2]["temperature"], &sent[2]["max_tokens"]), (&json!(0.7), &json!(800)));
    assert_eq!(sent[2]["messages"][0]["content"].as_str().unwrap().len(), 32_000);
    assert_eq!(sent[3]["messages"][0]["content"], "The hotel is closed.");
    assert!(app.drifts().await.is_empty());
}

#[tokio::test]
async fn functions_and_models_that_are_not_offered_are_refused() {
    let (server, app, hotel) = stage().await;
    for function in ["RECOMMENDATION", "PREDICTION", "ANALYSIS", "CUSTOM"] {
        let mut input = call(json!({ "input": "When?" }), "no-function");
        input["functionType"] = json!(function);
        let payload = hotel.user.starts(input).await;
        assert_eq!(payload["userErrors"][0]["code"], "FUNCTION_UNAVAILABLE", "{payload}");
        assert_eq!(payload["userErrors"][0]["field"], json!(["input", "functionType"]));
    }
    for model in ["gpt-9", "", "GPT-4O"] {
        let parameters = json!({ "input": "When?", "model": model });
        let payload = hotel.user.executes_with(parameters, "no-such-model").await;
        assert_eq!(payload["userErrors"][0]["code"], "MODEL_UNAVAILABLE", "{payload}");
        assert_eq!(payload["userErrors"][0]["field"], json!(["input", "parameters", "model"]));
    }
    super::failures::set_price(
        &app,
        json!({ "model": "gpt-4o", "isActive": false,
        "isDefault": false }),
    )
    .await;
    let parameters = json!({ "input": "When?", "model": "gpt-4o" });
    let payload = hotel.user.executes_with(parameters, "retired-model").await;
    assert_eq!(payload["userErrors"][0]["code"], "MODEL_UNAVAILABLE", "{payload}");
    assert_untouched((server, app, hotel)).await;
}

#[tokio::test]
async fn only_admins_run_calls_for_others_and_only_for_members() {
    let (_server, app, hotel) = stage().await;
    let stranger = app.hotel().await;
    let for_user = |user: String, key: &str| {
        let mut input = call(json!({ "input": "When?", "maxTokens": 50 }), key);
        input["metadata"] = json!({ "userId": user });
        json!({ "input": input })
    };
    let user = hotel.user.id.to_string();

    for person in [&hotel.manager, &hotel.support] {
        let reply = person.asks(EXECUTE, for_user(user.clone(), "for-others")).await;
        assert_eq!(error_code(&reply), "FORBIDDEN", "{reply}");
        assert!(reply["data"]["aiExecute"].is_null());
    }
    let own = hotel.user.asks(EXECUTE, for_user(user.clone(), "for-oneself")).await;
    assert_eq!(own["data"]["aiExecute"]["execution"]["status"], "SUCCEEDED", "{own}");
    let theirs = stranger.user.id.to_string();
    for (id, code) in [(theirs, "NOT_FOUND"), (hotel.id.to_string(), "INVALID_ID")] {
        let reply = hotel.admin.asks(EXECUTE, for_user(id, "for-strangers")).await;
        assert_eq!(reply["data"]["aiExecute"]["userErrors"][0]["code"], code, "{reply}");
    }
    assert_eq!(hotel.balance().await, (98, 0));

    let payload = hotel.admin.asks(EXECUTE, for_user(user.clone(), "for-a-member")).await;
    let id = payload["data"]["aiExecute"]["execution"]["id"].as_str().unwrap().to_owned();
    assert_eq!(hotel.user.execution(&id).await["user"]["id"], json!(user));
    assert!(app.drifts().await.is_empty());
}
