//! Typed filters and the conditions that they mean.
//!
//! A domain declares its input and says which column stands behind which field:
//!
//! ```ignore
//! impl Where for CreditTransactionWhere {
//!     fn terms(self, terms: &mut Terms) -> Nested<Self> {
//!         terms.id::<TransactionId>("id", Column::Id, self.id);
//!         terms.add("type", Column::TransactionType, self.kind);
//!         terms.add("createdAt", Column::CreatedAt, self.created_at);
//!         Nested { and: self.and, or: self.or, not: self.not }
//!     }
//! }
//! ```

mod terms;

use std::borrow::Cow;

use async_graphql::{ID, InputObject, InputType, TypeName};
use sea_orm::Value;
use sea_orm::sea_query::ExprTrait as _;

use crate::graphql::scalars::{Date, DateTime};
pub use terms::{Operand, Terms, condition};
use terms::{Sameness, literally};

/// Compares a text. All operators given must hold; one left out or null filters nothing.
#[derive(Clone, Debug, Default, InputObject)]
pub struct StringFilter {
    /// Is exactly this.
    pub eq: Option<String>,
    /// Is not exactly this; entries without a value are included.
    pub ne: Option<String>,
    /// Is one of these; an empty list matches nothing.
    #[graphql(name = "in")]
    pub one_of: Option<Vec<String>>,
    /// Is none of these; entries without a value are included, an empty list matches everything.
    #[graphql(name = "notIn")]
    pub none_of: Option<Vec<String>>,
    /// Has this somewhere. The case of the letters A to Z does not matter.
    pub contains: Option<String>,
    /// Begins with this. The case of the letters A to Z does not matter.
    pub starts_with: Option<String>,
    /// Whether the value is absent.
    pub is_null: Option<bool>,
}

/// Compares an id. All operators given must hold; one left out or null filters nothing.
#[derive(Clone, Debug, Default, InputObject)]
pub struct IdFilter {
    /// Is this.
    pub eq: Option<ID>,
    /// Is not this; entries without a value are included.
    pub ne: Option<ID>,
    /// Is one of these; an empty list matches nothing.
    #[graphql(name = "in")]
    pub one_of: Option<Vec<ID>>,
    /// Is none of these; entries without a value are included, an empty list matches everything.
    #[graphql(name = "notIn")]
    pub none_of: Option<Vec<ID>>,
    /// Whether the value is absent.
    pub is_null: Option<bool>,
}

/// Compares a whole number. All operators given must hold; one left out or null filters nothing.
#[derive(Clone, Debug, Default, InputObject)]
pub struct IntFilter {
    /// Is this.
    pub eq: Option<i32>,
    /// Is not this; entries without a value are included.
    pub ne: Option<i32>,
    /// Is one of these; an empty list matches nothing.
    #[graphql(name = "in")]
    pub one_of: Option<Vec<i32>>,
    /// Is none of these; entries without a value are included, an empty list matches everything.
    #[graphql(name = "notIn")]
    pub none_of: Option<Vec<i32>>,
    /// Is greater.
    pub gt: Option<i32>,
    /// Is this or greater.
    pub gte: Option<i32>,
    /// Is less.
    pub lt: Option<i32>,
    /// Is this or less.
    pub lte: Option<i32>,
    /// Whether the value is absent.
    pub is_null: Option<bool>,
}

/// Compares an instant. All operators given must hold; one left out or null filters nothing.
#[derive(Clone, Debug, Default, InputObject)]
pub struct DateTimeFilter {
    /// Is this.
    pub eq: Option<DateTime>,
    /// Is not this; entries without a value are included.
    pub ne: Option<DateTime>,
    /// Is later.
    pub gt: Option<DateTime>,
    /// Is this or later.
    pub gte: Option<DateTime>,
    /// Is earlier.
    pub lt: Option<DateTime>,
    /// Is this or earlier.
    pub lte: Option<DateTime>,
    /// Whether the value is absent.
    pub is_null: Option<bool>,
}

/// Compares a day. All operators given must hold; one left out or null filters nothing.
#[derive(Clone, Debug, Default, InputObject)]
pub struct DateFilter {
    /// Is this.
    pub eq: Option<Date>,
    /// Is not this; entries without a value are included.
    pub ne: Option<Date>,
    /// Is later.
    pub gt: Option<Date>,
    /// Is this or later.
    pub gte: Option<Date>,
    /// Is earlier.
    pub lt: Option<Date>,
    /// Is this or earlier.
    pub lte: Option<Date>,
    /// Whether the value is absent.
    pub is_null: Option<bool>,
}

// Its GraphQL name is the enum's with `Filter`. The enum's GraphQL names must be what the column
// stores, as `text_enum!` has it.
/// Compares a kind. All operators given must hold; one left out or null filters nothing.
#[derive(Clone, Debug, InputObject)]
#[graphql(name_type)]
pub struct EnumFilter<E: InputType> {
    /// Is this.
    pub eq: Option<E>,
    /// Is not this; entries without a value are included.
    pub ne: Option<E>,
    /// Is one of these; an empty list matches nothing.
    #[graphql(name = "in")]
    pub one_of: Option<Vec<E>>,
    /// Is none of these; entries without a value are included, an empty list matches everything.
    #[graphql(name = "notIn")]
    pub none_of: Option<Vec<E>>,
    /// Whether the value is absent.
    pub is_null: Option<bool>,
}

impl<E: InputType> TypeName for EnumFilter<E> {
    fn type_name() -> Cow<'static, str> {
        format!("{}Filter", E::type_name()).into()
    }
}

/// The input behind an argument `where`. All its fields must hold.
pub trait Where: Sized {
    /// Adds a term for each field and hands out the filters within.
    fn terms(self, terms: &mut Terms) -> Nested<Self>;
}

/// The filters within a filter. Say so in their descriptions: `AND: []` matches everything,
/// `OR: []` nothing, and `NOT` also matches where a value is absent.
#[derive(Debug)]
pub struct Nested<W> {
    /// The field `AND`: each of them holds.
    pub and: Option<Vec<W>>,
    /// The field `OR`: one of them holds.
    pub or: Option<Vec<W>>,
    /// The field `NOT`: it does not hold.
    pub not: Option<Box<W>>,
}

/// A typed filter of one column, as an input object or a plain value.
pub trait Filter {
    /// Adds what the filter demands of the column.
    fn demand(self, of: &Operand, terms: &mut Terms);
}

impl Filter for StringFilter {
    fn demand(self, of: &Operand, terms: &mut Terms) {
        let Self { eq, ne, one_of, none_of, is_null, contains, starts_with } = self;
        let sameness = Sameness { eq, ne, one_of, none_of, is_null };
        terms.sameness(of, sameness, Terms::read_text);
        for (name, text, front) in [("contains", contains, "%"), ("startsWith", starts_with, "")] {
            if let Some(Value::String(Some(text))) = terms.one(name, text, Terms::read_text) {
                terms.like(of, format!("{front}{}%", literally(&text)));
            }
        }
    }
}

impl Filter for IntFilter {
    fn demand(self, of: &Operand, terms: &mut Terms) {
        let Self { eq, ne, one_of, none_of, gt, gte, lt, lte, is_null } = self;
        let sameness = Sameness { eq, ne, one_of, none_of, is_null };
        terms.sameness(of, sameness, |_, number| Some(i64::from(number).into()));
        terms.range(of, [gt, gte, lt, lte].map(|bound| bound.map(i64::from)));
    }
}

impl Filter for DateTimeFilter {
    fn demand(self, of: &Operand, terms: &mut Terms) {
        let Self { eq, ne, gt, gte, lt, lte, is_null } = self;
        let sameness = Sameness { eq, ne, one_of: None, none_of: None, is_null };
        terms.sameness(of, sameness, |_, instant| Some(instant.0.into()));
        terms.range(of, [gt, gte, lt, lte].map(|bound| bound.map(|instant| instant.0)));
    }
}

impl Filter for DateFilter {
    fn demand(self, of: &Operand, terms: &mut Terms) {
        let Self { eq, ne, gt, gte, lt, lte, is_null } = self;
        let sameness = Sameness { eq, ne, one_of: None, none_of: None, is_null };
        terms.sameness(of, sameness, |_, date| Some(date.0.into()));
        terms.range(of, [gt, gte, lt, lte].map(|bound| bound.map(|date| date.0)));
    }
}

impl<E: InputType> Filter for EnumFilter<E> {
    fn demand(self, of: &Operand, terms: &mut Terms) {
        let Self { eq, ne, one_of, none_of, is_null } = self;
        let sameness = Sameness { eq, ne, one_of, none_of, is_null };
        terms.sameness(of, sameness, |_, kind| match kind.to_value() {
            async_graphql::Value::Enum(name) => Some(name.as_str().into()),
            _ => None,
        });
    }
}

/// A kind that the column holds as whether it is this one of two.
pub struct Whether<E: InputType> {
    /// What is demanded of the kind.
    pub filter: EnumFilter<E>,
    /// The one that is true in the column.
    pub is: E,
}

impl<E: InputType + PartialEq> Filter for Whether<E> {
    fn demand(self, of: &Operand, terms: &mut Terms) {
        let EnumFilter { eq, ne, one_of, none_of, is_null } = self.filter;
        let sameness = Sameness { eq, ne, one_of, none_of, is_null };
        terms.sameness(of, sameness, |_, kind| Some((kind == self.is).into()));
    }
}

/// A plain Boolean: the column is this.
impl Filter for bool {
    fn demand(self, of: &Operand, terms: &mut Terms) {
        terms.demand(of.column.clone().eq(self));
    }
}
