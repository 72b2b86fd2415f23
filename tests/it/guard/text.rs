//! The pass over the text and the parser behind it.

use async_graphql::parser::parse_query;
use async_graphql::parser::types::{ExecutableDocument, Selection};
use musubi::graphql::guard::{Limits, scan};

use super::{checked, checked_within, kind, message};

const MEBIBYTE: usize = 1 << 20;

fn scans(text: &str, limits: &Limits) -> &'static str {
    kind(scan(text, limits))
}

fn unbounded() -> Limits {
    Limits { document_bytes: usize::MAX, ..Limits::default() }
}

#[test]
fn deep_documents_are_refused_before_the_parser() {
    for depth in [33, 2_000, 6_500, 20_000] {
        let lists = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        let objects = format!("{}1{}", "{a:".repeat(depth), "}".repeat(depth));
        let types = format!("{}Int{}", "[".repeat(depth), "]".repeat(depth));
        let close = "}".repeat(depth);
        let documents = [
            format!("{{ sum(values: {lists}) }}"),
            format!("{{ sum(values: {}", "[".repeat(depth)),
            format!("{{ leads(where: {objects}) {{ x }} }}"),
            format!("query ($x: Int = {lists}) {{ x }}"),
            format!("query ($x: Int = {objects}) {{ x }}"),
            format!("query ($x: {types}) {{ x }}"),
            format!("{}x{close}", "{a".repeat(depth)),
            format!("{{{}x{close}}}", "...{".repeat(depth)),
            format!("{{{}x{close}}}", "... on Q {".repeat(depth)),
            format!("{{ a @b(c: {lists}) }}"),
            format!("{{ a(b: \"]\", c: {lists}) }}"),
        ];
        for document in documents {
            let head: String = document.chars().take(40).collect();
            assert_eq!(kind(checked_within(&document, &unbounded())), "TOO_DEEP", "{depth} {head}");
        }
    }
}

#[test]
fn the_scan_counts_exactly() {
    // text, tokens, bracket depth, directives
    let cases = [
        ("{a b c}", 5, 1, 0),
        ("{,a,,,b # x y z ( [ {\n c\r}#", 5, 1, 0),
        ("{a(b:[1,-2.5e+3 0]){...F ...on X@d{x}}}", 24, 3, 1),
        ("query($x:[Int!]!=null&|)", 15, 2, 0),
        (r#"{a(b:"[[[(((@@@ \" \\")}"#, 8, 2, 0),
        (r#"{a(b:"\\"[)]}"#, 10, 3, 0),
        ("{a(b:\"\"\"[[[ \" \"\" \\\"\"\" @@@ \n # \\\"\"\")\"\"\")}", 8, 2, 0),
        ("{a(b:\"\"[)}", 9, 3, 0),
        ("{a(b:\"\"\"\"\"\"[)}", 9, 3, 0),
        ("{a(b:\"#\"[ #[[[\r[)}", 10, 4, 0),
        ("\u{feff}\u{feff}a", 1, 0, 0),
        (r#""\u00e9é日本""#, 1, 0, 0),
        ("#only a comment", 0, 0, 0),
        ("", 0, 0, 0),
    ];
    for (text, tokens, brackets, directives) in cases {
        let exact = Limits { tokens, brackets, directives, ..Limits::default() };
        assert_eq!(scans(text, &exact), "PASSES", "{text}");
        if tokens > 0 {
            let one_less = Limits { tokens: tokens - 1, ..exact.clone() };
            assert_eq!(scans(text, &one_less), "TOO_MANY_TOKENS", "{text}");
        }
        if brackets > 0 {
            let one_less = Limits { brackets: brackets - 1, ..exact.clone() };
            assert_eq!(scans(text, &one_less), "TOO_DEEP", "{text}");
        }
        if directives > 0 {
            let one_less = Limits { directives: directives - 1, ..exact.clone() };
            assert_eq!(scans(text, &one_less), "TOO_MANY_DIRECTIVES", "{text}");
        }
    }
}

#[test]
fn text_that_is_no_sequence_of_tokens_is_a_syntax_refusal() {
    let strings = [
        "\"",
        "\"abc",
        "\"a\nb\"",
        "\"a\\",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\"\"",
        "\"\"\"\"",
        "\"\"\" a \\\"\"\"",
        "\"\"\"\\\"\"\"\"\"",
    ];
    let numbers = ["01", "1a", "1.", "1.a", "-", "1e", "1e+", "1.2.3", "1_", "-01", "--1"];
    let others =
        [".", "..", "....", "?", "%", "é", "\u{0}", "\\", "'a'", "}", "{}}", "a \u{a0} b", "\u{c}"];
    for text in strings.into_iter().chain(numbers).chain(others) {
        let scanned = scan(text, &Limits::default());
        let is_syntax = scanned.as_ref().is_err_and(|refusal| !refusal.is_validation());
        assert!(is_syntax, "{text:?} {scanned:?}");
    }
    // Kinds of brackets are the parser's to match.
    assert_eq!(kind(checked("{a(]})}")), "SYNTAX");
    assert_eq!(kind(checked("")), "SYNTAX");
}

#[test]
fn a_refusal_tells_where() {
    let place = |text: &str| {
        let refused = checked(text).err().and_then(|refusal| refusal.pos());
        refused.map(|pos| (pos.line, pos.column))
    };
    assert_eq!(place("{\n  日本 \"x }"), Some((2, 3)));
    assert_eq!(place("{\n  a日 }"), Some((2, 4)));
    assert_eq!(place("{\r\n a\r \"x }"), Some((3, 2)));
    assert_eq!(place("{ a(b: ) }"), Some((1, 8)));
    assert_eq!(place("{ viewer { id } }\n{ viewer { id } }"), Some((2, 1)));
    assert_eq!(place("{\n creditAnalytics(days: 3000000000) { total } }"), Some((2, 24)));
    assert_eq!(place("query A(\n $x: Int!) { sum(values: [$x]) }"), Some((2, 2)));
}

#[test]
fn a_message_of_the_parser_is_short_and_does_not_repeat_the_document() {
    let text = format!("{{ a(b: {} }}", "secret ".repeat(500));
    let told = message(checked(&text));
    assert!(told.starts_with("Syntax error: expected "), "{told}");
    assert!(told.chars().count() <= 220 && !told.contains("secret"), "{told}");
    let twice = format!("query {0} {{ a }} query {0} {{ a }}", "n".repeat(9_000));
    assert!(message(checked(&twice)).chars().count() <= 220);
}

#[test]
fn refusals_do_not_tell_the_limits() {
    let limits = Limits::default();
    let numbers = [limits.document_bytes, limits.tokens, limits.brackets, limits.directives];
    let harmful = ["a ".repeat(20_000), "a ".repeat(5_000), "{".repeat(40), "@".repeat(60)];
    for text in harmful {
        let told = message(checked(&text));
        let repeats = |number: &usize| told.contains(&number.to_string());
        assert!(told != "PASSES" && !numbers.iter().any(repeats), "{told}");
    }
}

#[test]
fn size_is_bounded_whatever_it_consists_of() {
    let filled = |filler: &str, bytes: usize| {
        format!("{{ viewer {{ id }} {}\n }}", filler.repeat(bytes / filler.len()))
    };
    for filler in [",", " ", "\n", "#", "#\n", "\u{feff}", "a ", "\"", "{", "日"] {
        assert_eq!(kind(checked(&filled(filler, 4 * MEBIBYTE))), "TOO_LARGE", "{filler:?}");
    }
    for filler in [",", "\n", "# (\n", "#", "\u{feff}"] {
        assert_eq!(kind(checked(&filled(filler, 30_000))), "PASSES", "{filler:?}");
        let many = filled(filler, 4 * MEBIBYTE);
        assert_eq!(scans(&many, &unbounded()), "PASSES", "{filler:?}");
    }
}

#[test]
fn a_block_string_ends_where_the_parser_ends_it() {
    let hidden = "[".repeat(100);
    let inside = format!("{{ sum(label: \"\"\"{hidden} \\\"\"\" {hidden}\"\"\") }}");
    assert_eq!(kind(checked(&inside)), "PASSES");
    // `\\"""` is a backslash and an escaped quote: the string goes on.
    let after_backslashes = format!("{{ sum(label: \"\"\"x\\\\\"\"\" {hidden}\"\"\") }}");
    assert_eq!(kind(checked(&after_backslashes)), "PASSES");
    for string in ["\"\"\"x\"\"\"", "\"\"", "\"\"\"\"\"\"", "\"\\\\\"", "\"\\\"\""] {
        let outside = format!("{{ sum(label: {string} values: {hidden}) }}");
        assert_eq!(kind(checked(&outside)), "TOO_DEEP", "{string}");
    }
}

#[test]
fn a_syntax_error_far_down_draws_nothing_of_the_document() {
    for lines in [0, 9, 5_000] {
        let text = format!("{}secret", "\n".repeat(lines));
        let told = message(checked(&text));
        assert_eq!(told, "Syntax error: expected executable_definition", "{lines}");
    }
}

/// Whether any field of the document has arguments or selects, which takes a second bracket.
fn is_nested(document: &ExecutableDocument) -> bool {
    let operations = document.operations.iter();
    let mut selections = operations.flat_map(|(_, o)| &o.node.selection_set.node.items);
    selections.any(|selection| match &selection.node {
        Selection::Field(field) => {
            !field.node.selection_set.node.items.is_empty() || !field.node.arguments.is_empty()
        }
        Selection::InlineFragment(_) => true,
        Selection::FragmentSpread(_) => false,
    })
}

#[test]
fn no_text_makes_the_scan_panic_or_hides_a_bracket_from_it() {
    let pieces = [
        "{", "}", "(", ")", "[", "]", "\"", "\"\"\"", "\\", "\\\"\"\"", "#", "\n", "\r", "a", "on",
        ":", "$", "@", "...", ".", "1", "-", "0", "e", "!", "=", "|", "&", "日", "\u{feff}", " ",
    ];
    let flat = Limits { brackets: 1, ..Limits::default() };
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..20_000 {
        let length = random.usize(..24);
        let middle: String = (0..length).filter_map(|_| random.choice(pieces)).collect();
        let text = format!("{{a{middle}}}");
        let _ = checked(&text);
        let _ = checked(&middle);
        if scans(&text, &flat) == "PASSES" {
            assert!(!parse_query(&text).is_ok_and(|document| is_nested(&document)), "{text:?}");
        }
    }
}
