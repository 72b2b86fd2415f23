use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::ids::{CrossSiteActivityId, SessionId, TenantId, UserId};

/// A person who went from one site to another, with their consent.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "cross_site_activities")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: CrossSiteActivityId,
    pub tenant_id: TenantId,
    pub user_id: UserId,
    pub session_id: SessionId,
    pub from_domain: String,
    pub to_domain: String,
    pub created_at: DateTime<Utc>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
