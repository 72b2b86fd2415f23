//! Analytics over ledgers of three sizes: their time must not grow with the ledger.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use hdrhistogram::Histogram;
use musubi::actor::Actor;
use musubi::app::App;
use musubi::graphql::engine::Engine;
use musubi::graphql::guard::Limits;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::Scale;
use crate::pairs::InstantModel;
use crate::stage::{self, Hotel, Stage, YEN};
use crate::table::{Table, at, histogram, record, short};

/// Days over which each ledger is spread, whatever its size.
const DAYS: i64 = 90;
/// Credits of a line.
const CHARGE: i64 = 2;

/// A ledger of one size, with somebody who may look at it.
struct Ledger {
    lines: i64,
    app: App,
    actor: Actor,
    engine: Engine,
    times: Histogram<u64>,
}

pub(crate) async fn measure(scale: Scale) -> Table {
    let mut table = Table::default();
    let sizes: &[i64] =
        if scale.is_quick { &[10_000, 100_000] } else { &[10_000, 100_000, 1_000_000] };
    let filling = Instant::now();
    let mut ledgers = Vec::new();
    for lines in sizes {
        ledgers.push(Ledger::make(*lines).await);
    }
    println!("  ledgers filled in {:.0} s", filling.elapsed().as_secs_f64());
    let asks = if scale.is_quick { 50 } else { 400 };
    for turn in 0..asks + 20 {
        for ledger in &mut ledgers {
            let time = ledger.ask().await;
            // The first ones fill caches.
            if turn >= 20 {
                record(&mut ledger.times, time);
            }
        }
    }
    let (first, last) = (&ledgers[0], &ledgers[ledgers.len() - 1]);
    let cell = |ledger: &Ledger| {
        let (p50, p99) = (at(&ledger.times, 0.5), at(&ledger.times, 0.99));
        format!("p50 {} ms, p99 {} ms at {} lines", short(p50), short(p99), ledger.lines)
    };
    for ledger in ledgers.iter().skip(1) {
        let ratio = at(&ledger.times, 0.5) / at(&first.times, 0.5);
        let aim = if ledger.lines == last.lines { "≤ 1.2" } else { "" };
        table.beside(
            "analytics and usage over 90 days, by ledger",
            (cell(ledger), cell(first)),
            ratio,
            aim,
        );
    }
    for ledger in ledgers {
        // The largest is made by the same statements.
        if ledger.lines < 1_000_000 {
            stage::prove(&ledger.app).await;
        }
        stage::close(ledger.app).await;
    }
    table
}

impl Ledger {
    async fn make(lines: i64) -> Self {
        let stage = Stage::create(&format!("ledger_{lines}")).await;
        let app = stage.app(Arc::new(InstantModel)).await;
        let credits = lines * CHARGE + 1_000_000;
        let hotel = stage::hotels(&app, 1, 1, credits).await.remove(0);
        let actor = stage::actor(&app, &hotel).await;
        fill(&stage, &hotel, lines, app.clock.db_now()).await;
        let engine = Engine::new(Limits::default()).unwrap();
        Self { lines, app, actor, engine, times: histogram() }
    }

    /// One query of everything that is told about use; answers how long it took.
    async fn ask(&self) -> Duration {
        let (from, to) = range(self.app.clock.db_now());
        let query = format!(
            "{{ creditAnalytics(from: \"{from}\", to: \"{to}\") {{ totalCreditsUsed averageDaily
               peakDay {{ date credits }} efficiency {{ score recommendation }}
               functions {{ functionType totalUsage executions successRate costEfficiency }}
               spending {{ totalCost {{ amount }} projectedMonthlySpend {{ amount }} }} }}
             creditAccount {{ usedThisMonth runway {{ daysLeft dailyRate low high }}
               usage(days: 90) {{ topFunctions {{ functionType creditsUsed }}
                                  dailyUsage {{ date credits }} }} }} }}"
        );
        stage::ask(&self.app, &self.engine, &self.actor, query).await
    }
}

fn range(now: DateTime<Utc>) -> (NaiveDate, NaiveDate) {
    let today = (now + TimeDelta::hours(9)).date_naive();
    // Yesterday is the last day with use, so that no line lies in the future.
    let to = today - Days::new(1);
    (to - Days::new(DAYS as u64 - 1), to)
}

/// Charges so many runs, evenly over the days, with all the rows that a charge leaves.
async fn fill(stage: &Stage, hotel: &Hotel, lines: i64, now: DateTime<Utc>) {
    let mut connection = stage.connect().await;
    let (from, _) = range(now);
    let words = [
        ("{account}", format!("CAST('{}' AS uuid)", hotel.account.0)),
        ("{tenant}", format!("CAST('{}' AS uuid)", hotel.tenant.0)),
        ("{user}", format!("CAST('{}' AS uuid)", hotel.people[0].0)),
        ("{from}", format!("CAST('{from}T00:00:00+09:00' AS timestamptz)")),
        ("{days}", DAYS.to_string()),
        ("{lines}", lines.to_string()),
        ("{charge}", CHARGE.to_string()),
        ("{cost}", (CHARGE * YEN).to_string()),
        ("{at}", "{from} + (i * (interval '1 day' * {days} / {lines}))".to_owned()),
        ("{function}", FUNCTION.to_owned()),
    ];
    let mut sql = FILL.to_owned();
    // The last ones first, as they hold other words.
    for (word, meaning) in words.iter().rev() {
        sql = sql.replace(word, meaning);
    }
    let mut txn = connection.begin().await.unwrap();
    for statement in sql.split("\n\n").filter(|statement| !statement.trim().is_empty()) {
        run(&mut txn, statement).await;
    }
    txn.commit().await.unwrap();
    run(&mut connection, "VACUUM ANALYZE").await;
}

async fn run(connection: &mut PgConnection, sql: &str) {
    let done = connection.execute(AssertSqlSafe(sql.to_owned())).await;
    done.unwrap_or_else(|error| panic!("{error}: {sql}"));
}

const FUNCTION: &str = "(CAST('{CHATBOT,RECOMMENDATION,PREDICTION,ANALYSIS,CUSTOM}' AS text[]))\
                        [i % 5 + 1]";

/// Triggers and keys to other tables are off: the rows are made to fit.
const FILL: &str = "
SET LOCAL session_replication_role = replica

CREATE TEMPORARY TABLE pages ON COMMIT DROP AS
SELECT i, {at} AS at, {function} AS function,
       CAST('01900000' || lpad(to_hex(i), 24, '0') AS uuid) AS execution,
       CAST('01910000' || lpad(to_hex(i), 24, '0') AS uuid) AS hold,
       CAST('01920000' || lpad(to_hex(i), 24, '0') AS uuid) AS line,
       CAST('01930000' || lpad(to_hex(i), 24, '0') AS uuid) AS draw
FROM generate_series(0, {lines} - 1) AS i

INSERT INTO ai_executions (id, tenant_id, account_id, user_id, requested_by, idempotency_key,
  function_type, model, provider, price_id, status, max_tokens, requested_max_tokens,
  estimated_tokens, input_tokens, output_tokens, usage_source, credits_held, credits_used,
  total_cost_yen, transaction_id, execution_time_ms, created_at, finished_at)
SELECT execution, {tenant}, {account}, {user}, {user}, 'bench-' || i, function, 'gpt-4o-mini',
  'instant', (SELECT min(CAST(id AS text)) FROM ai_function_prices)::uuid, 'SUCCEEDED', 200, 200,
  24, 24, 14, 'PROVIDER', {charge}, {charge}, {cost}, line, 1200, at, at FROM pages

INSERT INTO ai_credit_holds (id, account_id, execution_id, user_id, function_type, amount,
  version, state, in_flight_at, lease_until, charge, resolved_by, created_at, resolved_at)
SELECT hold, {account}, execution, {user}, function, {charge}, a.version, 'SETTLED', at, at,
  {charge}, hold, at, at FROM pages, ai_credit_accounts a WHERE a.id = {account}

INSERT INTO ai_credit_transactions (id, account_id, version, transaction_type, credits_amount,
  balance_after, ai_function_type, ai_function_params, execution_time_ms, total_cost_yen, user_id,
  execution_id, hold_id, created_at)
SELECT line, {account}, a.version + i + 1, 'USAGE', -{charge},
  a.current_balance - (i + 1) * {charge}, function, '{\"model\": \"gpt-4o-mini\"}', 1200, {cost},
  {user}, execution, hold, at FROM pages, ai_credit_accounts a WHERE a.id = {account}

INSERT INTO ai_credit_draws (id, transaction_id, hold_id, grant_id, credits, cost)
SELECT draw, line, hold, g.id, {charge}, {cost} FROM pages, ai_credit_grants g
WHERE g.account_id = {account}

INSERT INTO usage_daily (account_id, day, function_type, runs, failures, time_ms, credits,
  credits_on_success, free_credits, cost_yen)
SELECT {account}, CAST(at AT TIME ZONE 'Asia/Tokyo' AS date), function, count(*), 0,
  count(*) * 1200, count(*) * {charge}, count(*) * {charge}, 0, count(*) * {cost}
FROM pages GROUP BY 2, 3

UPDATE ai_credit_grants SET remaining = remaining - {lines} * {charge},
  cost_left = cost_left - {lines} * {cost} WHERE account_id = {account}

UPDATE ai_credit_accounts SET current_balance = current_balance - {lines} * {charge},
  total_used_credits = total_used_credits + {lines} * {charge}, version = version + {lines}
WHERE id = {account}
";
