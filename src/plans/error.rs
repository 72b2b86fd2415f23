//! What is refused about plans.

use crate::error::{Code, DomainError, Lang};

/// A refusal about a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// The tenant pays for a plan already.
    Subscribed,
    /// Stripe took nothing: the card is not one that can be used.
    Refused,
    /// Only what is paid can be changed.
    NotActive,
    /// It ends with its period: it must go on before it is changed.
    Ending,
    /// It does not end.
    NotEnding,
    /// It is the plan that is paid for.
    SamePlan,
    /// Another change waits for its payment or for the period's end.
    ChangePending,
    /// Another change was asked for a moment ago.
    ChangeRunning,
}

impl DomainError for PlanError {
    fn code(&self) -> Code {
        match self {
            Self::Refused => Code::PaymentFailed,
            Self::Subscribed
            | Self::NotActive
            | Self::Ending
            | Self::NotEnding
            | Self::SamePlan
            | Self::ChangePending
            | Self::ChangeRunning => Code::InvalidState,
        }
    }

    fn message(&self, lang: Lang) -> String {
        let (ja, en) = match self {
            Self::Subscribed => (
                "すでにプランを契約中です。",
                "There is a subscription already; change it instead.",
            ),
            Self::Refused => (
                "お支払い方法を利用できませんでした。入力し直してお試しください。",
                "The payment method could not be used. Please enter it again.",
            ),
            Self::NotActive => (
                "お支払いが完了している契約のみ変更できます。",
                "Only a subscription that is paid can be changed.",
            ),
            Self::Ending => (
                "解約の予約を取り消してから変更してください。",
                "It ends with its period; take that back first.",
            ),
            Self::NotEnding => {
                ("解約は予約されていません。", "It does not end; there is nothing to take back.")
            }
            Self::SamePlan => ("現在契約中のプランです。", "This is the plan that is paid for."),
            Self::ChangePending => (
                "別の変更が完了していません。お支払いを完了するか、23時間お待ちください。下位プランへの変更の場合は、現在の\
                 プランを選び直すと取り消せます。",
                "Another change is not done: finish its payment, or wait for 23 hours. One to a \
                 smaller plan is taken back by choosing the present plan again.",
            ),
            Self::ChangeRunning => (
                "プランの変更を処理しています。しばらくしてからお試しください。",
                "Another change is on its way; try again in a moment.",
            ),
        };
        lang.pick(ja, en)
    }

    fn field(&self) -> Option<Vec<String>> {
        match self {
            Self::SamePlan => Some(vec!["input".into(), "planType".into()]),
            Self::Refused
            | Self::Subscribed
            | Self::NotActive
            | Self::Ending
            | Self::NotEnding
            | Self::ChangePending
            | Self::ChangeRunning => None,
        }
    }
}
