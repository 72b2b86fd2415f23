//! The risk score of a range of days, from its incidents.
//!
//! An incident is a security event that was refused or failed, or whose risk is HIGH or CRITICAL;
//! repetitions that are summed up count as often as they happened. Each weighs by its risk: LOW 1,
//! MEDIUM 3, HIGH 10, CRITICAL 25. The score is ten times the weight per day, rounded half up, and
//! at most 100.
//!
//! Example: 30 days with 20 refused credentials (LOW), 4 refused fields (MEDIUM) and one refresh
//! token used again (HIGH) weigh 20·1 + 4·3 + 1·10 = 42, which is 1.4 per day: a score of 14, LOW.
//! From 20 on it is MEDIUM, from 50 HIGH, from 80 CRITICAL.

use chrono::{DateTime, Utc};
use sea_orm::FromQueryResult;
use uuid::Uuid;

use crate::app::App;
use crate::db;
use crate::entity::system_event::RiskLevel;
use crate::error::Result;

/// Security events of one kind within a range.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct EventCount {
    /// What happened.
    pub action: String,
    /// How much each matters.
    pub risk_level: Option<RiskLevel>,
    /// Whether they were done; otherwise they were refused or failed.
    pub is_success: bool,
    /// How often.
    pub times: i64,
}

impl EventCount {
    /// Whether they are incidents.
    pub fn is_incident(&self) -> bool {
        let is_grave = matches!(self.risk_level, Some(RiskLevel::High | RiskLevel::Critical));
        !self.is_success || is_grave
    }
}

/// What the incidents of a range come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Risk {
    /// 0 to 100.
    pub score: i64,
    /// The score in a word.
    pub level: RiskLevel,
    /// The weight of all incidents together.
    pub weight: i64,
    /// How many incidents there were.
    pub incidents: i64,
}

/// The security events of a chain from an instant up to another, the most frequent first.
pub async fn events(
    app: &App,
    chain: Uuid,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
) -> Result<Vec<EventCount>> {
    let sql = "SELECT action, risk_level, is_success, CAST(SUM(times) AS bigint) AS times
               FROM system_event
               WHERE chain_id = $1 AND event_type = 'SECURITY'
                 AND occurred_at >= $2 AND occurred_at < $3
               GROUP BY action, risk_level, is_success
               ORDER BY 4 DESC, 1, 2 LIMIT 100";
    db::all(app.db.primary(), sql, vec![chain.into(), from.into(), to.into()]).await
}

/// The score of these events over so many days.
pub fn score(events: &[EventCount], days: i64) -> Risk {
    let incidents = || events.iter().filter(|event| event.is_incident());
    let weight: i64 = incidents().map(|event| event.times * weight_of(event.risk_level)).sum();
    // Ten times the weight per day, rounded half up.
    let score = (20 * weight + days).checked_div(2 * days).unwrap_or(0).min(100);
    let level = match score {
        80.. => RiskLevel::Critical,
        50.. => RiskLevel::High,
        20.. => RiskLevel::Medium,
        _ => RiskLevel::Low,
    };
    Risk { score, level, weight, incidents: incidents().map(|event| event.times).sum() }
}

fn weight_of(risk: Option<RiskLevel>) -> i64 {
    match risk {
        None | Some(RiskLevel::Low) => 1,
        Some(RiskLevel::Medium) => 3,
        Some(RiskLevel::High) => 10,
        Some(RiskLevel::Critical) => 25,
    }
}
