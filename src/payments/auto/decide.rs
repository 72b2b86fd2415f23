//! Whether to buy, what and by which card: judged under the account's lock, so that any number of
//! causes on any number of nodes come to one purchase.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter};
use serde_json::json;

use crate::app::App;
use crate::audit::{self, Action, Subject};
use crate::credits::service::grant::BALANCE_MAX;
use crate::credits::{catalog, period};
use crate::db::{self, Txn};
use crate::entity::auto_purchase::AutoPurchaseReason as Reason;
use crate::entity::auto_purchase_attempt::{AttemptState, AutoPurchaseCause};
use crate::entity::credit_purchase::{PaymentMethodKind, PurchaseSource};
use crate::entity::{
    auto_purchase, auto_purchase_attempt, credit_account, credit_package, credit_purchase,
    stored_card,
};
use crate::error::Result;
use crate::ids::{AccountId, AutoPurchaseAttemptId, PurchaseId};
use crate::payments::auto::attempt;
use crate::payments::cards;
use crate::payments::price::Price;
use crate::payments::service::buy::{self, Wish};

/// No attempt follows a failed one for so long.
pub(crate) const PAUSE: TimeDelta = TimeDelta::hours(1);
/// So many attempts are made at most within so long.
const BURST_MAX: usize = 2;
const BURST: TimeDelta = TimeDelta::minutes(10);
/// How long charges are silent about a low balance after a refusal that may end at any time.
const QUIET: TimeDelta = TimeDelta::minutes(10);
/// When the worker looks at an attempt again.
const LOOK_AGAIN: TimeDelta = TimeDelta::minutes(1);

/// What asks for a purchase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Trigger {
    /// A charge left no more than the threshold.
    Charge,
    /// A call wants so many credits.
    Reserve(i64),
}

impl Trigger {
    fn cause(self) -> AutoPurchaseCause {
        match self {
            Self::Charge => AutoPurchaseCause::Charge,
            Self::Reserve(_) => AutoPurchaseCause::Reserve,
        }
    }

    fn needed(self) -> i64 {
        match self {
            Self::Charge => 0,
            Self::Reserve(needed) => needed,
        }
    }

    /// Credits that are lacking; none are when it is not above 0.
    fn gap(self, account: &credit_account::Model) -> i64 {
        match self {
            Self::Charge => account.auto_purchase_threshold + 1 - account.current_balance,
            Self::Reserve(needed) => needed - (account.current_balance - account.held),
        }
    }
}

/// What was decided.
#[derive(Clone, Debug)]
pub(crate) enum Decision {
    /// Nothing is bought by itself for this account, or nothing is to be looked at.
    Off,
    /// Nothing is lacking by now.
    Enough,
    /// Nothing is bought, for this reason.
    Refused,
    /// This purchase is under way, since now or before.
    Open(Box<credit_purchase::Model>),
}

/// A reason, and until when it holds if that is known.
type Refusal = (Reason, Option<DateTime<Utc>>);

/// What is to be bought, and by which card.
struct Plan {
    card: stored_card::Model,
    package: credit_package::Model,
}

/// Decides for an account.
pub(crate) async fn decide(app: &App, id: AccountId, trigger: Trigger) -> Result<Decision> {
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await?;
    let Some(account) = lock(&txn, id, trigger, now).await? else { return Ok(Decision::Off) };
    if let Some(purchase) = under_way(&txn, id).await? {
        txn.commit().await?;
        return Ok(Decision::Open(Box::new(purchase)));
    }
    let settings = auto_purchase::Entity::find_by_id(id).one(&*txn).await?;
    let settings = settings.filter(|_| account.auto_purchase_enabled);
    let is_lacking = trigger.gap(&account) > 0;
    let decision = match settings.filter(|_| is_lacking) {
        // What a charge marked is the worker's to look at.
        None if trigger != Trigger::Charge => return Ok(Decision::Enough),
        None => {
            rest(&txn, id, None).await?;
            Decision::Enough
        }
        Some(settings) => {
            match judge(app, &mut txn, (&account, settings.clone()), trigger, now).await? {
                Ok(plan) => {
                    let row = begin(app, &txn, (&account, &settings), (plan, trigger), now).await?;
                    Decision::Open(Box::new(row))
                }
                Err(refusal) => {
                    refuse(app, &mut txn, (&account, &settings), (refusal, trigger), now).await?;
                    Decision::Refused
                }
            }
        }
    };
    txn.commit().await?;
    Ok(decision)
}

/// Locks the account and marks it, so that a worker looks at it if this node dies. After a charge
/// only an account that is due is taken, and by one node.
async fn lock(
    txn: &Txn,
    id: AccountId,
    trigger: Trigger,
    now: DateTime<Utc>,
) -> Result<Option<credit_account::Model>> {
    let (sql, last) = match trigger {
        Trigger::Charge => (
            "UPDATE ai_credit_accounts SET auto_purchase_due_at = $2
             WHERE id = $1 AND auto_purchase_due_at <= $3 RETURNING *",
            Some(now),
        ),
        Trigger::Reserve(_) => (
            "UPDATE ai_credit_accounts SET auto_purchase_due_at = COALESCE(auto_purchase_due_at, $2)
             WHERE id = $1 AND auto_purchase_enabled RETURNING *",
            None,
        ),
    };
    let values = [id.into(), (now + LOOK_AGAIN).into()].into_iter();
    db::one(&**txn, sql, values.chain(last.map(Into::into)).collect()).await
}

/// Takes the mark off. Charges are silent until then.
pub(crate) async fn rest(
    txn: &Txn,
    id: AccountId,
    quiet_until: Option<DateTime<Utc>>,
) -> Result<()> {
    let sql = "UPDATE ai_credit_accounts
               SET auto_purchase_due_at = NULL, auto_purchase_quiet_until = $2 WHERE id = $1";
    db::execute(&**txn, sql, vec![id.into(), quiet_until.into()]).await?;
    Ok(())
}

async fn under_way(txn: &Txn, id: AccountId) -> Result<Option<credit_purchase::Model>> {
    let sql = "SELECT * FROM credit_purchases WHERE id = (
               SELECT purchase_id FROM auto_purchase_attempts
               WHERE account_id = $1 AND state = 'OPEN')";
    db::one(&**txn, sql, vec![id.into()]).await
}

/// What stands in the way of a purchase, the most lasting first; or what to buy.
async fn judge(
    app: &App,
    txn: &mut Txn,
    (account, settings): (&credit_account::Model, auto_purchase::Model),
    trigger: Trigger,
    now: DateTime<Utc>,
) -> Result<std::result::Result<Plan, Refusal>> {
    if account.deleted_at.is_some() {
        return Ok(Err((Reason::AccountClosed, None)));
    }
    let Some(card) = cards::default_of(&**txn, account.tenant_id).await? else {
        return Ok(Err((Reason::NoCard, None)));
    };
    if settings.suspended_at.is_some() {
        if settings.failed_card.as_deref() == Some(print_of(&card)) {
            return Ok(Err((Reason::Suspended, None)));
        }
        attempt::resume(app, txn, account, now).await?;
    }
    if let Some(until) = settings.failed_at.map(|at| at + PAUSE).filter(|until| *until > now) {
        return Ok(Err((Reason::Paused, Some(until))));
    }
    let since = month_began(account, now).min(now - BURST);
    let attempts = attempts_since(&**txn, account.id, since).await?;
    let latest: Vec<_> = attempts.iter().filter(|it| it.created_at > now - BURST).collect();
    if latest.len() >= BURST_MAX {
        let first = latest.iter().map(|attempt| attempt.created_at).min();
        return Ok(Err((Reason::TooManyAttempts, first.map(|at| at + BURST))));
    }
    let wanted = account.auto_purchase_amount.max(trigger.gap(account));
    let Some(package) = choose(&**txn, account, wanted, now).await? else {
        return Ok(Err((Reason::NoPackage, None)));
    };
    if account.current_balance + package.credits_amount > BALANCE_MAX {
        return Ok(Err((Reason::BalanceFull, None)));
    }
    if spent(account, &attempts, now) + Price::of(&package).total > settings.monthly_cap {
        return Ok(Err((Reason::MonthlyCap, None)));
    }
    Ok(Ok(Plan { card, package }))
}

/// What a card is known by, whatever its id.
pub(crate) fn print_of(card: &stored_card::Model) -> &str {
    card.fingerprint.as_deref().unwrap_or(&card.stripe_payment_method_id)
}

/// The smallest package on sale with so many credits, else the largest.
pub(crate) async fn choose(
    conn: &impl ConnectionTrait,
    account: &credit_account::Model,
    wanted: i64,
    now: DateTime<Utc>,
) -> Result<Option<credit_package::Model>> {
    let today = period::local_day(now, period::zone(&account.time_zone));
    let mut offered = catalog::on_sale(conn, account.plan_type, today).await?;
    let fitting = offered.iter().position(|package| package.credits_amount >= wanted);
    let last = offered.len().saturating_sub(1);
    Ok((!offered.is_empty()).then(|| offered.swap_remove(fitting.unwrap_or(last))))
}

/// When the account's month began in its zone.
pub(crate) fn month_began(account: &credit_account::Model, now: DateTime<Utc>) -> DateTime<Utc> {
    let zone = period::zone(&account.time_zone);
    period::start_of_day(period::period_of(now, zone), zone)
}

/// Attempts since then; there are few, as their number is bounded.
pub(crate) async fn attempts_since(
    conn: &impl ConnectionTrait,
    account: AccountId,
    since: DateTime<Utc>,
) -> Result<Vec<auto_purchase_attempt::Model>> {
    use auto_purchase_attempt::Column;
    let found = auto_purchase_attempt::Entity::find().filter(Column::AccountId.eq(account));
    Ok(found.filter(Column::CreatedAt.gte(since)).all(conn).await?)
}

/// What this month's attempts cost: those that were paid, or may still be.
pub(crate) fn spent(
    account: &credit_account::Model,
    attempts: &[auto_purchase_attempt::Model],
    now: DateTime<Utc>,
) -> i64 {
    let since = month_began(account, now);
    let counts = |attempt: &&auto_purchase_attempt::Model| {
        attempt.created_at >= since && attempt.state != AttemptState::Failed
    };
    attempts.iter().filter(counts).map(|attempt| attempt.amount).sum()
}

/// Writes the purchase and the attempt down.
async fn begin(
    app: &App,
    txn: &Txn,
    (account, settings): (&credit_account::Model, &auto_purchase::Model),
    (Plan { card, package }, trigger): (Plan, Trigger),
    now: DateTime<Utc>,
) -> Result<credit_purchase::Model> {
    let id = PurchaseId::new();
    let print = print_of(&card).to_owned();
    let wish = Wish {
        package: package.id,
        method: PaymentMethodKind::StoredCard,
        payment_method_id: Some(card.stripe_payment_method_id),
        confirmation_token_id: None,
        stored_card: Some(card.id),
        return_url: None,
        invoice_email: None,
        saves_card: false,
        source: PurchaseSource::AutoPurchase,
        idempotency_key: String::new(),
    };
    let row = buy::new_row((id, settings.user_id), account, &package, wish, now);
    credit_purchase::Entity::insert(row.clone().into_active_model())
        .exec_without_returning(&**txn)
        .await?;
    let attempt = auto_purchase_attempt::Model {
        id: AutoPurchaseAttemptId::new(),
        account_id: account.id,
        tenant_id: account.tenant_id,
        purchase_id: id,
        cause: trigger.cause(),
        balance_before: account.current_balance,
        held_before: account.held,
        threshold: account.auto_purchase_threshold,
        needed: trigger.needed(),
        card: print,
        amount: row.amount,
        state: AttemptState::Open,
        reason: None,
        created_at: now,
        ended_at: None,
    };
    auto_purchase_attempt::Entity::insert(attempt.into_active_model())
        .exec_without_returning(&**txn)
        .await?;
    let data = json!({ "package": row.package_id.to_string(), "amount": row.amount,
                       "credits": row.credits, "source": row.source });
    let subject = Subject::of("credit_purchase", id.0).in_tenant(row.tenant_id).with(data);
    audit::record_own(app, txn, Action::CreditPurchaseStarted, subject).await?;
    Ok(row)
}

/// Records a refusal, once for as long as it holds.
async fn refuse(
    app: &App,
    txn: &mut Txn,
    (account, settings): (&credit_account::Model, &auto_purchase::Model),
    ((reason, until), trigger): (Refusal, Trigger),
    now: DateTime<Utc>,
) -> Result<()> {
    rest(txn, account.id, Some(until.unwrap_or(now + QUIET))).await?;
    // The failure that these follow has been told.
    let follows = matches!(reason, Reason::Paused | Reason::Suspended);
    if follows || settings.blocked_reason == Some(reason) {
        return Ok(());
    }
    let sql = "UPDATE auto_purchases SET blocked_reason = $2, blocked_at = $3, updated_at = $3
               WHERE account_id = $1";
    let values = vec![account.id.into(), reason.as_str().into(), now.into()];
    db::execute(&**txn, sql, values).await?;
    let data = json!({
        "reason": reason, "cause": trigger.cause(), "balance": account.current_balance,
        "held": account.held, "threshold": account.auto_purchase_threshold,
        "needed": trigger.needed(), "until": until,
    });
    attempt::tell_of_failure(app, txn, account, (data, None), now).await
}
