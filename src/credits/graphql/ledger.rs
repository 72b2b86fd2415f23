//! The ledger, grants and resets in the API.

use std::collections::HashMap;

use async_graphql::dataloader::Loader;
use async_graphql::{Context, Description, Enum, ID, InputObject, Object, Result};

use crate::ai::graphql::AiExecution;
use crate::credits::graphql::{AiFunctionType, PlanType};
use crate::credits::service::lookup;
use crate::entity::{credit_draw, credit_grant, credit_transaction, monthly_reset};
use crate::graphql::filter::{
    DateTimeFilter, EnumFilter, IdFilter, IntFilter, Nested, Terms, Where,
};
use crate::graphql::loader::{LoadError, Source, grouped, load};
use crate::graphql::node::Node;
use crate::graphql::page::OrderField;
use crate::graphql::payload::int;
use crate::graphql::scalars::{Date, DateTime, Decimal, Money};
use crate::identity::graphql::{User, load_user};
use crate::ids::{ExecutionId, GrantId, ResetId, TransactionId, UserId};
use crate::loads;
use crate::money;

/// Why the balance moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "credit_transaction::TransactionType")]
pub enum CreditTransactionType {
    /// A run was charged.
    Usage,
    /// Credits were bought.
    Purchase,
    /// A month's free credits came: at the opening, at a reset or by an upgrade.
    MonthlyReset,
    /// Credits were given.
    Bonus,
    /// An execution's credits were given back.
    Refund,
    /// Credits expired, or were not carried over into the next month.
    Expiry,
    /// A purchase was refunded, or (with a positive sign) its refund failed.
    PurchaseRefund,
    /// A payment was disputed.
    Dispute,
    /// A dispute was won and its credits came back.
    DisputeWon,
}

/// Where credits came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "credit_grant::GrantKind")]
pub enum CreditGrantKind {
    /// A month's free credits of the plan.
    Free,
    /// Bought.
    Purchased,
    /// Given.
    Bonus,
    /// Given back for an execution.
    Refund,
}

/// A line of the ledger. Lines are never changed or removed.
#[derive(Description)]
pub struct CreditTransaction(pub credit_transaction::Model);

#[Object(use_type_description)]
impl CreditTransaction {
    /// The line's id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// Why the balance moved.
    #[graphql(name = "type")]
    async fn kind(&self) -> CreditTransactionType {
        self.0.transaction_type.into()
    }

    /// Credits that came (positive) or went (negative).
    async fn credits(&self) -> i32 {
        int(self.0.credits_amount)
    }

    /// The balance after this line.
    async fn balance_after(&self) -> i32 {
        int(self.0.balance_after)
    }

    /// The account's version that this line made: the order of the ledger.
    async fn version(&self) -> i32 {
        int(self.0.version)
    }

    /// The function that ran.
    async fn function_type(&self) -> Option<AiFunctionType> {
        self.0.ai_function_type.map(AiFunctionType::from)
    }

    /// The call that was charged or refunded; null when the caller may not see it.
    async fn execution(&self, ctx: &Context<'_>) -> Result<Option<AiExecution>> {
        let Some(id) = self.0.execution_id else { return Ok(None) };
        Ok(load(ctx, id).await?.map(AiExecution))
    }

    /// Wall time of the run in milliseconds.
    async fn execution_time_ms(&self) -> Option<i32> {
        self.0.execution_time_ms.map(int)
    }

    /// What one of these credits had cost in yen, two decimals.
    async fn cost_per_credit(&self) -> Option<Decimal> {
        let cost = self.0.total_cost_yen?;
        money::ratio(cost, self.0.credits_amount.abs(), 2).map(Decimal)
    }

    /// What these credits had cost.
    async fn total_cost(&self) -> Option<Money> {
        self.0.total_cost_yen.map(|yen| Money(money::Money::yen(yen)))
    }

    /// Who caused it.
    async fn user(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        let Some(id) = self.0.user_id else { return Ok(None) };
        load_user(ctx, id).await
    }

    /// A note on it.
    async fn description(&self) -> Option<&str> {
        self.0.description.as_deref()
    }

    /// What it refers to: the grant that came or went, or the execution.
    async fn reference(&self, ctx: &Context<'_>) -> Result<Option<Node>> {
        if let Some(id) = self.0.grant_id {
            return Ok(load(ctx, id).await?.map(|grant| CreditGrant(grant).into()));
        }
        let Some(id) = self.0.execution_id else { return Ok(None) };
        Ok(load(ctx, id).await?.map(|row| AiExecution(row).into()))
    }

    /// Which grants paid for the run; empty for lines that are no charge.
    async fn draws(&self, ctx: &Context<'_>) -> Result<Vec<CreditDraw>> {
        let draws = load(ctx, DrawsOf(self.0.id)).await?.unwrap_or_default();
        Ok(draws.into_iter().map(CreditDraw).collect())
    }

    /// When it was written.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }
}

/// What a charge took from one grant.
#[derive(Description)]
pub struct CreditDraw(credit_draw::Model);

#[Object(use_type_description)]
impl CreditDraw {
    /// The grant.
    async fn grant(&self, ctx: &Context<'_>) -> Result<Option<CreditGrant>> {
        Ok(load(ctx, self.0.grant_id).await?.map(CreditGrant))
    }

    /// Credits taken.
    async fn credits(&self) -> i32 {
        int(self.0.credits)
    }

    /// What these credits had cost.
    async fn cost(&self) -> Money {
        Money(money::Money::yen(self.0.cost))
    }

    /// Of them, credits that were given back.
    async fn returned(&self) -> i32 {
        int(self.0.returned)
    }
}

/// Credits that came in together.
#[derive(Description)]
pub struct CreditGrant(pub credit_grant::Model);

#[Object(use_type_description)]
impl CreditGrant {
    /// The grant's id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// Where they came from.
    async fn kind(&self) -> CreditGrantKind {
        self.0.kind.into()
    }

    /// Credits that came.
    async fn granted(&self) -> i32 {
        int(self.0.granted)
    }

    /// Credits that are left.
    async fn remaining(&self) -> i32 {
        int(self.0.remaining)
    }

    /// What was paid for the whole grant.
    async fn price(&self) -> Money {
        Money(money::Money::yen(self.0.price_minor))
    }

    /// When what is left expires; null when it does not.
    async fn expires_at(&self) -> Option<DateTime> {
        self.0.expires_at.map(DateTime)
    }

    /// A note on it.
    async fn description(&self) -> Option<&str> {
        self.0.description.as_deref()
    }

    /// When they came.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }
}

/// A month's reset.
#[derive(Description)]
pub struct MonthlyReset(pub monthly_reset::Model);

#[Object(use_type_description)]
impl MonthlyReset {
    /// The reset's id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The first day of the month.
    async fn reset_date(&self) -> Date {
        Date(self.0.reset_date)
    }

    /// The plan that it was made on.
    async fn plan_type(&self) -> PlanType {
        self.0.plan_type.into()
    }

    /// The balance before it.
    async fn previous_balance(&self) -> i32 {
        int(self.0.previous_balance)
    }

    /// Free credits that it brought.
    async fn free_credits_added(&self) -> i32 {
        int(self.0.free_credits_added)
    }

    /// Unused free credits that stayed.
    async fn carried_over_credits(&self) -> i32 {
        int(self.0.carried_over_credits)
    }

    /// Credits charged in the month before.
    async fn total_usage_previous_month(&self) -> i32 {
        int(self.0.total_usage_previous_month)
    }

    /// The function that used the most credits in the month before.
    async fn most_used_function(&self) -> Option<AiFunctionType> {
        self.0.most_used_function.map(AiFunctionType::from)
    }

    /// The efficiency score of the month before, 0 to 100; null when nothing ran.
    async fn efficiency_score(&self) -> Option<Decimal> {
        self.0.efficiency_score.map(|score| Decimal(rust_decimal::Decimal::new(score, 2)))
    }

    /// When it was applied.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }
}

/// What the ledger can be sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum CreditTransactionOrderField {
    /// The order in which lines were written.
    Sequence,
    /// When they were written.
    CreatedAt,
    /// Signed credits.
    Credits,
    /// What the credits had cost; lines without a cost come last.
    TotalCost,
}

impl OrderField for CreditTransactionOrderField {
    type Entity = credit_transaction::Entity;

    fn column(self) -> credit_transaction::Column {
        match self {
            Self::Sequence => credit_transaction::Column::Version,
            Self::CreatedAt => credit_transaction::Column::CreatedAt,
            Self::Credits => credit_transaction::Column::CreditsAmount,
            Self::TotalCost => credit_transaction::Column::TotalCostYen,
        }
    }
}

/// What resets can be sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum MonthlyResetOrderField {
    /// The month.
    ResetDate,
}

impl OrderField for MonthlyResetOrderField {
    type Entity = monthly_reset::Entity;

    fn column(self) -> monthly_reset::Column {
        match self {
            Self::ResetDate => monthly_reset::Column::ResetDate,
        }
    }
}

/// Which lines of the ledger to list. All that is given must hold.
#[derive(Clone, Debug, Default, InputObject)]
pub struct CreditTransactionWhere {
    /// By id.
    pub id: Option<IdFilter>,
    /// By the reason.
    #[graphql(name = "type")]
    pub kind: Option<EnumFilter<CreditTransactionType>>,
    /// By the function that ran.
    pub function_type: Option<EnumFilter<AiFunctionType>>,
    /// By the person who caused it.
    pub user_id: Option<IdFilter>,
    /// By the execution.
    pub execution_id: Option<IdFilter>,
    /// By signed credits.
    pub credits: Option<IntFilter>,
    /// By the time of writing.
    pub created_at: Option<DateTimeFilter>,
    /// All of these.
    #[graphql(name = "AND")]
    pub and: Option<Vec<CreditTransactionWhere>>,
    /// Any of these.
    #[graphql(name = "OR")]
    pub or: Option<Vec<CreditTransactionWhere>>,
    /// Not this.
    #[graphql(name = "NOT")]
    pub not: Option<Box<CreditTransactionWhere>>,
}

impl Where for CreditTransactionWhere {
    fn terms(self, terms: &mut Terms) -> Nested<Self> {
        use credit_transaction::Column;
        terms.id::<TransactionId>("id", Column::Id, self.id);
        terms.add("type", Column::TransactionType, self.kind);
        terms.add("functionType", Column::AiFunctionType, self.function_type);
        terms.id::<UserId>("userId", Column::UserId, self.user_id);
        terms.id::<ExecutionId>("executionId", Column::ExecutionId, self.execution_id);
        terms.add("credits", Column::CreditsAmount, self.credits);
        terms.add("createdAt", Column::CreatedAt, self.created_at);
        Nested { and: self.and, or: self.or, not: self.not }
    }
}

/// Key of the draws of a ledger line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DrawsOf(TransactionId);

impl Loader<DrawsOf> for Source {
    type Value = Vec<credit_draw::Model>;
    type Error = LoadError;

    async fn load(
        &self,
        keys: &[DrawsOf],
    ) -> std::result::Result<HashMap<DrawsOf, Self::Value>, LoadError> {
        // Lines reach a resolver only through their account, which was judged there.
        let lines: Vec<TransactionId> = keys.iter().map(|key| key.0).collect();
        let rows = lookup::draws_of(&self.app, &lines).await?;
        Ok(grouped(rows, |row| DrawsOf(row.transaction_id)))
    }
}

loads! {
    GrantId => credit_grant::Model, lookup::grants;
    TransactionId => credit_transaction::Model, lookup::transactions;
    ResetId => monthly_reset::Model, lookup::resets_of;
}
