use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use super::plan::PlanType;
use crate::crypto::Sealed;
use crate::ids::TenantId;
use crate::text_enum;

/// A customer: a hotel or a studio. The slug is unique; the plan is checked.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "tenants")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: TenantId,
    pub name: String,
    /// Unique; the name in addresses.
    pub slug: String,
    /// Mirrors the plan of the credit account, which is the truth.
    pub crm_plan_type: PlanType,
    pub crm_activated_at: Option<DateTime<Utc>>,
    pub billing_email: Option<Sealed>,
    pub stripe_customer_id: Option<String>,
    /// Customers of it that Stripe no longer has.
    pub stripe_customers_lost: i64,
    /// IANA name; days and months of the tenant are counted in it.
    pub time_zone: String,
    /// BCP 47 language of what we send.
    pub locale: String,
    pub membership_policy: MembershipPolicy,
    /// Where its alerts go in Slack.
    pub slack_webhook_url: Option<Sealed>,
    pub slack_channel: Option<Sealed>,
    pub anomaly_mode: AnomalyMode,
    /// How long a person is blocked for unusual use.
    pub anomaly_block_minutes: i64,
    /// Rises with every change, for `expectedVersion`.
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    /// When it was closed.
    pub deleted_at: Option<DateTime<Utc>>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

text_enum! {
    /// What follows from unusual use.
    AnomalyMode {
        /// People are blocked for a while.
        Enforce = "ENFORCE",
        /// It is recorded only.
        Shadow = "SHADOW",
    }
}

text_enum! {
    /// How somebody becomes a member.
    MembershipPolicy {
        /// Who signs in on a site of the tenant becomes a USER.
        Open = "OPEN",
        /// Only who was invited.
        InviteOnly = "INVITE_ONLY",
    }
}
