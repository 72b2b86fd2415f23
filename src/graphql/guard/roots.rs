//! How many root fields an operation executes: what limits count.

use async_graphql::parser::types::{
    Directive, ExecutableDocument, OperationDefinition, Selection, SelectionSet,
};
use async_graphql::{Name, Positioned, Value, Variables};

/// Counts the root fields that the operation executes: each alias, each repetition, nothing that
/// `@skip` or `@include` leaves out. An operation counts 1 at least.
///
/// Call it after the guard, which has bounded fragments and the depth of nesting.
pub(super) fn count(
    document: &ExecutableDocument,
    operation: &OperationDefinition,
    variables: &Variables,
) -> usize {
    let roots = Roots { document, operation, variables };
    roots.count(&operation.selection_set.node).max(1)
}

struct Roots<'a> {
    document: &'a ExecutableDocument,
    operation: &'a OperationDefinition,
    variables: &'a Variables,
}

impl Roots<'_> {
    fn count(&self, set: &SelectionSet) -> usize {
        let selections = set.items.iter().map(|selection| &selection.node);
        let executed = selections.filter(|selection| !self.is_left_out(selection.directives()));
        executed.map(|selection| self.weigh(selection)).fold(0, usize::saturating_add)
    }

    fn weigh(&self, selection: &Selection) -> usize {
        match selection {
            Selection::Field(_) => 1,
            Selection::InlineFragment(inline) => self.count(&inline.node.selection_set.node),
            Selection::FragmentSpread(spread) => {
                let fragment = self.document.fragments.get(&spread.node.fragment_name.node);
                fragment.map_or(0, |fragment| self.count(&fragment.node.selection_set.node))
            }
        }
    }

    fn is_left_out(&self, directives: &[Positioned<Directive>]) -> bool {
        directives.iter().any(|directive| {
            let leaves_out = match directive.node.name.node.as_str() {
                "skip" => true,
                "include" => false,
                _ => return false,
            };
            self.condition(&directive.node) == Some(leaves_out)
        })
    }

    fn condition(&self, directive: &Directive) -> Option<bool> {
        let condition = directive.get_argument("if")?;
        let variables = |name: Name| Ok::<_, ()>(self.variable(&name));
        match condition.node.clone().into_const_with(variables) {
            Ok(Value::Boolean(condition)) => Some(condition),
            Ok(_) | Err(()) => None,
        }
    }

    /// A variable's value, or its default.
    fn variable(&self, name: &Name) -> Value {
        let given = self.variables.get(name).cloned();
        let defined = self.operation.variable_definitions.iter();
        let default = || {
            let mut named = defined.filter(|defined| defined.node.name.node == *name);
            named.find_map(|defined| defined.node.default_value.as_ref())
        };
        given.or_else(|| default().map(|value| value.node.clone())).unwrap_or(Value::Null)
    }
}
