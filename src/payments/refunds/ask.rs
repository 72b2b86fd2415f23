//! Giving money back for credits that are not spent. The credits go first, then Stripe is asked
//! under our key, and what it refuses puts them back.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::EntityTrait;
use serde_json::json;

use crate::actor::{Actor, Permission};
use crate::app::App;
use crate::audit::{self, Action, Subject};
use crate::credits::error::CreditError;
use crate::credits::service::withdraw::{Withdraw, withdraw};
use crate::db::Txn;
use crate::entity::credit_purchase::{self, PaymentStatus};
use crate::entity::credit_withdrawal::WithdrawalReason;
use crate::entity::purchase_refund::{self, RefundReason, RefundStatus};
use crate::error::{Error, Result};
use crate::external::stripe::{NewRefund, Refund, StripeFailure};
use crate::idempotency;
use crate::ids::{PurchaseId, RefundId, TenantId};
use crate::payments::error::PaymentError;
use crate::payments::refunds::{keep, learn};
use crate::payments::service::buy::KEY_LIFE;
use crate::payments::service::learn as purchases;

/// When Stripe is asked again about one that it has not answered.
pub(super) const SOON: TimeDelta = TimeDelta::minutes(2);

/// A wish to give money back.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Whose purchase.
    pub tenant: TenantId,
    /// The purchase.
    pub purchase: PurchaseId,
    /// How many of its credits; none: all that are unspent and not held by running calls.
    pub credits: Option<i64>,
    /// Why.
    pub reason: RefundReason,
    /// The client's key.
    pub idempotency_key: String,
}

/// Gives back what the unspent credits of a purchase cost. The same key gives back once: it answers
/// the refund as it is, and goes on with one whose answer was lost.
pub async fn refund(app: &App, actor: &Actor, wish: Wish) -> Result<purchase_refund::Model> {
    actor.require(Permission::Platform)?;
    if wish.credits.is_some_and(|credits| credits < 1) {
        return Err(Error::invalid(
            "input.credits",
            "1以上を指定してください。",
            "must be 1 or more",
        ));
    }
    let row = record(app, actor, wish).await?;
    if row.status == RefundStatus::Pending { Box::pin(go_on(app, row)).await } else { Ok(row) }
}

/// Takes the credits and writes the refund down, or finds the one that the key made.
async fn record(app: &App, actor: &Actor, wish: Wish) -> Result<purchase_refund::Model> {
    let now = app.clock.db_now();
    let id = RefundId::new();
    let body = json!([wish.tenant, wish.purchase, wish.credits, wish.reason]);
    let key = idempotency::Key::new(
        &app.crypto,
        (wish.tenant, actor.principal()),
        "creditPurchaseRefund",
        (&wish.idempotency_key, &body),
        id.0,
    )?;
    let bought = credit_purchase::Entity::find_for(wish.tenant, wish.purchase);
    bought.one(app.db.primary()).await?.ok_or(Error::NotFound("purchase"))?;
    let mut txn = app.db.begin().await?;
    if let Some(made) = idempotency::claim_one(&txn, &key, now).await? {
        let known = purchase_refund::Entity::find_by_id(RefundId(made)).one(&*txn).await?;
        return known.ok_or(Error::NotFound("refund"));
    }
    let row = purchases::lock(&txn, wish.purchase).await?.ok_or(Error::NotFound("purchase"))?;
    let row = refundable(&txn, row).await?;
    let (refund, credits) = take(&mut txn, &row, (id, actor, &wish), now).await?;
    keep::insert(&txn, &refund).await?;
    keep::save_purchase(&mut txn, &row, row.refunded + refund.amount, now).await?;
    let subject = Subject::of("credit_purchase", row.id.0).in_tenant(row.tenant_id);
    let subject = subject.with(json!({ "refund": refund.id.to_string(), "credits": credits,
                                       "amount": refund.amount, "reason": wish.reason }));
    audit::record(app, &txn, actor, Action::CreditPurchaseRefunded, subject).await?;
    txn.commit().await?;
    Ok(refund)
}

/// The purchase, if money of it can go back: it was paid, nobody disputes it, and no other refund
/// waits for Stripe's answer.
async fn refundable(txn: &Txn, row: credit_purchase::Model) -> Result<credit_purchase::Model> {
    if row.status != PaymentStatus::Completed || row.payment_intent_id.is_none() {
        return Err(PaymentError::NotRefundable.into());
    }
    if keep::is_unanswered(txn, &row).await? {
        return Err(PaymentError::RefundUnderWay.into());
    }
    Ok(row)
}

/// Takes the credits: all that are wished, or none. What they cost is what goes back, as far as the
/// payment has so much left. The refund, and how many credits it took.
async fn take(
    txn: &mut Txn,
    row: &credit_purchase::Model,
    (id, actor, wish): (RefundId, &Actor, &Wish),
    now: DateTime<Utc>,
) -> Result<(purchase_refund::Model, i64)> {
    let grant = row.grant_id.ok_or(PaymentError::NotRefundable)?;
    let taking = Withdraw {
        account: row.account_id,
        grant,
        reason: WithdrawalReason::PurchaseRefund,
        credits: wish.credits.unwrap_or(i64::MAX),
        waits: false,
        reference: Some(row.id.0),
    };
    let taken = match withdraw(txn, taking, now).await {
        Err(Error::NotFound("credit account")) => return Err(CreditError::AccountClosed.into()),
        taken => taken?,
    };
    if taken.taken < wish.credits.unwrap_or(1) {
        return Err(PaymentError::SpentAlready { unspent: taken.taken }.into());
    }
    let amount = taken.cost_taken.min(row.amount - row.refunded);
    if amount == 0 {
        return Err(PaymentError::NothingLeft.into());
    }
    let refund = purchase_refund::Model {
        id,
        tenant_id: row.tenant_id,
        purchase_id: row.id,
        user_id: Some(actor.user_id),
        status: RefundStatus::Pending,
        reason: Some(wish.reason),
        amount,
        withdrawal_id: Some(taken.id),
        stripe_refund_id: None,
        failure_reason: None,
        next_check_at: now + SOON,
        created_at: now,
        updated_at: now,
    };
    Ok((refund, taken.taken))
}

/// Goes on with a refund that was written down, wherever it was left. A Stripe that does not answer
/// changes nothing.
pub(super) async fn go_on(
    app: &App,
    row: purchase_refund::Model,
) -> Result<purchase_refund::Model> {
    let id = row.id;
    match ask(app, &row).await? {
        Asked::Told(told) => {
            learn::learn(app, row.purchase_id, &told).await?;
        }
        Asked::NotMade(why) => {
            tracing::error!(refund.id = %id, why, "Stripe did not make {id}: {why}");
            fail(app, &row, &why).await?;
        }
        Asked::Unclear(why) => {
            tracing::warn!(refund.id = %id, why, "{id} stays pending: {why}");
        }
        Asked::Strange(why) => {
            tracing::error!(refund.id = %id, why, "{id} stays pending, and nobody knows: {why}");
            let mut txn = app.db.begin().await?;
            keep::alarm(&mut txn, &row, app.clock.db_now()).await?;
            txn.commit().await?;
        }
    }
    let found = purchase_refund::Entity::find_by_id(id).one(app.db.primary()).await?;
    found.ok_or(Error::NotFound("refund"))
}

/// What Stripe says of a refund of ours.
enum Asked {
    Told(Box<Refund>),
    /// It refused, and lists none. In a word.
    NotMade(String),
    /// It does not answer now.
    Unclear(String),
    /// It refuses to say, or has lost what it told: somebody should look.
    Strange(String),
}

/// Asks Stripe for a refund that it may have made already. A refusal counts only when the payment's
/// list has no refund of ours either: an earlier request may have been fulfilled and its answer
/// lost. Once Stripe has forgotten the key, the list alone counts.
async fn ask(app: &App, row: &purchase_refund::Model) -> Result<Asked> {
    if let Some(known) = &row.stripe_refund_id {
        return Ok(match app.payments.refund_now(known).await {
            Ok(told) => Asked::Told(Box::new(told)),
            Err(StripeFailure::Unavailable(why)) => Asked::Unclear(why),
            Err(failure) => Asked::Strange(failure.to_string()),
        });
    }
    let bought = credit_purchase::Entity::find_by_id(row.purchase_id);
    let bought = bought.one(app.db.primary()).await?.ok_or(Error::NotFound("purchase"))?;
    let payment = bought.payment_intent_id.ok_or(Error::NotFound("payment"))?;
    let refund = row.id.to_string();
    let mut refusal = "not_made".to_owned();
    if app.clock.db_now() - row.created_at <= KEY_LIFE {
        let new = NewRefund {
            refund: refund.clone(),
            payment: payment.clone(),
            amount: row.amount,
            currency: bought.currency,
            reason: row.reason.map_or("", RefundReason::as_str).to_lowercase(),
            purchase: bought.id.to_string(),
            account: bought.account_id.to_string(),
        };
        match app.payments.refund(&new).await {
            Ok(told) => return Ok(Asked::Told(Box::new(told))),
            Err(StripeFailure::Unavailable(why)) => return Ok(Asked::Unclear(why)),
            // Its last word is Stripe's own.
            Err(StripeFailure::Refused(why)) => {
                refusal = why.rsplit(' ').next().unwrap_or_default().to_owned();
            }
            Err(failure) => {
                tracing::warn!(refund.id = %row.id, %failure, "Stripe refused a refund: {failure}");
                refusal = "refused".to_owned();
            }
        }
    }
    Ok(match app.payments.refunds_of(&payment).await {
        Ok(all) => match all.into_iter().find(|told| told.refund.as_deref() == Some(&*refund)) {
            Some(told) => Asked::Told(Box::new(told)),
            None => Asked::NotMade(refusal),
        },
        Err(StripeFailure::Unavailable(why)) => Asked::Unclear(why),
        Err(failure) => Asked::Strange(format!("{refusal}; {failure}")),
    })
}

/// Puts the credits of a refund back that Stripe did not make. One that it told of meanwhile stays.
async fn fail(app: &App, row: &purchase_refund::Model, why: &str) -> Result<()> {
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await?;
    let bought = purchases::lock(&txn, row.purchase_id).await?;
    let bought = bought.ok_or(Error::NotFound("purchase"))?;
    let found = purchase_refund::Entity::find_by_id(row.id).one(&*txn).await?;
    let mut next = found.ok_or(Error::NotFound("refund"))?;
    if next.status != RefundStatus::Pending || next.stripe_refund_id.is_some() {
        return Ok(());
    }
    (next.status, next.updated_at) = (RefundStatus::Failed, now);
    next.failure_reason = Some(learn::word(why));
    keep::give_back(&mut txn, &bought, &next, now).await?;
    keep::update(&txn, &next).await?;
    keep::alarm(&mut txn, &next, now).await?;
    txn.commit().await
}
