//! Prints what each step of an ordinary document costs, in µs of CPU.
//! `cargo run --profile measure --example steps`

use std::hint::black_box;
use std::time::Instant;

use async_graphql::parser::parse_query;
use async_graphql::{Request, ValidationMode, Variables};
use futures_executor::block_on;
use musubi_fuzz::{GATE, SDL, double, guard};

const DASHBOARD: &str = include_str!("../../src/http/graphiql/tabs/dashboard.graphql");

fn measure<T>(name: &str, mut step: impl FnMut() -> T) {
    const TIMES: u32 = 2_000;
    let mut best = f64::MAX;
    for _ in 0..5 {
        let begun = Instant::now();
        for _ in 0..TIMES {
            black_box(step());
        }
        best = best.min(begun.elapsed().as_secs_f64() * 1e6 / f64::from(TIMES));
    }
    println!("{best:>9.2} µs  {name}");
}

fn main() {
    let gate = &*GATE;
    let fast = double::builder(SDL).validation_mode(ValidationMode::Fast).finish().unwrap();
    let none = Variables::default();
    let document = parse_query(DASHBOARD).unwrap();
    measure("scan", || guard::scan(DASHBOARD, &gate.limits).is_ok());
    measure("parse", || parse_query(DASHBOARD).is_ok());
    measure("clone", || document.clone());
    measure("weigh", || guard::weigh(&document, None, &none, &gate.table, &gate.limits).is_ok());
    for (name, schema) in [("strict", &gate.schema), ("fast", &fast)] {
        measure(&format!("clone and execute, {name}"), || {
            let mut request = Request::new("");
            request.set_parsed_query(document.clone());
            block_on(schema.execute(request)).errors.len()
        });
    }
}
