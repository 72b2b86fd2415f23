//! A call's parameters: from JSON, or from an address. `null` is absent, unknown members are
//! ignored, anything else of the wrong type is refused.

use async_graphql::Variables;
use axum::extract::Query;
use http::Uri;
use serde_json::{Map, Value};

use crate::graphql::engine::Call;
use crate::http::reply::Refusal;

/// Values in one body at most.
const VALUES_MAX: usize = 20_000;

/// Reads the body of a POST.
pub(super) fn from_body(bytes: &[u8]) -> Result<Call, Refusal> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| Refusal::malformed("The body is not valid UTF-8."))?;
    if has_too_many_values(bytes) {
        return Err(Refusal::malformed("The body has too many values."));
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(members)) => from_object(members).map_err(Refusal::malformed),
        Ok(Value::Array(_)) => Err(Refusal::malformed("Batches are not supported.")),
        Ok(_) => Err(Refusal::malformed("The body is not a JSON object.")),
        Err(_) => Err(Refusal::malformed("The body is not valid JSON.")),
    }
}

/// Whether a body holds more values than may be read. Building them takes time long before the
/// guard of documents sees the first; counting what separates them does not.
fn has_too_many_values(bytes: &[u8]) -> bool {
    let (mut count, mut is_text, mut is_escaped) = (0, false, false);
    for byte in bytes {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_text,
            b'"' => is_text = !is_text,
            b',' | b'[' | b'{' if !is_text => count += 1,
            _ => {}
        }
    }
    count > VALUES_MAX
}

/// Reads the members of a call, in a body or in a WebSocket's `subscribe`.
pub(in crate::http) fn from_object(mut members: Map<String, Value>) -> Result<Call, &'static str> {
    let mut take = |name: &str| members.remove(name).filter(|value| !value.is_null());
    let query = match take("query") {
        Some(Value::String(query)) => Some(query),
        Some(_) => return Err("\"query\" is not a string."),
        None => None,
    };
    let named = match take("documentId") {
        Some(Value::String(id)) => Some(id),
        Some(_) => return Err("\"documentId\" is not a string."),
        None => None,
    };
    let operation_name = match take("operationName") {
        Some(Value::String(name)) => Some(name).filter(|name| !name.is_empty()),
        Some(_) => return Err("\"operationName\" is not a string."),
        None => None,
    };
    let variables = match take("variables") {
        Some(variables @ Value::Object(_)) => Variables::from_json(variables),
        Some(_) => return Err("\"variables\" is not an object."),
        None => Variables::default(),
    };
    let extensions = match take("extensions") {
        Some(Value::Object(extensions)) => extensions,
        Some(_) => return Err("\"extensions\" is not an object."),
        None => Map::new(),
    };
    let document_id = named
        .or_else(|| persisted(&extensions))
        .map(|id| id.strip_prefix("sha256:").unwrap_or(&id).to_ascii_lowercase());
    if query.is_none() && document_id.is_none() {
        return Err("\"query\" is missing.");
    }
    let query = query.unwrap_or_default();
    Ok(Call { query, operation_name, variables, extensions, document_id })
}

/// The id in the extension that clients with persisted queries send.
fn persisted(extensions: &Map<String, Value>) -> Option<String> {
    let id = extensions.get("persistedQuery")?.get("sha256Hash")?.as_str()?;
    Some(id.to_owned())
}

/// Reads the address of a GET. Empty is absent there, as an address has no `null`.
pub(super) fn from_query(uri: &Uri) -> Result<Call, Refusal> {
    let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| Refusal::malformed("The address's parameters cannot be read."))?;
    let mut members = Map::new();
    for (name, text) in pairs.0 {
        let value = match name.as_str() {
            "query" | "operationName" | "documentId" => Value::String(text),
            "variables" | "extensions" => from_text(&text)?,
            // Unknown parameters are ignored.
            _ => continue,
        };
        let is_empty = value == Value::String(String::new());
        if !is_empty && members.insert(name, value).is_some() {
            return Err(Refusal::malformed("A parameter comes twice."));
        }
    }
    from_object(members).map_err(Refusal::malformed)
}

/// JSON within a parameter. Empty is absent.
fn from_text(text: &str) -> Result<Value, Refusal> {
    if text.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(text)
        .map_err(|_| Refusal::malformed("\"variables\" and \"extensions\" are JSON objects."))
}
