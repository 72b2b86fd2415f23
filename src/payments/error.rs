//! What payments refuse, and what a refused card means.

use crate::entity::credit_purchase::FailureCode;
use crate::error::{Code, DomainError, Lang};
use crate::external::stripe::Decline;
use crate::payments::cards::CARDS_MAX;
use crate::payments::invoices::issue::UNPAID_MAX;

/// A refusal about payments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaymentError {
    /// The package is not on sale for the tenant today.
    PackageUnavailable,
    /// The payment failed.
    Failed(FailureCode),
    /// The purchase was given up.
    Cancelled,
    /// The stored card was removed.
    CardRemoved,
    /// The tenant has as many cards as it may.
    TooManyCards,
    /// Stripe does not take what was given to store a card.
    MethodRefused,
    /// The tenant has no card to charge by itself.
    NoDefaultCard,
    /// No package brings as many credits as are wanted.
    NoFittingPackage,
    /// The tenant has as many unpaid invoices as it may have.
    TooManyUnpaid,
    /// It is no invoice that can still be taken back.
    NotCancellable,
    /// Nothing of the purchase can go back: it is not paid, all of it went back, or it is disputed.
    NotRefundable,
    /// Stripe has yet to answer another refund of the purchase.
    RefundUnderWay,
    /// The purchase has fewer unspent credits that no running call holds.
    SpentAlready {
        /// How many it has.
        unspent: i64,
    },
    /// What the credits cost rounds to nothing, or all of the price has gone back.
    NothingLeft,
    /// Stripe did not give the money back.
    RefundFailed,
}

impl DomainError for PaymentError {
    fn code(&self) -> Code {
        match self {
            Self::PackageUnavailable
            | Self::Cancelled
            | Self::CardRemoved
            | Self::NoDefaultCard
            | Self::NoFittingPackage
            | Self::NotCancellable
            | Self::NotRefundable
            | Self::RefundUnderWay
            | Self::SpentAlready { .. }
            | Self::NothingLeft => Code::InvalidState,
            Self::Failed(_) | Self::MethodRefused | Self::RefundFailed => Code::PaymentFailed,
            Self::TooManyCards | Self::TooManyUnpaid => Code::LimitReached,
        }
    }

    fn message(&self, lang: Lang) -> String {
        match self {
            Self::PackageUnavailable => lang.pick(
                "このパッケージは現在ご購入いただけません。",
                "This package is not on sale for you.",
            ),
            Self::Failed(code) => explain(*code, lang),
            Self::Cancelled => {
                lang.pick("この購入は取り消されました。", "This purchase was cancelled.")
            }
            Self::TooManyCards => lang.pick(
                format!("登録できるカードは{CARDS_MAX}枚までです。"),
                format!("There are {CARDS_MAX} cards already, as many as there may be."),
            ),
            Self::MethodRefused => explain(FailureCode::PaymentRefused, lang),
            Self::CardRemoved => {
                lang.pick("このカードは削除されています。", "This card was removed.")
            }
            Self::NoDefaultCard => lang.pick(
                "自動購入には、既定のカードの登録が必要です。",
                "Automatic purchase takes a default card.",
            ),
            Self::NoFittingPackage => lang.pick(
                "しきい値を超えるクレジットのパッケージが販売されていません。",
                "No package on sale brings more credits than the threshold.",
            ),
            Self::TooManyUnpaid => lang.pick(
                format!("未払いの請求書は{UNPAID_MAX}件までです。お支払いまたは取り消しの後にお試しください。"),
                format!("There are {UNPAID_MAX} unpaid invoices. Pay or cancel one first."),
            ),
            Self::NotCancellable => lang.pick(
                "取り消せるのは、まだ支払われていない請求書払いの購入のみです。",
                "Only a purchase whose invoice is unpaid can be cancelled.",
            ),
            Self::NotRefundable => lang.pick(
                "返金できるのは、Stripeで支払い済みで、全額返金も異議申し立てもされていない購入のみです。",
                "Only a purchase that was paid through Stripe, and is neither disputed nor wholly \
                 refunded, can be refunded.",
            ),
            Self::RefundUnderWay => lang.pick(
                "この購入の返金を処理中です。完了後にお試しください。",
                "Another refund of this purchase is under way. Try again when it has ended.",
            ),
            Self::SpentAlready { unspent } => lang.pick(
                format!("返金できる未使用のクレジットは{unspent}です。"),
                format!("The purchase has {unspent} unspent credits that can be refunded."),
            ),
            Self::NothingLeft => lang.pick(
                "返金できる金額が残っていません。",
                "These credits stand for no money that could still go back.",
            ),
            Self::RefundFailed => lang.pick(
                "返金できませんでした。クレジットは元に戻されました。",
                "The money was not given back. The credits are back on the account.",
            ),
        }
    }

    fn field(&self) -> Option<Vec<String>> {
        match self {
            Self::PackageUnavailable => Some(vec!["input".into(), "packageId".into()]),
            Self::CardRemoved => Some(vec!["input".into(), "storedCardId".into()]),
            Self::NoDefaultCard => Some(vec!["input".into(), "enabled".into()]),
            Self::NoFittingPackage => Some(vec!["input".into(), "amount".into()]),
            Self::TooManyUnpaid => Some(vec!["input".into(), "paymentMethod".into()]),
            Self::NotCancellable => Some(vec!["id".into()]),
            Self::NotRefundable | Self::RefundUnderWay => {
                Some(vec!["input".into(), "purchaseId".into()])
            }
            Self::SpentAlready { .. } | Self::NothingLeft => {
                Some(vec!["input".into(), "credits".into()])
            }
            Self::Failed(_)
            | Self::Cancelled
            | Self::TooManyCards
            | Self::MethodRefused
            | Self::RefundFailed => None,
        }
    }
}

impl PaymentError {
    /// What a refused card means.
    pub(crate) fn of_decline(decline: &Decline) -> Self {
        Self::Failed(FailureCode::of(decline))
    }
}

/// What the buyer is told of a failed payment.
pub fn explain(code: FailureCode, lang: Lang) -> String {
    let (ja, en) = match code {
        FailureCode::CardDeclined => (
            "カードが承認されませんでした。別のカードをお試しになるか、カード会社にお問い合わせください。",
            "The card was declined. Try another card, or ask its issuer.",
        ),
        FailureCode::InsufficientFunds => (
            "カードの残高または利用可能額が不足しています。",
            "The card does not cover the amount.",
        ),
        FailureCode::ExpiredCard => ("カードの有効期限が切れています。", "The card has expired."),
        FailureCode::IncorrectCard => (
            "カード番号、有効期限またはセキュリティコードが正しくありません。",
            "The card's number, date or security code is wrong.",
        ),
        FailureCode::AuthenticationFailed => (
            "カード会社による本人認証が完了しませんでした。もう一度お試しください。",
            "The card's issuer could not authenticate you. Please try again.",
        ),
        FailureCode::ProcessingError => (
            "カードの処理中に問題が発生しました。しばらくしてからもう一度お試しください。",
            "The card could not be processed. Please try again later.",
        ),
        FailureCode::PaymentRefused => (
            "お支払い方法を利用できませんでした。入力し直してお試しください。",
            "The payment method could not be used. Please enter it again.",
        ),
        FailureCode::NotStarted => (
            "お支払いは行われませんでした。もう一度お試しください。",
            "The payment was not made. Please try again.",
        ),
    };
    lang.pick(ja, en)
}

impl FailureCode {
    /// What a refused card means: the bank's reason where it gives one.
    pub(crate) fn of(decline: &Decline) -> Self {
        match decline.reason() {
            "insufficient_funds" | "withdrawal_count_limit_exceeded" | "card_velocity_exceeded" => {
                Self::InsufficientFunds
            }
            "expired_card" => Self::ExpiredCard,
            "incorrect_number"
            | "invalid_number"
            | "incorrect_cvc"
            | "invalid_cvc"
            | "invalid_expiry_month"
            | "invalid_expiry_year"
            | "incorrect_zip" => Self::IncorrectCard,
            "authentication_required"
            | "authentication_not_handled"
            | "payment_intent_authentication_failure" => Self::AuthenticationFailed,
            "processing_error"
            | "issuer_not_available"
            | "try_again_later"
            | "reenter_transaction"
            | "approve_with_id" => Self::ProcessingError,
            // What Stripe or a bank may add is a refusal, too.
            _ => Self::CardDeclined,
        }
    }
}
