use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use super::plan::PlanType;
use crate::ids::{AccountId, TenantId};

/// A tenant's prepaid credits, one account per tenant.
/// CHECKs: 0 ≤ held ≤ balance ≤ 2 000 000 000; thresholds ≥ 0, amount > 0,
/// running ≥ 0, running_max > 0.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "ai_credit_accounts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AccountId,
    pub tenant_id: TenantId,
    /// The truth; the tenant mirrors it.
    pub plan_type: PlanType,
    /// A downgrade that takes effect at the next reset.
    pub next_plan_type: Option<PlanType>,
    pub monthly_free_credits: i64,
    /// IANA name; mirrors the tenant's.
    pub time_zone: String,
    /// Credits, those on hold included.
    pub current_balance: i64,
    /// Credits on hold; the rest of the balance is available.
    pub held: i64,
    /// Calls that hold credits now.
    pub running: i64,
    /// Calls that may hold credits at once at most.
    pub running_max: i64,
    /// Rises with every change of balance or hold.
    pub version: i64,
    /// The next reset or expiry; a reserve after it applies what is due first.
    pub next_due_at: DateTime<Utc>,
    /// A month that starts later brings no free credits; none: no end.
    pub entitled_until: Option<DateTime<Utc>>,
    /// Credits; an alert is raised when fewer are available.
    pub alert_threshold: i64,
    /// Credits, since the account was opened.
    pub total_purchased_credits: i64,
    /// Credits, since the account was opened.
    pub total_used_credits: i64,
    pub auto_purchase_enabled: bool,
    /// Credits.
    pub auto_purchase_threshold: i64,
    /// Credits.
    pub auto_purchase_amount: i64,
    /// A purchase is wanted or under way: when the worker looks next. None: nothing is.
    pub auto_purchase_due_at: Option<DateTime<Utc>>,
    /// Until then a low balance wants no purchase, as it would be refused.
    pub auto_purchase_quiet_until: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub deleted_at: Option<DateTime<Utc>>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// A tenant's account.
    pub fn find_for(tenant: TenantId) -> Select<Self> {
        Self::find().filter(Column::TenantId.eq(tenant))
    }
}
