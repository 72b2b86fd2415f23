//! Which fragment spreads which.

use std::collections::{HashMap, HashSet};

use async_graphql::Name;
use async_graphql::parser::types::{ExecutableDocument, Selection, SelectionSet};

use super::super::{Refusal, excerpt};

/// The document's fragments with those that each spreads.
pub(super) struct Fragments<'a> {
    document: &'a ExecutableDocument,
    spreads: HashMap<&'a Name, Vec<&'a Name>>,
}

impl<'a> Fragments<'a> {
    pub(super) fn of(document: &'a ExecutableDocument) -> Self {
        let fragments = document.fragments.iter();
        let spreads = fragments
            .map(|(name, fragment)| (name, spreads_of(&fragment.node.selection_set.node)))
            .collect();
        Self { document, spreads }
    }

    /// Such that each follows those it spreads.
    pub(super) fn in_order(&self) -> Result<Vec<&'a Name>, Refusal> {
        let mut is_done: HashMap<&Name, bool> = HashMap::new();
        let mut order = Vec::with_capacity(self.spreads.len());
        let mut starts: Vec<&Name> = self.spreads.keys().copied().collect();
        starts.sort_unstable();
        for start in starts {
            let mut open = vec![start];
            while let Some(name) = open.last().copied() {
                let inner = self.spreads.get(name).map(Vec::as_slice).unwrap_or_default();
                // Looked at for the first time: what it spreads comes first.
                if !is_done.contains_key(name) {
                    is_done.insert(name, false);
                    if inner.iter().any(|inner| is_done.get(inner) == Some(&false)) {
                        return Err(self.cycle(name));
                    }
                    let unseen = |inner: &&Name| !is_done.contains_key(*inner);
                    open.extend(inner.iter().copied().filter(unseen));
                    continue;
                }
                open.pop();
                if is_done.insert(name, true) == Some(false) {
                    order.push(name);
                }
            }
        }
        Ok(order)
    }

    fn cycle(&self, name: &Name) -> Refusal {
        let pos = self.document.fragments.get(name).map(|fragment| fragment.pos);
        Refusal::FragmentCycle { name: excerpt(name), pos }
    }

    /// Neither an operation nor another fragment.
    pub(super) fn that_nobody_spreads(&self) -> impl Iterator<Item = &'a Name> {
        let mut spread: HashSet<&Name> = self.spreads.values().flatten().copied().collect();
        for (_, operation) in self.document.operations.iter() {
            spread.extend(spreads_of(&operation.node.selection_set.node));
        }
        self.spreads.keys().copied().filter(move |name| !spread.contains(name))
    }
}

fn spreads_of(set: &SelectionSet) -> Vec<&Name> {
    let mut found = Vec::new();
    let mut sets = vec![set];
    while let Some(set) = sets.pop() {
        for selection in &set.items {
            match &selection.node {
                Selection::Field(field) => sets.push(&field.node.selection_set.node),
                Selection::InlineFragment(inline) => sets.push(&inline.node.selection_set.node),
                Selection::FragmentSpread(spread) => found.push(&spread.node.fragment_name.node),
            }
        }
    }
    found
}
