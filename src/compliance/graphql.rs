//! The audit report in the API.

use async_graphql::{Context, Description, Enum, Object, SimpleObject};

use crate::audit::graphql::event::AuditRiskLevel;
use crate::compliance::checks::{self, Check};
use crate::compliance::report::{self, HourUse, Report};
use crate::compliance::risk::EventCount;
use crate::credits::graphql::account::{DailyUsage, FunctionUsage};
use crate::error::Lang;
use crate::graphql::caller::{Answer, answer, caller};
use crate::graphql::payload::int;
use crate::graphql::scalars::{Date, DateTime};

/// What is checked for compliance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "checks::CheckName")]
pub enum ComplianceCheckName {
    /// Nothing is kept longer than the table of retention says.
    Retention,
    /// Every root field of the API has a rule that says who may ask it.
    AccessControl,
    /// What must be sealed is, and keys are replaced within 365 days.
    Encryption,
    /// The audit record's chain is whole and without a gap.
    AuditTrail,
}

/// Whether all checks are passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum ComplianceStatus {
    /// All checks are passed.
    Compliant,
    /// At least one is not.
    NonCompliant,
}

/// What an audit report advises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "report::Advice")]
pub enum AuditAdvice {
    /// Things are kept longer than they may be: see that the nightly cleanup runs.
    RunCleanup,
    /// Give every root field a rule.
    NameRules,
    /// Replace the keys, and seal what is open.
    RenewEncryption,
    /// The audit record was changed: find out who had access to the database.
    ExamineRecord,
    /// Look at what was refused, and to whom.
    ReviewRefusals,
    /// One execution in ten or more failed: look at their failure codes.
    ReviewFailures,
}

/// What happened in a range of days, how risky it was, and whether the system keeps its rules.
#[derive(Description)]
pub struct AuditReport(Report);

#[Object(use_type_description)]
impl AuditReport {
    /// The first day.
    async fn from(&self) -> Date {
        Date(self.0.from)
    }

    /// The last day, included.
    async fn to(&self) -> Date {
        Date(self.0.to)
    }

    /// The sums.
    async fn summary(&self) -> AuditSummary {
        let summary = &self.0.summary;
        AuditSummary {
            credits: int(summary.credits),
            executions: int(summary.executions),
            failures: int(summary.failures),
            mean_time_ms: summary.mean_time_ms.map(int),
            incidents: int(self.0.risk.incidents),
        }
    }

    /// Use by function, most credits first.
    async fn functions(&self) -> Vec<FunctionUsage> {
        self.0.functions.iter().cloned().map(FunctionUsage::from).collect()
    }

    /// Use by day of the tenant's calendar, quiet days too.
    async fn days(&self) -> Vec<DailyUsage> {
        self.0.days.iter().cloned().map(DailyUsage::from).collect()
    }

    /// Use by hour of the tenant's day over all days, the busiest hour first; quiet hours are left
    /// out. The present hour is counted when it is over.
    async fn hours(&self) -> Vec<AuditHour> {
        self.0.hours.iter().copied().map(AuditHour::from).collect()
    }

    /// Security events.
    async fn security(&self) -> AuditSecurity {
        let risk = self.0.risk;
        AuditSecurity {
            events: self.0.events.iter().map(AuditEventCount::from).collect(),
            risk_score: int(risk.score),
            risk_level: risk.level.into(),
        }
    }

    /// Whether the system keeps its rules, as it stands now.
    async fn compliance(&self, ctx: &Context<'_>) -> Compliance {
        let lang = caller(ctx).lang;
        let is_passed = self.0.checks.iter().all(Check::is_passed);
        let assessment = self.0.assessment.as_ref();
        Compliance {
            status: status(is_passed),
            checks: self.0.checks.iter().map(|check| ComplianceCheck::of(check, lang)).collect(),
            last_assessment: assessment.map(|it| DateTime(it.assessed_at)),
            last_status: assessment.map(|it| status(it.is_compliant)),
            next_assessment: assessment.map(|it| DateTime(it.next_at)),
        }
    }

    /// What to do; empty when nothing is.
    async fn recommendations(&self) -> Vec<AuditAdvice> {
        self.0.advice.iter().copied().map(AuditAdvice::from).collect()
    }
}

fn status(is_compliant: bool) -> ComplianceStatus {
    if is_compliant { ComplianceStatus::Compliant } else { ComplianceStatus::NonCompliant }
}

/// The sums of a report.
#[derive(SimpleObject)]
pub struct AuditSummary {
    /// Credits charged.
    credits: i32,
    /// Executions that ended.
    executions: i32,
    /// Of them, failures.
    failures: i32,
    /// Mean wall time in milliseconds over all executions; null without any.
    mean_time_ms: Option<i32>,
    /// Security events that were refused or failed, or are of HIGH or CRITICAL risk.
    incidents: i32,
}

/// Use within one hour of the day.
#[derive(SimpleObject)]
pub struct AuditHour {
    /// 0 to 23, in the tenant's zone.
    hour: i32,
    /// Credits charged.
    credits: i32,
    /// Executions that ended.
    executions: i32,
}

impl From<HourUse> for AuditHour {
    fn from(hour: HourUse) -> Self {
        let (credits, executions) = (int(hour.credits), int(hour.runs));
        Self { hour: int(i64::from(hour.hour)), credits, executions }
    }
}

/// The security events of a report.
#[derive(SimpleObject)]
pub struct AuditSecurity {
    /// By kind, the most frequent first.
    events: Vec<AuditEventCount>,
    /// 0 to 100: ten times the weight of the incidents per day, at most 100. LOW weighs 1, MEDIUM
    /// 3, HIGH 10, CRITICAL 25. 20 LOW, 4 MEDIUM and 1 HIGH in 30 days weigh 42: a score of 14.
    risk_score: i32,
    /// The score in a word: MEDIUM from 20, HIGH from 50, CRITICAL from 80.
    risk_level: AuditRiskLevel,
}

/// Security events of one kind.
#[derive(SimpleObject)]
pub struct AuditEventCount {
    /// What happened.
    action: String,
    /// How much each matters.
    risk_level: Option<AuditRiskLevel>,
    /// Whether they count as incidents.
    is_incident: bool,
    /// How often it happened.
    count: i32,
}

impl From<&EventCount> for AuditEventCount {
    fn from(event: &EventCount) -> Self {
        Self {
            action: event.action.clone(),
            risk_level: event.risk_level.map(AuditRiskLevel::from),
            is_incident: event.is_incident(),
            count: int(event.times),
        }
    }
}

/// Whether the system keeps its rules.
#[derive(SimpleObject)]
pub struct Compliance {
    /// As it stands now.
    status: ComplianceStatus,
    /// The checks.
    checks: Vec<ComplianceCheck>,
    /// When it was assessed last by the weekly job; null before the first time.
    last_assessment: Option<DateTime>,
    /// What the last assessment found.
    last_status: Option<ComplianceStatus>,
    /// When the weekly job assesses it next; null before the first time.
    next_assessment: Option<DateTime>,
}

/// A check of compliance.
#[derive(SimpleObject)]
pub struct ComplianceCheck {
    /// What was checked.
    name: ComplianceCheckName,
    /// Whether nothing was found.
    is_passed: bool,
    /// What was found; at most 20.
    reasons: Vec<String>,
}

impl ComplianceCheck {
    fn of(check: &Check, lang: Lang) -> Self {
        Self {
            name: check.name.into(),
            is_passed: check.is_passed(),
            reasons: check.reasons.iter().map(|reason| reason.text(lang)).collect(),
        }
    }
}

/// Reports on what was done.
#[derive(Default)]
pub struct ComplianceQuery;

#[Object]
impl ComplianceQuery {
    /// What happened in at most 366 days, both ends included, in the tenant's calendar; and whether
    /// the system keeps its rules. For ADMIN.
    async fn audit_report(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The first day.")] from: Date,
        #[graphql(desc = "The last day.")] to: Date,
    ) -> Answer<AuditReport> {
        let caller = caller(ctx);
        answer(
            ctx,
            Box::pin(async {
                let range = (from.0, to.0);
                Ok(AuditReport(report::report(&caller.app, caller.actor()?, range).await?))
            }),
        )
        .await
    }
}
