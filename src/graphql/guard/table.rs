//! What the guard knows of the schema, built once at start.

use std::collections::{HashMap, HashSet};

use async_graphql::Value;
use async_graphql::parser::types::{
    BaseType, ConstDirective, FieldDefinition, InputValueDefinition, OperationType,
    SchemaDefinition, ServiceDocument, Type, TypeDefinition, TypeKind, TypeSystemDefinition,
};
use async_graphql::parser::{self, Positioned};

/// Entries assumed for a connection that names no page size, as its resolvers do.
const DEFAULT_PAGE: usize = 25;
/// Entries assumed for a plain list, which is always a short owned one.
const ASSUMED_LIST: usize = 10;
/// A change writes, audits and notifies; it weighs as much as ten objects read.
const MUTATION_COST: usize = 10;

/// The schema's types as the guard needs them: what each field returns and costs, and the types
/// of all arguments and input fields.
#[derive(Debug, Clone, Default)]
pub struct CostTable {
    types: HashMap<String, TypeInfo>,
    directives: HashMap<String, Inputs>,
    query: String,
    mutation: String,
    subscription: String,
}

pub(super) type Inputs = HashMap<String, Input>;

#[derive(Debug, Clone)]
pub(super) enum TypeInfo {
    Scalar,
    Enum(HashSet<String>),
    Input { fields: Inputs, is_one_of: bool },
    Output(HashMap<String, FieldInfo>),
}

#[derive(Debug, Clone)]
pub(super) struct Input {
    pub(super) ty: Type,
    pub(super) default: Option<Value>,
}

#[derive(Debug, Clone)]
pub(super) struct FieldInfo {
    pub(super) arguments: Inputs,
    pub(super) returns: String,
    pub(super) page: Page,
    pub(super) cost: usize,
}

/// How many times a field's selection is resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    /// As often as stated, whatever the arguments.
    Fixed(usize),
    /// As often as `first` or `last` says, otherwise as stated.
    Asked(usize),
    /// Once for each of `ids`.
    Ids,
}

impl CostTable {
    /// Reads the schema's own export, `Schema::sdl()`.
    ///
    /// # Errors
    ///
    /// The parser's, when the text is no schema.
    pub fn from_sdl(sdl: &str) -> Result<Self, parser::Error> {
        Ok(Self::from_document(&parser::parse_schema(sdl)?))
    }

    /// The same from a parsed schema.
    pub fn from_document(document: &ServiceDocument) -> Self {
        let mut table = Self::with_built_ins();
        for definition in &document.definitions {
            match definition {
                TypeSystemDefinition::Schema(schema) => table.add_roots(&schema.node),
                TypeSystemDefinition::Type(ty) => table.add_type(&ty.node),
                TypeSystemDefinition::Directive(directive) => {
                    let arguments = inputs(&directive.node.arguments);
                    table.directives.insert(directive.node.name.node.to_string(), arguments);
                }
            }
        }
        table.price_fields();
        table
    }

    fn with_built_ins() -> Self {
        let condition = Type::new("Boolean!").map(|ty| Input { ty, default: None });
        let arguments: Inputs =
            condition.map(|input| ("if".to_owned(), input)).into_iter().collect();
        let directives =
            [("skip".to_owned(), arguments.clone()), ("include".to_owned(), arguments)];
        Self {
            types: HashMap::new(),
            directives: directives.into_iter().collect(),
            query: "Query".to_owned(),
            mutation: "Mutation".to_owned(),
            subscription: "Subscription".to_owned(),
        }
    }

    fn add_roots(&mut self, schema: &SchemaDefinition) {
        let roots = [
            (&mut self.query, &schema.query),
            (&mut self.mutation, &schema.mutation),
            (&mut self.subscription, &schema.subscription),
        ];
        for (root, name) in roots {
            if let Some(name) = name {
                *root = name.node.to_string();
            }
        }
    }

    fn add_type(&mut self, ty: &TypeDefinition) {
        let fresh = match &ty.kind {
            TypeKind::Scalar => TypeInfo::Scalar,
            TypeKind::Object(object) => TypeInfo::Output(fields(&object.fields)),
            TypeKind::Interface(interface) => TypeInfo::Output(fields(&interface.fields)),
            TypeKind::Union(_) => TypeInfo::Output(HashMap::new()),
            TypeKind::Enum(kind) => {
                TypeInfo::Enum(kind.values.iter().map(|v| v.node.value.node.to_string()).collect())
            }
            TypeKind::InputObject(input) => TypeInfo::Input {
                fields: inputs(&input.fields),
                is_one_of: ty.directives.iter().any(is_one_of),
            },
        };
        match (self.types.get_mut(ty.name.node.as_str()), fresh) {
            (Some(TypeInfo::Output(known)), TypeInfo::Output(more)) => known.extend(more),
            (Some(TypeInfo::Enum(known)), TypeInfo::Enum(more)) => known.extend(more),
            (Some(TypeInfo::Input { fields, .. }), TypeInfo::Input { fields: more, .. }) => {
                fields.extend(more);
            }
            (_, fresh) => {
                self.types.insert(ty.name.node.to_string(), fresh);
            }
        }
    }

    // Prices need every type to be known, so they follow in a second pass.
    fn price_fields(&mut self) {
        let outputs: HashSet<String> = self.types.iter().filter_map(output_name).collect();
        let connections: HashSet<String> =
            self.types.iter().filter(|(name, ty)| is_connection(name, ty)).map(name_of).collect();
        for (parent, ty) in &mut self.types {
            let TypeInfo::Output(fields) = ty else {
                continue;
            };
            let is_entries_of_connection = connections.contains(parent);
            for (name, field) in fields {
                // The connection itself multiplies what its entries select.
                if is_entries_of_connection && matches!(name.as_str(), "nodes" | "edges") {
                    field.page = Page::Fixed(1);
                }
                if field.page == Page::Fixed(1) && connections.contains(&field.returns) {
                    field.page = Page::Fixed(DEFAULT_PAGE);
                }
                let is_object = outputs.contains(&field.returns) && field.returns != "PageInfo";
                let is_change = *parent == self.mutation;
                field.cost = if is_change { MUTATION_COST } else { usize::from(is_object) };
            }
        }
    }

    pub(super) fn root(&self, operation: OperationType) -> &str {
        match operation {
            OperationType::Query => &self.query,
            OperationType::Mutation => &self.mutation,
            OperationType::Subscription => &self.subscription,
        }
    }

    pub(super) fn find_type(&self, name: &str) -> Option<&TypeInfo> {
        self.types.get(name)
    }

    /// Whether the type, if the schema's text has it, has fields.
    pub(super) fn is_output(&self, name: &str) -> bool {
        matches!(self.types.get(name), Some(TypeInfo::Output(_)))
    }

    pub(super) fn find_field(&self, parent: &str, name: &str) -> Option<&FieldInfo> {
        match self.types.get(parent)? {
            TypeInfo::Output(fields) => fields.get(name),
            TypeInfo::Scalar | TypeInfo::Enum(_) | TypeInfo::Input { .. } => None,
        }
    }

    pub(super) fn find_directive(&self, name: &str) -> Option<&Inputs> {
        self.directives.get(name)
    }
}

fn fields(definitions: &[Positioned<FieldDefinition>]) -> HashMap<String, FieldInfo> {
    definitions
        .iter()
        .map(|field| (field.node.name.node.to_string(), field_info(&field.node)))
        .collect()
}

fn field_info(field: &FieldDefinition) -> FieldInfo {
    let arguments = inputs(&field.arguments);
    let (returns, is_list) = named_type(&field.ty.node);
    let paging = ["first", "last"].into_iter().find(|name| arguments.contains_key(*name));
    let page = match paging {
        Some(_) => Page::Asked(default_page(&arguments)),
        None if is_list && arguments.contains_key("ids") => Page::Ids,
        None if is_list => Page::Fixed(ASSUMED_LIST),
        None => Page::Fixed(1),
    };
    FieldInfo { returns: returns.to_owned(), page, cost: 0, arguments }
}

fn default_page(arguments: &Inputs) -> usize {
    let defaults =
        ["first", "last"].into_iter().filter_map(|name| arguments.get(name)?.default.as_ref());
    let stated = defaults.filter_map(page_size).max();
    stated.unwrap_or(DEFAULT_PAGE)
}

/// The number as a page size; a size that no resolver accepts counts as one.
pub(super) fn page_size(value: &Value) -> Option<usize> {
    match value {
        Value::Number(number) => {
            let size = number.as_u64().and_then(|size| usize::try_from(size).ok());
            Some(size.unwrap_or(1).max(1))
        }
        _ => None,
    }
}

fn inputs(definitions: &[Positioned<InputValueDefinition>]) -> Inputs {
    let input = |definition: &InputValueDefinition| Input {
        ty: definition.ty.node.clone(),
        default: definition.default_value.as_ref().map(|value| value.node.clone()),
    };
    definitions.iter().map(|d| (d.node.name.node.to_string(), input(&d.node))).collect()
}

fn named_type(ty: &Type) -> (&str, bool) {
    match &ty.base {
        BaseType::Named(name) => (name, false),
        BaseType::List(item) => (named_type(item).0, true),
    }
}

fn is_one_of(directive: &Positioned<ConstDirective>) -> bool {
    directive.node.name.node == "oneOf"
}

fn is_connection(name: &str, ty: &TypeInfo) -> bool {
    let TypeInfo::Output(fields) = ty else {
        return false;
    };
    name.ends_with("Connection") && (fields.contains_key("nodes") || fields.contains_key("edges"))
}

fn name_of((name, _): (&String, &TypeInfo)) -> String {
    name.clone()
}

fn output_name((name, ty): (&String, &TypeInfo)) -> Option<String> {
    matches!(ty, TypeInfo::Output(_)).then(|| name.clone())
}
