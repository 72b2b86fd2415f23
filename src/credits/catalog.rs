//! What is on offer: plans in versions, packages, and which plan a tenant has.

use chrono::{DateTime, NaiveDate, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, ConnectionTrait, EntityTrait, IntoActiveModel,
    QueryFilter, QueryOrder, QuerySelect, TryInsertResult,
};
use serde_json::json;

use crate::actor::{Actor, Permission};
use crate::app::App;
use crate::audit::{self, Action, Changes, Subject};
use crate::credits::book::About;
use crate::credits::error::CreditError;
use crate::credits::service::account::{self, free_grant};
use crate::credits::service::due::{self, mirror_plan};
use crate::credits::service::grant::BALANCE_MAX;
use crate::credits::{ledger, period};
use crate::db;
use crate::entity::credit_grant::GrantKind;
use crate::entity::credit_transaction::TransactionType;
use crate::entity::plan::{CarryOver, PlanType};
use crate::entity::{credit_account, credit_package, plan, tenant, tenant_subscription};
use crate::error::{Error, Result, Violation};
use crate::events::{self, Event};
use crate::external::stripe;
use crate::ids::{AccountId, PackageId, PlanId, TenantId};
use crate::text::Word;

/// Packages on sale that one plan shows at most.
const PACKAGES_MAX: u64 = 100;

/// The plans in force.
pub struct Plans(Vec<plan::Model>);

impl Plans {
    /// Loads the newest version of each plan.
    pub async fn load(conn: &impl ConnectionTrait) -> Result<Self> {
        let sql = "SELECT * FROM ai_plans p WHERE version =
                   (SELECT MAX(version) FROM ai_plans WHERE plan_type = p.plan_type)
                   ORDER BY price_yen, plan_type";
        Ok(Self(db::all(conn, sql, vec![]).await?))
    }

    /// A plan in force.
    pub fn get(&self, plan_type: PlanType) -> Result<&plan::Model> {
        let plan = self.0.iter().find(|plan| plan.plan_type == plan_type);
        plan.ok_or_else(|| Error::broken(format!("plan {plan_type} has no version")))
    }

    /// All of them, cheapest first.
    pub fn into_vec(self) -> Vec<plan::Model> {
        self.0
    }
}

/// The newest version of a plan.
pub(crate) async fn plan_in_force(
    conn: &impl ConnectionTrait,
    plan_type: PlanType,
) -> Result<plan::Model> {
    plan::Entity::find()
        .filter(plan::Column::PlanType.eq(plan_type))
        .order_by_desc(plan::Column::Version)
        .one(conn)
        .await?
        .ok_or_else(|| Error::broken(format!("plan {plan_type} has no version")))
}

/// The plans in force, cheapest first.
pub async fn plans(app: &App, actor: &Actor) -> Result<Vec<plan::Model>> {
    actor.require(Permission::CreditsRead)?;
    Ok(Plans::load(app.db.primary()).await?.into_vec())
}

/// A plan's new version.
#[derive(Clone, Debug)]
pub struct PlanChange {
    /// Which plan.
    pub plan_type: PlanType,
    /// Yen per month.
    pub price_yen: i64,
    /// Free credits per month, from each account's next reset on.
    pub monthly_free_credits: i64,
    /// What becomes of unused free credits at a reset.
    pub carry_over: CarryOver,
    /// Credits kept at most, with CAP.
    pub carry_over_cap: Option<i64>,
    /// Stripe's price of the plan; none: it is made by what we say.
    pub stripe_price_id: Option<String>,
    /// The version that the change was made on.
    pub expected_version: Option<i64>,
}

/// Gives a plan a new version; the old one stays for the record.
pub async fn update_plan(app: &App, actor: &Actor, change: PlanChange) -> Result<plan::Model> {
    actor.require(Permission::Platform)?;
    check_plan(&change)?;
    let now = app.clock.db_now();
    let txn = app.db.begin().await?;
    // The no-op update is the lock: of two changes at once the second sees the first's version.
    let sql = "UPDATE ai_plans SET version = version WHERE plan_type = $1";
    db::execute(&*txn, sql, vec![change.plan_type.as_str().into()]).await?;
    let current = plan_in_force(&*txn, change.plan_type).await?;
    refuse_stale(change.expected_version, i64::from(current.version))?;
    let next = plan::Model {
        id: PlanId::new(),
        plan_type: change.plan_type,
        version: current.version + 1,
        price_yen: change.price_yen,
        monthly_free_credits: change.monthly_free_credits,
        carry_over: change.carry_over,
        carry_over_cap: change.carry_over_cap.unwrap_or(0),
        stripe_price_id: change.stripe_price_id,
        created_at: now,
    };
    let inserted = plan::Entity::insert(next.clone().into_active_model())
        .on_conflict_do_nothing()
        .exec_without_returning(&*txn)
        .await?;
    if !matches!(inserted, TryInsertResult::Inserted(1..)) {
        // Somebody else made this version a moment ago.
        return Err(CreditError::StaleVersion { current: i64::from(next.version) }.into());
    }
    let changes = Changes::new()
        .plain("priceYen", &current.price_yen, &next.price_yen)
        .plain("monthlyFreeCredits", &current.monthly_free_credits, &next.monthly_free_credits)
        .plain("carryOver", &current.carry_over, &next.carry_over)
        .plain("carryOverCap", &current.carry_over_cap, &next.carry_over_cap)
        .plain(
            "stripePriceId",
            &current.stripe_price_id.as_deref().map(Word),
            &next.stripe_price_id.as_deref().map(Word),
        );
    let data = json!({ "planType": next.plan_type, "version": next.version });
    let subject = Subject::of("plan", next.id.0).with(data).changing(changes);
    publish(app, txn, actor, (Action::PlanUpdated, subject)).await?;
    Ok(next)
}

fn check_plan(change: &PlanChange) -> Result<()> {
    let mut violations = Vec::new();
    range(&mut violations, "input.priceYen", change.price_yen, (0, 100_000_000));
    let free = change.monthly_free_credits;
    range(&mut violations, "input.monthlyFreeCredits", free, (0, 100_000_000));
    let cap = change.carry_over_cap;
    let needs_cap = change.carry_over == CarryOver::Cap;
    if needs_cap != cap.is_some() {
        violations.push(Violation::new(
            "input.carryOverCap",
            "CAPのときだけ指定してください。",
            "goes with CAP, and only with CAP",
        ));
    }
    range(&mut violations, "input.carryOverCap", cap.unwrap_or(0), (0, 100_000_000));
    if !change.stripe_price_id.as_deref().is_none_or(|id| stripe::is_id(id, "price_")) {
        violations.push(Violation::new(
            "input.stripePriceId",
            "Stripeの価格ID（price_…）を指定してください。",
            "is no id of a price of Stripe's",
        ));
    }
    if violations.is_empty() { Ok(()) } else { Err(Error::Invalid(violations)) }
}

/// Stripe's price of a plan, for platform admins.
pub fn stripe_price<'a>(actor: &Actor, row: &'a plan::Model) -> Option<&'a str> {
    row.stripe_price_id.as_deref().filter(|_| actor.may(Permission::Platform))
}

fn range(violations: &mut Vec<Violation>, field: &str, value: i64, (min, max): (i64, i64)) {
    if !(min..=max).contains(&value) {
        violations.push(Violation::new(
            field,
            format!("{min}〜{max}で指定してください。"),
            format!("must be {min} to {max}"),
        ));
    }
}

fn refuse_stale(expected: Option<i64>, current: i64) -> Result<()> {
    match expected {
        Some(expected) if expected != current => Err(CreditError::StaleVersion { current }.into()),
        Some(_) | None => Ok(()),
    }
}

/// Packages that a tenant can buy today, smallest first.
pub async fn packages(app: &App, actor: &Actor) -> Result<Vec<credit_package::Model>> {
    actor.require(Permission::CreditsRead)?;
    let account = account::of_tenant(app, actor.tenant()?).await?;
    let today = period::local_day(app.clock.db_now(), period::zone(&account.time_zone));
    on_sale(app.db.primary(), account.plan_type, today).await
}

/// Packages of a plan that are on sale on a day, smallest first.
pub(crate) async fn on_sale(
    conn: &impl ConnectionTrait,
    plan_type: PlanType,
    day: NaiveDate,
) -> Result<Vec<credit_package::Model>> {
    let until = credit_package::Column::ValidUntil;
    Ok(credit_package::Entity::find()
        .filter(credit_package::Column::PlanType.eq(plan_type))
        .filter(credit_package::Column::Active.eq(true))
        .filter(credit_package::Column::ValidFrom.lte(day))
        .filter(Condition::any().add(until.is_null()).add(until.gte(day)))
        .order_by_asc(credit_package::Column::CreditsAmount)
        .order_by_asc(credit_package::Column::Id)
        .limit(PACKAGES_MAX)
        .all(conn)
        .await?)
}

/// A package's content.
#[derive(Clone, Debug)]
pub struct PackageContent {
    /// For buyers on this plan.
    pub plan_type: PlanType,
    /// Credits that the buyer gets.
    pub credits: i64,
    /// What the buyer pays, tax included, in yen.
    pub price_yen: i64,
    /// Hundredths of a percent.
    pub discount_rate: i64,
    /// Hundredths of a percent: 1000 is 10 %.
    pub tax_rate: i64,
    /// Shown as a bulk package.
    pub is_bulk: bool,
    /// Shown as a promotion.
    pub is_promotional: bool,
    /// First day of sale.
    pub valid_from: NaiveDate,
    /// Last day of sale.
    pub valid_until: Option<NaiveDate>,
    /// The name that buyers see.
    pub display_name: String,
    /// More about it.
    pub description: Option<String>,
    /// A line that catches the eye.
    pub marketing_highlight: Option<String>,
}

/// Puts a package on sale.
pub async fn create_package(
    app: &App,
    actor: &Actor,
    content: PackageContent,
) -> Result<credit_package::Model> {
    actor.require(Permission::Platform)?;
    check_package(&content)?;
    let now = app.clock.db_now();
    let row = package_row(PackageId::new(), content, now);
    let txn = app.db.begin().await?;
    credit_package::Entity::insert(row.clone().into_active_model())
        .exec_without_returning(&*txn)
        .await?;
    let subject = Subject::of("credit_package", row.id.0).changing(package_changes(None, &row));
    publish(app, txn, actor, (Action::CreditPackageCreated, subject)).await?;
    Ok(row)
}

/// Changes a package for buyers to come; purchases keep the price that they were made at.
pub async fn update_package(
    app: &App,
    actor: &Actor,
    (id, expected_version): (PackageId, Option<i64>),
    change: impl FnOnce(&mut PackageContent) + Send,
) -> Result<credit_package::Model> {
    actor.require(Permission::Platform)?;
    let now = app.clock.db_now();
    let txn = app.db.begin().await?;
    let old = package_for_change(&txn, id, expected_version).await?;
    if !old.active {
        return Err(CreditError::PackageRetired.into());
    }
    let mut content = content_of(&old);
    change(&mut content);
    check_package(&content)?;
    let new = credit_package::Model {
        version: old.version + 1,
        created_at: old.created_at,
        ..package_row(id, content, now)
    };
    new.clone().into_active_model().reset_all().update(&*txn).await?;
    let subject = Subject::of("credit_package", id.0)
        .with(json!({ "version": new.version }))
        .changing(package_changes(Some(&old), &new));
    publish(app, txn, actor, (Action::CreditPackageUpdated, subject)).await?;
    Ok(new)
}

/// Takes a package off sale. Retiring twice changes nothing.
pub async fn retire_package(
    app: &App,
    actor: &Actor,
    (id, expected_version): (PackageId, Option<i64>),
) -> Result<credit_package::Model> {
    actor.require(Permission::Platform)?;
    let now = app.clock.db_now();
    let txn = app.db.begin().await?;
    let old = package_for_change(&txn, id, expected_version).await?;
    if !old.active {
        return Ok(old);
    }
    let version = old.version + 1;
    let new = credit_package::Model { active: false, version, updated_at: now, ..old.clone() };
    new.clone().into_active_model().reset_all().update(&*txn).await?;
    let subject = Subject::of("credit_package", id.0)
        .with(json!({ "version": new.version }))
        .changing(package_changes(Some(&old), &new));
    publish(app, txn, actor, (Action::CreditPackageRetired, subject)).await?;
    Ok(new)
}

async fn package_for_change(
    txn: &db::Txn,
    id: PackageId,
    expected_version: Option<i64>,
) -> Result<credit_package::Model> {
    // The no-op update is the row's lock on both databases.
    credit_package::Entity::update_many()
        .col_expr(credit_package::Column::Version, Expr::col(credit_package::Column::Version))
        .filter(credit_package::Column::Id.eq(id))
        .exec(&**txn)
        .await?;
    let row = credit_package::Entity::find_by_id(id).one(&**txn).await?;
    let row = row.ok_or(Error::NotFound("credit package"))?;
    refuse_stale(expected_version, i64::from(row.version))?;
    Ok(row)
}

fn package_row(
    id: PackageId,
    content: PackageContent,
    now: DateTime<Utc>,
) -> credit_package::Model {
    credit_package::Model {
        id,
        plan_type: content.plan_type,
        credits_amount: content.credits,
        price_yen: content.price_yen,
        discount_rate: content.discount_rate,
        tax_rate: content.tax_rate,
        is_bulk_package: content.is_bulk,
        is_promotional: content.is_promotional,
        active: true,
        valid_from: content.valid_from,
        valid_until: content.valid_until,
        display_name: content.display_name,
        description: content.description,
        marketing_highlight: content.marketing_highlight,
        version: 1,
        created_at: now,
        updated_at: now,
    }
}

fn content_of(row: &credit_package::Model) -> PackageContent {
    PackageContent {
        plan_type: row.plan_type,
        credits: row.credits_amount,
        price_yen: row.price_yen,
        discount_rate: row.discount_rate,
        tax_rate: row.tax_rate,
        is_bulk: row.is_bulk_package,
        is_promotional: row.is_promotional,
        valid_from: row.valid_from,
        valid_until: row.valid_until,
        display_name: row.display_name.clone(),
        description: row.description.clone(),
        marketing_highlight: row.marketing_highlight.clone(),
    }
}

fn check_package(content: &PackageContent) -> Result<()> {
    let mut violations = Vec::new();
    range(&mut violations, "input.credits", content.credits, (1, 100_000_000));
    range(&mut violations, "input.priceYen", content.price_yen, (1, 1_000_000_000));
    range(&mut violations, "input.discountRate", content.discount_rate, (0, 10_000));
    range(&mut violations, "input.taxRate", content.tax_rate, (0, 10_000));
    let name_length = content.display_name.chars().count();
    if content.display_name.trim().is_empty() || name_length > 100 {
        violations.push(Violation::new(
            "input.displayName",
            "1〜100文字で指定してください。",
            "must have 1 to 100 characters",
        ));
    }
    for (field, text) in [
        ("input.description", &content.description),
        ("input.marketingHighlight", &content.marketing_highlight),
    ] {
        if text.as_ref().is_some_and(|text| text.chars().count() > 2_000) {
            violations.push(Violation::new(
                field,
                "2,000文字以内で指定してください。",
                "must have at most 2 000 characters",
            ));
        }
    }
    if content.valid_until.is_some_and(|until| until < content.valid_from) {
        violations.push(Violation::new(
            "input.validUntil",
            "開始日以降の日付を指定してください。",
            "must not be before validFrom",
        ));
    }
    if violations.is_empty() { Ok(()) } else { Err(Error::Invalid(violations)) }
}

fn package_changes(old: Option<&credit_package::Model>, new: &credit_package::Model) -> Changes {
    type Field = fn(&credit_package::Model) -> i64;
    let numbers: [(&'static str, Field); 4] = [
        ("credits", |row| row.credits_amount),
        ("priceYen", |row| row.price_yen),
        ("discountRate", |row| row.discount_rate),
        ("taxRate", |row| row.tax_rate),
    ];
    let others = Changes::new()
        .plain("planType", &old.map(|row| row.plan_type), &Some(new.plan_type))
        .plain("isBulk", &old.map(|row| row.is_bulk_package), &Some(new.is_bulk_package))
        .plain("isPromotional", &old.map(|row| row.is_promotional), &Some(new.is_promotional))
        .plain("active", &old.map(|row| row.active), &Some(new.active))
        .plain("validFrom", &old.map(|row| row.valid_from), &Some(new.valid_from))
        .plain("validUntil", &old.and_then(|row| row.valid_until), &new.valid_until)
        .personal("displayName", &old.map(|row| &row.display_name), &Some(&new.display_name))
        .personal("description", &old.map(|row| &row.description), &Some(&new.description))
        .personal(
            "marketingHighlight",
            &old.map(|row| &row.marketing_highlight),
            &Some(&new.marketing_highlight),
        );
    numbers.into_iter().fold(others, |changes, (name, field)| {
        changes.plain(name, &old.map(field), &Some(field(new)))
    })
}

/// Audits a change of the catalogue, tells everyone, commits.
async fn publish(
    app: &App,
    mut txn: db::Txn,
    actor: &Actor,
    (action, subject): (Action, Subject),
) -> Result<()> {
    audit::record(app, &txn, actor, action, subject).await?;
    events::announce(&mut txn, Event::CatalogChanged);
    txn.commit().await
}

/// A tenant's plan to set.
#[derive(Clone, Copy, Debug)]
pub struct TenantPlan {
    /// The tenant.
    pub tenant: TenantId,
    /// Its plan.
    pub plan_type: PlanType,
    /// Months that start later bring no free credits; none: no end.
    pub entitled_until: Option<DateTime<Utc>>,
}

/// Sets a tenant's plan. A larger plan takes effect now and tops this month's free credits up to
/// its own; a smaller one takes effect at the next reset. Refused while the tenant pays for its
/// plan by the month: the plan is what is paid for.
pub async fn set_tenant_plan(
    app: &App,
    actor: &Actor,
    wish: TenantPlan,
) -> Result<credit_account::Model> {
    actor.require(Permission::Platform)?;
    let account = account::of_tenant(app, wish.tenant).await?;
    due::apply_due(app, account.id).await?;
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await?;
    let terms = Terms { plan_type: wish.plan_type, entitled_until: wish.entitled_until };
    let set = set_terms(&mut txn, account.id, terms, now).await?;
    let (before, saved) = set.ok_or(CreditError::AccountClosed)?;
    // Read under the account's lock, which a subscription takes before it changes the plan.
    let sql = "SELECT * FROM tenant_subscriptions WHERE tenant_id = $1 AND ended_at IS NULL
               AND activated_at IS NOT NULL";
    let paid: Option<tenant_subscription::Model> =
        db::one(&*txn, sql, vec![wish.tenant.into()]).await?;
    if paid.is_some() {
        return Err(CreditError::Subscribed.into());
    }
    let changes = Changes::new().plain("planType", &before.plan_type, &wish.plan_type).plain(
        "entitledUntil",
        &before.entitled_until,
        &wish.entitled_until,
    );
    let subject = Subject::of("tenant", wish.tenant.0).in_tenant(wish.tenant).changing(changes);
    audit::record(app, &txn, actor, Action::TenantPlanSet, subject).await?;
    txn.commit().await?;
    Ok(saved)
}

/// What a tenant is on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Terms {
    /// Its plan.
    pub(crate) plan_type: PlanType,
    /// Months that start later bring no free credits; none: no end.
    pub(crate) entitled_until: Option<DateTime<Utc>>,
}

/// Sets an account's plan and entitlement: the one place where both change. A larger plan counts
/// now, a smaller one from the next reset; this month's free credits are topped up to the plan's
/// while it is entitled. The account before and after; none when it is closed.
pub(crate) async fn set_terms(
    txn: &mut db::Txn,
    account: AccountId,
    terms: Terms,
    now: DateTime<Utc>,
) -> Result<Option<(credit_account::Model, credit_account::Model)>> {
    let Some(mut open) = ledger::open(txn, account).await? else { return Ok(None) };
    // A month that began since would be topped up now and granted again by its reset.
    if open.account.next_due_at <= now {
        return Err(Error::Unavailable("credit account"));
    }
    let before = open.account.clone();
    open.account.entitled_until = terms.entitled_until;
    open.account.next_plan_type = None;
    let mut free = before.monthly_free_credits;
    if terms.plan_type != before.plan_type {
        let plan = plan_in_force(&**txn, terms.plan_type).await?;
        if terms.plan_type > before.plan_type {
            open.account.plan_type = terms.plan_type;
            open.account.monthly_free_credits = plan.monthly_free_credits;
            free = plan.monthly_free_credits;
        } else {
            open.account.next_plan_type = Some(terms.plan_type);
            // Whoever begins anew with less has no claim to what the larger plan had.
            free = free.min(plan.monthly_free_credits);
        }
    }
    let is_entitled = terms.entitled_until.is_none_or(|until| now <= until);
    if is_entitled {
        top_up(txn, &mut open, free, now).await?;
    }
    mirror_plan(txn, &open.account, now).await?;
    let saved = ledger::save(txn, vec![open], now).await?;
    activate(txn, before.tenant_id, now).await?;
    let saved = saved.into_iter().next();
    Ok(Some((before, saved.ok_or_else(|| Error::broken("an account was not saved"))?)))
}

/// Adds what this period's free credits lack of so many, if anything.
async fn top_up(
    txn: &db::Txn,
    open: &mut ledger::OpenAccount,
    free: i64,
    now: DateTime<Utc>,
) -> Result<()> {
    let this_period = period::period_of(now, period::zone(&open.account.time_zone));
    let granted: Vec<crate::entity::credit_grant::Model> =
        crate::entity::credit_grant::Entity::of_account(open.account.id)
            .filter(crate::entity::credit_grant::Column::Kind.eq(GrantKind::Free))
            .filter(crate::entity::credit_grant::Column::Period.eq(this_period))
            .all(&**txn)
            .await?;
    let granted: i64 = granted.iter().map(|grant| grant.granted).sum();
    let lacking = free - granted;
    let lacking = lacking.min(BALANCE_MAX - open.book.current);
    if lacking > 0 {
        let grant = free_grant(open.account.id, lacking, this_period, now);
        open.book.add_grant(grant, TransactionType::MonthlyReset, About::default());
    }
    Ok(())
}

async fn activate(txn: &db::Txn, tenant: TenantId, now: DateTime<Utc>) -> Result<()> {
    tenant::Entity::update_many()
        .col_expr(tenant::Column::CrmActivatedAt, Expr::value(now))
        .filter(tenant::Column::Id.eq(tenant))
        .filter(tenant::Column::CrmActivatedAt.is_null())
        .exec(&**txn)
        .await?;
    Ok(())
}

/// Takes the end off a tenant's entitlement to free credits.
pub(crate) async fn entitle_for_ever(app: &App, tenant: TenantId) -> Result<()> {
    let txn = app.db.begin().await?;
    let sql = "UPDATE ai_credit_accounts SET entitled_until = NULL WHERE tenant_id = $1";
    db::execute(&*txn, sql, vec![tenant.into()]).await?;
    txn.commit().await
}
