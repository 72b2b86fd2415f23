use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::ids::{PurchaseId, TenantId};

/// The receipt of a purchase, with who issued it. UNIQUE: number; numbers have no gaps.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "credit_receipts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub purchase_id: PurchaseId,
    pub tenant_id: TenantId,
    /// Unique.
    pub number: i64,
    pub issuer_name: String,
    pub issuer_address: String,
    /// T and thirteen digits.
    pub registration_number: String,
    pub issued_at: DateTime<Utc>,
    /// When it was handed out first.
    pub delivered_at: Option<DateTime<Utc>>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
