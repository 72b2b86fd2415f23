//! What receipts refuse.

use crate::error::{Code, DomainError, Lang};

/// A refusal about a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiptError {
    /// Nothing was paid.
    NotPaid,
    /// The operator has not said who issues receipts.
    NoIssuer,
}

impl DomainError for ReceiptError {
    fn code(&self) -> Code {
        Code::InvalidState
    }

    fn message(&self, lang: Lang) -> String {
        match self {
            Self::NotPaid => lang.pick(
                "お支払いが完了していないため、領収書を発行できません。",
                "There is no receipt, as nothing was paid.",
            ),
            Self::NoIssuer => lang.pick(
                "領収書の発行者が設定されていません。運営者にお問い合わせください。",
                "Receipts are not set up here. Please ask the operator.",
            ),
        }
    }

    fn field(&self) -> Option<Vec<String>> {
        None
    }
}
