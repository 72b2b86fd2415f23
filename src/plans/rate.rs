//! What a plan costs at Stripe, and which plan a price of Stripe's is.
//!
//! A plan without a price of Stripe's is sold as a product whose id we choose, at the price that
//! each request tells: nothing has to be made there by hand.

use sea_orm::ConnectionTrait;

use crate::app::App;
use crate::db;
use crate::entity::plan::{self, PlanType};
use crate::error::Result;
use crate::external::stripe::{Price, Rate, StripeFailure};

/// The consumption tax in a plan's price, in hundredths of a percent.
pub const TAX_RATE: i64 = 1_000;
const WHOLE: i64 = 10_000;
const PRODUCT: &str = "musubi_plan_";

/// What a version of a plan costs.
pub(crate) fn of(plan: &plan::Model) -> Rate {
    told(plan.plan_type, plan.price_yen, plan.stripe_price_id.clone())
}

/// A plan at this price.
pub(crate) fn told(plan: PlanType, amount: i64, price: Option<String>) -> Rate {
    Rate { price, product: product(plan), amount }
}

fn product(plan: PlanType) -> String {
    format!("{PRODUCT}{}", plan.as_str().to_lowercase())
}

/// Sees to it that Stripe can sell the plan.
pub(crate) async fn keep(
    app: &App,
    plan: PlanType,
    rate: &Rate,
) -> std::result::Result<(), StripeFailure> {
    if rate.price.is_some() {
        return Ok(());
    }
    app.payments.keep_product(&rate.product, &format!("Musubi {plan}")).await
}

/// The plan that a price is: one of ours at a price that it has or had, in yen, by the month.
pub(crate) async fn plan_of(
    conn: &impl ConnectionTrait,
    price: &Price,
) -> Result<Option<PlanType>> {
    let Some(amount) = price.amount.filter(|_| price.is_monthly && price.currency == "JPY") else {
        return Ok(None);
    };
    let ours = PlanType::ALL.iter().find(|plan| product(**plan) == price.product);
    let sql = "SELECT * FROM ai_plans WHERE price_yen = $1
               AND (stripe_price_id = $2 OR plan_type = $3) ORDER BY version DESC LIMIT 1";
    let named = ours.map_or("", |plan| plan.as_str());
    let values = vec![amount.into(), price.id.clone().into(), named.into()];
    let found: Option<plan::Model> = db::one(conn, sql, values).await?;
    Ok(found.map(|plan| plan.plan_type))
}

/// The tax in a price, rounded down.
pub(crate) fn tax_in(total: i64) -> i64 {
    let tax = i128::from(total.max(0)) * i128::from(TAX_RATE) / i128::from(WHOLE + TAX_RATE);
    i64::try_from(tax).unwrap_or(0)
}
