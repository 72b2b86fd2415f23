//! All that can leave a service: a refusal with a code, or a fault that is ours.
//!
//! A domain refuses with its own enum that implements [`DomainError`]. `?` carries it; the shell
//! turns it into a `userError` or a top-level error. The cause of a fault is logged once, at the
//! boundary, and never shown.

use std::fmt;

use chrono::{DateTime, Utc};

/// The language of a message to a person. Japanese is the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lang {
    /// Japanese.
    #[default]
    Ja,
    /// English.
    En,
}

impl Lang {
    /// The language that an `Accept-Language` header prefers; Japanese when it names neither.
    pub fn from_accept_language(header: &str) -> Self {
        let mut best = (0.0, Self::Ja);
        for (lang, quality) in header.split(',').filter_map(preference) {
            // The first of equals wins, as people write them in order.
            if quality > best.0 {
                best = (quality, lang);
            }
        }
        best.1
    }

    /// Picks the text in this language.
    pub fn pick(self, ja: impl Into<String>, en: impl Into<String>) -> String {
        match self {
            Self::Ja => ja.into(),
            Self::En => en.into(),
        }
    }
}

/// One item of an `Accept-Language` header with its quality, when we speak it.
fn preference(item: &str) -> Option<(Lang, f32)> {
    let mut parts = item.trim().split(';');
    let lang = match parts.next()?.trim().split('-').next()? {
        tag if tag.eq_ignore_ascii_case("ja") => Lang::Ja,
        tag if tag.eq_ignore_ascii_case("en") => Lang::En,
        _ => return None,
    };
    let quality = parts
        .find_map(|part| part.trim().strip_prefix("q="))
        .map_or(Some(1.0), |q| q.trim().parse::<f32>().ok())?;
    Some((lang, quality))
}

/// Every code that a client can meet, in errors and in `userErrors`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
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
    /// A part that we need does not answer; trying again later helps.
    Unavailable,
    /// The call took longer than it may.
    Timeout,
    /// Something went wrong on our side.
    Internal,
}

impl Code {
    /// The code as clients see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Forbidden => "FORBIDDEN",
            Self::NotFound => "NOT_FOUND",
            Self::InvalidId => "INVALID_ID",
            Self::InvalidInput => "INVALID_INPUT",
            Self::IdempotencyConflict => "IDEMPOTENCY_CONFLICT",
            Self::StaleVersion => "STALE_VERSION",
            Self::InsufficientCredits => "INSUFFICIENT_CREDITS",
            Self::PaymentFailed => "PAYMENT_FAILED",
            Self::FunctionUnavailable => "FUNCTION_UNAVAILABLE",
            Self::ModelUnavailable => "MODEL_UNAVAILABLE",
            Self::InvalidState => "INVALID_STATE",
            Self::LimitReached => "LIMIT_REACHED",
            Self::RateLimited => "RATE_LIMITED",
            Self::SuspiciousActivity => "SUSPICIOUS_ACTIVITY",
            Self::Unavailable => "UNAVAILABLE",
            Self::Timeout => "TIMEOUT",
            Self::Internal => "INTERNAL",
        }
    }
}

/// The numbers that some refusals carry beside their message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Details {
    /// Nothing beside the message.
    #[default]
    None,
    /// Credits that the call needs, and what the account has.
    InsufficientCredits { needed: i64, available: i64, held: i64 },
    /// The version that the object has now.
    StaleVersion { current_version: i64 },
    /// Until when the person's calls are refused.
    SuspiciousActivity { blocked_until: DateTime<Utc> },
    /// A limit that was reached: how many there are, how many are left, and when there is one.
    RateLimited { limit: i64, remaining: i64, retry_after_ms: i64 },
}

/// Anything a domain refuses for a business reason.
pub trait DomainError: fmt::Debug + Send + Sync + 'static {
    /// The code for programs.
    fn code(&self) -> Code;
    /// The message for the person, in their language.
    fn message(&self, lang: Lang) -> String;
    /// The input path that is to blame, outermost first.
    fn field(&self) -> Option<Vec<String>> {
        None
    }
    /// Data that the refusal carries.
    fn details(&self) -> Details {
        Details::None
    }
}

/// One value that was refused, with its path in the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The path in the arguments, outermost first.
    pub field: Vec<String>,
    /// What is wrong, in Japanese.
    pub ja: String,
    /// What is wrong, in English.
    pub en: String,
    /// `InvalidInput`, or `InvalidId` / `NotFound` for ids.
    pub code: Code,
}

impl Violation {
    /// A value at `field` (dots separate its steps) that is out of range.
    pub fn new(field: &str, ja: impl Into<String>, en: impl Into<String>) -> Self {
        let field = field.split('.').map(str::to_owned).collect();
        Self { field, ja: ja.into(), en: en.into(), code: Code::InvalidInput }
    }
}

/// What is unavailable when a row stays locked.
pub const LOCK: &str = "lock";

/// All that can leave a service.
#[derive(Debug)]
pub enum Error {
    /// Nobody is signed in, or the sign-in is over.
    Unauthenticated,
    /// The caller is known and may not do this.
    Forbidden,
    /// The id is of another kind, or no id at all.
    InvalidId,
    /// There is no such object, or it belongs to somebody else. Names the kind.
    NotFound(&'static str),
    /// Values that were refused, all of them at once.
    Invalid(Vec<Violation>),
    /// A domain's own refusal.
    Refused(Box<dyn DomainError>),
    /// A part that we need does not answer in time; nothing was changed.
    Unavailable(&'static str),
    /// The work took longer than it may.
    Timeout,
    /// A fault of ours. The cause is for the log only.
    Broken(Box<dyn std::error::Error + Send + Sync>),
}

/// A result whose error can leave a service.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A fault of ours, with its cause for the log.
    pub fn broken(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Broken(cause.into())
    }

    /// One refused value.
    pub fn invalid(field: &str, ja: impl Into<String>, en: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation::new(field, ja, en)])
    }

    /// The same error for another caller of work that was done together. A refusal and a fault
    /// keep their text only.
    pub fn repeat(&self) -> Self {
        match self {
            Self::Unauthenticated => Self::Unauthenticated,
            Self::Forbidden => Self::Forbidden,
            Self::InvalidId => Self::InvalidId,
            Self::NotFound(kind) => Self::NotFound(kind),
            Self::Invalid(violations) => Self::Invalid(violations.clone()),
            Self::Unavailable(part) => Self::Unavailable(part),
            Self::Timeout => Self::Timeout,
            Self::Refused(_) | Self::Broken(_) => Self::broken(self.to_string()),
        }
    }

    /// The code for programs.
    pub fn code(&self) -> Code {
        match self {
            Self::Unauthenticated => Code::Unauthenticated,
            Self::Forbidden => Code::Forbidden,
            Self::InvalidId => Code::InvalidId,
            Self::NotFound(_) => Code::NotFound,
            Self::Invalid(_) => Code::InvalidInput,
            Self::Refused(refusal) => refusal.code(),
            Self::Unavailable(_) => Code::Unavailable,
            Self::Timeout => Code::Timeout,
            Self::Broken(_) => Code::Internal,
        }
    }

    /// The message for a person. Faults of ours say nothing of their cause.
    pub fn message(&self, lang: Lang) -> String {
        match self {
            Self::Unauthenticated => lang.pick("サインインが必要です。", "Sign-in is required."),
            Self::Forbidden => {
                lang.pick("この操作を行う権限がありません。", "You are not allowed to do this.")
            }
            Self::InvalidId => lang.pick("IDの形式が正しくありません。", "This is not an id of that kind."),
            Self::NotFound(_) => lang.pick("見つかりませんでした。", "Not found."),
            Self::Invalid(violations) => violations.first().map_or_else(String::new, |first| {
                lang.pick(first.ja.clone(), first.en.clone())
            }),
            Self::Refused(refusal) => refusal.message(lang),
            Self::Unavailable(_) => lang.pick(
                "ただいま混み合っているか、一部のサービスが応答していません。しばらくしてからお試しください。",
                "A part of the service does not answer right now. Please try again shortly.",
            ),
            Self::Timeout => lang.pick("時間内に完了しませんでした。", "This took too long."),
            Self::Broken(_) => lang.pick(
                "サーバー側で問題が発生しました。",
                "Something went wrong on our side.",
            ),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(kind) => write!(f, "{kind} not found"),
            Self::Unavailable(part) => write!(f, "{part} is unavailable"),
            Self::Broken(cause) => write!(f, "broken: {cause}"),
            Self::Unauthenticated
            | Self::Forbidden
            | Self::InvalidId
            | Self::Invalid(_)
            | Self::Refused(_)
            | Self::Timeout => f.write_str(&self.message(Lang::En)),
        }
    }
}

impl std::error::Error for Error {}

impl<E: DomainError> From<E> for Error {
    fn from(refusal: E) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl From<sea_orm::DbErr> for Error {
    fn from(error: sea_orm::DbErr) -> Self {
        match error {
            sea_orm::DbErr::ConnectionAcquire(_) => Self::Unavailable("database"),
            sea_orm::DbErr::Conn(cause) => {
                tracing::warn!(%cause, "The database did not answer: {cause}");
                Self::Unavailable("database")
            }
            sea_orm::DbErr::Exec(sea_orm::RuntimeErr::SqlxError(cause))
            | sea_orm::DbErr::Query(sea_orm::RuntimeErr::SqlxError(cause))
                if is_passing(&cause) =>
            {
                tracing::warn!(%cause, "The database broke off: {cause}");
                Self::Unavailable(if is_lock(&cause) { LOCK } else { "database" })
            }
            other => Self::broken(other),
        }
    }
}

/// Whether a lock was not had in time (`lock_not_available`).
fn is_lock(cause: &sea_orm::SqlxError) -> bool {
    cause.as_database_error().is_some_and(|error| error.code().as_deref() == Some("55P03"))
}

/// Whether a fault of the database is one of the moment: the connection broke, the server shuts
/// down or takes no more, a lock was not had in time, a deadlock was resolved. The transaction is
/// rolled back, so that the same work may be tried again.
fn is_passing(cause: &sea_orm::SqlxError) -> bool {
    use sea_orm::SqlxError;
    match cause {
        SqlxError::Io(_)
        | SqlxError::Protocol(_)
        | SqlxError::PoolTimedOut
        | SqlxError::PoolClosed
        | SqlxError::WorkerCrashed => true,
        SqlxError::Database(error) => error.code().is_some_and(|code| {
            ["08", "53", "57P", "40", "55P03", "57014"].iter().any(|class| code.starts_with(class))
        }),
        _ => false,
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::broken(error)
    }
}
