//! The plans and prices to begin with. Later versions come through the API.

use sea_orm_migration::prelude::{
    DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait,
};

use crate::dialect;

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// UUIDv7 keys of the first rows: a fixed instant, then a number.
const FIRST_KEY: u128 = 0x019a_a000_0000_7000_8000_0000_0000_0000;

/// Plan, yen per month, free credits per month.
const PLANS: [(&str, i64, i64); 3] =
    [("ESSENTIAL", 7_800, 200), ("PROFESSIONAL", 19_800, 1_000), ("ENTERPRISE", 49_800, 5_000)];

/// Function, model, base credits, whether calls without a model use it.
const PRICES: [(&str, &str, i64, bool); 6] = [
    ("CHATBOT", "gpt-4o-mini", 2, true),
    ("CHATBOT", "gpt-4o", 4, false),
    ("RECOMMENDATION", "gpt-4o", 5, true),
    ("PREDICTION", "gpt-4o-mini", 8, true),
    ("ANALYSIS", "gpt-4o-mini", 10, true),
    ("CUSTOM", "gpt-4o-mini", 15, true),
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut key = FIRST_KEY;
        for (plan, price, free) in PLANS {
            key += 1;
            let (id, now) = dialect::literals(manager, key);
            let sql = format!(
                "INSERT INTO ai_plans (id, plan_type, version, price_yen, monthly_free_credits,
                 carry_over, carry_over_cap, created_at)
                 VALUES ({id}, '{plan}', 1, {price}, {free}, 'ALL', 0, {now})"
            );
            dialect::run(manager, &sql).await?;
        }
        for (function, model, base, is_default) in PRICES {
            key += 1;
            let (id, now) = dialect::literals(manager, key);
            let sql = format!(
                "INSERT INTO ai_function_prices (id, function_type, model, version, is_default,
                 is_active, base_credits, tier_1_tokens, tier_2_tokens, tier_3_tokens,
                 tier_1_per_mille, tier_2_per_mille, tier_3_per_mille, tier_4_per_mille,
                 rate_limit_credits, created_at)
                 VALUES ({id}, '{function}', '{model}', 1, {is_default}, TRUE, {base},
                 1000, 4000, 16000, 1000, 1500, 2000, 3000, 1, {now})"
            );
            dialect::run(manager, &sql).await?;
        }
        Ok(())
    }
}
