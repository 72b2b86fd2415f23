//! What an ADMIN decides about automatic purchase, and how it goes.

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};

use crate::actor::{Actor, Permission};
use crate::app::App;
use crate::audit::{self, Action, Changes, Subject};
use crate::credits::error::CreditError;
use crate::credits::service::account as accounts;
use crate::credits::service::grant::BALANCE_MAX;
use crate::db::{self, Txn};
use crate::entity::auto_purchase::AutoPurchaseReason;
use crate::entity::{auto_purchase, auto_purchase_attempt, credit_account};
use crate::error::{Error, Result, Violation};
use crate::ids::{AccountId, TenantId};
use crate::payments::auto::decide::{self, PAUSE};
use crate::payments::cards;
use crate::payments::error::PaymentError;
use crate::payments::price::Price;

/// The dearest month, in yen.
const CAP_MAX: i64 = 1_000_000_000;

/// What to change; what is none stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish {
    /// Whether credits are bought.
    pub enabled: Option<bool>,
    /// Credits: no more than these left by a charge want a purchase.
    pub threshold: Option<i64>,
    /// Credits to buy at least.
    pub amount: Option<i64>,
    /// Yen a month at most, tax included.
    pub monthly_cap: Option<i64>,
}

/// How automatic purchase goes.
#[derive(Clone, Debug)]
pub struct State {
    /// Yen a month at most; none until an ADMIN decided.
    pub monthly_cap: Option<i64>,
    /// Yen of this month's attempts that were paid, or may still be.
    pub spent: i64,
    /// Whether nothing is bought until another card is the default.
    pub is_suspended: bool,
    /// Why the last purchase was not made.
    pub blocked: Option<(AutoPurchaseReason, DateTime<Utc>)>,
    /// Before it no attempt is made after a failure.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// The last attempt.
    pub last_attempt: Option<auto_purchase_attempt::Model>,
}

/// How automatic purchase goes for an account of the actor's tenant.
pub async fn state(app: &App, actor: &Actor, account: &credit_account::Model) -> Result<State> {
    actor.require(Permission::MoneyManage)?;
    if account.tenant_id != actor.tenant()? {
        return Err(Error::NotFound("credit account"));
    }
    let conn = app.db.primary();
    let now = app.clock.db_now();
    let settings = auto_purchase::Entity::find_by_id(account.id).one(conn).await?;
    let since = decide::month_began(account, now);
    let attempts = decide::attempts_since(conn, account.id, since).await?;
    let last_attempt = auto_purchase_attempt::Entity::find()
        .filter(auto_purchase_attempt::Column::AccountId.eq(account.id))
        .order_by_desc(auto_purchase_attempt::Column::CreatedAt)
        .one(conn)
        .await?;
    let settings = settings.as_ref();
    let failed_at = settings.and_then(|it| it.failed_at);
    Ok(State {
        monthly_cap: settings.map(|it| it.monthly_cap),
        spent: decide::spent(account, &attempts, now),
        is_suspended: settings.is_some_and(|it| it.suspended_at.is_some()),
        blocked: settings.and_then(|it| it.blocked_reason.zip(it.blocked_at)),
        next_attempt_at: failed_at.map(|at| at + PAUSE).filter(|at| *at > now),
        last_attempt,
    })
}

/// The settings before or after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Settings {
    enabled: bool,
    threshold: i64,
    amount: i64,
    monthly_cap: Option<i64>,
}

impl Settings {
    fn of(account: &credit_account::Model, row: Option<&auto_purchase::Model>) -> Self {
        Self {
            enabled: account.auto_purchase_enabled,
            threshold: account.auto_purchase_threshold,
            amount: account.auto_purchase_amount,
            monthly_cap: row.map(|row| row.monthly_cap),
        }
    }

    fn with(self, wish: Wish) -> Self {
        Self {
            enabled: wish.enabled.unwrap_or(self.enabled),
            threshold: wish.threshold.unwrap_or(self.threshold),
            amount: wish.amount.unwrap_or(self.amount),
            monthly_cap: wish.monthly_cap.or(self.monthly_cap),
        }
    }
}

/// Changes the settings. A suspension stays: it ends with the card.
pub async fn update(app: &App, actor: &Actor, wish: Wish) -> Result<credit_account::Model> {
    actor.require(Permission::MoneyManage)?;
    let account = accounts::of_tenant(app, actor.tenant()?).await?;
    let now = app.clock.db_now();
    let txn = app.db.begin().await?;
    let account = lock(&txn, account.id).await?.ok_or(CreditError::AccountClosed)?;
    let row = auto_purchase::Entity::find_by_id(account.id).one(&*txn).await?;
    let before = Settings::of(&account, row.as_ref());
    let after = before.with(wish);
    check(after)?;
    if after.enabled {
        check_means(&txn, &account, after, now).await?;
    }
    let account = match before == after {
        true => account,
        false => write(&txn, (&account, actor), after, now).await?,
    };
    let changes = Changes::new()
        .plain("enabled", &before.enabled, &after.enabled)
        .plain("threshold", &before.threshold, &after.threshold)
        .plain("amount", &before.amount, &after.amount)
        .plain("monthlyCap", &before.monthly_cap, &after.monthly_cap);
    let subject = Subject::of("credit_account", account.id.0).in_tenant(account.tenant_id);
    let subject = subject.changing(changes);
    audit::record(app, &txn, actor, Action::AutoPurchaseChanged, subject).await?;
    txn.commit().await?;
    Ok(account)
}

/// The no-op update is the lock: two changes at once come one after the other.
async fn lock(txn: &Txn, id: AccountId) -> Result<Option<credit_account::Model>> {
    let sql = "UPDATE ai_credit_accounts SET version = version
               WHERE id = $1 AND deleted_at IS NULL RETURNING *";
    db::one(&**txn, sql, vec![id.into()]).await
}

/// Judges the numbers.
fn check(after: Settings) -> Result<()> {
    let mut violations = Vec::new();
    let mut refuse = |field: &str, ja: &str, en: &str| {
        violations.push(Violation::new(field, ja, en));
    };
    if !(0..BALANCE_MAX).contains(&after.threshold) {
        refuse("input.threshold", "0以上で指定してください。", "must be at least 0");
    }
    if !(1..=BALANCE_MAX).contains(&after.amount) || after.amount <= after.threshold {
        refuse(
            "input.amount",
            "しきい値より大きい数を指定してください。",
            "must be more than the threshold",
        );
    }
    match after.monthly_cap {
        Some(cap) if !(1..=CAP_MAX).contains(&cap) => {
            refuse("input.monthlyCapYen", "1以上で指定してください。", "must be at least 1");
        }
        None if after.enabled => refuse(
            "input.monthlyCapYen",
            "月間の上限金額を指定してください。",
            "is needed: how much a month may cost",
        ),
        Some(_) | None => {}
    }
    if violations.is_empty() { Ok(()) } else { Err(Error::Invalid(violations)) }
}

/// Whether there is what a purchase takes: a card, a package, and a cap that lets one through.
async fn check_means(
    txn: &Txn,
    account: &credit_account::Model,
    after: Settings,
    now: DateTime<Utc>,
) -> Result<()> {
    if cards::default_of(&**txn, account.tenant_id).await?.is_none() {
        return Err(PaymentError::NoDefaultCard.into());
    }
    let package = decide::choose(&**txn, account, after.amount, now).await?;
    let package = package.filter(|package| package.credits_amount > after.threshold);
    let package = package.ok_or(PaymentError::NoFittingPackage)?;
    let price = Price::of(&package).total;
    if after.monthly_cap.is_some_and(|cap| cap < price) {
        return Err(Error::invalid(
            "input.monthlyCapYen",
            format!("1回の購入金額（{price}円）以上で指定してください。"),
            format!("must be at least the price of one purchase, {price} yen"),
        ));
    }
    Ok(())
}

/// Writes what changed. What was refused under the old settings may do under the new ones.
async fn write(
    txn: &Txn,
    (account, actor): (&credit_account::Model, &Actor),
    after: Settings,
    now: DateTime<Utc>,
) -> Result<credit_account::Model> {
    if let Some(cap) = after.monthly_cap {
        keep(txn, (account, actor, cap), now).await?;
    }
    let sql = "UPDATE ai_credit_accounts SET auto_purchase_enabled = $2,
               auto_purchase_threshold = $3, auto_purchase_amount = $4,
               auto_purchase_quiet_until = NULL, updated_at = $5 WHERE id = $1 RETURNING *";
    let values = vec![
        account.id.into(),
        after.enabled.into(),
        after.threshold.into(),
        after.amount.into(),
        now.into(),
    ];
    let row = db::one(&**txn, sql, values).await?;
    row.ok_or_else(|| Error::broken("a locked account is gone"))
}

/// Keeps the cap, and who decided; the record of failures stays.
async fn keep(
    txn: &Txn,
    (account, actor, cap): (&credit_account::Model, &Actor, i64),
    now: DateTime<Utc>,
) -> Result<()> {
    let sql = "INSERT INTO auto_purchases
               (account_id, tenant_id, user_id, monthly_cap, failures, created_at, updated_at)
               VALUES ($1, $2, $3, $4, 0, $5, $5)
               ON CONFLICT (account_id) DO UPDATE SET user_id = excluded.user_id,
               monthly_cap = excluded.monthly_cap, blocked_reason = NULL, blocked_at = NULL,
               updated_at = excluded.updated_at";
    let values = vec![
        account.id.into(),
        account.tenant_id.into(),
        actor.user_id.into(),
        cap.into(),
        now.into(),
    ];
    db::execute(&**txn, sql, values).await?;
    Ok(())
}

/// Charges of a tenant's account are heard again at once: another card is its default.
pub async fn card_changed(txn: &Txn, tenant: TenantId) -> Result<()> {
    let sql = "UPDATE ai_credit_accounts SET auto_purchase_quiet_until = NULL
               WHERE tenant_id = $1 AND auto_purchase_quiet_until IS NOT NULL";
    db::execute(&**txn, sql, vec![tenant.into()]).await?;
    Ok(())
}
