//! Documents from bytes: each byte chooses how the grammar goes on, so that a fuzzer spends its
//! time behind the parser.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::LazyLock;

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{
    BaseType, FieldDefinition, InputValueDefinition, Type, TypeKind, TypeSystemDefinition,
};

use crate::SDL;

const DEPTH_MAX: usize = 14;
const LENGTH_MAX: usize = 40_000;
const FRAGMENTS: usize = 6;

struct Types {
    outputs: HashMap<String, Vec<FieldDefinition>>,
    inputs: HashMap<String, Vec<InputValueDefinition>>,
    enums: HashMap<String, Vec<String>>,
    names: Vec<String>,
}

static TYPES: LazyLock<Types> = LazyLock::new(|| {
    let document = parse_schema(SDL).expect("the committed schema parses");
    let (outputs, inputs, enums) = (HashMap::new(), HashMap::new(), HashMap::new());
    let mut types = Types { outputs, inputs, enums, names: Vec::new() };
    for definition in document.definitions {
        let TypeSystemDefinition::Type(ty) = definition else { continue };
        let name = ty.node.name.node.to_string();
        match ty.node.kind {
            TypeKind::Object(object) => {
                let fields = object.fields.into_iter().map(|field| field.node).collect();
                types.outputs.insert(name.clone(), fields);
            }
            TypeKind::Interface(interface) => {
                let fields = interface.fields.into_iter().map(|field| field.node).collect();
                types.outputs.insert(name.clone(), fields);
            }
            TypeKind::InputObject(input) => {
                let fields = input.fields.into_iter().map(|field| field.node).collect();
                types.inputs.insert(name.clone(), fields);
            }
            TypeKind::Enum(kind) => {
                let items = kind.values.into_iter().map(|item| item.node.value.node.to_string());
                types.enums.insert(name.clone(), items.collect());
            }
            TypeKind::Scalar | TypeKind::Union(_) => {}
        }
        types.names.push(name);
    }
    types.names.sort();
    types
});

/// Writes a document; the same bytes write the same one.
pub fn document(bytes: &[u8]) -> String {
    let mut writer = Writer { bytes, at: 0, text: String::new() };
    for number in 0..=writer.below(3) {
        let (kind, root) =
            [("query", "Query"), ("mutation", "Mutation"), ("subscription", "Subscription")]
                [usize::from(writer.rarely()) * (1 + writer.below(2))];
        writer.push(&format!("{kind} O{number}"));
        if writer.rarely() {
            writer.push("($a:Int $b:ID!=\"x\" $c:[ID!] $d:AiExecutionWhere)");
        }
        writer.directives();
        writer.selections(root, 0);
    }
    for number in 0..writer.below(FRAGMENTS) {
        let on = writer.type_name();
        writer.push(&format!("fragment F{number} on {on}"));
        writer.selections(&on, 0);
    }
    writer.text
}

struct Writer<'a> {
    bytes: &'a [u8],
    at: usize,
    text: String,
}

impl Writer<'_> {
    /// The next choice below a number; 0 when the bytes are used up.
    fn below(&mut self, count: usize) -> usize {
        let byte = self.bytes.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        usize::from(byte) % count.max(1)
    }

    fn rarely(&mut self) -> bool {
        self.below(8) == 1
    }

    fn is_over(&self) -> bool {
        self.at >= self.bytes.len() || self.text.len() > LENGTH_MAX
    }

    fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn type_name(&mut self) -> String {
        let choice = self.below(256);
        TYPES.names.get(choice % TYPES.names.len()).cloned().unwrap_or_default()
    }

    fn directives(&mut self) {
        while self.rarely() && !self.is_over() {
            let directive = ["@skip(if:true)", "@include(if:$a)", "@aa", "@skip"];
            let choice = self.below(directive.len());
            self.push(directive[choice]);
        }
    }

    fn selections(&mut self, on: &str, depth: usize) {
        self.push("{");
        loop {
            match self.below(12) {
                0 => {
                    let number = self.below(FRAGMENTS);
                    let _ = write!(self.text, "...F{number} ");
                }
                1 if depth < DEPTH_MAX => {
                    self.push("...");
                    let on = if self.rarely() { self.type_name() } else { on.to_owned() };
                    if self.below(2) == 0 {
                        let _ = write!(self.text, " on {on}");
                    }
                    self.directives();
                    self.selections(&on, depth + 1);
                }
                2 => self.push("__typename "),
                3 => self.push(
                    ["nothing ", "a:b ", "__schema{types{name}}"][usize::from(depth == 0) * 2],
                ),
                _ => self.field(on, depth),
            }
            if self.is_over() || self.below(4) == 0 {
                break;
            }
        }
        self.push("}");
    }

    fn field(&mut self, on: &str, depth: usize) {
        let fields = TYPES.outputs.get(on).map(Vec::as_slice).unwrap_or_default();
        let choice = self.below(256);
        let Some(field) = fields.get(choice % fields.len().max(1)) else {
            return self.push("__typename ");
        };
        if self.rarely() {
            let alias = self.below(4);
            let _ = write!(self.text, "a{alias}:");
        }
        self.push(&format!("{} ", field.name.node));
        self.arguments(&field.arguments.iter().map(|a| &a.node).collect::<Vec<_>>());
        self.directives();
        let inner = named(&field.ty.node);
        if TYPES.outputs.contains_key(inner) && depth < DEPTH_MAX {
            self.selections(inner, depth + 1);
        }
    }

    fn arguments(&mut self, inputs: &[&InputValueDefinition]) {
        let mut is_open = false;
        for input in inputs {
            let is_needed = !input.ty.node.nullable && input.default_value.is_none();
            if self.is_over() || !(is_needed || self.below(3) == 0) {
                continue;
            }
            self.push(if is_open { " " } else { "(" });
            is_open = true;
            self.push(&format!("{}:", input.name.node));
            self.value(&input.ty.node, 0);
        }
        if is_open {
            self.push(")");
        }
    }

    fn value(&mut self, ty: &Type, depth: usize) {
        let odd = ["$a", "$b", "$c", "$d", "null", "\"\"\"\n  x\n y\"\"\"", "-1.5e3", "[]", "{}"];
        if self.rarely() {
            let choice = self.below(odd.len());
            return self.push(&format!("{} ", odd[choice]));
        }
        match &ty.base {
            BaseType::List(item) => {
                self.push("[");
                for _ in 0..self.below(4) {
                    self.value(item, depth + 1);
                }
                self.push("]");
            }
            BaseType::Named(name) => match name.as_str() {
                "Int" | "Float" => self.push("7 "),
                "Boolean" => self.push("true "),
                "Date" => self.push("\"2026-11-21\" "),
                "DateTime" => self.push("\"2026-11-21T00:00:00Z\" "),
                name if TYPES.enums.contains_key(name) => {
                    let items = &TYPES.enums[name];
                    let choice = self.below(items.len());
                    self.push(&format!("{} ", items[choice]));
                }
                name if TYPES.inputs.contains_key(name) => self.object(name, depth),
                _ => self.push("\"x\" "),
            },
        }
    }

    fn object(&mut self, name: &str, depth: usize) {
        self.push("{");
        for input in &TYPES.inputs[name] {
            let is_needed = !input.ty.node.nullable && input.default_value.is_none();
            let is_wanted = depth < DEPTH_MAX && !self.is_over() && self.below(4) == 1;
            if is_needed || is_wanted {
                self.push(&format!("{}:", input.name.node));
                self.value(&input.ty.node, depth + 1);
                self.push(" ");
            }
        }
        self.push("}");
    }
}

fn named(ty: &Type) -> &str {
    match &ty.base {
        BaseType::Named(name) => name,
        BaseType::List(item) => named(item),
    }
}
