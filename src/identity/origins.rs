//! The sites of all tenants, as the perimeter knows them: which origins may come, and whose they
//! are.

use sea_orm::FromQueryResult;

use crate::app::App;
use crate::db;
use crate::entity::tenant::MembershipPolicy;
use crate::error::Result;
use crate::ids::{SiteId, TenantId};

/// Sites that a node knows at most.
const SITES_MAX: i64 = 10_000;

/// A site of a tenant that is open for business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The site.
    pub id: SiteId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Its domain.
    pub domain: String,
    /// The origins of its pages, the first is where people land.
    pub origins: Vec<String>,
    /// Whether newcomers become members.
    pub is_open: bool,
}

/// All sites of tenants that are there.
pub async fn places(app: &App) -> Result<Vec<Place>> {
    #[derive(FromQueryResult)]
    struct Row {
        id: SiteId,
        tenant_id: TenantId,
        domain: String,
        origins: serde_json::Value,
        membership_policy: MembershipPolicy,
    }
    let sql = "SELECT s.id, s.tenant_id, s.domain, s.origins, t.membership_policy
               FROM sites s JOIN tenants t ON t.id = s.tenant_id AND t.deleted_at IS NULL
               ORDER BY s.id LIMIT $1";
    let rows: Vec<Row> = db::all(app.db.primary(), sql, vec![SITES_MAX.into()]).await?;
    let place = |row: Row| Place {
        id: row.id,
        tenant: row.tenant_id,
        domain: row.domain,
        origins: serde_json::from_value(row.origins).unwrap_or_default(),
        is_open: row.membership_policy == MembershipPolicy::Open,
    };
    Ok(rows.into_iter().map(place).collect())
}
