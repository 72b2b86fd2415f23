//! The guard refuses what would harm us and lets every ordinary document pass.

mod text;
mod values;

use std::sync::LazyLock;

use async_graphql::Variables;
use async_graphql::parser::parse_query;
use musubi::graphql::guard::{CostTable, Limits, Refusal, Weight, check, weigh};
use serde_json::{Value as Json, json};

const SDL: &str = r#"
schema { query: Query mutation: Mutation subscription: Subscription }
directive @tone(level: Int!) on FIELD
scalar DateTime
scalar JSON
interface Node { id: ID! }
type Query {
  "The caller."
  viewer: Viewer
  node(id: ID!): Node
  nodes(ids: [ID!]!): [Node]
  account: Account
  leads(first: Int, after: String, last: Int, where: LeadWhere): LeadConnection!
  grid(first: Int = 50): LeadConnection!
  creditAnalytics(days: Int! = 30, plans: [Plan!], at: DateTime): Analytics
  sum(values: [Int!], ratio: Float, label: String, exact: Boolean, plan: Plan): Int
  search(by: By): Lead
}
type Mutation { creditGrant(input: GrantInput!): GrantPayload leadDelete(id: ID!): Boolean }
type Subscription { balance: Balance! alert(severity: Int): Alert! }
type Viewer { id: ID! role: Role! account: Account viewer: Viewer }
type Account implements Node { id: ID! grants: [Grant!]! tags: [String!]! balance: Balance! }
type Balance { current: Int! version: Int! }
type Alert { message: String! }
type Grant { id: ID! credits: Int! account: Account }
type Analytics { total: Int! }
type Lead implements Node {
  id: ID!
  name: String
  parent: Lead
  notes(first: Int, last: Int): NoteConnection!
}
type LeadConnection { edges: [LeadEdge!]! nodes: [Lead!]! pageInfo: PageInfo! totalCount: Int! }
type LeadEdge { cursor: String! node: Lead! }
type Note { id: ID! text: String author: Viewer }
type NoteConnection { edges: [NoteEdge!]! nodes: [Note!]! pageInfo: PageInfo! }
type NoteEdge { cursor: String! node: Note! }
type PageInfo { hasNextPage: Boolean! endCursor: String }
type GrantPayload { account: Account userErrors: [UserError!]! }
type UserError { message: String! }
union Thing = Lead | Note
enum Plan { ESSENTIAL PROFESSIONAL }
enum Role { ADMIN USER }
input LeadWhere { AND: [LeadWhere!] score: IntFilter name: String }
input IntFilter { eq: Int in: [Int!] }
input GrantInput {
  credits: Int!
  plan: Plan! = ESSENTIAL
  weights: [[Int]]
  ratio: Float
  note: String
  metadata: JSON
  nested: GrantInput
}
input By @oneOf { id: ID name: String }
"#;

/// Every field of the introspection that GraphiQL sends, types nine wrappers deep.
const INTROSPECTION: &str = r"
query IntrospectionQuery {
  __schema {
    description
    queryType { name kind }
    mutationType { name kind }
    subscriptionType { name kind }
    types { ...FullType }
    directives {
      name description isRepeatable locations
      args(includeDeprecated: true) { ...InputValue }
    }
  }
}
fragment FullType on __Type {
  kind name description specifiedByURL isOneOf
  fields(includeDeprecated: true) {
    name description
    args(includeDeprecated: true) { ...InputValue }
    type { ...TypeRef }
    isDeprecated deprecationReason
  }
  inputFields(includeDeprecated: true) { ...InputValue }
  interfaces { ...TypeRef }
  enumValues(includeDeprecated: true) { name description isDeprecated deprecationReason }
  possibleTypes { ...TypeRef }
}
fragment InputValue on __InputValue {
  name description type { ...TypeRef } defaultValue isDeprecated deprecationReason
}
fragment TypeRef on __Type {
  kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name
    ofType { kind name ofType { kind name ofType { kind name ofType { kind name
      ofType { kind name } } } } } } } } }
}
";

static TABLE: LazyLock<CostTable> = LazyLock::new(|| CostTable::from_sdl(SDL).unwrap_or_default());

/// Limits that nothing passes, to meet one rule at a time.
const NO_LIMITS: Limits = Limits {
    document_bytes: usize::MAX,
    tokens: usize::MAX,
    name_bytes: usize::MAX,
    brackets: usize::MAX,
    directives: usize::MAX,
    depth: usize::MAX,
    introspection_depth: usize::MAX,
    levels: usize::MAX,
    aliases: usize::MAX,
    root_fields: usize::MAX,
    introspections: usize::MAX,
    selections: usize::MAX,
    comparisons: usize::MAX,
    literals: usize::MAX,
    values: usize::MAX,
    value_depth: usize::MAX,
    cost: usize::MAX,
    errors: usize::MAX,
};

/// Lines of `document => expected`.
fn cases(lines: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| line.split_once(" => ").unwrap_or((line, "a line without an arrow")))
}

fn kind<T>(result: Result<T, Refusal>) -> &'static str {
    result.map_or_else(|refusal| refusal.kind(), |_| "PASSES")
}

fn message<T>(result: Result<T, Refusal>) -> String {
    result.map_or_else(|refusal| refusal.to_string(), |_| "PASSES".to_owned())
}

fn checked(text: &str) -> Result<Weight, Refusal> {
    checked_with(text, json!({}))
}

fn checked_with(text: &str, variables: Json) -> Result<Weight, Refusal> {
    let variables = Variables::from_json(variables);
    check(text, None, &variables, &TABLE, &Limits::default()).map(|(_, weight)| weight)
}

fn checked_named(text: &str, name: Option<&str>) -> Result<Weight, Refusal> {
    let limits = Limits::default();
    check(text, name, &Variables::default(), &TABLE, &limits).map(|(_, weight)| weight)
}

fn checked_within(text: &str, limits: &Limits) -> Result<Weight, Refusal> {
    check(text, None, &Variables::default(), &TABLE, limits).map(|(_, weight)| weight)
}

/// Parsed without the scan, so that the second pass has to hold by itself.
fn weighed(text: &str, limits: &Limits) -> Result<Weight, Refusal> {
    let message = |error: async_graphql::parser::Error| error.to_string();
    let document = parse_query(text).map_err(message);
    let document = document.map_err(|message| Refusal::Syntax { message, pos: None })?;
    weigh(&document, None, &Variables::default(), &TABLE, limits)
}

fn cost(text: &str, variables: Json) -> Option<usize> {
    let variables = Variables::from_json(variables);
    check(text, None, &variables, &TABLE, &NO_LIMITS).ok().map(|(_, weight)| weight.cost)
}

#[test]
fn the_schema_is_read() {
    assert!(CostTable::from_sdl(SDL).is_ok());
    assert!(CostTable::from_sdl("type {").is_err());
}

#[test]
fn ordinary_documents_pass() {
    let documents = [
        "{ viewer { id role } }",
        "query A { account { id grants { id credits } tags } }",
        "{ a: account { id } b: account { balance { current } } }",
        "{ leads(first: 50, where: { AND: [{ score: { in: [1, 2] } }, { name: \"x\" }] }) {
           totalCount pageInfo { hasNextPage endCursor } nodes { id name notes(last: 3) {
           edges { cursor node { id text author { id } } } } } } }",
        "{ node(id: \"lead_01\") { __typename id ... on Lead { name ...L } } }
         fragment L on Lead { parent { id } }",
        "mutation { creditGrant(input: { credits: 5, plan: ESSENTIAL, weights: [1, [2, null]],
           metadata: { any: [1, \"x\", { deep: 3000000000 }] } }) { userErrors { message } } }",
        "subscription { balance { current } }",
        "{ sum(values: 3, ratio: 2, label: \"\", exact: true, plan: ESSENTIAL) @skip(if: true) }",
        "{ search(by: { id: 5 }) { id } viewer @tone(level: 3) { id } }",
        "{ creditAnalytics { total } __typename }",
        "\u{feff}{ sum(label: \"\"\"[[[ \\\"\"\" }\"\"\") } # {{{{\r\n",
    ];
    for document in documents {
        assert_eq!(message(checked(document)), "PASSES", "{document}");
    }
}

#[test]
fn floods_of_one_thing_are_refused() {
    let limits = Limits { document_bytes: usize::MAX, ..Limits::default() };
    let flood = |text: &str| kind(checked_within(text, &limits));
    let aliases: String = (0..10_000).map(|n| format!("a{n}: viewer {{ id }} ")).collect();
    assert_eq!(flood(&format!("{{ {aliases} }}")), "TOO_MANY_TOKENS");
    let directives = "@a".repeat(10_000);
    assert_eq!(flood(&format!("{{ viewer {directives} {{ id }} }}")), "TOO_MANY_DIRECTIVES");
    let unknown: String = (0..20_000).map(|n| format!("f{n} ")).collect();
    assert_eq!(flood(&format!("{{ {unknown} }}")), "TOO_MANY_TOKENS");

    let only_aliases = Limits { aliases: 30, ..NO_LIMITS };
    let aliased = |count: usize| {
        let fields: String = (0..count).map(|n| format!("a{n}: id ")).collect();
        kind(weighed(&format!("{{ viewer {{ {fields} }} }}"), &only_aliases))
    };
    assert_eq!(aliased(30), "PASSES");
    assert_eq!(aliased(31), "TOO_MANY_ALIASES");
    assert_eq!(aliased(10_000), "TOO_MANY_ALIASES");

    let roots = |count: usize| kind(checked(&format!("{{ {} }}", "__typename ".repeat(count))));
    assert_eq!(roots(30), "PASSES");
    assert_eq!(roots(31), "TOO_MANY_ROOT_FIELDS");

    // Each of these may answer with the whole schema.
    let schemas = |count: usize| {
        let fields: String =
            (0..count).map(|n| format!("a{n}: __schema {{ __typename }} ")).collect();
        kind(checked(&format!("{{ {fields} }}")))
    };
    assert_eq!(schemas(3), "PASSES");
    assert_eq!(schemas(4), "TOO_MANY_ROOT_FIELDS");

    let fields = |count: usize| format!("{{ viewer {{ {} }} }}", "id ".repeat(count));
    assert_eq!(kind(checked(&fields(3_990))), "PASSES");
    assert_eq!(kind(weighed(&fields(5_000), &Limits::default())), "TOO_MANY_SELECTIONS");
}

#[test]
fn a_few_unknown_names_are_left_to_the_validator_and_many_are_refused() {
    let one = |what: &str, count: usize| {
        let (fields, fragments) = (what.repeat(count), "fragment F on Viewer { id }");
        kind(checked(&format!("{{ viewer {{ ...F {fields} }} }} {fragments}")))
    };
    let unknown = [
        "name ",
        "id(a: 1) ",
        "id { a } ",
        "account ",
        "...X ",
        "... on X { id } ",
        "id @x ",
        "... @x { id } ",
    ];
    for what in unknown {
        assert_eq!(one(what, 20), "PASSES", "{what}");
        assert_eq!(one(what, 21), "TOO_MANY_ERRORS", "{what}");
    }
    let arguments = "values: 1 ".repeat(26);
    assert_eq!(kind(checked(&format!("{{ sum({arguments}) }}"))), "TOO_MANY_ERRORS");
    let told = message(checked(&format!("{{ viewer {{ {} }} }}", "name ".repeat(30))));
    assert_eq!(
        told,
        "Unknown field \"name\" on type \"Viewer\"; the document has many more errors"
    );
    // What introspection selects is in no schema's text.
    let types = "types { name } ".repeat(30);
    assert_eq!(kind(checked(&format!("{{ __schema {{ {types} }} }}"))), "PASSES");
}

#[test]
fn what_nobody_spreads_counts_too() {
    let sets = "... { ...B } ".repeat(300);
    let fields = "id ".repeat(1_500);
    let fragments =
        format!("fragment A on Viewer {{ {sets} }} fragment B on Viewer {{ {fields} }}");
    assert_eq!(kind(checked(&format!("{{ viewer {{ id }} }} {fragments}"))), "TOO_MANY_SELECTIONS");
}

#[test]
fn fields_within_many_fragments_are_compared_so_often_and_no_more() {
    let within = |levels: usize, fields: usize| {
        let (open, close) = ("... { ".repeat(levels), "}".repeat(levels));
        format!("{{ viewer {{ {open} {} {close} }} }}", "id ".repeat(fields))
    };
    let compared = checked(&within(4, 1_000)).map(|weight| weight.compared);
    assert_eq!(compared, Ok(5 * 1_000 + 4 + 3 + 2 + 1 + 1));
    assert_eq!(kind(checked(&within(27, 3_000))), "TOO_MANY_SELECTIONS");
    // The library would stop at 32 and say so.
    let link = |n: usize| format!("fragment F{n} on Viewer {{ ...F{} }} ", n + 1);
    let chain = |length: usize| {
        let links: String = (0..length).map(link).collect();
        kind(checked(&format!(
            "{{ viewer {{ ...F0 }} }} {links} fragment F{length} on Viewer {{ id }}"
        )))
    };
    assert_eq!((chain(27), chain(28)), ("PASSES", "TOO_DEEP"));
}

#[test]
fn variables_written_often_are_counted_for_every_operation() {
    let ids = "$v ".repeat(900);
    let operations = |count: usize| {
        let one = |n| format!("query Q{n}($v: Int!) {{ ...A }} ");
        let all: String = (0..count).map(one).collect();
        let text = format!("{all} fragment A on Query {{ sum(values: [{ids}]) }}");
        let variables = Variables::from_json(json!({ "v": 1 }));
        kind(check(&text, Some("Q0"), &variables, &TABLE, &Limits::default()))
    };
    assert_eq!((operations(11), operations(12)), ("PASSES", "TOO_MANY_VALUES"));
}

#[test]
fn long_names_are_refused_wherever_they_stand() {
    let name = |bytes: usize| "n".repeat(bytes);
    for place in ["{ NAME }", "{ NAME: viewer { id } }", "query NAME { viewer { id } }"] {
        assert_eq!(kind(checked(&place.replace("NAME", &name(255)))), "PASSES", "{place}");
        assert_eq!(kind(checked(&place.replace("NAME", &name(256)))), "NAME_TOO_LONG", "{place}");
    }
    assert_eq!(kind(checked(&format!("{{ sum(label: \"{}\") }}", name(5_000)))), "PASSES");
}

/// `levels` fragments, each spreading the next `width` times.
fn bomb(width: usize, levels: usize) -> String {
    let fragment = |level: usize| {
        let spreads = format!("...F{} ", level + 1).repeat(width);
        format!("fragment F{level} on Viewer {{ viewer {{ {spreads} }} }} ")
    };
    let fragments: String = (0..levels).map(fragment).collect();
    format!("{{ viewer {{ ...F0 }} }} {fragments} fragment F{levels} on Viewer {{ a: id }}")
}

#[test]
fn fragment_bombs_are_weighed_by_visiting_each_node_once() {
    for (width, levels) in [(2, 26), (60, 4), (2, 200), (9, 90)] {
        let text = bomb(width, levels);
        let weight = weighed(&text, &NO_LIMITS).ok();
        let nodes = 4 + levels * (1 + width);
        let is_linear = weight.map(|weight| weight.visited <= nodes);
        assert_eq!(is_linear, Some(true), "{width}^{levels}");
        let leaves = width.saturating_pow(u32::try_from(levels).unwrap_or(u32::MAX));
        let is_expanded = weight.map(|weight| weight.selections >= leaves);
        assert_eq!(is_expanded, Some(true), "{width}^{levels}");
        assert_eq!(kind(checked(&text)), "TOO_MANY_SELECTIONS", "{width}^{levels}");
    }
}

#[test]
fn a_bomb_in_another_operation_is_refused_too() {
    let named = bomb(2, 26).replacen('{', "query Bomb {", 1);
    let text = format!("{named} query Other {{ viewer {{ id }} }}");
    assert_eq!(kind(checked_named(&text, Some("Other"))), "TOO_MANY_SELECTIONS");
    // Each small enough by itself.
    let operations: String = (0..300).map(|n| format!("query Q{n} {{ ...F }} ")).collect();
    let fields = "id ".repeat(20);
    let text = format!("{operations} fragment F on Query {{ viewer {{ {fields} }} }}");
    assert_eq!(kind(checked_named(&text, Some("Q0"))), "TOO_MANY_SELECTIONS");
}

#[test]
fn fragment_cycles_are_refused_and_unknown_fragments_left_to_the_validator() {
    let cycles = [
        "{ ...A } fragment A on Query { ...A }",
        "{ ...A } fragment A on Query { viewer { ...B } }
         fragment B on Viewer { viewer { ...B } }",
        "{ ...A } fragment A on Query { ...B } fragment B on Query { ...C }
         fragment C on Query { ... { ...A } }",
        "{ viewer { id } } fragment A on Query { ...B } fragment B on Query { ...A }",
    ];
    for text in cycles {
        assert_eq!(kind(checked(text)), "FRAGMENT_CYCLE", "{text}");
    }
    let diamond = "{ ...A ...B } fragment A on Query { ...C ...B }
        fragment B on Query { ...C ...C } fragment C on Query { viewer { id } }";
    assert_eq!(kind(checked(diamond)), "PASSES");
    assert_eq!(kind(checked("{ ...Missing viewer { ...Gone } }")), "PASSES");
    let link = |n: usize| format!("fragment F{n} on Query {{ ...F{} }} ", n + 1);
    let chain: String = (0..600).map(link).collect();
    assert_eq!(kind(weighed(&format!("{{ ...F0 }} {chain}"), &NO_LIMITS)), "PASSES");
}

#[test]
fn depth_is_counted_through_fragments() {
    let nested =
        |depth: usize| format!("{}id{}", "viewer { ".repeat(depth - 1), " }".repeat(depth - 1));
    assert_eq!(kind(checked(&format!("{{ {} }}", nested(12)))), "PASSES");
    assert_eq!(kind(checked(&format!("{{ {} }}", nested(13)))), "TOO_DEEP");
    let spread = |depth: usize| {
        let fragment = format!("fragment F on Viewer {{ {} }}", nested(depth));
        format!("{{ viewer {{ ... {{ ...F }} }} }} {fragment}")
    };
    assert_eq!(kind(checked(&spread(11))), "PASSES");
    assert_eq!(kind(checked(&spread(12))), "TOO_DEEP");
    let types = |depth: usize| {
        let (open, close) = ("ofType { ".repeat(depth), "}".repeat(depth));
        format!("{{ __type(name: \"Lead\") {{ {open} name {close} }} }}")
    };
    assert_eq!(kind(checked(&types(18))), "PASSES");
    assert_eq!(kind(checked(&types(19))), "TOO_DEEP");
}

#[test]
fn the_introspection_of_graphiql_passes_and_costs_nothing() {
    let weight = checked(INTROSPECTION);
    let seen = weight.map(|weight| (weight.cost, weight.introspects));
    assert_eq!(seen, Ok((0, true)));
    let plain = checked("{ viewer { __typename } }");
    assert_eq!(plain.map(|weight| weight.introspects), Ok(false));
}

#[test]
fn cost_follows_the_sizes_of_lists() {
    let costs = "
        { sum } => 0
        { viewer { id role } } => 1
        { account { tags balance { current } } } => 2
        { account { grants { id } } } => 2
        { account { grants { account { id } } } } => 12
        { leads { totalCount } } => 1
        { leads { nodes { id } } } => 26
        { leads(first: 4) { nodes { id } } } => 5
        { leads(last: 6) { nodes { id } } } => 7
        { leads(first: 100) { pageInfo { hasNextPage } totalCount } } => 1
        { leads(first: 3) { edges { node { id } } } } => 7
        { grid { nodes { id } } } => 51
        { grid(first: 2) { nodes { id } } } => 3
        { leads(first: 10) { nodes { notes(first: 5) { nodes { author { id } } } } } } => 121
        { leads(first: 9) { ...L } } fragment L on LeadConnection { nodes { parent { id } } } => 19
        { nodes(ids: [1, 2, 3]) { id ... on Lead { parent { id } } } } => 4
        { node(id: 1) { ... on Account { grants { account { id } } } } } => 12
        mutation { leadDelete(id: 1) } => 10
        mutation { creditGrant(input: {credits: 1}) { account { id } } } => 11
        subscription { balance { current } } => 1
        { __schema { types { fields { type { name } } } } } => 0
        { leads(first: 0) { nodes { id } } } => 2
        { leads(first: -5) { nodes { id } } } => 2
        { unknown { deeper { x } } } => 2
    ";
    for (text, expected) in cases(costs) {
        let known = cost(text, json!({}));
        assert_eq!(known.map(|cost| cost.to_string()).as_deref(), Some(expected), "{text}");
    }
}

#[test]
fn the_size_of_a_list_may_come_from_a_variable() {
    let plain = "query ($n: Int) { leads(first: $n) { nodes { id } } }";
    assert_eq!(cost(plain, json!({ "n": 7 })), Some(8));
    assert_eq!(cost(plain, json!({ "n": null })), Some(26));
    assert_eq!(cost(plain, json!({})), Some(26));
    let with_default = "query ($n: Int = 9) { leads(first: $n) { nodes { id } } }";
    assert_eq!(cost(with_default, json!({ "n": 7 })), Some(8));
    assert_eq!(cost(with_default, json!({})), Some(10));
    let ids = "query ($ids: [ID!]!) { nodes(ids: $ids) { ... on Lead { parent { id } } } }";
    assert_eq!(cost(ids, json!({ "ids": ["a", "b", "c", "d"] })), Some(5));
}

#[test]
fn costly_operations_are_refused_unless_a_platform_admin_asks() {
    let text = "{ leads(first: 100) { nodes { notes(first: 100) { nodes { id } } } } }";
    assert_eq!(kind(checked(text)), "TOO_COSTLY");
    let admin = Limits::default().for_platform_admin();
    assert_eq!(kind(checked_within(text, &admin)), "PASSES");
    let huge = "{ leads(first: 2147483647) { nodes { notes(first: 2147483647) {
        nodes { author { account { grants { account { id } } } } } } } } }";
    assert_eq!(kind(checked(huge)), "TOO_COSTLY");
    assert_eq!(cost(huge, json!({})).map(|cost| cost > 1 << 60), Some(true));
    // Only the chosen operation is paid for.
    let two = "query A { viewer { id } }
        query B { leads(first: 100) { nodes { notes(first: 100) { nodes { id } } } } }";
    assert_eq!(kind(checked_named(two, Some("A"))), "PASSES");
    assert_eq!(kind(checked_named(two, Some("B"))), "TOO_COSTLY");
}

#[test]
fn a_subscription_has_exactly_one_root_field() {
    let refused = [
        "subscription { balance { current } alert { message } }",
        "subscription { balance { current } b: balance { version } }",
        "subscription { balance { current } balance { version } }",
        "subscription { balance { current } __typename }",
        "subscription { __typename }",
        "subscription { ...A ...A } fragment A on Subscription { balance { current } }",
        "subscription { ...A } fragment A on Subscription { ... { balance { current } ...B } }
         fragment B on Subscription { alert { message } }",
        "subscription { ...Missing }",
    ];
    for text in refused {
        assert_eq!(kind(checked(text)), "SUBSCRIPTION_ROOT_FIELDS", "{text}");
    }
    let one = checked(
        "subscription { ...A }
         fragment A on Subscription { ... { balance { current version } } }",
    );
    let is = one.map(|weight| (weight.is_subscription(), weight.is_mutation()));
    assert_eq!(is, Ok((true, false)));
}

#[test]
fn the_operation_must_be_determined() {
    let two = "query A { viewer { id } } mutation B { leadDelete(id: 1) }";
    assert_eq!(kind(checked_named(two, None)), "OPERATION_NAME_REQUIRED");
    assert_eq!(kind(checked_named(two, Some("C"))), "OPERATION_NOT_FOUND");
    assert_eq!(kind(checked_named("{ viewer { id } }", Some("A"))), "OPERATION_NOT_FOUND");
    assert_eq!(checked_named(two, Some("A")).map(|weight| weight.is_mutation()), Ok(false));
    assert_eq!(checked_named(two, Some("B")).map(|weight| weight.is_mutation()), Ok(true));
    assert_eq!(kind(checked("query A { viewer { id } }")), "PASSES");
    assert_eq!(kind(checked("fragment F on Query { viewer { id } }")), "SYNTAX");
}

#[test]
fn one_key_with_two_meanings_is_refused_at_the_first() {
    let refused = [
        "{ viewer { id } viewer: account { id } }",
        "{ viewer { id id: role } }",
        "{ leads(first: 1) { totalCount } leads(first: 2) { totalCount } }",
        "{ leads(first: 1) { totalCount } leads { totalCount } }",
        "{ viewer { ... on Viewer { x: role } ...A } } fragment A on Viewer { x: id }",
        "{ ... { ... { viewer { id } viewer: account { id } } } }",
    ];
    for text in refused {
        assert_eq!(kind(checked(text)), "FIELD_CONFLICT", "{text}");
    }
    let merges = "query ($n: Int) {
        leads(first: $n) { totalCount } leads(first: $n) { totalCount }
        node(id: 1) { ... on Lead { x: name } ... on Account { x: tags } }
        viewer { id id ...A ...A } } fragment A on Viewer { id }";
    assert_eq!(message(checked(merges)), "PASSES");
    // The library would write some hundred MB of messages about this one.
    let arguments: String = (0..600).map(|n| format!("x{n}: 1 ")).collect();
    let repeated = "id ".repeat(2_000);
    let text = format!("{{ viewer {{ ... {{ id({arguments}) {repeated} }} }} }}");
    let limits = Limits { errors: usize::MAX, ..Limits::default() };
    assert_eq!(kind(checked_within(&text, &limits)), "FIELD_CONFLICT");
}
