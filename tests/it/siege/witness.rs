//! What is looked at during a siege: a client that behaves, and the process from outside.

use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::support::process::{Client, Process, until};

pub(super) const BALANCE: &str = "{ creditAccount { balance { current held } } }";
/// Between two questions of the witness.
const PAUSE: Duration = Duration::from_millis(10);

/// A number for CI that grows with `MUSUBI_TEST_SCALE`, at most to the full size.
pub(super) fn sized(small: usize, full: usize) -> usize {
    (small * scale()).min(full)
}

/// Whether there is time for what takes minutes.
pub(super) fn is_full_size() -> bool {
    scale() >= 20
}

fn scale() -> usize {
    std::env::var("MUSUBI_TEST_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Lifts the limit of open files, of this process and of those that it will start, to the most
/// that the system allows.
pub(super) fn many_files() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let line = limits.lines().find(|line| line.starts_with("Max open files"));
        let hard = line.and_then(|line| line.split_whitespace().nth(4)).unwrap_or("4096");
        let id = std::process::id().to_string();
        let files = format!("--nofile={hard}:{hard}");
        // Without the tool the limit stays as it is, which is mostly enough.
        let _ = Command::new("prlimit").args(["--pid", &id, &files]).status();
    });
}

/// Asks for the balance again and again; every question must be answered.
pub(super) struct Witness {
    latencies: Arc<Mutex<Vec<Duration>>>,
    over: CancellationToken,
    asks: JoinHandle<()>,
}

impl Witness {
    pub(super) async fn begin(process: &Process, token: &str) -> Self {
        warm_up(process.client(token)).await;
        let client = process.client(token);
        let latencies: Arc<Mutex<Vec<Duration>>> = Arc::default();
        let over = CancellationToken::new();
        let (seen, stop) = (Arc::clone(&latencies), over.clone());
        let asks = tokio::spawn(async move {
            while !stop.is_cancelled() {
                let asked = Instant::now();
                client.gets(BALANCE, json!({})).await;
                seen.lock().unwrap().push(asked.elapsed());
                sleep(PAUSE).await;
            }
        });
        Self { latencies, over, asks }
    }

    /// Ends a phase: prints what was asked in it. Whatever the phase, the witness is answered.
    pub(super) async fn tells(&self, phase: &str) {
        until(phase, async || {
            assert!(!self.asks.is_finished(), "the witness was refused: {phase}");
            (!self.latencies.lock().unwrap().is_empty()).then_some(())
        })
        .await;
        let mut times = std::mem::take(&mut *self.latencies.lock().unwrap());
        println!("{phase}: {}", figures(&mut times));
    }

    /// The calm before, for comparison.
    pub(super) async fn calm(&self) {
        sleep(Duration::from_secs(1)).await;
        self.tells("calm").await;
    }

    /// Ends; a failure of any of its questions fails the test.
    pub(super) async fn ends(self, phase: &str) {
        self.tells(phase).await;
        self.over.cancel();
        self.asks.await.expect("every question was answered");
    }
}

/// Opens what the program opens only under load: connections to its database. The client's own
/// are gone at its end.
async fn warm_up(client: Client) {
    let asks = (0..32).map(|_| client.gets(BALANCE, json!({})));
    futures_util::future::join_all(asks).await;
}

/// Count, median, 99th percentile and maximum.
pub(super) fn figures(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |percent: usize| {
        let place = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(place).copied().unwrap_or_default().as_secs_f64() * 1_000.0
    };
    let (p50, p99, most) = (at(50), at(99), at(100));
    format!("{} answers, p50 {p50:.1} ms, p99 {p99:.1} ms, max {most:.1} ms", times.len())
}

/// What a process takes of the machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Footprint {
    pub(super) memory_mb: u64,
    pub(super) files: usize,
}

/// Files that may stay open: late connections to the database, and the witness's own. Fewer than
/// any test has attackers.
const FILES_SLACK: usize = 10;

impl Footprint {
    pub(super) fn of(process: &Process) -> Self {
        let folder = format!("/proc/{}", process.id());
        let status = fs::read_to_string(format!("{folder}/status")).expect("the program runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").trim().parse().unwrap();
        let files = fs::read_dir(format!("{folder}/fd")).unwrap().count();
        Self { memory_mb: kilobytes / 1_024, files }
    }

    /// Waits until all connections are gone again, and judges the memory: at most twice of before
    /// and some more, as an allocator gives back late.
    pub(super) async fn comes_back(self, process: &Process, phase: &str) {
        let at_the_end = Self::of(process);
        until("the connections are gone", async || {
            let now = Self::of(process);
            (now.files <= self.files + FILES_SLACK).then_some(())
        })
        .await;
        sleep(Duration::from_secs(1)).await;
        let after = Self::of(process);
        println!("{phase}: before {self:?}, at the end {at_the_end:?}, after {after:?}");
        let bound = self.memory_mb * 2 + 96;
        assert!(after.memory_mb <= bound, "{phase}: {after:?} is more than {bound} MB");
    }
}
