//! Packages of credits: what is on sale, and its changes.

use chrono::{DateTime, NaiveDate, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, ConnectionTrait, EntityTrait, IntoActiveModel,
    QueryFilter, QueryOrder, QuerySelect,
};
use serde_json::json;

use crate::actor::{Actor, Permission};
use crate::app::App;
use crate::audit::{Action, Changes, Subject};
use crate::credits::catalog::{publish, range, refuse_stale};
use crate::credits::error::CreditError;
use crate::credits::period;
use crate::credits::service::account;
use crate::db;
use crate::entity::credit_package;
use crate::entity::plan::PlanType;
use crate::error::{Error, Result, Violation};
use crate::ids::PackageId;

/// Packages on sale that one plan shows at most.
const PACKAGES_MAX: u64 = 100;

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
