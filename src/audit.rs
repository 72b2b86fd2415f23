//! The record of who did what. A row beside the change, in the same transaction.

use chrono::{DateTime, Utc};
use sea_orm::{EntityTrait, IntoActiveModel};
use serde_json::Value;
use uuid::Uuid;

use crate::actor::Actor;
use crate::db::Txn;
use crate::entity::system_event;
use crate::error::Result;
use crate::ids::{AuditEventId, TenantId};
use crate::text_enum;

text_enum! {
    /// What was done.
    Action {
        /// Bonus credits were granted.
        CreditBonusGranted = "CREDIT_BONUS_GRANTED",
        /// An execution's credits were given back.
        CreditRefunded = "CREDIT_REFUNDED",
        /// A package was put on sale.
        CreditPackageCreated = "CREDIT_PACKAGE_CREATED",
        /// A package was changed.
        CreditPackageUpdated = "CREDIT_PACKAGE_UPDATED",
        /// A package was taken off sale.
        CreditPackageRetired = "CREDIT_PACKAGE_RETIRED",
        /// A plan has a new version.
        PlanUpdated = "PLAN_UPDATED",
        /// A function's price has a new version.
        AiPriceSet = "AI_PRICE_SET",
        /// A tenant's plan was set.
        TenantPlanSet = "TENANT_PLAN_SET",
        /// Somebody asked to cancel an execution.
        AiExecutionCancelled = "AI_EXECUTION_CANCELLED",
    }
}

/// What an action was done to.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The table's noun: `credit_package`.
    pub entity_type: &'static str,
    /// The row.
    pub entity_id: Uuid,
    /// The tenant that it belongs to; none for what belongs to the platform.
    pub tenant: Option<TenantId>,
    /// Numbers and names; never personal text.
    pub data: Value,
}

/// Writes the row.
pub async fn record(
    txn: &Txn,
    actor: &Actor,
    action: Action,
    subject: Subject,
    now: DateTime<Utc>,
) -> Result<()> {
    let row = system_event::Model {
        id: AuditEventId::new(),
        tenant_id: subject.tenant.or(actor.tenant_id),
        user_id: Some(actor.user_id),
        event_type: "DATA".to_owned(),
        source_system: "musubi".to_owned(),
        entity_type: subject.entity_type.to_owned(),
        entity_id: Some(subject.entity_id),
        action: action.as_str().to_owned(),
        event_data: subject.data,
        is_success: true,
        occurred_at: now,
    };
    system_event::Entity::insert(row.into_active_model()).exec_without_returning(&**txn).await?;
    Ok(())
}
