//! What an execution costs: charge = ceil(base × multiplier), the multiplier by total tokens.
//!
//! Prices are versioned rows; each execution pins the version that it was held at. Example: CHATBOT
//! (base 2) with 1 200 tokens is in the second tier (× 1.5): ceil(2 × 1.5) = 3 credits.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, TryInsertResult, Value,
};
use serde_json::json;

use crate::actor::{Actor, Permission};
use crate::ai::error::AiError;
use crate::app::App;
use crate::audit::{self, Action, Changes, Subject};
use crate::batch::Lookup;
use crate::credits::error::CreditError;
use crate::db::{self, Rows};
use crate::entity::function_price::{self, AiFunctionType};
use crate::error::{Error, Result, Violation};
use crate::events::{self, Event};
use crate::ids::PriceId;

/// Output is never lowered below so many tokens to make a call affordable.
pub const SHRINK_FLOOR: i64 = 100;

/// The functions that run today.
pub const OFFERED: &[AiFunctionType] = &[AiFunctionType::Chatbot];

/// Credits for so many tokens of all calls of an execution together.
pub fn charge(price: &function_price::Model, total_tokens: i64) -> i64 {
    let per_mille = match total_tokens {
        tokens if tokens <= price.tier_1_tokens => price.tier_1_per_mille,
        tokens if tokens <= price.tier_2_tokens => price.tier_2_per_mille,
        tokens if tokens <= price.tier_3_tokens => price.tier_3_per_mille,
        _ => price.tier_4_per_mille,
    };
    (price.base_credits * per_mille + 999) / 1_000
}

/// Credits to hold for a limit on the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldOption {
    /// Credits.
    pub credits: i64,
    /// Output tokens that they pay for.
    pub max_tokens: i64,
}

/// What can be held for a call, the wished limit first; then lower limits that fall into cheaper
/// tiers, but never under 100 tokens.
pub fn hold_options(
    price: &function_price::Model,
    input_tokens: i64,
    max_tokens: i64,
) -> Vec<HoldOption> {
    let wished = HoldOption { credits: charge(price, input_tokens + max_tokens), max_tokens };
    let mut options = vec![wished];
    for limit in [price.tier_3_tokens, price.tier_2_tokens, price.tier_1_tokens] {
        let max = limit - input_tokens;
        let credits = charge(price, limit);
        let is_cheaper = options.last().is_some_and(|last| credits < last.credits);
        if max >= SHRINK_FLOOR && max < max_tokens && is_cheaper {
            options.push(HoldOption { credits, max_tokens: max });
        }
    }
    options
}

/// The price in force of a function's model; of its default model when none is named.
pub async fn in_force(
    app: &App,
    function: AiFunctionType,
    model: Option<&str>,
) -> Result<function_price::Model> {
    if !OFFERED.contains(&function) {
        return Err(AiError::FunctionUnavailable(function).into());
    }
    let newest = newest(app, function).await?;
    let mut active = newest.into_iter().filter(|price| price.is_active);
    match model {
        Some(model) => active
            .find(|price| price.model == model)
            .ok_or_else(|| AiError::ModelUnavailable(model.to_owned()).into()),
        None => active
            .find(|price| price.is_default)
            .ok_or_else(|| AiError::FunctionUnavailable(function).into()),
    }
}

/// The newest version of each model's price for a function, by the model's name.
pub async fn newest(app: &App, function: AiFunctionType) -> Result<Vec<function_price::Model>> {
    let found = app.batches.find::<Newest>(app, function).await?;
    Ok(found.map(|prices| prices.to_vec()).unwrap_or_default())
}

/// Reads prices for many calls at once.
struct Newest;

impl Lookup for Newest {
    type Context = App;
    type Key = AiFunctionType;
    type Value = Arc<[function_price::Model]>;

    async fn read(app: &App, keys: Vec<Self::Key>) -> Result<HashMap<Self::Key, Self::Value>> {
        let mut rows = Rows::default();
        keys.iter().for_each(|function| rows.push([Value::from(function.as_str())]));
        let (table, values) = rows.table(app.db.primary(), 1);
        let sql = format!(
            "SELECT * FROM ai_function_prices p
             WHERE function_type IN (SELECT column1 FROM {table}) AND version =
             (SELECT MAX(version) FROM ai_function_prices
              WHERE function_type = p.function_type AND model = p.model)
             ORDER BY model"
        );
        let prices: Vec<function_price::Model> = db::all(app.db.primary(), sql, values).await?;
        let mut by_function: HashMap<AiFunctionType, Vec<function_price::Model>> = HashMap::new();
        for price in prices {
            by_function.entry(price.function_type).or_default().push(price);
        }
        Ok(by_function.into_iter().map(|(function, prices)| (function, prices.into())).collect())
    }
}

/// A function with the models that can be called.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The function.
    pub function: AiFunctionType,
    /// Its active prices, by the model's name.
    pub prices: Vec<function_price::Model>,
}

/// The functions that can be run, with their prices.
pub async fn offers(app: &App, actor: &Actor) -> Result<Vec<Offer>> {
    actor.require(Permission::AiExecute)?;
    let mut offers = Vec::with_capacity(OFFERED.len());
    for function in OFFERED {
        let mut prices = newest(app, *function).await?;
        prices.retain(|price| price.is_active);
        if !prices.is_empty() {
            offers.push(Offer { function: *function, prices });
        }
    }
    Ok(offers)
}

/// A price's new version.
#[derive(Clone, Debug)]
pub struct PriceChange {
    /// The function.
    pub function: AiFunctionType,
    /// The provider's name of the model.
    pub model: String,
    /// Whether calls without a model use it; none: as the version before.
    pub is_default: Option<bool>,
    /// Whether it can be called.
    pub is_active: bool,
    /// Credits before the multiplier.
    pub base_credits: i64,
    /// Tokens up to which the first three multipliers hold.
    pub tier_tokens: [i64; 3],
    /// The four multipliers, in thousandths.
    pub per_mille: [i64; 4],
    /// Credits that a provider's 429 costs.
    pub rate_limit_credits: i64,
    /// The version that the change was made on; 0 for a model without a price.
    pub expected_version: Option<i64>,
}

/// Gives a model's price a new version. Running executions keep theirs.
pub async fn set(app: &App, actor: &Actor, change: PriceChange) -> Result<function_price::Model> {
    actor.require(Permission::Platform)?;
    check(&change)?;
    let now = app.clock.db_now();
    let mut txn = app.db.begin().await?;
    // The no-op update is the lock: of two changes at once the second sees the first's rows.
    let sql = "UPDATE ai_function_prices SET version = version WHERE function_type = $1";
    db::execute(&*txn, sql, vec![change.function.as_str().into()]).await?;
    let current = function_price::Entity::find()
        .filter(function_price::Column::FunctionType.eq(change.function))
        .filter(function_price::Column::Model.eq(&change.model))
        .order_by_desc(function_price::Column::Version)
        .one(&*txn)
        .await?;
    let version = current.as_ref().map_or(0, |price| price.version);
    if change.expected_version.is_some_and(|expected| expected != i64::from(version)) {
        return Err(CreditError::StaleVersion { current: i64::from(version) }.into());
    }
    let was_default = current.as_ref().is_some_and(|price| price.is_default);
    let is_default = change.is_default.unwrap_or(was_default);
    if was_default && !(is_default && change.is_active) {
        return Err(Error::invalid(
            "input.isDefault",
            "既定のモデルです。先に別のモデルを既定にしてください。",
            "it is the function's default: make another model the default first",
        ));
    }
    if is_default && !change.is_active {
        return Err(Error::invalid(
            "input.isDefault",
            "無効なモデルは既定にできません。",
            "a model that cannot be called cannot be the default",
        ));
    }
    if is_default {
        drop_other_defaults(&txn, &change).await?;
    }
    let row = row_of(change, (version + 1, is_default), now);
    let inserted = function_price::Entity::insert(row.clone().into_active_model())
        .on_conflict_do_nothing()
        .exec_without_returning(&*txn)
        .await?;
    if !matches!(inserted, TryInsertResult::Inserted(1..)) {
        // Somebody else made this version a moment ago.
        return Err(CreditError::StaleVersion { current: i64::from(row.version) }.into());
    }
    let data = json!({ "function": row.function_type, "model": row.model, "version": row.version });
    let subject = Subject::of("function_price", row.id.0)
        .with(data)
        .changing(changes(current.as_ref(), &row));
    audit::record(app, &txn, actor, Action::AiPriceSet, subject).await?;
    events::announce(&mut txn, Event::CatalogChanged);
    txn.commit().await?;
    Ok(row)
}

fn changes(old: Option<&function_price::Model>, new: &function_price::Model) -> Changes {
    type Field = fn(&function_price::Model) -> i64;
    let numbers: [(&'static str, Field); 9] = [
        ("baseCredits", |row| row.base_credits),
        ("tier1Tokens", |row| row.tier_1_tokens),
        ("tier2Tokens", |row| row.tier_2_tokens),
        ("tier3Tokens", |row| row.tier_3_tokens),
        ("tier1PerMille", |row| row.tier_1_per_mille),
        ("tier2PerMille", |row| row.tier_2_per_mille),
        ("tier3PerMille", |row| row.tier_3_per_mille),
        ("tier4PerMille", |row| row.tier_4_per_mille),
        ("rateLimitCredits", |row| row.rate_limit_credits),
    ];
    let flags = Changes::new()
        .plain("isDefault", &old.map(|row| row.is_default), &Some(new.is_default))
        .plain("isActive", &old.map(|row| row.is_active), &Some(new.is_active));
    numbers.into_iter().fold(flags, |changes, (name, field)| {
        changes.plain(name, &old.map(field), &Some(field(new)))
    })
}

/// A function has one default model: the flag moves, the price versions stay as they are.
async fn drop_other_defaults(txn: &db::Txn, change: &PriceChange) -> Result<()> {
    let sql = "UPDATE ai_function_prices SET is_default = FALSE
               WHERE function_type = $1 AND model <> $2 AND is_default = TRUE";
    let values = vec![change.function.as_str().into(), change.model.clone().into()];
    db::execute(&**txn, sql, values).await?;
    Ok(())
}

fn row_of(
    change: PriceChange,
    (version, is_default): (i32, bool),
    now: DateTime<Utc>,
) -> function_price::Model {
    let [tier_1_tokens, tier_2_tokens, tier_3_tokens] = change.tier_tokens;
    let [tier_1_per_mille, tier_2_per_mille, tier_3_per_mille, tier_4_per_mille] = change.per_mille;
    function_price::Model {
        id: PriceId::new(),
        function_type: change.function,
        model: change.model,
        version,
        is_default,
        is_active: change.is_active,
        base_credits: change.base_credits,
        tier_1_tokens,
        tier_2_tokens,
        tier_3_tokens,
        tier_1_per_mille,
        tier_2_per_mille,
        tier_3_per_mille,
        tier_4_per_mille,
        rate_limit_credits: change.rate_limit_credits,
        created_at: now,
    }
}

fn check(change: &PriceChange) -> Result<()> {
    let mut violations = Vec::new();
    let mut refuse = |field: &str, ja: &str, en: &str| {
        violations.push(Violation::new(field, ja, en));
    };
    if change.model.is_empty() || change.model.len() > 100 {
        refuse("input.model", "1〜100文字で指定してください。", "must have 1 to 100 characters");
    }
    if !(0..=1_000_000).contains(&change.base_credits) {
        refuse("input.baseCredits", "0〜1,000,000で指定してください。", "must be 0 to 1 000 000");
    }
    if !(0..=1_000_000).contains(&change.rate_limit_credits) {
        let en = "must be 0 to 1 000 000";
        refuse("input.rateLimitCredits", "0〜1,000,000で指定してください。", en);
    }
    let rises = |values: &[i64]| values.windows(2).all(|pair| pair.first() <= pair.last());
    if !rises(&change.tier_tokens) || change.tier_tokens.iter().any(|tokens| *tokens < 0) {
        refuse("input.tierTokens", "0以上の昇順で指定してください。", "must rise from 0 on");
    }
    let in_range = change.per_mille.iter().all(|value| (0..=1_000_000).contains(value));
    if !rises(&change.per_mille) || !in_range {
        let en = "must rise, 0 to 1 000 000 thousandths";
        refuse("input.multipliersPerMille", "0〜1,000,000の昇順で指定してください。", en);
    }
    if violations.is_empty() { Ok(()) } else { Err(Error::Invalid(violations)) }
}

/// Prices' versions.
pub async fn prices_of(
    app: &App,
    actor: &Actor,
    ids: &[PriceId],
) -> Result<Vec<function_price::Model>> {
    actor.require(Permission::AiExecute)?;
    let found = function_price::Entity::find()
        .filter(function_price::Column::Id.is_in(ids.iter().copied()));
    Ok(found.all(app.db.primary()).await?)
}
