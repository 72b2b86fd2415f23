//! Money that went back: what is unspent of its credits goes with it.

use chrono::{DateTime, Utc};
use serde_json::Value as Json;

use crate::app::App;
use crate::credits::service::withdraw::{Withdraw, withdraw};
use crate::db::{self, Txn};
use crate::entity::credit_purchase::{self, PaymentStatus};
use crate::entity::credit_withdrawal::WithdrawalReason;
use crate::error::{Error, Result};
use crate::events::{self, Event, PurchaseChanged};
use crate::external::stripe::{ACCOUNT, PURCHASE, from_stripe};
use crate::ids::{PurchaseId, TypedId};
use crate::payments::disputes;
use crate::payments::service::learn;

/// A charge of which money went back, as Stripe tells it.
struct Charge {
    /// Our purchase, when it was written on it; on the charge of an invoice nothing is.
    purchase: Option<PurchaseId>,
    account: Option<String>,
    payment: String,
    amount: i64,
    refunded: i64,
    currency: String,
    is_live: bool,
}

/// Learns what went back of a payment. All that ever went back is told each time, so that events
/// may come twice and in any order.
pub(crate) async fn learn_refund(app: &App, json: &Json, is_live: bool) -> Result<&'static str> {
    let Some(charge) = read(json, is_live) else { return Ok("NOT_OURS") };
    let purchase = match charge.purchase {
        Some(purchase) => Some(purchase),
        None => disputes::purchase_of(app, &charge.payment).await?,
    };
    let Some(purchase) = purchase else { return Ok("NOT_OURS") };
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await?;
    let Some(row) = learn::lock(&txn, purchase).await? else { return Ok("UNKNOWN") };
    let differing = differences(app, &row, &charge);
    if !differing.is_empty() {
        let what = (row.id, charge.payment.as_str(), &differing[..]);
        learn::alarm_of(&mut txn, what, (charge.amount, &charge.currency), now).await?;
        txn.commit().await?;
        return Ok("MISMATCH");
    }
    let Some(grant) = row.grant_id else {
        // Its payment comes later in this order of things.
        return Err(Error::broken("a refund of a purchase that is not granted yet"));
    };
    if charge.refunded <= row.refunded {
        return Ok("KNOWN");
    }
    let credits = disputes::refund_share(&txn, &row, charge.refunded).await?;
    if credits > 0 {
        let wish = Withdraw {
            account: row.account_id,
            grant,
            reason: WithdrawalReason::PurchaseRefund,
            credits,
            reference: Some(row.id.0),
        };
        withdraw(&mut txn, wish, now).await?;
    }
    save(&mut txn, row, charge.refunded, now).await?;
    txn.commit().await?;
    Ok("REFUNDED")
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
        refunded: from_stripe(json["amount_refunded"].as_i64()?, &currency)?,
        currency,
        is_live: json["livemode"].as_bool()? && is_live,
    })
}

fn differences(app: &App, row: &credit_purchase::Model, charge: &Charge) -> Vec<&'static str> {
    let is_other = |id: &String| *id != charge.payment;
    let differing = [
        ("amount", charge.amount != row.amount || !(0..=row.amount).contains(&charge.refunded)),
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

async fn save(
    txn: &mut Txn,
    row: credit_purchase::Model,
    refunded: i64,
    now: DateTime<Utc>,
) -> Result<()> {
    let is_whole = refunded == row.amount;
    let status = if is_whole { PaymentStatus::Refunded } else { row.status };
    let sql = "UPDATE credit_purchases SET refunded = $2, status = $3, version = version + 1,
               updated_at = $4 WHERE id = $1";
    let values = vec![row.id.into(), refunded.into(), status.as_str().into(), now.into()];
    db::execute(&**txn, sql, values).await?;
    let (tenant, version) = (row.tenant_id, row.version + 1);
    events::announce(txn, Event::Purchase(PurchaseChanged { purchase: row.id, tenant, version }));
    Ok(())
}
