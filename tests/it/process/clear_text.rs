//! What the program leaves behind, on disk and in its log, holds nothing that people said or who
//! they are.

use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::json;

use crate::support::database::is_postgres;
use crate::support::model_server::{Behaviour, ModelServer};
use crate::support::process::{EXECUTE, Home};

const PROMPT: &str = "Mrs Kobayashi in room 713 is allergic to buckwheat";
const PROMPT_JA: &str = "七一三号室の小林様は蕎麦アレルギーです";
const CONTEXT: &str = "The guest's passport number is TK8842917";
const RESULT: &str = "Tell the kitchen that Kobayashi cannot have soba";
const HALF: &str = "Kobayashi wishes to be woken at half past five";

#[tokio::test]
async fn neither_the_database_nor_the_log_holds_what_people_said() {
    let models = ModelServer::start().await;
    // Every detail that an operator can ask for of our own code.
    let home = Home::hotel(1_000)
        .await
        .with_models(&models)
        .with("RUST_LOG", "info,musubi=trace,sea_orm=debug,sqlx=debug,async_openai=trace");
    let mut process = home.serve().await;
    let client = process.client(&home.guests().admin);
    let call = async |key: &str, input: &str, custom: serde_json::Value| {
        let parameters = json!({ "input": input, "maxTokens": 50, "customOptions": custom });
        let metadata = json!({ "context": CONTEXT });
        let input = json!({ "functionType": "CHATBOT", "parameters": parameters,
            "metadata": metadata, "idempotencyKey": key });
        let reply = client.tries(EXECUTE, json!({ "input": input })).await.unwrap();
        reply["data"]["aiExecute"].clone()
    };

    models.respond(Behaviour::answer(RESULT));
    assert_eq!(call("said-0001", PROMPT, json!({})).await["execution"]["status"], "SUCCEEDED");
    models.respond(Behaviour::answer(RESULT));
    assert_eq!(call("said-0002", PROMPT_JA, json!({})).await["execution"]["status"], "SUCCEEDED");
    // A provider that repeats what it was told in its error, and one that breaks off.
    let echo = json!({ "error": { "message": format!("Bad prompt: {PROMPT}"),
        "type": "invalid_request_error", "code": "bad" } });
    models.respond(Behaviour::status(400, &echo));
    assert_eq!(call("said-0003", PROMPT, json!({})).await["execution"]["status"], "FAILED");
    let events = vec![half_event(), RESULT.to_owned()];
    models.respond(Behaviour::Raw { events, stays_open: false });
    assert_eq!(call("said-0004", PROMPT, json!({})).await["execution"]["status"], "FAILED");
    // Refused: nothing is remembered, and nothing logged.
    let refused = call("said-0005", PROMPT, json!({ "no-such-option": CONTEXT })).await;
    assert!(refused["execution"].is_null(), "{refused}");
    let document = format!("{{ noSuchField(text: \"{PROMPT}\") }}");
    client.tries(&document, json!({})).await.unwrap();
    // Killed in the middle.
    let calls = models.calls() + 1;
    models.respond(Behaviour::Answer {
        text: RESULT.to_owned(),
        usage: None,
        pieces: 4,
        delay: Duration::from_secs(20),
    });
    client.starts(PROMPT, "said-0006").await;
    models.wait_for_calls(calls).await;
    process.kill();

    let mut process = home.serve().await;
    home.connect().await.until_nothing_is_held().await;
    for job in musubi::jobs::JOBS {
        home.gets(&["job", job.name]).await;
    }
    // With the WAL: nothing was closed in order.
    process.kill();
    nothing_is_found(&home);
}

fn nothing_is_found(home: &Home) {
    let dump = dump(home);
    assert!(dump.len() > 10_000);
    assert!(find(&dump, "said-0001"), "the dump holds the rows");
    let said = [PROMPT, PROMPT_JA, CONTEXT, RESULT, HALF, "TK8842917", "Kobayashi", "小林様"];
    let emails = home.guests().emails.iter().map(String::as_str);
    for text in said.into_iter().chain(emails) {
        for form in forms(text) {
            assert!(!find(&dump, &form), "the database holds {text} as {form}");
            assert!(!home.printed().contains(&form), "the log holds {text} as {form}");
        }
    }
    let printed = home.printed();
    for secret in [&*home.guests().admin, "test-key"] {
        assert!(!printed.contains(secret), "the log holds a secret");
        assert!(!find(&dump, secret), "the database holds a secret");
    }
    assert!(printed.contains("The provider failed an execution"), "the log was on");
}

fn half_event() -> String {
    let delta = json!({ "role": "assistant", "content": HALF });
    json!({ "id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] })
    .to_string()
}

/// How a text may look in a dump.
fn forms(text: &str) -> Vec<String> {
    let hex = text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let escaped = json!(text).to_string().trim_matches('"').to_owned();
    let ascii = text.chars().map(|c| match c.is_ascii() {
        true => c.to_string(),
        false => format!("\\u{:04x}", u32::from(c)),
    });
    let mut forms = vec![text.to_owned(), escaped, ascii.collect(), hex.to_uppercase(), hex];
    for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
        // The end depends on what follows.
        let coded = engine.encode(text);
        forms.push(coded[..coded.len() - 3].to_owned());
    }
    forms
}

fn find(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// All bytes that the database keeps.
fn dump(home: &Home) -> Vec<u8> {
    if is_postgres() {
        let dump = Command::new("pg_dump").arg(home.database_url()).output().unwrap();
        assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
        return dump.stdout;
    }
    let file = home.database_url().trim_start_matches("sqlite:").to_owned();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.extend(std::fs::read(format!("{file}-wal")).unwrap());
    bytes
}
