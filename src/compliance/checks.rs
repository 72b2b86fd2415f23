//! The checks of compliance. Each looks at the running system and says what it found.

use chrono::{TimeDelta, Utc};
use sea_orm::sea_query::OnConflict;
use sea_orm::{EntityTrait, FromQueryResult, IntoActiveModel};
use uuid::Uuid;

use crate::app::App;
use crate::audit::proof::{self, Extent};
use crate::compliance::{access, retention};
use crate::crypto::{Key, Sealed};
use crate::db;
use crate::entity::key_use;
use crate::error::{Lang, Result};
use crate::text_enum;

/// A key is to be replaced within so many days.
pub const KEY_DAYS_MAX: i64 = 365;
/// Values of a sealed column that are looked at, the newest first.
const SAMPLE: usize = 200;
/// Reasons that one check gives at most.
const REASONS_MAX: usize = 20;

text_enum! {
    /// What is checked.
    CheckName {
        /// Nothing is kept longer than the table of retention says.
        Retention = "RETENTION",
        /// Every root field of the API has a rule that says who may ask it.
        AccessControl = "ACCESS_CONTROL",
        /// What must be sealed is, and keys are replaced in time.
        Encryption = "ENCRYPTION",
        /// The audit record's chain is whole and without a gap.
        AuditTrail = "AUDIT_TRAIL",
    }
}

/// Why a check was not passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    ja: String,
    en: String,
}

impl Reason {
    fn new(ja: String, en: String) -> Self {
        Self { ja, en }
    }

    /// The reason for people.
    pub fn text(&self, lang: Lang) -> String {
        lang.pick(self.ja.as_str(), self.en.as_str())
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was checked.
    pub name: CheckName,
    /// Why it was not passed; empty when it was.
    pub reasons: Vec<Reason>,
}

impl Check {
    /// Whether nothing was found.
    pub fn is_passed(&self) -> bool {
        self.reasons.is_empty()
    }
}

/// Runs all checks for the reader of a chain.
pub async fn all(app: &App, chain: Uuid, extent: Extent) -> Result<Vec<Check>> {
    let mut checks = of_system(app).await?;
    checks.push(audit_trail(app, chain, extent).await?);
    Ok(checks)
}

/// Runs those that are the same for everybody.
pub async fn of_system(app: &App) -> Result<Vec<Check>> {
    let reasons = [
        (CheckName::Retention, kept_too_long(app).await?),
        (CheckName::AccessControl, without_rule()),
        (CheckName::Encryption, badly_sealed(app).await?),
    ];
    Ok(reasons.into_iter().map(|(name, reasons)| check(name, reasons)).collect())
}

fn check(name: CheckName, mut reasons: Vec<Reason>) -> Check {
    reasons.truncate(REASONS_MAX);
    Check { name, reasons }
}

async fn kept_too_long(app: &App) -> Result<Vec<Reason>> {
    let overdue = retention::overdue(app).await?.into_iter().map(|it| {
        let (what, days, oldest) = (it.what, it.days, it.oldest.date_naive());
        let ja = format!("保存期間が過ぎています: {what}（{days}日、最古は{oldest}）");
        Reason::new(ja, format!("{what} are kept for {days} days; the oldest is of {oldest}"))
    });
    Ok(overdue.collect())
}

fn without_rule() -> Vec<Reason> {
    let fields = access::fields_without_a_rule().into_iter();
    let reason = |field: String| {
        let ja = format!("アクセス規則のない項目です: {field}");
        Reason::new(ja, format!("{field} has no rule that says who may ask it"))
    };
    fields.map(reason).collect()
}

/// The chain is proved from its end; a whole proof is the nightly job's.
pub async fn audit_trail(app: &App, chain: Uuid, extent: Extent) -> Result<Check> {
    let flaws = proof::prove_chain(app, chain, extent).await?;
    let reason = |flaw: proof::Flaw| {
        let proof::Flaw { rule, row, expected, actual } = flaw;
        let ja = format!("監査記録に不整合があります: {row}（{expected}のはずが{actual}）");
        Reason::new(ja, format!("{rule}: {row}: expected {expected}, found {actual}"))
    };
    Ok(check(CheckName::AuditTrail, flaws.into_iter().map(reason).collect()))
}

/// The columns whose type is `Sealed`, with their tables' keys. A test reads them off the entities.
pub const SEALED: &[(&str, &str, &str)] = &[
    ("ai_executions", "id", "parameters"),
    ("ai_executions", "id", "result"),
    ("credit_invoices", "purchase_id", "email"),
    ("credit_invoices", "purchase_id", "hosted_url"),
    ("credit_invoices", "purchase_id", "pdf_url"),
    ("credit_purchases", "id", "client_secret"),
    ("invitations", "id", "email"),
    ("queue_items", "id", "payload"),
    ("sign_in_links", "id", "email"),
    ("stripe_events", "id", "body"),
    ("system_event_origins", "event_id", "ip_address"),
    ("system_event_origins", "event_id", "user_agent"),
    ("tenant_subscriptions", "id", "client_secret"),
    ("tenants", "id", "billing_email"),
    ("tenants", "id", "slack_channel"),
    ("tenants", "id", "slack_webhook_url"),
    ("users", "id", "email"),
];

async fn badly_sealed(app: &App) -> Result<Vec<Reason>> {
    #[derive(FromQueryResult)]
    struct Row {
        value: Sealed,
    }
    let mut reasons = Vec::new();
    for (table, key, column) in SEALED {
        let sql = format!(
            "SELECT {column} AS value FROM {table} WHERE {column} IS NOT NULL
             ORDER BY {key} DESC LIMIT {SAMPLE}"
        );
        let rows: Vec<Row> = db::all(app.db.primary(), sql, vec![]).await?;
        let open = rows.iter().filter(|row| !app.crypto.is_sealed(&row.value)).count();
        if open > 0 {
            let ja = format!("{table}.{column}に暗号化されていない値が{open}件あります");
            let en = format!("{open} of the newest values of {table}.{column} are not sealed");
            reasons.push(Reason::new(ja, en));
        }
    }
    reasons.extend(old_keys(app).await?);
    Ok(reasons)
}

/// The settings with keys that are replaced, and the key of each that is in use.
fn keys_in_use(app: &App) -> [(&'static str, Option<&Key>); 2] {
    let config = &app.config;
    [("ENCRYPTION_KEYS", config.encryption_keys.first()), ("JWT_KEYS", config.jwt_keys.first())]
}

async fn old_keys(app: &App) -> Result<Vec<Reason>> {
    let mut reasons = Vec::new();
    for (setting, key) in keys_in_use(app) {
        let Some(key) = key else { continue };
        let found = key_use::Entity::find_by_id((setting.to_owned(), key.kid.clone()));
        let found = found.one(app.db.primary()).await?;
        let limit = app.clock.db_now() - TimeDelta::days(KEY_DAYS_MAX);
        let Some(found) = found else {
            let ja = format!("{setting}の鍵の使用開始日が記録されていません");
            reasons.push(Reason::new(ja, format!("nobody noted when {setting} got its key")));
            continue;
        };
        if found.first_used_at < limit {
            let since = found.first_used_at.date_naive();
            let ja =
                format!("{setting}の鍵が{KEY_DAYS_MAX}日以上交換されていません（{since}から）");
            let en =
                format!("the key of {setting} is in use since {since}, over {KEY_DAYS_MAX} days");
            reasons.push(Reason::new(ja, en));
        }
    }
    Ok(reasons)
}

/// Notes which keys are in use, and since when: at each start. Only their ids.
pub async fn note_keys(app: &App) -> Result<()> {
    let txn = app.db.begin().await?;
    for (setting, key) in keys_in_use(app) {
        let Some(key) = key else { continue };
        let row = key_use::Model {
            purpose: setting.to_owned(),
            kid: key.kid.clone(),
            first_used_at: app.clock.db_now().with_timezone(&Utc),
        };
        key_use::Entity::insert(row.into_active_model())
            .on_conflict(OnConflict::new().do_nothing().to_owned())
            .exec_without_returning(&*txn)
            .await?;
    }
    txn.commit().await
}
