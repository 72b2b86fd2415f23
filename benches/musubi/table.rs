//! The one table at the end, and what it was measured on.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use sqlx::Connection;
use sqlx::postgres::PgConnection;

use crate::{Scale, stage};

const HEADS: [&str; 5] = ["measurement", "ours", "peer or limit", "ratio", "aim"];

/// Rows of measurement, ours, peer or limit, ratio, aim.
#[derive(Default)]
pub(crate) struct Table(Vec<[String; 5]>);

impl Table {
    /// A row that stands for itself.
    pub(crate) fn alone(&mut self, name: &str, ours: String, aim: &str) {
        self.row([name.to_owned(), ours, "–".to_owned(), "–".to_owned(), aim.to_owned()]);
    }

    /// A row beside a peer.
    pub(crate) fn beside(
        &mut self,
        name: &str,
        (ours, peer): (String, String),
        ratio: f64,
        aim: &str,
    ) {
        self.row([name.to_owned(), ours, peer, format!("{ratio:.2}"), aim.to_owned()]);
    }

    /// Adds the rows of another table.
    pub(crate) fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    fn row(&mut self, cells: [String; 5]) {
        let aim = if cells[4].is_empty() { "–".to_owned() } else { cells[4].clone() };
        println!("  {} · {} · {} · {}", cells[0], cells[1], cells[2], cells[3]);
        let [name, ours, peer, ratio, _] = cells;
        self.0.push([name, ours, peer, ratio, aim]);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            let cells = self.0.iter().map(|row| row[column].as_str());
            cells.chain([HEADS[column]]).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..HEADS.len()).map(width).collect();
        let line = |f: &mut fmt::Formatter<'_>, cells: [&str; 5]| {
            let padded: Vec<String> =
                cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            writeln!(f, "| {} |", padded.join(" | "))
        };
        line(f, HEADS)?;
        let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        line(f, [&rules[0], &rules[1], &rules[2], &rules[3], &rules[4]])?;
        self.0.iter().try_for_each(|row| line(f, [&row[0], &row[1], &row[2], &row[3], &row[4]]))
    }
}

/// The machine, the database and its settings, in two lines.
pub(crate) async fn machine(scale: Scale) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |path: &str, name: &str| {
        let text = read(path);
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or_else(String::new, |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = field("/proc/meminfo", "MemTotal");
    let memory: f64 = memory.trim_end_matches(" kB").parse().unwrap_or(0.0);
    let mut settings = Vec::new();
    let mut admin = PgConnection::connect(&stage::server_url()).await.expect("PostgreSQL answers");
    for name in ["server_version", "fsync", "synchronous_commit", "shared_buffers"] {
        let value: String = sqlx::query_scalar("SELECT current_setting($1)")
            .bind(name)
            .fetch_one(&mut admin)
            .await
            .unwrap();
        settings.push(format!("{name} {value}"));
    }
    format!(
        "{cores} cores ({}), {:.1} GiB, Linux {}; program, peers, load and database share them.\n\
         PostgreSQL {}. Pools of {} connections. Medians of {} turns of {} s each.",
        field("/proc/cpuinfo", "model name"),
        memory / 1024.0 / 1024.0,
        read("/proc/sys/kernel/osrelease").trim(),
        settings.join(", ").trim_start_matches("server_version "),
        stage::CONNECTIONS,
        scale.rounds,
        scale.seconds,
    )
}

/// The middle value.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[length / 2],
        length => f64::midpoint(sorted[length / 2 - 1], sorted[length / 2]),
    }
}

/// An empty histogram of microseconds.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 120_000_000, 3).unwrap()
}

/// Records a duration.
pub(crate) fn record(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1));
}

/// Milliseconds at a quantile.
pub(crate) fn at(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1000.0
}

/// A number with as many digits as mean something.
pub(crate) fn short(number: f64) -> String {
    match number {
        number if number >= 1000.0 => {
            format!("{} {:03}", number as u64 / 1000, number as u64 % 1000)
        }
        number if number >= 100.0 => format!("{number:.0}"),
        number if number >= 10.0 => format!("{number:.1}"),
        number => format!("{number:.2}"),
    }
}

/// `p50 … ms, p99 … ms`.
pub(crate) fn percentiles(histogram: &Histogram<u64>) -> String {
    let (p50, p99) = (at(histogram, 0.5), at(histogram, 0.99));
    format!("p50 {} ms, p99 {} ms", short(p50), short(p99))
}
