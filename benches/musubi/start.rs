//! From spawning the program to its readiness, and its memory when it has nothing to do.

use std::time::{Duration, Instant};

use crate::Scale;
use crate::process::Process;
use crate::stage::Stage;
use crate::table::{Table, median, short};

/// A provider that nobody calls.
const NO_MODELS: &str = "http://127.0.0.1:9/v1";
/// How long the program is left alone.
const IDLE: Duration = Duration::from_secs(3);

pub(crate) async fn measure(scale: Scale) -> Table {
    let mut table = Table::default();
    let stage = Stage::create("start").await;
    let mut times = Vec::new();
    let mut last = None;
    for _ in 0..if scale.is_quick { 1 } else { 5 } {
        drop(last.take());
        let begun = Instant::now();
        let process = Process::launch(&stage, NO_MODELS);
        process.ready().await;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
        last = Some(process);
    }
    table.alone("start to ready, migrated", format!("{} ms", short(median(&times))), "");
    tokio::time::sleep(IDLE).await;
    let memory = last.expect("a process").memory() / 1024.0;
    table.alone("memory after 3 s of rest", format!("{} MiB", short(memory)), "");
    table
}
