//! Things that people should know: a row, once per key, and a live event.

use chrono::{DateTime, Utc};
use sea_orm::{EntityTrait, IntoActiveModel, TryInsertResult};
use serde_json::Value;

use crate::db::Txn;
use crate::entity::alert::{self, AlertSeverity};
use crate::error::Result;
use crate::events::{self, Event};
use crate::ids::{AlertId, TenantId};
use crate::text_enum;

text_enum! {
    /// What an alert is about.
    AlertKind {
        /// The balance fell below the account's threshold.
        LowBalance = "LOW_BALANCE",
        /// A call cost more than was held for it; the difference is ours.
        ChargeShortfall = "CHARGE_SHORTFALL",
        /// The ledger and the balance of an account differ.
        LedgerDrift = "LEDGER_DRIFT",
        /// A person's use of AI functions is unusual.
        AnomalousUsage = "ANOMALOUS_USAGE",
        /// A payment is not what its purchase recorded; nothing was granted for it.
        PaymentMismatch = "PAYMENT_MISMATCH",
        /// A subscription at Stripe is not what was recorded; nothing was changed by it.
        SubscriptionMismatch = "SUBSCRIPTION_MISMATCH",
        /// A renewal of the plan was not paid.
        PlanPastDue = "PLAN_PAST_DUE",
        /// A renewal of the plan was not paid in time: no free credits at the next reset.
        PlanSuspended = "PLAN_SUSPENDED",
        /// A payment was made for an account that takes no credits, or for a plan that had ended.
        PaymentUngranted = "PAYMENT_UNGRANTED",
        /// Credits were to be bought by themselves, and were not.
        AutoPurchaseFailed = "AUTO_PURCHASE_FAILED",
        /// A purchase failed when its buyer was not there any more to be told so.
        PaymentFailed = "PAYMENT_FAILED",
        /// Money that was to go back did not.
        RefundFailed = "REFUND_FAILED",
        /// The payer's bank disputes a payment.
        PaymentDisputed = "PAYMENT_DISPUTED",
        /// An invoice was not paid in time.
        InvoiceOverdue = "INVOICE_OVERDUE",
    }
}

/// An alert to raise.
#[derive(Clone, Debug)]
pub struct NewAlert {
    /// Whom it concerns; none for the operators.
    pub tenant: Option<TenantId>,
    /// What it is about.
    pub kind: AlertKind,
    /// How bad it is.
    pub severity: AlertSeverity,
    /// The same key raises no second alert.
    pub dedupe_key: String,
    /// Numbers for the message.
    pub data: Value,
}

/// Raises an alert. Says whether it was new.
pub async fn raise(txn: &mut Txn, alert: NewAlert, now: DateTime<Utc>) -> Result<bool> {
    let row = alert::Model {
        id: AlertId::new(),
        tenant_id: alert.tenant,
        kind: alert.kind.as_str().to_owned(),
        severity: alert.severity,
        dedupe_key: alert.dedupe_key,
        data: alert.data,
        created_at: now,
    };
    let (id, tenant) = (row.id, row.tenant_id);
    let inserted = alert::Entity::insert(row.into_active_model())
        .on_conflict_do_nothing_on([alert::Column::DedupeKey])
        .exec_without_returning(&**txn)
        .await?;
    let is_new = matches!(inserted, TryInsertResult::Inserted(rows) if rows > 0);
    if is_new {
        events::announce(txn, Event::Alert { alert: id, tenant });
    }
    Ok(is_new)
}
