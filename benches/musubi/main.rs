//! Measures the program beside a limit: the same work by the bare driver, a bare server, a bare
//! socket. All figures of a table come from one run, ours and the peer's taken in turns.
//!
//! `cargo bench --locked --bench musubi -- [--quick] [NAME…]` on PostgreSQL, in databases of its
//! own that are made, migrated and dropped. Peers are this same executable in another role, so
//! that they are built like the program and their memory is not the load generator's.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a measurement that cannot go on should say where it stopped"
)]

mod analytics;
mod audit;
mod brakes;
mod dashboard;
mod execute;
mod limits;
mod load;
mod pairs;
mod process;
mod sockets;
mod stage;
mod start;
mod table;

use std::process::ExitCode;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use table::Table;

/// What the program uses.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    /// One short round, for trying things out.
    pub(crate) is_quick: bool,
    /// Turns that each side takes.
    pub(crate) rounds: usize,
    /// Seconds of a turn.
    pub(crate) seconds: f64,
    /// Tells of steps, for those who look for the reason of a figure.
    pub(crate) is_verbose: bool,
}

type Measurement = fn(Scale) -> BoxFuture<'static, Table>;

const MEASUREMENTS: [(&str, Measurement); 9] = [
    ("pairs", |scale| pairs::measure(scale).boxed()),
    ("execute", |scale| execute::measure(scale).boxed()),
    ("limits", |scale| limits::measure(scale).boxed()),
    ("brakes", |scale| brakes::measure(scale).boxed()),
    ("dashboard", |scale| dashboard::measure(scale).boxed()),
    ("sockets", |scale| sockets::measure(scale).boxed()),
    ("analytics", |scale| analytics::measure(scale).boxed()),
    ("audit", |scale| audit::measure(scale).boxed()),
    ("start", |scale| start::measure(scale).boxed()),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.install_default().expect("one provider");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if let [role, rest @ ..] = arguments.as_slice()
        && let Some(name) = role.strip_prefix("role:")
    {
        runtime.block_on(play(name, rest));
        return ExitCode::SUCCESS;
    }
    runtime.block_on(run(&arguments))
}

/// A peer in a process of its own.
async fn play(role: &str, arguments: &[String]) {
    match role {
        dashboard::PEER => dashboard::peer::serve(arguments).await,
        sockets::PEER => sockets::peer::serve().await,
        other => panic!("no role {other}"),
    }
}

async fn run(arguments: &[String]) -> ExitCode {
    let is_quick = arguments.iter().any(|argument| argument == "--quick");
    let is_verbose = arguments.iter().any(|argument| argument == "--verbose");
    let (rounds, seconds) = if is_quick { (1, 1.0) } else { (3, 3.0) };
    let scale = Scale { is_quick, rounds, seconds, is_verbose };
    // Cargo itself passes `--bench`.
    let named: Vec<&String> = arguments.iter().filter(|name| !name.starts_with("--")).collect();
    let known = |name: &String| MEASUREMENTS.iter().any(|(known, _)| known == name);
    if let Some(unknown) = named.iter().find(|name| !known(name)) {
        let names: Vec<&str> = MEASUREMENTS.iter().map(|(name, _)| *name).collect();
        println!("There is no measurement {unknown}. There are: {}", names.join(" "));
        return ExitCode::FAILURE;
    }
    stage::drop_leftovers().await;
    let mut whole = Table::default();
    let mut is_complete = true;
    for (name, measure) in MEASUREMENTS {
        if !named.is_empty() && !named.iter().any(|wanted| *wanted == name) {
            continue;
        }
        println!("{name} …");
        match tokio::spawn(measure(scale)).await {
            Ok(table) => whole.append(table),
            Err(error) => {
                println!("{name} was not measured: {error}");
                is_complete = false;
            }
        }
        stage::drop_own().await;
    }
    println!("\n{}\n{whole}", table::machine(scale).await);
    if is_complete { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
