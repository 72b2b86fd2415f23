//! Tenants: made, changed and closed.

use chrono::{DateTime, Utc};
use sea_orm::{ActiveModelTrait, EntityTrait, IntoActiveModel, Select, TryInsertResult};
use serde_json::json;
use uuid::Uuid;

use crate::actor::{Actor, Permission, Role};
use crate::app::App;
use crate::audit::{self, Action, Changes, Subject};
use crate::crypto::{Place, Sealed};
use crate::db::{self, Txn};
use crate::entity::plan::PlanType;
use crate::entity::tenant::{self, MembershipPolicy};
use crate::error::{Error, Result};
use crate::events::{self, Event};
use crate::identity::error::IdentityError;
use crate::identity::rules::Refusals;
use crate::identity::service::invitation::{self, Invite, Invited};
use crate::identity::service::people::{NewTenant, tenant_row};
use crate::ids::TenantId;
use crate::queue::{self, NewItem};
use crate::text::Word;

/// Names the work that ends what a closed tenant pays by the month.
pub(crate) const END_SUBSCRIPTION: &str = "end-subscription";

/// Locks a tenant that is there; of two who change its people at once, the second sees the first.
pub(crate) async fn lock(txn: &Txn, id: TenantId) -> Result<tenant::Model> {
    let sql = "UPDATE tenants SET version = version WHERE id = $1 AND deleted_at IS NULL
               RETURNING *";
    let row: Option<tenant::Model> = db::one(&**txn, sql, vec![id.into()]).await?;
    Ok(row.ok_or(IdentityError::TenantClosed)?)
}

/// Refused when somebody saw another version.
pub(crate) fn refuse_stale(expected: Option<i64>, current: i64) -> Result<()> {
    match expected {
        Some(expected) if expected != current => {
            Err(IdentityError::StaleVersion { current }.into())
        }
        Some(_) | None => Ok(()),
    }
}

/// Refused when the actor acts elsewhere: what belongs to a tenant is read within it.
pub fn only_within(actor: &Actor, id: TenantId) -> Result<()> {
    if actor.tenant_id == Some(id) { Ok(()) } else { Err(Error::Forbidden) }
}

/// All tenants, closed ones too, to be filtered and paged.
pub fn all(actor: &Actor) -> Result<Select<tenant::Entity>> {
    actor.require(Permission::Platform)?;
    Ok(tenant::Entity::find())
}

/// What only an ADMIN of the tenant reads, opened; none for others.
pub fn billing_email(app: &App, actor: &Actor, row: &tenant::Model) -> Result<Option<String>> {
    open(app, actor, row, ("billing_email", row.billing_email.as_ref()))
}

/// Where bills go, for what we send there.
pub(crate) fn billing_address(app: &App, row: &tenant::Model) -> Result<Option<String>> {
    let sealed = row.billing_email.as_ref();
    sealed.map(|sealed| app.crypto.open(place(row.id, "billing_email"), sealed)).transpose()
}

/// The tenant at Stripe, for platform admins.
pub fn stripe_customer<'a>(actor: &Actor, row: &'a tenant::Model) -> Option<&'a str> {
    row.stripe_customer_id.as_deref().filter(|_| actor.may(Permission::Platform))
}

/// The web hook of Slack, all but its end hidden; none for others than ADMINs.
pub fn slack_hook(app: &App, actor: &Actor, row: &tenant::Model) -> Result<Option<String>> {
    let hook = open(app, actor, row, ("slack_webhook_url", row.slack_webhook_url.as_ref()))?;
    Ok(hook.map(|hook| crate::mask::secret(&hook)))
}

/// The channel of Slack; none for others than ADMINs.
pub fn slack_channel(app: &App, actor: &Actor, row: &tenant::Model) -> Result<Option<String>> {
    open(app, actor, row, ("slack_channel", row.slack_channel.as_ref()))
}

fn open(
    app: &App,
    actor: &Actor,
    row: &tenant::Model,
    (column, sealed): (&'static str, Option<&Sealed>),
) -> Result<Option<String>> {
    let may_read = actor.is_admin() && actor.tenant_id == Some(row.id);
    let sealed = sealed.filter(|_| may_read);
    sealed.map(|sealed| app.crypto.open(place(row.id, column), sealed)).transpose()
}

fn place(tenant: TenantId, column: &'static str) -> Place {
    Place { table: "tenants", column, row: tenant.0 }
}

/// What a tenant changes of itself. None: it stays; `Some(None)`: it goes.
#[derive(Clone, Debug, Default)]
pub struct TenantChange {
    /// The name that people see.
    pub name: Option<String>,
    /// Where bills go.
    pub billing_email: Option<Option<String>>,
    /// The IANA name of its zone.
    pub time_zone: Option<String>,
    /// The language of what we send.
    pub locale: Option<String>,
    /// The web hook of Slack.
    pub slack_webhook_url: Option<Option<String>>,
    /// The channel of Slack.
    pub slack_channel: Option<Option<String>>,
    /// How somebody becomes a member.
    pub membership_policy: Option<MembershipPolicy>,
    /// The version that the change was made on.
    pub expected_version: Option<i64>,
}

/// Changes the actor's tenant.
pub async fn update(app: &App, actor: &Actor, change: TenantChange) -> Result<tenant::Model> {
    actor.require(Permission::TenantManage)?;
    let id = actor.tenant()?;
    check(&change)?;
    let now = app.clock.db_now();
    let txn = app.db.begin().await?;
    let old = lock(&txn, id).await?;
    refuse_stale(change.expected_version, old.version)?;
    if change.time_zone.as_ref().is_some_and(|zone| *zone != old.time_zone) {
        refuse_zone_in_use(&txn, id).await?;
    }
    let new = changed(app, old.clone(), change, now)?;
    new.clone().into_active_model().reset_all().update(&*txn).await?;
    let data = json!({ "version": new.version });
    let subject = subject(id).with(data).changing(changes(&old, &new));
    audit::record(app, &txn, actor, Action::TenantUpdated, subject).await?;
    txn.commit().await?;
    Ok(new)
}

fn check(change: &TenantChange) -> Result<()> {
    let mut refusals = Refusals::default();
    if let Some(name) = &change.name {
        refusals.name("input.name", name);
    }
    if let Some(Some(email)) = &change.billing_email {
        refusals.email("input.billingEmail", email);
    }
    if let Some(zone) = &change.time_zone {
        refusals.time_zone("input.timeZone", zone);
    }
    if let Some(locale) = &change.locale {
        refusals.locale("input.locale", locale);
    }
    if let Some(Some(hook)) = &change.slack_webhook_url {
        refusals.slack_hook("input.slackWebhookUrl", hook);
    }
    if let Some(Some(channel)) = &change.slack_channel {
        refusals.name("input.slackChannel", channel);
    }
    refusals.finish()
}

/// The credit account counts its months in the tenant's zone: with another one a month could have
/// two resets, or none. The lock of the tenant's row keeps an account from being opened meanwhile.
async fn refuse_zone_in_use(txn: &Txn, id: TenantId) -> Result<()> {
    let account = crate::entity::credit_account::Entity::find_for(id).one(&**txn).await?;
    if account.is_some() { Err(IdentityError::ZoneInUse.into()) } else { Ok(()) }
}

/// Names and addresses may be personal: the record says that they changed.
fn changes(old: &tenant::Model, new: &tenant::Model) -> Changes {
    Changes::new()
        .personal("name", &old.name, &new.name)
        .personal("billingEmail", &old.billing_email, &new.billing_email)
        .plain("timeZone", &Word(&old.time_zone), &Word(&new.time_zone))
        .plain("locale", &Word(&old.locale), &Word(&new.locale))
        .personal("slackWebhookUrl", &old.slack_webhook_url, &new.slack_webhook_url)
        .personal("slackChannel", &old.slack_channel, &new.slack_channel)
        .plain("membershipPolicy", &old.membership_policy, &new.membership_policy)
}

fn changed(
    app: &App,
    old: tenant::Model,
    change: TenantChange,
    now: DateTime<Utc>,
) -> Result<tenant::Model> {
    let id = old.id;
    let seal = |column: &'static str, old: Option<Sealed>, new: Option<Option<String>>| match new {
        None => Ok::<_, Error>(old),
        Some(None) => Ok(None),
        Some(Some(text)) => Ok(Some(app.crypto.seal(place(id, column), text.trim())?)),
    };
    Ok(tenant::Model {
        name: change.name.map_or(old.name, |name| name.trim().to_owned()),
        billing_email: seal("billing_email", old.billing_email, change.billing_email)?,
        time_zone: change.time_zone.unwrap_or(old.time_zone),
        locale: change.locale.unwrap_or(old.locale),
        slack_webhook_url: seal(
            "slack_webhook_url",
            old.slack_webhook_url,
            change.slack_webhook_url,
        )?,
        slack_channel: seal("slack_channel", old.slack_channel, change.slack_channel)?,
        membership_policy: change.membership_policy.unwrap_or(old.membership_policy),
        version: old.version + 1,
        updated_at: now,
        id,
        slug: old.slug,
        crm_plan_type: old.crm_plan_type,
        crm_activated_at: old.crm_activated_at,
        stripe_customer_id: old.stripe_customer_id,
        stripe_customers_lost: old.stripe_customers_lost,
        anomaly_mode: old.anomaly_mode,
        anomaly_block_minutes: old.anomaly_block_minutes,
        created_at: old.created_at,
        deleted_at: old.deleted_at,
    })
}

/// A tenant to make for a customer.
#[derive(Clone, Debug)]
pub struct TenantOrder {
    /// The name that people see.
    pub name: String,
    /// The name in addresses and commands, unique for ever.
    pub slug: String,
    /// Its plan.
    pub plan: PlanType,
    /// The IANA name of its zone.
    pub time_zone: String,
    /// The language of what we send.
    pub locale: String,
    /// How somebody becomes a member.
    pub membership_policy: MembershipPolicy,
    /// Who is invited as its first ADMIN.
    pub admin_email: Option<String>,
}

/// Makes a tenant, and invites its first ADMIN.
pub async fn create(
    app: &App,
    actor: &Actor,
    order: TenantOrder,
) -> Result<(tenant::Model, Option<Invited>)> {
    actor.require(Permission::Platform)?;
    check_order(&order)?;
    let now = app.clock.db_now();
    let new = NewTenant {
        name: order.name.trim(),
        slug: &order.slug,
        plan: order.plan,
        time_zone: &order.time_zone,
    };
    let row = tenant::Model {
        locale: order.locale.clone(),
        membership_policy: order.membership_policy,
        ..tenant_row(new, now)
    };
    let mut txn = app.db.begin().await?;
    let inserted = tenant::Entity::insert(row.clone().into_active_model())
        .on_conflict_do_nothing_on([tenant::Column::Slug])
        .exec_without_returning(&*txn)
        .await?;
    if !matches!(inserted, TryInsertResult::Inserted(1..)) {
        return Err(IdentityError::Taken { field: "input.slug" }.into());
    }
    let changes = Changes::new().plain("planType", &None, &Some(row.crm_plan_type)).plain(
        "membershipPolicy",
        &None,
        &Some(row.membership_policy),
    );
    let subject = subject(row.id).with(json!({ "slug": row.slug })).changing(changes);
    audit::record(app, &txn, actor, Action::TenantCreated, subject).await?;
    let invited = match order.admin_email {
        Some(email) => {
            let invite = Invite { email, role: Role::Admin };
            Some(invitation::write(app, &mut txn, (actor, &row), invite, now).await?)
        }
        None => None,
    };
    txn.commit().await?;
    Ok((row, invited))
}

fn check_order(order: &TenantOrder) -> Result<()> {
    let mut refusals = Refusals::default();
    refusals.name("input.name", &order.name);
    refusals.slug("input.slug", &order.slug);
    refusals.time_zone("input.timeZone", &order.time_zone);
    refusals.locale("input.locale", &order.locale);
    if let Some(email) = &order.admin_email {
        refusals.email("input.adminEmail", email);
    }
    refusals.finish()
}

/// Closes a tenant for ever: nothing of it runs, resets or warns any more, its sessions and keys
/// end, its sites and open invitations go. Running executions settle; the ledger stays. `slug` is
/// typed as a confirmation. Closing twice changes nothing.
pub async fn close(
    app: &App,
    actor: &Actor,
    (id, slug): (TenantId, String),
) -> Result<tenant::Model> {
    if !actor.may(Permission::Platform) {
        actor.require(Permission::TenantManage)?;
    }
    let may_see = actor.is_platform_admin || actor.tenant_id == Some(id);
    let asked = if may_see { id } else { TenantId(Uuid::nil()) };
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await?;
    let row = tenant::Entity::find_by_id(asked).one(&*txn).await?;
    let row = row.ok_or(Error::NotFound("tenant"))?;
    if row.slug != slug {
        let ja = "確認のため、テナントのスラッグをそのまま入力してください。";
        return Err(Error::invalid("input.slug", ja, "must be the tenant's slug, typed out"));
    }
    if row.deleted_at.is_some() {
        return Ok(row);
    }
    // First the account, then its tenant, as a reset locks them; once more for an account that was
    // opened before the tenant was locked.
    close_account(&txn, id, now).await?;
    let sql = "UPDATE tenants SET deleted_at = COALESCE(deleted_at, $2), version = version + 1,
               updated_at = $2 WHERE id = $1 RETURNING *";
    let closed: Option<tenant::Model> = db::one(&*txn, sql, vec![id.into(), now.into()]).await?;
    let closed = closed.ok_or(Error::NotFound("tenant"))?;
    close_account(&txn, id, now).await?;
    end_access(&mut txn, id, now).await?;
    end_subscription(app, &mut txn, id, now).await?;
    let changes = Changes::new().plain("deletedAt", &None, &closed.deleted_at);
    let subject = subject(id).with(json!({ "slug": row.slug })).changing(changes);
    audit::record(app, &txn, actor, Action::TenantClosed, subject).await?;
    txn.commit().await?;
    Ok(closed)
}

async fn close_account(txn: &Txn, id: TenantId, now: DateTime<Utc>) -> Result<()> {
    let sql = "UPDATE ai_credit_accounts SET deleted_at = $2
               WHERE tenant_id = $1 AND deleted_at IS NULL";
    db::execute(&**txn, sql, vec![id.into(), now.into()]).await?;
    Ok(())
}

/// Ends what lets people and servers act in a tenant.
async fn end_access(txn: &mut Txn, id: TenantId, now: DateTime<Utc>) -> Result<()> {
    let ends = [
        "UPDATE sessions SET ended_at = $2, end_reason = 'REVOKED'
         WHERE tenant_id = $1 AND ended_at IS NULL RETURNING id",
        "UPDATE api_keys SET revoked_at = $2
         WHERE tenant_id = $1 AND revoked_at IS NULL RETURNING id",
    ];
    for sql in ends {
        announce_ended(txn, sql, vec![id.into(), now.into()]).await?;
    }
    let sql = "UPDATE invitations SET revoked_at = $2
               WHERE tenant_id = $1 AND accepted_at IS NULL AND revoked_at IS NULL";
    db::execute(&**txn, sql, vec![id.into(), now.into()]).await?;
    db::execute(&**txn, "DELETE FROM sites WHERE tenant_id = $1", vec![id.into()]).await?;
    events::announce(txn, Event::SitesChanged);
    Ok(())
}

/// Whoever takes money by the month is told to end it, however long that takes.
async fn end_subscription(
    app: &App,
    txn: &mut Txn,
    id: TenantId,
    now: DateTime<Utc>,
) -> Result<()> {
    let item = NewItem {
        kind: END_SUBSCRIPTION,
        payload: &json!({ "tenant": id.to_string() }),
        dedupe_key: Some(format!("{END_SUBSCRIPTION}:{id}")),
        run_at: now,
    };
    queue::push(txn, item, &app.crypto).await?;
    Ok(())
}

/// Runs a statement that ends sessions or keys and returns their ids; their sockets end with the
/// commit.
pub(crate) async fn announce_ended(
    txn: &mut Txn,
    sql: &str,
    values: Vec<sea_orm::Value>,
) -> Result<()> {
    #[derive(sea_orm::FromQueryResult)]
    struct Ended {
        id: Uuid,
    }
    let ended: Vec<Ended> = db::all(&**txn, sql, values).await?;
    for row in ended {
        events::announce(txn, Event::AccessEnded(row.id));
    }
    Ok(())
}

fn subject(id: TenantId) -> Subject {
    Subject::of("tenant", id.0).in_tenant(id)
}
