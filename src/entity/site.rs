use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::ids::{SiteId, TenantId};
use crate::text_enum;

/// A web site of a tenant: its domain, and the origins that its pages come from.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "sites")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: SiteId,
    pub tenant_id: TenantId,
    pub character: Character,
    /// The name that people see.
    pub name: String,
    /// Unique among all tenants.
    pub domain: String,
    /// Browser origins, a list of texts.
    pub origins: Json,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

text_enum! {
    /// Whom something is about.
    Character {
        /// 傾奇ユウヤ.
        Yuya = "YUYA",
        /// 猫空あおば.
        Aoba = "AOBA",
        /// Both of them.
        Both = "BOTH",
    }
}

impl Entity {
    /// The rows of a tenant.
    pub fn of_tenant(tenant: TenantId) -> Select<Self> {
        Self::find().filter(Column::TenantId.eq(tenant))
    }

    /// A row, if it is this tenant's.
    pub fn find_for(tenant: TenantId, id: SiteId) -> Select<Self> {
        Self::of_tenant(tenant).filter(Column::Id.eq(id))
    }
}
