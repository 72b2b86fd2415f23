//! The record of who did what. A row beside the change, in the same transaction.

use chrono::{DateTime, Utc};
use sea_orm::{EntityTrait, IntoActiveModel};
use serde_json::Value;
use uuid::Uuid;

use crate::actor::Actor;
use crate::db::Txn;
use crate::entity::system_event;
use crate::error::Result;
use crate::ids::{AuditEventId, TenantId, UserId};
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
        /// Somebody signed in.
        SignedIn = "SIGNED_IN",
        /// Sessions were ended by their owner.
        SessionsEnded = "SESSIONS_ENDED",
        /// A retired refresh token came again, which ended its session.
        RefreshTokenReused = "REFRESH_TOKEN_REUSED",
        /// A person went on in another tenant.
        TenantSwitched = "TENANT_SWITCHED",
        /// A person's own profile was changed.
        ProfileUpdated = "PROFILE_UPDATED",
        /// An account at a provider was linked.
        AccountLinked = "ACCOUNT_LINKED",
        /// An account at a provider was unlinked.
        AccountUnlinked = "ACCOUNT_UNLINKED",
        /// A person went from one site to another.
        HandedOver = "HANDED_OVER",
        /// A tenant was made.
        TenantCreated = "TENANT_CREATED",
        /// A tenant's settings were changed.
        TenantUpdated = "TENANT_UPDATED",
        /// A tenant was closed.
        TenantClosed = "TENANT_CLOSED",
        /// A site was made.
        SiteCreated = "SITE_CREATED",
        /// A site was changed.
        SiteUpdated = "SITE_UPDATED",
        /// A site was removed.
        SiteRemoved = "SITE_REMOVED",
        /// Somebody was invited.
        MemberInvited = "MEMBER_INVITED",
        /// An invitation was withdrawn.
        InvitationRevoked = "INVITATION_REVOKED",
        /// Somebody became a member.
        MemberJoined = "MEMBER_JOINED",
        /// A member's role was changed.
        MemberRoleChanged = "MEMBER_ROLE_CHANGED",
        /// A member was removed.
        MemberRemoved = "MEMBER_REMOVED",
        /// An API key was made.
        ApiKeyCreated = "API_KEY_CREATED",
        /// An API key was revoked.
        ApiKeyRevoked = "API_KEY_REVOKED",
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

/// Something about who comes in, where nobody may be signed in yet.
#[derive(Clone, Debug)]
pub struct Security {
    /// What happened.
    pub action: Action,
    /// Whom it concerns.
    pub user: Option<UserId>,
    /// The tenant that they act in.
    pub tenant: Option<TenantId>,
    /// The table's noun, and the row.
    pub subject: (&'static str, Option<Uuid>),
    /// Numbers and names; never personal text.
    pub data: Value,
}

/// Writes the row of a security event.
pub async fn record_security(txn: &Txn, event: Security, now: DateTime<Utc>) -> Result<()> {
    let row = system_event::Model {
        id: AuditEventId::new(),
        tenant_id: event.tenant,
        user_id: event.user,
        event_type: "SECURITY".to_owned(),
        source_system: "musubi".to_owned(),
        entity_type: event.subject.0.to_owned(),
        entity_id: event.subject.1,
        action: event.action.as_str().to_owned(),
        event_data: event.data,
        is_success: event.action != Action::RefreshTokenReused,
        occurred_at: now,
    };
    system_event::Entity::insert(row.into_active_model()).exec_without_returning(&**txn).await?;
    Ok(())
}
