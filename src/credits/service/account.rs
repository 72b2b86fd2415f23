//! Opening an account, and reading one.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use sea_orm::{EntityTrait, IntoActiveModel, TryInsertResult, Value};

use crate::actor::{Actor, Permission};
use crate::app::App;
use crate::audit::{self, Action, Changes, Subject};
use crate::batch::Lookup;
use crate::credits::book::About;
use crate::credits::catalog;
use crate::credits::error::CreditError;
use crate::credits::{ledger, period};
use crate::db::{self, Rows, Txn};
use crate::entity::credit_grant::GrantKind;
use crate::entity::credit_transaction::TransactionType;
use crate::entity::{credit_account, credit_grant, monthly_reset, plan, tenant};
use crate::error::{Error, Result};
use crate::ids::{AccountId, GrantId, ResetId, TenantId};

/// Days of free credits for a tenant that never subscribed.
const TRIAL_DAYS: i64 = 30;
/// Calls of a tenant that run at once at most, unless a platform admin decided otherwise.
const RUNNING_MAX: i64 = 1_000;
/// What a platform admin may decide at most: more than a node runs in all.
const RUNNING_MAX_MAX: i64 = 100_000;

/// The account of the actor's tenant; opened on first use.
pub async fn get(app: &App, actor: &Actor) -> Result<credit_account::Model> {
    actor.require(Permission::CreditsRead)?;
    of_tenant(app, actor.tenant()?).await
}

/// The account of a tenant; opened on first use.
pub async fn of_tenant(app: &App, tenant: TenantId) -> Result<credit_account::Model> {
    match find(app, tenant).await? {
        Some(account) => Ok(account),
        None => open(app, tenant).await,
    }
}

/// The account of a tenant, if it was opened. Read together with those that others ask for.
pub async fn find(app: &App, tenant: TenantId) -> Result<Option<credit_account::Model>> {
    app.batches.find::<Accounts>(app, tenant).await
}

/// Sets how many calls of a tenant may run at once. Those that run go on.
pub async fn set_running_max(
    app: &App,
    actor: &Actor,
    tenant: TenantId,
    max: i64,
) -> Result<credit_account::Model> {
    actor.require(Permission::Platform)?;
    if !(1..=RUNNING_MAX_MAX).contains(&max) {
        return Err(Error::invalid(
            "input.runningMax",
            "1〜100000で指定してください。",
            "must be 1 to 100000",
        ));
    }
    let account = of_tenant(app, tenant).await?;
    let now = app.clock.db_now();
    let txn = app.db.begin().await?;
    // The lock comes first, so that the record says what was replaced.
    let sql = "UPDATE ai_credit_accounts SET updated_at = updated_at WHERE id = $1 RETURNING *";
    let before: Option<credit_account::Model> =
        db::one(&*txn, sql, vec![account.id.into()]).await?;
    let before = before.ok_or(CreditError::AccountClosed)?;
    let sql = "UPDATE ai_credit_accounts SET running_max = $2, updated_at = $3
               WHERE id = $1 AND deleted_at IS NULL RETURNING *";
    let set: Option<credit_account::Model> =
        db::one(&*txn, sql, vec![account.id.into(), max.into(), now.into()]).await?;
    let set = set.ok_or(CreditError::AccountClosed)?;
    let changes = Changes::new().plain("runningMax", &before.running_max, &max);
    let subject = Subject::of("tenant", tenant.0).in_tenant(tenant).changing(changes);
    audit::record(app, &txn, actor, Action::TenantRunningMaxSet, subject).await?;
    txn.commit().await?;
    Ok(set)
}

/// Reads accounts by their tenants.
struct Accounts;

impl Lookup for Accounts {
    type Context = App;
    type Key = TenantId;
    type Value = credit_account::Model;

    async fn read(
        app: &App,
        keys: Vec<TenantId>,
    ) -> Result<HashMap<TenantId, credit_account::Model>> {
        let mut rows = Rows::default();
        keys.iter().for_each(|tenant| rows.push([Value::from(*tenant)]));
        let (table, values) = rows.table(app.db.primary(), 1);
        let sql = format!(
            "SELECT * FROM ai_credit_accounts
             WHERE tenant_id IN (SELECT column1 FROM {table})"
        );
        let accounts: Vec<credit_account::Model> = db::all(app.db.primary(), sql, values).await?;
        Ok(accounts.into_iter().map(|account| (account.tenant_id, account)).collect())
    }
}

/// Opens a tenant's account with this period's free credits, and the period's reset row, so that a
/// reset later in the month finds it done. Two openings at once make one account.
async fn open(app: &App, tenant: TenantId) -> Result<credit_account::Model> {
    let mut txn = app.db.begin().await?;
    let account = open_in(&mut txn, tenant, app.clock.db_now()).await?;
    txn.commit().await?;
    Ok(account)
}

/// [`open`] inside a transaction.
pub(crate) async fn open_in(
    txn: &mut Txn,
    tenant: TenantId,
    now: DateTime<Utc>,
) -> Result<credit_account::Model> {
    // The no-op update is a lock: a tenant that is being closed, or given another zone, is read
    // after that, or closed after this.
    let sql = "UPDATE tenants SET version = version WHERE id = $1 AND deleted_at IS NULL
               RETURNING *";
    let tenant: Option<tenant::Model> = db::one(&**txn, sql, vec![tenant.into()]).await?;
    let tenant = tenant.ok_or(Error::NotFound("tenant"))?;
    let plan = catalog::plan_in_force(&**txn, tenant.crm_plan_type).await?;
    let account = new_account(&tenant, &plan, now);
    let inserted = credit_account::Entity::insert(account.clone().into_active_model())
        .on_conflict_do_nothing_on([credit_account::Column::TenantId])
        .exec_without_returning(&**txn)
        .await?;
    if !matches!(inserted, TryInsertResult::Inserted(rows) if rows > 0) {
        let other = credit_account::Entity::find_for(tenant.id).one(&**txn).await?;
        return other.ok_or(Error::NotFound("credit account"));
    }
    grant_first_month(txn, account, &plan, now).await
}

fn new_account(
    tenant: &tenant::Model,
    plan: &plan::Model,
    now: DateTime<Utc>,
) -> credit_account::Model {
    let zone = period::zone(&tenant.time_zone);
    let next = period::next_period(period::period_of(now, zone));
    credit_account::Model {
        id: AccountId::new(),
        tenant_id: tenant.id,
        plan_type: plan.plan_type,
        next_plan_type: None,
        monthly_free_credits: plan.monthly_free_credits,
        time_zone: tenant.time_zone.clone(),
        current_balance: 0,
        held: 0,
        running: 0,
        running_max: RUNNING_MAX,
        version: 0,
        next_due_at: period::start_of_day(next, zone),
        entitled_until: Some(tenant.created_at + TimeDelta::days(TRIAL_DAYS)),
        alert_threshold: 50,
        total_purchased_credits: 0,
        total_used_credits: 0,
        auto_purchase_enabled: false,
        auto_purchase_threshold: 50,
        auto_purchase_amount: 500,
        auto_purchase_due_at: None,
        auto_purchase_quiet_until: None,
        created_at: now,
        updated_at: now,
        deleted_at: None,
    }
}

async fn grant_first_month(
    txn: &mut Txn,
    account: credit_account::Model,
    plan: &plan::Model,
    now: DateTime<Utc>,
) -> Result<credit_account::Model> {
    let this_period = period::period_of(now, period::zone(&account.time_zone));
    let is_entitled = account.entitled_until.is_none_or(|until| now <= until);
    let credits = if is_entitled { plan.monthly_free_credits } else { 0 };
    let reset = monthly_reset::Model {
        id: ResetId::new(),
        account_id: account.id,
        reset_date: this_period,
        plan_type: account.plan_type,
        previous_balance: 0,
        free_credits_added: credits,
        carried_over_credits: 0,
        total_usage_previous_month: 0,
        most_used_function: None,
        efficiency_score: None,
        created_at: now,
        // Whoever opened the account is there.
        noticed_at: Some(now),
    };
    let about = About { reference: Some(reset.id.0), ..About::default() };
    monthly_reset::Entity::insert(reset.into_active_model()).exec_without_returning(&**txn).await?;
    let mut opened = ledger::open_books(txn, vec![account]).await?;
    for open in &mut opened {
        if credits > 0 {
            let grant = free_grant(open.account.id, credits, this_period, now);
            open.book.add_grant(grant, TransactionType::MonthlyReset, about.clone());
        }
    }
    let saved = ledger::save(txn, opened, now).await?;
    saved.into_iter().next().ok_or_else(|| Error::broken("an account was not saved"))
}

/// A month's free credits; they have no expiry, a plan's carry-over rule takes what is too much.
pub(crate) fn free_grant(
    account_id: AccountId,
    credits: i64,
    period: NaiveDate,
    now: DateTime<Utc>,
) -> credit_grant::Model {
    credit_grant::Model {
        id: GrantId::new(),
        account_id,
        kind: GrantKind::Free,
        granted: credits,
        remaining: credits,
        price_minor: 0,
        cost_left: 0,
        period: Some(period),
        expires_at: None,
        description: None,
        reference_id: None,
        created_at: now,
    }
}
