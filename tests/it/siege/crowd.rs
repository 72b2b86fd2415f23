//! Many at once who do nothing wrong: idle connections, and sockets of one user.

use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::wire::Wire;
use super::witness::{BALANCE, Footprint, Witness, figures, is_full_size, many_files, sized};
use crate::support::process::{Client, Home, Process, Seen, Watcher, until};

const CHANGES: &str = "subscription { creditBalance { current held version } }";
const ROUND: usize = 50;

/// Sockets that watch the balance and have seen it.
async fn watchers(process: &Process, token: &str, count: usize) -> Vec<Watcher> {
    let watch = || async {
        let mut watcher = Watcher::watch(process, token, CHANGES, json!({})).await;
        assert!(matches!(watcher.next().await, Seen::Data(_)));
        watcher
    };
    stream::iter(0..count).map(|_| watch()).buffer_unordered(ROUND).collect().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_idle_connections_keep_nobody_from_being_answered() {
    many_files();
    let home = Home::hotel(1_000).await;
    let mut process = home.serve().await;
    let witness = Witness::begin(&process, &home.guests().admin).await;
    witness.calm().await;
    let before = Footprint::of(&process);
    let crowd = sized(500, 5_000);
    let get = b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n";
    // Half of them have asked once and stay for more.
    let connect = async |number: usize| {
        let mut wire = Wire::open(&process).await;
        if number.is_multiple_of(2) {
            wire.say(get).await.unwrap();
            wire.hear(15).await;
        }
        (number, wire)
    };
    let wires: Vec<_> = stream::iter(0..crowd).map(connect).buffer_unordered(ROUND).collect().await;
    let full = Footprint::of(&process);
    println!("{crowd} idle connections: {full:?}");
    // A slow machine may have ended the first before the last was there.
    assert!(full.files > before.files + crowd / 2, "{full:?}");
    witness.tells("while they came").await;
    // Those who have asked may stay for long; in CI they leave.
    let silent = |number: &usize| is_full_size() || !number.is_multiple_of(2);
    let waiting = wires.into_iter().filter(|(number, _)| silent(number));
    let ended = join_all(waiting.map(|(_, wire)| wire.waits())).await;
    let longest = ended.iter().map(|ended| ended.after).max().unwrap();
    println!("disconnected after {:.1} s at most", longest.as_secs_f64());
    before.comes_back(&process, "idle connections").await;
    witness.ends("while they were there").await;
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_change_reaches_every_socket_and_their_memory_comes_back() {
    many_files();
    let home = Home::hotel(1_000).await;
    let mut process = home.serve().await;
    let token = &home.guests().user;
    let witness = Witness::begin(&process, &home.guests().admin).await;
    witness.calm().await;
    let before = Footprint::of(&process);
    let crowd = sized(200, 1_000);
    let sockets = watchers(&process, token, crowd).await;
    println!("{crowd} sockets of one user: {:?}", Footprint::of(&process));
    witness.tells("while they came").await;

    let (charged, charge) = watch::channel(None);
    let mut seen = JoinSet::new();
    for mut socket in sockets {
        let mut charge = charge.clone();
        seen.spawn(async move {
            sees(&mut socket, 998).await;
            let at = Instant::now();
            let charged: Instant = charge.wait_for(Option::is_some).await.unwrap().unwrap();
            (socket, at.saturating_duration_since(charged))
        });
    }
    let client: Client = process.client(token);
    client.executes("When is breakfast?", "one-change-1").await;
    charged.send_replace(Some(Instant::now()));
    let (sockets, mut lags): (Vec<Watcher>, Vec<Duration>) =
        seen.join_all().await.into_iter().unzip();
    println!("the change after its answer, on {} sockets: {}", sockets.len(), figures(&mut lags));
    witness.tells("while they watched").await;

    drop(sockets);
    before.comes_back(&process, "sockets of one user").await;
    witness.ends("calm again").await;
    until("nobody is forgotten", async || {
        let data = client.gets(BALANCE, json!({})).await;
        (data["creditAccount"]["balance"]["held"] == 0).then_some(())
    })
    .await;
    process.stop().await;
    home.adds_up().await;
}

/// Waits for this balance with nothing held; versions rise.
async fn sees(socket: &mut Watcher, current: i64) {
    let mut version = 0;
    loop {
        let seen = socket.next().await;
        let Seen::Data(data) = seen else { panic!("the subscription ended: {seen:?}") };
        let balance = &data["creditBalance"];
        assert!(balance["version"].as_i64().unwrap() > version, "{data} after {version}");
        version = balance["version"].as_i64().unwrap();
        if balance["current"] == current && balance["held"] == 0 {
            return;
        }
    }
}
