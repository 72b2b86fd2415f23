//! How well a month's credits were used, as one number.
//!
//! `score = 100 × (0.5 · successful runs ÷ runs + 0.3 · credits on successful runs ÷ credits used +
//! 0.2 · min(1, credits used ÷ free credits))`; a term whose divisor is 0 counts 0; no runs, no
//! score.
//!
//! Example: 90 of 100 runs succeeded, 180 of 190 credits went to them, of 200 free ones:
//! `100 × (0.5 · 0.9 + 0.3 · 0.9474 + 0.2 · 0.95) = 92.42`.

use chrono::NaiveDate;

use crate::credits::period;
use crate::entity::function_price::AiFunctionType;
use crate::entity::usage_daily;

/// What was used over some days.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MonthUse {
    /// Executions that ended.
    pub runs: i64,
    /// Those that failed or were cancelled.
    pub failures: i64,
    /// Credits charged.
    pub credits: i64,
    /// Of them, on successful runs.
    pub credits_on_success: i64,
    /// The function that used the most credits; the first by name among equals.
    pub most_used: Option<AiFunctionType>,
}

impl MonthUse {
    /// The use within a period.
    pub fn of(days: &[usage_daily::Model], period: NaiveDate) -> Self {
        Self::sum(days.iter().filter(|row| period::first_of_month(row.day) == period))
    }

    /// The use over all the rows.
    pub fn sum<'a>(rows: impl Iterator<Item = &'a usage_daily::Model>) -> Self {
        let mut total = Self::default();
        let mut by_function = std::collections::BTreeMap::<AiFunctionType, i64>::new();
        for row in rows {
            total.runs += row.runs;
            total.failures += row.failures;
            total.credits += row.credits;
            total.credits_on_success += row.credits_on_success;
            *by_function.entry(row.function_type).or_default() += row.credits;
        }
        total.most_used = by_function
            .into_iter()
            .filter(|(_, credits)| *credits > 0)
            .max_by_key(|(function, credits)| (*credits, std::cmp::Reverse(*function)))
            .map(|(function, _)| function);
        total
    }
}

/// A score with the term that pulls it down most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Score {
    /// 0 to 10 000: hundredths of a point.
    pub hundredths: i64,
    /// Where the most points are lost.
    pub weakest: Term,
}

/// A term of the score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// Runs that succeed.
    Success,
    /// Credits that go to successful runs.
    CreditsOnSuccess,
    /// Free credits that are used at all.
    FreeCreditsUsed,
}

/// The score of a period; none without runs.
pub fn score(used: &MonthUse, free_credits: i64) -> Option<Score> {
    if used.runs <= 0 {
        return None;
    }
    // Each term in millionths of its weight, so that the sum rounds once.
    let share = |part: i64, whole: i64| match whole {
        0 => 0,
        whole => (i128::from(part.clamp(0, whole)) * 1_000_000) / i128::from(whole),
    };
    let terms = [
        (Term::Success, 50, share(used.runs - used.failures, used.runs)),
        (Term::CreditsOnSuccess, 30, share(used.credits_on_success, used.credits)),
        (Term::FreeCreditsUsed, 20, share(used.credits.min(free_credits), free_credits)),
    ];
    let total: i128 = terms.iter().map(|(_, weight, share)| weight * share).sum();
    let weakest = terms
        .iter()
        .max_by_key(|(_, weight, share)| weight * (1_000_000 - share))
        .map_or(Term::Success, |(term, _, _)| *term);
    let hundredths = i64::try_from((total + 5_000) / 10_000).unwrap_or(10_000);
    Some(Score { hundredths, weakest })
}
