//! The arguments of a document and the values that its variables take.

use std::collections::HashMap;
use std::convert::Infallible;

use async_graphql::parser::types::{Directive, Field, OperationDefinition, VariableDefinition};
use async_graphql::{Name, Pos, Positioned, Value, Variables};

use super::{Limits, Refusal};

/// An argument of a field or directive. A variable within its value stands as an enum value whose
/// name begins with `$`, which no enum value of a document does; the library keeps its own type
/// for values with variables to itself.
pub(super) struct Argument<'a> {
    pub(super) name: &'a str,
    pub(super) value: Value,
    pub(super) pos: Pos,
}

pub(super) fn arguments_of_field(field: &Field) -> Vec<Argument<'_>> {
    let pairs = field.arguments.iter();
    let frozen = pairs.map(|(name, value)| {
        let Ok(frozen) = value.node.clone().into_const_with(placeholder);
        Argument::new(name, frozen, value.pos)
    });
    frozen.collect()
}

pub(super) fn arguments_of_directive(directive: &Directive) -> Vec<Argument<'_>> {
    let pairs = directive.arguments.iter();
    let frozen = pairs.map(|(name, value)| {
        let Ok(frozen) = value.node.clone().into_const_with(placeholder);
        Argument::new(name, frozen, value.pos)
    });
    frozen.collect()
}

impl<'a> Argument<'a> {
    fn new(name: &'a Positioned<Name>, value: Value, pos: Pos) -> Self {
        let name = &name.node;
        Self { name, value, pos }
    }

    /// How many values are written, variables as one each.
    pub(super) fn size(&self) -> usize {
        measure(&self.value, usize::MAX).unwrap_or(usize::MAX)
    }
}

fn placeholder(name: Name) -> Result<Value, Infallible> {
    Ok(Value::Enum(Name::new(format!("${name}"))))
}

pub(super) fn variable_of(value: &Value) -> Option<&str> {
    match value {
        Value::Enum(name) => name.strip_prefix('$'),
        _ => None,
    }
}

/// The variables of the chosen operation with the values they take.
pub(super) struct Bound<'a> {
    variables: HashMap<&'a str, Variable<'a>>,
}

pub(super) struct Variable<'a> {
    pub(super) definition: &'a VariableDefinition,
    pub(super) supplied: Option<&'a Value>,
    /// The supplied value, or the default; none when the variable stays absent.
    pub(super) effective: Option<&'a Value>,
    size: usize,
}

impl<'a> Bound<'a> {
    /// Measures every variable first, so that no later pass meets one too large or too deep.
    pub(super) fn new(
        operation: &'a OperationDefinition,
        supplied: &'a Variables,
        limits: &Limits,
    ) -> Result<Self, Refusal> {
        let mut variables = HashMap::new();
        for Positioned { pos, node } in &operation.variable_definitions {
            let name = node.name.node.as_str();
            let supplied = supplied.get(name);
            let effective = supplied.or(node.default_value.as_ref().map(|value| &value.node));
            let size = effective.map_or(Some(1), |value| measure(value, limits.value_depth));
            let size = size.ok_or(Refusal::TooDeep { pos: Some(*pos) })?;
            if size > limits.values {
                return Err(Refusal::TooManyValues { pos: Some(*pos) });
            }
            let definition = node;
            let variable = Variable { definition, supplied, effective, size };
            variables.insert(name, variable);
        }
        Ok(Self { variables })
    }

    pub(super) fn find(&self, name: &str) -> Option<&Variable<'a>> {
        self.variables.get(name)
    }

    /// How many values an argument holds, variables with all of theirs.
    pub(super) fn count(&self, value: &Value) -> usize {
        match value {
            Value::List(items) => {
                items.iter().map(|item| self.count(item)).fold(1, usize::saturating_add)
            }
            Value::Object(fields) => {
                fields.values().map(|field| self.count(field)).fold(1, usize::saturating_add)
            }
            _ => variable_of(value).and_then(|name| self.variables.get(name)).map_or(1, |v| v.size),
        }
    }

    /// The argument's value, or its variable's; none for a variable that stays absent.
    pub(super) fn resolve<'v>(&'v self, value: &'v Value) -> Option<&'v Value> {
        match variable_of(value) {
            Some(name) => self.variables.get(name)?.effective,
            None => Some(value),
        }
    }
}

/// Counts the values within, or none when they are nested deeper than `depth`.
fn measure(value: &Value, depth: usize) -> Option<usize> {
    let mut size = 0;
    let mut open = vec![(value, 0)];
    while let Some((value, level)) = open.pop() {
        size += 1;
        if level > depth {
            return None;
        }
        match value {
            Value::List(items) => open.extend(items.iter().map(|item| (item, level + 1))),
            Value::Object(fields) => open.extend(fields.values().map(|field| (field, level + 1))),
            _ => {}
        }
    }
    Some(size)
}
