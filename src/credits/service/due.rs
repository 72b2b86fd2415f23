//! What the calendar asks of an account: monthly resets and expiries, in the order of time.
//!
//! A reserve that meets a due account applies this first; jobs only warm it. Whoever comes first
//! locks the account, and everyone else finds nothing due.

use chrono::{DateTime, NaiveDate, Utc};
use sea_orm::{ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder};

use crate::app::App;
use crate::credits::book::About;
use crate::credits::catalog::Plans;
use crate::credits::ledger::{self, OpenAccount};
use crate::credits::period;
use crate::credits::reports::efficiency::{self, MonthUse};
use crate::credits::service::account::free_grant;
use crate::credits::service::grant::BALANCE_MAX;
use crate::db::{self, Txn};
use crate::entity::credit_grant::GrantKind;
use crate::entity::credit_transaction::TransactionType;
use crate::entity::credit_withdrawal::WithdrawalReason;
use crate::entity::plan::CarryOver;
use crate::entity::{credit_account, credit_withdrawal, monthly_reset, usage_daily};
use crate::error::Result;
use crate::ids::{AccountId, GrantId, ResetId, WithdrawalId};

/// Accounts that one round of the warming job applies at most.
const ROUND_MAX: u64 = 500;

/// Applies everything that is due on an account, in one transaction. Says whether anything was.
pub async fn apply_due(app: &App, account: AccountId) -> Result<bool> {
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await?;
    let sql = "UPDATE ai_credit_accounts SET version = version + 1
               WHERE id = $1 AND next_due_at <= $2 AND deleted_at IS NULL RETURNING *";
    let locked: Option<credit_account::Model> =
        db::one(&*txn, sql, vec![account.into(), now.into()]).await?;
    let Some(account) = locked else { return Ok(false) };
    let plans = Plans::load(&*txn).await?;
    let calendar = Calendar::load(&txn, &account, now).await?;
    for mut open in ledger::open_books(&txn, vec![account]).await? {
        let resets = calendar.play(&mut open, &plans, now)?;
        insert_resets(&txn, resets).await?;
        open.account.next_due_at = ledger::next_due_after(&open.account, &open.book, now);
        mirror_plan(&txn, &open.account, now).await?;
        ledger::save(&mut txn, vec![open], now).await?;
    }
    txn.commit().await?;
    Ok(true)
}

/// Applies what is due on all accounts, so that nobody waits for it. Returns how many were due.
pub async fn apply_all_due(app: &App) -> Result<usize> {
    let mut applied = 0;
    loop {
        let due = credit_account::Entity::find()
            .filter(credit_account::Column::NextDueAt.lte(app.clock.db_now()))
            .filter(credit_account::Column::DeletedAt.is_null())
            .order_by_asc(credit_account::Column::NextDueAt);
        let due = sea_orm::QuerySelect::limit(due, ROUND_MAX).all(app.db.primary()).await?;
        let mut progress = 0;
        for account in due {
            match apply_due(app, account.id).await {
                Ok(was_due) => progress += usize::from(was_due),
                // One account that fails must not keep the others waiting.
                Err(error) => tracing::error!(
                    account.id = %account.id, %error,
                    "What is due on an account could not be applied: {error}"
                ),
            }
        }
        applied += progress;
        if progress == 0 {
            return Ok(applied);
        }
    }
}

/// What has happened on the calendar since the last reset.
struct Calendar {
    /// Periods whose reset is missing, oldest first.
    periods: Vec<NaiveDate>,
    /// Use by month and function, from the month before the first missing period.
    usage: Vec<usage_daily::Model>,
}

enum Due {
    Expiry(GrantId),
    Reset(NaiveDate),
}

impl Calendar {
    async fn load(txn: &Txn, account: &credit_account::Model, now: DateTime<Utc>) -> Result<Self> {
        let zone = period::zone(&account.time_zone);
        let last = monthly_reset::Entity::of_account(account.id)
            .order_by_desc(monthly_reset::Column::ResetDate)
            .one(&**txn)
            .await?;
        let opened = period::period_of(account.created_at, zone);
        let mut next = last.map_or(opened, |reset| period::next_period(reset.reset_date));
        let current = period::period_of(now, zone);
        let mut periods = Vec::new();
        while next <= current {
            periods.push(next);
            next = period::next_period(next);
        }
        let usage = match periods.first() {
            None => Vec::new(),
            Some(first) => {
                usage_daily::Entity::of_account(account.id)
                    .filter(usage_daily::Column::Day.gte(period::previous_period(*first)))
                    .all(&**txn)
                    .await?
            }
        };
        Ok(Self { periods, usage })
    }

    /// Plays resets and expiries in the order of time; returns the new reset rows.
    fn play(
        &self,
        open: &mut OpenAccount,
        plans: &Plans,
        now: DateTime<Utc>,
    ) -> Result<Vec<monthly_reset::Model>> {
        let zone = period::zone(&open.account.time_zone);
        let mut due: Vec<(DateTime<Utc>, Due)> = self
            .periods
            .iter()
            .map(|period| (period::start_of_day(*period, zone), Due::Reset(*period)))
            .collect();
        let expired = open
            .book
            .grants()
            .filter(|grant| grant.remaining > 0 && !open.book.is_being_withdrawn(grant.id));
        due.extend(expired.filter_map(|grant| {
            let at = grant.expires_at.filter(|at| *at <= now)?;
            Some((at, Due::Expiry(grant.id)))
        }));
        due.sort_by_key(|(at, _)| *at);

        let mut resets = Vec::new();
        for (_, event) in due {
            match event {
                Due::Expiry(grant) => expire(open, grant, now),
                Due::Reset(period) => resets.push(self.reset(open, plans, period, now)?),
            }
        }
        Ok(resets)
    }

    fn reset(
        &self,
        open: &mut OpenAccount,
        plans: &Plans,
        period: NaiveDate,
        now: DateTime<Utc>,
    ) -> Result<monthly_reset::Model> {
        if let Some(next) = open.account.next_plan_type.take() {
            open.account.plan_type = next;
        }
        let plan = plans.get(open.account.plan_type)?;
        // The score is of the month that ends, so it counts the free credits of that month's plan.
        let free_before = open.account.monthly_free_credits;
        open.account.monthly_free_credits = plan.monthly_free_credits;
        let start = period::start_of_day(period, period::zone(&open.account.time_zone));
        let is_entitled = open.account.entitled_until.is_none_or(|until| start <= until);
        let credits = if is_entitled { plan.monthly_free_credits } else { 0 };
        let previous_balance = open.book.current;
        let carried_over = carry_over(open, (plan.carry_over, plan.carry_over_cap), now);
        let credits = credits.min(BALANCE_MAX - open.book.current).max(0);
        let is_last = self.periods.last() == Some(&period);
        let id = ResetId::new();
        if credits > 0 {
            let grant = free_grant(open.account.id, credits, period, now);
            let about = About { reference: Some(id.0), ..About::default() };
            open.book.add_grant(grant, TransactionType::MonthlyReset, about);
        }
        let month = MonthUse::of(&self.usage, period::previous_period(period));
        Ok(monthly_reset::Model {
            id,
            account_id: open.account.id,
            reset_date: period,
            plan_type: open.account.plan_type,
            previous_balance,
            free_credits_added: credits,
            carried_over_credits: carried_over,
            total_usage_previous_month: month.credits,
            most_used_function: month.most_used,
            efficiency_score: efficiency::score(&month, free_before).map(|score| score.hundredths),
            created_at: now,
            // Of months that were missed, the last is told.
            noticed_at: (credits == 0 || !is_last).then_some(now),
        })
    }
}

fn expire(open: &mut OpenAccount, grant: GrantId, now: DateTime<Utc>) {
    let left = open.book.grants().find(|row| row.id == grant).map_or(0, |row| row.remaining);
    if left > 0 {
        let row = withdrawal(open, grant, WithdrawalReason::Expiry, left, now);
        open.book.withdraw(row, now);
    }
}

/// Takes away the unused free credits that the plan does not carry over, oldest first. Returns how
/// many free credits are carried over.
fn carry_over(open: &mut OpenAccount, rule: (CarryOver, i64), now: DateTime<Utc>) -> i64 {
    // What an earlier reset takes already, as runs end, is not unused a second time.
    let mut unused: Vec<_> = open
        .book
        .grants()
        .filter(|grant| grant.kind == GrantKind::Free)
        .map(|grant| {
            (grant.created_at, grant.id, grant.remaining - open.book.still_asked(grant.id))
        })
        .filter(|(_, _, remaining)| *remaining > 0)
        .collect();
    unused.sort_unstable();
    let total: i64 = unused.iter().map(|(_, _, remaining)| remaining).sum();
    let kept = match rule {
        (CarryOver::All, _) => total,
        (CarryOver::None, _) => 0,
        (CarryOver::Cap, cap) => total.min(cap),
    };
    let mut excess = total - kept;
    for (_, grant, remaining) in unused {
        let asked = remaining.min(excess);
        if asked > 0 {
            let row = withdrawal(open, grant, WithdrawalReason::CarryOver, asked, now);
            open.book.withdraw(row, now);
            excess -= asked;
        }
    }
    kept
}

/// A withdrawal at a version of its own, so that holds are older or younger than it.
pub(crate) fn withdrawal(
    open: &mut OpenAccount,
    grant_id: GrantId,
    reason: WithdrawalReason,
    asked: i64,
    now: DateTime<Utc>,
) -> credit_withdrawal::Model {
    credit_withdrawal::Model {
        id: WithdrawalId::new(),
        account_id: open.account.id,
        grant_id,
        reason,
        waits: true,
        asked,
        taken: 0,
        put_back: 0,
        cost_taken: 0,
        version: open.book.version,
        reference_id: None,
        created_at: now,
        closed_at: None,
    }
}

async fn insert_resets(txn: &Txn, resets: Vec<monthly_reset::Model>) -> Result<()> {
    if resets.is_empty() {
        return Ok(());
    }
    let rows = resets.into_iter().map(IntoActiveModel::into_active_model);
    // The account's lock makes a second row impossible; should one come, it must not be swallowed.
    monthly_reset::Entity::insert_many(rows).exec_without_returning(&**txn).await?;
    Ok(())
}

/// The tenant's plan follows the account's.
pub(crate) async fn mirror_plan(
    txn: &Txn,
    account: &credit_account::Model,
    now: DateTime<Utc>,
) -> Result<()> {
    let sql = "UPDATE tenants SET crm_plan_type = $2, updated_at = $3
               WHERE id = $1 AND crm_plan_type <> $2";
    let values = vec![account.tenant_id.into(), account.plan_type.as_str().into(), now.into()];
    db::execute(&**txn, sql, values).await?;
    Ok(())
}
