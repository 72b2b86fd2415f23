//! Unusual use: what it scores, what follows, and whom it leaves alone.

use std::sync::Arc;

use chrono::{DateTime, Days, TimeDelta, Timelike, Utc};
use musubi::anomaly::baseline;
use musubi::anomaly::score::{Baseline, Recent, Score, SignalKind, Usual, WARNING, WEEK, score};
use musubi::anomaly::watch::{self, Coming, Subject};
use musubi::app::App;
use musubi::clock::Clock;
use musubi::credits::period;
use musubi::entity::function_price::AiFunctionType;
use musubi::entity::{alert, execution, system_event, usage_hourly, user_block};
use musubi::ids::UserId;
use musubi::{db, demo};
use sea_orm::{EntityTrait, IntoActiveModel, PaginatorTrait, QueryOrder};
use serde_json::{Value, json};

use crate::support::people::{Hotel, Person};
use crate::support::{Setting, TestApp};

/// Two runs of three credits in each hour from nine to nine, for eight weeks.
fn two_an_hour() -> Baseline {
    let is_open = |hour: usize| (9..21).contains(&(hour % 24));
    Baseline {
        total: 8 * 7 * 12 * 2,
        runs: Usual { median: 2.0, mad: 0.0 },
        credits: Usual { median: 6.0, mad: 0.0 },
        week: (0..WEEK).map(|hour| if is_open(hour) { 16 } else { 0 }).collect(),
    }
}

fn judged(runs: u32, credits: u32, hour: usize) -> Score {
    let usual = two_an_hour();
    score(Recent { runs, credits, repeats: 1 }, (Some(&usual), &usual), hour)
}

fn contributions(score: &Score) -> Vec<(SignalKind, u8)> {
    score.signals.iter().map(|signal| (signal.kind, signal.contribution)).collect()
}

#[test]
fn the_worked_examples_score_as_they_are_written() {
    use SignalKind::{Frequency, HourOfWeek, Volume};

    let (noon, three) = (12, 3);
    let usual = judged(2, 6, noon);
    assert_eq!((usual.total, usual.signals.len()), (0, 0));
    let burst = judged(62, 186, noon);
    assert_eq!((burst.total, contributions(&burst)), (94, vec![(Frequency, 80), (Volume, 70)]));
    assert_eq!((burst.signals[0].observed, burst.signals[0].expected), (6_200, 200));
    let night = judged(1, 3, three);
    assert_eq!((night.total, contributions(&night)), (39, vec![(HourOfWeek, 39)]));
    let night = judged(34, 102, three);
    let expected = vec![(HourOfWeek, 39), (Frequency, 33), (Volume, 29)];
    assert_eq!((night.total, contributions(&night)), (71, expected));

    let busy = Baseline {
        runs: Usual { median: 20.0, mad: 3.0 },
        credits: Usual { median: 60.0, mad: 10.0 },
        ..two_an_hour()
    };
    let recent = Recent { runs: 60, credits: 180, repeats: 1 };
    let threefold = score(recent, (Some(&busy), &busy), noon);
    assert_eq!(
        (threefold.total, contributions(&threefold)),
        (53, vec![(Frequency, 33), (Volume, 29)])
    );
}

#[test]
fn a_score_never_falls_as_use_grows_and_stays_within_its_bounds() {
    let usual = two_an_hour();
    for hour in [3, 8, 12, 21, 167] {
        let mut last = 0;
        for runs in 1..200 {
            let recent = Recent { runs, credits: runs * 3, repeats: runs / 3 };
            let score = score(recent, (Some(&usual), &usual), hour);
            assert!(score.total >= last && score.total <= 100, "{runs} at {hour}: {score:?}");
            assert!(score.signals.iter().all(|it| (1..=85).contains(&it.contribution)));
            last = score.total;
        }
        assert!(last >= 99, "everything at once: {last}");
    }
}

#[test]
fn what_is_usual_for_the_person_or_for_the_others_is_usual() {
    let quiet = two_an_hour();
    let busy = Baseline {
        runs: Usual { median: 60.0, mad: 5.0 },
        credits: Usual { median: 180.0, mad: 15.0 },
        ..two_an_hour()
    };
    let recent = Recent { runs: 62, credits: 186, repeats: 1 };

    assert_eq!(score(recent, (Some(&busy), &quiet), 12).total, 0);
    assert_eq!(score(recent, (Some(&quiet), &busy), 12).total, 0);
    assert_eq!(score(recent, (None, &quiet), 12).total, 94, "a newcomer among quiet people");
}

#[test]
fn who_is_hardly_known_scores_forty_at_most() {
    let newcomer = Baseline { total: 0, week: Vec::new(), ..two_an_hour() };
    let nineteen = Recent { runs: 19, credits: 4_000, repeats: 19 };
    let twenty = Recent { runs: 20, credits: 4_000, repeats: 20 };
    let usual = two_an_hour();

    assert_eq!(score(nineteen, (Some(&newcomer), &usual), 3).total, 40);
    assert!(score(twenty, (Some(&newcomer), &usual), 3).total > 80);
    // Without anybody to compare with only repeats count, and they alone block nobody.
    let thousands = Recent { runs: 5_000, credits: 10_000, repeats: 5_000 };
    assert_eq!(score(thousands, (None, &newcomer), 3).total, 85);
}

#[tokio::test]
async fn prompts_that_differ_in_numbers_marks_and_case_alone_are_the_same() {
    let app = TestApp::start().await;
    let digest = |prompt: &str| watch::digest(&app.app, prompt);

    let one = digest("Room 101: when is breakfast?");
    assert_eq!(one, digest("room 2047 – When is BREAKFAST"));
    assert_eq!(digest("部屋１２の朝食は？"), digest("部屋 3 の 朝食は"));
    assert_ne!(one, digest("Room 101: when is dinner?"));
    assert_ne!(digest("!?"), 0);
    let other = Setting::default().start().await;
    let mut config = (*other.app.config).clone();
    config.index_key = [9; 32];
    let other = App::start(config, Clock::system(), other.external()).await.unwrap();
    assert_ne!(one, watch::digest(&other, "Room 101: when is breakfast?"), "the key matters");
}

/// Eight weeks of usual days for a person: two runs in each hour from nine to nine in Tokyo.
async fn has_a_past(app: &TestApp, hotel: &Hotel, user: UserId) {
    let account = hotel.account().await.id;
    let today = app.clock.db_now();
    let mut rows = Vec::new();
    for day in 1..=55 {
        let midnight = (today - Days::new(day)).with_hour(0).unwrap();
        rows.extend((0..12).map(|hour| usage_hourly::Model {
            account_id: account,
            user_id: user,
            function_type: AiFunctionType::Chatbot,
            hour: midnight + TimeDelta::hours(hour),
            runs: 2,
            failures: 0,
            credits: 6,
        }));
    }
    let rows = rows.into_iter().map(IntoActiveModel::into_active_model);
    usage_hourly::Entity::insert_many(rows).exec(app.app.db.writer()).await.unwrap();
    baseline::compute_all(&app.app).await.unwrap();
}

const WORDS: [&str; 10] =
    ["bath", "tea", "bus", "park", "room", "key", "view", "menu", "guide", "tour"];

/// Asks for something else each time until a call is refused; answers the number of calls that ran
/// and the refusal, or none after so many.
async fn asks_until_refused(person: &Person, name: &str, max: u32) -> (u32, Option<Value>) {
    for number in 0..max {
        let (tens, ones) = (number as usize / 10 % 10, number as usize % 10);
        let input = format!("The {} and the {}, {}?", WORDS[tens], WORDS[ones], "x".repeat(tens));
        let payload = person.executes(&input, &format!("{name}-{number:04}")).await;
        let errors = payload["userErrors"].as_array().unwrap();
        if let Some(error) = errors.first() {
            return (number, Some(error.clone()));
        }
    }
    (max, None)
}

const BLOCKS: &str = "{ anomalyBlocks { totalCount nodes { id score isActive user { id }
    signals { kind contribution observed expected } createdAt blockedUntil liftedAt
    liftedBy { id } } } }";
const LIFT: &str = "mutation ($id: ID!) { anomalyBlockLift(id: $id) {
    block { isActive liftedBy { id } } userErrors { code } } }";
const SETTINGS: &str = "mutation ($input: AnomalySettingsUpdateInput!) {
    anomalySettingsUpdate(input: $input) { settings { mode blockMinutes }
        userErrors { code field } } }";

async fn stage() -> (TestApp, Hotel) {
    let app = Setting::default().limited().start().await;
    let hotel = app.hotel().await.with_credits(10_000).await;
    has_a_past(&app, &hotel, hotel.user.id).await;
    // The hour's own limit is higher than what is tried here.
    let set = "mutation ($input: TenantFunctionLimitSetInput!) {
        tenantFunctionLimitSet(input: $input) { userErrors { code } } }";
    let limit = json!({ "tenantId": hotel.id.to_string(), "functionType": "CHATBOT",
        "perHour": 10_000 });
    app.platform_admin(None).await.gets(set, json!({ "input": limit })).await;
    (app, hotel)
}

async fn alerts_and_events(app: &TestApp) -> (Vec<Value>, usize) {
    let alerts = alert::Entity::find().order_by_asc(alert::Column::CreatedAt);
    let alerts = alerts.all(app.app.db.primary()).await.unwrap();
    let degrees = alerts.iter().filter(|it| it.kind == "ANOMALOUS_USAGE");
    let degrees = degrees.map(|it| it.data["degree"].clone()).collect();
    let events = system_event::Entity::find().all(app.app.db.primary()).await.unwrap();
    let events = events.iter().filter(|it| it.action.starts_with("ANOMALOUS_USAGE"));
    (degrees, events.count())
}

#[tokio::test]
async fn a_burst_is_blocked_where_the_formula_says_and_nobody_else_is() {
    let (app, hotel) = stage().await;

    let (ran, refusal) = asks_until_refused(&hotel.user, "burst", 150).await;
    let refusal = refusal.expect("a burst of 150 passes");
    let (usual, mut expected) = (two_an_hour(), 0);
    let is_blocked = |runs| {
        let recent = Recent { runs, credits: runs * 2, repeats: 1 };
        score(recent, (Some(&usual), &usual), 12).total >= 90
    };
    while !is_blocked(expected + 1) {
        expected += 1;
    }

    assert_eq!(ran, expected);
    assert_eq!(refusal["code"], "SUSPICIOUS_ACTIVITY", "{refusal}");
    assert_eq!(refusal["blockedUntil"], "2026-11-21T03:30:00Z");
    assert_eq!(hotel.balance().await, (10_000 - 2 * i64::from(ran), 0), "nothing is held for it");
    let (again, _) = asks_until_refused(&hotel.user, "again", 1).await;
    let known = hotel.user.executes("The bath and the bath, ?", "burst-0000").await;
    assert_eq!(known["execution"]["status"], "SUCCEEDED", "a known key is answered: {known}");
    let (others, _) = asks_until_refused(&hotel.support, "others", 3).await;
    assert_eq!((again, others), (0, 3));
    let blocks = hotel.admin.gets(BLOCKS, json!({})).await["anomalyBlocks"].clone();
    let block = &blocks["nodes"][0];
    assert_eq!((&blocks["totalCount"], &block["isActive"]), (&json!(1), &json!(true)));
    assert_eq!(block["user"]["id"], hotel.user.id.to_string());
    assert_eq!(block["signals"][0]["kind"], "FREQUENCY");
    assert_eq!(block["signals"][0]["expected"], "2");
    assert_eq!(alerts_and_events(&app).await, (vec![json!("WARNING"), json!("CRITICAL")], 2));
    assert_eq!(app.drifts().await, [""; 0]);
}

#[tokio::test]
async fn a_block_ends_by_itself_and_the_hour_begins_anew() {
    let (app, hotel) = stage().await;
    asks_until_refused(&hotel.user, "first", 150).await;
    app.clock.advance(TimeDelta::minutes(30) - TimeDelta::milliseconds(1));
    let (before, _) = asks_until_refused(&hotel.user, "too-soon", 1).await;

    app.clock.advance(TimeDelta::milliseconds(1));
    // Redis counts by its own minute, so that only some are tried.
    let (after, refusal) = asks_until_refused(&hotel.user, "second", 20).await;

    assert_eq!((before, after), (0, 20), "{refusal:?}");
    assert_eq!(user_block::Entity::find().count(app.app.db.primary()).await.unwrap(), 1);
}

#[tokio::test]
async fn an_admin_lifts_a_block_and_the_person_goes_on() {
    let (app, hotel) = stage().await;
    asks_until_refused(&hotel.user, "first", 150).await;
    let blocks = hotel.admin.gets(BLOCKS, json!({})).await["anomalyBlocks"].clone();
    let id = json!({ "id": blocks["nodes"][0]["id"] });

    let stranger = app.hotel().await;
    let theirs = stranger.admin.gets(LIFT, id.clone()).await["anomalyBlockLift"].clone();
    let lifted = hotel.admin.gets(LIFT, id.clone()).await["anomalyBlockLift"].clone();
    let twice = hotel.admin.gets(LIFT, id).await["anomalyBlockLift"].clone();
    app.clock.advance(TimeDelta::seconds(1));
    let (ran, _) = asks_until_refused(&hotel.user, "second", 20).await;

    assert_eq!(theirs["userErrors"][0]["code"], "NOT_FOUND");
    let admin = json!({ "isActive": false, "liftedBy": { "id": hotel.admin.id.to_string() } });
    assert_eq!((&lifted["block"], &twice["block"]), (&admin, &admin));
    assert_eq!(ran, 20);
    let events = system_event::Entity::find().all(app.app.db.primary()).await.unwrap();
    assert_eq!(events.iter().filter(|it| it.action == "BLOCK_LIFTED").count(), 1);
}

#[tokio::test]
async fn in_shadow_mode_everything_is_recorded_and_nobody_is_refused() {
    let (app, hotel) = stage().await;
    let wrong = json!({ "input": { "blockMinutes": 0 } });
    let wrong = hotel.admin.gets(SETTINGS, wrong).await["anomalySettingsUpdate"].clone();
    let wish = json!({ "input": { "mode": "SHADOW", "blockMinutes": 5 } });
    let done = hotel.admin.gets(SETTINGS, wish).await["anomalySettingsUpdate"].clone();

    let (ran, refusal) = asks_until_refused(&hotel.user, "shadow", 90).await;

    assert_eq!(wrong["userErrors"][0]["field"], json!(["input", "blockMinutes"]));
    assert_eq!(done["settings"], json!({ "mode": "SHADOW", "blockMinutes": 5 }));
    assert_eq!((ran, refusal), (90, None));
    assert_eq!(alerts_and_events(&app).await, (vec![json!("WARNING"), json!("CRITICAL")], 2));
    let asked = "{ aiExecutions(first: 1) { nodes { anomaly { score signals { kind } } } } }";
    let last = hotel.admin.gets(asked, json!({})).await["aiExecutions"]["nodes"][0].clone();
    assert!(last["anomaly"]["score"].as_i64().unwrap() >= 90, "{last}");
    // Switched on again, the next call meets the block.
    let wish = json!({ "input": { "mode": "ENFORCE" } });
    hotel.admin.gets(SETTINGS, wish).await;
    let (ran, refusal) = asks_until_refused(&hotel.user, "enforced", 1).await;
    assert_eq!((ran, &refusal.unwrap()["blockedUntil"]), (0, &json!("2026-11-21T03:05:00Z")));
}

#[tokio::test]
async fn a_baseline_is_the_median_of_hours_with_any_use_and_is_replaced_each_night() {
    let (app, hotel) = stage().await;
    has_a_past(&app, &hotel, hotel.admin.id).await;
    let sql = "UPDATE usage_hourly SET runs = 9, credits = 30 WHERE user_id = $1";
    db::execute(app.app.db.writer(), sql, vec![hotel.admin.id.into()]).await.unwrap();
    let first = baseline::compute_all(&app.app).await.unwrap();

    let rows = musubi::entity::usage_baseline::Entity::of_tenant(hotel.id)
        .order_by_asc(musubi::entity::usage_baseline::Column::RunsMedian)
        .all(app.app.db.primary())
        .await
        .unwrap();
    let numbers: Vec<_> = rows
        .iter()
        .map(|row| (row.runs_median, row.runs_mad, row.credits_median, row.credits_mad, row.runs))
        .collect();
    let (user, admin) = (55 * 12 * 2, 55 * 12 * 9);
    assert_eq!(numbers[0], (200, 0, 600, 0, user));
    // Half of all hours have 2 runs and half 9: 5.5, which all of them miss by 3.5.
    assert_eq!(numbers[1], (550, 350, 1_800, 1_200, user + admin));
    assert_eq!(numbers[2], (900, 0, 3_000, 0, admin));
    assert_eq!(first, "2 people of 1 tenants");
    app.clock.advance(TimeDelta::days(60));
    assert_eq!(baseline::compute_all(&app.app).await.unwrap(), "0 people of 1 tenants");
    assert_eq!(baseline::compute_all(&app.app).await.unwrap(), "0 people of 0 tenants");
}

#[tokio::test]
async fn a_year_of_usual_traffic_blocks_nobody_and_warns_of_hardly_any() {
    let app = Setting::default().limited().start().await;
    demo::fill(&app.app).await.unwrap();
    let runs = execution::Entity::find()
        .order_by_asc(execution::Column::CreatedAt)
        .all(app.app.db.primary())
        .await
        .unwrap();
    assert!(runs.len() > 4_000, "{} runs", runs.len());

    let past = app.app.at(Clock::fixed(runs[0].created_at));
    let mut counted_until: DateTime<Utc> = DateTime::<Utc>::MIN_UTC;
    let mut scores = Vec::with_capacity(runs.len());
    for run in &runs {
        // Just before it, lest it be counted as its own past.
        past.clock.set(run.created_at - TimeDelta::microseconds(1));
        if counted_until + TimeDelta::days(7) < run.created_at {
            baseline::compute_all(&past).await.unwrap();
            counted_until = run.created_at;
        }
        let prompt = run.prompt_digest;
        let subject = Subject { tenant: run.tenant_id, user: run.user_id, prompt };
        let seen = watch::look(&past, subject).await.unwrap().unwrap();
        let zone = period::zone("Asia/Tokyo");
        let call = Coming { subject, credits: run.credits_held, zone };
        // A block would end the test here.
        scores.push(watch::judge(&past, seen, call, &Arc::default()).await.unwrap().total);
    }

    let warned = scores.iter().filter(|score| **score >= WARNING).count();
    assert!(warned * 1_000 < scores.len(), "{warned} of {}", scores.len());
    assert!(scores.iter().any(|score| *score > 0), "nothing was judged");
    assert_eq!(user_block::Entity::find().count(app.app.db.primary()).await.unwrap(), 0);
}
