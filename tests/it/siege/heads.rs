//! Heads and bodies that never come to an end.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;

use super::wire::{Ended, Wire};
use super::witness::{Footprint, Witness, many_files, sized};
use crate::support::process::{Home, Process};

const SLOWLY: Duration = Duration::from_secs(1);
const AT_ONCE: Duration = Duration::from_millis(1);
const POST: &str = "POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";

/// What somebody sends at first, and then again and again.
struct Attack {
    name: &'static str,
    opening: Vec<u8>,
    piece: &'static [u8],
    pause: Duration,
}

fn attack(
    name: &'static str,
    opening: impl Into<Vec<u8>>,
    piece: &'static [u8],
    pause: Duration,
) -> Attack {
    Attack { name, opening: opening.into(), piece, pause }
}

fn attacks() -> Vec<Attack> {
    let head = "GET /health/live HTTP/1.1\r\nhost: x\r\n";
    // A record of TLS 1.0 that holds the beginning of a ClientHello of TLS 1.2.
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let announced = format!("{POST}content-length: 100000\r\n\r\n{{");
    let chunked = format!("{POST}transfer-encoding: chunked\r\n\r\n");
    let unread = "POST /health/live HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n";
    vec![
        attack("says nothing", "", b"", SLOWLY),
        attack("slow head", format!("{head}x-slow: "), b"a", SLOWLY),
        attack("slow lines", head, b"a:b\r\n", SLOWLY),
        attack("head without an end", head, b"x-fast: aaaaaaaaaaaaaaaaaaaaaaa\r\n", AT_ONCE),
        attack("a line without an end", "GET /", &[b'a'; 4_096], AT_ONCE),
        attack("slow second head", format!("{head}\r\nGET /"), b"a", SLOWLY),
        attack("TLS", hello, b"", SLOWLY),
        attack("half a preface of HTTP/2", "PRI * HTTP/2.0\r\n", b"", SLOWLY),
        attack("slow body", announced.clone(), b"a", SLOWLY),
        attack("body that stops", announced, b"", SLOWLY),
        attack("slow chunks", chunked.clone(), b"1\r\na\r\n", SLOWLY),
        attack("a chunk without an end", format!("{chunked}fffff\r\n"), b"a", SLOWLY),
        attack("slow body that nobody reads", unread, b"a", SLOWLY),
    ]
}

async fn suffers(process: &Process, attack: Attack) -> (&'static str, Ended) {
    let mut wire = Wire::open(process).await;
    let _ = wire.say(&attack.opening).await;
    (attack.name, wire.drip(attack.piece, attack.pause).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_slowly_is_disconnected_while_others_are_answered() {
    many_files();
    let home = Home::hotel(1_000).await;
    let mut process = home.serve().await;
    let witness = Witness::begin(&process, &home.guests().admin).await;
    witness.calm().await;
    let before = Footprint::of(&process);
    let waves = (0..sized(4, 80)).flat_map(|_| attacks());
    let ended = join_all(waves.map(|attack| suffers(&process, attack))).await;
    witness.tells("slow heads and bodies").await;

    let mut slowest: BTreeMap<&str, Duration> = BTreeMap::new();
    for (name, ended) in &ended {
        let longest = slowest.entry(name).or_default();
        *longest = ended.after.max(*longest);
    }
    for (name, after) in slowest {
        println!("{name}: disconnected after {:.1} s at most", after.as_secs_f64());
    }
    for (name, ended) in ended.iter().filter(|(name, _)| name.contains("body")) {
        assert!(ended.text().starts_with("HTTP/1.1 4"), "{name}: {}", ended.text());
    }
    before.comes_back(&process, "slow heads and bodies").await;
    witness.ends("calm again").await;
    process.stop().await;
}
