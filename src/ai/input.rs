//! What a caller asks of a function, checked: values out of range are refused with their path.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::entity::function_price::AiFunctionType;
use crate::error::{Error, Result, Violation};
use crate::ids::UserId;

/// Characters of an input at most.
const INPUT_MAX: usize = 32_000;
/// Characters of a context at most.
const CONTEXT_MAX: usize = 8_000;
/// Tokens of output when the caller names no limit.
const DEFAULT_MAX_TOKENS: i64 = 800;

/// A call as it came in.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The function.
    pub function: AiFunctionType,
    /// The message.
    pub input: String,
    /// The model; none: the function's default.
    pub model: Option<String>,
    /// Sampling temperature; none: 0.7.
    pub temperature: Option<Decimal>,
    /// Output tokens at most; none: 800.
    pub max_tokens: Option<i64>,
    /// More options of the function.
    pub custom_options: Option<Value>,
    /// For whom it runs; none: the caller.
    pub user: Option<UserId>,
    /// What the model should know beside the message.
    pub context: Option<String>,
    /// Labels to find it again.
    pub tags: Vec<String>,
}

/// What a function is given, as it is sealed beside the execution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    /// The message.
    pub input: String,
    /// What the model should know beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Sampling temperature, 0 to 2.
    pub temperature: Decimal,
    /// The allow-listed options, as the provider calls them.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Value>,
}

/// A call that may be priced and run.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What the function is given.
    pub parameters: Parameters,
    /// Output tokens at most.
    pub max_tokens: i64,
    /// Labels, each once, sorted.
    pub tags: Vec<String>,
}

impl Wish {
    /// Checks every value; refuses all that is wrong at once.
    pub fn check(&self) -> Result<Checked> {
        let mut violations = Vec::new();
        let temperature = self.temperature.unwrap_or(Decimal::new(7, 1));
        let max_tokens = self.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS);
        let input_length = self.input.chars().count();
        if self.input.trim().is_empty() || input_length > INPUT_MAX {
            violations.push(Violation::new(
                "input.parameters.input",
                "1〜32,000文字で入力してください。",
                "must have 1 to 32 000 characters",
            ));
        }
        if !(Decimal::ZERO..=Decimal::TWO).contains(&temperature) {
            violations.push(Violation::new(
                "input.parameters.temperature",
                "0〜2で指定してください。",
                "must be 0 to 2",
            ));
        }
        if !(1..=4_000).contains(&max_tokens) {
            violations.push(Violation::new(
                "input.parameters.maxTokens",
                "1〜4,000で指定してください。",
                "must be 1 to 4 000",
            ));
        }
        if self.context.as_ref().is_some_and(|text| text.chars().count() > CONTEXT_MAX) {
            violations.push(Violation::new(
                "input.metadata.context",
                "8,000文字以内で入力してください。",
                "must have at most 8 000 characters",
            ));
        }
        let options = options(self.custom_options.as_ref(), &mut violations);
        let tags = tags(&self.tags, &mut violations);
        if !violations.is_empty() {
            return Err(Error::Invalid(violations));
        }
        let parameters = Parameters {
            input: self.input.clone(),
            context: self.context.clone().filter(|text| !text.trim().is_empty()),
            temperature,
            options,
        };
        Ok(Checked { parameters, max_tokens, tags })
    }

    /// The whole call in one canonical form, for the digest of its idempotency key.
    pub fn fingerprint(&self) -> Value {
        serde_json::json!([
            self.function,
            self.input,
            self.model,
            self.temperature.map(|value| value.normalize().to_string()),
            self.max_tokens,
            self.custom_options,
            self.user,
            self.context,
            self.tags,
        ])
    }
}

fn tags(tags: &[String], violations: &mut Vec<Violation>) -> Vec<String> {
    // PostgreSQL refuses a text with NUL.
    let is_label =
        |tag: &String| !tag.trim().is_empty() && tag.chars().count() <= 50 && !tag.contains('\0');
    if tags.len() > 10 || !tags.iter().all(is_label) {
        violations.push(Violation::new(
            "input.metadata.tags",
            "10個以内、各1〜50文字で指定してください。",
            "must be at most 10 labels of 1 to 50 characters",
        ));
    }
    let mut tags = tags.to_vec();
    tags.sort_unstable();
    tags.dedup();
    tags
}

/// Reads the options that the chat functions know: `topP` 0 to 1, `presencePenalty` and
/// `frequencyPenalty` -2 to 2, `seed`, `stop` with at most 4 strings.
fn options(given: Option<&Value>, violations: &mut Vec<Violation>) -> Map<String, Value> {
    let mut options = Map::new();
    let object = match given {
        None | Some(Value::Null) => return options,
        Some(Value::Object(object)) => object,
        Some(_) => {
            violations.push(Violation::new(
                "input.parameters.customOptions",
                "オブジェクトで指定してください。",
                "must be an object",
            ));
            return options;
        }
    };
    for (name, value) in object {
        let (known_as, fits) = match name.as_str() {
            "topP" => ("top_p", is_between(value, 0.0, 1.0)),
            "presencePenalty" => ("presence_penalty", is_between(value, -2.0, 2.0)),
            "frequencyPenalty" => ("frequency_penalty", is_between(value, -2.0, 2.0)),
            "seed" => ("seed", value.is_i64()),
            "stop" => ("stop", is_stop(value)),
            _ => ("", false),
        };
        if fits {
            options.insert(known_as.to_owned(), value.clone());
            continue;
        }
        let (ja, en) = if known_as.is_empty() {
            ("使用できないオプションです。", "is not an option of this function")
        } else {
            ("値が範囲外です。", "is out of range")
        };
        let mut violation = Violation::new("input.parameters.customOptions", ja, en);
        // Pushed, not joined: the client's own name may hold a dot.
        violation.field.push(name.clone());
        violations.push(violation);
    }
    options
}

fn is_between(value: &Value, min: f64, max: f64) -> bool {
    value.as_f64().is_some_and(|number| (min..=max).contains(&number))
}

fn is_stop(value: &Value) -> bool {
    value.as_array().is_some_and(|stops| {
        let mut texts = stops.iter().map(Value::as_str);
        (1..=4).contains(&stops.len())
            && texts.all(|text| text.is_some_and(|text| (1..=100).contains(&text.len())))
    })
}
