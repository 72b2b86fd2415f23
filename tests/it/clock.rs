//! The database's time as a process reckons it.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use musubi::clock::{Clock, Pace, Reckoning, Sample};

use crate::support::beginning;

const SECOND: i64 = 1_000_000;
const GENTLY: Pace = Pace::Gently(Duration::from_secs(600));

/// A measurement that just ended and took so long.
fn sample(shown: DateTime<Utc>, round_trip: Duration) -> Sample {
    let answered = Instant::now();
    Sample { shown, asked: answered.checked_sub(round_trip).unwrap(), answered }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[track_caller]
fn is_about(time: DateTime<Utc>, expected: DateTime<Utc>) {
    assert!((time - expected).abs() < TimeDelta::seconds(2), "{time} is not about {expected}");
}

#[test]
fn a_reckoning_goes_on_by_the_monotonic_clock_alone() {
    let start = Instant::now();
    let reckoning = Reckoning::new(5 * SECOND, start);
    assert_eq!(reckoning.at(start), 5 * SECOND);
    assert_eq!(reckoning.at(start + seconds(30)), 35 * SECOND);
}

#[test]
fn nodes_follow_a_step_of_their_database_forward_at_once_and_back_at_half_the_speed() {
    let start = Instant::now();
    let mut reckoning = Reckoning::new(0, start);
    let then = start + seconds(10);
    assert_eq!(reckoning.correct(100 * SECOND, then, Pace::AtOnce), 90 * SECOND);
    assert_eq!(reckoning.at(then), 100 * SECOND);
    // The true time is 40 s behind: after 80 s at half the speed both show the same.
    assert_eq!(reckoning.correct(60 * SECOND, then, Pace::AtOnce), -40 * SECOND);
    assert_eq!(reckoning.at(then), 100 * SECOND);
    assert_eq!(reckoning.at(then + seconds(20)), 110 * SECOND);
    assert_eq!(reckoning.at(then + seconds(80)), 140 * SECOND);
    assert_eq!(reckoning.at(then + seconds(100)), 160 * SECOND);
}

#[test]
fn a_node_alone_follows_a_step_gently_and_wakes_from_sleep_at_once() {
    let start = Instant::now();
    let mut reckoning = Reckoning::new(0, start);
    assert_eq!(reckoning.correct(60 * SECOND, start, GENTLY), 60 * SECOND);
    assert_eq!(reckoning.at(start), 0);
    assert_eq!(reckoning.at(start + seconds(60)), 90 * SECOND);
    assert_eq!(reckoning.at(start + seconds(120)), 180 * SECOND);
    assert_eq!(reckoning.at(start + seconds(200)), 260 * SECOND);
    let slept = start + seconds(200);
    reckoning.correct(8 * 3_600 * SECOND, slept, GENTLY);
    assert_eq!(reckoning.at(slept), 8 * 3_600 * SECOND);
}

#[test]
fn no_gentle_correction_ends_a_lease_that_is_renewed_at_half_time() {
    let lease = seconds(120);
    let start = Instant::now();
    let mut reckoning = Reckoning::new(0, start);
    let mut until = reckoning.at(start) + 120 * SECOND;
    // The machine's clock stands 10 min ahead from the fifth second on; it is measured as usual.
    for second in 1..=3_600 {
        let now = start + seconds(second);
        if second % 30 == 5 {
            let shown = i64::try_from(second).unwrap() * SECOND + 600 * SECOND;
            reckoning.correct(shown, now, GENTLY);
        }
        assert!(reckoning.at(now) < until, "the lease has ended in second {second}");
        if now.duration_since(start).as_secs().is_multiple_of(lease.as_secs() / 2) {
            until = reckoning.at(now) + 120 * SECOND;
        }
    }
    assert_eq!(reckoning.at(start + seconds(3_600)), 4_200 * SECOND, "in the end it is right");
}

#[test]
fn a_reckoning_never_goes_back_whatever_is_measured() {
    let start = Instant::now();
    let mut reckoning = Reckoning::new(0, start);
    let mut now = start;
    let mut latest = 0;
    for _ in 0..10_000 {
        now += Duration::from_micros(fastrand::u64(0..60_000_000));
        let shown = reckoning.at(now) + fastrand::i64(-4_000 * SECOND..4_000 * SECOND);
        let pace = if fastrand::bool() { Pace::AtOnce } else { GENTLY };
        reckoning.correct(shown, now, pace);
        for _ in 0..3 {
            now += Duration::from_micros(fastrand::u64(0..1_000_000));
            let time = reckoning.at(now);
            assert!(time >= latest, "{time} after {latest}");
            latest = time;
        }
    }
}

#[test]
fn the_first_measurement_is_taken_whole_before_anybody_has_asked() {
    let clock = Clock::system();
    let behind = clock.now() - TimeDelta::hours(1);
    assert!(clock.correct(&[sample(behind, seconds(3))], Pace::AtOnce), "better than nothing");
    is_about(clock.db_now(), behind + TimeDelta::milliseconds(1_500));
    let own = clock.now();
    is_about(own, behind + TimeDelta::hours(1));
}

#[test]
fn a_slow_answer_corrects_nothing_and_the_sharpest_of_several_counts() {
    let clock = Clock::system();
    let now = clock.now();
    assert!(clock.correct(&[sample(now, Duration::from_millis(1))], Pace::AtOnce));
    let ahead = |hours| now + TimeDelta::hours(hours);
    assert!(!clock.correct(&[sample(ahead(1), Duration::from_millis(201))], Pace::AtOnce));
    assert!(!clock.correct(&[], Pace::AtOnce));
    is_about(clock.db_now(), now);
    let samples = [
        sample(ahead(1), Duration::from_millis(100)),
        sample(ahead(2), Duration::from_millis(10)),
        sample(ahead(3), Duration::from_millis(500)),
    ];
    assert!(clock.correct(&samples, Pace::AtOnce));
    is_about(clock.db_now(), ahead(2));
}

#[test]
fn a_time_that_was_told_is_not_taken_back() {
    let clock = Clock::system();
    let told = clock.db_now();
    let samples = [sample(told - TimeDelta::hours(1), Duration::from_millis(1))];
    assert!(clock.correct(&samples, Pace::AtOnce));
    assert!(clock.db_now() >= told);
    is_about(clock.db_now(), told);
}

#[test]
fn a_fixed_clock_is_moved_by_hand_alone() {
    let clock = Clock::fixed(beginning());
    let hasty = clock.skewed(TimeDelta::minutes(2));
    let samples = [sample(beginning() + TimeDelta::days(1), Duration::ZERO)];
    assert!(clock.correct(&samples, Pace::AtOnce));
    clock.advance(TimeDelta::hours(1));
    let now = beginning() + TimeDelta::hours(1);
    assert_eq!((clock.now(), clock.db_now()), (now, now));
    assert_eq!((hasty.now(), hasty.db_now()), (now + TimeDelta::minutes(2), now));
}

#[tokio::test]
async fn the_database_is_measured_at_the_start_and_again() {
    let app = crate::support::Setting::default().real_time().start().await;
    assert!(!app.clock.is_measured());
    for _ in 0..3 {
        app.app.db.measure_clock(&app.clock).await.unwrap();
        is_about(app.clock.db_now(), app.clock.now());
    }
    assert!(app.clock.is_measured());
}
