//! A tenant's web sites: their domains, and the browser origins that may come.

use sea_orm::{
    ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, ModelTrait, PaginatorTrait,
    QueryFilter, QueryOrder, QuerySelect, SqlErr, TryInsertResult,
};
use serde_json::json;

use crate::actor::{Actor, Permission};
use crate::app::App;
use crate::audit::{self, Action, Changes, Subject};
use crate::db::{self, Txn};
use crate::entity::site::{self, Character};
use crate::error::{Error, Result};
use crate::events::{self, Event};
use crate::identity::error::IdentityError;
use crate::identity::rules::{Refusals, texts};
use crate::identity::service::tenant::{lock, refuse_stale};
use crate::ids::{SiteId, TenantId};
use crate::text::Word;

/// Sites that a tenant may have.
const SITES_MAX: u64 = 20;

/// What a site is.
#[derive(Clone, Debug)]
pub struct SiteContent {
    /// Whom it is about.
    pub character: Character,
    /// The name that people see.
    pub name: String,
    /// Its host name.
    pub domain: String,
    /// The browser origins of its pages.
    pub origins: Vec<String>,
}

/// The sites of the actor's tenant, the oldest first; at most 20.
pub async fn list(app: &App, actor: &Actor) -> Result<Vec<site::Model>> {
    Ok(site::Entity::of_tenant(actor.tenant()?)
        .order_by_asc(site::Column::Id)
        .limit(SITES_MAX)
        .all(app.db.primary())
        .await?)
}

/// Sites of the actor's tenant by their ids.
pub async fn find(app: &App, actor: &Actor, ids: &[SiteId]) -> Result<Vec<site::Model>> {
    Ok(site::Entity::of_tenant(actor.tenant()?)
        .filter(site::Column::Id.is_in(ids.iter().copied()))
        .all(app.db.primary())
        .await?)
}

/// Adds a site. A domain belongs to one site of all tenants.
pub async fn create(app: &App, actor: &Actor, content: SiteContent) -> Result<site::Model> {
    actor.require(Permission::TenantManage)?;
    let tenant = actor.tenant()?;
    check(app, &content)?;
    let now = app.clock.db_now();
    let row = site::Model {
        id: SiteId::new(),
        tenant_id: tenant,
        character: content.character,
        name: content.name.trim().to_owned(),
        domain: content.domain,
        origins: json!(content.origins),
        version: 1,
        created_at: now,
        updated_at: now,
    };
    let txn = app.db.begin().await?;
    lock(&txn, tenant).await?;
    if site::Entity::of_tenant(tenant).count(&*txn).await? >= SITES_MAX {
        return Err(IdentityError::TooMany { what: "sites", max: SITES_MAX }.into());
    }
    let inserted = site::Entity::insert(row.clone().into_active_model())
        .on_conflict_do_nothing_on([site::Column::Domain])
        .exec_without_returning(&*txn)
        .await?;
    if !matches!(inserted, TryInsertResult::Inserted(1..)) {
        return Err(IdentityError::Taken { field: "input.domain" }.into());
    }
    refuse_taken(app, &txn, &row).await?;
    let changes = changes(None, Some(&row));
    publish(app, txn, actor, (Action::SiteCreated, &row, changes)).await?;
    Ok(row)
}

/// Changes a site.
pub async fn update(
    app: &App,
    actor: &Actor,
    (id, expected_version): (SiteId, Option<i64>),
    change: impl FnOnce(&mut SiteContent) + Send,
) -> Result<site::Model> {
    actor.require(Permission::TenantManage)?;
    let tenant = actor.tenant()?;
    let txn = app.db.begin().await?;
    let old = for_change(&txn, tenant, id).await?;
    refuse_stale(expected_version, old.version)?;
    let mut content = SiteContent {
        character: old.character,
        name: old.name.clone(),
        domain: old.domain.clone(),
        origins: texts(&old.origins),
    };
    change(&mut content);
    check(app, &content)?;
    let new = site::Model {
        character: content.character,
        name: content.name.trim().to_owned(),
        domain: content.domain,
        origins: json!(content.origins),
        version: old.version + 1,
        updated_at: app.clock.db_now(),
        ..old.clone()
    };
    refuse_taken(app, &txn, &new).await?;
    let updated = new.clone().into_active_model().reset_all().update(&*txn).await;
    if let Err(error) = updated {
        // Nothing else is unique; the transaction is given up, as PostgreSQL wants it.
        return Err(match error.sql_err() {
            Some(SqlErr::UniqueConstraintViolation(_)) => {
                IdentityError::Taken { field: "input.domain" }.into()
            }
            Some(_) | None => error.into(),
        });
    }
    let changes = changes(Some(&old), Some(&new));
    publish(app, txn, actor, (Action::SiteUpdated, &new, changes)).await?;
    Ok(new)
}

/// Removes a site: its origins may no longer come, its domain is free.
pub async fn remove(app: &App, actor: &Actor, id: SiteId) -> Result<site::Model> {
    actor.require(Permission::TenantManage)?;
    let tenant = actor.tenant()?;
    let txn = app.db.begin().await?;
    let row = for_change(&txn, tenant, id).await?;
    row.clone().delete(&*txn).await?;
    let changes = changes(Some(&row), None);
    publish(app, txn, actor, (Action::SiteRemoved, &row, changes)).await?;
    Ok(row)
}

/// An origin is one site's alone, and ours is no tenant's.
async fn refuse_taken(app: &App, txn: &Txn, row: &site::Model) -> Result<()> {
    let origins = texts(&row.origins);
    let public = app.config.public_url.to_ascii_lowercase();
    let is_ours = origins.iter().any(|origin| origin.to_ascii_lowercase() == public);
    let likes = (2..origins.len() + 2).map(|n| format!("CAST(origins AS text) LIKE ${n}"));
    let likes: Vec<String> = likes.collect();
    let sql = format!(
        "SELECT * FROM sites WHERE id <> $1 AND ({} OR FALSE) LIMIT 1",
        if likes.is_empty() { "FALSE".to_owned() } else { likes.join(" OR ") }
    );
    let mut values = vec![row.id.into()];
    values.extend(origins.iter().map(|origin| sea_orm::Value::from(format!("%\"{origin}\"%"))));
    let other: Option<site::Model> = db::one(&**txn, sql, values).await?;
    if is_ours || other.is_some() {
        return Err(IdentityError::Taken { field: "input.origins" }.into());
    }
    Ok(())
}

async fn for_change(txn: &Txn, tenant: TenantId, id: SiteId) -> Result<site::Model> {
    lock(txn, tenant).await?;
    let row = site::Entity::find_for(tenant, id).one(&**txn).await?;
    row.ok_or(Error::NotFound("site"))
}

fn check(app: &App, content: &SiteContent) -> Result<()> {
    let mut refusals = Refusals::default();
    refusals.name("input.name", &content.name);
    refusals.domain("input.domain", &content.domain);
    refusals.origins("input.origins", &content.origins, app.config.is_production());
    refusals.finish()
}

/// A site's name may be a person's; domains and origins are public.
fn changes(old: Option<&site::Model>, new: Option<&site::Model>) -> Changes {
    let domain = |row: Option<&site::Model>| row.map(|row| row.domain.clone());
    let (old_domain, new_domain) = (domain(old), domain(new));
    let origins = |row: Option<&site::Model>| row.map(|row| texts(&row.origins));
    let (old_origins, new_origins) = (origins(old), origins(new));
    Changes::new()
        .personal("name", &old.map(|row| &row.name), &new.map(|row| &row.name))
        .plain("character", &old.map(|row| row.character), &new.map(|row| row.character))
        .plain("domain", &old_domain.as_deref().map(Word), &new_domain.as_deref().map(Word))
        .plain("origins", &words(old_origins.as_ref()), &words(new_origins.as_ref()))
}

fn words(texts: Option<&Vec<String>>) -> Option<Vec<Word<'_>>> {
    texts.map(|texts| texts.iter().map(|text| Word(text)).collect())
}

async fn publish(
    app: &App,
    mut txn: Txn,
    actor: &Actor,
    (action, row, changes): (Action, &site::Model, Changes),
) -> Result<()> {
    let subject = Subject::of("site", row.id.0)
        .in_tenant(row.tenant_id)
        .with(json!({ "domain": row.domain, "version": row.version }))
        .changing(changes);
    audit::record(app, &txn, actor, action, subject).await?;
    events::announce(&mut txn, Event::SitesChanged);
    txn.commit().await
}
