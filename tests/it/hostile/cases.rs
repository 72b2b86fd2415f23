//! Documents and requests made to harm, with how each is met. The fuzzer begins with them too.

/// A request made to harm.
pub(crate) struct Case {
    /// What it tries.
    pub(crate) name: &'static str,
    /// The document.
    pub(crate) query: String,
    /// `operationName`.
    pub(crate) operation: Option<String>,
    /// `variables`, as JSON text that need not be any.
    pub(crate) variables: String,
    /// How the guard meets it: the kind of its refusal, or `PASSES` for what the validator
    /// refuses, or `RUNS` for what is harmless after all.
    pub(crate) met: &'static str,
}

impl Case {
    fn of(name: &'static str, query: impl Into<String>, met: &'static str) -> Self {
        let variables = "{}".to_owned();
        Self { name, query: query.into(), operation: None, variables, met }
    }

    fn named(self, operation: impl Into<String>) -> Self {
        Self { operation: Some(operation.into()), ..self }
    }

    fn with(self, variables: impl Into<String>) -> Self {
        Self { variables: variables.into(), ..self }
    }
}

/// Everything.
pub(crate) fn cases() -> Vec<Case> {
    let groups = [nested(), bombs(), floods(), texts(), bytes(), values(), rivals(), errors()];
    groups.into_iter().flatten().collect()
}

fn numbered(count: usize, one: impl Fn(usize) -> String) -> String {
    (0..count).map(one).collect()
}

fn wrapped(open: &str, middle: &str, close: &str, depth: usize) -> String {
    format!("{}{middle}{}", open.repeat(depth), close.repeat(depth))
}

/// `levels` fragments, each spreading the next `width` times.
fn bomb(width: usize, levels: usize) -> String {
    let link = |n| format!("fragment F{n} on Query{{{}}}", format!("...F{} ", n + 1).repeat(width));
    let links = numbered(levels, link);
    format!("{{...F0}}{links}fragment F{levels} on Query{{__typename}}")
}

fn nested() -> Vec<Case> {
    let deep = |open: &str, close: &str| wrapped(open, "1", close, 5_000);
    let lists = deep("[", "]");
    let objects = deep("{AND:", "}");
    let where_lists = format!("{{aiExecutions(where:{lists}){{totalCount}}}}");
    let where_objects = format!("{{aiExecutions(where:{objects}){{totalCount}}}}");
    let fields = wrapped("{viewer", "{id}", "}", 2_000);
    let steps = "{queryType{name}}".to_owned();
    let types = format!("{{__type(name:\"Query\"){}}}", wrapped("{ofType", "{name}", "}", 25));
    vec![
        Case::of("deep lists", where_lists, "TOO_DEEP"),
        Case::of("deep objects", where_objects, "TOO_DEEP"),
        Case::of(
            "a deep default",
            format!("query($v:[Int]={lists}){{viewer{{role}}}}"),
            "TOO_DEEP",
        ),
        Case::of("deep objects as default", format!("query($v:Date={objects}){{a}}"), "TOO_DEEP"),
        Case::of("a deep type", format!("query($v:{}){{a}}", deep("[", "]!")), "TOO_DEEP"),
        Case::of("lists that stay open", format!("{{nodes(ids:{}", "[".repeat(20_000)), "TOO_DEEP"),
        Case::of("deep selections", fields, "TOO_DEEP"),
        Case::of(
            "deep inline fragments",
            wrapped("{...", "{viewer{role}}", "}", 3_000),
            "TOO_DEEP",
        ),
        Case::of(
            "deep typed inline fragments",
            wrapped("{...on Query", "{__typename}", "}", 1_000),
            "TOO_DEEP",
        ),
        Case::of("deep types of introspection", types, "TOO_DEEP"),
        Case::of("a harmless question", format!("{{__schema{steps}}}"), "RUNS"),
        Case::of(
            "a directive's deep argument",
            format!("{{viewer@skip(if:{lists}){{role}}}}"),
            "TOO_DEEP",
        ),
        Case::of("a long chain of fragments", bomb(1, 300), "TOO_DEEP"),
        Case::of("closing brackets alone", "}".repeat(30_000), "SYNTAX"),
    ]
}

fn bombs() -> Vec<Case> {
    let unused = bomb(60, 4).replacen("{...F0}", "{viewer{role}}", 1);
    let other = bomb(2, 26).replacen('{', "query A{", 1) + "query B{viewer{role}}";
    let introspection = {
        let link = |n| {
            format!(
                "fragment T{n} on __Type{{fields{{type{{...T{}}}}}ofType{{...T{}}}}}",
                n + 1,
                n + 1
            )
        };
        let links = numbered(9, link);
        format!("{{__schema{{types{{...T0}}}}}}{links}fragment T9 on __Type{{name}}")
    };
    let wide = |count: usize| {
        let fields = numbered(count, |n| format!("a{n}:__schema{{types{{name fields{{name}}}}}}"));
        format!("{{{fields}}}")
    };
    let cycle = numbered(300, |n| format!("fragment F{n} on Query{{...F{}}}", (n + 1) % 300));
    let all_in_all = {
        let spreads = numbered(50, |n| format!("...F{n} "));
        numbered(50, |n| format!("fragment F{n} on Query{{{spreads}}}"))
    };
    vec![
        Case::of("doubling fragments", bomb(2, 26), "TOO_MANY_SELECTIONS"),
        Case::of("sixty spreads on four levels", bomb(60, 4), "TOO_MANY_SELECTIONS"),
        Case::of("a bomb that nobody spreads", unused, "TOO_MANY_SELECTIONS"),
        Case::of("a bomb in the other operation", other, "TOO_MANY_SELECTIONS").named("B"),
        Case::of("a bomb of types", introspection, "TOO_DEEP"),
        Case::of("the schema thirty times", wide(30), "TOO_MANY_ROOT_FIELDS"),
        Case::of("a circle of fragments", format!("{{...F0}}{cycle}"), "FRAGMENT_CYCLE"),
        Case::of("fragments that spread all", format!("{{...F0}}{all_in_all}"), "TOO_MANY_TOKENS"),
        Case::of("a fragment in itself", "{...A}fragment A on Query{...A}", "FRAGMENT_CYCLE"),
    ]
}

fn floods() -> Vec<Case> {
    let fields = |count: usize, one: fn(usize) -> String| format!("{{{}}}", numbered(count, one));
    let operations = numbered(10_000, |n| format!("query Q{n}{{viewer{{role}}}}"));
    let few_operations = numbered(600, |n| format!("query Q{n}{{viewer{{role}}}}"));
    let long_name = "n".repeat(100_000);
    let name = "n".repeat(30_000);
    vec![
        Case::of("10 000 aliases", fields(10_000, |n| format!("a{n}:viewer{{role}}")), "TOO_LARGE"),
        Case::of(
            "400 aliases",
            fields(400, |n| format!("a{n}:viewer{{role}}")),
            "TOO_MANY_ALIASES",
        ),
        Case::of(
            "10 000 directives",
            format!("{{viewer{}{{role}}}}", "@skip(if:true)".repeat(10_000)),
            "TOO_LARGE",
        ),
        Case::of(
            "2 000 directives",
            format!("{{viewer{}{{role}}}}", "@a".repeat(2_000)),
            "TOO_MANY_DIRECTIVES",
        ),
        Case::of(
            "50 directives",
            format!("{{viewer{}{{role}}}}", "@aa".repeat(50)),
            "TOO_MANY_ERRORS",
        ),
        Case::of("20 000 unknown fields", fields(20_000, |n| format!("f{n} ")), "TOO_LARGE"),
        Case::of("5 000 unknown fields", fields(5_000, |n| format!("f{n} ")), "TOO_MANY_TOKENS"),
        Case::of(
            "31 root fields",
            format!("{{{}}}", "__typename ".repeat(31)),
            "TOO_MANY_ROOT_FIELDS",
        ),
        Case::of("500 times one field", format!("{{viewer{{{}}}}}", "role ".repeat(500)), "RUNS"),
        Case::of("10 000 operations", operations, "TOO_LARGE").named("Q0"),
        Case::of("600 operations", few_operations, "TOO_MANY_TOKENS").named("Q0"),
        Case::of("a name of 100 KB", format!("{{{long_name}}}"), "TOO_LARGE"),
        Case::of("a name of 30 KB", format!("{{{name}}}"), "NAME_TOO_LONG"),
        Case::of("an alias of 30 KB", format!("{{{name}:viewer{{role}}}}"), "NAME_TOO_LONG"),
        Case::of("an operation of that name", "query A{viewer{role}}", "OPERATION_NOT_FOUND")
            .named(long_name),
        Case::of("no such operation", "query A{viewer{role}}query B{a}", "OPERATION_NOT_FOUND")
            .named("C"),
        Case::of(
            "two operations without a name",
            "query A{a}query B{a}",
            "OPERATION_NAME_REQUIRED",
        ),
        Case::of("two operations of one name", "query A{a}query A{a}", "SYNTAX").named("A"),
    ]
}

fn texts() -> Vec<Case> {
    let quote = "\"\"\"";
    let within = |text: &str| format!("{{node(id:{text}){{id}}}}");
    let odd = numbered(4_000, |n| format!("{}x\n", " ".repeat(n % 7)));
    let steps = numbered(200, |n| format!("{}x\n", " ".repeat(n)));
    vec![
        Case::of(
            "a block string of 1 MB",
            within(&format!("{quote}{}{quote}", "a".repeat(900_000))),
            "TOO_LARGE",
        ),
        Case::of(
            "a block string without end",
            within(&format!("{quote}{}", "a".repeat(30_000))),
            "SYNTAX",
        ),
        Case::of(
            "a block string of line ends",
            within(&format!("{quote}{}{quote}", "\n".repeat(30_000))),
            "RUNS",
        ),
        Case::of(
            "a block string of other line ends",
            within(&format!("{quote}{}{quote}", "\r\r\n".repeat(10_000))),
            "RUNS",
        ),
        Case::of("odd indentation", within(&format!("{quote}\n{odd}{quote}")), "RUNS"),
        Case::of("a staircase", within(&format!("{quote}\n{steps}{quote}")), "RUNS"),
        Case::of(
            "tabs and blanks",
            within(&format!("{quote}{}{quote}", " \t\n".repeat(10_000))),
            "RUNS",
        ),
        Case::of(
            "escaped quotes",
            within(&format!("{quote}{}{quote}", "\\\"\"\"".repeat(7_000))),
            "RUNS",
        ),
        Case::of("quotes without end", "\"".repeat(30_001), "TOO_MANY_TOKENS"),
        Case::of("a string over lines", within("\"a\nb\""), "SYNTAX"),
        Case::of("escapes", within(&format!("\"{}\"", "\\u0041".repeat(5_000))), "RUNS"),
        Case::of("half a surrogate", within("\"\\uD800\""), "SYNTAX"),
        Case::of("a pair of surrogates", within("\"\\uD83D\\uDE00\""), "SYNTAX"),
        Case::of("an escape that is none", within("\"\\x\""), "SYNTAX"),
        Case::of("a character beyond", within("\"\\u{110000}\""), "SYNTAX"),
        Case::of(
            "15 000 empty strings",
            within(&format!("[{}]", "\"\" ".repeat(10_000))),
            "TOO_MANY_TOKENS",
        ),
    ]
}

fn bytes() -> Vec<Case> {
    let filled = |filler: &str, count: usize| format!("{{viewer{}{{role}}}}", filler.repeat(count));
    let comment = format!("#{}\n", "x".repeat(900_000));
    vec![
        Case::of("a megabyte of commas", filled(",", 900_000), "TOO_LARGE"),
        Case::of("30 KB of commas", filled(",", 30_000), "RUNS"),
        Case::of("30 KB of line ends", filled("\n", 30_000), "RUNS"),
        Case::of("a megabyte of comment", filled(&comment, 1), "TOO_LARGE"),
        Case::of("15 000 comments", filled("#\n", 15_000), "RUNS"),
        Case::of(
            "a comment without end",
            format!("{{viewer{{role}}}}#{}", "{[(".repeat(9_000)),
            "RUNS",
        ),
        Case::of("10 000 byte order marks", filled("\u{feff}", 10_000), "RUNS"),
        Case::of("a zero byte", "{viewer\0{role}}", "SYNTAX"),
        Case::of("a zero byte in a string", "{node(id:\"a\0b\"){id}}", "RUNS"),
        Case::of("control characters", "{\u{1}\u{7f}\u{1b}[31m}", "SYNTAX"),
        Case::of("text from right to left", "{\u{202e}viewer{role}}", "SYNTAX"),
        Case::of("no document", "", "SYNTAX"),
        Case::of("white space alone", " \n\t,".repeat(5_000), "SYNTAX"),
        Case::of("a schema", "type Query{a:Int}", "SYNTAX"),
        Case::of("letters of other alphabets", "{ｖｉｅｗｅｒ{role}}", "SYNTAX"),
        Case::of("dots", ".".repeat(30_000), "TOO_MANY_TOKENS"),
        Case::of("bars", "|".repeat(30_000), "TOO_MANY_TOKENS"),
    ]
}

fn values() -> Vec<Case> {
    let first = |value: &str| format!("{{aiExecutions(first:{value}){{totalCount}}}}");
    let list = |count: usize, item: &str| format!("[{}]", vec![item; count].join(","));
    let ids = "query($v:[ID!]!){nodes(ids:$v){id}}";
    let date = "query($v:Date!){creditAnalytics(from:$v,to:$v){efficiencyScore}}";
    let filter = "query($v:AiExecutionWhere){aiExecutions(where:$v){totalCount}}";
    let uses =
        format!("query($v:[ID!]!){{{}}}", numbered(20, |n| format!("a{n}:nodes(ids:$v){{id}}")));
    let members = format!("{{{}\"m\":1}}", numbered(60_000, |n| format!("\"m{n}\":1,")));
    let defined = numbered(900, |n| format!("$v{n}:Int "));
    vec![
        Case::of("an endless integer", first(&"9".repeat(30_000)), "SYNTAX"),
        Case::of(
            "an endless fraction",
            first(&format!("0.{}", "9".repeat(30_000))),
            "INVALID_VALUE",
        ),
        Case::of("a great exponent", first("1e999999999"), "SYNTAX"),
        Case::of("an endless exponent", first(&format!("1e{}", "9".repeat(30_000))), "SYNTAX"),
        Case::of("a small exponent", first("1e-999999999"), "INVALID_VALUE"),
        Case::of("more than 32 bits", first("2147483648"), "INVALID_VALUE"),
        Case::of("many zeros", first("00"), "SYNTAX"),
        Case::of("a number that runs on", first("1.2.3"), "SYNTAX"),
        Case::of("10^5 ids", ids, "TOO_MANY_VALUES")
            .with(format!("{{\"v\":{}}}", list(100_000, "1"))),
        Case::of("10^4 ids", ids, "RUNS").with(format!("{{\"v\":{}}}", list(10_000, "1"))),
        Case::of("ids used twenty times", uses, "TOO_MANY_VALUES")
            .with(format!("{{\"v\":{}}}", list(4_000, "1"))),
        Case::of("10^5 members", filter, "TOO_MANY_VALUES").with(format!("{{\"v\":{members}}}")),
        Case::of("members that nobody asked for", "{__typename}", "RUNS").with(members.clone()),
        Case::of("deep JSON", date, "TOO_DEEP")
            .with(format!("{{\"v\":{}}}", wrapped("[", "1", "]", 100))),
        Case::of("deep JSON objects", filter, "TOO_DEEP")
            .with(format!("{{\"v\":{}}}", wrapped("{\"NOT\":", "{}", "}", 100))),
        Case::of("JSON too deep to read", date, "MALFORMED")
            .with(format!("{{\"v\":{}}}", wrapped("[", "1", "]", 10_000))),
        Case::of("JSON objects too deep to read", date, "MALFORMED")
            .with(format!("{{\"v\":{}}}", wrapped("{\"a\":", "1", "}", 5_000))),
        Case::of("half a surrogate in JSON", ids, "MALFORMED").with("{\"v\":[\"\\ud800\"]}"),
        Case::of("a great exponent in JSON", ids, "MALFORMED").with("{\"v\":[1e999999999]}"),
        Case::of("an endless integer in JSON", ids, "INVALID_VARIABLE")
            .with(format!("{{\"v\":[{}]}}", "9".repeat(300))),
        Case::of("a member twice", ids, "RUNS").with("{\"v\":{\"a\":1},\"v\":[\"1\"]}"),
        Case::of("text where a list of objects stands", filter, "INVALID_VARIABLE")
            .with("{\"v\":\"x\"}"),
        Case::of("900 variables", format!("query({defined}){{viewer{{role}}}}"), "PASSES"),
    ]
}

fn rivals() -> Vec<Case> {
    let page = |n: usize| format!("a:aiExecutions(first:{n}){{totalCount}}");
    let rivals = format!("{{viewer{{role}}{}}}", numbered(18, page));
    let same = format!("{{viewer{{{}}}}}", "tenant{id}".repeat(900));
    let spread = {
        let fragments =
            numbered(60, |n| format!("fragment F{n} on Query{{a:viewer{{r{n}:role}}}}"));
        format!("{{{}}}{fragments}", numbered(60, |n| format!("...F{n} ")))
    };
    let sets = format!(
        "{{...A}}fragment A on Query{{{}}}fragment B on Query{{{}}}",
        "...{...B}".repeat(300),
        "__typename ".repeat(1_500)
    );
    let unseen = sets.replacen("{...A}", "{__typename}", 1);
    let nested = wrapped("{...", &format!("{{{}}}", "__typename ".repeat(20)), "}", 29);
    let deep_inside = format!(
        "{{viewer{}}}",
        wrapped("{...", &format!("{{{}}}", "role ".repeat(3_800)), "}", 27)
    );
    let in_chain = {
        let inline = |n: usize| wrapped("{...", &format!("{{...F{}}}", n + 1), "}", 3);
        let links = numbered(5, |n| format!("fragment F{n} on Viewer{}", inline(n)));
        format!("{{viewer{{...F0}}}}{links}fragment F5 on Viewer{{{}}}", "role ".repeat(3_500))
    };
    let introspected = format!("{{__schema{{{}}}}}", numbered(3_900, |n| format!("f{n} ")));
    vec![
        Case::of("many fields deep inside", deep_inside, "TOO_MANY_SELECTIONS"),
        Case::of("many fields at the end of a chain", in_chain, "TOO_MANY_SELECTIONS"),
        Case::of("unknown fields of the schema", introspected, "PASSES"),
        Case::of("one field with two meanings", rivals, "FIELD_CONFLICT"),
        Case::of("one object 900 times", same, "RUNS"),
        Case::of("sixty fragments about one field", spread, "TOO_MANY_ALIASES"),
        Case::of("sets that spread one fragment", sets, "TOO_MANY_SELECTIONS"),
        Case::of("the same where nobody looks", unseen, "TOO_MANY_SELECTIONS"),
        Case::of("fields within inline fragments", nested, "RUNS"),
        Case::of(
            "a subscription to everything",
            "subscription{a:creditBalance{version}b:creditBalance{version}}",
            "SUBSCRIPTION_ROOT_FIELDS",
        ),
        Case::of(
            "a subscription to nothing",
            "subscription{__typename}",
            "SUBSCRIPTION_ROOT_FIELDS",
        ),
    ]
}

/// What only the validator names.
fn errors() -> Vec<Case> {
    let mut cases = unknown_things();
    cases.extend(strange_variables());
    cases
}

/// Variables that do not fit their operations.
fn strange_variables() -> Vec<Case> {
    let name = "q".repeat(250);
    let undefined = numbered(900, |n| format!("$v{n} "));
    let defined = numbered(30, |n| format!("$v{n}:ID! "));
    let used = numbered(900, |n| format!("$v{} ", n % 30));
    let spread = |count: usize| numbered(count, |n| format!("query {name}{n}{{...A}}"));
    let everywhere = format!("{}fragment A on Query{{nodes(ids:[{undefined}]){{id}}}}", spread(50));
    let operations = numbered(11, |n| format!("query {name}{n}({defined}){{...A}}"));
    let used = format!("{operations}fragment A on Query{{nodes(ids:[{used}]){{id}}}}");
    let half = {
        let undefined = numbered(190, |n| format!("$v{n} "));
        format!("{}fragment A on Query{{nodes(ids:[{undefined}]){{id}}}}", spread(50))
    };
    vec![
        Case::of("variables that no operation defines", everywhere, "TOO_MANY_VALUES")
            .named(format!("{name}0")),
        Case::of("the same with fewer variables", half, "PASSES").named(format!("{name}0")),
        Case::of("variables that many operations use", used, "RUNS")
            .named(format!("{name}0"))
            .with(format!("{{{}\"w\":1}}", numbered(30, |n| format!("\"v{n}\":1,")))),
    ]
}

/// Fields, arguments, types, fragments and members that the schema does not know.
fn unknown_things() -> Vec<Case> {
    let unknown_arguments =
        format!("{{viewer{{role({})}}}}", numbered(1_200, |n| format!("a{n}:1 ")));
    let nested =
        wrapped("{AND:", &format!("{{{}}}", numbered(900, |n| format!("x{n}:1 "))), "}", 20);
    vec![
        Case::of(
            "3 900 unknown fields",
            format!("{{viewer{{{}}}}}", numbered(3_900, |n| format!("f{n} "))),
            "TOO_MANY_ERRORS",
        ),
        Case::of("1 200 unknown arguments", unknown_arguments, "TOO_MANY_ERRORS"),
        Case::of(
            "1 900 unknown fragments",
            format!("{{{}}}", "...X ".repeat(1_900)),
            "TOO_MANY_ERRORS",
        ),
        Case::of(
            "600 unknown types",
            format!("{{{}}}", "...on X{a}".repeat(600)),
            "TOO_MANY_ROOT_FIELDS",
        ),
        Case::of(
            "600 types without fields",
            format!("{{viewer{{{}}}}}", "...on X{a}".repeat(600)),
            "TOO_MANY_ERRORS",
        ),
        Case::of(
            "900 fragments that nobody spreads",
            format!("{{__typename}}{}", numbered(480, |n| format!("fragment F{n} on Query{{a}}"))),
            "TOO_MANY_ERRORS",
        ),
        Case::of(
            "leaves with selections",
            format!("{{viewer{{{}}}}}", "role{a}".repeat(900)),
            "TOO_MANY_ERRORS",
        ),
        Case::of(
            "objects without selections",
            format!("{{viewer{{{}}}}}", "tenant ".repeat(3_900)),
            "TOO_COSTLY",
        ),
        Case::of(
            "arguments twice",
            format!("{{nodes({}){{id}}}}", "ids:1 ".repeat(1_200)),
            "TOO_MANY_ERRORS",
        ),
        Case::of(
            "unknown members of an input",
            format!("{{aiExecutions(where:{nested}){{totalCount}}}}"),
            "INVALID_VALUE",
        ),
        Case::of(
            "a mutation's unknown member",
            "mutation{aiExecute(input:{a:1}){execution{id}}}",
            "INVALID_VALUE",
        ),
    ]
}
