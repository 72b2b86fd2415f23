//! The order of a list, and the rows beyond a place in it.
//!
//! Nulls come last in both directions on both databases. A column that cannot be null never meets
//! an `IS NULL`, and columns of one direction are compared as one row value, so that an index over
//! them serves the page.

use sea_orm::sea_query::{BinOper, Expr, ExprTrait as _, NullOrdering};
use sea_orm::{DbBackend, Order, QueryOrder, Value};

use super::cursor::{Cell, Kind};

/// One column of the order.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) column: Expr,
    pub(super) kind: Kind,
    pub(super) is_nullable: bool,
    pub(super) is_descending: bool,
}

/// The side of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// What follows it in the list.
    After,
    /// What precedes it.
    Before,
}

impl Key {
    /// What the databases sort and compare. Text goes byte by byte, because each database has
    /// another idea of an alphabet; on PostgreSQL an index for it needs `COLLATE "C"` too.
    fn comparable(&self, backend: DbBackend) -> Expr {
        let column = self.column.clone();
        if self.kind == Kind::Text && backend == DbBackend::Postgres {
            return column.binary(BinOper::Custom("COLLATE"), Expr::custom_keyword("\"C\""));
        }
        column
    }

    /// Whether values grow when one walks to that side.
    fn grows(&self, side: Side) -> bool {
        self.is_descending == (side == Side::Before)
    }
}

/// Sorts a select: in the list's order for a walk to [`Side::After`], else in the reverse.
pub(super) fn sort<S: QueryOrder>(select: S, keys: &[Key], side: Side, on: DbBackend) -> S {
    keys.iter().fold(select, |select, key| {
        let order = if key.grows(side) { Order::Asc } else { Order::Desc };
        let nulls = match side {
            Side::After => NullOrdering::Last,
            Side::Before => NullOrdering::First,
        };
        let column = key.comparable(on);
        if key.is_nullable {
            select.order_by_with_nulls(column, order, nulls)
        } else {
            select.order_by(column, order)
        }
    })
}

/// The rows strictly on that side of the place whose cells these are, one for each key.
pub(super) fn beyond(keys: &[Key], cells: &[Cell], side: Side, on: DbBackend) -> Expr {
    if let Some(row_value) = as_row_value(keys, cells, side, on) {
        return row_value;
    }
    let mut ways = Vec::new();
    let mut same: Vec<Expr> = Vec::new();
    for (key, cell) in keys.iter().zip(cells) {
        if let Some(strictly) = strictly_beyond(key, cell, side, on) {
            ways.push(all(same.iter().cloned().chain([strictly])));
        }
        same.push(match cell.value() {
            Some(value) => key.column.clone().eq(value),
            None => key.column.clone().is_null(),
        });
    }
    ways.into_iter()
        .reduce(|one, other| one.or(other))
        .unwrap_or_else(|| Expr::custom_keyword("FALSE"))
}

/// `(a, b, id) > (x, y, z)`, when no column can be null and all have one direction.
fn as_row_value(keys: &[Key], cells: &[Cell], side: Side, on: DbBackend) -> Option<Expr> {
    let first = keys.first()?;
    let is_uniform =
        keys.iter().all(|key| !key.is_nullable && key.is_descending == first.is_descending);
    if !is_uniform {
        return None;
    }
    let values: Option<Vec<Value>> = cells.iter().map(Cell::value).collect();
    let place = Expr::tuple(values?.into_iter().map(Expr::val));
    let row = Expr::tuple(keys.iter().map(|key| key.comparable(on)));
    Some(if first.grows(side) { row.gt(place) } else { row.lt(place) })
}

/// The rows that lie beyond by this column alone; `None` when there can be none.
fn strictly_beyond(key: &Key, cell: &Cell, side: Side, on: DbBackend) -> Option<Expr> {
    let Some(value) = cell.value() else {
        // Nulls are last: nothing follows them, and all else precedes them.
        return (side == Side::Before).then(|| key.column.clone().is_not_null());
    };
    let column = key.comparable(on);
    let further = if key.grows(side) { column.gt(value) } else { column.lt(value) };
    if key.is_nullable && side == Side::After {
        return Some(further.or(key.column.clone().is_null()));
    }
    Some(further)
}

fn all(parts: impl Iterator<Item = Expr>) -> Expr {
    parts.reduce(|one, other| one.and(other)).unwrap_or_else(|| Expr::custom_keyword("TRUE"))
}
