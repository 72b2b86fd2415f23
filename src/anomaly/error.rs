//! What a high score refuses.

use chrono::{DateTime, Utc};

use crate::error::{Code, Details, DomainError, Lang};

/// A refusal.
#[derive(Debug)]
pub enum AnomalyError {
    /// The person's calls are refused for a while.
    Suspicious {
        /// Until then, unless an ADMIN lifts it.
        until: DateTime<Utc>,
    },
    /// The block is over already.
    BlockOver,
}

impl DomainError for AnomalyError {
    fn code(&self) -> Code {
        match self {
            Self::Suspicious { .. } => Code::SuspiciousActivity,
            Self::BlockOver => Code::InvalidState,
        }
    }

    fn message(&self, lang: Lang) -> String {
        match self {
            Self::Suspicious { .. } => lang.pick(
                "通常と異なる利用が検知されたため、一時的にAI機能の利用を制限しています。\
                 管理者にお問い合わせください。",
                "Unusual use was noticed, and AI functions are withheld for a while. An ADMIN of \
                 your organisation can lift this.",
            ),
            Self::BlockOver => {
                lang.pick("この制限はすでに終了しています。", "This block is over already.")
            }
        }
    }

    fn details(&self) -> Details {
        match self {
            Self::Suspicious { until } => Details::SuspiciousActivity { blocked_until: *until },
            Self::BlockOver => Details::None,
        }
    }
}
