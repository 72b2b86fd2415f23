//! Credits that we give: bonuses, and an execution's credits given back. Platform admins only.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ColumnTrait, QueryFilter, QueryOrder, Value};
use serde_json::json;

use crate::actor::{Actor, Permission};
use crate::app::App;
use crate::audit::{self, Action, Changes, Subject};
use crate::credits::book::About;
use crate::credits::error::CreditError;
use crate::credits::ledger::{self, OpenAccount};
use crate::credits::service::account;
use crate::db::{self, Txn};
use crate::entity::credit_grant::GrantKind;
use crate::entity::credit_transaction::TransactionType;
use crate::entity::{credit_draw, credit_grant, credit_transaction, credit_withdrawal, execution};
use crate::error::{Error, Result, Violation};
use crate::idempotency;
use crate::ids::{AccountId, ExecutionId, GrantId, TenantId, TransactionId};
use crate::money::share;

/// Credits of one bonus at most.
const BONUS_MAX: i64 = 10_000_000;
/// The account's ceiling, as its CHECK has it.
pub(crate) const BALANCE_MAX: i64 = 2_000_000_000;
/// Days that refunded credits last whose own grant is gone.
const REFUND_DAYS: i64 = 30;

/// Bonus credits to give.
#[derive(Clone, Debug)]
pub struct Bonus {
    /// To whom.
    pub tenant: TenantId,
    /// How many.
    pub credits: i64,
    /// When they expire; none: never.
    pub expires_at: Option<DateTime<Utc>>,
    /// One of our phrases, shown to the customer.
    pub description: Option<String>,
    /// The client's key.
    pub idempotency_key: String,
}

/// Gives bonus credits. The same key gives them once.
pub async fn grant_bonus(app: &App, actor: &Actor, bonus: Bonus) -> Result<credit_grant::Model> {
    actor.require(Permission::Platform)?;
    let now = app.clock.db_now();
    let grant_id = GrantId::new();
    let body = json!([bonus.tenant, bonus.credits, bonus.expires_at, bonus.description]);
    let key = idempotency::Key::new(
        &app.crypto,
        (bonus.tenant, actor.principal()),
        "creditBonusGrant",
        (&bonus.idempotency_key, &body),
        grant_id.0,
    )?;
    let to = account::of_tenant(app, bonus.tenant).await?;
    let mut txn = app.db.begin().await?;
    if let Some(made) = idempotency::claim_one(&txn, &key, now).await? {
        let grant = credit_grant::Entity::of_account_and_id(to.id, GrantId(made));
        return grant.one(&*txn).await?.ok_or(Error::NotFound("grant"));
    }
    // Judged after the key: a key that is known answers its bonus even when that has expired.
    check_bonus(&bonus, now)?;
    let mut open = ledger::open(&txn, to.id).await?.ok_or(CreditError::AccountClosed)?;
    if open.book.current + bonus.credits > BALANCE_MAX {
        return Err(CreditError::BalanceTooLarge.into());
    }
    let grant = credit_grant::Model {
        id: grant_id,
        account_id: to.id,
        kind: GrantKind::Bonus,
        granted: bonus.credits,
        remaining: bonus.credits,
        price_minor: 0,
        cost_left: 0,
        period: None,
        expires_at: bonus.expires_at,
        description: bonus.description.clone(),
        reference_id: None,
        created_at: now,
    };
    let about =
        About { user: Some(actor.user_id), description: bonus.description, ..About::default() };
    open.book.add_grant(grant.clone(), TransactionType::Bonus, about);
    ledger::save(&mut txn, vec![open], now).await?;
    let changes = Changes::new().plain("credits", &None, &Some(bonus.credits)).plain(
        "expiresAt",
        &None,
        &bonus.expires_at,
    );
    let subject = Subject::of("credit_grant", grant_id.0).in_tenant(bonus.tenant);
    let subject = subject.changing(changes);
    audit::record(app, &txn, actor, Action::CreditBonusGranted, subject).await?;
    txn.commit().await?;
    Ok(grant)
}

/// Credits that were paid for.
#[derive(Clone, Debug)]
pub struct Purchase {
    /// The account that they are for.
    pub account: AccountId,
    /// How many.
    pub credits: i64,
    /// What was paid, in yen.
    pub price: i64,
    /// The purchase; a second grant for it finds the first.
    pub reference: uuid::Uuid,
}

/// Grants credits that were paid for: the one place where a payment becomes credits. A payment that
/// was granted before answers that grant.
pub async fn grant_purchase(
    txn: &mut Txn,
    purchase: Purchase,
    now: DateTime<Utc>,
) -> Result<credit_grant::Model> {
    let mut open = ledger::open(txn, purchase.account).await?.ok_or(CreditError::AccountClosed)?;
    // Under the account's lock, so that of two grants at once the second finds the first.
    let known = credit_grant::Entity::of_account(purchase.account)
        .filter(credit_grant::Column::Kind.eq(GrantKind::Purchased))
        .filter(credit_grant::Column::ReferenceId.eq(purchase.reference))
        .one(&**txn)
        .await?;
    if let Some(grant) = known {
        return Ok(grant);
    }
    if open.book.current + purchase.credits > BALANCE_MAX {
        return Err(CreditError::BalanceTooLarge.into());
    }
    let grant = credit_grant::Model {
        id: GrantId::new(),
        account_id: purchase.account,
        kind: GrantKind::Purchased,
        granted: purchase.credits,
        remaining: purchase.credits,
        price_minor: purchase.price,
        cost_left: purchase.price,
        period: None,
        expires_at: None,
        description: None,
        reference_id: Some(purchase.reference),
        created_at: now,
    };
    let about = About { reference: Some(purchase.reference), ..About::default() };
    open.account.total_purchased_credits += purchase.credits;
    open.book.add_grant(grant.clone(), TransactionType::Purchase, about);
    ledger::save(txn, vec![open], now).await?;
    Ok(grant)
}

fn check_bonus(bonus: &Bonus, now: DateTime<Utc>) -> Result<()> {
    let mut violations = Vec::new();
    if !(1..=BONUS_MAX).contains(&bonus.credits) {
        violations.push(Violation::new(
            "input.credits",
            "1〜10,000,000で指定してください。",
            "must be 1 to 10 000 000",
        ));
    }
    if bonus.expires_at.is_some_and(|at| at <= now) {
        violations.push(Violation::new(
            "input.expiresAt",
            "未来の日時を指定してください。",
            "must be in the future",
        ));
    }
    if !is_note(bonus.description.as_deref()) {
        violations.push(note_violation());
    }
    if violations.is_empty() { Ok(()) } else { Err(Error::Invalid(violations)) }
}

/// A note is short, and without the NUL that PostgreSQL refuses.
fn is_note(note: Option<&str>) -> bool {
    note.is_none_or(|text| text.chars().count() <= 500 && !text.contains('\0'))
}

fn note_violation() -> Violation {
    Violation::new(
        "input.description",
        "500文字以内で指定してください。",
        "must have at most 500 characters, none of them NUL",
    )
}

fn check_description(note: Option<&str>) -> Result<()> {
    if is_note(note) { Ok(()) } else { Err(Error::Invalid(vec![note_violation()])) }
}

/// An execution's credits to give back.
#[derive(Clone, Debug)]
pub struct Refund {
    /// Whose execution.
    pub tenant: TenantId,
    /// The execution.
    pub execution: ExecutionId,
    /// How many; none: all that is left of the charge.
    pub credits: Option<i64>,
    /// One of our phrases, shown to the customer.
    pub description: Option<String>,
    /// The client's key.
    pub idempotency_key: String,
}

/// Gives an execution's credits back to the grants that paid, last drawn first, each with its cost.
/// The part whose grant has expired, or is or was being withdrawn, becomes one REFUND grant of 30
/// days at the same cost. The same key gives back once.
pub async fn refund(app: &App, actor: &Actor, refund: Refund) -> Result<credit_transaction::Model> {
    actor.require(Permission::Platform)?;
    let now = app.clock.db_now();
    check_description(refund.description.as_deref())?;
    if refund.credits.is_some_and(|credits| credits < 1) {
        return Err(Error::invalid(
            "input.credits",
            "1以上を指定してください。",
            "must be 1 or more",
        ));
    }
    let body = json!([refund.tenant, refund.execution, refund.credits, refund.description]);
    let mark = crate::ids::new_uuid();
    let key = idempotency::Key::new(
        &app.crypto,
        (refund.tenant, actor.principal()),
        "creditRefund",
        (&refund.idempotency_key, &body),
        mark,
    )?;
    let execution = execution::Entity::find_for(refund.tenant, refund.execution)
        .one(app.db.primary())
        .await?
        .ok_or(Error::NotFound("execution"))?;
    let mut txn = app.db.begin().await?;
    if let Some(made) = idempotency::claim_one(&txn, &key, now).await? {
        return refund_line(&txn, execution.account_id, made).await;
    }
    let mut open =
        ledger::open(&txn, execution.account_id).await?.ok_or(CreditError::AccountClosed)?;
    let returns = Returns::load(&txn, &execution, now).await?;
    let credits = refund.credits.unwrap_or(returns.refundable);
    if open.book.current + credits > BALANCE_MAX {
        return Err(CreditError::BalanceTooLarge.into());
    }
    if credits < 1 || credits > returns.refundable {
        return Err(CreditError::NothingToRefund { refundable: returns.refundable }.into());
    }
    let about = About {
        user: Some(actor.user_id),
        execution: Some(execution.id),
        reference: Some(mark),
        description: refund.description,
        ..About::default()
    };
    let line = give_back(&txn, &mut open, &returns, (credits, about), now).await?;
    open.book.take_open(now);
    ledger::save(&mut txn, vec![open], now).await?;
    let sql = "UPDATE ai_executions SET credits_refunded = credits_refunded + $2 WHERE id = $1";
    db::execute(&*txn, sql, vec![execution.id.into(), credits.into()]).await?;
    let (before, after) = (execution.credits_refunded, execution.credits_refunded + credits);
    let subject = Subject::of("execution", execution.id.0)
        .in_tenant(refund.tenant)
        .changing(Changes::new().plain("creditsRefunded", &before, &after));
    audit::record(app, &txn, actor, Action::CreditRefunded, subject).await?;
    let row = credit_transaction::Entity::of_account_and_id(execution.account_id, line)
        .one(&*txn)
        .await?;
    txn.commit().await?;
    row.ok_or(Error::NotFound("transaction"))
}

async fn refund_line(
    txn: &Txn,
    account: AccountId,
    mark: uuid::Uuid,
) -> Result<credit_transaction::Model> {
    credit_transaction::Entity::of_account(account)
        .filter(credit_transaction::Column::ReferenceId.eq(mark))
        .filter(credit_transaction::Column::TransactionType.eq(TransactionType::Refund))
        .one(&**txn)
        .await?
        .ok_or(Error::NotFound("transaction"))
}

/// What can be given back of an execution, and where each part may go.
struct Returns {
    /// Draws with something left, last drawn first.
    draws: Vec<credit_draw::Model>,
    /// Their grants, and whether each may take credits back.
    grants: Vec<(credit_grant::Model, bool)>,
    refundable: i64,
}

impl Returns {
    async fn load(txn: &Txn, execution: &execution::Model, now: DateTime<Utc>) -> Result<Self> {
        let sql = "SELECT d.* FROM ai_credit_draws d
                   JOIN ai_credit_holds h ON h.id = d.hold_id
                   WHERE h.execution_id = $1 AND d.returned < d.credits ORDER BY d.id DESC";
        let draws: Vec<credit_draw::Model> =
            db::all(&**txn, sql, vec![execution.id.into()]).await?;
        let ids: Vec<GrantId> = draws.iter().map(|draw| draw.grant_id).collect();
        let grants = credit_grant::Entity::of_account(execution.account_id)
            .filter(credit_grant::Column::Id.is_in(ids.clone()))
            .order_by_asc(credit_grant::Column::Id)
            .all(&**txn)
            .await?;
        let withdrawals = credit_withdrawal::Entity::of_account(execution.account_id)
            .filter(credit_withdrawal::Column::GrantId.is_in(ids))
            .all(&**txn)
            .await?;
        let may_take = |grant: &credit_grant::Model| {
            let is_alive = grant.expires_at.is_none_or(|at| at > now);
            let is_withdrawn = withdrawals.iter().any(|row| {
                row.grant_id == grant.id && (row.closed_at.is_none() || row.put_back < row.taken)
            });
            is_alive && !is_withdrawn
        };
        let judged = grants.into_iter().map(|grant| {
            let may = may_take(&grant);
            (grant, may)
        });
        let grants = judged.collect();
        let refundable = draws.iter().map(|draw| draw.credits - draw.returned).sum();
        Ok(Self { draws, grants, refundable })
    }
}

async fn give_back(
    txn: &Txn,
    open: &mut OpenAccount,
    returns: &Returns,
    (credits, about): (i64, About),
    now: DateTime<Utc>,
) -> Result<TransactionId> {
    let mut wanted = credits;
    let mut orphans = (0, 0);
    let mut total_cost = 0;
    for draw in &returns.draws {
        let part = wanted.min(draw.credits - draw.returned);
        if part == 0 {
            break;
        }
        let cost = share(draw.cost - draw.returned_cost, part, draw.credits - draw.returned);
        mark_returned(txn, draw, part, cost).await?;
        match returns.grants.iter().find(|(grant, _)| grant.id == draw.grant_id) {
            Some((grant, true)) => {
                open.book.admit_grant(grant.clone());
                open.book.give_back(grant.id, part, cost);
            }
            Some((_, false)) | None => {
                orphans.0 += part;
                orphans.1 += cost;
            }
        }
        total_cost += cost;
        wanted -= part;
    }
    if orphans.0 > 0 {
        open.book.add_silently(refund_grant(open.account.id, orphans, &about, now));
    }
    Ok(open.book.write_line(TransactionType::Refund, credits, Some(total_cost), about))
}

async fn mark_returned(
    txn: &Txn,
    draw: &credit_draw::Model,
    credits: i64,
    cost: i64,
) -> Result<()> {
    let sql = "UPDATE ai_credit_draws SET returned = returned + $2,
               returned_cost = returned_cost + $3 WHERE id = $1";
    let values: Vec<Value> = vec![draw.id.into(), credits.into(), cost.into()];
    db::execute(&**txn, sql, values).await?;
    Ok(())
}

fn refund_grant(
    account_id: AccountId,
    (credits, cost): (i64, i64),
    about: &About,
    now: DateTime<Utc>,
) -> credit_grant::Model {
    credit_grant::Model {
        id: GrantId::new(),
        account_id,
        kind: GrantKind::Refund,
        granted: credits,
        remaining: credits,
        price_minor: cost,
        cost_left: cost,
        period: None,
        expires_at: Some(now + TimeDelta::days(REFUND_DAYS)),
        description: about.description.clone(),
        reference_id: about.execution.map(|execution| execution.0),
        created_at: now,
    }
}
