//! What limits refuse.

use chrono::TimeDelta;

use crate::entity::function_price::AiFunctionType;
use crate::error::{Code, Details, DomainError, Lang};
use crate::limits::table::{HOUR, Limit};

/// What there was too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Something that each caller is limited in.
    Limit(Limit),
    /// A function in its hour.
    Function(AiFunctionType),
}

/// Refused: a limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimited {
    /// Which.
    pub what: What,
    /// How many there are in its period.
    pub limit: i64,
    /// How many are left.
    pub remaining: i64,
    /// When the call could pass.
    pub retry_after: TimeDelta,
}

impl RateLimited {
    /// Whole seconds until the call could pass; never 0.
    pub fn retry_after_seconds(&self) -> i64 {
        let ms = self.retry_after.num_milliseconds();
        (ms.saturating_add(999) / 1_000).max(1)
    }

    fn period(&self) -> TimeDelta {
        match self.what {
            What::Limit(limit) => limit.allowance().1,
            What::Function(_) => HOUR,
        }
    }
}

impl DomainError for RateLimited {
    fn code(&self) -> Code {
        Code::RateLimited
    }

    fn message(&self, lang: Lang) -> String {
        let (limit, seconds) = (self.limit, self.retry_after_seconds());
        let (ja, en) = match self.period().num_minutes() {
            1 => ("1分".to_owned(), "minute".to_owned()),
            60 => ("1時間".to_owned(), "hour".to_owned()),
            1_440 => ("1日".to_owned(), "day".to_owned()),
            minutes => (format!("{minutes}分"), format!("{minutes} minutes")),
        };
        let (what_ja, what_en) = match self.what {
            What::Limit(Limit::Operations) => ("リクエスト", "operations"),
            What::Limit(Limit::CreditUse) => ("AI実行", "AI calls"),
            What::Limit(Limit::Purchases) => ("購入", "purchases"),
            What::Limit(Limit::Analytics) => ("分析", "analytics"),
            What::Limit(Limit::SignInLinks | Limit::SignInTries) => {
                ("サインイン", "tries to sign in")
            }
            What::Limit(Limit::Invitations) => ("招待メール", "invitations"),
            What::Limit(Limit::InvitationsToAddress) => {
                ("このアドレスへの招待メール", "invitations to this address")
            }
            What::Function(_) => ("この機能の実行", "calls of this function"),
        };
        lang.pick(
            format!(
                "{what_ja}の上限（{ja}に{limit}件）に達しました。{seconds}秒後にお試しください。"
            ),
            format!(
                "The limit of {limit} {what_en} per {en} is reached. Please try again in \
                 {seconds} s."
            ),
        )
    }

    fn details(&self) -> Details {
        Details::RateLimited {
            limit: self.limit,
            remaining: self.remaining,
            retry_after_ms: self.retry_after.num_milliseconds().max(1),
        }
    }
}
