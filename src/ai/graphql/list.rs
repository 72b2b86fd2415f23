//! How executions are listed: what they can be sorted and filtered by.

use async_graphql::{Enum, InputObject};

use crate::ai::graphql::execution::AiExecutionStatus;
use crate::ai::service::history;
use crate::credits::graphql::AiFunctionType;
use crate::entity::execution;
use crate::graphql::filter::{
    DateTimeFilter, EnumFilter, IdFilter, IntFilter, Nested, StringFilter, Terms, Where,
};
use crate::graphql::page::OrderField;
use crate::ids::{ExecutionId, UserId};

/// What executions can be sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum AiExecutionOrderField {
    /// When they were started.
    CreatedAt,
    /// When they ended; running ones come last.
    FinishedAt,
    /// Credits charged.
    CreditsUsed,
    /// Wall time of the run; running ones come last.
    ExecutionTimeMs,
}

impl OrderField for AiExecutionOrderField {
    type Entity = execution::Entity;

    fn column(self) -> execution::Column {
        match self {
            Self::CreatedAt => execution::Column::CreatedAt,
            Self::FinishedAt => execution::Column::FinishedAt,
            Self::CreditsUsed => execution::Column::CreditsUsed,
            Self::ExecutionTimeMs => execution::Column::ExecutionTimeMs,
        }
    }
}

/// Compares an execution's labels. All operators given must hold.
#[derive(Clone, Debug, Default, InputObject)]
pub struct AiTagFilter {
    /// Has this label.
    has: Option<String>,
    /// Has one of these labels, at most 10; an empty list matches nothing.
    has_any: Option<Vec<String>>,
}

/// Which executions to list. All that is given must hold.
#[derive(Clone, Debug, Default, InputObject)]
pub struct AiExecutionWhere {
    /// By id.
    pub id: Option<IdFilter>,
    /// By the client's key.
    pub idempotency_key: Option<StringFilter>,
    /// By function.
    pub function_type: Option<EnumFilter<AiFunctionType>>,
    /// By where they stand.
    pub status: Option<EnumFilter<AiExecutionStatus>>,
    /// By model.
    pub model: Option<StringFilter>,
    /// By the person for whom they run.
    pub user_id: Option<IdFilter>,
    /// By credits charged.
    pub credits_used: Option<IntFilter>,
    /// By the time of their start.
    pub created_at: Option<DateTimeFilter>,
    /// By labels.
    pub tags: Option<AiTagFilter>,
    /// All of these.
    #[graphql(name = "AND")]
    pub and: Option<Vec<AiExecutionWhere>>,
    /// Any of these.
    #[graphql(name = "OR")]
    pub or: Option<Vec<AiExecutionWhere>>,
    /// Not this.
    #[graphql(name = "NOT")]
    pub not: Option<Box<AiExecutionWhere>>,
}

impl Where for AiExecutionWhere {
    fn terms(self, terms: &mut Terms) -> Nested<Self> {
        use execution::Column;
        terms.id::<ExecutionId>("id", Column::Id, self.id);
        terms.add("idempotencyKey", Column::IdempotencyKey, self.idempotency_key);
        terms.add("functionType", Column::FunctionType, self.function_type);
        terms.add("status", Column::Status, self.status);
        terms.add("model", Column::Model, self.model);
        terms.id::<UserId>("userId", Column::UserId, self.user_id);
        terms.add("creditsUsed", Column::CreditsUsed, self.credits_used);
        terms.add("createdAt", Column::CreatedAt, self.created_at);
        let labels = self.tags.unwrap_or_default();
        terms.labels(("tags", "has"), labels.has.map(|tag| vec![tag]), history::tagged);
        terms.labels(("tags", "hasAny"), labels.has_any, history::tagged);
        Nested { and: self.and, or: self.or, not: self.not }
    }
}
