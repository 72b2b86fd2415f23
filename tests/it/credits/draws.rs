//! The order in which a charge takes from grants, and what the credits had cost.

use chrono::{DateTime, TimeDelta, Utc};
use musubi::credits::book::{About, Book, Line};
use musubi::entity::credit_grant::{self, GrantKind};
use musubi::entity::credit_transaction::TransactionType;
use musubi::entity::plan::PlanType;
use musubi::ids::{AccountId, GrantId, HoldId, TransactionId};
use serde_json::json;

use super::{at, due, give_bonus, hold, settle, spend, subscriber};
use crate::support::{TestApp, beginning};

fn a_grant(
    kind: GrantKind,
    expires_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
) -> credit_grant::Model {
    credit_grant::Model {
        id: GrantId::new(),
        account_id: AccountId::new(),
        kind,
        granted: 10,
        remaining: 10,
        price_minor: 33,
        cost_left: 33,
        period: None,
        expires_at,
        description: None,
        reference_id: None,
        created_at,
    }
}

fn charge(credits: i64) -> Line {
    Line {
        id: TransactionId::new(),
        version: 9,
        kind: TransactionType::Usage,
        credits: -credits,
        balance_after: 0,
        cost: None,
        about: About::default(),
    }
}

/// Draws one charge after the other; answers the indexes of the grants in the order of drawing.
fn order_of(grants: &[credit_grant::Model]) -> Vec<usize> {
    let total = 10 * i64::try_from(grants.len()).unwrap();
    let mut book = Book::open((0, 0, 9), grants.to_vec(), Vec::new());
    let mut order = Vec::new();
    let mut before: Vec<i64> = vec![10; grants.len()];
    for _ in 0..total {
        assert_eq!(book.draw(HoldId::new(), 1, &mut charge(1)), 0);
        let now: Vec<i64> = book.grants().map(|grant| grant.remaining).collect();
        let index = (0..now.len()).find(|index| now[*index] != before[*index]).unwrap();
        if order.last() != Some(&index) {
            order.push(index);
        }
        before = now;
    }
    order
}

#[test]
fn the_earliest_expiry_is_drawn_first_then_free_bonus_refund_purchased() {
    let (soon, late) = (beginning() + TimeDelta::days(1), beginning() + TimeDelta::days(2));
    let grants = [
        a_grant(GrantKind::Purchased, None, beginning()),
        a_grant(GrantKind::Refund, None, beginning()),
        a_grant(GrantKind::Bonus, None, beginning()),
        a_grant(GrantKind::Free, None, beginning()),
        a_grant(GrantKind::Free, Some(late), beginning()),
        a_grant(GrantKind::Purchased, Some(soon), beginning()),
        a_grant(GrantKind::Bonus, Some(soon), beginning()),
    ];

    assert_eq!(order_of(&grants), [6, 5, 4, 3, 2, 1, 0]);
}

#[test]
fn among_equals_the_oldest_is_drawn_first() {
    let older = beginning() - TimeDelta::days(1);
    let grants = [
        a_grant(GrantKind::Purchased, None, beginning()),
        a_grant(GrantKind::Purchased, None, older),
        a_grant(GrantKind::Purchased, None, beginning()),
    ];

    assert_eq!(order_of(&grants), [1, 0, 2]);
}

#[test]
fn however_a_grant_is_drawn_its_costs_add_up_to_its_price() {
    let mut rng = fastrand::Rng::with_seed(4);
    for _ in 0..300 {
        let (credits, price) = (rng.i64(1..500), rng.i64(0..10_000));
        let grant = credit_grant::Model {
            granted: credits,
            remaining: credits,
            price_minor: price,
            cost_left: price,
            ..a_grant(GrantKind::Purchased, None, beginning())
        };
        let mut book = Book::open((credits, 0, 1), vec![grant], Vec::new());
        let (mut left, mut paid) = (credits, 0);
        while left > 0 {
            let part = rng.i64(1..=left);
            let mut line = charge(part);
            assert_eq!(book.draw(HoldId::new(), 1, &mut line), 0);
            // Each part is within a yen of its exact share of the price.
            let (cost, exact) = (line.cost.unwrap(), price * part);
            assert!((cost * credits - exact).abs() <= credits * 2, "{cost} of {price}");
            paid += cost;
            left -= part;
        }
        assert_eq!(paid, price);
    }
}

#[test]
fn what_no_grant_has_is_told() {
    let grants = vec![a_grant(GrantKind::Free, None, beginning())];
    let mut book = Book::open((0, 0, 9), grants, Vec::new());

    assert_eq!(book.draw(HoldId::new(), 1, &mut charge(12)), 2);
}

#[tokio::test]
async fn a_charge_over_three_grants_shows_each_draw_with_its_cost() {
    let app = TestApp::start().await;
    let root = app.platform_admin(None).await;
    let hotel = subscriber(&app, PlanType::Essential).await;
    spend(&app.app, &hotel, 190).await;
    hotel.buys(30, 500).await;
    give_bonus(&app, (&root, &hotel), 5, Some(TimeDelta::days(3))).await;

    spend(&app.app, &hotel, 25).await;

    let query = "{ creditAccount { totalUsed usedThisMonth
        transactions(first: 1) { nodes { type credits balanceAfter costPerCredit
            totalCost { amount currency } executionTimeMs functionType
            draws { credits cost { amount } grant { kind remaining } } } }
        grants { kind remaining price { amount } } } }";
    let account = hotel.admin.gets(query, json!({})).await["creditAccount"].clone();
    let line = &account["transactions"]["nodes"][0];
    assert_eq!(
        (&line["type"], &line["credits"], &line["balanceAfter"]),
        (&json!("USAGE"), &json!(-25), &json!(20))
    );
    // 10 of 30 credits that had cost 500 yen.
    assert_eq!(line["totalCost"], json!({ "amount": "167", "currency": "JPY" }));
    assert_eq!(line["costPerCredit"], "6.68");
    assert_eq!(
        line["draws"],
        json!([
            {
                "credits": 5, "cost": { "amount": "0" },
                "grant": { "kind": "BONUS", "remaining": 0 },
            },
            {
                "credits": 10, "cost": { "amount": "0" },
                "grant": { "kind": "FREE", "remaining": 0 },
            },
            { "credits": 10, "cost": { "amount": "167" },
              "grant": { "kind": "PURCHASED", "remaining": 20 } },
        ])
    );
    let kept = json!([{ "kind": "PURCHASED", "remaining": 20, "price": { "amount": "500" } }]);
    assert_eq!(account["grants"], kept);
    assert_eq!((&account["totalUsed"], &account["usedThisMonth"]), (&json!(215), &json!(215)));
}

#[tokio::test]
async fn the_holds_of_running_calls_are_shown_and_no_longer_when_they_end() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(100).await;
    let job = hold(&app.app, &hotel, 30).await;
    let query = "{ creditAccount { balance { current held available } holds { credits
        functionType } } }";

    let running = hotel.user.gets(query, json!({})).await["creditAccount"].clone();
    settle(&app.app, &job, 10).await;
    let ended = hotel.user.gets(query, json!({})).await["creditAccount"].clone();

    assert_eq!(running["holds"], json!([{ "credits": 30, "functionType": "CHATBOT" }]));
    assert_eq!(running["balance"], json!({ "current": 100, "held": 30, "available": 70 }));
    assert_eq!(ended["holds"], json!([]));
    assert_eq!(ended["balance"], json!({ "current": 90, "held": 0, "available": 90 }));
}

#[tokio::test]
async fn used_this_month_begins_anew_at_the_tenants_midnight() {
    let app = TestApp::start().await;
    let hotel = subscriber(&app, PlanType::Essential).await;
    spend(&app.app, &hotel, 40).await;
    let query = "{ creditAccount { totalUsed usedThisMonth } }";

    app.clock.set(at("2026-11-30T14:59:59Z"));
    spend(&app.app, &hotel, 1).await;
    let before = hotel.user.gets(query, json!({})).await;
    app.clock.set(at("2026-11-30T15:00:00Z"));
    due(&app.app, &hotel).await;
    spend(&app.app, &hotel, 5).await;
    let after = hotel.user.gets(query, json!({})).await;

    assert_eq!(before["creditAccount"], json!({ "totalUsed": 41, "usedThisMonth": 41 }));
    assert_eq!(after["creditAccount"], json!({ "totalUsed": 46, "usedThisMonth": 5 }));
}
