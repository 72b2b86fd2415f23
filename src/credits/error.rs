//! What credits refuses.

use crate::error::{Code, Details, DomainError, Lang};

/// When to try again while too many calls run: the next may end at any moment.
const RETRY_AFTER_MS: i64 = 1_000;

/// A refusal about credits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreditError {
    /// The account does not cover the call. `held` credits may come back as calls end.
    Insufficient {
        /// Credits that the call needs.
        needed: i64,
        /// Credits that are free.
        available: i64,
        /// Credits that running calls hold.
        held: i64,
    },
    /// As many calls run as the tenant may have at once.
    TooManyRunning {
        /// How many that is.
        max: i64,
    },
    /// The tenant's account is closed.
    AccountClosed,
    /// More is to be given back than the execution cost.
    NothingToRefund {
        /// Credits that can still be given back.
        refundable: i64,
    },
    /// The object was changed since the version that the caller named.
    StaleVersion {
        /// The version it has now.
        current: i64,
    },
    /// The package is no longer on sale.
    PackageRetired,
    /// The tenant pays for its plan by the month.
    Subscribed,
    /// The balance may not grow past 2 000 000 000 credits.
    BalanceTooLarge,
}

impl DomainError for CreditError {
    fn code(&self) -> Code {
        match self {
            Self::Insufficient { .. } => Code::InsufficientCredits,
            Self::TooManyRunning { .. } => Code::RateLimited,
            Self::StaleVersion { .. } => Code::StaleVersion,
            Self::AccountClosed
            | Self::NothingToRefund { .. }
            | Self::PackageRetired
            | Self::Subscribed
            | Self::BalanceTooLarge => Code::InvalidState,
        }
    }

    fn message(&self, lang: Lang) -> String {
        match self {
            Self::Insufficient { needed, available, held: 0 } => lang.pick(
                format!("クレジットが不足しています（必要: {needed}、利用可能: {available}）。"),
                format!("Not enough credits: {needed} needed, {available} available."),
            ),
            Self::Insufficient { needed, available, held } => lang.pick(
                format!(
                    "クレジットが不足しています（必要: {needed}、利用可能: {available}、\
                     実行中の処理が確保: {held}）。"
                ),
                format!(
                    "Not enough credits: {needed} needed, {available} available, \
                     {held} held by calls that are still running."
                ),
            ),
            Self::TooManyRunning { max } => lang.pick(
                format!("同時に実行できるのは{max}件までです。しばらくしてからお試しください。"),
                format!("At most {max} calls run at once; try again when one has ended."),
            ),
            Self::AccountClosed => {
                lang.pick("このアカウントは閉鎖されています。", "This credit account is closed.")
            }
            Self::NothingToRefund { refundable } => lang.pick(
                format!("返金できるのは最大{refundable}クレジットです。"),
                format!("At most {refundable} credits of this execution can be given back."),
            ),
            Self::StaleVersion { current } => lang.pick(
                format!("他の更新が先に行われました（現在のバージョン: {current}）。"),
                format!("It was changed in the meantime (version {current} now)."),
            ),
            Self::PackageRetired => lang.pick(
                "このパッケージは販売を終了しています。",
                "This package is no longer on sale.",
            ),
            Self::Subscribed => lang.pick(
                "このテナントはプランを月額で契約中です。プランの変更は契約から行ってください。",
                "The tenant pays for its plan by the month; change the subscription.",
            ),
            Self::BalanceTooLarge => lang.pick(
                "残高の上限（2,000,000,000クレジット）を超えます。",
                "The balance would pass 2,000,000,000 credits.",
            ),
        }
    }

    fn field(&self) -> Option<Vec<String>> {
        match self {
            Self::StaleVersion { .. } => Some(vec!["input".into(), "expectedVersion".into()]),
            Self::NothingToRefund { .. } => Some(vec!["input".into(), "credits".into()]),
            Self::Insufficient { .. }
            | Self::TooManyRunning { .. }
            | Self::AccountClosed
            | Self::PackageRetired
            | Self::Subscribed
            | Self::BalanceTooLarge => None,
        }
    }

    fn details(&self) -> Details {
        match *self {
            Self::Insufficient { needed, available, held } => {
                Details::InsufficientCredits { needed, available, held }
            }
            Self::StaleVersion { current } => Details::StaleVersion { current_version: current },
            Self::TooManyRunning { max } => {
                Details::RateLimited { limit: max, remaining: 0, retry_after_ms: RETRY_AFTER_MS }
            }
            Self::AccountClosed
            | Self::NothingToRefund { .. }
            | Self::PackageRetired
            | Self::Subscribed
            | Self::BalanceTooLarge => Details::None,
        }
    }
}
