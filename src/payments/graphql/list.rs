//! How purchases are listed: what they can be sorted and filtered by.

use async_graphql::{Enum, InputObject};

use crate::entity::credit_purchase;
use crate::graphql::filter::{
    DateTimeFilter, EnumFilter, IdFilter, IntFilter, Nested, Terms, Where,
};
use crate::graphql::page::OrderField;
use crate::ids::{PackageId, PurchaseId};
use crate::payments::graphql::purchase::{PaymentStatus, PurchaseSource};

/// What purchases can be sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum CreditPurchaseOrderField {
    /// When they were begun.
    CreatedAt,
    /// When their credits came; others come last.
    CompletedAt,
    /// Credits.
    Credits,
}

impl OrderField for CreditPurchaseOrderField {
    type Entity = credit_purchase::Entity;

    fn column(self) -> credit_purchase::Column {
        match self {
            Self::CreatedAt => credit_purchase::Column::CreatedAt,
            Self::CompletedAt => credit_purchase::Column::CompletedAt,
            Self::Credits => credit_purchase::Column::Credits,
        }
    }
}

/// Which purchases to list. All that is given must hold.
#[derive(Clone, Debug, Default, InputObject)]
pub struct CreditPurchaseWhere {
    /// By id.
    pub id: Option<IdFilter>,
    /// By the package.
    pub package_id: Option<IdFilter>,
    /// By where they stand.
    pub status: Option<EnumFilter<PaymentStatus>>,
    /// By where they were begun.
    pub source: Option<EnumFilter<PurchaseSource>>,
    /// By credits.
    pub credits: Option<IntFilter>,
    /// By the time of their beginning.
    pub created_at: Option<DateTimeFilter>,
    /// All of these.
    #[graphql(name = "AND")]
    pub and: Option<Vec<CreditPurchaseWhere>>,
    /// Any of these.
    #[graphql(name = "OR")]
    pub or: Option<Vec<CreditPurchaseWhere>>,
    /// Not this.
    #[graphql(name = "NOT")]
    pub not: Option<Box<CreditPurchaseWhere>>,
}

impl Where for CreditPurchaseWhere {
    fn terms(self, terms: &mut Terms) -> Nested<Self> {
        use credit_purchase::Column;
        terms.id::<PurchaseId>("id", Column::Id, self.id);
        terms.id::<PackageId>("packageId", Column::PackageId, self.package_id);
        terms.add("status", Column::Status, self.status);
        terms.add("source", Column::Source, self.source);
        terms.add("credits", Column::Credits, self.credits);
        terms.add("createdAt", Column::CreatedAt, self.created_at);
        Nested { and: self.and, or: self.or, not: self.not }
    }
}
