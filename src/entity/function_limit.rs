use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::entity::function_price::AiFunctionType;
use crate::ids::{TenantId, UserId};

/// How often each member of a tenant may run a function, where it is not as usual. One row for
/// tenant and function; CHECK: 0 to 10 000.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tenant_function_limits")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: TenantId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub function_type: AiFunctionType,
    /// Calls in any hour.
    pub per_hour: i64,
    /// The platform admin who set it last.
    pub updated_by: UserId,
    pub updated_at: DateTime<Utc>,
}

/// None: relations are read by loaders.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
