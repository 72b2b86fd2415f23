//! The weekly assessment: all checks for the platform and for each tenant, kept.

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect};
use serde_json::json;

use crate::app::App;
use crate::audit::proof::Extent;
use crate::compliance::checks::{self, Check};
use crate::entity::{compliance_assessment, tenant};
use crate::error::Result;
use crate::ids::{AssessmentId, TenantId};
use uuid::Uuid;

/// Tenants that are read at once.
const PAGE: u64 = 500;

/// Assesses everybody, proving each chain from its beginning. How many were not compliant, of how
/// many.
pub async fn assess_all(app: &App, next_at: DateTime<Utc>) -> Result<(u64, u64)> {
    let of_system = checks::of_system(app).await?;
    let (mut failed, mut total) = (0, 0);
    let mut chains = vec![None];
    let mut last = TenantId(Uuid::nil());
    while !chains.is_empty() {
        for tenant in &chains {
            let is_compliant = assess(app, *tenant, &of_system, next_at).await?;
            total += 1;
            failed += u64::from(!is_compliant);
        }
        let page: Vec<TenantId> = tenant::Entity::find()
            .filter(tenant::Column::DeletedAt.is_null())
            .filter(tenant::Column::Id.gt(last))
            .order_by_asc(tenant::Column::Id)
            .limit(PAGE)
            .select_only()
            .column(tenant::Column::Id)
            .into_tuple()
            .all(app.db.primary())
            .await?;
        last = page.last().copied().unwrap_or(last);
        chains = page.into_iter().map(Some).collect();
    }
    Ok((failed, total))
}

async fn assess(
    app: &App,
    tenant: Option<TenantId>,
    of_system: &[Check],
    next_at: DateTime<Utc>,
) -> Result<bool> {
    let chain = tenant.map_or(Uuid::nil(), |tenant| tenant.0);
    let trail = checks::audit_trail(app, chain, Extent::Whole).await?;
    let failed: Vec<_> = of_system
        .iter()
        .chain([&trail])
        .filter(|check| !check.is_passed())
        .map(|check| check.name)
        .collect();
    let row = compliance_assessment::Model {
        id: AssessmentId::new(),
        tenant_id: tenant,
        is_compliant: failed.is_empty(),
        failed: json!(failed),
        assessed_at: app.clock.db_now(),
        next_at,
    };
    let txn = app.db.begin().await?;
    compliance_assessment::Entity::insert(row.into_active_model())
        .exec_without_returning(&*txn)
        .await?;
    txn.commit().await?;
    Ok(failed.is_empty())
}

/// The last assessment of a tenant; none when there was none yet.
pub async fn last(app: &App, tenant: TenantId) -> Result<Option<compliance_assessment::Model>> {
    Ok(compliance_assessment::Entity::find()
        .filter(compliance_assessment::Column::TenantId.eq(tenant))
        .order_by_desc(compliance_assessment::Column::AssessedAt)
        .one(app.db.primary())
        .await?)
}
