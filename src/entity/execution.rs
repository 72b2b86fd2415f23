use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use super::function_price::AiFunctionType;
use crate::crypto::Sealed;
use crate::ids::{AccountId, ApiKeyId, ExecutionId, PriceId, TenantId, TransactionId, UserId};
use crate::text_enum;

/// A call of an AI function.
/// CHECKs: 0 ≤ credits_refunded ≤ credits_used ≤ credits_held, shortfall ≥ 0; status and usage
/// source are checked.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "ai_executions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ExecutionId,
    pub tenant_id: TenantId,
    pub account_id: AccountId,
    /// For whom it runs.
    pub user_id: UserId,
    /// Who asked; differs from `user_id` when an ADMIN asks for someone.
    pub requested_by: UserId,
    /// The API key that asked; none when a person did.
    pub api_key_id: Option<ApiKeyId>,
    pub idempotency_key: String,
    pub function_type: AiFunctionType,
    pub model: String,
    pub provider: String,
    /// The version of the price that it is charged by.
    pub price_id: PriceId,
    pub status: ExecutionStatus,
    /// None: erased.
    pub parameters: Option<Sealed>,
    /// None: there is none, or it was erased.
    pub result: Option<Sealed>,
    /// Output tokens allowed, after lowering to what was affordable.
    pub max_tokens: i64,
    /// Output tokens that were asked for.
    pub requested_max_tokens: i64,
    /// Input tokens, counted before dispatch.
    pub estimated_tokens: i64,
    /// Of all calls to the provider together.
    pub input_tokens: Option<i64>,
    /// Of all calls to the provider together.
    pub output_tokens: Option<i64>,
    pub usage_source: Option<UsageSource>,
    pub credits_held: i64,
    pub credits_used: i64,
    /// Credits of the charge that were given back.
    pub credits_refunded: i64,
    /// Credits that the computed charge lay above the hold; not charged.
    pub shortfall: i64,
    /// Yen that the charged credits carried.
    pub total_cost_yen: Option<i64>,
    /// The charge's line in the ledger.
    pub transaction_id: Option<TransactionId>,
    pub failure_code: Option<FailureCode>,
    /// Of the prompt but for numbers, marks and case, keyed; 0: unknown.
    pub prompt_digest: i64,
    /// How unusual it was, 0 to 100.
    pub anomaly_score: i64,
    /// Why, a list of signals.
    pub anomaly_signals: Json,
    pub cancel_requested_at: Option<DateTime<Utc>>,
    pub execution_time_ms: Option<i64>,
    pub created_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
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
    pub fn find_for(tenant: TenantId, id: ExecutionId) -> Select<Self> {
        Self::of_tenant(tenant).filter(Column::Id.eq(id))
    }
}

text_enum! {
    /// Where an execution stands.
    ExecutionStatus {
        /// Runs now; its credits are on hold.
        Running = "RUNNING",
        /// Ended with a result.
        Succeeded = "SUCCEEDED",
        /// Ended without a usable result; the failure tells why.
        Failed = "FAILED",
        /// Was cancelled; what had been delivered is charged.
        Cancelled = "CANCELLED",
    }
}

text_enum! {
    /// Who counted the tokens.
    UsageSource {
        /// The provider reported them.
        Provider = "PROVIDER",
        /// We counted them, as the provider reported none.
        Counted = "COUNTED",
    }
}

text_enum! {
    /// Why an execution failed.
    FailureCode {
        /// The provider takes no more calls for a moment; try again later.
        ProviderRateLimited = "PROVIDER_RATE_LIMITED",
        /// Our quota at the provider is used up.
        ProviderQuota = "PROVIDER_QUOTA",
        /// The provider refused the request; it would refuse it again.
        ProviderRejected = "PROVIDER_REJECTED",
        /// The provider could not be reached or failed; try again.
        ProviderUnavailable = "PROVIDER_UNAVAILABLE",
        /// The provider did not answer in time; try again.
        ProviderTimeout = "PROVIDER_TIMEOUT",
        /// The provider answered without content; try again.
        ProviderEmpty = "PROVIDER_EMPTY",
        /// The answer broke off, or was invalid even after a repair.
        OutputBroken = "OUTPUT_BROKEN",
        /// It was cancelled before it ended.
        Cancelled = "CANCELLED",
        /// Our server stopped while it ran; try again.
        Interrupted = "INTERRUPTED",
        /// Something went wrong on our side.
        Internal = "INTERNAL",
    }
}
