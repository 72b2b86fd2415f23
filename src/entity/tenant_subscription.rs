use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;
use uuid::Uuid;

use super::plan::PlanType;
use crate::crypto::Sealed;
use crate::ids::{AccountId, SubscriptionId, TenantId, UserId};
use crate::text_enum;

/// A plan that a tenant pays for by the month, as Stripe told of it last.
/// UNIQUE: Stripe's id; the tenant while it has not ended. CHECKs: what has ended says when, what
/// is past due says until when it waits, what was ever active says since when.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "tenant_subscriptions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: SubscriptionId,
    pub tenant_id: TenantId,
    pub account_id: AccountId,
    /// Who subscribed.
    pub user_id: UserId,
    pub status: SubscriptionStatus,
    /// What is paid for, or is to be.
    pub plan_type: PlanType,
    /// A smaller plan from the period's end on, or a larger one that waits for its payment.
    pub pending_plan_type: Option<PlanType>,
    /// Yen per month, tax included: as it was begun, then as Stripe bills it.
    pub price_yen: i64,
    /// Stripe's price that it was begun with; none: the price was told with the request.
    pub stripe_price_id: Option<String>,
    /// Stripe's id of the card that it was begun with.
    pub payment_method_id: Option<String>,
    /// Unique: Stripe's own.
    pub stripe_id: Option<String>,
    /// Stripe's id of the line that has the price.
    pub item_id: Option<String>,
    /// Lets the page finish a payment.
    pub client_secret: Option<Sealed>,
    pub period_start: Option<DateTime<Utc>>,
    pub period_end: Option<DateTime<Utc>>,
    pub cancel_at_period_end: bool,
    /// Until when a failed renewal is waited for.
    pub grace_until: Option<DateTime<Utc>>,
    /// A change that was asked for and not answered yet.
    pub change_id: Option<Uuid>,
    pub change_plan_type: Option<PlanType>,
    pub change_at: Option<DateTime<Utc>>,
    /// Rises with every answer of Stripe's that was learned, so that an older one is known.
    pub reads: i64,
    /// Rises with every change.
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    /// When Stripe is asked next.
    pub check_at: DateTime<Utc>,
    /// When it was paid first.
    pub activated_at: Option<DateTime<Utc>>,
    pub ended_at: Option<DateTime<Utc>>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// The rows of a tenant.
    pub fn of_tenant(tenant: TenantId) -> Select<Self> {
        Self::find().filter(Column::TenantId.eq(tenant))
    }

    /// A row, if it is this tenant's.
    pub fn find_for(tenant: TenantId, id: SubscriptionId) -> Select<Self> {
        Self::of_tenant(tenant).filter(Column::Id.eq(id))
    }
}

text_enum! {
    /// Where a subscription stands.
    SubscriptionStatus {
        /// Stripe has not answered yet.
        Pending = "PENDING",
        /// It waits for its first payment.
        Incomplete = "INCOMPLETE",
        /// Paid.
        Active = "ACTIVE",
        /// A renewal was not paid; it is waited for.
        PastDue = "PAST_DUE",
        /// A renewal was not paid in time: no free credits.
        Suspended = "SUSPENDED",
        /// Over.
        Cancelled = "CANCELLED",
        /// Never paid, and given up.
        IncompleteExpired = "INCOMPLETE_EXPIRED",
        /// Stripe refused it, or never got it.
        Failed = "FAILED",
    }
}
