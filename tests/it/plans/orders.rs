//! Events in any order, any number of times, on two nodes: the end is the same, and no month's free
//! credits are granted twice.

use futures_util::future::join_all;
use musubi::app::App;
use musubi::entity::plan::PlanType::{Enterprise, Professional};
use musubi::payments::service::inbox;
use musubi::plans::service::work;
use musubi::queue;
use serde_json::{Value, json};

use super::Inn;
use crate::payments::deliver;
use crate::support::stripe::Fault;

/// A small generator, so that a failure can be repeated.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    /// All events, some of them twice, in an order of its own.
    fn shuffled(&mut self, events: &[Value]) -> Vec<Value> {
        let mut all = events.to_vec();
        for _ in 0..events.len() / 2 {
            all.push(events[self.below(events.len())].clone());
        }
        for place in (1..all.len()).rev() {
            all.swap(place, self.below(place + 1));
        }
        all
    }
}

async fn works_on(app: &App) {
    let parts = queue::Parts::from(app);
    let handlers = [inbox::HANDLER, work::EVENTS, work::ENDS];
    while queue::work_once(&parts, app, &handlers).await.unwrap() > 0 {}
}

/// The row and the account, without what tells only how often somebody looked.
async fn end_of(inn: &Inn) -> Value {
    inn.resets().await;
    let (row, account) = (inn.row().await, inn.hotel.account().await);
    let free = "SELECT CAST(COALESCE(SUM(granted), 0) AS bigint) AS number
                FROM ai_credit_grants WHERE kind = 'FREE'";
    assert_eq!(inn.app.drifts().await, Vec::<String>::new());
    json!({
        "status": row.status, "plan": row.plan_type, "pending": row.pending_plan_type,
        "period": [row.period_start, row.period_end], "ending": row.cancel_at_period_end,
        "grace": row.grace_until, "ended": row.ended_at,
        "accountPlan": account.plan_type, "next": account.next_plan_type,
        "entitled": account.entitled_until, "balance": account.current_balance,
        "free": inn.number(free).await,
    })
}

/// A life at Stripe of which nobody told anything yet, up to one of its ends.
async fn life(ending: usize) -> Inn {
    let inn = Inn::open().await;
    inn.subscribes("PROFESSIONAL", "a-whole-life").await;
    let id = inn.id();
    inn.stripe.pays_open_invoice(&id);
    if ending == 0 {
        inn.stripe.makes_event("customer.subscription.created", &inn.stripe.subscriptions()[0]);
        return inn;
    }
    inn.time_is("2026-12-21T03:00:01Z");
    inn.stripe.month_ends(&id, ending != 1);
    if ending == 1 {
        return inn;
    }
    inn.time_is("2027-01-21T03:00:01Z");
    inn.stripe.month_ends(&id, false);
    if ending == 2 {
        inn.stripe.pays_open_invoice(&id);
        return inn;
    }
    inn.time_is("2027-01-29T00:00:00Z");
    inn
}

#[tokio::test]
async fn events_of_a_whole_life_end_the_same_in_every_order() {
    for ending in 0..4 {
        let mut ends = Vec::new();
        for seed in 1..=4 {
            let inn = life(ending).await;
            let mut chance = Chance(seed * 7 + u64::try_from(ending).unwrap());
            let events = chance.shuffled(&inn.stripe.events());
            let replica = inn.app.replica().await;
            for part in events.chunks(3) {
                join_all(part.iter().enumerate().map(|(place, event)| {
                    let node = if place == 1 { &replica } else { &inn.app.app };
                    deliver(node, event)
                }))
                .await;
                tokio::join!(works_on(&inn.app.app), works_on(&replica));
            }
            // What two nodes learned at once is tried again.
            inn.app.clock.advance(chrono::TimeDelta::minutes(1));
            works_on(&inn.app.app).await;
            let open = "SELECT COUNT(*) AS number FROM queue_items
                        WHERE state <> 'DONE' AND kind <> 'mail'";
            assert_eq!(inn.number(open).await, 0, "ending {ending}, seed {seed}");
            ends.push(end_of(&inn).await);
        }
        ends.dedup();
        assert_eq!(ends.len(), 1, "ending {ending}: {ends:#?}");
    }
}

#[tokio::test]
async fn an_end_that_is_told_first_stays() {
    let inn = Inn::subscribed("PROFESSIONAL").await;
    let before = inn.stripe.events();
    inn.does("planCancel", None).await;
    inn.time_is("2026-12-21T03:00:01Z");
    inn.stripe.month_ends(&inn.id(), true);
    let deleted = inn.stripe.event("customer.subscription.deleted");
    inn.hears_of(&deleted).await;
    let ended = end_of(&inn).await;
    assert_eq!(ended["status"], "CANCELLED");
    // All that came before it comes now, under other names.
    for event in before {
        let object = &event["data"]["object"];
        let late = inn.stripe.makes_event(event["type"].as_str().unwrap(), object);
        inn.hears_of(&late).await;
    }
    for event in inn.stripe.events() {
        inn.hears_of(&event).await;
    }
    assert_eq!(end_of(&inn).await, ended);
    assert_eq!(inn.alerts().await, []);
}

#[tokio::test]
async fn an_answer_that_was_overtaken_is_asked_for_again() {
    let inn = Inn::open().await;
    inn.subscribes("PROFESSIONAL", "overtaken-on-its-way").await;
    // One node reads it unpaid, and its answer waits; another learns meanwhile that it is paid.
    inn.stripe.fails("GET /subscriptions/ID", Fault::WaitAfter);
    let created = inn.stripe.event("customer.subscription.created");
    deliver(&inn.app.app, &created).await;
    let replica = inn.app.replica().await;
    let slow = works_on(&inn.app.app);
    let fast = async {
        while inn.stripe.asked("GET /subscriptions/ID").len() < 2 {
            tokio::task::yield_now().await;
        }
        inn.stripe.pays_open_invoice(&inn.id());
        deliver(&replica, &inn.stripe.event("invoice.paid")).await;
        while inn.row().await.activated_at.is_none() {
            works_on(&replica).await;
        }
        inn.stripe.open_gate();
    };
    tokio::join!(slow, fast);
    // At the beginning, by both, and once more by the one that was overtaken.
    assert_eq!(inn.stripe.asked("GET /subscriptions/ID").len(), 4);
    assert_eq!(inn.sees().await["status"], "ACTIVE");
    inn.has(Professional, None, 1_000).await;
}

#[tokio::test]
async fn no_month_of_any_history_brings_its_free_credits_twice() {
    for seed in 1..=6 {
        let mut chance = Chance(seed);
        let mut inn = Inn::subscribed("ESSENTIAL").await;
        let id = inn.id();
        for step in 0..14 {
            let key = format!("history-{seed}-{step}");
            match chance.below(7) {
                0 => drop(inn.changes("PROFESSIONAL", &key).await),
                1 => drop(inn.changes("ENTERPRISE", &key).await),
                2 => drop(inn.changes("ESSENTIAL", &key).await),
                3 => {
                    inn.does("planCancel", None).await;
                    inn.does("planResume", None).await;
                }
                4 => drop(inn.reconciles().await),
                _ => {
                    let end = inn.row().await.period_end.unwrap();
                    inn.time_is(&(end + chrono::TimeDelta::seconds(1)).to_rfc3339());
                    inn.stripe.month_ends(&id, chance.below(4) > 0);
                    if inn.stripe.subscriptions()[0]["status"] == "past_due" {
                        inn.hears().await;
                        inn.time_passes(chrono::TimeDelta::days(9));
                        inn.reconciles().await;
                        inn.resets().await;
                        inn.stripe.pays_open_invoice(&id);
                    }
                }
            }
            if chance.below(3) == 0 {
                inn.hears().await;
            }
            inn.resets().await;
            inn.adds_up().await;
        }
        inn.hears().await;
        assert_eq!(inn.app.drifts().await, Vec::<String>::new(), "seed {seed}");
        // Each month's free credits are those of the largest plan that it had, at most.
        let twice = "SELECT COUNT(*) AS number FROM
                     (SELECT g.period, SUM(g.granted) AS granted, MAX(r.free_credits_added) AS added
                      FROM ai_credit_grants g JOIN monthly_credit_resets r
                      ON r.account_id = g.account_id AND r.reset_date = g.period
                      WHERE g.kind = 'FREE' GROUP BY g.period) s
                     WHERE s.granted NOT IN (0, 200, 1000, 5000)";
        assert_eq!(inn.number(twice).await, 0, "seed {seed}");
        let account = inn.hotel.account().await;
        assert!(account.plan_type <= Enterprise);
    }
}
