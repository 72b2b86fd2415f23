//! The terms of a filter while they are gathered, and the condition that they make.

use async_graphql::ID;
use sea_orm::sea_query::{BinOper, Expr, ExprTrait as _, Func, LikeExpr};
use sea_orm::{ColumnTrait, Condition, DbBackend, Value};

use super::{Filter, IdFilter, Nested, Where};
use crate::error::{Code, Violation};
use crate::ids::TypedId;

/// Levels of `AND`, `OR` and `NOT` within each other at most.
const LEVELS_MAX: usize = 4;
/// Entries of a list at most.
const LIST_MAX: usize = 250;
/// Labels in one operator at most.
const LABELS_MAX: usize = 10;
/// Operators of a whole filter at most; SQLite bounds the depth of an expression at 1 000.
const OPERATORS_MAX: usize = 250;
/// Values of a whole filter at most; the databases bound the parameters of a statement.
const VALUES_MAX: usize = 5_000;
/// Characters of a text at most.
const TEXT_MAX: usize = 1_000;
/// Violations that are named at most.
const VIOLATIONS_MAX: usize = 20;

/// Marks a wildcard as an ordinary character in `LIKE`.
const ESCAPE: char = '!';

/// The condition that the argument `where` means, or all that is wrong with it.
pub fn condition(
    filter: Option<impl Where>,
    backend: DbBackend,
) -> Result<Condition, Vec<Violation>> {
    let mut terms = Terms::new(backend);
    let demanded = filter.map(|filter| terms.at("where", |terms| terms.all_of(filter, 0)));
    if terms.operators > OPERATORS_MAX || terms.values > VALUES_MAX {
        let ja = "絞り込みの条件が多すぎます。";
        terms.violations.push(Violation::new("where", ja, "The filter has too many terms."));
    }
    if terms.violations.is_empty() {
        Ok(demanded.into_iter().fold(Condition::all(), Condition::add))
    } else {
        Err(terms.violations)
    }
}

/// A column that is compared.
#[derive(Clone, Debug)]
pub struct Operand {
    pub(super) column: Expr,
    is_nullable: bool,
}

/// The terms of a filter while they are gathered.
#[derive(Debug)]
pub struct Terms {
    backend: DbBackend,
    path: Vec<String>,
    demands: Vec<Expr>,
    violations: Vec<Violation>,
    operators: usize,
    values: usize,
}

impl Terms {
    /// The field `name` filters this column.
    pub fn add(&mut self, name: &str, column: impl ColumnTrait, filter: Option<impl Filter>) {
        let Some(filter) = filter else { return };
        self.at(name, |terms| filter.demand(&operand(&column), terms));
    }

    /// The field `name` filters this column, whose ids are of the kind `T`.
    pub fn id<T: TypedId>(
        &mut self,
        name: &str,
        column: impl ColumnTrait,
        filter: Option<IdFilter>,
    ) {
        let Some(IdFilter { eq, ne, one_of, none_of, is_null }) = filter else { return };
        let sameness = Sameness { eq, ne, one_of, none_of, is_null };
        self.at(name, |terms| terms.sameness(&operand(&column), sameness, Self::read_id::<T>));
    }

    /// The operator `name` of `field` takes labels, of which the entity makes a condition.
    pub fn labels(
        &mut self,
        (field, name): (&str, &str),
        labels: Option<Vec<String>>,
        condition: impl FnOnce(Vec<String>) -> Condition,
    ) {
        let Some(labels) = labels else { return };
        self.values += labels.len();
        let inside = |terms: &mut Self| {
            // PostgreSQL refuses a text with NUL.
            if labels.len() > LABELS_MAX || labels.iter().any(|label| label.contains('\0')) {
                let ja = format!("ラベルは{LABELS_MAX}個まで指定できます。");
                let en = format!("Name at most {LABELS_MAX} labels, none of them with NUL.");
                terms.refuse(Code::InvalidInput, ja, en);
            } else {
                terms.demand(condition(labels).into());
            }
        };
        self.at(field, |terms| terms.at(name, inside));
    }

    fn new(backend: DbBackend) -> Self {
        let (path, demands, violations) = (Vec::new(), Vec::new(), Vec::new());
        Self { backend, path, demands, violations, operators: 0, values: 0 }
    }

    /// What the filter and all within it demand together.
    fn all_of<W: Where>(&mut self, filter: W, level: usize) -> Expr {
        self.operators += 1;
        let outer = std::mem::take(&mut self.demands);
        let Nested { and, or, not } = filter.terms(self);
        if let Some(and) = and {
            let each = self.at("AND", |terms| terms.each_of(and, level + 1));
            self.demands.push(each.into_iter().fold(Condition::all(), Condition::add).into());
        }
        if let Some(or) = or {
            let each = self.at("OR", |terms| terms.each_of(or, level + 1));
            self.demands.push(each.into_iter().fold(Condition::any(), Condition::add).into());
        }
        if let Some(not) = not {
            let inner = self.at("NOT", |terms| terms.within(*not, level + 1));
            self.demands.extend(inner.map(not_true));
        }
        let demands = std::mem::replace(&mut self.demands, outer);
        demands.into_iter().fold(Condition::all(), Condition::add).into()
    }

    fn each_of<W: Where>(&mut self, filters: Vec<W>, level: usize) -> Vec<Expr> {
        let filters = self.bounded(filters).into_iter().enumerate();
        filters
            .filter_map(|(place, filter)| {
                self.at(&place.to_string(), |terms| terms.within(filter, level))
            })
            .collect()
    }

    fn within<W: Where>(&mut self, filter: W, level: usize) -> Option<Expr> {
        if level <= LEVELS_MAX {
            return Some(self.all_of(filter, level));
        }
        let ja = format!("条件の入れ子は{LEVELS_MAX}段までです。");
        let en = format!("Nest conditions at most {LEVELS_MAX} levels deep.");
        self.refuse(Code::InvalidInput, ja, en);
        None
    }

    /// The operators that every type has.
    pub(super) fn sameness<V>(
        &mut self,
        of: &Operand,
        given: Sameness<V>,
        read: impl Fn(&mut Self, V) -> Option<Value> + Copy,
    ) {
        if let Some(value) = self.one("eq", given.eq, read) {
            self.demand(of.column.clone().eq(value));
        }
        if let Some(value) = self.one("ne", given.ne, read) {
            self.demand(of.or_absent(of.column.clone().ne(value)));
        }
        if let Some(values) = self.list("in", given.one_of, read) {
            self.demand(of.column.clone().is_in(values));
        }
        if let Some(values) = self.list("notIn", given.none_of, read)
            && !values.is_empty()
        {
            self.demand(of.or_absent(of.column.clone().is_not_in(values)));
        }
        match given.is_null {
            Some(true) => self.demand(of.column.clone().is_null()),
            Some(false) => self.demand(of.column.clone().is_not_null()),
            None => {}
        }
    }

    pub(super) fn range<V: Into<Value>>(
        &mut self,
        of: &Operand,
        [gt, gte, lt, lte]: [Option<V>; 4],
    ) {
        let column = || of.column.clone();
        let demands = [
            gt.map(|value| column().gt(value.into())),
            gte.map(|value| column().gte(value.into())),
            lt.map(|value| column().lt(value.into())),
            lte.map(|value| column().lte(value.into())),
        ];
        for demand in demands.into_iter().flatten() {
            self.values += 1;
            self.demand(demand);
        }
    }

    /// Matches `pattern` against the column, both in lower case. SQLite lowers the letters A to Z
    /// only; PostgreSQL does the same under the collation "C".
    pub(super) fn like(&mut self, of: &Operand, pattern: String) {
        let column = match self.backend {
            DbBackend::Postgres => {
                of.column.clone().binary(BinOper::Custom("COLLATE"), Expr::custom_keyword("\"C\""))
            }
            _ => of.column.clone(),
        };
        let pattern = LikeExpr::new(pattern).escape(ESCAPE);
        self.demand(Expr::expr(Func::lower(column)).like(pattern));
    }

    pub(super) fn one<V>(
        &mut self,
        name: &str,
        value: Option<V>,
        read: impl Fn(&mut Self, V) -> Option<Value>,
    ) -> Option<Value> {
        let value = value?;
        self.values += 1;
        self.at(name, |terms| read(terms, value))
    }

    fn list<V>(
        &mut self,
        name: &str,
        values: Option<Vec<V>>,
        read: impl Fn(&mut Self, V) -> Option<Value>,
    ) -> Option<Vec<Value>> {
        let values = values?;
        self.values += values.len();
        self.at(name, |terms| {
            let values = terms.bounded(values).into_iter().enumerate();
            // A value that cannot be read leaves a violation, and the condition is not used.
            let read = values.filter_map(|(place, value)| {
                terms.at(&place.to_string(), |terms| read(terms, value))
            });
            Some(read.collect())
        })
    }

    /// The list, or nothing of it when it is too long.
    fn bounded<V>(&mut self, values: Vec<V>) -> Vec<V> {
        if values.len() <= LIST_MAX {
            return values;
        }
        let ja = format!("{LIST_MAX}件まで指定できます。");
        self.refuse(Code::InvalidInput, ja, format!("Name at most {LIST_MAX} entries."));
        Vec::new()
    }

    pub(super) fn read_text(&mut self, text: String) -> Option<Value> {
        // PostgreSQL refuses a text with NUL.
        if text.contains('\0') || text.chars().count() > TEXT_MAX {
            let ja = format!("{TEXT_MAX}文字までの文字列を指定してください。");
            let en = format!("Write at most {TEXT_MAX} characters, none of them NUL.");
            self.refuse(Code::InvalidInput, ja, en);
            return None;
        }
        Some(text.into())
    }

    fn read_id<T: TypedId>(&mut self, id: ID) -> Option<Value> {
        let parsed = T::parse(&id).ok();
        if parsed.is_none() {
            let ja = "IDの形式が正しくありません。";
            self.refuse(Code::InvalidId, ja, "This is not an id of that kind.");
        }
        parsed.map(|id| id.uuid().into())
    }

    pub(super) fn demand(&mut self, demand: Expr) {
        self.operators += 1;
        self.demands.push(demand);
    }

    fn refuse(&mut self, code: Code, ja: impl Into<String>, en: impl Into<String>) {
        if self.violations.len() < VIOLATIONS_MAX {
            let field = self.path.clone();
            self.violations.push(Violation { field, ja: ja.into(), en: en.into(), code });
        }
    }

    /// Runs `inside` with the path one step longer.
    fn at<R>(&mut self, step: &str, inside: impl FnOnce(&mut Self) -> R) -> R {
        self.path.push(step.to_owned());
        let result = inside(self);
        self.path.pop();
        result
    }
}

impl Operand {
    /// The demand, or no value at all.
    fn or_absent(&self, demand: Expr) -> Expr {
        if self.is_nullable { demand.or(self.column.clone().is_null()) } else { demand }
    }
}

pub(super) struct Sameness<V> {
    pub(super) eq: Option<V>,
    pub(super) ne: Option<V>,
    pub(super) one_of: Option<Vec<V>>,
    pub(super) none_of: Option<Vec<V>>,
    pub(super) is_null: Option<bool>,
}

pub(super) fn literally(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '%' | '_' | ESCAPE) {
            pattern.push(ESCAPE);
        }
        pattern.push(character.to_ascii_lowercase());
    }
    pattern
}

/// Holds wherever the demand does not, also where it is unknown for want of a value.
fn not_true(demand: Expr) -> Expr {
    demand.binary(BinOper::Custom("IS NOT"), Expr::custom_keyword("TRUE"))
}

fn operand(column: &impl ColumnTrait) -> Operand {
    Operand { column: column.into_expr(), is_nullable: column.def().is_null() }
}
