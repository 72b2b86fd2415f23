//! What AI functions refuse before anything is sent.

use crate::entity::function_price::AiFunctionType;
use crate::error::{Code, DomainError, Lang};

/// A refusal about AI functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AiError {
    /// The function is not offered.
    FunctionUnavailable(AiFunctionType),
    /// The model has no price for the function.
    ModelUnavailable(String),
}

impl DomainError for AiError {
    fn code(&self) -> Code {
        match self {
            Self::FunctionUnavailable(_) => Code::FunctionUnavailable,
            Self::ModelUnavailable(_) => Code::ModelUnavailable,
        }
    }

    fn message(&self, lang: Lang) -> String {
        match self {
            Self::FunctionUnavailable(function) => lang.pick(
                format!("{function}は現在ご利用いただけません。"),
                format!("{function} is not available."),
            ),
            Self::ModelUnavailable(model) => lang.pick(
                format!("モデル「{model}」はご利用いただけません。"),
                format!("The model \"{model}\" is not available."),
            ),
        }
    }

    fn field(&self) -> Option<Vec<String>> {
        let path: &[&str] = match self {
            Self::FunctionUnavailable(_) => &["input", "functionType"],
            Self::ModelUnavailable(_) => &["input", "parameters", "model"],
        };
        Some(path.iter().map(|step| (*step).to_owned()).collect())
    }
}
