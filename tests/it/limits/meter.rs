//! The meter by itself, at any time one likes.

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt;
use musubi::clock::Clock;
use musubi::config::{LimitSettings, Secret};
use musubi::error::Result;
use musubi::ids::new_uuid;
use musubi::meter::{Charge, Crowd, History, Key, Kind, Meter, NoHistory, Past, Refusal, Verdict};
use musubi::tasks::Tasks;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use uuid::Uuid;

use crate::support::redis_server::RedisServer;
use crate::support::{beginning, config};

fn alone() -> Meter {
    let clock = Clock::fixed(beginning());
    Meter::start(&config("sqlite:none".to_owned()), &clock, &Tasks::default())
}

fn charge(name: &str, limit: i64, period: TimeDelta, kind: Kind) -> Charge {
    Charge { key: Key::new(Crowd::Known, "tenant", name), limit, period, kind }
}

fn tokens(name: &str, limit: i64, count: i64) -> Charge {
    charge(name, limit, TimeDelta::minutes(1), Kind::Tokens(count))
}

fn place(name: &str, limit: i64, id: Uuid) -> Charge {
    charge(name, limit, TimeDelta::hours(1), Kind::Place(id))
}

async fn take(meter: &Meter, at: DateTime<Utc>, charges: &[Charge]) -> Verdict {
    meter.take(at, charges, &NoHistory).await.unwrap()
}

fn refusal(verdict: Verdict) -> Refusal {
    match verdict {
        Verdict::Refused(refusal) => refusal,
        Verdict::Taken => panic!("it was taken"),
    }
}

#[tokio::test]
async fn the_last_token_is_given_and_the_next_one_only_a_period_later() {
    let (meter, now) = (alone(), beginning());
    for _ in 0..10 {
        assert_eq!(take(&meter, now, &[tokens("t", 10, 1)]).await, Verdict::Taken);
    }
    let refused = refusal(take(&meter, now, &[tokens("t", 10, 1)]).await);
    assert_eq!((refused.index, refused.remaining), (0, 0));
    let wait = refused.retry_after;
    assert!(wait >= TimeDelta::minutes(1) && wait <= TimeDelta::seconds(61), "{wait}");

    let just_before = now + wait - TimeDelta::microseconds(1);
    refusal(take(&meter, just_before, &[tokens("t", 10, 1)]).await);
    assert_eq!(take(&meter, now + wait, &[tokens("t", 10, 10)]).await, Verdict::Taken);
}

#[tokio::test]
async fn a_refusal_of_one_charge_takes_nothing_of_the_others() {
    let (meter, now) = (alone(), beginning());
    assert_eq!(take(&meter, now, &[tokens("small", 1, 1)]).await, Verdict::Taken);
    let id = new_uuid();
    let both = [tokens("large", 5, 1), place("hour", 1, id), tokens("small", 1, 1)];
    for _ in 0..9 {
        assert_eq!(refusal(take(&meter, now, &both).await).index, 2);
    }
    assert_eq!(take(&meter, now, &[tokens("large", 5, 5)]).await, Verdict::Taken);
    assert_eq!(take(&meter, now, &[place("hour", 1, new_uuid())]).await, Verdict::Taken);
}

#[tokio::test]
async fn what_is_given_back_can_be_taken_again() {
    let (meter, now) = (alone(), beginning());
    let all = [tokens("t", 3, 3), place("p", 1, new_uuid())];
    assert_eq!(take(&meter, now, &all).await, Verdict::Taken);
    refusal(take(&meter, now, &[tokens("t", 3, 1)]).await);
    meter.give_back(&[tokens("t", 3, 2), all[1].clone()]).await;
    assert_eq!(take(&meter, now, &[tokens("t", 3, 2)]).await, Verdict::Taken);
    refusal(take(&meter, now, &[tokens("t", 3, 1)]).await);
    assert_eq!(take(&meter, now, &[place("p", 1, new_uuid())]).await, Verdict::Taken);
}

#[tokio::test]
async fn a_flood_of_strangers_shuts_nobody_out_and_fills_no_memory() {
    let (meter, now) = (alone(), beginning());
    assert_eq!(take(&meter, now, &[tokens("user", 1, 1)]).await, Verdict::Taken);
    let stranger = |number: u32| {
        let key = Key::new(Crowd::Strangers, &format!("address-{number}"), "operations");
        [Charge { key, ..tokens("", 1, 1) }]
    };
    // One who came often stays known through the flood.
    for _ in 0..3 {
        take(&meter, now, &stranger(u32::MAX)).await;
    }
    for number in 0..300_000 {
        let verdict = take(&meter, now, &stranger(number)).await;
        assert_eq!(verdict, Verdict::Taken, "a stranger is not refused for others");
    }
    refusal(take(&meter, now, &[tokens("user", 1, 1)]).await);
    refusal(take(&meter, now, &stranger(u32::MAX)).await);
    assert!(meter.bytes() <= 60 * 1024 * 1024, "{}", meter.bytes());
}

/// What is done in a history: milliseconds go by, then something happens.
#[derive(Clone, Debug)]
enum Step {
    Take(i64),
    GiveBack,
}

fn steps() -> impl Strategy<Value = Vec<(u32, Step)>> {
    let pause = prop_oneof![Just(0), 0..50_u32, 0..3_000_u32, Just(60_000), Just(3_600_000)];
    let step = prop_oneof![6 => (1..4_i64).prop_map(Step::Take), 1 => Just(Step::GiveBack)];
    proptest::collection::vec((pause, step), 1..120)
}

/// A window that keeps everything, and the same rule said plainly.
#[derive(Default)]
struct Naive(Vec<(DateTime<Utc>, Uuid)>);

impl Naive {
    fn within(&self, now: DateTime<Utc>) -> Vec<(DateTime<Utc>, Uuid)> {
        let inside = |(at, _): &&(DateTime<Utc>, Uuid)| *at > now - TimeDelta::hours(1);
        self.0.iter().filter(inside).copied().collect()
    }
}

fn window_is_naive(meter: &Meter, name: &str, limit: i64, history: &[(u32, Step)]) {
    let mut naive = Naive::default();
    let mut now = beginning();
    for (pause, step) in history {
        now += TimeDelta::milliseconds((*pause).into());
        let inside = naive.within(now);
        match step {
            Step::Take(_) => {
                let id = new_uuid();
                let verdict = take(meter, now, &[place(name, limit, id)]).now_or_never().unwrap();
                if i64::try_from(inside.len()).unwrap() < limit {
                    assert_eq!(verdict, Verdict::Taken);
                    naive.0.push((now, id));
                } else {
                    let first = inside[inside.len() - usize::try_from(limit).unwrap()].0;
                    let wait = first + TimeDelta::hours(1) - now;
                    assert_eq!(refusal(verdict).retry_after, wait);
                }
            }
            Step::GiveBack => {
                let Some((_, id)) = inside.last().copied() else { continue };
                meter.give_back(&[place(name, limit, id)]).now_or_never().unwrap();
                naive.0.retain(|(_, known)| *known != id);
            }
        }
        let window = place(name, limit, Uuid::nil());
        let look = meter.look(now, &window, &NoHistory);
        let usage = look.now_or_never().unwrap().unwrap();
        let inside = naive.within(now);
        assert_eq!(usage.used, i64::try_from(inside.len()).unwrap());
        let left = inside.first().map(|(at, _)| *at + TimeDelta::hours(1) - now);
        assert_eq!(usage.oldest_left, left);
    }
}

/// No minute sees more tokens than the bucket holds, and after the wait that is told they come.
fn bucket_is_bounded(meter: &Meter, name: &str, limit: i64, history: &[(u32, Step)]) {
    let mut taken: VecDeque<(DateTime<Utc>, i64)> = VecDeque::new();
    let mut now = beginning();
    for (pause, step) in history {
        now += TimeDelta::milliseconds((*pause).into());
        let Step::Take(count) = step else { continue };
        let count = (*count).min(limit);
        let mut verdict = take(meter, now, &[tokens(name, limit, count)]).now_or_never().unwrap();
        let within = |taken: &VecDeque<(DateTime<Utc>, i64)>, span: i64| -> i64 {
            let inside = taken.iter().filter(|(at, _)| *at > now - TimeDelta::seconds(span));
            inside.map(|(_, count)| count).sum()
        };
        if let Verdict::Refused(refused) = verdict {
            assert!(within(&taken, 61) + count > limit, "refused too early");
            assert!(refused.remaining >= limit - within(&taken, 61));
            assert!(refused.remaining <= limit - within(&taken, 60));
            now += refused.retry_after;
            verdict = take(meter, now, &[tokens(name, limit, count)]).now_or_never().unwrap();
        }
        assert_eq!(verdict, Verdict::Taken);
        taken.push_back((now, count));
        let minute: i64 = taken
            .iter()
            .filter(|(at, _)| *at > now - TimeDelta::minutes(1))
            .map(|(_, count)| count)
            .sum();
        assert!(minute <= limit, "{minute} in a minute");
    }
}

proptest! {
    #[test]
    fn a_window_does_what_a_list_of_everything_would(
        history in steps(), limit in 1..12_i64, name in any::<u64>()
    ) {
        window_is_naive(&alone(), &name.to_string(), limit, &history);
    }

    #[test]
    fn no_minute_ever_sees_more_than_the_bucket_holds(
        history in steps(), limit in 1..12_i64, name in any::<u64>()
    ) {
        bucket_is_bounded(&alone(), &name.to_string(), limit, &history);
    }
}

/// A record that a test writes.
struct Record(Vec<Past>);

impl History for Record {
    async fn read(&self, _: &Charge) -> Result<Vec<Past>> {
        Ok(self.0.clone())
    }
}

#[tokio::test]
async fn what_the_record_holds_is_counted_once_whoever_reads_it() {
    let now = beginning();
    let record: Vec<Past> = (0..3)
        .map(|number| Past { id: new_uuid(), at: now - TimeDelta::minutes(10 * number) })
        .collect();
    let record = Record(record);
    let redis = RedisServer::start().await;
    let together = node(&redis).await;
    for meter in [&alone(), &together] {
        // One that is in the record already has its place.
        let own = place("hour", 4, record.0[1].id);
        assert_eq!(meter.take(now, &[own], &record).await.unwrap(), Verdict::Taken);
        let usage = meter.look(now, &place("hour", 4, Uuid::nil()), &record).await.unwrap();
        assert_eq!(usage.used, 3);
        let left = usage.oldest_left.unwrap() - TimeDelta::minutes(40);
        assert!(left.abs() < TimeDelta::seconds(30), "{left}");
        let fourth = meter.take(now, &[place("hour", 4, new_uuid())], &record).await.unwrap();
        assert_eq!(fourth, Verdict::Taken);
        let refused = meter.take(now, &[place("hour", 4, new_uuid())], &record).await.unwrap();
        let wait = refusal(refused).retry_after - TimeDelta::minutes(40);
        assert!(wait.abs() < TimeDelta::seconds(30), "{wait}");
    }
}

/// A node that counts in Redis.
async fn node(redis: &RedisServer) -> Meter {
    let mut config = config("sqlite:none".to_owned());
    config.redis_url = Some(Secret(redis.url()));
    let patience = std::time::Duration::from_secs(5);
    config.limits = LimitSettings { is_on: true, redis_patience: patience };
    let meter = Meter::start(&config, &Clock::system(), &Tasks::default());
    crate::ai::until("Redis is found", async || meter.is_shared()).await;
    meter
}

#[tokio::test]
async fn redis_counts_as_the_memory_of_a_node_does() {
    let redis = RedisServer::start().await;
    let (here, there) = (node(&redis).await, node(&redis).await);
    let (memory, now) = (alone(), beginning());
    let ids: Vec<Uuid> = (0..4).map(|_| new_uuid()).collect();
    let cases = [
        vec![tokens("a", 5, 3), place("p", 2, ids[0])],
        vec![tokens("a", 5, 3), place("p", 2, ids[1])],
        vec![tokens("a", 5, 2), place("p", 2, ids[1])],
        vec![place("p", 2, ids[2])],
        vec![place("p", 2, ids[0])],
        vec![tokens("a", 5, 1)],
        vec![tokens("b", 0, 1), place("q", 0, ids[3])],
    ];
    for (number, charges) in cases.iter().enumerate() {
        let meter = if number % 2 == 0 { &here } else { &there };
        let (ours, theirs) = (take(&memory, now, charges).await, take(meter, now, charges).await);
        match (ours, theirs) {
            (Verdict::Taken, Verdict::Taken) => {}
            (Verdict::Refused(ours), Verdict::Refused(theirs)) => {
                assert_eq!((ours.index, ours.remaining), (theirs.index, theirs.remaining));
                let apart = ours.retry_after - theirs.retry_after;
                assert!(apart.abs() < TimeDelta::seconds(30), "{number}: {apart}");
            }
            other => panic!("{number}: {other:?}"),
        }
    }
    let back = [tokens("a", 5, 4), place("p", 2, ids[0])];
    for meter in [&memory, &there] {
        meter.give_back(&back).await;
        assert_eq!(take(meter, now, &[tokens("a", 5, 4)]).await, Verdict::Taken);
        refusal(take(meter, now, &[tokens("a", 5, 1)]).await);
        assert_eq!(take(meter, now, &[place("p", 2, new_uuid())]).await, Verdict::Taken);
        refusal(take(meter, now, &[place("p", 2, new_uuid())]).await);
    }
}

#[tokio::test]
async fn nothing_is_forgotten_when_redis_forgets_all() {
    let mut redis = RedisServer::start().await;
    let (here, there) = (node(&redis).await, node(&redis).await);
    let now = Utc::now();
    assert_eq!(take(&here, now, &[tokens("t", 10, 4)]).await, Verdict::Taken);
    assert_eq!(take(&there, now, &[tokens("t", 10, 3)]).await, Verdict::Taken);

    redis.take_away();
    // Taken by one node alone, which knows its own.
    assert_eq!(take(&here, now, &[tokens("t", 10, 2)]).await, Verdict::Taken);
    refusal(take(&here, now, &[tokens("t", 10, 5)]).await);
    // The other notices by its own failure.
    take(&there, now, &[tokens("other", 10, 1)]).await;
    redis.bring_back().await;
    crate::ai::until("both are back", async || here.is_shared() && there.is_shared()).await;

    assert_eq!(take(&there, now, &[tokens("t", 10, 1)]).await, Verdict::Taken);
    let refused = refusal(take(&here, now, &[tokens("t", 10, 1)]).await);
    assert_eq!(refused.remaining, 0, "4 + 3 + 2 + 1 of 10");
}
