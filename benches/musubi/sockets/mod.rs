//! Thousands of `creditBalance` subscribers on real WebSockets: memory of each, and the time from
//! an event's commit to the last one's receipt, beside a bare broadcast of the same bytes.

mod client;
pub(crate) mod peer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use musubi::ids::new_uuid;
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};

use crate::Scale;
use crate::load::{Connection as Http, post};
use crate::pairs::InstantModel;
use crate::process::Process;
use crate::stage::{self, Stage};
use crate::table::{Table, at, histogram, percentiles, record, short};
use client::Crowd;

/// The peer's role.
pub(crate) const PEER: &str = "broadcast";
/// People of the tenant; each has many sockets.
const PEOPLE: usize = 100;
/// How long the server is left alone before its memory is read.
const REST: Duration = Duration::from_secs(3);
/// The same after all have left: allocators give memory back late.
const LONG_REST: Duration = Duration::from_secs(10);

const BONUS: &str = "mutation ($input: CreditBonusGrantInput!) { creditBonusGrant(input: $input) {
    balance { version } userErrors { code } } }";

/// Keeps the instant at which each change of an account was about to be committed: after all else
/// of its transaction.
const CLOCK: [&str; 3] = [
    "CREATE UNLOGGED TABLE bench_commits (version bigint PRIMARY KEY, at timestamptz NOT NULL)",
    "CREATE FUNCTION bench_commit() RETURNS trigger LANGUAGE plpgsql AS
     $$ BEGIN INSERT INTO bench_commits VALUES (NEW.version, clock_timestamp())
        ON CONFLICT DO NOTHING; RETURN NULL; END $$",
    "CREATE CONSTRAINT TRIGGER bench_commit AFTER UPDATE ON ai_credit_accounts
     DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION bench_commit()",
];

/// What changes the balance, and when that was committed.
struct Bank {
    address: SocketAddr,
    database: PgConnection,
    token: String,
    tenant: String,
}

pub(crate) async fn measure(scale: Scale) -> Table {
    let mut table = Table::default();
    let (sockets, events) = if scale.is_quick { (1_000, 5) } else { (5_000, 20) };
    let stage = Stage::create("sockets").await;
    let app = stage.app(Arc::new(InstantModel)).await;
    let hotel = stage::hotels(&app, 1, PEOPLE, 1_000_000).await.remove(0);
    let root = stage::platform_admin(&app).await;
    let root = stage::token(&app, root, hotel.tenant).await;
    let mut tokens = Vec::with_capacity(hotel.people.len());
    for person in &hotel.people {
        tokens.push(stage::token(&app, *person, hotel.tenant).await);
    }
    stage::close(app).await;
    let mut database = stage.connect().await;
    for statement in CLOCK {
        database.execute(statement).await.unwrap();
    }

    let musubi = Process::musubi(&stage, "http://127.0.0.1:9/v1").await;
    let (address, tenant) = (musubi.address, hotel.tenant.to_string());
    let mut bank = Bank { address, database, token: root, tenant };
    // A first crowd wakes every part of the server, then leaves.
    let warm = Crowd::come(musubi.address, 50, &tokens).await;
    let (version, _, _) = bank.change().await;
    warm.receive(version).await;
    warm.leave().await;
    tokio::time::sleep(REST).await;
    let before = musubi.memory();

    let crowd = Crowd::come(musubi.address, sockets, &tokens).await;
    tokio::time::sleep(REST).await;
    let each = (musubi.memory() - before) / sockets as f64;
    let bare = Process::peer(PEER, &[]).await;
    let bare_before = bare.memory();
    let bare_crowd = Crowd::come(bare.address, sockets, &tokens).await;
    tokio::time::sleep(REST).await;
    let bare_each = (bare.memory() - bare_before) / sockets as f64;
    table.beside(
        &format!("memory of an idle subscriber ({sockets} sockets), beside a bare socket's"),
        (format!("{} KiB", short(each)), format!("{} KiB", short(bare_each))),
        each / bare_each,
        "≤ 12 KiB",
    );

    let times = fan_out(&mut bank, (&crowd, &bare_crowd), bare.address, events).await;
    report(&mut table, sockets, &times);
    crowd.leave().await;
    bare_crowd.leave().await;
    tokio::time::sleep(LONG_REST).await;
    let kept = (musubi.memory() - before) / sockets as f64;
    let bare_kept = (bare.memory() - bare_before) / sockets as f64;
    table.beside(
        "memory kept for each, 10 s after all have left",
        (format!("{} KiB", short(kept)), format!("{} KiB", short(bare_kept))),
        kept / bare_kept,
        "",
    );
    bank.database.close().await.unwrap();
    table
}

/// Times of all receipts and of the last ones: ours, then the peer's.
struct Times {
    all: [Histogram<u64>; 2],
    last: [Histogram<u64>; 2],
}

/// Events to both crowds in turns.
async fn fan_out(
    bank: &mut Bank,
    (crowd, bare_crowd): (&Crowd, &Crowd),
    bare: SocketAddr,
    events: usize,
) -> Times {
    let mut times = Times { all: [histogram(), histogram()], last: [histogram(), histogram()] };
    let mut http = Http::open(bare).await.unwrap();
    for _ in 0..events {
        let (version, at, message) = bank.change().await;
        let receipts = crowd.receive(version).await;
        take(&mut times, 0, &receipts, at);
        let request = post("/publish", "", &message);
        http.ask(&request).await.unwrap();
        let at: i64 = std::str::from_utf8(http.body()).unwrap().parse().unwrap();
        let receipts = bare_crowd.receive(version).await;
        take(&mut times, 1, &receipts, at);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    times
}

/// Receipts of one event, in microseconds since 1970.
fn take(times: &mut Times, side: usize, receipts: &[i64], at: i64) {
    let since = |receipt: i64| Duration::from_micros(u64::try_from(receipt - at).unwrap_or(0));
    for receipt in receipts {
        record(&mut times.all[side], since(*receipt));
    }
    record(&mut times.last[side], since(receipts.iter().copied().max().unwrap()));
}

fn report(table: &mut Table, sockets: usize, times: &Times) {
    let rows = [
        (format!("one event to the last of {sockets}, from its commit"), &times.last),
        (format!("one event to each of {sockets}, from its commit"), &times.all),
    ];
    for (name, [ours, peer]) in rows {
        let ratio = at(ours, 0.5) / at(peer, 0.5);
        table.beside(&name, (percentiles(ours), percentiles(peer)), ratio, "");
    }
}

impl Bank {
    /// Changes the balance. Answers its version, when it was committed, and the message that
    /// subscribers get.
    async fn change(&mut self) -> (i64, i64, String) {
        let input = json!({ "tenantId": self.tenant, "credits": 1,
            "idempotencyKey": new_uuid().to_string() });
        let body = json!({ "query": BONUS, "variables": { "input": input } }).to_string();
        // A kept connection would be closed while the benchmark rests.
        let mut http = Http::open(self.address).await.unwrap();
        http.ask(&post("/graphql", &self.token, &body)).await.unwrap();
        let answer: Value = serde_json::from_slice(http.body()).unwrap();
        let version = &answer["data"]["creditBonusGrant"]["balance"]["version"];
        let version = version.as_i64().unwrap_or_else(|| panic!("{answer}"));
        // Several updates of one transaction end at the same commit.
        let sql = "SELECT CAST(extract(epoch FROM max(at)) * 1000000 AS bigint)
                   FROM bench_commits WHERE version <= $1";
        let at = sqlx::query_scalar(sql).bind(version).fetch_one(&mut self.database).await;
        (version, at.unwrap(), client::message(version))
    }
}
