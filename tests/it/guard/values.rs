//! Literals and variables are judged by the types of their places.

use async_graphql::{Name, Value, Variables};
use musubi::graphql::guard::{Limits, check};
use serde_json::{Value as Json, json};

use super::{TABLE, cases, checked, checked_named, checked_with, kind, message};

#[test]
fn an_int_is_32_bits_wherever_it_stands() {
    let analytics = "
        3000000000 => Int cannot represent 3000000000 at creditAnalytics.days
        1.0 => Int cannot represent 1.0 at creditAnalytics.days
        1e3 => Int cannot represent 1000.0 at creditAnalytics.days
        -2147483649 => Int cannot represent -2147483649 at creditAnalytics.days
        18446744073709551615 => Int cannot represent 18446744073709551615 at creditAnalytics.days
        99999999999999999999999 => Int cannot represent 1e+23 at creditAnalytics.days
        \"7\" => Int cannot represent a string at creditAnalytics.days
        null => Null is not allowed at creditAnalytics.days
        -2147483648 => PASSES
        2147483647 => PASSES
        0 => PASSES
    ";
    for (days, expected) in cases(analytics) {
        let text = format!("{{ creditAnalytics(days: {days}) {{ total }} }}");
        assert_eq!(message(checked(&text)), expected, "{days}");
        let text = format!("{{ ... {{ ...A }} }} fragment A on Query {text}");
        assert_eq!(message(checked(&text)), expected, "{days}");
    }
    let nested = "
        sum(values: [1, 2147483648]) => Int cannot represent 2147483648 at sum.values[1]
        sum(values: 3000000000) => Int cannot represent 3000000000 at sum.values
        grid @tone(level: 9e9) => Int cannot represent 9000000000.0 at @tone.level
        leads(where: {AND: [{score: {in: [1, 9999999999]}}]}) \
            => Int cannot represent 9999999999 at leads.where.AND[0].score.in[1]
    ";
    for (field, expected) in cases(nested) {
        assert_eq!(message(checked(&format!("{{ {field} }}"))), expected, "{field}");
    }
    let input = "
        nested: {credits: 9999999999} => Int cannot represent 9999999999 at .nested.credits
        weights: [[1], 2, [true]] => Int cannot represent true at .weights[2][0]
    ";
    for (field, expected) in cases(input) {
        let text = format!("mutation {{ creditGrant(input: {{credits: 1, {field}}}) {{ x }} }}");
        let told = message(checked(&text)).replace("creditGrant.input", "");
        assert_eq!(told, expected, "{field}");
    }
    // Judged for the chosen operation only; the other one does not run.
    let two = "query A { viewer { id } } query B { creditAnalytics(days: 3000000000) { total } }";
    assert_eq!(kind(checked_named(two, Some("A"))), "PASSES");
}

#[test]
fn defaults_of_variables_are_judged() {
    let defaults = "
        Int = 3000000000 => Int cannot represent 3000000000 at $v
        [Int] = [1, 3000000000] => Int cannot represent 3000000000 at $v[1]
        LeadWhere = {score: {eq: 3000000000}} => Int cannot represent 3000000000 at $v.score.eq
        Plan = \"ESSENTIAL\" => Not one of the allowed values at $v
        Plan = ESSENTIAL => PASSES
    ";
    for (variable, expected) in cases(defaults) {
        let text = format!("query ($v: {variable}) {{ viewer {{ id }} }}");
        assert_eq!(message(checked(&text)), expected, "{variable}");
    }
}

/// Judges each of the values, in JSON, as a variable of the type.
fn variables_of_type(ty: &str, lines: &str) {
    for (value, expected) in cases(lines) {
        let text = format!("query ($v: {ty}) {{ viewer {{ id }} }}");
        let value: Json = serde_json::from_str(value).unwrap_or(Json::from("no JSON"));
        let told = message(checked_with(&text, json!({ "v": value })));
        assert_eq!(told, expected, "{ty} {value}");
    }
}

#[test]
fn variables_of_scalars_are_judged() {
    let ints = "
        2147483647 => PASSES
        null => PASSES
        3000000000 => Int cannot represent 3000000000 at $v
        1.0 => Int cannot represent 1.0 at $v
        \"1\" => Int cannot represent a string at $v
    ";
    variables_of_type("Int", ints);
    variables_of_type("Int!", "null => Null is not allowed at $v");
    let floats = "1 => PASSES\n 1.5 => PASSES\n \"1\" => Float cannot represent a string at $v";
    variables_of_type("Float", floats);
    let strings = "
        \"x\" => PASSES
        1 => String cannot represent 1 at $v
        [\"x\"] => String cannot represent a list at $v
    ";
    variables_of_type("String", strings);
    variables_of_type("Boolean", "true => PASSES\n 0 => Boolean cannot represent 0 at $v");
    let ids = "
        \"lead_1\" => PASSES
        15 => PASSES
        1.5 => ID cannot represent 1.5 at $v
        {} => ID cannot represent an object at $v
    ";
    variables_of_type("ID", ids);
    variables_of_type("DateTime", "{\"anything\": [1]} => PASSES\n 3000000000 => PASSES");
    variables_of_type("JSON", "[1, \"x\", null] => PASSES");
    // The validator names these.
    variables_of_type("Unknown", "1 => PASSES");
    variables_of_type("Viewer", "1 => PASSES");
}

#[test]
fn variables_of_lists_and_enums_are_judged() {
    let ints = "5 => PASSES\n [1, 2] => PASSES\n [1, null] => Null is not allowed at $v[1]";
    variables_of_type("[Int!]", ints);
    let nested = "
        [1, [2], null] => PASSES
        [1, [\"x\"]] => Int cannot represent a string at $v[1][0]
    ";
    variables_of_type("[[Int]]", nested);
    let plans = "
        \"ESSENTIAL\" => PASSES
        \"GOLD\" => Not one of the allowed values at $v
        \"$v\" => Not one of the allowed values at $v
        1 => Not one of the allowed values at $v
    ";
    variables_of_type("Plan", plans);
    variables_of_type(
        "[Plan!]",
        "[\"ESSENTIAL\", \"x\"] => Not one of the allowed values at $v[1]",
    );
}

#[test]
fn variables_of_input_objects_are_judged() {
    let grants = "
        {\"credits\": 1} => PASSES
        {\"credits\": 1, \"metadata\": [{\"any\": 3e9}]} => PASSES
        {} => A value is required at $v.credits
        {\"credits\": null} => Null is not allowed at $v.credits
        {\"credits\": 1, \"plan\": null} => Null is not allowed at $v.plan
        {\"credits\": 1, \"other\": 2} => Unknown field at $v.other
        {\"credits\": 1, \"nested\": {}} => A value is required at $v.nested.credits
        {\"credits\": 1, \"nested\": {\"credits\": true}} \
            => Int cannot represent true at $v.nested.credits
        5 => An object is required at $v
        [{\"credits\": 1}] => An object is required at $v
    ";
    variables_of_type("GrantInput", grants);
    let one_of = "
        {\"id\": \"x\"} => PASSES
        {\"id\": \"x\", \"name\": \"y\"} => Exactly one field with a value is required at $v
        {\"id\": null} => Exactly one field with a value is required at $v
        {} => Exactly one field with a value is required at $v
    ";
    variables_of_type("By", one_of);
}

#[test]
fn a_missing_variable_is_refused_where_a_value_is_required() {
    let documents = "
        query ($d: Int!) { creditAnalytics(days: $d) { total } } => A value is required at $d
        query ($d: Int) { creditAnalytics(days: $d) { total } } => PASSES
        query ($d: Int! = 5) { creditAnalytics(days: $d) { total } } => PASSES
        query ($d: Int) { sum(values: [$d]) } => A value is required at sum.values[0]
        query ($id: ID) { node(id: $id) { id } } => A value is required at node.id
        query ($b: Boolean) { viewer @skip(if: $b) { id } } => A value is required at @skip.if
        query ($b: Boolean = true) { viewer @skip(if: $b) { id } } => PASSES
        query ($s: [Int!]!) { sum(values: $s) } => A value is required at $s
        query ($s: Int) { leads(where: {score: {eq: $s}}) { totalCount } } => PASSES
        query ($n: String) { search(by: {name: $n}) { id } } \
            => Exactly one field with a value is required at search.by
        { node(id: $undeclared) { id } } => PASSES
    ";
    for (text, expected) in cases(documents) {
        assert_eq!(message(checked(text)), expected, "{text}");
    }
    let text = "query ($d: Int = 5) { creditAnalytics(days: $d) { total } }";
    let told = message(checked_with(text, json!({ "d": null })));
    assert_eq!(told, "Null is not allowed at creditAnalytics.days");
}

#[test]
fn a_variable_fits_only_places_of_its_type() {
    let usages = "
        $v: String => creditAnalytics(days: $v) => creditAnalytics.days
        $v: [Int] => sum(values: $v) => sum.values
        $v: Int => sum(values: $v) => sum.values
        $v: String => leads(where: {score: {eq: $v}}) => leads.where.score.eq
        $v: String => sum(plan: $v) => sum.plan
    ";
    for (variable, rest) in cases(usages) {
        let (field, place) = rest.split_once(" => ").unwrap_or_default();
        let text = format!("query ({variable}) {{ {field} }}");
        let expected = format!("A variable of another type is used at {place}");
        assert_eq!(message(checked(&text)), expected, "{text}");
    }
}

#[test]
fn literals_of_the_wrong_kind_are_refused_by_the_document() {
    let fields = "
        sum(plan: \"ESSENTIAL\") => Not one of the allowed values at sum.plan
        sum(plan: GOLD) => Not one of the allowed values at sum.plan
        sum(ratio: \"1\") => Float cannot represent a string at sum.ratio
        sum(exact: 1) => Boolean cannot represent 1 at sum.exact
        sum(label: ESSENTIAL) => String cannot represent an enum value at sum.label
        leads(where: 5) { totalCount } => An object is required at leads.where
        leads(where: {age: 5}) { totalCount } => Unknown field at leads.where.age
        viewer @include(if: 1) { id } => Boolean cannot represent 1 at @include.if
        sum(unknown: 99999999999) => PASSES
        creditAnalytics(at: 99999999999) { total } => PASSES
    ";
    for (field, expected) in cases(fields) {
        assert_eq!(message(checked(&format!("{{ {field} }}"))), expected, "{field}");
    }
}

#[test]
fn refusals_repeat_no_text_of_variables() {
    let text = "query ($i: Int, $p: Plan) { viewer { id } }";
    let secret = "taro@example.jp";
    for variables in [json!({ "i": secret }), json!({ "p": secret })] {
        let told = message(checked_with(text, variables));
        assert!(told != "PASSES" && !told.contains(secret), "{told}");
    }
    let text = "query ($g: GrantInput) { viewer { id } }";
    let told = message(checked_with(text, json!({ "g": { "x".repeat(10_000): 1 } })));
    assert!(told != "PASSES" && told.chars().count() < 200, "{told}");
}

fn nested_list(depth: usize) -> Value {
    (0..depth).fold(Value::Null, |inner, _| Value::List(vec![inner]))
}

fn numbers(count: i32) -> Value {
    Value::List((0..count).map(Value::from).collect())
}

fn run(text: &str, value: Value) -> &'static str {
    let mut variables = Variables::default();
    variables.insert(Name::new("v"), value);
    kind(check(text, None, &variables, &TABLE, &Limits::default()))
}

#[test]
fn deep_variables_are_refused_whatever_their_type() {
    let json_variable = "query ($v: JSON) { viewer { id } }";
    assert_eq!(run(json_variable, nested_list(32)), "PASSES");
    assert_eq!(run(json_variable, nested_list(33)), "TOO_DEEP");
    assert_eq!(run(json_variable, nested_list(2_000)), "TOO_DEEP");
    assert_eq!(run("query ($v: LeadWhere) { viewer { id } }", nested_list(2_000)), "TOO_DEEP");
    assert_eq!(run("query ($v: [Int]) { viewer { id } }", nested_list(30)), "INVALID_VARIABLE");
}

#[test]
fn the_values_of_variables_are_counted_for_every_use() {
    let once = "query ($v: [Int!]!) { sum(values: $v) }";
    assert_eq!(run(once, numbers(40_000)), "PASSES");
    assert_eq!(run(once, numbers(60_000)), "TOO_MANY_VALUES");
    let fields: String = (0..20).map(|n| format!("f{n}: sum(values: $v) ")).collect();
    let often = format!("query ($v: [Int!]!) {{ {fields} }}");
    assert_eq!(run(&often, numbers(1_000)), "PASSES");
    assert_eq!(run(&often, numbers(5_000)), "TOO_MANY_VALUES");
    let spreads = "...A ".repeat(10);
    let fragment = "fragment A on Query { sum(values: $v) }";
    let spread = format!("query ($v: [Int!]!) {{ {spreads} }} {fragment}");
    assert_eq!(run(&spread, numbers(1_000)), "PASSES");
    assert_eq!(run(&spread, numbers(10_000)), "TOO_MANY_VALUES");
}
