//! Counts what the library would report, one error for each: thousands help nobody.

use async_graphql::parser::types::{Directive, Field, InlineFragment};
use async_graphql::{Pos, Positioned};

use super::super::table::{CostTable, FieldInfo};
use super::super::{Limits, Refusal, excerpt};

/// Unknown names and misplaced selections, in the order of the walk.
#[derive(Default)]
pub(super) struct Faults {
    count: usize,
    first: Option<(String, Pos)>,
}

impl Faults {
    /// Refuses when there are more than a person reads.
    pub(super) fn refuse(self, limits: &Limits) -> Result<(), Refusal> {
        match self.first {
            Some((first, pos)) if self.count > limits.errors => {
                Err(Refusal::TooManyErrors { first, pos: Some(pos) })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Looks at a field of a type that has it: its arguments, and whether it may select.
    pub(super) fn look_at(
        &mut self,
        field: &Positioned<Field>,
        info: &FieldInfo,
        table: &CostTable,
    ) {
        let Field { name, arguments, selection_set, .. } = &field.node;
        let is_unknown = |argument: &&str| !info.arguments.contains_key(*argument);
        let names = arguments.iter().map(|(name, _)| name.node.as_str());
        // Of known names, those beyond the number of arguments are there twice.
        let excess = arguments.len().saturating_sub(info.arguments.len());
        let wrong = names.filter(is_unknown).count().max(excess);
        self.add(wrong, field.pos, || format!("Unknown argument of \"{}\"", excerpt(&name.node)));
        let has_fields = table.is_output(&info.returns);
        if has_fields == selection_set.node.items.is_empty() {
            let what = if has_fields { "must" } else { "must not" };
            let name = excerpt(&name.node);
            self.add(1, field.pos, || format!("Field \"{name}\" {what} have a selection"));
        }
    }

    /// Notes a field that its type, when that is known, does not have.
    pub(super) fn unknown_field(
        &mut self,
        field: &Positioned<Field>,
        parent: Option<&str>,
        table: &CostTable,
    ) {
        let name = field.node.name.node.as_str();
        let parent = parent.filter(|parent| !name.starts_with("__") && table.is_output(parent));
        if let Some(parent) = parent {
            let what = || format!("Unknown field \"{}\" on type \"{parent}\"", excerpt(name));
            self.add(1, field.pos, what);
        }
    }

    /// Notes a spread of a fragment that the document does not have.
    pub(super) fn unknown_fragment(&mut self, name: &str, pos: Pos) {
        self.add(1, pos, || format!("Unknown fragment \"{}\"", excerpt(name)));
    }

    /// Looks at the type of an inline fragment.
    pub(super) fn look_at_inline(
        &mut self,
        inline: &Positioned<InlineFragment>,
        table: &CostTable,
    ) {
        let Some(condition) = &inline.node.type_condition else { return };
        let on = condition.node.on.node.as_str();
        // The types of introspection are in no schema's text.
        if !on.starts_with("__") && !table.is_output(on) {
            self.add(1, inline.pos, || format!("No object has the type \"{}\"", excerpt(on)));
        }
    }

    /// Looks at the name of a directive.
    pub(super) fn look_at_directive(
        &mut self,
        directive: &Positioned<Directive>,
        table: &CostTable,
    ) {
        let name = directive.node.name.node.as_str();
        if table.find_directive(name).is_none() {
            self.add(1, directive.pos, || format!("Unknown directive \"{}\"", excerpt(name)));
        }
    }

    fn add(&mut self, count: usize, pos: Pos, what: impl FnOnce() -> String) {
        self.count += count;
        if count > 0 && self.first.is_none() {
            self.first = Some((what(), pos));
        }
    }
}
