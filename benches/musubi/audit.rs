//! The audit record of two lengths: reading it must not take longer as it grows.

use std::time::Duration;

use hdrhistogram::Histogram;
use musubi::actor::Actor;
use musubi::app::App;
use musubi::graphql::engine::Engine;
use musubi::graphql::guard::Limits;
use sqlx::Executor;

use crate::Scale;
use crate::limits;
use crate::stage::{self, Hotel, Stage};
use crate::table::{Table, at, histogram, record, short};

/// What is asked: a name, and the arguments of `auditEvents`.
const ASKED: [(&str, &str); 7] = [
    ("newest", "first: 25"),
    ("oldest", "first: 25, orderBy: { field: OCCURRED_AT, direction: ASC }"),
    ("last page", "last: 25"),
    ("a rare action", "first: 25, where: { action: { eq: \"SITE_CREATED\" } }"),
    ("one thing", "first: 25, where: { entityId: { eq: \"site_00000000000000000000000000\" } }"),
    ("a rare kind", "first: 25, where: { eventType: { eq: SECURITY } }"),
    ("rare failures", "first: 25, where: { status: { eq: FAILURE } }"),
];

struct Record {
    lines: i64,
    app: App,
    actor: Actor,
    engine: Engine,
    times: Vec<Histogram<u64>>,
}

pub(crate) async fn measure(scale: Scale) -> Table {
    let mut table = Table::default();
    let longest = if scale.is_quick { 100_000 } else { 1_000_000 };
    let mut short_one = Record::make(10_000).await;
    let mut long_one = Record::make(longest).await;
    let asks = if scale.is_quick { 30 } else { 200 };
    for turn in 0..asks + 10 {
        for (place, (_, arguments)) in ASKED.iter().enumerate() {
            for kept in [&mut short_one, &mut long_one] {
                let time = kept.ask(arguments).await;
                // The first ones fill caches.
                if turn >= 10 {
                    record(&mut kept.times[place], time);
                }
            }
        }
    }
    for (place, (name, _)) in ASKED.iter().enumerate() {
        let cell = |kept: &Record| {
            let (p50, p99) = (at(&kept.times[place], 0.5), at(&kept.times[place], 0.99));
            format!("p50 {} ms, p99 {} ms at {} lines", short(p50), short(p99), kept.lines)
        };
        let ratio = at(&long_one.times[place], 0.5) / at(&short_one.times[place], 0.5);
        let name = format!("a page of the record: {name}");
        table.beside(&name, (cell(&long_one), cell(&short_one)), ratio, "≤ 1.2");
    }
    for kept in [short_one, long_one] {
        stage::close(kept.app).await;
    }
    table
}

impl Record {
    async fn make(lines: i64) -> Self {
        let stage = Stage::create(&format!("record_{lines}")).await;
        // Without jobs: nobody seals these lines.
        let app = limits::start(&stage, false, None).await;
        let hotel = stage::hotels(&app, 1, 1, 1_000).await.remove(0);
        let actor = stage::actor(&app, &hotel).await;
        fill(&stage, &hotel, lines).await;
        let engine = Engine::new(Limits::default()).unwrap();
        Self { lines, app, actor, engine, times: ASKED.map(|_| histogram()).into() }
    }

    /// Asks for a page; answers how long that took.
    async fn ask(&self, arguments: &str) -> Duration {
        let query = format!(
            "{{ auditEvents({arguments}) {{ pageInfo {{ hasNextPage }}
                nodes {{ id occurredAt eventType action entityType eventData seq }} }} }}"
        );
        stage::ask(&self.app, &self.engine, &self.actor, query).await
    }
}

/// So many lines over a year; ten of them are rare, at its beginning.
async fn fill(stage: &Stage, hotel: &Hotel, lines: i64) {
    let mut books = stage.connect().await;
    let sql = "INSERT INTO system_event (id, chain_id, tenant_id, user_id, event_type,
          source_system, entity_type, entity_id, action, event_data, times, is_success,
          occurred_at, digest, seq, chain_hash)
        SELECT gen_random_uuid(), $1, $1, $2,
          CASE WHEN n <= 10 THEN 'SECURITY' ELSE 'DATA' END, 'musubi', 'site',
          CASE WHEN n <= 10 THEN '00000000-0000-0000-0000-000000000000'
               ELSE gen_random_uuid() END,
          CASE WHEN n <= 10 THEN 'SITE_CREATED' ELSE 'SITE_UPDATED' END, '{}', 1, n > 10,
          now() - interval '1 year' * ($3 - n) / $3, '\\x00', n, '\\x00'
        FROM generate_series(1, $3) n";
    let rows = sqlx::query(sql).bind(hotel.tenant.0).bind(hotel.people[0].0).bind(lines);
    books.execute(rows).await.unwrap();
    books.execute("VACUUM ANALYZE").await.unwrap();
}
