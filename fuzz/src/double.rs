//! A schema of the same types as a text of it, whose fields are all null. Its validation is the
//! library's own.

use async_graphql::Value;
use async_graphql::dynamic::{
    Enum, Field, FieldFuture, InputObject, InputValue, Interface, InterfaceField, Object, Scalar,
    Schema, SchemaBuilder, Subscription, SubscriptionField, SubscriptionFieldFuture, Type as Kind,
    TypeRef,
};
use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{
    BaseType, FieldDefinition, InputValueDefinition, Type, TypeDefinition, TypeKind,
    TypeSystemDefinition,
};
use futures_util::stream;

/// Builds it.
pub fn schema(sdl: &str) -> Schema {
    builder(sdl).finish().expect("the schema's types fit together")
}

/// The same before its end.
pub fn builder(sdl: &str) -> SchemaBuilder {
    let document = parse_schema(sdl).expect("the schema's text parses");
    let mut builder = Schema::build("Query", Some("Mutation"), Some("Subscription"));
    for definition in &document.definitions {
        if let TypeSystemDefinition::Type(ty) = definition {
            builder = builder.register(kind(&ty.node));
        }
    }
    builder.disable_suggestions()
}

fn kind(ty: &TypeDefinition) -> Kind {
    let name = ty.name.node.as_str();
    match &ty.kind {
        TypeKind::Scalar => Scalar::new(name).into(),
        TypeKind::Object(object) if name == "Subscription" => {
            let fields = object.fields.iter().map(|field| subscription(&field.node));
            fields.fold(Subscription::new(name), Subscription::field).into()
        }
        TypeKind::Object(object) => {
            let fields = object.fields.iter().map(|other| field(&other.node));
            let plain = fields.fold(Object::new(name), Object::field);
            let interfaces = object.implements.iter().map(|other| other.node.as_str());
            interfaces.fold(plain, Object::implement).into()
        }
        TypeKind::Interface(interface) => {
            let fields = interface.fields.iter().map(|other| {
                let plain = InterfaceField::new(other.node.name.node.as_str(), of(&other.node));
                arguments(&other.node).fold(plain, InterfaceField::argument)
            });
            fields.fold(Interface::new(name), Interface::field).into()
        }
        TypeKind::Union(_) => panic!("{name} is a union; teach the double about them"),
        TypeKind::Enum(kind) => {
            let items = kind.values.iter().map(|item| item.node.value.node.as_str());
            items.fold(Enum::new(name), Enum::item).into()
        }
        TypeKind::InputObject(input) => {
            let fields = input.fields.iter().map(|other| input_value(&other.node));
            fields.fold(InputObject::new(name), InputObject::field).into()
        }
    }
}

fn field(definition: &FieldDefinition) -> Field {
    let name = definition.name.node.as_str();
    let plain = Field::new(name, of(definition), |_| FieldFuture::from_value(None));
    arguments(definition).fold(plain, Field::argument)
}

fn subscription(definition: &FieldDefinition) -> SubscriptionField {
    let name = definition.name.node.as_str();
    let plain = SubscriptionField::new(name, of(definition), |_| {
        SubscriptionFieldFuture::new(async { Ok(stream::empty::<async_graphql::Result<Value>>()) })
    });
    arguments(definition).fold(plain, SubscriptionField::argument)
}

fn arguments(definition: &FieldDefinition) -> impl Iterator<Item = InputValue> {
    definition.arguments.iter().map(|argument| input_value(&argument.node))
}

fn input_value(definition: &InputValueDefinition) -> InputValue {
    let plain = InputValue::new(definition.name.node.as_str(), reference(&definition.ty.node));
    match &definition.default_value {
        Some(value) => plain.default_value(value.node.clone()),
        None => plain,
    }
}

fn of(definition: &FieldDefinition) -> TypeRef {
    reference(&definition.ty.node)
}

fn reference(ty: &Type) -> TypeRef {
    let base = match &ty.base {
        BaseType::Named(name) => TypeRef::named(name.as_str()),
        BaseType::List(item) => TypeRef::List(Box::new(reference(item))),
    };
    if ty.nullable { base } else { TypeRef::NonNull(Box::new(base)) }
}
