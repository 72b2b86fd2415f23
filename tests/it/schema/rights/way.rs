//! Ways from a root field to an object, and documents that go them.

use std::collections::BTreeMap;

use async_graphql::parser::types::{FieldDefinition, TypeKind};
use serde_json::Value;

use super::super::map::{self, Map, ROOTS, target};

/// What can be asked by its id: its name in a way, its type.
pub(super) type Nodes = BTreeMap<&'static str, &'static str>;

/// `@run.charge` is the charge of the run that the stage prepared; a way may also begin at any
/// root field. Words such as `$run` stand for what the stage knows.
pub(super) struct Way {
    root: &'static str,
    steps: Vec<Step>,
}

struct Step {
    name: String,
    /// With its brackets; empty without arguments.
    arguments: String,
    declared: String,
    /// What is taken of it: the declared type, or one that implements it.
    taken: String,
}

impl Way {
    /// Reads a way to an object of the type, and holds it against the schema.
    pub(super) fn read(map: &Map, nodes: &Nodes, text: &str, wanted: &str) -> Self {
        let mut owner = None;
        let mut steps = Vec::new();
        let mut root = "Query";
        for (at, part) in split(text).into_iter().enumerate() {
            let (name, arguments, kind) = match part.strip_prefix('@') {
                Some(name) if at == 0 => {
                    let kind = nodes.get(name);
                    let kind = kind.unwrap_or_else(|| panic!("the stage has no {name}: {text}"));
                    ("node", format!("(id: \"${name}\")"), Some(*kind))
                }
                _ => {
                    let name = part.split('(').next().unwrap();
                    (name, part[name.len()..].to_owned(), None)
                }
            };
            if at == 0 {
                root = root_of(map, name).unwrap_or_else(|| panic!("no root has {name}: {text}"));
            }
            let owner_name = owner.unwrap_or_else(|| root.to_owned());
            let field = field_of(map, &owner_name, name);
            let field = field.unwrap_or_else(|| panic!("{owner_name} has no {name}: {text}"));
            let declared = target(&field.ty.node).to_owned();
            let taken = kind.map_or_else(|| declared.clone(), str::to_owned);
            owner = Some(taken.clone());
            steps.push(Step { name: name.to_owned(), arguments, declared, taken });
        }
        let last = steps.last_mut().unwrap();
        let is_interface = map.get(&last.taken).map(|ty| &ty.kind);
        if matches!(is_interface, Some(TypeKind::Interface(_))) {
            last.taken = wanted.to_owned();
        }
        assert_eq!(last.taken, wanted, "{text} leads elsewhere");
        Self { root, steps }
    }

    /// Whether only sockets carry it.
    pub(super) fn is_live(&self) -> bool {
        self.root == "Subscription"
    }

    /// Asks fields of the object at the end.
    pub(super) fn document(&self, map: &Map, fields: &[&str]) -> String {
        let owner = &self.steps.last().unwrap().taken;
        let mut inner = "__typename".to_owned();
        for name in fields {
            let field = field_of(map, owner, name).unwrap();
            inner = format!("{inner} {name}{}", selection(map, field));
        }
        for (at, step) in self.steps.iter().enumerate().rev() {
            if step.taken != step.declared {
                inner = format!("__typename ... on {} {{ {inner} }}", step.taken);
            }
            let alias = if at == 0 { "it: " } else { "" };
            inner = format!("{alias}{}{} {{ {inner} }}", step.name, step.arguments);
        }
        format!("{} {{ {inner} }}", self.root.to_lowercase())
    }

    /// The object in a reply: the first of its type at the end of the way.
    pub(super) fn end<'a>(&self, reply: &'a Value) -> Option<&'a Value> {
        let mut found = vec![&reply["data"]["it"]];
        for step in &self.steps[1..] {
            found = found.into_iter().flat_map(each).map(|value| &value[&step.name]).collect();
        }
        let last = &self.steps.last().unwrap().taken;
        found.into_iter().flat_map(each).find(|value| value["__typename"] == last.as_str())
    }
}

/// What follows a field that is no leaf.
fn selection(map: &Map, field: &FieldDefinition) -> &'static str {
    match map.get(target(&field.ty.node)).map(|ty| &ty.kind) {
        Some(TypeKind::Object(_) | TypeKind::Interface(_) | TypeKind::Union(_)) => {
            if field.name.node == "userErrors" { " { __typename code }" } else { " { __typename }" }
        }
        Some(TypeKind::Scalar | TypeKind::Enum(_) | TypeKind::InputObject(_)) | None => "",
    }
}

fn field_of<'a>(map: &'a Map, owner: &str, name: &str) -> Option<&'a FieldDefinition> {
    map::fields(map.get(owner)?).find(|field| field.name.node == name)
}

fn root_of(map: &Map, name: &str) -> Option<&'static str> {
    ROOTS.into_iter().find(|root| field_of(map, root, name).is_some())
}

fn each(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().flat_map(each).collect(),
        one => vec![one],
    }
}

/// The parts between dots that stand in no brackets.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    let parts = text.split(move |letter| {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        letter == '.' && depth == 0
    });
    parts.collect()
}
