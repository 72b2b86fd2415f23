//! The pass over the parsed document: each fragment is weighed once and its weight reused.

mod faults;
mod fragments;

use std::collections::HashMap;

use async_graphql::parser::types::{
    DocumentOperations, ExecutableDocument, Field, OperationDefinition, OperationType, Selection,
    SelectionSet,
};
use async_graphql::{Name, Pos, Positioned, Value, Variables};

use super::conflicts::refuse_conflicts;
use super::table::{CostTable, FieldInfo, Page, page_size};
use super::variables::{Argument, Bound, arguments_of_directive, arguments_of_field};
use super::{Limits, Refusal, values};
use faults::Faults;
use fragments::Fragments;

/// What the chosen operation of a document weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    /// Objects read, times the sizes of the lists they stand in; a root field of a mutation
    /// counts 10, introspection nothing.
    pub cost: usize,
    /// Nesting of fields, fragments expanded, without what lies below `__schema` and `__type`.
    pub depth: usize,
    /// Root fields, fragments expanded.
    pub root_fields: usize,
    /// Aliases, fragments expanded.
    pub aliases: usize,
    /// Fields, spreads and inline fragments of all operations, fragments expanded.
    pub selections: usize,
    /// Nodes of the document that were looked at to know all this; never more than it has.
    pub visited: usize,
    /// Selections that were looked at in search of conflicting fields: a selection counts once for
    /// each selection set that it becomes part of.
    pub compared: usize,
    /// Whether the operation asks for `__schema` or `__type`.
    pub introspects: bool,
    /// Query, mutation or subscription.
    pub kind: OperationType,
}

impl Weight {
    /// Whether the operation changes something; GET must refuse it.
    pub fn is_mutation(&self) -> bool {
        self.kind == OperationType::Mutation
    }

    /// Whether the operation answers with a stream.
    pub fn is_subscription(&self) -> bool {
        self.kind == OperationType::Subscription
    }
}

/// Weighs every operation of the document and judges the values of the chosen one.
///
/// Linear in the document plus its variables: a fragment is weighed once, sums saturate. (Only
/// the search for conflicting fields reads a fragment once for each selection set that spreads
/// it; [`Limits::comparisons`] ends it.) Unknown fields, types and fragments are left to the
/// validator, which names them all, unless there are too many. Call [`super::scan`] on the text
/// before parsing it; the recursion here relies on the bracket depth it has bounded.
///
/// # Errors
///
/// The first limit passed, a fragment cycle, conflicting fields, an operation that cannot be
/// determined, or a value that does not fit its type.
pub fn weigh(
    document: &ExecutableDocument,
    operation_name: Option<&str>,
    variables: &Variables,
    table: &CostTable,
    limits: &Limits,
) -> Result<Weight, Refusal> {
    let chosen = choose(document, operation_name)?;
    let bound = Bound::new(&chosen.node, variables, limits)?;
    let faults = Faults::default();
    let mut scales = Scales { table, bound: &bound, memo: HashMap::new(), visited: 0, faults };
    let fragments = Fragments::of(document);
    for name in fragments.in_order()? {
        scales.weigh_fragment(document, name);
    }
    let mut total = Tally::default();
    let mut weighed = Tally::default();
    // The library walks these too, before it says that nobody spreads them.
    for name in fragments.that_nobody_spreads() {
        total.add(&scales.memo.get(name.as_str()).copied().unwrap_or_default());
    }
    let pos = Some(chosen.pos);
    total.refuse(pos, limits)?;
    for (_, operation) in document.operations.iter() {
        let root = table.root(operation.node.ty);
        let tally = scales.weigh_set(&operation.node.selection_set.node, Some(root));
        total.add(&tally);
        refuse_shape(operation, &tally, &total, limits)?;
        if std::ptr::eq(operation, chosen) {
            weighed = tally;
        }
    }
    if weighed.cost > limits.cost {
        return Err(Refusal::TooCostly { pos });
    }
    scales.faults.refuse(limits)?;
    let compared = refuse_conflicts(document, limits)?;
    values::judge(document, &chosen.node, &bound, table)?;
    Ok(Weight {
        cost: weighed.cost,
        depth: weighed.depth,
        root_fields: weighed.fields,
        aliases: weighed.aliases,
        selections: total.selections,
        visited: scales.visited,
        compared,
        introspects: weighed.introspections > 0,
        kind: chosen.node.ty,
    })
}

pub(super) fn choose<'a>(
    document: &'a ExecutableDocument,
    name: Option<&str>,
) -> Result<&'a Positioned<OperationDefinition>, Refusal> {
    match (&document.operations, name) {
        (DocumentOperations::Single(operation), None) => Ok(operation),
        (DocumentOperations::Single(_), Some(_)) => Err(Refusal::OperationNotFound),
        (DocumentOperations::Multiple(operations), Some(name)) => {
            operations.get(name).ok_or(Refusal::OperationNotFound)
        }
        (DocumentOperations::Multiple(operations), None) => {
            let mut all = operations.values();
            match (all.next(), all.next()) {
                (Some(only), None) => Ok(only),
                (Some(_), Some(_)) => Err(Refusal::OperationNameRequired),
                (None, _) => Err(Refusal::OperationNotFound),
            }
        }
    }
}

// Every operation must keep to these, not only the chosen one: the library walks them all.
fn refuse_shape(
    operation: &Positioned<OperationDefinition>,
    tally: &Tally,
    total: &Tally,
    limits: &Limits,
) -> Result<(), Refusal> {
    let pos = Some(operation.pos);
    total.refuse(pos, limits)?;
    let is_too_deep =
        tally.depth > limits.depth || tally.introspection_depth > limits.introspection_depth;
    if is_too_deep {
        return Err(Refusal::TooDeep { pos });
    }
    if tally.aliases > limits.aliases {
        return Err(Refusal::TooManyAliases { pos });
    }
    if tally.fields > limits.root_fields || tally.introspections > limits.introspections {
        return Err(Refusal::TooManyRootFields { pos });
    }
    let is_stream = operation.node.ty == OperationType::Subscription;
    // The library has no such rule; it opens a stream for each field.
    if is_stream && (tally.fields != 1 || tally.has_meta_field) {
        return Err(Refusal::SubscriptionRootFields { pos });
    }
    Ok(())
}

/// The sums of one selection set, fragments expanded.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    cost: usize,
    depth: usize,
    introspection_depth: usize,
    /// Selection sets, one in the other, whatever they belong to.
    levels: usize,
    aliases: usize,
    /// Fields of this set itself.
    fields: usize,
    selections: usize,
    literals: usize,
    values: usize,
    has_meta_field: bool,
    /// `__schema` and `__type` themselves.
    introspections: usize,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.cost = self.cost.saturating_add(other.cost);
        self.depth = self.depth.max(other.depth);
        self.introspection_depth = self.introspection_depth.max(other.introspection_depth);
        self.levels = self.levels.max(other.levels);
        self.aliases = self.aliases.saturating_add(other.aliases);
        self.fields = self.fields.saturating_add(other.fields);
        self.selections = self.selections.saturating_add(other.selections);
        self.literals = self.literals.saturating_add(other.literals);
        self.values = self.values.saturating_add(other.values);
        self.has_meta_field |= other.has_meta_field;
        self.introspections = self.introspections.saturating_add(other.introspections);
    }

    fn refuse(&self, pos: Option<Pos>, limits: &Limits) -> Result<(), Refusal> {
        if self.selections > limits.selections {
            return Err(Refusal::TooManySelections { pos });
        }
        if self.values > limits.values || self.literals > limits.literals {
            return Err(Refusal::TooManyValues { pos });
        }
        if self.levels > limits.levels {
            return Err(Refusal::TooDeep { pos });
        }
        Ok(())
    }
}

struct Scales<'a> {
    table: &'a CostTable,
    bound: &'a Bound<'a>,
    memo: HashMap<&'a str, Tally>,
    visited: usize,
    faults: Faults,
}

impl<'a> Scales<'a> {
    fn weigh_fragment(&mut self, document: &'a ExecutableDocument, name: &'a Name) {
        if let Some(fragment) = document.fragments.get(name) {
            let on = fragment.node.type_condition.node.on.node.as_str();
            let tally = self.weigh_set(&fragment.node.selection_set.node, Some(on));
            self.memo.insert(name, tally);
        }
    }

    fn weigh_set(&mut self, set: &SelectionSet, parent: Option<&str>) -> Tally {
        let mut sum = Tally::default();
        for selection in &set.items {
            self.visited += 1;
            sum.selections = sum.selections.saturating_add(1);
            for directive in selection.node.directives() {
                self.faults.look_at_directive(directive, self.table);
                self.add_arguments(&mut sum, &arguments_of_directive(&directive.node));
            }
            let tally = match &selection.node {
                Selection::Field(field) => self.weigh_field(field, parent),
                Selection::InlineFragment(inline) => {
                    self.faults.look_at_inline(inline, self.table);
                    let condition = inline.node.type_condition.as_ref();
                    let on = condition.map_or(parent, |on| Some(on.node.on.node.as_str()));
                    self.weigh_set(&inline.node.selection_set.node, on)
                }
                Selection::FragmentSpread(spread) => {
                    let name = spread.node.fragment_name.node.as_str();
                    let known = self.memo.get(name).copied();
                    known.unwrap_or_else(|| {
                        self.faults.unknown_fragment(name, spread.pos);
                        Tally::default()
                    })
                }
            };
            sum.add(&tally);
        }
        sum.levels += usize::from(!set.items.is_empty());
        sum
    }

    fn weigh_field(&mut self, positioned: &Positioned<Field>, parent: Option<&str>) -> Tally {
        let field = &positioned.node;
        let name = field.name.node.as_str();
        let table = self.table;
        let info = parent.and_then(|parent| table.find_field(parent, name));
        match info {
            Some(info) => self.faults.look_at(positioned, info, table),
            None => self.faults.unknown_field(positioned, parent, table),
        }
        let inner =
            self.weigh_set(&field.selection_set.node, info.map(|info| info.returns.as_str()));
        let arguments = arguments_of_field(field);
        let mut tally = Tally {
            fields: 1,
            aliases: inner.aliases.saturating_add(usize::from(field.alias.is_some())),
            has_meta_field: name.starts_with("__"),
            ..inner
        };
        self.add_arguments(&mut tally, &arguments);
        if matches!(name, "__schema" | "__type") {
            let introspection_depth = inner.depth.max(inner.introspection_depth) + 1;
            let introspections = inner.introspections.saturating_add(1);
            return Tally { cost: 0, depth: 1, introspection_depth, introspections, ..tally };
        }
        let is_object = !field.selection_set.node.items.is_empty();
        let own = info.map_or(usize::from(is_object), |info| info.cost);
        let times = info.map_or(1, |info| self.count_entries(info, &arguments));
        let cost = own.saturating_add(inner.cost.saturating_mul(times));
        Tally { cost, depth: inner.depth + 1, ..tally }
    }

    fn add_arguments(&self, tally: &mut Tally, arguments: &[Argument<'_>]) {
        for argument in arguments {
            tally.values = tally.values.saturating_add(self.bound.count(&argument.value));
            tally.literals = tally.literals.saturating_add(argument.size());
        }
    }

    fn count_entries(&self, info: &FieldInfo, arguments: &[Argument<'_>]) -> usize {
        let find = |name: &str| {
            let argument = arguments.iter().find(|argument| argument.name == name)?;
            self.bound.resolve(&argument.value)
        };
        match info.page {
            Page::Fixed(times) => times,
            Page::Asked(default) => {
                let asked = ["first", "last"].into_iter().filter_map(find).filter_map(page_size);
                asked.max().unwrap_or(default)
            }
            Page::Ids => match find("ids") {
                Some(Value::List(ids)) => ids.len(),
                Some(_) | None => 1,
            },
        }
    }
}
