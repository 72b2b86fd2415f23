//! What is on offer: plans in versions, packages, and which plan a tenant has.

mod packages;
mod terms;

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
    TryInsertResult,
};
use serde_json::json;

use crate::actor::{Actor, Permission};
use crate::app::App;
use crate::audit::{self, Action, Changes, Subject};
use crate::credits::error::CreditError;
use crate::db;
use crate::entity::plan::{self, CarryOver, PlanType};
use crate::error::{Error, Result, Violation};
use crate::events::{self, Event};
use crate::external::stripe;
use crate::ids::PlanId;
use crate::text::Word;

pub(crate) use packages::on_sale;
pub use packages::{PackageContent, create_package, packages, retire_package, update_package};
pub use terms::{TenantPlan, set_tenant_plan};
pub(crate) use terms::{Terms, entitle_for_ever, set_terms};

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
