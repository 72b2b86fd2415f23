//! Functions, their models and what they cost.

use async_graphql::{Context, Description, ID, InputObject, Object, SimpleObject};
use tokio::sync::OnceCell;

use crate::ai::pricing::{self, Offer, PriceChange};
use crate::credits::graphql::AiFunctionType;
use crate::entity::function_price;
use crate::error::{Error, Result};
use crate::graphql::caller::caller;
use crate::graphql::payload::{UserError, int};
use crate::graphql::scalars::{DateTime, Decimal};
use crate::ids::PriceId;
use crate::limits::function::{self, Allowance};
use crate::loads;

/// A function that can be run.
#[derive(Description)]
pub struct AiFunction {
    offer: Offer,
    /// What the caller has of it in this hour, read when the first field asks.
    allowance: OnceCell<Allowance>,
}

impl From<Offer> for AiFunction {
    fn from(offer: Offer) -> Self {
        Self { offer, allowance: OnceCell::new() }
    }
}

impl AiFunction {
    async fn allowance(&self, ctx: &Context<'_>) -> Result<Allowance> {
        let caller = caller(ctx);
        let read = || async {
            function::allowance(&caller.app, caller.actor()?, self.offer.function).await
        };
        self.allowance.get_or_try_init(read).await.copied()
    }
}

#[Object(use_type_description)]
impl AiFunction {
    /// The function.
    async fn function_type(&self) -> AiFunctionType {
        self.offer.function.into()
    }

    /// Calls in any hour that each member of the tenant may make.
    async fn hourly_limit(&self, ctx: &Context<'_>) -> async_graphql::Result<i32> {
        Ok(int(self.allowance(ctx).await?.limit))
    }

    /// Calls of them that the caller has left now.
    async fn remaining_this_hour(&self, ctx: &Context<'_>) -> async_graphql::Result<i32> {
        Ok(int(self.allowance(ctx).await?.remaining))
    }

    /// When the caller's oldest call leaves the hour and one more is left; null when none was made.
    async fn resets_at(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<DateTime>> {
        Ok(self.allowance(ctx).await?.resets_at.map(DateTime))
    }

    /// Credits of the default model before the multiplier.
    async fn base_cost(&self) -> i32 {
        let prices = &self.offer.prices;
        let default = prices.iter().find(|price| price.is_default);
        default.or(prices.first()).map_or(0, |price| int(price.base_credits))
    }

    /// The models that can be called, with their prices.
    async fn models(&self) -> Vec<AiPrice> {
        self.offer.prices.iter().cloned().map(AiPrice).collect()
    }
}

/// A price's version: charge = ceil(base × multiplier), the multiplier by total tokens.
#[derive(Description)]
pub struct AiPrice(pub function_price::Model);

#[Object(use_type_description)]
impl AiPrice {
    /// The version's id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The function.
    async fn function_type(&self) -> AiFunctionType {
        self.0.function_type.into()
    }

    /// The provider's name of the model.
    async fn model(&self) -> &str {
        &self.0.model
    }

    /// The version; the highest is in force.
    async fn version(&self) -> i32 {
        self.0.version
    }

    /// Whether calls without a model use it.
    async fn is_default(&self) -> bool {
        self.0.is_default
    }

    /// Whether it can be called.
    async fn is_active(&self) -> bool {
        self.0.is_active
    }

    /// Credits before the multiplier.
    async fn base_credits(&self) -> i32 {
        int(self.0.base_credits)
    }

    /// The multipliers, by total tokens.
    async fn tiers(&self) -> Vec<AiPriceTier> {
        let price = &self.0;
        let tier = |up_to: Option<i64>, per_mille: i64| AiPriceTier {
            up_to_tokens: up_to.map(int),
            multiplier: Decimal(rust_decimal::Decimal::new(per_mille, 3).normalize()),
        };
        vec![
            tier(Some(price.tier_1_tokens), price.tier_1_per_mille),
            tier(Some(price.tier_2_tokens), price.tier_2_per_mille),
            tier(Some(price.tier_3_tokens), price.tier_3_per_mille),
            tier(None, price.tier_4_per_mille),
        ]
    }

    /// Credits that a provider's refusal for too many calls costs.
    async fn rate_limit_credits(&self) -> i32 {
        int(self.0.rate_limit_credits)
    }
}

/// A multiplier and how far it reaches.
#[derive(Clone, Copy, Debug, SimpleObject)]
pub struct AiPriceTier {
    /// Total tokens up to which it holds; null for all above.
    up_to_tokens: Option<i32>,
    /// What the base is multiplied by.
    multiplier: Decimal,
}

/// The result of `aiPriceSet`.
#[derive(Default, SimpleObject)]
pub struct AiPricePayload {
    /// The new version.
    pub(super) price: Option<AiPrice>,
    /// Why it was refused; empty when it was done.
    pub(super) user_errors: Vec<UserError>,
}

/// A price's new version.
#[derive(Debug, InputObject)]
pub struct AiPriceSetInput {
    /// The function.
    function_type: AiFunctionType,
    /// The provider's name of the model.
    model: String,
    /// Whether calls without a model use it; it takes the place of the present default. As before
    /// when absent.
    is_default: Option<bool>,
    /// Whether it can be called.
    #[graphql(default = true)]
    is_active: bool,
    /// Credits before the multiplier, 0 to 1 000 000.
    base_credits: i32,
    /// Total tokens up to which the first three multipliers hold.
    #[graphql(default_with = "vec![1_000, 4_000, 16_000]")]
    tier_tokens: Vec<i32>,
    /// The four multipliers in thousandths.
    #[graphql(default_with = "vec![1_000, 1_500, 2_000, 3_000]")]
    multipliers_per_mille: Vec<i32>,
    /// Credits that a provider's refusal for too many calls costs.
    #[graphql(default = 1)]
    rate_limit_credits: i32,
    /// The version that the change was made on; 0 for a model without a price.
    expected_version: Option<i32>,
}

pub(super) fn price_change(input: AiPriceSetInput) -> Result<PriceChange> {
    let wide = |values: Vec<i32>| values.into_iter().map(i64::from).collect::<Vec<_>>();
    let tier_tokens = wide(input.tier_tokens).try_into().map_err(|_| {
        Error::invalid("input.tierTokens", "3つ指定してください。", "must be three numbers")
    })?;
    let per_mille = wide(input.multipliers_per_mille).try_into().map_err(|_| {
        let field = "input.multipliersPerMille";
        Error::invalid(field, "4つ指定してください。", "must be four numbers")
    })?;
    Ok(PriceChange {
        function: input.function_type.into(),
        model: input.model,
        is_default: input.is_default,
        is_active: input.is_active,
        base_credits: input.base_credits.into(),
        tier_tokens,
        per_mille,
        rate_limit_credits: input.rate_limit_credits.into(),
        expected_version: input.expected_version.map(i64::from),
    })
}

loads! { PriceId => function_price::Model, pricing::prices_of; }
