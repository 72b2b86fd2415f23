//! Plans and packages in the API.

use async_graphql::{Context, Description, Enum, ID, Object, Result};

use crate::credits::catalog;
use crate::credits::graphql::PlanType;
use crate::credits::service::lookup;
use crate::entity::{credit_package, plan};
use crate::graphql::caller::{Answer, answer, caller};
use crate::graphql::payload::int;
use crate::graphql::scalars::{Date, Decimal, Money};
use crate::ids::{PackageId, PlanId};
use crate::loads;
use crate::money;

/// What becomes of unused free credits when a new month begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "plan::CarryOver")]
pub enum CarryOver {
    /// All of them stay.
    All,
    /// None of them stay.
    None,
    /// They stay up to a cap; the oldest above it are taken away.
    Cap,
}

/// A plan's version. Versions are never changed; a new one follows.
#[derive(Description)]
pub struct Plan(pub plan::Model);

#[Object(use_type_description)]
impl Plan {
    /// The version's id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The plan.
    async fn plan_type(&self) -> PlanType {
        self.0.plan_type.into()
    }

    /// The version; the highest is in force.
    async fn version(&self) -> i32 {
        self.0.version
    }

    /// The price per month, tax included.
    async fn price(&self) -> Money {
        Money(money::Money::yen(self.0.price_yen))
    }

    /// Free credits per month.
    async fn monthly_free_credits(&self) -> i32 {
        int(self.0.monthly_free_credits)
    }

    /// What becomes of unused free credits at a reset.
    async fn carry_over(&self) -> CarryOver {
        self.0.carry_over.into()
    }

    /// Credits that stay at most, with CAP.
    async fn carry_over_cap(&self) -> Option<i32> {
        (self.0.carry_over == plan::CarryOver::Cap).then(|| int(self.0.carry_over_cap))
    }

    /// Stripe's price of it; null for all but platform admins, and where Stripe is told the price
    /// with each request.
    fn stripe_price_id(&self, ctx: &Context<'_>) -> Result<Option<&str>> {
        Ok(catalog::stripe_price(caller(ctx).actor()?, &self.0))
    }
}

/// Credits for sale.
#[derive(Description)]
pub struct CreditPackage(pub credit_package::Model);

#[Object(use_type_description)]
impl CreditPackage {
    /// The package's id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// For buyers on this plan.
    async fn plan_type(&self) -> PlanType {
        self.0.plan_type.into()
    }

    /// Credits that the buyer gets.
    async fn credits(&self) -> i32 {
        int(self.0.credits_amount)
    }

    /// What the buyer pays, tax included.
    async fn price(&self) -> Money {
        Money(money::Money::yen(self.0.price_yen))
    }

    /// The discount in percent that is already in the price.
    async fn discount_rate(&self) -> Decimal {
        percent(self.0.discount_rate)
    }

    /// The tax rate in percent that is already in the price.
    async fn tax_rate(&self) -> Decimal {
        percent(self.0.tax_rate)
    }

    /// Yen per credit, two decimals.
    async fn price_per_credit(&self) -> Decimal {
        let exact = money::ratio(self.0.price_yen, self.0.credits_amount, 2);
        Decimal(exact.unwrap_or_default())
    }

    /// Whether it is shown as a bulk package.
    async fn is_bulk(&self) -> bool {
        self.0.is_bulk_package
    }

    /// Whether it is shown as a promotion.
    async fn is_promotional(&self) -> bool {
        self.0.is_promotional
    }

    /// Whether it is still offered.
    async fn is_active(&self) -> bool {
        self.0.active
    }

    /// The name that buyers see.
    async fn display_name(&self) -> &str {
        &self.0.display_name
    }

    /// More about it.
    async fn description(&self) -> Option<&str> {
        self.0.description.as_deref()
    }

    /// A line that catches the eye.
    async fn marketing_highlight(&self) -> Option<&str> {
        self.0.marketing_highlight.as_deref()
    }

    /// The first day of sale.
    async fn valid_from(&self) -> Date {
        Date(self.0.valid_from)
    }

    /// The last day of sale; null when there is no end.
    async fn valid_until(&self) -> Option<Date> {
        self.0.valid_until.map(Date)
    }

    /// Rises with every change, for `expectedVersion`.
    async fn version(&self) -> i32 {
        self.0.version
    }
}

fn percent(hundredths: i64) -> Decimal {
    Decimal(rust_decimal::Decimal::new(hundredths, 2).normalize())
}

/// What is on offer.
#[derive(Default)]
pub struct CreditCatalogQuery;

#[Object]
impl CreditCatalogQuery {
    /// Packages that the caller's tenant can buy today, smallest first; at most 100.
    async fn credit_packages(&self, ctx: &Context<'_>) -> Answer<Vec<CreditPackage>> {
        let caller = caller(ctx);
        answer(
            ctx,
            Box::pin(async {
                let rows = catalog::packages(&caller.app, caller.actor()?).await?;
                Ok(rows.into_iter().map(CreditPackage).collect::<Vec<_>>())
            }),
        )
        .await
    }

    /// The plans in force, cheapest first.
    async fn plans(&self, ctx: &Context<'_>) -> Answer<Vec<Plan>> {
        let caller = caller(ctx);
        answer(
            ctx,
            Box::pin(async {
                let rows = catalog::plans(&caller.app, caller.actor()?).await?;
                Ok(rows.into_iter().map(Plan).collect::<Vec<_>>())
            }),
        )
        .await
    }
}

loads! {
    PackageId => credit_package::Model, lookup::packages;
    PlanId => plan::Model, lookup::plans;
}
