//! Disputes: the payer's bank takes the money back until somebody has decided. Its share of the
//! credits goes with it, and comes back when we win.
//!
//! Stripe is asked how a dispute stands at each event, so that events may come in any order. What
//! is disputed and what is refunded of one purchase share its credits: neither takes what the other
//! has taken already.

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
};
use serde_json::{Value as Json, json};

use crate::actor::{Actor, Permission};
use crate::alerts::{self, AlertKind, NewAlert};
use crate::app::App;
use crate::db::{self, Txn};
use crate::entity::alert::AlertSeverity;
use crate::entity::credit_purchase::{self, PaymentStatus};
use crate::entity::credit_withdrawal::WithdrawalReason;
use crate::entity::payment_dispute::{self, DisputeStatus};
use crate::error::{Error, Result};
use crate::events::{self, Event, PurchaseChanged};
use crate::external::stripe::{Dispute, StripeFailure, read_dispute};
use crate::ids::{DisputeId, PurchaseId, TypedId};
use crate::payments::refunds::claims;
use crate::payments::service::learn::{self, Told};

const REASON_CHARS_MAX: usize = 80;

/// Learns a dispute from an event of it; a word for the record.
pub(crate) async fn hear(app: &App, object: &Json, is_live: bool) -> Result<&'static str> {
    let Some(told) = read_dispute(object) else { return Ok("UNREADABLE") };
    let dispute = match app.payments.dispute(&told.id).await {
        Ok(dispute) => dispute,
        Err(StripeFailure::NotFound) => return Ok("GONE"),
        Err(failure) => return Err(Error::broken(failure)),
    };
    let Some(payment) = dispute.payment.clone() else { return Ok("NOT_OURS") };
    let Some(purchase) = purchase_of(app, &payment).await? else { return Ok("NOT_OURS") };
    learn_dispute(app, purchase, &Dispute { is_live: dispute.is_live && is_live, ..dispute }).await
}

/// The purchase that a payment paid. Stripe is asked when we have not seen the payment yet; what it
/// tells is learned on the way.
pub(crate) async fn purchase_of(app: &App, payment: &str) -> Result<Option<PurchaseId>> {
    let known = credit_purchase::Entity::find()
        .filter(credit_purchase::Column::PaymentIntentId.eq(payment))
        .one(app.db.primary())
        .await?;
    if let Some(row) = known {
        return Ok(Some(row.id));
    }
    let named = |text: &Option<String>| text.as_deref().and_then(|it| PurchaseId::parse(it).ok());
    match app.payments.payment(payment).await {
        Ok(payment) if payment.purchase.is_some() => {
            learn::learn(app, &payment).await?;
            return Ok(named(&payment.purchase));
        }
        // The payment of an invoice carries nothing of ours; the invoice does.
        Ok(_) | Err(StripeFailure::NotFound) => {}
        Err(failure) => return Err(Error::broken(failure)),
    }
    match app.payments.invoice_of(payment).await.map_err(Error::broken)? {
        Some(invoice) => {
            learn::learn_told(app, Told::Invoice(&invoice)).await?;
            Ok(named(&invoice.purchase))
        }
        None => Ok(None),
    }
}

/// Learns how a dispute stands now.
async fn learn_dispute(app: &App, id: PurchaseId, dispute: &Dispute) -> Result<&'static str> {
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await?;
    let Some(row) = learn::lock(&txn, id).await? else { return Ok("UNKNOWN") };
    let differing = differences(app, &row, dispute);
    if !differing.is_empty() {
        let what = (row.id, dispute.id.as_str(), &differing[..]);
        learn::alarm_of(&mut txn, what, (dispute.amount, &dispute.currency), now).await?;
        txn.commit().await?;
        return Ok("MISMATCH");
    }
    if row.grant_id.is_none() {
        // Its payment comes later in this order of things.
        return Err(Error::broken("a dispute of a purchase that is not granted yet"));
    }
    let all = of_purchase(&*txn, id).await?;
    let known = all.iter().find(|other| other.stripe_dispute_id == dispute.id);
    let Some(status) = status_of(&dispute.status) else { return Ok("UNREADABLE") };
    if known.is_some_and(|known| known.status == status) {
        return Ok("KNOWN");
    }
    // An answer that was overtaken by the decision.
    if known.is_some_and(|known| known.status.is_over() && !status.is_over()) {
        return Ok("LATE");
    }
    let before = known.cloned().unwrap_or_else(|| begun(&row, dispute, now));
    if known.is_none() {
        let insert = payment_dispute::Entity::insert(before.clone().into_active_model());
        insert.exec_without_returning(&*txn).await?;
    }
    let mut next = payment_dispute::Model { status, updated_at: now, ..before.clone() };
    match (before.status.holds_money(), status.holds_money()) {
        (false, true) => {
            let what = (next.id.0, next.amount, WithdrawalReason::Dispute);
            next.withdrawal_id = claims::take(&mut txn, &row, what, now).await?;
        }
        (true, false) => {
            let what = (next.id.0, next.withdrawal_id.take());
            claims::give_back(&mut txn, &row, what, now).await?;
        }
        (true, true) | (false, false) => {}
    }
    save(&mut txn, &row, &all, &next, now).await?;
    alarm(&mut txn, &row, &next, now).await?;
    txn.commit().await?;
    Ok(status.as_str())
}

/// What Stripe's word means; none when it is one that Stripe has added since.
fn status_of(word: &str) -> Option<DisputeStatus> {
    match word {
        "warning_needs_response" | "warning_under_review" => Some(DisputeStatus::Inquiry),
        "needs_response" | "under_review" => Some(DisputeStatus::Open),
        "won" => Some(DisputeStatus::Won),
        "lost" => Some(DisputeStatus::Lost),
        "warning_closed" | "prevented" => Some(DisputeStatus::Closed),
        _ => None,
    }
}

fn differences(app: &App, row: &credit_purchase::Model, dispute: &Dispute) -> Vec<&'static str> {
    let is_other = |id: &String| dispute.payment.as_ref() != Some(id);
    let differing = [
        ("amount", !(0..=row.amount).contains(&dispute.amount)),
        ("currency", dispute.currency != row.currency),
        ("livemode", dispute.is_live != app.payments.is_live()),
        ("payment", row.payment_intent_id.as_ref().is_some_and(is_other)),
    ];
    differing.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

/// A dispute before anything followed from it.
fn begun(
    row: &credit_purchase::Model,
    dispute: &Dispute,
    now: DateTime<Utc>,
) -> payment_dispute::Model {
    let is_word = |letter: &char| letter.is_ascii_alphanumeric() || *letter == '_';
    payment_dispute::Model {
        id: DisputeId::new(),
        tenant_id: row.tenant_id,
        purchase_id: row.id,
        stripe_dispute_id: dispute.id.clone(),
        status: DisputeStatus::Inquiry,
        reason: dispute.reason.chars().filter(is_word).take(REASON_CHARS_MAX).collect(),
        amount: dispute.amount,
        withdrawal_id: None,
        created_at: now,
        updated_at: now,
    }
}

/// The disputes of a purchase, oldest first. Banks dispute a payment a few times at most.
async fn of_purchase(
    conn: &impl ConnectionTrait,
    id: PurchaseId,
) -> Result<Vec<payment_dispute::Model>> {
    let found = payment_dispute::Entity::find()
        .filter(payment_dispute::Column::PurchaseId.eq(id))
        .order_by_asc(payment_dispute::Column::CreatedAt)
        .order_by_asc(payment_dispute::Column::Id);
    Ok(found.all(conn).await?)
}

/// How a purchase that was paid stands when so much of its price went back.
pub(crate) async fn standing(
    txn: &Txn,
    row: &credit_purchase::Model,
    refunded: i64,
) -> Result<PaymentStatus> {
    let all = of_purchase(&**txn, row.id).await?;
    Ok(status_with(row, refunded, all.iter().any(|dispute| dispute.status.holds_money())))
}

fn status_with(row: &credit_purchase::Model, refunded: i64, is_disputed: bool) -> PaymentStatus {
    match is_disputed {
        _ if refunded == row.amount => PaymentStatus::Refunded,
        true => PaymentStatus::Disputed,
        false => PaymentStatus::Completed,
    }
}

async fn save(
    txn: &mut Txn,
    row: &credit_purchase::Model,
    all: &[payment_dispute::Model],
    next: &payment_dispute::Model,
    now: DateTime<Utc>,
) -> Result<()> {
    let values =
        vec![next.id.into(), next.status.as_str().into(), next.withdrawal_id.into(), now.into()];
    let sql = "UPDATE payment_disputes SET status = $2, withdrawal_id = $3, updated_at = $4
               WHERE id = $1";
    db::execute(&**txn, sql, values).await?;
    let others = all.iter().filter(|other| other.id != next.id);
    let is_disputed = others.chain([next]).any(|dispute| dispute.status.holds_money());
    let status = status_with(row, row.refunded, is_disputed);
    let sql = "UPDATE credit_purchases SET status = $2, version = version + 1, updated_at = $3
               WHERE id = $1";
    let values = vec![row.id.into(), status.as_str().into(), now.into()];
    db::execute(&**txn, sql, values).await?;
    let (tenant, version) = (row.tenant_id, row.version + 1);
    events::announce(txn, Event::Purchase(PurchaseChanged { purchase: row.id, tenant, version }));
    Ok(())
}

/// The tenant and the operators learn of each turn of a dispute, once.
async fn alarm(
    txn: &mut Txn,
    row: &credit_purchase::Model,
    dispute: &payment_dispute::Model,
    now: DateTime<Utc>,
) -> Result<()> {
    let (kind, status) = (AlertKind::PaymentDisputed, dispute.status);
    let severity = if status.holds_money() { AlertSeverity::High } else { AlertSeverity::Info };
    for (tenant, whose) in [(Some(row.tenant_id), "tenant"), (None, "operators")] {
        let alert = NewAlert {
            tenant,
            kind,
            severity,
            dedupe_key: format!("{kind}:{}:{status}:{whose}", dispute.stripe_dispute_id),
            data: json!({ "purchase": row.id.to_string(), "status": status,
                          "reason": dispute.reason, "amount": dispute.amount }),
        };
        alerts::raise(txn, alert, now).await?;
    }
    Ok(())
}

/// The last dispute of each of these purchases that the actor may see.
pub async fn of_purchases(
    app: &App,
    actor: &Actor,
    ids: &[PurchaseId],
) -> Result<Vec<payment_dispute::Model>> {
    actor.require(Permission::MoneyManage)?;
    let sql = format!(
        "SELECT * FROM payment_disputes
         WHERE tenant_id = $1 AND purchase_id IN {} ORDER BY created_at, id",
        db::tuples(1, ids.len(), 2)
    );
    let mut values = vec![actor.tenant()?.into()];
    values.extend(ids.iter().map(|id| id.0.into()));
    db::all(app.db.primary(), sql, values).await
}
