//! Floods by HTTP/2: frames that cost their sender little and the server much.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::wire::Wire;
use super::witness::{Footprint, Witness, is_full_size, many_files, sized};
use crate::support::process::{Home, Process};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Kinds of frames.
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
/// Flags.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// How long a flood goes on if the server lets it.
const FLOOD: Duration = Duration::from_secs(4);

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A name's place in HPACK's static table with a value of our own.
fn literal(index: u8, value: &str) -> Vec<u8> {
    let mut bytes = vec![index, u8::try_from(value.len()).unwrap()];
    bytes.extend(value.as_bytes());
    bytes
}

/// GET or POST by HTTP, of this path on host x.
fn head(is_post: bool, path: &str) -> Vec<u8> {
    let mut head = vec![if is_post { 0x83 } else { 0x82 }, 0x86];
    head.extend(literal(4, path));
    head.extend(literal(1, "x"));
    head
}

/// A connection after the preface and one answered request.
async fn open(process: &Process) -> Wire {
    let mut wire = Wire::open(process).await;
    wire.say(PREFACE).await.unwrap();
    wire.say(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    let get = frame(HEADERS, END_STREAM | END_HEADERS, 1, &head(false, "/health/live"));
    wire.say(&get).await.unwrap();
    wire.hear(64).await;
    wire
}

#[derive(Clone, Copy, Debug)]
enum Flood {
    /// Opens streams and takes them back at once.
    RapidReset,
    Settings,
    Ping,
    /// Headers that go on for ever.
    Continuation,
    /// Streams beyond the number that the server allows.
    Streams,
    /// As much of what asks for answers as fits, and not one of the answers is read.
    Deaf,
}

const FLOODS: [Flood; 6] = [
    Flood::RapidReset,
    Flood::Settings,
    Flood::Ping,
    Flood::Continuation,
    Flood::Streams,
    Flood::Deaf,
];

impl Flood {
    /// The `round`th piece of the flood.
    fn piece(self, round: u32) -> Vec<u8> {
        let streams = (0..64).map(|number| 3 + (round * 64 + number) * 2);
        match self {
            Self::RapidReset => {
                let get = head(false, "/health/live");
                let reset = |stream| frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
                let open = |stream| frame(HEADERS, END_STREAM | END_HEADERS, stream, &get);
                streams.flat_map(|stream| [open(stream), reset(stream)].concat()).collect()
            }
            // The size of the first window: touches every stream that is open.
            Self::Settings => {
                let window = [0, 4, 0, 0, 0xff, u8::try_from(round % 256).unwrap()];
                frame(SETTINGS, 0, 0, &window).repeat(64)
            }
            Self::Ping | Self::Deaf => frame(PING, 0, 0, &[7; 8]).repeat(256),
            Self::Continuation => match round {
                0 => frame(HEADERS, 0, 3, &head(false, "/")),
                _ => frame(CONTINUATION, 0, 3, &literal(15, &"a".repeat(100)).repeat(50)),
            },
            Self::Streams => {
                let post = head(true, "/graphql");
                streams.flat_map(|stream| frame(HEADERS, END_HEADERS, stream, &post)).collect()
            }
        }
    }
}

/// How a flood went on one connection.
#[derive(Default)]
struct Went {
    sent: usize,
    cut_off: usize,
}

/// Floods for some seconds; whoever is cut off connects again.
async fn floods_on(process: &Process, flood: Flood) -> Went {
    let begun = Instant::now();
    let mut all = Went::default();
    while begun.elapsed() < FLOOD {
        let went = floods(process, flood).await;
        all.sent += went.sent;
        all.cut_off += went.cut_off;
    }
    all
}

async fn floods(process: &Process, flood: Flood) -> Went {
    let (reading, mut writing) = open(process).await.into_stream().into_split();
    let begun = Instant::now();
    let mut sent = 0;
    let pours = async {
        for round in 0.. {
            let piece = flood.piece(round);
            if writing.write_all(&piece).await.is_err() {
                return true;
            }
            sent += piece.len();
            if begun.elapsed() > FLOOD {
                return false;
            }
        }
        false
    };
    let is_deaf = matches!(flood, Flood::Deaf);
    let is_cut_off = tokio::select! {
        poured = timeout(FLOOD + FLOOD, pours) => poured.unwrap_or(false),
        () = drains(reading), if !is_deaf => true,
    };
    Went { sent, cut_off: usize::from(is_cut_off) }
}

/// Reads until the other side ends.
async fn drains(mut reading: impl AsyncRead + Unpin) {
    let mut bytes = vec![0; 64 * 1_024];
    while reading.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_by_http_2_keeps_nobody_from_being_answered() {
    many_files();
    let home = Home::hotel(1_000).await;
    let mut process = home.serve().await;
    let witness = Witness::begin(&process, &home.guests().admin).await;
    witness.calm().await;
    let before = Footprint::of(&process);
    for flood in FLOODS {
        let attackers = sized(4, 50);
        let went = join_all((0..attackers).map(|_| floods_on(&process, flood))).await;
        let cut_off: usize = went.iter().map(|went| went.cut_off).sum();
        let megabytes = went.iter().map(|went| went.sent).sum::<usize>() >> 20;
        println!("{flood:?}: {attackers} at once, {megabytes} MB in all, cut off {cut_off} times");
        witness.tells(&format!("{flood:?}")).await;
        // The others cost what they send, and end as every idle connection does.
        let must_be_cut_off =
            matches!(flood, Flood::RapidReset | Flood::Continuation | Flood::Streams);
        assert!(!must_be_cut_off || cut_off >= attackers, "{flood:?}");
    }
    before.comes_back(&process, "floods").await;
    witness.ends("calm again").await;
    assert!(!process.logged().contains("panicked"), "{}", process.logged());
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_by_http_2_that_stops_is_ended() {
    let home = Home::hotel(1_000).await;
    let mut process = home.serve().await;
    let before = Footprint::of(&process);
    let mut silent = Wire::open(&process).await;
    silent.say(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
    // Acknowledges the settings and then answers no ping.
    let mut mute = open(&process).await;
    mute.say(&frame(SETTINGS, ACK, 0, &[])).await.unwrap();
    // Reads nothing of what it asks for, so that even a goodbye cannot be written.
    let pings = Flood::Deaf.piece(0);
    let deaf = open(&process).await.drip_unread(&pings);
    let ended = tokio::join!(silent.waits(), mute.waits(), deaf);
    let after = [ended.0.after, ended.1.after, ended.2];
    println!("disconnected: silent, without a pong, and deaf: {after:.1?}");
    if is_full_size() {
        // A body that never comes.
        let mut waiting = open(&process).await;
        let post = frame(HEADERS, END_HEADERS, 3, &head(true, "/graphql"));
        waiting.say(&post).await.unwrap();
        println!("disconnected without a body: {:.1?}", waiting.waits().await.after);
    }
    before.comes_back(&process, "HTTP/2 that stops").await;
    process.stop().await;
}
