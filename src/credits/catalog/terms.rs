//! Which plan a tenant has, and until when it brings free credits.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use crate::actor::{Actor, Permission};
use crate::app::App;
use crate::audit::{self, Action, Changes, Subject};
use crate::credits::book::About;
use crate::credits::catalog::plan_in_force;
use crate::credits::error::CreditError;
use crate::credits::service::account::{self, free_grant};
use crate::credits::service::due::{self, mirror_plan};
use crate::credits::service::grant::BALANCE_MAX;
use crate::credits::{ledger, period};
use crate::db;
use crate::entity::credit_grant::{self, GrantKind};
use crate::entity::credit_transaction::TransactionType;
use crate::entity::plan::PlanType;
use crate::entity::{credit_account, tenant, tenant_subscription};
use crate::error::{Error, Result};
use crate::ids::{AccountId, TenantId};

/// A tenant's plan to set.
#[derive(Clone, Copy, Debug)]
pub struct TenantPlan {
    /// The tenant.
    pub tenant: TenantId,
    /// Its plan.
    pub plan_type: PlanType,
    /// Months that start later bring no free credits; none: no end.
    pub entitled_until: Option<DateTime<Utc>>,
}

/// Sets a tenant's plan. A larger plan takes effect now and tops this month's free credits up to
/// its own; a smaller one takes effect at the next reset. Refused while the tenant pays for its
/// plan by the month: the plan is what is paid for.
pub async fn set_tenant_plan(
    app: &App,
    actor: &Actor,
    wish: TenantPlan,
) -> Result<credit_account::Model> {
    actor.require(Permission::Platform)?;
    let account = account::of_tenant(app, wish.tenant).await?;
    due::apply_due(app, account.id).await?;
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await?;
    let terms = Terms { plan_type: wish.plan_type, entitled_until: wish.entitled_until };
    let set = set_terms(&mut txn, account.id, terms, now).await?;
    let (before, saved) = set.ok_or(CreditError::AccountClosed)?;
    // Read under the account's lock, which a subscription takes before it changes the plan.
    let sql = "SELECT * FROM tenant_subscriptions WHERE tenant_id = $1 AND ended_at IS NULL
               AND activated_at IS NOT NULL";
    let paid: Option<tenant_subscription::Model> =
        db::one(&*txn, sql, vec![wish.tenant.into()]).await?;
    if paid.is_some() {
        return Err(CreditError::Subscribed.into());
    }
    let changes = Changes::new().plain("planType", &before.plan_type, &wish.plan_type).plain(
        "entitledUntil",
        &before.entitled_until,
        &wish.entitled_until,
    );
    let subject = Subject::of("tenant", wish.tenant.0).in_tenant(wish.tenant).changing(changes);
    audit::record(app, &txn, actor, Action::TenantPlanSet, subject).await?;
    txn.commit().await?;
    Ok(saved)
}

/// What a tenant is on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Terms {
    /// Its plan.
    pub(crate) plan_type: PlanType,
    /// Months that start later bring no free credits; none: no end.
    pub(crate) entitled_until: Option<DateTime<Utc>>,
}

/// Sets an account's plan and entitlement: the one place where both change. A larger plan counts
/// now, a smaller one from the next reset; this month's free credits are topped up to the plan's
/// while it is entitled. The account before and after; none when it is closed.
pub(crate) async fn set_terms(
    txn: &mut db::Txn,
    account: AccountId,
    terms: Terms,
    now: DateTime<Utc>,
) -> Result<Option<(credit_account::Model, credit_account::Model)>> {
    let Some(mut open) = ledger::open(txn, account).await? else { return Ok(None) };
    // A month that began since would be topped up now and granted again by its reset.
    if open.account.next_due_at <= now {
        return Err(Error::Unavailable("credit account"));
    }
    let before = open.account.clone();
    open.account.entitled_until = terms.entitled_until;
    open.account.next_plan_type = None;
    let mut free = before.monthly_free_credits;
    if terms.plan_type != before.plan_type {
        let plan = plan_in_force(&**txn, terms.plan_type).await?;
        if terms.plan_type > before.plan_type {
            open.account.plan_type = terms.plan_type;
            open.account.monthly_free_credits = plan.monthly_free_credits;
            free = plan.monthly_free_credits;
        } else {
            open.account.next_plan_type = Some(terms.plan_type);
            // Whoever begins anew with less has no claim to what the larger plan had.
            free = free.min(plan.monthly_free_credits);
        }
    }
    let is_entitled = terms.entitled_until.is_none_or(|until| now <= until);
    if is_entitled {
        top_up(txn, &mut open, free, now).await?;
    }
    mirror_plan(txn, &open.account, now).await?;
    let saved = ledger::save(txn, vec![open], now).await?;
    activate(txn, before.tenant_id, now).await?;
    let saved = saved.into_iter().next();
    Ok(Some((before, saved.ok_or_else(|| Error::broken("an account was not saved"))?)))
}

/// Adds what this period's free credits lack of so many, if anything.
async fn top_up(
    txn: &db::Txn,
    open: &mut ledger::OpenAccount,
    free: i64,
    now: DateTime<Utc>,
) -> Result<()> {
    let this_period = period::period_of(now, period::zone(&open.account.time_zone));
    let granted = credit_grant::Entity::of_account(open.account.id)
        .filter(credit_grant::Column::Kind.eq(GrantKind::Free))
        .filter(credit_grant::Column::Period.eq(this_period))
        .all(&**txn)
        .await?;
    let granted: i64 = granted.iter().map(|grant| grant.granted).sum();
    let lacking = free - granted;
    let lacking = lacking.min(BALANCE_MAX - open.book.current);
    if lacking > 0 {
        let grant = free_grant(open.account.id, lacking, this_period, now);
        open.book.add_grant(grant, TransactionType::MonthlyReset, About::default());
    }
    Ok(())
}

async fn activate(txn: &db::Txn, tenant: TenantId, now: DateTime<Utc>) -> Result<()> {
    tenant::Entity::update_many()
        .col_expr(tenant::Column::CrmActivatedAt, Expr::value(now))
        .filter(tenant::Column::Id.eq(tenant))
        .filter(tenant::Column::CrmActivatedAt.is_null())
        .exec(&**txn)
        .await?;
    Ok(())
}

/// Takes the end off a tenant's entitlement to free credits.
pub(crate) async fn entitle_for_ever(app: &App, tenant: TenantId) -> Result<()> {
    let txn = app.db.begin().await?;
    let sql = "UPDATE ai_credit_accounts SET entitled_until = NULL WHERE tenant_id = $1";
    db::execute(&*txn, sql, vec![tenant.into()]).await?;
    txn.commit().await
}
