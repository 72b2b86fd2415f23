//! Analytics in the API.

use async_graphql::{Context, Description, Object, SimpleObject};

use crate::credits::graphql::account::DailyUsage;
use crate::credits::graphql::{AiFunctionType, PlanType};
use crate::credits::reports::analytics::{Analytics, FunctionAnalytics, PlanCost, Spending};
use crate::credits::reports::efficiency::{Score, Term};
use crate::graphql::caller::caller;
use crate::graphql::payload::int;
use crate::graphql::scalars::{Date, Decimal, Money};
use crate::money;

/// Use and spending over a range of days, with advice.
#[derive(Description)]
pub struct CreditAnalytics(pub Analytics);

#[Object(use_type_description)]
impl CreditAnalytics {
    /// The range that the figures are of.
    async fn period(&self) -> AnalyticsPeriod {
        let Analytics { from, to, days, .. } = &self.0;
        AnalyticsPeriod { start_date: Date(*from), end_date: Date(*to), days: int(*days) }
    }

    /// Credits charged.
    async fn total_credits_used(&self) -> i32 {
        int(self.0.credits)
    }

    /// Credits per day, two decimals.
    async fn average_daily(&self) -> Decimal {
        Decimal(self.0.average_daily)
    }

    /// The day with the most credits; null without use.
    async fn peak_day(&self) -> Option<DailyUsage> {
        self.0.peak.clone().map(DailyUsage::from)
    }

    /// How well the credits were used; null when nothing ran.
    async fn efficiency(&self) -> Option<CreditEfficiency> {
        self.0.efficiency.map(CreditEfficiency)
    }

    /// By function, most credits first.
    async fn functions(&self) -> Vec<FunctionFigures> {
        self.0.functions.iter().map(FunctionFigures::of).collect()
    }

    /// What it cost.
    async fn spending(&self) -> CreditSpending {
        CreditSpending(self.0.spending.clone())
    }
}

/// A range of days, both ends included.
#[derive(Clone, Copy, Debug, SimpleObject)]
pub struct AnalyticsPeriod {
    /// The first day.
    start_date: Date,
    /// The last day.
    end_date: Date,
    /// How many days.
    days: i32,
}

/// How well credits were used: 100 × (0.5 · successful runs ÷ runs + 0.3 · credits on successful
/// runs ÷ credits used + 0.2 · min(1, credits used ÷ free credits)).
#[derive(Description)]
pub struct CreditEfficiency(Score);

#[Object(use_type_description)]
impl CreditEfficiency {
    /// 0 to 100, two decimals.
    async fn score(&self) -> Decimal {
        Decimal(rust_decimal::Decimal::new(self.0.hundredths, 2))
    }

    /// What would raise it most, in the caller's language.
    async fn recommendation(&self, ctx: &Context<'_>) -> String {
        let lang = caller(ctx).lang;
        match self.0.weakest {
            _ if self.0.hundredths >= 9_500 => lang.pick(
                "効率よくご利用いただいています。",
                "Credits are used very well.",
            ),
            Term::Success => lang.pick(
                "失敗した実行が多くなっています。実行履歴で失敗の理由をご確認ください。",
                "Too many runs fail. See the reasons in the execution history.",
            ),
            Term::CreditsOnSuccess => lang.pick(
                "失敗した実行にクレジットが使われています。途中でのキャンセルや入力の長さを見直してください。",
                "Credits go to runs that fail. Look at cancelled runs and long inputs.",
            ),
            Term::FreeCreditsUsed => lang.pick(
                "無料クレジットが余っています。小さいプランへの変更や活用場面の追加をご検討ください。",
                "Free credits stay unused. Consider a smaller plan or more uses.",
            ),
        }
    }
}

/// A function's figures.
#[derive(Clone, Copy, Debug, SimpleObject)]
pub struct FunctionFigures {
    /// The function.
    function_type: AiFunctionType,
    /// Credits charged.
    total_usage: i32,
    /// Executions that ended.
    executions: i32,
    /// Mean wall time in milliseconds.
    average_execution_time_ms: Option<i32>,
    /// Percent of runs that succeeded, two decimals.
    success_rate: Option<Decimal>,
    /// Successful runs per yen, four decimals; null when the credits had cost nothing.
    cost_efficiency: Option<Decimal>,
}

impl FunctionFigures {
    fn of(function: &FunctionAnalytics) -> Self {
        Self {
            function_type: function.function.into(),
            total_usage: int(function.credits),
            executions: int(function.runs),
            average_execution_time_ms: function.mean_time_ms.map(int),
            success_rate: function.success_rate.map(Decimal),
            cost_efficiency: function.runs_per_yen.map(Decimal),
        }
    }
}

/// What the credits cost.
#[derive(Description)]
pub struct CreditSpending(Spending);

#[Object(use_type_description)]
impl CreditSpending {
    /// What the charged credits had cost.
    async fn total_cost(&self) -> Money {
        yen(self.0.cost)
    }

    /// Free credits used × the price per credit of the cheapest package on sale; null when none is
    /// on sale.
    async fn savings_from_plan(&self) -> Option<Money> {
        self.0.saved_by_plan.map(yen)
    }

    /// The plan's price + the paid credits of a whole month at this range's pace, at the cheapest
    /// package's price.
    async fn projected_monthly_spend(&self) -> Money {
        yen(self.0.projected_month)
    }

    /// A plan that would cost less; null when the present one is the cheapest.
    async fn plan_optimization(&self) -> Option<PlanOptimization> {
        let suggestion = self.0.suggestion.as_ref()?;
        Some(PlanOptimization {
            suggested_plan: suggestion.plan_type.into(),
            estimated_savings: yen(suggestion.savings),
            comparison: suggestion.options.iter().map(PlanComparison::of).collect(),
        })
    }
}

/// A plan that would cost less.
#[derive(Clone, Debug, SimpleObject)]
pub struct PlanOptimization {
    /// The plan.
    suggested_plan: PlanType,
    /// What a month would cost less.
    estimated_savings: Money,
    /// The arithmetic for every plan, cheapest first.
    comparison: Vec<PlanComparison>,
}

/// What a month would cost on a plan: `price` + `paidCredits` at the cheapest package's price.
#[derive(Clone, Debug, SimpleObject)]
pub struct PlanComparison {
    /// The plan.
    plan_type: PlanType,
    /// Its price per month.
    price: Money,
    /// Its free credits per month.
    free_credits: i32,
    /// Credits of a month at this range's pace.
    month_credits: i32,
    /// Of them, those beyond the free ones.
    paid_credits: i32,
    /// What those cost.
    paid_cost: Money,
    /// Price and paid cost together.
    total: Money,
}

impl PlanComparison {
    fn of(option: &PlanCost) -> Self {
        Self {
            plan_type: option.plan_type.into(),
            price: yen(option.price),
            free_credits: int(option.free_credits),
            month_credits: int(option.month_credits),
            paid_credits: int(option.paid_credits),
            paid_cost: yen(option.paid_cost),
            total: yen(option.total),
        }
    }
}

fn yen(amount: i64) -> Money {
    Money(money::Money::yen(amount))
}
