//! Judges literals and variables by the types of the places they stand in.
//!
//! Follows the input coercion of the specification
//! (<https://spec.graphql.org/October2021/#sec-Coercing-Variable-Values>). Custom scalars are
//! left alone: their own `is_valid` judges them.

use std::collections::HashSet;

use async_graphql::indexmap::IndexMap;
use async_graphql::parser::types::{
    BaseType, Directive, ExecutableDocument, Field, FragmentDefinition, OperationDefinition,
    Selection, SelectionSet, Type, VariableDefinition,
};
use async_graphql::{Name, Number, Positioned, Value};

use super::table::{CostTable, Input, Inputs, TypeInfo};
use super::variables::{Argument, Bound, arguments_of_directive, arguments_of_field, variable_of};
use super::{Refusal, excerpt};

/// Judges the variables of the chosen operation, then every argument that it reaches.
pub(super) fn judge(
    document: &ExecutableDocument,
    operation: &OperationDefinition,
    bound: &Bound<'_>,
    table: &CostTable,
) -> Result<(), Refusal> {
    let judge = Judge { table, bound };
    for definition in &operation.variable_definitions {
        judge.variable(definition).map_err(|fault| invalid_variable(definition, &fault))?;
    }
    for directive in &operation.directives {
        judge.directive(&directive.node)?;
    }
    let root = Some(table.root(operation.ty));
    let mut sets = vec![(root, &operation.selection_set.node)];
    let mut visited = HashSet::new();
    while let Some((parent, set)) = sets.pop() {
        for selection in &set.items {
            for directive in selection.node.directives() {
                judge.directive(&directive.node)?;
            }
            match &selection.node {
                Selection::Field(field) => sets.push(judge.field(parent, &field.node)?),
                Selection::InlineFragment(inline) => {
                    let condition = inline.node.type_condition.as_ref();
                    let on = condition.map_or(parent, |on| Some(on.node.on.node.as_str()));
                    sets.push((on, &inline.node.selection_set.node));
                }
                Selection::FragmentSpread(spread) => {
                    let name = &spread.node.fragment_name.node;
                    if visited.insert(name) {
                        sets.extend(document.fragments.get(name).map(|f| contents(&f.node)));
                    }
                }
            }
        }
    }
    Ok(())
}

fn contents(fragment: &FragmentDefinition) -> (Option<&str>, &SelectionSet) {
    let on = fragment.type_condition.node.on.node.as_str();
    (Some(on), &fragment.selection_set.node)
}

#[derive(Clone, Copy)]
struct Judge<'a> {
    table: &'a CostTable,
    bound: &'a Bound<'a>,
}

/// Where a value comes from: JSON has no enum values, so there they are strings.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Document,
    Json,
}

impl<'a> Judge<'a> {
    fn variable(&self, definition: &Positioned<VariableDefinition>) -> Result<(), Fault> {
        let ty = &definition.node.var_type.node;
        if let Some(default) = &definition.node.default_value {
            self.value(&default.node, ty, Source::Document)?;
        }
        let variable = self.bound.find(&definition.node.name.node);
        match variable.and_then(|variable| variable.supplied) {
            Some(supplied) => self.value(supplied, ty, Source::Json),
            None if ty.nullable || definition.node.default_value.is_some() => Ok(()),
            None => Err(Fault::new("A value is required")),
        }
    }

    fn directive(&self, directive: &Directive) -> Result<(), Refusal> {
        let Some(inputs) = self.table.find_directive(&directive.name.node) else {
            return Ok(());
        };
        let arguments = arguments_of_directive(directive);
        self.arguments(&format!("@{}", directive.name.node), &arguments, inputs)
    }

    /// Judges the arguments and returns what the field selects, with its type.
    fn field<'d>(
        &self,
        parent: Option<&str>,
        field: &'d Field,
    ) -> Result<(Option<&'d str>, &'d SelectionSet), Refusal>
    where
        'a: 'd,
    {
        let table = self.table;
        let info = parent.and_then(|parent| table.find_field(parent, &field.name.node));
        if let Some(info) = info {
            self.arguments(&field.name.node, &arguments_of_field(field), &info.arguments)?;
        }
        Ok((info.map(|info| info.returns.as_str()), &field.selection_set.node))
    }

    // Unknown and missing arguments are the validator's to name.
    fn arguments(&self, of: &str, given: &[Argument<'_>], known: &Inputs) -> Result<(), Refusal> {
        for argument in given {
            let Some(input) = known.get(argument.name) else {
                continue;
            };
            self.input(&argument.value, input, Source::Document).map_err(|fault| {
                let place = format!("{}.{}", excerpt(of), excerpt(argument.name));
                Refusal::InvalidValue { message: fault.at(&place), pos: Some(argument.pos) }
            })?;
        }
        Ok(())
    }

    fn input(&self, value: &Value, input: &Input, source: Source) -> Result<(), Fault> {
        let has_default = input.default.is_some();
        match variable_of(value) {
            Some(name) => self.usage(name, &input.ty, has_default),
            None => self.value(value, &input.ty, source),
        }
    }

    /// Judges a value; the recursion ends because values are never deeper than the limits.
    fn value(&self, value: &Value, ty: &Type, source: Source) -> Result<(), Fault> {
        if let Some(name) = variable_of(value) {
            return self.usage(name, ty, false);
        }
        match (value, &ty.base) {
            (Value::Null, _) if ty.nullable => Ok(()),
            (Value::Null, _) => Err(Fault::new("Null is not allowed")),
            (Value::List(items), BaseType::List(item)) => {
                let mut items = items.iter().enumerate();
                items.try_for_each(|(index, value)| {
                    self.value(value, item, source).map_err(|fault| fault.within_item(index))
                })
            }
            // A single value stands for a list of one.
            (_, BaseType::List(item)) => self.value(value, item, source),
            (_, BaseType::Named(name)) => self.named(value, name, source),
        }
    }

    fn named(&self, value: &Value, name: &str, source: Source) -> Result<(), Fault> {
        let fits = match name {
            "Int" => matches!(value, Value::Number(number) if is_int(number)),
            "Float" => matches!(value, Value::Number(_)),
            "String" => matches!(value, Value::String(_)),
            "Boolean" => matches!(value, Value::Boolean(_)),
            "ID" => match value {
                Value::Number(number) => number.is_i64(),
                _ => matches!(value, Value::String(_)),
            },
            _ => return self.of_schema(value, name, source),
        };
        if fits { Ok(()) } else { Err(Fault::cannot_represent(name, value)) }
    }

    fn of_schema(&self, value: &Value, name: &str, source: Source) -> Result<(), Fault> {
        match self.table.find_type(name) {
            // A type that is unknown or no input type is the validator's to name.
            None | Some(TypeInfo::Scalar | TypeInfo::Output(_)) => Ok(()),
            Some(TypeInfo::Enum(allowed)) => {
                let given = match (value, source) {
                    (Value::Enum(name), _) => Some(name.as_str()),
                    (Value::String(name), Source::Json) => Some(name.as_str()),
                    _ => None,
                };
                match given {
                    Some(name) if allowed.contains(name) => Ok(()),
                    _ => Err(Fault::new("Not one of the allowed values")),
                }
            }
            Some(TypeInfo::Input { fields, is_one_of }) => {
                let Value::Object(given) = value else {
                    return Err(Fault::new("An object is required"));
                };
                let mut values = given.values();
                if *is_one_of && !(given.len() == 1 && values.all(|value| self.has_value(value))) {
                    return Err(Fault::new("Exactly one field with a value is required"));
                }
                self.object(given, fields, source)
            }
        }
    }

    fn has_value(&self, value: &Value) -> bool {
        self.bound.resolve(value).is_some_and(|value| *value != Value::Null)
    }

    fn object(
        &self,
        given: &IndexMap<Name, Value>,
        fields: &Inputs,
        source: Source,
    ) -> Result<(), Fault> {
        for (name, value) in given {
            let input = fields.get(name.as_str());
            let input = input.ok_or_else(|| Fault::new("Unknown field").within(name))?;
            self.input(value, input, source).map_err(|fault| fault.within(name))?;
        }
        let is_missing = |(name, input): &(&String, &Input)| {
            !input.ty.nullable && input.default.is_none() && !given.contains_key(name.as_str())
        };
        let missing = fields.iter().filter(is_missing).map(|(name, _)| name);
        match missing.min() {
            Some(name) => Err(Fault::new("A value is required").within(name)),
            None => Ok(()),
        }
    }

    /// Judges a variable in a place of type `ty`; its value was judged by its declaration.
    fn usage(&self, name: &str, ty: &Type, has_default: bool) -> Result<(), Fault> {
        // An undeclared variable is the validator's to name.
        let Some(variable) = self.bound.find(name) else {
            return Ok(());
        };
        let declared = &variable.definition.var_type.node;
        if !fits(&declared.base, &ty.base) {
            return Err(Fault::new("A variable of another type is used"));
        }
        match variable.effective {
            Some(Value::Null) if !ty.nullable => Err(Fault::new("Null is not allowed")),
            None if !ty.nullable && !has_default => Err(Fault::new("A value is required")),
            Some(_) | None => Ok(()),
        }
    }
}

/// Whether a declared type fits a place, nullability of the outermost aside (spec §5.8.5).
fn fits(declared: &BaseType, place: &BaseType) -> bool {
    match (declared, place) {
        (BaseType::Named(declared), BaseType::Named(place)) => declared == place,
        (BaseType::List(declared), BaseType::List(place)) => {
            (place.nullable || !declared.nullable) && fits(&declared.base, &place.base)
        }
        (BaseType::Named(_), BaseType::List(_)) | (BaseType::List(_), BaseType::Named(_)) => false,
    }
}

fn is_int(number: &Number) -> bool {
    number.as_i64().is_some_and(|number| i32::try_from(number).is_ok())
}

fn invalid_variable(definition: &Positioned<VariableDefinition>, fault: &Fault) -> Refusal {
    let place = format!("${}", excerpt(&definition.node.name.node));
    Refusal::InvalidVariable { message: fault.at(&place), pos: Some(definition.pos) }
}

/// What is wrong with a value, and the way to it, innermost step first.
struct Fault {
    says: String,
    steps: Vec<String>,
}

impl Fault {
    fn new(says: &str) -> Self {
        Self { says: says.to_owned(), steps: Vec::new() }
    }

    // Only numbers are repeated; a text may be personal data and refusals are logged.
    fn cannot_represent(ty: &str, value: &Value) -> Self {
        let what = match value {
            Value::Number(number) => excerpt(&number.to_string()),
            Value::String(_) => "a string".to_owned(),
            Value::Boolean(value) => value.to_string(),
            Value::Enum(_) => "an enum value".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Object(_) => "an object".to_owned(),
            Value::Null => "null".to_owned(),
            Value::Binary(_) => "bytes".to_owned(),
        };
        Self::new(&format!("{ty} cannot represent {what}"))
    }

    fn within(mut self, field: &str) -> Self {
        self.steps.push(format!(".{}", excerpt(field)));
        self
    }

    fn within_item(mut self, index: usize) -> Self {
        self.steps.push(format!("[{index}]"));
        self
    }

    fn at(&self, place: &str) -> String {
        let steps: String = self.steps.iter().rev().map(String::as_str).collect();
        format!("{} at {place}{steps}", self.says)
    }
}
