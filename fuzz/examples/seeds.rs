//! Writes the hostile cases that are short, and real documents, as seeds for the fuzzer.
//! `cargo run --example seeds`

#[path = "../../tests/it/hostile/cases.rs"]
mod cases;

use std::fs;
use std::path::Path;

/// Long ones teach a fuzzer nothing that it can keep.
const BYTES_MAX: usize = 6_000;
const REAL: &[(&str, &str)] = &[
    ("dashboard", include_str!("../../src/http/graphiql/tabs/dashboard.graphql")),
    ("balance", include_str!("../../src/http/graphiql/tabs/balance.graphql")),
    ("execute", include_str!("../../src/http/graphiql/tabs/execute.graphql")),
];

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/guard");
    fs::create_dir_all(&folder)?;
    for case in cases::cases() {
        let name = case.operation.unwrap_or_default();
        let _met = case.met;
        let seed = format!("{}\0{}\0{name}", case.query, case.variables);
        let seed = seed.trim_end_matches('\0').trim_end_matches("\0{}");
        if seed.len() <= BYTES_MAX {
            fs::write(folder.join(case.name.replace(' ', "_")), seed)?;
        }
    }
    REAL.iter().try_for_each(|(name, text)| fs::write(folder.join(name), text))
}
