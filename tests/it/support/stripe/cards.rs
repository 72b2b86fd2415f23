//! Cards of the double.

use serde_json::{Value, json};

use super::error;

/// What is answered where a customer is named that is none.
pub(super) fn no_such_customer() -> Value {
    let mut refusal = error("invalid_request_error", "resource_missing");
    refusal["error"]["param"] = json!("customer");
    refusal
}
