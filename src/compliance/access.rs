//! Who may ask which root field: one table. The shell judges every query and mutation by it before
//! the service does, and the compliance check names root fields of the schema that are not in it.

use crate::actor::{Actor, Permission};
use crate::error::{Error, Result};

/// What a root field demands of the caller, whatever its arguments. Its service may demand more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Nothing: it tells nothing of anybody.
    Anyone,
    /// To be signed in, in person or by a key.
    SignedIn,
    /// To be signed in in person.
    Person,
    /// A permission.
    Needs(Permission),
    /// One of two permissions.
    Either(Permission, Permission),
}

use Permission::{
    AiExecute, AnalyticsRead, ApiKeysManage, AuditRead, CreditsRead, MembersManage, MoneyManage,
    OwnData, Platform, TenantManage,
};
use Rule::{Anyone, Either, Needs, Person, SignedIn};

/// The table, sorted.
pub const RULES: &[(&str, Rule)] = &[
    ("Mutation.accountUnlink", Person),
    ("Mutation.aiExecute", Needs(AiExecute)),
    ("Mutation.aiExecutionCancel", Needs(AiExecute)),
    ("Mutation.aiExecutionStart", Needs(AiExecute)),
    ("Mutation.aiPriceSet", Needs(Platform)),
    ("Mutation.anomalyBlockLift", Needs(MembersManage)),
    ("Mutation.anomalySettingsUpdate", Needs(TenantManage)),
    ("Mutation.apiKeyCreate", Needs(ApiKeysManage)),
    ("Mutation.apiKeyRevoke", Needs(ApiKeysManage)),
    ("Mutation.cardDefaultSet", Needs(MoneyManage)),
    ("Mutation.cardRemove", Needs(MoneyManage)),
    ("Mutation.cardSetupBegin", Needs(MoneyManage)),
    ("Mutation.cardSetupConfirm", Needs(MoneyManage)),
    ("Mutation.creditAutoPurchaseUpdate", Needs(MoneyManage)),
    ("Mutation.creditBonusGrant", Needs(Platform)),
    ("Mutation.creditPackageCreate", Needs(Platform)),
    ("Mutation.creditPackageRetire", Needs(Platform)),
    ("Mutation.creditPackageUpdate", Needs(Platform)),
    ("Mutation.creditPurchase", Needs(MoneyManage)),
    ("Mutation.creditPurchaseCancel", Needs(MoneyManage)),
    ("Mutation.creditPurchaseConfirm", Needs(MoneyManage)),
    ("Mutation.creditPurchaseRefund", Needs(Platform)),
    ("Mutation.creditRefund", Needs(Platform)),
    ("Mutation.membershipInvitationRevoke", Needs(MembersManage)),
    ("Mutation.membershipInvite", Needs(MembersManage)),
    ("Mutation.membershipRemove", Person),
    ("Mutation.membershipRoleChange", Needs(MembersManage)),
    ("Mutation.planCancel", Needs(MoneyManage)),
    ("Mutation.planChange", Needs(MoneyManage)),
    ("Mutation.planResume", Needs(MoneyManage)),
    ("Mutation.planSubscribe", Needs(MoneyManage)),
    ("Mutation.planSubscriptionConfirm", Needs(MoneyManage)),
    ("Mutation.planUpdate", Needs(Platform)),
    ("Mutation.profileUpdate", Needs(OwnData)),
    ("Mutation.sessionEnd", Person),
    ("Mutation.sessionEndAll", Person),
    ("Mutation.siteCreate", Needs(TenantManage)),
    ("Mutation.siteRemove", Needs(TenantManage)),
    ("Mutation.siteUpdate", Needs(TenantManage)),
    ("Mutation.tenantClose", Either(TenantManage, Platform)),
    ("Mutation.tenantCreate", Needs(Platform)),
    ("Mutation.tenantFunctionLimitSet", Needs(Platform)),
    ("Mutation.tenantPlanSet", Needs(Platform)),
    ("Mutation.tenantRunningMaxSet", Needs(Platform)),
    ("Mutation.tenantSwitch", Person),
    ("Mutation.tenantUpdate", Needs(TenantManage)),
    ("Query.aiExecution", Needs(AiExecute)),
    ("Query.aiExecutionQuote", Needs(AiExecute)),
    ("Query.aiExecutions", Needs(AiExecute)),
    ("Query.aiFunctions", Needs(AiExecute)),
    ("Query.anomalyBlocks", Needs(AuditRead)),
    ("Query.anomalySettings", Needs(AuditRead)),
    ("Query.auditEvents", Either(AuditRead, Platform)),
    ("Query.auditExport", Either(AuditRead, Platform)),
    ("Query.auditReport", Needs(AuditRead)),
    ("Query.clientConfig", Anyone),
    ("Query.creditAccount", Needs(CreditsRead)),
    ("Query.creditAnalytics", Needs(AnalyticsRead)),
    ("Query.creditPackages", Needs(CreditsRead)),
    ("Query.creditPurchase", Needs(MoneyManage)),
    ("Query.creditPurchaseQuote", Needs(MoneyManage)),
    ("Query.creditPurchaseReceipt", Needs(MoneyManage)),
    ("Query.creditPurchases", Needs(MoneyManage)),
    ("Query.node", SignedIn),
    ("Query.nodes", SignedIn),
    ("Query.planChangePreview", Needs(MoneyManage)),
    ("Query.plans", Needs(CreditsRead)),
    ("Query.storedCards", Needs(MoneyManage)),
    ("Query.tenants", Needs(Platform)),
    ("Query.viewer", Anyone),
    ("Subscription.aiExecutionEvents", Needs(AiExecute)),
    ("Subscription.creditBalance", Needs(CreditsRead)),
    ("Subscription.creditPurchaseChanged", Needs(MoneyManage)),
];

/// The rule of a root field, `Query.viewer`.
pub fn rule_of(path: &str) -> Option<Rule> {
    let place = RULES.binary_search_by(|(known, _)| (*known).cmp(path)).ok()?;
    RULES.get(place).map(|(_, rule)| *rule)
}

/// Judges a caller by a rule.
pub fn judge(rule: Rule, actor: Option<&Actor>) -> Result<()> {
    if rule == Rule::Anyone {
        return Ok(());
    }
    let actor = actor.ok_or(Error::Unauthenticated)?;
    match rule {
        Anyone | SignedIn => Ok(()),
        Person => actor.person().map(|_| ()),
        Needs(permission) => actor.require(permission),
        Either(one, other) => actor.require(one).or_else(|_| actor.require(other)),
    }
}

/// The schema as it is committed; a test keeps it the one that is served.
const SCHEMA: &str = include_str!("../../schema.graphql");

/// All root fields of the schema.
pub fn root_fields() -> Vec<String> {
    let (mut fields, mut root, mut is_text) = (Vec::new(), None, false);
    for line in SCHEMA.lines() {
        let is_fence = line.matches("\"\"\"").count() == 1;
        if is_fence {
            is_text = !is_text;
        } else if is_text {
            continue;
        } else if let Some(name) = line.strip_prefix("type ") {
            let name = name.trim_end_matches(" {");
            root = ["Query", "Mutation", "Subscription"].into_iter().find(|it| *it == name);
        } else if line == "}" {
            root = None;
        } else if let (Some(root), Some(field)) = (root, field_of(line)) {
            fields.push(format!("{root}.{field}"));
        }
    }
    fields.sort();
    fields
}

/// The field that a line of a type begins with: one tab, a name, its arguments or its type.
fn field_of(line: &str) -> Option<&str> {
    let line = line.strip_prefix('\t')?;
    let end = line.find(|letter: char| !letter.is_ascii_alphanumeric())?;
    let (name, rest) = line.split_at_checked(end)?;
    let is_field = rest.starts_with('(') || rest.starts_with(':');
    (is_field && !name.is_empty()).then_some(name)
}

/// Root fields of the schema that no rule speaks of.
pub fn fields_without_a_rule() -> Vec<String> {
    root_fields().into_iter().filter(|path| rule_of(path).is_none()).collect()
}
