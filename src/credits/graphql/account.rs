//! The credit account, its balance, what it holds and how long it lasts.

use async_graphql::{Context, Description, ID, Object, Result, SimpleObject};

use crate::actor::Permission;
use crate::ai::graphql::AiExecution;
use crate::credits::graphql::ledger::{
    CreditTransactionOrderField, CreditTransactionWhere, MonthlyResetOrderField,
};
use crate::credits::graphql::{
    AiFunctionType, CreditGrant, CreditTransaction, MonthlyReset, PlanType,
};
use crate::credits::reports::runway::{self, Runway};
use crate::credits::reports::usage::{self, DayUse, FunctionUse};
use crate::credits::service::lookup;
use crate::credits::watch::Balance;
use crate::entity::{credit_account, credit_hold};
use crate::graphql::caller::caller;
use crate::graphql::loader::load;
use crate::graphql::page::{Connection, List, Order, OrderDirection, PageArgs};
use crate::graphql::payload::int;
use crate::graphql::scalars::{Date, DateTime, Decimal};
use crate::identity::graphql::{Tenant, User, load_tenant, load_user};
use crate::ids::AccountId;
use crate::loads;
use crate::payments::graphql::auto::AutoPurchase;

/// A tenant's prepaid credits.
#[derive(Description)]
pub struct CreditAccount(pub credit_account::Model);

#[Object(use_type_description)]
impl CreditAccount {
    /// The account's id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// Whose credits they are.
    async fn tenant(&self, ctx: &Context<'_>) -> Result<Tenant> {
        load_tenant(ctx, self.0.tenant_id).await
    }

    /// The plan in force.
    async fn plan_type(&self) -> PlanType {
        self.0.plan_type.into()
    }

    /// A smaller plan that takes effect at the next reset; null when none waits.
    async fn next_plan_type(&self) -> Option<PlanType> {
        self.0.next_plan_type.map(PlanType::from)
    }

    /// A month that starts later brings no free credits; null when there is no end.
    async fn entitled_until(&self) -> Option<DateTime> {
        self.0.entitled_until.map(DateTime)
    }

    /// The balance as it was read. Subscribe to `creditBalance` to follow it.
    async fn balance(&self) -> CreditBalance {
        CreditBalance::of(Balance::of(&self.0))
    }

    /// Free credits that each month brings.
    async fn monthly_free_credits(&self) -> i32 {
        int(self.0.monthly_free_credits)
    }

    /// Credits charged since the month began in the tenant's zone.
    async fn used_this_month(&self, ctx: &Context<'_>) -> Result<i32> {
        Ok(int(usage::this_month(&caller(ctx).app, &self.0).await?))
    }

    /// Credits bought since the account was opened.
    async fn total_purchased(&self) -> i32 {
        int(self.0.total_purchased_credits)
    }

    /// Credits charged since the account was opened.
    async fn total_used(&self) -> i32 {
        int(self.0.total_used_credits)
    }

    /// An alert is raised when a charge takes the balance below so many credits.
    async fn alert_threshold(&self) -> i32 {
        int(self.0.alert_threshold)
    }

    /// How long the credits will last at the pace of the last 56 days.
    async fn runway(&self, ctx: &Context<'_>) -> Result<CreditRunway> {
        Ok(CreditRunway(runway::of(&caller(ctx).app, &self.0).await?))
    }

    /// The settings of automatic purchase.
    async fn auto_purchase(&self) -> AutoPurchase {
        AutoPurchase(self.0.clone())
    }

    /// Grants that still have credits, those that expire first before the others; at most 100.
    async fn grants(&self, ctx: &Context<'_>) -> Result<Vec<CreditGrant>> {
        let rows = lookup::live_grants(&caller(ctx).app, self.0.id).await?;
        Ok(rows.into_iter().map(CreditGrant).collect())
    }

    /// Calls that run now, those of all members together.
    async fn running(&self) -> i32 {
        int(self.0.running)
    }

    /// Calls that may run at once; one more is refused as `RATE_LIMITED`.
    async fn running_max(&self) -> i32 {
        int(self.0.running_max)
    }

    /// Credits that running calls hold, oldest first; at most 100.
    async fn holds(&self, ctx: &Context<'_>) -> Result<Vec<CreditHold>> {
        let rows = lookup::live_holds(&caller(ctx).app, self.0.id).await?;
        Ok(rows.into_iter().map(CreditHold).collect())
    }

    /// Credits used over the last days, today included. For ADMIN and MANAGER.
    async fn usage(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 30, desc = "How many days, 1 to 366.")] days: i32,
    ) -> Result<CreditUsage> {
        let caller = caller(ctx);
        caller.actor()?.require(Permission::AnalyticsRead)?;
        let (functions, days) = usage::recent(&caller.app, &self.0, days.into()).await?;
        Ok(CreditUsage {
            top_functions: functions.into_iter().map(FunctionUsage::from).collect(),
            daily_usage: days.into_iter().map(DailyUsage::from).collect(),
        })
    }

    /// Monthly resets, newest first. For ADMIN and MANAGER.
    async fn resets(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "So many from the front, 1 to 100.")] first: Option<i32>,
        #[graphql(desc = "Only what follows this cursor.")] after: Option<String>,
        #[graphql(desc = "So many from the back, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only what precedes this cursor.")] before: Option<String>,
    ) -> Result<Connection<MonthlyReset>> {
        let caller = caller(ctx);
        let select = lookup::resets(caller.actor()?, self.0.id)?;
        let order = [(MonthlyResetOrderField::ResetDate, OrderDirection::Desc)];
        let page = List::new(caller.app.db.primary(), select, &order)
            .page(PageArgs { first, after, last, before })
            .await?;
        Ok(page.map(MonthlyReset))
    }

    /// The ledger, newest line first unless it is sorted otherwise. For ADMIN and MANAGER.
    #[expect(clippy::too_many_arguments, reason = "a paged list with filter and order has so many")]
    async fn transactions(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "So many from the front, 1 to 100.")] first: Option<i32>,
        #[graphql(desc = "Only what follows this cursor.")] after: Option<String>,
        #[graphql(desc = "So many from the back, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only what precedes this cursor.")] before: Option<String>,
        #[graphql(name = "where", desc = "Only lines that this lets through.")] filter: Option<
            CreditTransactionWhere,
        >,
        #[graphql(desc = "How to sort; the newest first when absent.")] order_by: Option<
            Vec<Order<CreditTransactionOrderField>>,
        >,
    ) -> Result<Connection<CreditTransaction>> {
        let caller = caller(ctx);
        let select = lookup::ledger(caller.actor()?, self.0.id)?;
        let order = [(CreditTransactionOrderField::Sequence, OrderDirection::Desc)];
        let list = List::new(caller.app.db.primary(), select, &order);
        let page = list.filter(filter).order(order_by);
        let page = page.page(PageArgs { first, after, last, before }).await?;
        Ok(page.map(CreditTransaction))
    }
}

/// An account's five numbers. `available` is `current` less `held`.
#[derive(Clone, Copy, Debug, SimpleObject)]
pub struct CreditBalance {
    /// Credits on the account, those that running calls hold included.
    current: i32,
    /// Credits that running calls hold.
    held: i32,
    /// Credits that can be spent now.
    available: i32,
    /// Rises with every change; a balance with a lower version is old.
    version: i32,
    /// When it changed.
    at: DateTime,
}

impl CreditBalance {
    /// The balance as the API shows it.
    pub fn of(balance: Balance) -> Self {
        Self {
            current: int(balance.current),
            held: int(balance.held),
            available: int(balance.current - balance.held),
            version: int(balance.version),
            at: DateTime(balance.at),
        }
    }
}

/// How long the credits will last. Forecast use is the mean per weekday of the last 56 days,
/// without each weekday's highest and lowest; the plain mean with less than 14 days of history.
#[derive(Description)]
pub struct CreditRunway(pub Runway);

#[Object(use_type_description)]
impl CreditRunway {
    /// Whole days that the available credits pay for; null without use, or past ten years.
    async fn days_left(&self) -> Option<i32> {
        self.0.days_left.map(int)
    }

    /// The day on which they run out.
    async fn depletes_on(&self) -> Option<Date> {
        self.0.depletes_on.map(Date)
    }

    /// Forecast use per day in credits, two decimals.
    async fn daily_rate(&self) -> Decimal {
        Decimal(self.0.daily_rate)
    }

    /// Days left when use is as high as in the busiest tenth of such spans of the past.
    async fn low(&self) -> Option<i32> {
        self.0.low.map(int)
    }

    /// Days left when use is as low as in the quietest tenth of such spans of the past.
    async fn high(&self) -> Option<i32> {
        self.0.high.map(int)
    }

    /// When this was computed.
    async fn computed_at(&self) -> DateTime {
        DateTime(self.0.computed_at)
    }

    /// The available credits to expect at the end of each coming day, with resets and expiries.
    fn projection(
        &self,
        #[graphql(default = 30, desc = "How many days, 1 to 366.")] days: i32,
    ) -> Result<Vec<RunwayDay>> {
        let days = self.0.projection(days.into())?;
        let of = |day: &runway::RunwayDay| RunwayDay {
            date: Date(day.day),
            low: int(day.low),
            expected: int(day.expected),
            high: int(day.high),
        };
        Ok(days.iter().map(of).collect())
    }
}

/// The credits to expect at the end of a day.
#[derive(Clone, Copy, Debug, SimpleObject)]
pub struct RunwayDay {
    /// The day.
    date: Date,
    /// With use as in the busiest tenth of weeks.
    low: i32,
    /// As forecast.
    expected: i32,
    /// With use as in the quietest tenth of weeks.
    high: i32,
}

/// Credits that a running call holds.
#[derive(Description)]
pub struct CreditHold(credit_hold::Model);

#[Object(use_type_description)]
impl CreditHold {
    /// Credits held; the charge is never more.
    async fn credits(&self) -> i32 {
        int(self.0.amount)
    }

    /// The function that runs.
    async fn function_type(&self) -> AiFunctionType {
        self.0.function_type.into()
    }

    /// For whom it runs.
    async fn user(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        load_user(ctx, self.0.user_id).await
    }

    /// When they were set aside.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// The call; null when the caller may not see it.
    async fn execution(&self, ctx: &Context<'_>) -> Result<Option<AiExecution>> {
        Ok(load(ctx, self.0.execution_id).await?.map(AiExecution))
    }
}

/// Credits used over some days.
#[derive(Clone, Debug, SimpleObject)]
pub struct CreditUsage {
    /// By function, most credits first.
    top_functions: Vec<FunctionUsage>,
    /// Each day, also those without use.
    daily_usage: Vec<DailyUsage>,
}

/// A function's part in the use.
#[derive(Clone, Debug, SimpleObject)]
pub struct FunctionUsage {
    /// The function.
    function_type: AiFunctionType,
    /// Credits charged.
    credits_used: i32,
    /// Percent of all credits, two decimals.
    percentage: Decimal,
    /// Executions that ended.
    executions: i32,
}

impl From<FunctionUse> for FunctionUsage {
    fn from(used: FunctionUse) -> Self {
        Self {
            function_type: used.function.into(),
            credits_used: int(used.credits),
            percentage: Decimal(used.percentage),
            executions: int(used.runs),
        }
    }
}

/// A day's use.
#[derive(Clone, Debug, SimpleObject)]
pub struct DailyUsage {
    /// The tenant's calendar day.
    date: Date,
    /// Credits charged.
    credits: i32,
    /// Executions that ended.
    executions: i32,
    /// By function, most credits first.
    by_function: Vec<FunctionUsage>,
}

impl From<DayUse> for DailyUsage {
    fn from(day: DayUse) -> Self {
        Self {
            date: Date(day.day),
            credits: int(day.credits),
            executions: int(day.runs),
            by_function: day.by_function.into_iter().map(FunctionUsage::from).collect(),
        }
    }
}

loads! { AccountId => credit_account::Model, lookup::accounts; }
