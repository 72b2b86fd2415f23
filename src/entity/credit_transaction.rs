use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;
use uuid::Uuid;

use super::function_price::AiFunctionType;
use crate::ids::{AccountId, ExecutionId, GrantId, HoldId, TransactionId, UserId};
use crate::text_enum;

/// A line of the ledger: never updated or deleted, unique for account and version.
/// CHECKs: balance_after ≥ 0; one USAGE line per hold, one PURCHASE line per reference.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "ai_credit_transactions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: TransactionId,
    pub account_id: AccountId,
    /// The account's version that this line made; the ledger's only order.
    pub version: i64,
    pub transaction_type: TransactionType,
    /// Signed: below 0 credits leave.
    pub credits_amount: i64,
    /// Credits.
    pub balance_after: i64,
    pub ai_function_type: Option<AiFunctionType>,
    /// Model, temperature and limits only.
    pub ai_function_params: Option<serde_json::Value>,
    pub execution_time_ms: Option<i64>,
    /// Yen that the moved credits carried.
    pub total_cost_yen: Option<i64>,
    pub user_id: Option<UserId>,
    pub execution_id: Option<ExecutionId>,
    pub hold_id: Option<HoldId>,
    pub grant_id: Option<GrantId>,
    /// What it is for: a purchase, a withdrawal, a reset.
    pub reference_id: Option<Uuid>,
    pub description: Option<String>,
    pub created_at: DateTime<Utc>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// The rows of an account.
    pub fn of_account(account: AccountId) -> Select<Self> {
        Self::find().filter(Column::AccountId.eq(account))
    }

    /// A row, if it is this account's.
    pub fn of_account_and_id(account: AccountId, id: TransactionId) -> Select<Self> {
        Self::of_account(account).filter(Column::Id.eq(id))
    }
}

text_enum! {
    /// Why the balance changed.
    TransactionType {
        /// An execution was charged.
        Usage = "USAGE",
        /// Credits were bought.
        Purchase = "PURCHASE",
        /// Free credits: the opening, a new month or an upgrade.
        MonthlyReset = "MONTHLY_RESET",
        /// Credits were given by us.
        Bonus = "BONUS",
        /// Credits of an execution came back.
        Refund = "REFUND",
        /// Credits expired or were not carried over.
        Expiry = "EXPIRY",
        /// Bought credits were taken back for their price.
        PurchaseRefund = "PURCHASE_REFUND",
        /// Credits were taken away while their payment is disputed.
        Dispute = "DISPUTE",
        /// Credits came back because the dispute ended in our favour.
        DisputeWon = "DISPUTE_WON",
    }
}
