//! Learning what became of a refund, ours or one that was made at Stripe: the one place where it
//! takes credits, and gives them back.
//!
//! Stripe is asked how refunds stand at each event, so that events may come twice and in any order.
//! Who learns locks the purchase's row first.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::EntityTrait;
use serde_json::Value as Json;

use crate::app::App;
use crate::entity::credit_purchase;
use crate::entity::purchase_refund::{self, RefundStatus};
use crate::error::{Error, Result};
use crate::external::stripe::{ACCOUNT, PURCHASE, Refund, RefundState, from_stripe, read_refund};
use crate::ids::{PurchaseId, RefundId, TypedId};
use crate::payments::disputes;
use crate::payments::refunds::keep;
use crate::payments::service::learn;

/// When Stripe is asked again about one that it has on its way.
pub(super) const LATER: TimeDelta = TimeDelta::hours(1);
const REASON_CHARS_MAX: usize = 80;

/// A charge of which money went back, as Stripe tells it.
struct Charge {
    /// Our purchase, when it was written on it; on the charge of an invoice nothing is.
    purchase: Option<PurchaseId>,
    account: Option<String>,
    payment: String,
    amount: i64,
    currency: String,
    is_live: bool,
}

/// Learns the refunds of a charge; a word for the record.
pub(crate) async fn hear_charge(app: &App, json: &Json, is_live: bool) -> Result<&'static str> {
    let Some(charge) = read(json, is_live) else { return Ok("NOT_OURS") };
    let purchase = match charge.purchase {
        Some(purchase) => Some(purchase),
        None => disputes::purchase_of(app, &charge.payment).await?,
    };
    let Some(purchase) = purchase else { return Ok("NOT_OURS") };
    let row = credit_purchase::Entity::find_by_id(purchase).one(app.db.primary()).await?;
    let Some(row) = row else { return Ok("UNKNOWN") };
    let differing = differences(app, &row, &charge);
    if !differing.is_empty() {
        let now = app.clock.db_now();
        let mut txn = app.db.begin().await?;
        let what = (row.id, charge.payment.as_str(), &differing[..]);
        learn::alarm_of(&mut txn, what, (charge.amount, &charge.currency), now).await?;
        txn.commit().await?;
        return Ok("MISMATCH");
    }
    learn_all(app, row.id, &charge.payment).await
}

/// Learns a refund from an event of it; a word for the record.
pub(crate) async fn hear(app: &App, object: &Json) -> Result<&'static str> {
    let Some(told) = read_refund(object) else { return Ok("UNREADABLE") };
    let Some(payment) = told.payment else { return Ok("NOT_OURS") };
    let Some(purchase) = disputes::purchase_of(app, &payment).await? else {
        return Ok("NOT_OURS");
    };
    learn_all(app, purchase, &payment).await
}

/// Learns all refunds of a payment, the oldest first: what failed makes room for what came after.
async fn learn_all(app: &App, purchase: PurchaseId, payment: &str) -> Result<&'static str> {
    let refunds = app.payments.refunds_of(payment).await.map_err(Error::broken)?;
    let mut outcome = "KNOWN";
    for refund in refunds.iter().rev() {
        let learned = learn(app, purchase, refund).await?;
        if learned != "KNOWN" {
            outcome = learned;
        }
    }
    Ok(outcome)
}

/// Learns how a refund stands now; a word for the record.
pub(super) async fn learn(app: &App, id: PurchaseId, told: &Refund) -> Result<&'static str> {
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await?;
    let Some(row) = learn::lock(&txn, id).await? else { return Ok("UNKNOWN") };
    let known = keep::find(&txn, &row, told).await?;
    let status = status_of(told.state);
    let held = known.as_ref().is_some_and(|known| known.status.holds_money());
    let takes = status.holds_money() && !held;
    let is_too_much = takes && row.refunded + told.amount > row.amount;
    if is_too_much && keep::is_unanswered(&txn, &row).await? {
        // Stripe decides which of the two goes back; its answer comes later.
        return Err(Error::broken("a refund beside one that is not answered yet"));
    }
    let differing = differences_of(&row, known.as_ref(), told, is_too_much);
    if !differing.is_empty() {
        let what = (row.id, told.id.as_str(), &differing[..]);
        learn::alarm_of(&mut txn, what, (told.amount, &told.currency), now).await?;
        txn.commit().await?;
        return Ok("MISMATCH");
    }
    if row.grant_id.is_none() {
        // Its payment comes later in this order of things.
        return Err(Error::broken("a refund of a purchase that is not granted yet"));
    }
    if let Some(known) = &known
        && known.stripe_refund_id.is_some()
    {
        if known.status == status {
            return Ok("KNOWN");
        }
        // An answer that was overtaken by the end.
        if known.status == RefundStatus::Failed || status == RefundStatus::Pending {
            return Ok("LATE");
        }
    }
    let is_new = known.is_none();
    let mut next = known.unwrap_or_else(|| begun(&row, told, now));
    (next.status, next.updated_at, next.next_check_at) = (status, now, now + LATER);
    next.stripe_refund_id = Some(told.id.clone());
    next.failure_reason = told.failure.as_deref().map(word);
    match (held, status.holds_money()) {
        (false, true) => keep::take(&mut txn, &row, &mut next, now).await?,
        (true, false) => keep::give_back(&mut txn, &row, &next, now).await?,
        (true, true) => keep::save_purchase(&mut txn, &row, row.refunded, now).await?,
        (false, false) => {}
    }
    if is_new {
        keep::insert(&txn, &next).await?
    } else {
        keep::update(&txn, &next).await?
    }
    if status == RefundStatus::Failed {
        keep::alarm(&mut txn, &next, now).await?;
    }
    txn.commit().await?;
    Ok(status.as_str())
}

/// Why a refund failed: Stripe's word and nothing else.
pub(super) fn word(text: &str) -> String {
    let is_word = |letter: &char| letter.is_ascii_alphanumeric() || *letter == '_';
    text.chars().filter(is_word).take(REASON_CHARS_MAX).collect()
}

fn status_of(state: RefundState) -> RefundStatus {
    match state {
        RefundState::Pending => RefundStatus::Pending,
        RefundState::Succeeded => RefundStatus::Succeeded,
        RefundState::Failed => RefundStatus::Failed,
    }
}

/// A payment's metadata is on its charge, too.
fn read(json: &Json, is_live: bool) -> Option<Charge> {
    let text = |value: &Json| value.as_str().map(str::to_owned);
    let purchase = json["metadata"][PURCHASE].as_str().map(PurchaseId::parse).transpose();
    let currency = json["currency"].as_str()?.to_uppercase();
    Some(Charge {
        purchase: purchase.ok()?,
        account: text(&json["metadata"][ACCOUNT]),
        payment: text(&json["payment_intent"])?,
        amount: from_stripe(json["amount"].as_i64()?, &currency)?,
        currency,
        is_live: json["livemode"].as_bool()? && is_live,
    })
}

fn differences(app: &App, row: &credit_purchase::Model, charge: &Charge) -> Vec<&'static str> {
    let is_other = |id: &String| *id != charge.payment;
    let differing = [
        ("amount", charge.amount != row.amount),
        ("currency", charge.currency != row.currency),
        ("livemode", charge.is_live != app.payments.is_live()),
        (
            "account",
            charge.purchase.is_some()
                && charge.account.as_deref() != Some(&*row.account_id.to_string()),
        ),
        ("payment", row.payment_intent_id.as_ref().is_some_and(is_other)),
    ];
    differing.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

/// In what a refund differs from our record.
fn differences_of(
    row: &credit_purchase::Model,
    known: Option<&purchase_refund::Model>,
    told: &Refund,
    is_too_much: bool,
) -> Vec<&'static str> {
    let is_other = known.is_some_and(|known| known.amount != told.amount);
    let differing = [
        ("amount", is_too_much || is_other || told.amount < 0),
        ("currency", told.currency != row.currency),
        ("payment", row.payment_intent_id.is_some() && told.payment != row.payment_intent_id),
    ];
    differing.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

/// A refund that was made at Stripe, before anything followed from it.
fn begun(
    row: &credit_purchase::Model,
    told: &Refund,
    now: DateTime<Utc>,
) -> purchase_refund::Model {
    purchase_refund::Model {
        id: RefundId::new(),
        tenant_id: row.tenant_id,
        purchase_id: row.id,
        user_id: None,
        status: RefundStatus::Pending,
        reason: None,
        amount: told.amount,
        withdrawal_id: None,
        stripe_refund_id: None,
        failure_reason: None,
        next_check_at: now,
        created_at: now,
        updated_at: now,
    }
}
