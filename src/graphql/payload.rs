//! Where a cause goes: into `userErrors` of a payload, or to the top level with a code.

use async_graphql::{Enum, ErrorExtensionValues, Interface, SimpleObject, Value};

use crate::error::{Code, Details, DomainError, Error, Lang, Violation};
use crate::graphql::scalars::DateTime;

/// When to try again after a part did not answer.
const RETRY_AFTER_MS: i32 = 1_000;

/// Why a change was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "Code")]
pub enum UserErrorCode {
    /// No valid sign-in came with the call.
    Unauthenticated,
    /// The caller may not do this.
    Forbidden,
    /// There is no such object, or it is not the caller's.
    NotFound,
    /// The id has another kind, or is no id.
    InvalidId,
    /// A value is outside what the field accepts.
    InvalidInput,
    /// The key was used before with another body.
    IdempotencyConflict,
    /// The object changed since the version that the caller named.
    StaleVersion,
    /// The balance does not cover the call.
    InsufficientCredits,
    /// The payment failed.
    PaymentFailed,
    /// The AI function is not offered.
    FunctionUnavailable,
    /// The model is unknown or has no price.
    ModelUnavailable,
    /// The object's state does not allow this.
    InvalidState,
    /// There are as many as there may be.
    LimitReached,
    /// A limit of calls was reached.
    RateLimited,
    /// The person's calls are refused for a while, as their use was unusual.
    SuspiciousActivity,
    /// A part that is needed does not answer; trying again later helps.
    Unavailable,
    /// The call took longer than it may.
    Timeout,
    /// Something went wrong on the server's side.
    Internal,
}

/// A reason why a change was refused, for the person who asked.
#[derive(Clone, Debug, PartialEq, Interface)]
#[graphql(
    field(name = "code", ty = "&UserErrorCode", desc = "The reason, for programs."),
    field(
        name = "field",
        ty = "&Option<Vec<String>>",
        desc = "The path of the blamed value in the arguments, outermost first."
    ),
    field(name = "message", ty = "&String", desc = "The reason, in the caller's language.")
)]
pub enum UserError {
    /// A reason without data of its own.
    General(GeneralError),
    /// The balance does not cover the call.
    InsufficientCredits(InsufficientCredits),
    /// A value is outside what the field accepts.
    InvalidInput(InvalidInput),
    /// The object changed meanwhile.
    StaleVersion(StaleVersion),
    /// The person's calls are refused for a while.
    SuspiciousActivity(SuspiciousActivity),
    /// A limit of calls was reached.
    RateLimited(RateLimited),
}

/// A refusal without data of its own.
#[derive(Clone, Debug, PartialEq, SimpleObject)]
pub struct GeneralError {
    /// The reason, for programs.
    code: UserErrorCode,
    /// The path of the blamed value in the arguments, outermost first.
    field: Option<Vec<String>>,
    /// The reason, in the caller's language.
    message: String,
}

/// The balance does not cover the call.
#[derive(Clone, Debug, PartialEq, SimpleObject)]
pub struct InsufficientCredits {
    /// Always `INSUFFICIENT_CREDITS`.
    code: UserErrorCode,
    /// The path of the blamed value in the arguments, outermost first.
    field: Option<Vec<String>>,
    /// The reason, in the caller's language.
    message: String,
    /// Credits that the call needs.
    needed: i32,
    /// Credits that can be spent now.
    available: i32,
    /// Credits that running calls hold.
    held: i32,
}

/// A value is outside what the field accepts.
#[derive(Clone, Debug, PartialEq, SimpleObject)]
pub struct InvalidInput {
    /// Always `INVALID_INPUT`.
    code: UserErrorCode,
    /// The path of the refused value in the arguments, outermost first.
    field: Option<Vec<String>>,
    /// What is wrong, in the caller's language.
    message: String,
}

/// The object changed since the version that the caller named.
#[derive(Clone, Debug, PartialEq, SimpleObject)]
pub struct StaleVersion {
    /// Always `STALE_VERSION`.
    code: UserErrorCode,
    /// The path of the blamed value in the arguments, outermost first.
    field: Option<Vec<String>>,
    /// The reason, in the caller's language.
    message: String,
    /// The version that the object has now.
    current_version: i32,
}

/// The person's calls are refused for a while, as their use was unusual. An ADMIN can lift it.
#[derive(Clone, Debug, PartialEq, SimpleObject)]
pub struct SuspiciousActivity {
    /// Always `SUSPICIOUS_ACTIVITY`.
    code: UserErrorCode,
    /// The path of the blamed value in the arguments, outermost first.
    field: Option<Vec<String>>,
    /// The reason, in the caller's language.
    message: String,
    /// When it ends by itself.
    blocked_until: DateTime,
}

/// A limit of calls was reached; nothing was taken of it.
#[derive(Clone, Debug, PartialEq, SimpleObject)]
pub struct RateLimited {
    /// Always `RATE_LIMITED`.
    code: UserErrorCode,
    /// The path of the blamed value in the arguments, outermost first.
    field: Option<Vec<String>>,
    /// The reason, in the caller's language.
    message: String,
    /// Calls that the limit allows in its period.
    limit: i32,
    /// Calls of it that are left now.
    remaining: i32,
    /// Seconds until the call could pass.
    retry_after_seconds: i32,
}

/// Declares payloads of mutations: objects that were changed, null when that was refused, and why.
#[macro_export]
macro_rules! payloads {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Default, async_graphql::SimpleObject)]
        pub struct $name {
            $($(#[$field_doc])* $field: Option<$type>,)*
            /// Why it was refused; empty when it was done.
            user_errors: Vec<$crate::graphql::payload::UserError>,
        }

        impl $name {
            fn refused(user_errors: Vec<$crate::graphql::payload::UserError>) -> Self {
                Self { user_errors, ..Self::default() }
            }
        }
    )*};
}

/// The `userErrors` of a refusal; `None` when the cause belongs to the top level.
pub fn user_errors(error: &Error, lang: Lang) -> Option<Vec<UserError>> {
    match error {
        Error::Invalid(violations) => {
            Some(violations.iter().map(|violation| of_violation(violation, lang)).collect())
        }
        Error::Refused(refusal) if is_top_level(refusal.code()) => None,
        Error::Refused(refusal) => Some(vec![of_refusal(refusal.as_ref(), lang)]),
        Error::NotFound(_) | Error::InvalidId => {
            Some(vec![plain(error.code(), None, error.message(lang))])
        }
        Error::Unauthenticated
        | Error::Forbidden
        | Error::Unavailable(_)
        | Error::Timeout
        | Error::Broken(_) => None,
    }
}

/// The top-level error: a message without its cause, and the extensions `code`, `requestId`,
/// `retryAfterMs` when waiting helps, `limit` and `remaining` when a limit was reached,
/// `violations` when values were refused. This is the boundary at which a fault of ours is logged,
/// so convert an error once.
pub fn top_level(error: &Error, lang: Lang, request_id: &str) -> async_graphql::Error {
    if let Error::Broken(cause) = error {
        tracing::error!(
            request.id = request_id,
            error = cause.as_ref() as &dyn std::error::Error,
            "A request failed: {cause}"
        );
    }
    let mut extensions = ErrorExtensionValues::default();
    extensions.set("code", top_level_code(error).as_str());
    extensions.set("requestId", request_id);
    if let Error::Unavailable(_) = error {
        extensions.set("retryAfterMs", RETRY_AFTER_MS);
    }
    if let Error::Refused(refusal) = error
        && let Details::RateLimited { limit, remaining, retry_after_ms } = refusal.details()
    {
        extensions.set("retryAfterMs", retry_after_ms);
        extensions.set("limit", limit);
        extensions.set("remaining", remaining);
    }
    if let Error::Invalid(violations) = error {
        let shown = violations.iter().map(|violation| show(violation, lang)).collect();
        extensions.set("violations", Value::List(shown));
    }
    async_graphql::Error {
        message: error.message(lang),
        source: None,
        extensions: Some(extensions),
    }
}

/// The violations' own code when they share one, so that a wrong id says `INVALID_ID`.
fn top_level_code(error: &Error) -> Code {
    let Error::Invalid(violations) = error else { return error.code() };
    match violations.split_first() {
        Some((first, rest)) if rest.iter().all(|other| other.code == first.code) => first.code,
        Some(_) | None => error.code(),
    }
}

fn show(violation: &Violation, lang: Lang) -> Value {
    let field = violation.field.iter().map(|step| Value::from(step.as_str())).collect();
    let message = lang.pick(violation.ja.as_str(), violation.en.as_str());
    async_graphql::value!({
        "code": (violation.code.as_str()),
        "field": (Value::List(field)),
        "message": message,
    })
}

/// Whether the code never stands in `userErrors`.
fn is_top_level(code: Code) -> bool {
    match code {
        Code::Unauthenticated
        | Code::Forbidden
        | Code::Unavailable
        | Code::Timeout
        | Code::Internal => true,
        Code::NotFound
        | Code::InvalidId
        | Code::InvalidInput
        | Code::IdempotencyConflict
        | Code::StaleVersion
        | Code::InsufficientCredits
        | Code::PaymentFailed
        | Code::FunctionUnavailable
        | Code::ModelUnavailable
        | Code::InvalidState
        | Code::LimitReached
        | Code::RateLimited
        | Code::SuspiciousActivity => false,
    }
}

fn of_violation(violation: &Violation, lang: Lang) -> UserError {
    let message = lang.pick(violation.ja.as_str(), violation.en.as_str());
    plain(violation.code, Some(violation.field.clone()), message)
}

fn of_refusal(refusal: &dyn DomainError, lang: Lang) -> UserError {
    let code = refusal.code().into();
    let (field, message) = (refusal.field(), refusal.message(lang));
    match refusal.details() {
        Details::None => plain(refusal.code(), field, message),
        Details::InsufficientCredits { needed, available, held } => {
            let [needed, available, held] = [needed, available, held].map(int);
            InsufficientCredits { code, field, message, needed, available, held }.into()
        }
        Details::StaleVersion { current_version } => {
            StaleVersion { code, field, message, current_version: int(current_version) }.into()
        }
        Details::SuspiciousActivity { blocked_until } => {
            let blocked_until = DateTime(blocked_until);
            SuspiciousActivity { code, field, message, blocked_until }.into()
        }
        Details::RateLimited { limit, remaining, retry_after_ms } => {
            let seconds = retry_after_ms.saturating_add(999) / 1_000;
            let [limit, remaining, retry_after_seconds] = [limit, remaining, seconds].map(int);
            RateLimited { code, field, message, limit, remaining, retry_after_seconds }.into()
        }
    }
}

fn plain(code: Code, field: Option<Vec<String>>, message: String) -> UserError {
    if code == Code::InvalidInput {
        return InvalidInput { code: code.into(), field, message }.into();
    }
    GeneralError { code: code.into(), field, message }.into()
}

/// An `Int` of the API, at its bound when the number lies beyond.
pub fn int(number: i64) -> i32 {
    i32::try_from(number).unwrap_or(if number < 0 { i32::MIN } else { i32::MAX })
}
