//! Relay pages over a select, by keyset: one statement for a page, one more when `totalCount` is
//! selected.
//!
//! A domain names the columns that its list can be sorted by, and walks one straight line:
//!
//! ```ignore
//! let page = List::new(db, credits::transactions(&caller.app, actor, account)?, DEFAULT_ORDER)
//!     .filter(filter)
//!     .order(order_by)
//!     .page(PageArgs { first, after, last, before })
//!     .await?;
//! Ok(page.map(CreditTransaction))
//! ```

mod cursor;
mod keyset;

use std::borrow::Cow;

use async_graphql::{
    Enum, InputObject, InputType, Object, OutputType, SimpleObject, TypeName, Value,
};
use sea_orm::sea_query::{Asterisk, Expr, Func, Query, SelectStatement};
use sea_orm::{
    ColumnTrait, ConnectionTrait as _, DatabaseConnection, EntityTrait, Iterable as _, ModelTrait,
    PrimaryKeyToColumn as _, QueryFilter as _, QuerySelect as _, QueryTrait as _, Select,
};

use crate::error::{Error, Result, Violation};
use crate::graphql::filter::{self, Where};
use crate::graphql::payload::int;
use cursor::{Cell, Kind};
use keyset::{Key, Side};

/// Entries of a page when the caller names no number.
const PAGE_DEFAULT: i32 = 25;
/// Entries of a page at most.
const PAGE_MAX: i32 = 100;
/// Entries of an export at most.
const BULK_MAX: i32 = 1_000;
/// Fields of an `orderBy` at most.
const ORDER_MAX: usize = 4;

/// The paging arguments as the caller gave them. `first: 0` is refused: such a page could not
/// say truthfully whether there is a next one.
#[derive(Clone, Debug, Default)]
pub struct PageArgs {
    /// So many from the front; 25 when neither this nor `last` is given.
    pub first: Option<i32>,
    /// Only what follows this cursor.
    pub after: Option<String>,
    /// So many from the back.
    pub last: Option<i32>,
    /// Only what precedes this cursor.
    pub before: Option<String>,
}

/// The direction of a sort. Entries without a value come last in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum OrderDirection {
    /// From the smallest, the oldest, A to Z.
    Asc,
    /// From the largest, the newest, Z to A.
    Desc,
}

/// A field that a list can be sorted by: a GraphQL enum named `…OrderField`. Columns may be
/// booleans, integers, text, enums as text, UUIDs, days and instants, nullable or not; whether
/// a column is nullable is read from its definition.
pub trait OrderField: InputType + Copy + PartialEq {
    /// The entity that is listed.
    type Entity: EntityTrait;
    /// The column behind the field.
    fn column(self) -> <Self::Entity as EntityTrait>::Column;
}

/// A field to sort by and its direction. The id breaks ties.
#[derive(Clone, Copy, Debug, InputObject)]
#[graphql(name_type)]
pub struct Order<F: OrderField> {
    /// The field to sort by.
    pub field: F,
    /// The direction.
    #[graphql(default_with = "OrderDirection::Asc")]
    pub direction: OrderDirection,
}

impl<F: OrderField> TypeName for Order<F> {
    fn type_name() -> Cow<'static, str> {
        let field = F::type_name();
        field.strip_suffix("Field").unwrap_or(&field).to_owned().into()
    }
}

/// A list on its way to a page. Collects all that is wrong with the arguments.
#[derive(Debug)]
pub struct List<'a, F: OrderField> {
    db: &'a DatabaseConnection,
    select: Select<F::Entity>,
    order: Vec<(F, OrderDirection)>,
    violations: Vec<Violation>,
}

impl<'a, F: OrderField> List<'a, F> {
    /// What `select` finds (scoped and permitted by the service), in this order when the caller
    /// names none.
    pub fn new(
        db: &'a DatabaseConnection,
        select: Select<F::Entity>,
        order: &[(F, OrderDirection)],
    ) -> Self {
        Self { db, select, order: order.to_vec(), violations: Vec::new() }
    }

    /// Only what the argument `where` lets through.
    pub fn filter(mut self, filter: Option<impl Where>) -> Self {
        match filter::condition(filter, self.db.get_database_backend()) {
            Ok(condition) => self.select = self.select.filter(condition),
            Err(violations) => self.violations.extend(violations),
        }
        self
    }

    /// Sorted by the argument `orderBy`; an empty list is as good as none.
    pub fn order(mut self, order_by: Option<Vec<Order<F>>>) -> Self {
        let order_by = order_by.unwrap_or_default();
        if order_by.len() > ORDER_MAX {
            let ja = format!("並べ替えは{ORDER_MAX}項目までです。");
            let en = format!("Sort by at most {ORDER_MAX} fields.");
            self.violations.push(Violation::new("orderBy", ja, en));
        }
        for (place, order) in order_by.iter().enumerate().take(ORDER_MAX) {
            if order_by.iter().take(place).any(|earlier| earlier.field == order.field) {
                let path = format!("orderBy.{place}.field");
                let ja = "同じ項目で二度並べ替えることはできません。";
                self.violations.push(Violation::new(&path, ja, "Name each field once."));
            }
        }
        if !order_by.is_empty() {
            self.order = order_by.iter().map(|order| (order.field, order.direction)).collect();
        }
        self
    }

    /// Reads the page, or refuses with everything that was wrong.
    pub async fn page(mut self, args: PageArgs) -> Result<Page<<F::Entity as EntityTrait>::Model>> {
        let walk = self.size(&args);
        self.walk(args, walk).await
    }

    /// A larger page from the front, for use elsewhere: 1 to 1000 entries.
    pub async fn in_bulk(
        mut self,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<Page<<F::Entity as EntityTrait>::Model>> {
        let size = self.checked(("first", first.unwrap_or(BULK_MAX)), BULK_MAX);
        self.walk(PageArgs { first, after, ..PageArgs::default() }, (Side::After, size)).await
    }

    async fn walk(
        mut self,
        args: PageArgs,
        (side, size): (Side, u16),
    ) -> Result<Page<<F::Entity as EntityTrait>::Model>> {
        let keys = keys(&self.order)?;
        let sort = signature(&self.order);
        let after = self.place("after", args.after.as_deref(), &sort, &keys);
        let before = self.place("before", args.before.as_deref(), &sort, &keys);
        if !self.violations.is_empty() {
            return Err(Error::Invalid(self.violations));
        }
        let on = self.db.get_database_backend();
        let count = Count { db: self.db.clone(), rows: ids_of(&self.select) };
        let mut select = self.select;
        for (cells, side) in [(&after, Side::After), (&before, Side::Before)] {
            if let Some(cells) = cells {
                select = select.filter(keyset::beyond(&keys, cells, side, on));
            }
        }
        let limit = u64::from(size) + 1;
        let mut rows = keyset::sort(select, &keys, side, on).limit(limit).all(self.db).await?;
        let has_more = rows.len() > usize::from(size);
        rows.truncate(usize::from(size));
        if side == Side::Before {
            rows.reverse();
        }
        let columns = columns(&self.order);
        let entries = rows.into_iter().map(|row| Ok((cursor_of(&row, &columns, &sort)?, row)));
        // Beyond a cursor there was at least the entry that it was taken from.
        let (has_next, has_previous) = match side {
            Side::After => (has_more || before.is_some(), after.is_some()),
            Side::Before => (before.is_some(), has_more || after.is_some()),
        };
        Ok(Page { entries: entries.collect::<Result<_>>()?, has_next, has_previous, count })
    }

    /// The end to walk to and the entries wanted.
    fn size(&mut self, args: &PageArgs) -> (Side, u16) {
        let (name, number, side) = match (args.first, args.last) {
            (Some(_), Some(_)) => {
                let ja = "firstとlastは同時に指定できません。";
                let en = "Name either first or last.";
                self.violations.push(Violation::new("last", ja, en));
                return (Side::After, 0);
            }
            (None, Some(last)) => ("last", last, Side::Before),
            (first, None) => ("first", first.unwrap_or(PAGE_DEFAULT), Side::After),
        };
        (side, self.checked((name, number), PAGE_MAX))
    }

    fn checked(&mut self, (name, number): (&str, i32), max: i32) -> u16 {
        match u16::try_from(number) {
            Ok(size) if (1..=max).contains(&number) => size,
            Ok(_) | Err(_) => {
                let ja = format!("1から{max}までの数を指定してください。");
                let en = format!("Ask for 1 to {max} entries.");
                self.violations.push(Violation::new(name, ja, en));
                0
            }
        }
    }

    fn place(
        &mut self,
        name: &str,
        text: Option<&str>,
        sort: &str,
        keys: &[Key],
    ) -> Option<Vec<Cell>> {
        let columns: Vec<_> = keys.iter().map(|key| (key.kind, key.is_nullable)).collect();
        let cells = cursor::decode(text?, sort, &columns);
        if cells.is_none() {
            let ja = "このカーソルは、この並び順の一覧のものではありません。";
            let en = "This is not a cursor of this list in this order.";
            self.violations.push(Violation::new(name, ja, en));
        }
        cells
    }
}

/// The order's columns, then the primary key in the direction of the last of them.
fn columns<F: OrderField>(
    order: &[(F, OrderDirection)],
) -> Vec<(<F::Entity as EntityTrait>::Column, OrderDirection)> {
    let tie_break = order.last().map_or(OrderDirection::Asc, |(_, direction)| *direction);
    let named = order.iter().map(|(field, direction)| (field.column(), *direction));
    let id = <F::Entity as EntityTrait>::PrimaryKey::iter();
    named.chain(id.map(|key| (key.into_column(), tie_break))).collect()
}

fn keys<F: OrderField>(order: &[(F, OrderDirection)]) -> Result<Vec<Key>> {
    let keys = columns(order).into_iter().map(|(column, direction)| {
        type Model<F> = <<F as OrderField>::Entity as EntityTrait>::Model;
        let kind = Kind::of(&<Model<F> as ModelTrait>::get_value_type(column));
        Ok(Key {
            column: column.into_expr(),
            kind: kind.ok_or_else(|| unsortable(&column))?,
            is_nullable: column.def().is_null(),
            is_descending: direction == OrderDirection::Desc,
        })
    });
    keys.collect()
}

/// Names the sort, so that a cursor of another one is refused.
fn signature<F: OrderField>(order: &[(F, OrderDirection)]) -> String {
    let mut signature = F::type_name().into_owned();
    for (field, direction) in order {
        let sign = match direction {
            OrderDirection::Asc => '+',
            OrderDirection::Desc => '-',
        };
        if let Value::Enum(name) = field.to_value() {
            signature.push(sign);
            signature.push_str(&name);
        }
    }
    signature
}

fn cursor_of<M: ModelTrait>(
    row: &M,
    columns: &[(<M::Entity as EntityTrait>::Column, OrderDirection)],
    sort: &str,
) -> Result<String> {
    let cells = columns
        .iter()
        .map(|(column, _)| Cell::of(row.get(*column)).ok_or_else(|| unsortable(column)));
    Ok(cursor::encode(sort, &cells.collect::<Result<Vec<_>>>()?)?)
}

fn unsortable(column: &impl ColumnTrait) -> Error {
    Error::broken(format!("no list can be sorted by {column:?}"))
}

/// The ids of all rows of a select, to be counted.
fn ids_of<E: EntityTrait>(select: &Select<E>) -> SelectStatement {
    let mut rows = select.as_query().clone();
    rows.clear_selects().clear_order_by();
    rows.exprs(E::PrimaryKey::iter().map(|key| key.into_column().into_expr()));
    rows
}

/// One page of rows with their cursors.
#[derive(Debug)]
pub struct Page<M> {
    entries: Vec<(String, M)>,
    has_next: bool,
    has_previous: bool,
    count: Count,
}

#[derive(Debug)]
struct Count {
    db: DatabaseConnection,
    rows: SelectStatement,
}

impl<M> Page<M> {
    /// The page as a field answers it, each row made a node by `node`.
    pub fn map<T: OutputType>(self, node: impl Fn(M) -> T) -> Connection<T> {
        let edges = self.entries.into_iter();
        Connection {
            edges: edges.map(|(cursor, row)| Edge { cursor, node: node(row) }).collect(),
            has_next_page: self.has_next,
            has_previous_page: self.has_previous,
            count: self.count,
        }
    }

    /// Whether entries follow this page.
    pub fn has_next(&self) -> bool {
        self.has_next
    }

    /// The cursor of the last entry; none when the page is empty.
    pub fn end_cursor(&self) -> Option<String> {
        self.entries.last().map(|(cursor, _)| cursor.clone())
    }

    /// The rows, for what has to be loaded for all of them at once.
    pub fn rows(&self) -> impl Iterator<Item = &M> {
        self.entries.iter().map(|(_, row)| row)
    }
}

/// A page of a list. Its GraphQL name is the node's with `Connection`.
#[derive(Debug)]
pub struct Connection<T: OutputType> {
    edges: Vec<Edge<T>>,
    has_next_page: bool,
    has_previous_page: bool,
    count: Count,
}

impl<T: OutputType> TypeName for Connection<T> {
    fn type_name() -> Cow<'static, str> {
        format!("{}Connection", T::type_name()).into()
    }
}

/// A page of a list.
#[Object(name_type)]
impl<T: OutputType> Connection<T> {
    /// The entries of this page with their cursors.
    async fn edges(&self) -> &[Edge<T>] {
        &self.edges
    }

    /// The entries of this page.
    async fn nodes(&self) -> Vec<&T> {
        self.edges.iter().map(|edge| &edge.node).collect()
    }

    /// Where this page lies in the list.
    async fn page_info(&self) -> PageInfo {
        PageInfo {
            has_next_page: self.has_next_page,
            has_previous_page: self.has_previous_page,
            start_cursor: self.edges.first().map(|edge| edge.cursor.clone()),
            end_cursor: self.edges.last().map(|edge| edge.cursor.clone()),
        }
    }

    /// The number of entries on all pages together. Counted only when selected.
    async fn total_count(&self) -> async_graphql::Result<i32> {
        Ok(int(self.count.run().await?))
    }
}

impl Count {
    async fn run(&self) -> Result<i64> {
        let total = Func::count(Expr::col(Asterisk));
        let mut query = Query::select();
        query.expr_as(total, "total").from_subquery(self.rows.clone(), "counted");
        let row = self.db.query_one(&query).await?;
        Ok(row.map_or(Ok(0), |row| row.try_get("", "total"))?)
    }
}

/// An entry of a page.
#[derive(Debug, SimpleObject)]
#[graphql(name_type)]
pub struct Edge<T: OutputType> {
    /// The entry's place in the list, for `after` and `before`. Opaque; only for the same order.
    cursor: String,
    /// The entry.
    node: T,
}

impl<T: OutputType> TypeName for Edge<T> {
    fn type_name() -> Cow<'static, str> {
        format!("{}Edge", T::type_name()).into()
    }
}

/// Where a page lies in its list.
#[derive(Clone, Debug, PartialEq, Eq, SimpleObject)]
pub struct PageInfo {
    /// Whether entries follow this page.
    pub has_next_page: bool,
    /// Whether entries precede this page.
    pub has_previous_page: bool,
    /// The cursor of the first entry; null when the page is empty.
    pub start_cursor: Option<String>,
    /// The cursor of the last entry; null when the page is empty.
    pub end_cursor: Option<String>,
}
