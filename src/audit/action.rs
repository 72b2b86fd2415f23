//! What is recorded, and how much each matters: one table.

use crate::entity::system_event::{EventType, RiskLevel};
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
        /// Somebody began to buy credits.
        CreditPurchaseStarted = "CREDIT_PURCHASE_STARTED",
        /// Somebody began to store a card.
        CardSetupStarted = "CARD_SETUP_STARTED",
        /// A card was stored.
        CardStored = "CARD_STORED",
        /// A card was made the default.
        CardDefaultSet = "CARD_DEFAULT_SET",
        /// A card was removed.
        CardRemoved = "CARD_REMOVED",
        /// What was decided about automatic purchase was changed.
        AutoPurchaseChanged = "AUTO_PURCHASE_CHANGED",
        /// Credits were bought by themselves.
        AutoPurchased = "AUTO_PURCHASED",
        /// Credits were to be bought by themselves, and were not.
        AutoPurchaseFailed = "AUTO_PURCHASE_FAILED",
        /// Automatic purchase goes on, as another card is the default.
        AutoPurchaseResumed = "AUTO_PURCHASE_RESUMED",
        /// Somebody gave an unpaid purchase up.
        CreditPurchaseCancelled = "CREDIT_PURCHASE_CANCELLED",
        /// A purchase's unspent credits were taken, and their price is to go back.
        CreditPurchaseRefunded = "CREDIT_PURCHASE_REFUNDED",
        /// Somebody began to subscribe to a plan.
        PlanSubscriptionStarted = "PLAN_SUBSCRIPTION_STARTED",
        /// Somebody began to change the plan.
        PlanChangeStarted = "PLAN_CHANGE_STARTED",
        /// How many calls of a tenant may run at once was set.
        TenantRunningMaxSet = "TENANT_RUNNING_MAX_SET",
        /// A tenant's limit of a function was set.
        TenantFunctionLimitSet = "TENANT_FUNCTION_LIMIT_SET",
        /// A person's use of AI functions was unusual.
        AnomalousUsage = "ANOMALOUS_USAGE",
        /// A person's use of AI functions was so unusual that they are blocked, or would be.
        AnomalousUsageCritical = "ANOMALOUS_USAGE_CRITICAL",
        /// A block for unusual use was lifted.
        BlockLifted = "BLOCK_LIFTED",
        /// What follows from unusual use was changed.
        AnomalySettingsChanged = "ANOMALY_SETTINGS_CHANGED",
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
        /// Lines of the record were taken out of it.
        AuditExported = "AUDIT_EXPORTED",
        /// Somebody asked for what they may not.
        AccessRefused = "ACCESS_REFUSED",
        /// A token or a key was shown that is none, or is over.
        CredentialRefused = "CREDENTIAL_REFUSED",
        /// Somebody did not come in: a bad link, state, code or refresh token.
        SignInRefused = "SIGN_IN_REFUSED",
        /// Somebody asked more often than the limits allow.
        RateLimited = "RATE_LIMITED",
        /// Lines of this record were lost, as too many waited.
        RecordsDropped = "RECORDS_DROPPED",
        /// Lines of this record were removed at the end of their time.
        RecordsRemoved = "RECORDS_REMOVED",
    }
}

impl Action {
    /// What the action is about, and the risk that it carries if it is one of security.
    pub fn kind(self) -> (EventType, Option<RiskLevel>) {
        use EventType::{Data, Security, System};
        use RiskLevel::{Critical, High, Low, Medium};
        match self {
            Self::CreditBonusGranted
            | Self::CreditRefunded
            | Self::CreditPackageCreated
            | Self::CreditPackageUpdated
            | Self::CreditPackageRetired
            | Self::PlanUpdated
            | Self::AiPriceSet
            | Self::CreditPurchaseStarted
            | Self::CardSetupStarted
            | Self::CardStored
            | Self::CardDefaultSet
            | Self::CardRemoved
            | Self::AutoPurchaseChanged
            | Self::AutoPurchased
            | Self::AutoPurchaseFailed
            | Self::AutoPurchaseResumed
            | Self::CreditPurchaseCancelled
            | Self::CreditPurchaseRefunded
            | Self::PlanSubscriptionStarted
            | Self::PlanChangeStarted
            | Self::TenantPlanSet
            | Self::TenantRunningMaxSet
            | Self::TenantFunctionLimitSet
            | Self::AiExecutionCancelled
            | Self::ProfileUpdated
            | Self::TenantCreated
            | Self::TenantUpdated => (Data, None),
            Self::SignedIn
            | Self::SessionsEnded
            | Self::TenantSwitched
            | Self::HandedOver
            | Self::MemberInvited
            | Self::InvitationRevoked
            | Self::MemberJoined
            | Self::AccountLinked
            | Self::AccountUnlinked
            | Self::CredentialRefused
            | Self::SignInRefused => (Security, Some(Low)),
            Self::TenantClosed
            | Self::SiteCreated
            | Self::SiteUpdated
            | Self::SiteRemoved
            | Self::MemberRoleChanged
            | Self::MemberRemoved
            | Self::ApiKeyCreated
            | Self::ApiKeyRevoked
            | Self::AuditExported
            | Self::AccessRefused
            | Self::RateLimited => (Security, Some(Medium)),
            Self::BlockLifted | Self::AnomalySettingsChanged => (Security, Some(Medium)),
            Self::AnomalousUsage | Self::RefreshTokenReused => (Security, Some(High)),
            Self::AnomalousUsageCritical => (Security, Some(Critical)),
            Self::RecordsDropped | Self::RecordsRemoved => (System, None),
        }
    }

    /// Whether it says that something was refused or went wrong.
    pub fn is_failure(self) -> bool {
        match self {
            Self::RefreshTokenReused
            | Self::AccessRefused
            | Self::CredentialRefused
            | Self::SignInRefused
            | Self::RateLimited
            | Self::AutoPurchaseFailed
            | Self::RecordsDropped => true,
            Self::CreditBonusGranted
            | Self::CreditRefunded
            | Self::CreditPackageCreated
            | Self::CreditPackageUpdated
            | Self::CreditPackageRetired
            | Self::PlanUpdated
            | Self::AiPriceSet
            | Self::TenantPlanSet
            | Self::TenantRunningMaxSet
            | Self::TenantFunctionLimitSet
            | Self::AiExecutionCancelled
            | Self::ProfileUpdated
            | Self::TenantCreated
            | Self::TenantUpdated
            | Self::SignedIn
            | Self::SessionsEnded
            | Self::TenantSwitched
            | Self::HandedOver
            | Self::MemberInvited
            | Self::InvitationRevoked
            | Self::MemberJoined
            | Self::AccountLinked
            | Self::AccountUnlinked
            | Self::TenantClosed
            | Self::SiteCreated
            | Self::SiteUpdated
            | Self::SiteRemoved
            | Self::MemberRoleChanged
            | Self::MemberRemoved
            | Self::ApiKeyCreated
            | Self::ApiKeyRevoked
            | Self::AuditExported
            | Self::CreditPurchaseStarted
            | Self::CardSetupStarted
            | Self::CardStored
            | Self::CardDefaultSet
            | Self::CardRemoved
            | Self::AutoPurchaseChanged
            | Self::AutoPurchased
            | Self::AutoPurchaseResumed
            | Self::CreditPurchaseCancelled
            | Self::CreditPurchaseRefunded
            | Self::PlanSubscriptionStarted
            | Self::PlanChangeStarted
            | Self::AnomalousUsage
            | Self::AnomalousUsageCritical
            | Self::BlockLifted
            | Self::AnomalySettingsChanged
            | Self::RecordsRemoved => false,
        }
    }
}
