//! The table of rights to fields: what everybody gets of every field of every object.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use async_graphql::parser::types::TypeKind;

use super::super::map::{self, Map, ROOTS};

/// The columns. BARE is an API key with no permission at all, OTHER an ADMIN of another tenant,
/// NOBODY comes without a token. Who comes with an expired one is turned away whatever they ask.
pub(super) const COLUMNS: usize = 9;
pub(super) const CALLERS: [&str; COLUMNS] =
    ["USER", "SUPPORT", "MANAGER", "ADMIN", "PLATFORM", "KEY", "BARE", "OTHER", "NOBODY"];

/// What is null for everybody by its nature: reasons of these types blame no value.
const NEVER: [&str; 3] =
    ["InsufficientCredits.field", "RateLimited.field", "SuspiciousActivity.field"];

/// What somebody gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// `+`: the value; of a list, some entries.
    Value,
    /// `*`: masked text.
    Masked,
    /// `0`: null, or an empty list, and no error.
    Nothing,
    /// `-`: FORBIDDEN.
    Forbidden,
    /// `?`: NOT_FOUND, as for an id that nobody has.
    Missing,
    /// `!`: INVALID_STATE, as for a package that their plan does not offer.
    Unfit,
    /// `x`: UNAUTHENTICATED.
    Unknown,
}

impl Mark {
    fn read(text: &str) -> Option<Self> {
        Some(match text {
            "+" => Self::Value,
            "*" => Self::Masked,
            "0" => Self::Nothing,
            "-" => Self::Forbidden,
            "?" => Self::Missing,
            "!" => Self::Unfit,
            "x" => Self::Unknown,
            _ => return None,
        })
    }

    /// The code of a refusal.
    pub(super) fn code(self) -> Option<&'static str> {
        match self {
            Self::Value | Self::Masked | Self::Nothing => None,
            Self::Forbidden => Some("FORBIDDEN"),
            Self::Missing => Some("NOT_FOUND"),
            Self::Unfit => Some("INVALID_STATE"),
            Self::Unknown => Some("UNAUTHENTICATED"),
        }
    }
}

pub(super) type Row = [Mark; COLUMNS];

/// Fields of one object that are asked by one way.
pub(super) struct Group {
    pub(super) owner: String,
    pub(super) way: String,
    /// What becomes of the object itself.
    pub(super) object: Row,
    pub(super) fields: Vec<(String, Row)>,
}

/// Reads the files of `rights/fields`: the line of a type has a mark for each caller and the way to
/// an object of it. Lines of its fields follow, indented: `=` for who gets the object gets the
/// field, one mark for all of those, or a mark for each caller, and a way of its own if that of
/// the type does not do.
pub(super) fn read() -> Vec<Group> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/schema/rights/fields");
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.iter().flat_map(|file| parse(&std::fs::read_to_string(file).unwrap())).collect()
}

fn parse(text: &str) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut current = 0;
    let is_row = |line: &&str| !line.trim().is_empty() && !line.starts_with('#');
    for line in text.lines().filter(is_row) {
        let (name, marks, way) = parts(line);
        let row = || Row::try_from(marks.clone()).unwrap_or_else(|_| panic!("marks: {line}"));
        if !line.starts_with(' ') {
            let above = groups.get(current).map(|group| group.owner.as_str());
            assert!(above < Some(name), "types are sorted: {name}");
            current = groups.len();
            let (owner, way) = (name.to_owned(), way.to_owned());
            groups.push(Group { owner, way, object: row(), fields: Vec::new() });
        } else if way.is_empty() {
            let (object, name) = (groups[current].object, name.to_owned());
            let row = if let [only] = marks[..] { within(object, only) } else { row() };
            for (whole, part) in object.iter().zip(&row) {
                let fits = *whole == Mark::Value || whole == part;
                assert!(fits, "nobody gets more of an object than the object: {line}");
            }
            groups[current].fields.push((name, row));
        } else {
            let owner = groups[current].owner.clone();
            let fields = vec![(name.to_owned(), row())];
            groups.push(Group { owner, way: way.to_owned(), object: row(), fields });
        }
    }
    groups
}

/// The first word, the marks after it, and the rest.
fn parts(line: &str) -> (&str, Vec<Mark>, &str) {
    let (name, mut rest) = line.trim().split_once(' ').unwrap_or_else(|| panic!("marks: {line}"));
    let mut marks = Vec::new();
    loop {
        rest = rest.trim_start();
        let word = rest.split(' ').next().unwrap();
        let mark = if word == "=" { Some(Mark::Value) } else { Mark::read(word) };
        let Some(mark) = mark else { return (name, marks, rest) };
        marks.push(mark);
        rest = &rest[word.len()..];
    }
}

/// The same for all who get the object.
fn within(object: Row, mark: Mark) -> Row {
    object.map(|whole| if whole == Mark::Value { mark } else { whole })
}

#[test]
fn every_field_of_every_object_is_in_the_table() {
    let map = Map::read();
    let objects = map.types().filter(|ty| matches!(ty.kind, TypeKind::Object(_)));
    let found: BTreeSet<String> = objects
        .filter(|ty| !ROOTS.contains(&ty.name.node.as_str()))
        .flat_map(|ty| map::fields(ty).map(|field| format!("{}.{}", ty.name.node, field.name.node)))
        .collect();
    let mut seen: BTreeMap<String, bool> = BTreeMap::new();
    for group in read() {
        for (field, row) in group.fields {
            let is_shown = row.iter().any(|mark| matches!(mark, Mark::Value | Mark::Masked));
            *seen.entry(format!("{}.{field}", group.owner)).or_default() |= is_shown;
        }
    }
    let listed: BTreeSet<String> = seen.keys().cloned().collect();
    let missing: Vec<_> = found.difference(&listed).collect();
    assert!(missing.is_empty(), "missing in the table of rights: {missing:?}");
    let gone: Vec<_> = listed.difference(&found).collect();
    assert!(gone.is_empty(), "in the table of rights, but nowhere else: {gone:?}");
    // What nobody gets may be null for another reason. `userErrors` are seen in refusals.
    let is_exempt = |field: &str| field.ends_with(".userErrors") || NEVER.contains(&field);
    let is_unseen = |(field, is_shown): &(String, bool)| !is_shown && !is_exempt(field);
    let unseen: Vec<_> = seen.into_iter().filter(is_unseen).collect();
    assert!(unseen.is_empty(), "shown to nobody: {unseen:?}");
}
