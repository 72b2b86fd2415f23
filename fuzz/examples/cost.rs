//! Prints what each hostile case costs, from its text to the end of its answer, in µs of CPU.
//! `cargo run --profile measure --example cost [name]`

#[path = "../../tests/it/hostile/cases.rs"]
mod cases;

use std::time::Instant;

use async_graphql::Variables;
use musubi_fuzz::{GATE, Met, meet};

fn main() {
    let only = std::env::args().nth(1);
    let gate = &*GATE;
    let mut rows = Vec::new();
    for case in cases::cases() {
        if only.as_ref().is_some_and(|only| !case.name.contains(only.as_str())) {
            continue;
        }
        let mut best = u128::MAX;
        let mut said = String::new();
        for _ in 0..5 {
            let json = serde_json::from_str(&case.variables);
            if let Ok(json) = json {
                let variables = Variables::from_json(json);
                let begun = Instant::now();
                said = match meet(gate, &case.query, case.operation.as_deref(), variables) {
                    Met::Refused(refusal) => format!("{} {refusal}", refusal.kind()),
                    Met::Answered(_, response) if response.errors.is_empty() => "RUNS".to_owned(),
                    Met::Answered(_, response) => {
                        let first = response.errors.first().map(|error| error.message.clone());
                        format!(
                            "PASSES {} errors: {}",
                            response.errors.len(),
                            first.unwrap_or_default()
                        )
                    }
                };
                best = best.min(begun.elapsed().as_micros());
            } else {
                said = "MALFORMED".to_owned();
                best = 0;
            }
        }
        let is_expected = said.starts_with(case.met);
        rows.push((
            best,
            case.name,
            is_expected,
            case.met,
            said.chars().take(110).collect::<String>(),
        ));
    }
    rows.sort();
    for (best, name, is_expected, met, said) in rows {
        let mark = if is_expected { ' ' } else { '!' };
        let met = if is_expected { "" } else { met };
        println!("{best:>9} µs {mark} {name:<40} {met} {said}");
    }
}
