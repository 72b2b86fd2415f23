//! The score by itself: numbers in, numbers out. The formula is in the domain's own words above.

use serde::{Deserialize, Serialize};

use crate::text_enum;

/// Hours of a week.
pub const WEEK: usize = 168;
/// From here on people should know.
pub const WARNING: u8 = 70;
/// From here on the person is blocked.
pub const CRITICAL: u8 = 90;
/// Runs that are too few to judge by.
const WARM: u32 = 20;
/// The highest score of those who have fewer.
const COLD_MAX: u8 = 40;
/// Where z begins to count, and where it counts in full.
const Z: (f64, f64) = (3.0, 15.0);
/// The same of runs with one prompt.
const REPEATS: (f64, f64) = (5.0, 30.0);
/// How often an hour must be used, as a multiple of an even week, to be usual.
const USUAL_HOUR: f64 = 0.5;
/// A median absolute deviation as a standard deviation of normal values.
const MAD_TO_SIGMA: f64 = 1.4826;
/// Runs by which an hour may differ from the usual without meaning anything.
const SLACK_RUNS: f64 = 4.0;

text_enum! {
    /// What is unusual.
    SignalKind {
        /// Many runs in an hour.
        Frequency = "FREQUENCY",
        /// Many credits in an hour.
        Volume = "VOLUME",
        /// An hour of the week that is hardly ever used.
        HourOfWeek = "HOUR_OF_WEEK",
        /// The same prompt again and again.
        RepeatedPrompt = "REPEATED_PROMPT",
    }
}

impl SignalKind {
    /// The highest strength of the signal alone.
    fn weight(self) -> f64 {
        match self {
            Self::Frequency => 0.80,
            Self::Volume => 0.70,
            Self::HourOfWeek => 0.50,
            Self::RepeatedPrompt => 0.85,
        }
    }
}

/// Something unusual about a call.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// What it is.
    pub kind: SignalKind,
    /// How strong it is, 1 to 100: the score, were it the only signal.
    pub contribution: u8,
    /// What was measured, in hundredths: runs, credits, the hour's share of an even one, runs.
    pub observed: i64,
    /// What is usual, in hundredths of the same.
    pub expected: i64,
}

/// How unusual a call is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// 0 to 100.
    pub total: u8,
    /// Why, the strongest first.
    pub signals: Vec<Signal>,
}

/// A person's last hour, the call that is judged included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recent {
    /// Runs.
    pub runs: u32,
    /// Credits, charged or held.
    pub credits: u32,
    /// Runs with the same prompt.
    pub repeats: u32,
}

/// What is usual in an hour with any use at all.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usual {
    /// The median.
    pub median: f64,
    /// The median of the differences from it.
    pub mad: f64,
}

/// What is usual of a person, or of the people of a tenant.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// Runs in all.
    pub total: u32,
    /// Runs in an hour.
    pub runs: Usual,
    /// Credits in an hour.
    pub credits: Usual,
    /// Runs by the hour of the week, Monday's first hour first.
    pub week: Vec<u32>,
}

impl Baseline {
    fn z_of_runs(&self, runs: u32) -> f64 {
        z(f64::from(runs), self.runs, SLACK_RUNS)
    }

    fn z_of_credits(&self, credits: u32) -> f64 {
        let per_run = self.credits.median / self.runs.median.max(1.0);
        z(f64::from(credits), self.credits, SLACK_RUNS * per_run.max(1.0))
    }

    /// How often an hour of the week is used, as a multiple of an even week.
    fn share_of(&self, hour: usize) -> f64 {
        let at = |hour: usize| self.week.get(hour % WEEK).copied().map_or(0.0, f64::from);
        let near = (at(hour + WEEK - 1) + 2.0 * at(hour) + at(hour + 1)) / 4.0;
        168.0 * (near + 1.0) / (f64::from(self.total) + 168.0)
    }
}

/// How far a value lies above the usual, in robust deviations.
fn z(value: f64, usual: Usual, slack: f64) -> f64 {
    let spread = (MAD_TO_SIGMA * usual.mad).max(usual.median / 4.0).max(slack);
    (value - usual.median) / spread
}

/// Judges a call: what is usual for the person or for the tenant's people is usual.
pub fn score(recent: Recent, (own, all): (Option<&Baseline>, &Baseline), hour: usize) -> Score {
    let own_total = own.map_or(0, |own| own.total);
    // Who is new is compared with the others.
    let own = own.filter(|own| own.total >= WARM).unwrap_or(all);
    let mut signals = Vec::new();
    if all.total >= WARM {
        let lower = |of: &dyn Fn(&Baseline) -> f64| of(own).min(of(all));
        let runs = lower(&|it| it.z_of_runs(recent.runs));
        let usual = own.runs.median.max(all.runs.median);
        let seen = (f64::from(recent.runs), usual);
        signals.extend(signal(SignalKind::Frequency, between(runs, Z), seen));
        let credits = lower(&|it| it.z_of_credits(recent.credits));
        let usual = own.credits.median.max(all.credits.median);
        let seen = (f64::from(recent.credits), usual);
        signals.extend(signal(SignalKind::Volume, between(credits, Z), seen));
        let share = own.share_of(hour).max(all.share_of(hour));
        let seen = (share, 1.0);
        signals.extend(signal(SignalKind::HourOfWeek, 1.0 - share / USUAL_HOUR, seen));
    }
    let repeats = f64::from(recent.repeats);
    let strength = between(repeats, REPEATS);
    signals.extend(signal(SignalKind::RepeatedPrompt, strength, (repeats, 1.0)));
    let is_cold = own_total.saturating_add(recent.runs) < WARM;
    combine(signals, is_cold)
}

/// Where a value lies between two others, 0 to 1.
fn between(value: f64, (from, to): (f64, f64)) -> f64 {
    (value - from) / (to - from)
}

/// A signal of some strength, 0 to 1 of its weight; none when nothing is left of it.
fn signal(
    kind: SignalKind,
    strength: f64,
    (observed, expected): (f64, f64),
) -> Option<(f64, Signal)> {
    let strength = strength.clamp(0.0, 1.0) * kind.weight();
    let contribution = percent(strength);
    (contribution > 0).then(|| {
        let [observed, expected] = [observed, expected].map(hundredths);
        (strength, Signal { kind, contribution, observed, expected })
    })
}

/// Noisy-or: the chance that at least one of them is no accident.
fn combine(mut signals: Vec<(f64, Signal)>, is_cold: bool) -> Score {
    let innocent: f64 = signals.iter().map(|(strength, _)| 1.0 - strength).product();
    let total = percent(1.0 - innocent);
    signals.sort_by_key(|(_, signal)| std::cmp::Reverse(signal.contribution));
    Score {
        total: if is_cold { total.min(COLD_MAX) } else { total },
        signals: signals.into_iter().map(|(_, signal)| signal).collect(),
    }
}

fn percent(share: f64) -> u8 {
    // It lies between 0 and 100: nothing is cut off.
    (share.clamp(0.0, 1.0) * 100.0).round() as u8
}

fn hundredths(value: f64) -> i64 {
    (value * 100.0).round() as i64
}
