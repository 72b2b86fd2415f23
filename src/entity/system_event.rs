use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;
use uuid::Uuid;

use crate::ids::{ApiKeyId, AuditEventId, TenantId, UserId};
use crate::text_enum;

/// A line of the audit record: written once; sealing gives it its place in its chain. The database
/// refuses any other change. CHECKs: times ≥ 1, risk_level.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "system_event")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AuditEventId,
    /// The tenant, or zeros for what belongs to the platform.
    pub chain_id: Uuid,
    pub tenant_id: Option<TenantId>,
    /// The person who acted; with an API key, the person who made it.
    pub user_id: Option<UserId>,
    /// The key that acted.
    pub api_key_id: Option<ApiKeyId>,
    pub request_id: Option<String>,
    pub event_type: EventType,
    pub source_system: String,
    pub entity_type: String,
    pub entity_id: Option<Uuid>,
    pub action: String,
    /// Ids and numbers; no personal data.
    pub event_data: serde_json::Value,
    /// By field: `{ "before": …, "after": … }`, or `"[changed]"` for what is personal or sealed.
    pub changes: Option<serde_json::Value>,
    /// Of security events only.
    pub risk_level: Option<RiskLevel>,
    /// How often it happened, where repetitions are summed up.
    pub times: i64,
    /// False: the action was refused or failed.
    pub is_success: bool,
    pub occurred_at: DateTime<Utc>,
    /// Keyed, over address and user agent: they can be erased, and the line stays as it is.
    pub origin_digest: Option<Vec<u8>>,
    /// Keyed, over all of the above; empty in lines from before there were digests.
    pub digest: Vec<u8>,
    /// The place in the chain, from 1; none until it is sealed.
    pub seq: Option<i64>,
    /// SHA-256 of the link before, `seq` and `digest`.
    pub chain_hash: Option<Vec<u8>>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// The rows of a tenant.
    pub fn of_tenant(tenant: TenantId) -> Select<Self> {
        Self::find().filter(Column::ChainId.eq(tenant.0))
    }

    /// The rows of a chain.
    pub fn of_chain(chain: Uuid) -> Select<Self> {
        Self::find().filter(Column::ChainId.eq(chain))
    }
}

text_enum! {
    /// What a line of the record is about.
    EventType {
        /// Credits came or went: a line of the ledger.
        CreditTransaction = "CREDIT_TRANSACTION",
        /// Who comes in and who may what; refused attempts.
        Security = "SECURITY",
        /// Something was made, changed or removed.
        Data = "DATA",
        /// What the system did by itself.
        System = "SYSTEM",
    }
}

text_enum! {
    /// How much a security event matters.
    RiskLevel {
        /// Everyday.
        Low = "LOW",
        /// Worth a look when it repeats.
        Medium = "MEDIUM",
        /// Worth a look.
        High = "HIGH",
        /// Something was broken into, or is being.
        Critical = "CRITICAL",
    }
}
