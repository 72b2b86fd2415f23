//! Use and spending over a range of days, with advice.

use std::collections::BTreeMap;

use chrono::{Datelike, NaiveDate};
use rust_decimal::Decimal;

use crate::actor::{Actor, Permission};
use crate::app::App;
use crate::credits::catalog::{self, Plans};
use crate::credits::period;
use crate::credits::reports::efficiency::{self, MonthUse, Score};
use crate::credits::reports::usage::{self, DayUse};
use crate::credits::service::account;
use crate::entity::function_price::AiFunctionType;
use crate::entity::plan::PlanType;
use crate::entity::{credit_account, credit_package, plan, usage_daily};
use crate::error::{Error, Result};
use crate::limits;
use crate::limits::table::Limit;
use crate::limits::who::Who;
use crate::money::ratio;

/// Everything that is told about a range of days.
#[derive(Clone, Debug)]
pub struct Analytics {
    /// First day.
    pub from: NaiveDate,
    /// Last day, included.
    pub to: NaiveDate,
    /// Days in the range.
    pub days: i64,
    /// Credits charged.
    pub credits: i64,
    /// Per day, two decimals.
    pub average_daily: Decimal,
    /// The day with the most credits; the earliest among equals; none without use.
    pub peak: Option<DayUse>,
    /// The efficiency score over the range; none without runs.
    pub efficiency: Option<Score>,
    /// By function, most credits first.
    pub functions: Vec<FunctionAnalytics>,
    /// What it cost.
    pub spending: Spending,
}

/// A function's figures.
#[derive(Clone, Debug)]
pub struct FunctionAnalytics {
    /// The function.
    pub function: AiFunctionType,
    /// Credits charged.
    pub credits: i64,
    /// Executions that ended.
    pub runs: i64,
    /// Mean wall time in milliseconds; none without runs.
    pub mean_time_ms: Option<i64>,
    /// Percent of runs that succeeded, two decimals.
    pub success_rate: Option<Decimal>,
    /// Successful runs per yen, four decimals; none when it cost nothing.
    pub runs_per_yen: Option<Decimal>,
}

/// What the credits cost, in yen.
#[derive(Clone, Debug)]
pub struct Spending {
    /// What the charged credits had cost.
    pub cost: i64,
    /// Free credits used × price per credit of the cheapest package on sale; none without packages.
    pub saved_by_plan: Option<i64>,
    /// The plan's price + paid credits at this range's pace over this month's days, at the cheapest
    /// package's price.
    pub projected_month: i64,
    /// A plan that would cost less.
    pub suggestion: Option<Suggestion>,
}

/// A plan that would cost less, with its arithmetic.
#[derive(Clone, Debug)]
pub struct Suggestion {
    /// The plan.
    pub plan_type: PlanType,
    /// Yen per month less.
    pub savings: i64,
    /// The comparison for every plan, cheapest first.
    pub options: Vec<PlanCost>,
}

/// What a month costs on a plan: price + (credits − free credits) × price per credit.
#[derive(Clone, Debug)]
pub struct PlanCost {
    /// The plan.
    pub plan_type: PlanType,
    /// Its price in yen.
    pub price: i64,
    /// Its free credits.
    pub free_credits: i64,
    /// Credits of a month at this range's pace.
    pub month_credits: i64,
    /// Of them, to be bought.
    pub paid_credits: i64,
    /// What those cost in yen.
    pub paid_cost: i64,
    /// Price + paid cost.
    pub total: i64,
}

/// Computes the figures of a range of at most 366 days.
pub async fn analyse(
    app: &App,
    actor: &Actor,
    (from, to): (NaiveDate, NaiveDate),
) -> Result<Analytics> {
    actor.require(Permission::AnalyticsRead)?;
    limits::service::take(app, &Who::actor(actor), Limit::Analytics, 1).await?;
    let days = (to - from).num_days() + 1;
    if !(1..=usage::DAYS_MAX).contains(&days) {
        return Err(Error::invalid(
            "to",
            "fromから366日以内の日付を指定してください。",
            "must be within 366 days from `from`",
        ));
    }
    let account = account::of_tenant(app, actor.tenant()?).await?;
    let rows = usage::rows(app, &account, (from, to)).await?;
    let today = period::local_day(app.clock.db_now(), period::zone(&account.time_zone));
    let market = Market::load(app, &account, today).await?;
    let total = MonthUse::sum(rows.iter());
    let by_day = usage::by_day(&rows, (from, to));
    let peak = by_day
        .into_iter()
        .filter(|day| day.credits > 0)
        .max_by_key(|day| (day.credits, std::cmp::Reverse(day.day)));
    let free = free_over(&market, account.plan_type, (from, to));
    Ok(Analytics {
        from,
        to,
        days,
        credits: total.credits,
        average_daily: ratio(total.credits, days, 2).unwrap_or_default(),
        peak,
        efficiency: efficiency::score(&total, free),
        functions: functions(&rows),
        spending: market.spending(&account, &rows, (total.credits, days), today),
    })
}

/// Free credits of the plan over a range: whole months that it touches, by their share of days.
fn free_over(market: &Market, plan: PlanType, (from, to): (NaiveDate, NaiveDate)) -> i64 {
    let monthly = market.plan(plan).map_or(0, |plan| plan.monthly_free_credits);
    let mut total = Decimal::ZERO;
    for day in from.iter_days().take_while(|day| *day <= to) {
        total += Decimal::from(monthly) / Decimal::from(days_in_month(day));
    }
    total.round().try_into().unwrap_or(monthly)
}

fn days_in_month(day: NaiveDate) -> i64 {
    let first = period::first_of_month(day);
    (period::next_period(first) - first).num_days()
}

fn functions(rows: &[usage_daily::Model]) -> Vec<FunctionAnalytics> {
    let mut sums: BTreeMap<AiFunctionType, usage_daily::Model> = BTreeMap::new();
    for row in rows {
        match sums.get_mut(&row.function_type) {
            None => {
                sums.insert(row.function_type, row.clone());
            }
            Some(sum) => {
                sum.runs += row.runs;
                sum.failures += row.failures;
                sum.time_ms += row.time_ms;
                sum.credits += row.credits;
                sum.cost_yen += row.cost_yen;
            }
        }
    }
    let mut functions: Vec<FunctionAnalytics> = sums
        .into_values()
        .map(|sum| {
            let successes = sum.runs - sum.failures;
            FunctionAnalytics {
                function: sum.function_type,
                credits: sum.credits,
                runs: sum.runs,
                mean_time_ms: sum.time_ms.checked_div(sum.runs),
                success_rate: ratio(successes * 100, sum.runs, 2),
                runs_per_yen: ratio(successes, sum.cost_yen, 4),
            }
        })
        .collect();
    functions.sort_by_key(|function| std::cmp::Reverse(function.credits));
    functions
}

/// Plans and packages that can be had today.
struct Market {
    plans: Vec<plan::Model>,
    cheapest: Option<credit_package::Model>,
}

impl Market {
    async fn load(app: &App, account: &credit_account::Model, today: NaiveDate) -> Result<Self> {
        let plans = Plans::load(app.db.primary()).await?.into_vec();
        let on_sale = catalog::on_sale(app.db.primary(), account.plan_type, today).await?;
        // Cross-multiplied: price per credit without a division.
        let cheapest = on_sale
            .into_iter()
            .min_by(|a, b| (a.price_yen * b.credits_amount).cmp(&(b.price_yen * a.credits_amount)));
        Ok(Self { plans, cheapest })
    }

    fn plan(&self, plan_type: PlanType) -> Option<&plan::Model> {
        self.plans.iter().find(|plan| plan.plan_type == plan_type)
    }

    /// What so many credits cost at the cheapest package's price per credit, rounded up.
    fn cost(&self, credits: i64) -> Option<i64> {
        let package = self.cheapest.as_ref()?;
        let exact = i128::from(credits.max(0)) * i128::from(package.price_yen);
        let amount = i128::from(package.credits_amount);
        i64::try_from((exact + amount - 1) / amount).ok()
    }

    fn spending(
        &self,
        account: &credit_account::Model,
        rows: &[usage_daily::Model],
        (credits, days): (i64, i64),
        today: NaiveDate,
    ) -> Spending {
        let cost = rows.iter().map(|row| row.cost_yen).sum();
        let free_used = rows.iter().map(|row| row.free_credits).sum();
        let month_days = days_in_month(today.with_day(1).unwrap_or(today));
        let month_credits = (credits * month_days + days - 1) / days.max(1);
        let mut options: Vec<PlanCost> =
            self.plans.iter().filter_map(|plan| self.month_on(plan, month_credits)).collect();
        options.sort_by_key(|option| option.total);
        let own = options.iter().find(|option| option.plan_type == account.plan_type);
        let own_total = own.map(|option| option.total);
        let suggestion = match (options.first(), own_total) {
            (Some(best), Some(own)) if credits > 0 && best.total < own => Some(Suggestion {
                plan_type: best.plan_type,
                savings: own - best.total,
                options: options.clone(),
            }),
            (_, _) => None,
        };
        Spending {
            cost,
            saved_by_plan: self.cost(free_used),
            projected_month: own_total
                .or_else(|| self.plan(account.plan_type).map(|plan| plan.price_yen))
                .unwrap_or(0),
            suggestion,
        }
    }

    fn month_on(&self, plan: &plan::Model, month_credits: i64) -> Option<PlanCost> {
        let paid_credits = (month_credits - plan.monthly_free_credits).max(0);
        let paid_cost = self.cost(paid_credits)?;
        Some(PlanCost {
            plan_type: plan.plan_type,
            price: plan.price_yen,
            free_credits: plan.monthly_free_credits,
            month_credits,
            paid_credits,
            paid_cost,
            total: plan.price_yen + paid_cost,
        })
    }
}
