//! What platform admins change: bonuses, refunds, packages, plans.

use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object};
use rust_decimal::prelude::ToPrimitive;

use crate::credits::catalog::{self, PackageContent, PlanChange, TenantPlan};
use crate::credits::graphql::catalog::CarryOver;
use crate::credits::graphql::{
    CreditAccount, CreditBalance, CreditGrant, CreditPackage, CreditTransaction, Plan, PlanType,
};
use crate::credits::service::{account as accounts, grant as grants};
use crate::credits::watch::Balance;
use crate::entity::{credit_account, credit_package};
use crate::error::{Error, Result};
use crate::graphql::caller::{Answer, Caller, caller, payload};
use crate::graphql::scalars::{Date, DateTime, Decimal};
use crate::ids::{ExecutionId, PackageId, TenantId, TypedId};
use crate::payloads;

/// Bonus credits to give.
#[derive(Debug, InputObject)]
pub struct CreditBonusGrantInput {
    /// The tenant that gets them.
    tenant_id: ID,
    /// How many, 1 to 10 000 000.
    credits: i32,
    /// When what is left expires; never when absent.
    expires_at: Option<DateTime>,
    /// A note that the tenant sees, at most 500 characters.
    description: Option<String>,
    /// The client's key, 8 to 255 characters: the same key gives once.
    idempotency_key: String,
}

/// An execution's credits to give back.
#[derive(Debug, InputObject)]
pub struct CreditRefundInput {
    /// The tenant whose execution it was.
    tenant_id: ID,
    /// The execution.
    execution_id: ID,
    /// How many; all that is left of the charge when absent.
    credits: Option<i32>,
    /// A note that the tenant sees.
    description: Option<String>,
    /// The client's key, 8 to 255 characters: the same key gives back once.
    idempotency_key: String,
}

/// A package to put on sale.
#[derive(Debug, InputObject)]
pub struct CreditPackageCreateInput {
    /// For buyers on this plan.
    plan_type: PlanType,
    /// Credits that the buyer gets, 1 to 100 000 000.
    credits: i32,
    /// What the buyer pays in yen, tax included.
    price_yen: i32,
    /// The discount in percent that is already in the price, two decimals.
    #[graphql(default_with = "Decimal(rust_decimal::Decimal::ZERO)")]
    discount_rate: Decimal,
    /// The tax rate in percent that is already in the price, two decimals.
    #[graphql(default_with = "Decimal(rust_decimal::Decimal::TEN)")]
    tax_rate: Decimal,
    /// Whether it is shown as a bulk package.
    #[graphql(default)]
    is_bulk: bool,
    /// Whether it is shown as a promotion.
    #[graphql(default)]
    is_promotional: bool,
    /// The first day of sale.
    valid_from: Date,
    /// The last day of sale; no end when absent.
    valid_until: Option<Date>,
    /// The name that buyers see, 1 to 100 characters.
    display_name: String,
    /// More about it, at most 2 000 characters.
    description: Option<String>,
    /// A line that catches the eye, at most 2 000 characters.
    marketing_highlight: Option<String>,
}

/// What to change in a package. What is left out stays as it is.
#[derive(Debug, InputObject)]
pub struct CreditPackageUpdateInput {
    /// The package.
    id: ID,
    /// The version that the change was made on; refused as `STALE_VERSION` when it is not the
    /// newest.
    expected_version: Option<i32>,
    /// Credits that the buyer gets.
    credits: Option<i32>,
    /// What the buyer pays in yen, tax included.
    price_yen: Option<i32>,
    /// The discount in percent that is already in the price.
    discount_rate: Option<Decimal>,
    /// The tax rate in percent that is already in the price.
    tax_rate: Option<Decimal>,
    /// Whether it is shown as a bulk package.
    is_bulk: Option<bool>,
    /// Whether it is shown as a promotion.
    is_promotional: Option<bool>,
    /// The first day of sale.
    valid_from: Option<Date>,
    /// The last day of sale; null for no end.
    valid_until: MaybeUndefined<Date>,
    /// The name that buyers see.
    display_name: Option<String>,
    /// More about it; null removes it.
    description: MaybeUndefined<String>,
    /// A line that catches the eye; null removes it.
    marketing_highlight: MaybeUndefined<String>,
}

/// A package to take off sale.
#[derive(Debug, InputObject)]
pub struct CreditPackageRetireInput {
    /// The package.
    id: ID,
    /// The version that the caller saw.
    expected_version: Option<i32>,
}

/// A plan's new version.
#[derive(Debug, InputObject)]
pub struct PlanUpdateInput {
    /// The plan.
    plan_type: PlanType,
    /// The price per month in yen, tax included.
    price_yen: i32,
    /// Free credits per month, from each account's next reset on.
    monthly_free_credits: i32,
    /// What becomes of unused free credits at a reset.
    carry_over: CarryOver,
    /// Credits that stay at most; goes with CAP, and only with CAP.
    carry_over_cap: Option<i32>,
    /// Stripe's id of a monthly price, `price_…`, of just this amount. When absent, Stripe is told
    /// the price with each request, and nothing need be made there.
    stripe_price_id: Option<String>,
    /// The version that the change was made on.
    expected_version: Option<i32>,
}

/// A tenant's plan to set.
#[derive(Debug, InputObject)]
pub struct TenantPlanSetInput {
    /// The tenant.
    tenant_id: ID,
    /// Its plan. A larger one takes effect now, a smaller one at the next reset.
    plan_type: PlanType,
    /// Months that start later bring no free credits; no end when absent.
    entitled_until: Option<DateTime>,
}

/// How many calls of a tenant may run at once.
#[derive(Debug, InputObject)]
pub struct TenantRunningMaxSetInput {
    /// The tenant.
    tenant_id: ID,
    /// How many, 1 to 100 000. Those that run already go on.
    running_max: i32,
}

payloads! {
    /// The result of `creditBonusGrant`.
    CreditGrantPayload {
        /// The grant.
        grant: CreditGrant,
        /// The tenant's balance after it.
        balance: CreditBalance,
    }
    /// The result of `creditRefund`.
    CreditTransactionPayload {
        /// The line of the ledger.
        transaction: CreditTransaction,
        /// The tenant's balance after it.
        balance: CreditBalance,
    }
    /// The result of a change of a package.
    CreditPackagePayload {
        /// The package as it is now.
        package: CreditPackage,
    }
    /// The result of `planUpdate`.
    PlanPayload {
        /// The new version.
        plan: Plan,
    }
    /// The result of `tenantPlanSet` and `tenantRunningMaxSet`.
    CreditAccountPayload {
        /// The tenant's account as it is now.
        account: CreditAccount,
    }
}

/// What only platform admins do.
#[derive(Default)]
pub struct CreditAdminMutation;

#[Object]
impl CreditAdminMutation {
    /// Gives a tenant bonus credits. For platform admins.
    async fn credit_bonus_grant(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The bonus.")] input: CreditBonusGrantInput,
    ) -> Answer<CreditGrantPayload> {
        let caller = caller(ctx);
        let done = |(grant, balance)| CreditGrantPayload {
            grant: Some(CreditGrant(grant)),
            balance: Some(balance),
            user_errors: Vec::new(),
        };
        payload(ctx, grant_bonus(caller, input), done, CreditGrantPayload::refused).await
    }

    /// Gives an execution's credits back, whole or in part. For platform admins.
    async fn credit_refund(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The refund.")] input: CreditRefundInput,
    ) -> Answer<CreditTransactionPayload> {
        let caller = caller(ctx);
        let done = |(line, balance)| CreditTransactionPayload {
            transaction: Some(CreditTransaction(line)),
            balance: Some(balance),
            user_errors: Vec::new(),
        };
        payload(ctx, refund(caller, input), done, CreditTransactionPayload::refused).await
    }

    /// Puts a package on sale. For platform admins.
    async fn credit_package_create(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The package.")] input: CreditPackageCreateInput,
    ) -> Answer<CreditPackagePayload> {
        let caller = caller(ctx);
        let work = Box::pin(async {
            let actor = caller.actor()?;
            catalog::create_package(&caller.app, actor, content(input)?).await
        });
        payload(ctx, work, package_payload, CreditPackagePayload::refused).await
    }

    /// Changes a package for buyers to come. For platform admins.
    async fn credit_package_update(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The change.")] input: CreditPackageUpdateInput,
    ) -> Answer<CreditPackagePayload> {
        let caller = caller(ctx);
        let work = Box::pin(async {
            let actor = caller.actor()?;
            let which = (PackageId::parse(&input.id)?, input.expected_version.map(i64::from));
            let rates = (
                rate("input.discountRate", input.discount_rate)?,
                rate("input.taxRate", input.tax_rate)?,
            );
            let change = |content: &mut PackageContent| apply(content, input, rates);
            catalog::update_package(&caller.app, actor, which, change).await
        });
        payload(ctx, work, package_payload, CreditPackagePayload::refused).await
    }

    /// Takes a package off sale. For platform admins.
    async fn credit_package_retire(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The package.")] input: CreditPackageRetireInput,
    ) -> Answer<CreditPackagePayload> {
        let caller = caller(ctx);
        let work = Box::pin(async {
            let actor = caller.actor()?;
            let which = (PackageId::parse(&input.id)?, input.expected_version.map(i64::from));
            catalog::retire_package(&caller.app, actor, which).await
        });
        payload(ctx, work, package_payload, CreditPackagePayload::refused).await
    }

    /// Gives a plan a new version. For platform admins.
    async fn plan_update(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The new version.")] input: PlanUpdateInput,
    ) -> Answer<PlanPayload> {
        let caller = caller(ctx);
        let change = PlanChange {
            plan_type: input.plan_type.into(),
            price_yen: input.price_yen.into(),
            monthly_free_credits: input.monthly_free_credits.into(),
            carry_over: input.carry_over.into(),
            carry_over_cap: input.carry_over_cap.map(i64::from),
            stripe_price_id: input.stripe_price_id,
            expected_version: input.expected_version.map(i64::from),
        };
        let work =
            Box::pin(async { catalog::update_plan(&caller.app, caller.actor()?, change).await });
        let done = |row| PlanPayload { plan: Some(Plan(row)), user_errors: Vec::new() };
        payload(ctx, work, done, PlanPayload::refused).await
    }

    /// Sets a tenant's plan. For platform admins.
    async fn tenant_plan_set(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The plan.")] input: TenantPlanSetInput,
    ) -> Answer<CreditAccountPayload> {
        let caller = caller(ctx);
        let work = Box::pin(async {
            let actor = caller.actor()?;
            let wish = TenantPlan {
                tenant: TenantId::parse(&input.tenant_id)?,
                plan_type: input.plan_type.into(),
                entitled_until: input.entitled_until.map(|until| until.0),
            };
            catalog::set_tenant_plan(&caller.app, actor, wish).await
        });
        payload(ctx, work, account_payload, CreditAccountPayload::refused).await
    }

    /// Sets how many calls of a tenant may run at once; one more is refused as `RATE_LIMITED`. For
    /// platform admins.
    async fn tenant_running_max_set(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The bound.")] input: TenantRunningMaxSetInput,
    ) -> Answer<CreditAccountPayload> {
        let caller = caller(ctx);
        let work = Box::pin(async {
            let actor = caller.actor()?;
            let tenant = TenantId::parse(&input.tenant_id)?;
            accounts::set_running_max(&caller.app, actor, tenant, input.running_max.into()).await
        });
        payload(ctx, work, account_payload, CreditAccountPayload::refused).await
    }
}

fn account_payload(row: credit_account::Model) -> CreditAccountPayload {
    CreditAccountPayload { account: Some(CreditAccount(row)), user_errors: Vec::new() }
}

fn package_payload(row: credit_package::Model) -> CreditPackagePayload {
    CreditPackagePayload { package: Some(CreditPackage(row)), user_errors: Vec::new() }
}

async fn grant_bonus(
    caller: &Caller,
    input: CreditBonusGrantInput,
) -> Result<(crate::entity::credit_grant::Model, CreditBalance)> {
    let actor = caller.actor()?;
    let bonus = grants::Bonus {
        tenant: TenantId::parse(&input.tenant_id)?,
        credits: input.credits.into(),
        expires_at: input.expires_at.map(|at| at.0),
        description: input.description,
        idempotency_key: input.idempotency_key,
    };
    let tenant = bonus.tenant;
    let grant = grants::grant_bonus(&caller.app, actor, bonus).await?;
    Ok((grant, balance_of(caller, tenant).await?))
}

async fn refund(
    caller: &Caller,
    input: CreditRefundInput,
) -> Result<(crate::entity::credit_transaction::Model, CreditBalance)> {
    let actor = caller.actor()?;
    let refund = grants::Refund {
        tenant: TenantId::parse(&input.tenant_id)?,
        execution: ExecutionId::parse(&input.execution_id)?,
        credits: input.credits.map(i64::from),
        description: input.description,
        idempotency_key: input.idempotency_key,
    };
    let tenant = refund.tenant;
    let line = grants::refund(&caller.app, actor, refund).await?;
    Ok((line, balance_of(caller, tenant).await?))
}

async fn balance_of(caller: &Caller, tenant: TenantId) -> Result<CreditBalance> {
    let account = accounts::of_tenant(&caller.app, tenant).await?;
    Ok(CreditBalance::of(Balance::of(&account)))
}

fn content(input: CreditPackageCreateInput) -> Result<PackageContent> {
    Ok(PackageContent {
        plan_type: input.plan_type.into(),
        credits: input.credits.into(),
        price_yen: input.price_yen.into(),
        discount_rate: hundredths("input.discountRate", input.discount_rate)?,
        tax_rate: hundredths("input.taxRate", input.tax_rate)?,
        is_bulk: input.is_bulk,
        is_promotional: input.is_promotional,
        valid_from: input.valid_from.0,
        valid_until: input.valid_until.map(|day| day.0),
        display_name: input.display_name,
        description: input.description,
        marketing_highlight: input.marketing_highlight,
    })
}

fn apply(
    content: &mut PackageContent,
    input: CreditPackageUpdateInput,
    (discount_rate, tax_rate): (Option<i64>, Option<i64>),
) {
    set(&mut content.credits, input.credits.map(i64::from));
    set(&mut content.price_yen, input.price_yen.map(i64::from));
    set(&mut content.discount_rate, discount_rate);
    set(&mut content.tax_rate, tax_rate);
    set(&mut content.is_bulk, input.is_bulk);
    set(&mut content.is_promotional, input.is_promotional);
    set(&mut content.valid_from, input.valid_from.map(|day| day.0));
    set(&mut content.display_name, input.display_name);
    set_or_clear(&mut content.valid_until, input.valid_until.map(|day| day.map(|day| day.0)));
    set_or_clear(&mut content.description, input.description);
    set_or_clear(&mut content.marketing_highlight, input.marketing_highlight);
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn set_or_clear<T>(place: &mut Option<T>, value: MaybeUndefined<T>) {
    match value {
        MaybeUndefined::Undefined => {}
        MaybeUndefined::Null => *place = None,
        MaybeUndefined::Value(value) => *place = Some(value),
    }
}

fn rate(field: &str, rate: Option<Decimal>) -> Result<Option<i64>> {
    rate.map(|rate| hundredths(field, rate)).transpose()
}

/// A percentage as hundredths; more than two decimals are refused.
fn hundredths(field: &str, percent: Decimal) -> Result<i64> {
    let scaled = percent.0 * rust_decimal::Decimal::ONE_HUNDRED;
    let whole = scaled.is_integer().then(|| scaled.to_i64()).flatten();
    whole.ok_or_else(|| {
        Error::invalid(field, "小数点以下2桁までで指定してください。", "has more than two decimals")
    })
}
