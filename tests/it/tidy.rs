//! The house's rules, read off its own files: the shelf, the rooms, the sizes, the papers.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The shelf: a module uses only what stands to its left.
const SHELF: &str = "error ids clock money text mask crypto config tokens actor tasks nodelay db \
     batch external entity events queue meter journal app mail audit idempotency alerts limits \
     documents identity credits payments plans anomaly ai compliance verify jobs demo graphql http";
/// Folders of the shelf that are layers; the other folders are domains.
const LAYERS: &[&str] = &["external", "entity", "graphql", "http"];
/// Where a macro of the whole crate is written.
const MACROS: &[(&str, &str)] =
    &[("text_enum", "text"), ("loads", "graphql"), ("payloads", "graphql")];

const LINES_MAX: usize = 600;
const TEST_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
const COLUMNS_MAX: usize = 100;
const FILES_MAX: usize = 8;
const README_LINES_MAX: usize = 440;
/// Names that say nothing of what is inside.
const BANNED_NAMES: &[&str] =
    &["utils", "helpers", "common", "misc", "core", "base", "manager", "handler"];
/// Words of unfinished work; in halves, so that this file may hold them.
const UNFINISHED: &[&str] =
    &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];
const IGNORED: &str = concat!("#[", "ignore");
const SLEEP: &str = concat!("thread::", "sleep");

/// A file of the house, named from its root.
struct Page {
    path: String,
    text: String,
}

impl Page {
    /// The module of the shelf that it belongs to.
    fn module(&self) -> &str {
        let rest = self.path.strip_prefix("src/").unwrap();
        rest.split('/').next().unwrap().trim_end_matches(".rs")
    }

    /// Whether it is how a domain is asked.
    fn is_domain_graphql(&self) -> bool {
        let steps: Vec<&str> = self.path.split('/').collect();
        steps.len() > 2 && matches!(steps[2], "graphql" | "graphql.rs")
    }

    /// Lines of code with their numbers; comments are left out.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(at, line)| (at + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// Complaints about code that contains any of these.
    fn without(&self, words: &[&str], rule: &str) -> Vec<String> {
        let hits = self.code().filter(|(_, line)| words.iter().any(|word| line.contains(word)));
        hits.map(|(at, line)| format!("{}:{at}: {rule}: {}", self.path, line.trim())).collect()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All Rust files of these folders, by path.
fn pages(folders: &[&str]) -> Vec<Page> {
    let mut found: Vec<PathBuf> = Vec::new();
    for folder in folders {
        gather(&root().join(folder), &mut found);
    }
    found.sort();
    let page = |file: PathBuf| {
        let path = file.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        Page { text: read(&path), path }
    };
    found.into_iter().map(page).collect()
}

fn gather(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn is_on_shelf(page: &Page) -> bool {
    !matches!(page.module(), "lib" | "main")
}

fn is_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

/// The longest name that a text begins with.
fn name(text: &str) -> &str {
    text.split(|letter| !is_name(letter)).next().unwrap_or_default()
}

#[track_caller]
fn nothing_wrong(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn the_library_lists_its_modules_in_the_order_of_the_shelf() {
    let library = read("src/lib.rs");
    let listed: Vec<&str> = library
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    assert_eq!(listed, SHELF.split_whitespace().collect::<Vec<_>>());
}

#[test]
fn a_module_uses_only_what_stands_to_its_left() {
    let shelf: Vec<&str> = SHELF.split_whitespace().collect();
    let place = |module: &str| shelf.iter().position(|name| *name == module);
    let mut complaints = Vec::new();
    for page in pages(&["src"]).iter().filter(|page| is_on_shelf(page)) {
        let own = place(page.module());
        for (at, line) in page.code() {
            for used in line.split("crate::").skip(1) {
                let module = name(used);
                let is_macro = MACROS.iter().find(|(macro_name, _)| *macro_name == module);
                let module = is_macro.map_or(module, |(_, home)| home);
                let inner = used.strip_prefix(module).and_then(|rest| rest.strip_prefix("::"));
                let is_asking = module == "graphql" || inner.map(name) == Some("graphql");
                let is_allowed = match place(module) {
                    None => false,
                    there if there <= own => true,
                    Some(_) => page.is_domain_graphql() && is_asking,
                };
                if !is_allowed {
                    complaints.push(format!("{}:{at}: {}", page.path, line.trim()));
                }
            }
        }
    }
    nothing_wrong(complaints);
}

#[test]
fn only_http_knows_axum() {
    let others = pages(&["src"]).into_iter().filter(|page| page.module() != "http");
    let rule = "only src/http knows axum";
    nothing_wrong(others.flat_map(|page| page.without(&["axum"], rule)).collect());
}

#[test]
fn only_config_reads_the_environment() {
    let others = pages(&["src"]).into_iter().filter(|page| page.path != "src/config.rs");
    let words = ["std::env", "env::var", "env!("];
    let rule = "only config.rs reads the environment";
    nothing_wrong(others.flat_map(|page| page.without(&words, rule)).collect());
}

#[test]
fn only_the_shell_and_the_domains_graphql_files_know_graphql() {
    let others = pages(&["src"])
        .into_iter()
        .filter(|page| !page.is_domain_graphql() && !matches!(page.module(), "graphql" | "http"));
    let rule = "services never see GraphQL";
    nothing_wrong(others.flat_map(|page| page.without(&["async_graphql"], rule)).collect());
}

#[test]
fn resolvers_see_no_table_and_open_no_transaction() {
    let resolvers = pages(&["src"]).into_iter().filter(Page::is_domain_graphql);
    let rule = "a resolver names, a service decides";
    let words = ["sea_orm::", "sea_orm;", ".begin(", "db::"];
    nothing_wrong(resolvers.flat_map(|page| page.without(&words, rule)).collect());
}

#[test]
fn tables_have_no_verbs() {
    let tables = pages(&["src/entity"]);
    let words = ["async fn", ".await", ".begin(", ".exec(", "Permission", "Actor"];
    let tables = tables.iter().flat_map(|page| page.without(&words, "an entity has no verbs"));
    nothing_wrong(tables.collect());
}

#[test]
fn migrations_import_nothing_from_the_program() {
    let words = ["musubi::", "use musubi"];
    let rule = "a migration is history";
    let pages = pages(&["migration/src"]);
    nothing_wrong(pages.iter().flat_map(|page| page.without(&words, rule)).collect());
    assert!(!read("migration/Cargo.toml").contains("path ="), "migration depends on the program");
}

#[test]
fn no_file_is_longer_than_its_limit() {
    let limits = [(["src", "migration/src"].as_slice(), LINES_MAX), (&["tests"], TEST_LINES_MAX)];
    let mut complaints = Vec::new();
    for (folders, limit) in limits {
        for page in pages(folders) {
            let lines = page.text.lines().count();
            if lines > limit {
                complaints.push(format!("{}: {lines} lines, at most {limit}", page.path));
            }
        }
    }
    let lines = read("README.md").lines().count();
    if lines > README_LINES_MAX {
        complaints.push(format!("README.md: {lines} lines, at most {README_LINES_MAX}"));
    }
    nothing_wrong(complaints);
}

#[test]
fn no_line_is_longer_than_a_hundred_columns() {
    let mut complaints = Vec::new();
    for page in pages(&["src", "migration/src", "tests"]) {
        for (at, line) in page.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX {
                complaints.push(format!("{}:{}: {columns} columns", page.path, at + 1));
            }
        }
    }
    nothing_wrong(complaints);
}

#[test]
fn no_function_is_longer_than_seventy_lines() {
    let mut complaints = Vec::new();
    for page in pages(&["src", "migration/src", "tests"]) {
        let lines: Vec<&str> = page.text.lines().collect();
        for at in 0..lines.len() {
            let Some((function, length)) = function_at(&lines[at..]) else { continue };
            if length > FUNCTION_LINES_MAX {
                complaints.push(format!("{}:{}: {function}: {length} lines", page.path, at + 1));
            }
        }
    }
    nothing_wrong(complaints);
}

/// The function that begins on the first of these lines, with the lines that it takes.
fn function_at<'a>(lines: &[&'a str]) -> Option<(&'a str, usize)> {
    let first = lines[0];
    let line = first.trim_start();
    let indent = &first[..first.len() - line.len()];
    let words = line.split("fn ").next().unwrap_or_default();
    let is_prefix = words
        .split_whitespace()
        .all(|word| matches!(word, "const" | "async") || word.starts_with("pub"));
    let function = name(line.strip_prefix(words)?.strip_prefix("fn ")?);
    if !is_prefix || function.is_empty() {
        return None;
    }
    let opened = lines.iter().position(|line| line.ends_with('{') || line.ends_with('}'));
    let declared = lines.iter().position(|line| line.ends_with(';')).unwrap_or(usize::MAX);
    let opened = opened.filter(|opened| *opened < declared)?;
    if lines[opened].ends_with('}') {
        return Some((function, opened + 1));
    }
    let end = format!("{indent}}}");
    let length = lines.iter().position(|line| *line == end)?;
    Some((function, length + 1))
}

#[test]
fn no_file_has_a_name_that_says_nothing() {
    let stem = |page: &Page| page.path.split(['/', '.']).rev().nth(1).map(str::to_owned);
    let pages = pages(&["src", "migration/src", "tests"]);
    let banned = pages
        .iter()
        .filter(|page| stem(page).is_some_and(|stem| BANNED_NAMES.contains(&stem.as_str())))
        .map(|page| page.path.clone());
    nothing_wrong(banned.collect());
}

#[test]
fn no_folder_of_a_domain_holds_more_than_eight_files() {
    let mut complaints = Vec::new();
    for module in SHELF.split_whitespace().filter(|module| !LAYERS.contains(module)) {
        let folder = root().join("src").join(module);
        if folder.is_dir() {
            count_files(&folder, &mut complaints);
        }
    }
    nothing_wrong(complaints);
}

fn count_files(folder: &Path, complaints: &mut Vec<String>) {
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            count_files(&path, complaints);
        } else {
            files += 1;
        }
    }
    if files > FILES_MAX {
        complaints.push(format!("{}: {files} files, at most {FILES_MAX}", folder.display()));
    }
}

#[test]
fn every_path_that_the_readme_names_exists() {
    let readme = read("README.md");
    let quoted = readme.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    let missing = quoted.filter(|text| is_path(text) && !root().join(text).exists());
    nothing_wrong(missing.map(|path| format!("README.md: `{path}` does not exist")).collect());
}

#[test]
fn every_test_that_the_readme_names_exists() {
    let tests = pages(&["tests"]);
    let readme = read("README.md");
    let quoted = readme.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    let is_sentence = |text: &&str| text.matches('_').count() > 3 && text.chars().all(is_name);
    let missing = quoted.filter(is_sentence).filter(|test| {
        let is_lower = test.chars().all(|letter| !letter.is_ascii_uppercase());
        let written = format!("fn {test}(");
        is_lower && !tests.iter().any(|page| page.text.contains(&written))
    });
    nothing_wrong(missing.map(|test| format!("README.md: no test {test}")).collect());
}

/// Whether a quoted text is a path within the house.
fn is_path(text: &str) -> bool {
    let letters = text.chars().all(|letter| is_name(letter) || "./-".contains(letter));
    let is_file = [".rs", ".toml", ".md", ".graphql", ".yml", ".example", ".sh"]
        .iter()
        .any(|end| text.ends_with(end));
    letters && !text.starts_with('/') && (text.contains('/') || is_file)
}

#[test]
fn the_example_environment_lists_exactly_what_the_configuration_reads() {
    let config = read("src/config.rs");
    let literals = config.lines().flat_map(|line| line.split('"').skip(1).step_by(2));
    // What the compiler is told is no setting.
    let is_setting = |text: &&str| is_variable(text) && !text.starts_with("CARGO_");
    let read_here: BTreeSet<&str> = literals.filter(is_setting).collect();
    let example = read(".env.example");
    let lines: Vec<&str> = example.lines().collect();
    let mut listed = BTreeSet::new();
    for (at, line) in lines.iter().enumerate() {
        let Some((variable, _)) = line.trim_start_matches('#').split_once('=') else { continue };
        if !is_variable(variable) {
            continue;
        }
        assert!(listed.insert(variable), ".env.example lists {variable} twice");
        let above = at.checked_sub(1).map_or("", |above| lines[above]);
        assert!(above.starts_with("# "), ".env.example says nothing of {variable}");
    }
    assert_eq!(listed, read_here, ".env.example (left) and src/config.rs (right)");
}

fn is_variable(text: &str) -> bool {
    let is_upper = |letter: char| letter.is_ascii_uppercase() || letter == '_';
    text.len() > 2 && text.chars().all(|letter| is_upper(letter) || letter.is_ascii_digit())
}

#[test]
fn nothing_unfinished_is_left_behind() {
    let mut complaints = Vec::new();
    for page in pages(&["src", "migration/src", "tests"]) {
        for (at, line) in page.text.lines().enumerate() {
            let words = line.split(|letter| !is_name(letter));
            if words.into_iter().any(|word| UNFINISHED.contains(&word)) {
                complaints.push(format!("{}:{}: {}", page.path, at + 1, line.trim()));
            }
        }
        complaints.extend(page.without(&[SLEEP], "a thread must not sleep"));
        complaints.extend(page.without(&[IGNORED], "a test runs, or goes"));
    }
    nothing_wrong(complaints);
}

#[test]
fn the_name_of_a_test_is_a_sentence() {
    let mut complaints = Vec::new();
    for page in pages(&["tests"]) {
        let mut is_test = false;
        for (at, line) in page.text.lines().map(str::trim).enumerate() {
            is_test |= line == "#[test]" || line.starts_with("#[tokio::test");
            let Some((_, function)) = line.split_once("fn ") else { continue };
            let words = name(function).split('_').filter(|word| !word.is_empty()).count();
            if is_test && words < 3 {
                complaints.push(format!("{}:{}: {}", page.path, at + 1, name(function)));
            }
            is_test = false;
        }
    }
    nothing_wrong(complaints);
}
