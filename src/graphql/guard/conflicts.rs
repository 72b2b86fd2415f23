//! Stops at the first response key with two meanings.
//!
//! The library reports every pair: one field with hundreds of arguments beside thousands of
//! repetitions makes a few KB of text fill memory with error messages. The rule here is the
//! library's own (`OverlappingFieldsCanBeMerged`), so it refuses nothing that would have run.

use std::collections::{HashMap, HashSet};

use async_graphql::Positioned;
use async_graphql::parser::types::{ExecutableDocument, Field, Selection, SelectionSet};

use super::{Limits, Refusal};

/// Looks at every selection set of the document together with the fragments it spreads, as the
/// library does, and returns how many fields it compared. A field counts once for each of the
/// nested fragments that it stands in, so both are stopped by a limit of their own.
pub(super) fn refuse_conflicts(
    document: &ExecutableDocument,
    limits: &Limits,
) -> Result<usize, Refusal> {
    let operations = document.operations.iter().map(|(_, operation)| &operation.node.selection_set);
    let fragments = document.fragments.values().map(|fragment| &fragment.node.selection_set);
    let mut sets: Vec<&SelectionSet> = operations.chain(fragments).map(|set| &set.node).collect();
    let mut compared = 0;
    while let Some(set) = sets.pop() {
        let mut keys = Keys::new(document, limits, compared);
        keys.add_set(None, set)?;
        compared = keys.compared;
        sets.extend(set.items.iter().filter_map(|selection| match &selection.node {
            Selection::Field(field) => Some(&field.node.selection_set.node),
            Selection::InlineFragment(inline) => Some(&inline.node.selection_set.node),
            Selection::FragmentSpread(_) => None,
        }));
    }
    Ok(compared)
}

struct Keys<'a> {
    document: &'a ExecutableDocument,
    limits: &'a Limits,
    compared: usize,
    seen: HashMap<(Option<&'a str>, &'a str), &'a Field>,
    visited: HashSet<&'a str>,
}

impl<'a> Keys<'a> {
    fn new(document: &'a ExecutableDocument, limits: &'a Limits, compared: usize) -> Self {
        Self { document, limits, compared, seen: HashMap::new(), visited: HashSet::new() }
    }

    fn add_set(&mut self, on: Option<&'a str>, set: &'a SelectionSet) -> Result<(), Refusal> {
        // A stack of our own: a chain of fragments may be as long as the document.
        let mut open = vec![(on, set.items.iter())];
        while let Some((on, mut items)) = open.pop() {
            let Some(selection) = items.next() else {
                continue;
            };
            open.push((on, items));
            self.compared += 1;
            if self.compared > self.limits.comparisons {
                return Err(Refusal::TooManySelections { pos: Some(selection.pos) });
            }
            match &selection.node {
                Selection::Field(field) => self.add_field(on, field)?,
                Selection::InlineFragment(inline) => {
                    let condition = inline.node.type_condition.as_ref();
                    let on = condition.map(|condition| condition.node.on.node.as_str());
                    open.push((on, inline.node.selection_set.node.items.iter()));
                }
                Selection::FragmentSpread(spread) => {
                    open.extend(self.enter_fragment(&spread.node.fragment_name.node));
                }
            }
        }
        Ok(())
    }

    fn enter_fragment(&mut self, name: &'a str) -> Option<Open<'a>> {
        let fragment = &self.document.fragments.get(name)?.node;
        let is_first_visit = self.visited.insert(name);
        let on = fragment.type_condition.node.on.node.as_str();
        is_first_visit.then(|| (Some(on), fragment.selection_set.node.items.iter()))
    }

    fn add_field(
        &mut self,
        on: Option<&'a str>,
        field: &'a Positioned<Field>,
    ) -> Result<(), Refusal> {
        let key = field.node.response_key().node.as_str();
        let known = *self.seen.entry((on, key)).or_insert(&field.node);
        if is_same(known, &field.node) {
            return Ok(());
        }
        Err(Refusal::FieldConflict { key: super::excerpt(key), pos: Some(field.pos) })
    }
}

type Open<'a> = (Option<&'a str>, std::slice::Iter<'a, Positioned<Selection>>);

fn is_same(known: &Field, field: &Field) -> bool {
    std::ptr::eq(known, field)
        || (known.name.node == field.name.node
            && known.arguments.len() == field.arguments.len()
            && known.arguments.iter().all(|(name, value)| {
                field.get_argument(&name.node).is_some_and(|other| other.node == value.node)
            }))
}
