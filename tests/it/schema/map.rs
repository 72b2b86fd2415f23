//! The schema as its export tells it, and documents that ask any of its fields.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_graphql::Variables;
use async_graphql::parser::types::{
    BaseType, FieldDefinition, InputValueDefinition, Type, TypeDefinition, TypeKind,
    TypeSystemDefinition,
};
use musubi::actor::{Actor, Source};
use musubi::error::Lang;
use musubi::graphql::caller::Caller;
use musubi::graphql::engine::{Call, OperationKind, Prepared};
use serde_json::{Value, json};

use crate::support::TestApp;

pub(super) const ROOTS: [&str; 3] = ["Query", "Mutation", "Subscription"];

/// All types by name.
pub(super) struct Map(BTreeMap<String, TypeDefinition>);

impl Map {
    pub(super) fn read() -> Self {
        let sdl = musubi::graphql::schema::sdl();
        let document = async_graphql::parser::parse_schema(sdl).unwrap();
        let types = document.definitions.into_iter().filter_map(|definition| match definition {
            TypeSystemDefinition::Type(ty) => Some((ty.node.name.node.to_string(), ty.node)),
            TypeSystemDefinition::Schema(_) | TypeSystemDefinition::Directive(_) => None,
        });
        Self(types.collect())
    }

    pub(super) fn types(&self) -> impl Iterator<Item = &TypeDefinition> {
        self.0.values()
    }

    pub(super) fn get(&self, name: &str) -> Option<&TypeDefinition> {
        self.0.get(name)
    }

    /// The fields of the three roots, each with its root.
    pub(super) fn root_fields(&self) -> Vec<(&'static str, &FieldDefinition)> {
        let of_root = |root| fields(&self.0[root]).map(move |field| (root, field));
        ROOTS.into_iter().flat_map(of_root).collect()
    }

    /// The smallest value that fits, as it is written in a document. `id` answers the id for a
    /// path.
    fn literal(&self, ty: &Type, path: &str, id: &dyn Fn(&str) -> String) -> String {
        let name = match &ty.base {
            BaseType::List(inner) => return format!("[{}]", self.literal(inner, path, id)),
            BaseType::Named(name) => name.as_str(),
        };
        match name {
            "ID" => format!("{:?}", id(path)),
            "String" => "\"a text of its own\"".to_owned(),
            "Int" => "5".to_owned(),
            "Boolean" => "true".to_owned(),
            "Decimal" => "\"1.5\"".to_owned(),
            "Date" => "\"2026-11-01\"".to_owned(),
            "DateTime" => "\"2027-11-01T00:00:00Z\"".to_owned(),
            "JSON" => "{}".to_owned(),
            name => self.composed(name, path, id),
        }
    }

    fn composed(&self, name: &str, path: &str, id: &dyn Fn(&str) -> String) -> String {
        match &self.0[name].kind {
            TypeKind::Enum(kind) => kind.values[0].node.value.node.to_string(),
            TypeKind::InputObject(kind) => {
                let inputs = kind.fields.iter().map(|field| &field.node);
                format!("{{ {} }}", self.required(inputs, path, id))
            }
            TypeKind::Scalar
            | TypeKind::Object(_)
            | TypeKind::Interface(_)
            | TypeKind::Union(_) => panic!("no value of {name} is known at {path}"),
        }
    }

    fn required<'a>(
        &self,
        inputs: impl Iterator<Item = &'a InputValueDefinition>,
        path: &str,
        id: &dyn Fn(&str) -> String,
    ) -> String {
        let required =
            inputs.filter(|input| !input.ty.node.nullable && input.default_value.is_none());
        let written = required.map(|input| {
            let name = &input.name.node;
            format!("{name}: {}", self.literal(&input.ty.node, &format!("{path}.{name}"), id))
        });
        written.collect::<Vec<_>>().join(", ")
    }
}

/// The fields of an object or an interface.
pub(super) fn fields(ty: &TypeDefinition) -> impl Iterator<Item = &FieldDefinition> {
    let fields = match &ty.kind {
        TypeKind::Object(kind) => kind.fields.as_slice(),
        TypeKind::Interface(kind) => kind.fields.as_slice(),
        TypeKind::Scalar | TypeKind::Union(_) | TypeKind::Enum(_) | TypeKind::InputObject(_) => &[],
    };
    fields.iter().map(|field| &field.node)
}

/// The name of the type that a list or a value is of.
pub(super) fn target(ty: &Type) -> &str {
    match &ty.base {
        BaseType::Named(name) => name,
        BaseType::List(inner) => target(inner),
    }
}

/// A document that asks one field, as `it`, with what it requires.
pub(super) struct Question {
    pub(super) document: String,
}

impl Question {
    /// Asks a root field. `id` answers the id for a path such as `aiExecution.id`.
    pub(super) fn with(
        map: &Map,
        root: &str,
        field: &FieldDefinition,
        id: &dyn Fn(&str) -> String,
    ) -> Self {
        let asked = selection(map, field, id);
        Self { document: format!("{} {{ it: {asked} }}", root.to_lowercase()) }
    }
}

fn selection(map: &Map, field: &FieldDefinition, id: &dyn Fn(&str) -> String) -> String {
    let name = &field.name.node;
    let arguments = field.arguments.iter().map(|argument| &argument.node);
    let arguments = match map.required(arguments, name, id) {
        none if none.is_empty() => none,
        some => format!("({some})"),
    };
    let returned = map.get(target(&field.ty.node));
    let is_refusing =
        returned.is_some_and(|ty| fields(ty).any(|field| field.name.node == "userErrors"));
    let selected = match returned.map(|ty| &ty.kind) {
        Some(_) if is_refusing => "{ __typename userErrors { code } }",
        Some(TypeKind::Object(_) | TypeKind::Interface(_) | TypeKind::Union(_)) => "{ __typename }",
        Some(TypeKind::Scalar | TypeKind::Enum(_) | TypeKind::InputObject(_)) | None => "",
    };
    format!("{name}{arguments} {selected}")
}

/// Asks; of a subscription, the first event.
pub(super) async fn reply(
    app: &TestApp,
    actor: Option<Actor>,
    document: &str,
    variables: Value,
) -> Value {
    reply_in(app, Lang::En, actor, document, variables).await
}

/// [`reply`] in a language.
pub(super) async fn reply_in(
    app: &TestApp,
    lang: Lang,
    actor: Option<Actor>,
    document: &str,
    variables: Value,
) -> Value {
    let source = Source { request_id: "test".into(), ..Source::default() };
    let caller = Caller::new(app.app.clone(), actor, lang, Arc::new(source));
    let call = Call {
        query: document.to_owned(),
        operation_name: None,
        variables: Variables::from_json(variables),
        extensions: serde_json::Map::new(),
        document_id: None,
    };
    let response = match app.engine.prepare(call, caller) {
        Prepared::Refused(refused) => panic!("{document}: {:?}", refused.response.errors),
        Prepared::Ready(ready) if ready.kind == OperationKind::Subscription => {
            let answer = app.engine.subscribe(ready).await.next().await.unwrap();
            return json!(answer.response);
        }
        Prepared::Ready(ready) => app.engine.execute(ready).await.response,
    };
    json!(response)
}

/// The code of the first error, in either place; `OK` when there is none.
pub(super) fn code(reply: &Value) -> &str {
    let at_top = &reply["errors"][0]["extensions"]["code"];
    let in_payload = &reply["data"]["it"]["userErrors"][0]["code"];
    at_top.as_str().or(in_payload.as_str()).unwrap_or("OK")
}
