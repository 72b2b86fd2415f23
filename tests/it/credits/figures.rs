//! Usage and analytics, against figures worked out by hand.

use musubi::credits::catalog::{PackageContent, create_package};
use musubi::entity::plan::PlanType;
use serde_json::{Value, json};

use super::{at, cancel, day, hold, release, settle, sql, subscriber};
use crate::support::TestApp;
use crate::support::people::Hotel;

const ANALYTICS: &str = "query ($from: Date!, $to: Date!) { creditAnalytics(from: $from, to: $to) {
    period { startDate endDate days } totalCreditsUsed averageDaily
    peakDay { date credits executions }
    efficiency { score recommendation }
    functions { functionType totalUsage executions averageExecutionTimeMs successRate
                costEfficiency }
    spending { totalCost { amount } savingsFromPlan { amount } projectedMonthlySpend { amount }
      planOptimization { suggestedPlan estimatedSavings { amount }
        comparison { planType price { amount } freeCredits monthCredits paidCredits
                     paidCost { amount } total { amount } } } } } }";

/// Day, function, then runs, failures, milliseconds, credits, those on success, free ones, yen.
type Used<'a> = (&'a str, &'a str, [i64; 7]);

async fn has_used(app: &TestApp, hotel: &Hotel, rows: &[Used<'_>]) {
    let account = hotel.account().await.id;
    for (on, function, numbers) in rows {
        let text = "INSERT INTO usage_daily (account_id, day, function_type, runs, failures,
                    time_ms, credits, credits_on_success, free_credits, cost_yen)
                    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        let mut values = vec![account.into(), day(on).into(), (*function).into()];
        values.extend(numbers.iter().map(|number| sea_orm::Value::from(*number)));
        sql(app, text, values).await;
    }
}

async fn on_sale(app: &TestApp, packages: &[(PlanType, i64, i64)]) {
    let root = app.platform_admin(None).await;
    for (plan_type, credits, price_yen) in packages {
        let content = PackageContent {
            plan_type: *plan_type,
            credits: *credits,
            price_yen: *price_yen,
            discount_rate: 0,
            tax_rate: 1_000,
            is_bulk: false,
            is_promotional: false,
            valid_from: day("2026-01-01"),
            valid_until: None,
            display_name: format!("{credits}クレジット"),
            description: None,
            marketing_highlight: None,
        };
        create_package(&app.app, &root.actor, content).await.unwrap();
    }
}

async fn analytics(hotel: &Hotel, from: &str, to: &str) -> Value {
    let range = json!({ "from": from, "to": to });
    hotel.manager.gets(ANALYTICS, range).await["creditAnalytics"].clone()
}

#[tokio::test]
async fn the_figures_of_twenty_days_are_those_worked_out_by_hand() {
    let app = TestApp::start().await;
    let hotel = subscriber(&app, PlanType::Essential).await;
    on_sale(&app, &[(PlanType::Essential, 100, 1_980), (PlanType::Essential, 500, 8_800)]).await;
    on_sale(&app, &[(PlanType::Professional, 500, 50)]).await;
    has_used(
        &app,
        &hotel,
        &[
            ("2026-10-31", "CHATBOT", [9, 9, 9, 9, 9, 9, 9]),
            ("2026-11-02", "CHATBOT", [10, 1, 20_000, 200, 190, 200, 1_000]),
            ("2026-11-02", "ANALYSIS", [2, 0, 3_000, 100, 100, 0, 0]),
            ("2026-11-20", "CHATBOT", [3, 0, 2_000, 100, 100, 0, 1_000]),
            ("2026-11-21", "CHATBOT", [9, 9, 9, 9, 9, 9, 9]),
        ],
    )
    .await;

    let figures = analytics(&hotel, "2026-11-01", "2026-11-20").await;

    let period = json!({ "startDate": "2026-11-01", "endDate": "2026-11-20", "days": 20 });
    assert_eq!(figures["period"], period);
    assert_eq!(
        (&figures["totalCreditsUsed"], &figures["averageDaily"]),
        (&json!(400), &json!("20"))
    );
    let peak = json!({ "date": "2026-11-02", "credits": 300, "executions": 12 });
    assert_eq!(figures["peakDay"], peak);
    // 50 × 14/15 + 30 × 390/400 + 20 × min(1, 400/133)
    assert_eq!(figures["efficiency"]["score"], "95.92");
    assert_eq!(figures["efficiency"]["recommendation"], "Credits are used very well.");
    assert_eq!(
        figures["functions"],
        json!([
            { "functionType": "CHATBOT", "totalUsage": 300, "executions": 13,
              "averageExecutionTimeMs": 1_692, "successRate": "92.31", "costEfficiency": "0.006" },
            { "functionType": "ANALYSIS", "totalUsage": 100, "executions": 2,
              "averageExecutionTimeMs": 1_500, "successRate": "100", "costEfficiency": null },
        ])
    );
    // A credit costs 17.6 yen at best. 600 credits a month, 400 of them to be bought: 7 040 yen.
    assert_eq!(
        figures["spending"],
        json!({
            "totalCost": { "amount": "2000" }, "savingsFromPlan": { "amount": "3520" },
            "projectedMonthlySpend": { "amount": "14840" }, "planOptimization": null,
        })
    );
}

#[tokio::test]
async fn heavy_use_suggests_the_plan_that_costs_least_with_its_arithmetic() {
    let app = TestApp::start().await;
    let hotel = subscriber(&app, PlanType::Essential).await;
    on_sale(&app, &[(PlanType::Essential, 500, 8_800)]).await;
    has_used(&app, &hotel, &[("2026-11-10", "CHATBOT", [50, 0, 1, 2_000, 2_000, 200, 100])]).await;

    let figures = analytics(&hotel, "2026-11-01", "2026-11-20").await;

    let advice = &figures["spending"]["planOptimization"];
    assert_eq!(advice["suggestedPlan"], "ENTERPRISE");
    assert_eq!(advice["estimatedSavings"]["amount"], "7280");
    let totals: Vec<_> = advice["comparison"]
        .as_array()
        .unwrap()
        .iter()
        .map(|plan| {
            let number = |name: &str| plan[name].as_i64().unwrap();
            let yen = |name: &str| plan[name]["amount"].as_str().unwrap().to_owned();
            (
                plan["planType"].as_str().unwrap(),
                number("paidCredits"),
                yen("paidCost"),
                yen("total"),
            )
        })
        .collect();
    let row =
        |plan, credits, cost: &str, total: &str| (plan, credits, cost.to_owned(), total.to_owned());
    assert_eq!(
        totals,
        [
            row("ENTERPRISE", 0, "0", "49800"),
            row("PROFESSIONAL", 2_000, "35200", "55000"),
            row("ESSENTIAL", 2_800, "49280", "57080"),
        ]
    );
    assert_eq!(figures["spending"]["projectedMonthlySpend"]["amount"], "57080");
}

#[tokio::test]
async fn without_use_there_is_no_score_no_peak_and_no_advice() {
    let app = TestApp::start().await;
    let hotel = subscriber(&app, PlanType::Enterprise).await;
    on_sale(&app, &[(PlanType::Enterprise, 500, 8_800)]).await;

    let figures = analytics(&hotel, "2026-11-01", "2026-11-20").await;

    assert_eq!((&figures["efficiency"], &figures["peakDay"]), (&Value::Null, &Value::Null));
    assert_eq!((&figures["totalCreditsUsed"], &figures["averageDaily"]), (&json!(0), &json!("0")));
    assert_eq!(figures["functions"], json!([]));
    assert_eq!(figures["spending"]["planOptimization"], Value::Null);
    assert_eq!(figures["spending"]["projectedMonthlySpend"]["amount"], "49800");
}

#[tokio::test]
async fn among_days_of_equal_use_the_first_is_the_peak() {
    let app = TestApp::start().await;
    let hotel = subscriber(&app, PlanType::Essential).await;
    let used = |on| (on, "CHATBOT", [1, 0, 1, 7, 7, 7, 0]);
    has_used(&app, &hotel, &[used("2026-11-05"), used("2026-11-03"), used("2026-11-09")]).await;

    let figures = analytics(&hotel, "2026-11-01", "2026-11-20").await;

    assert_eq!(figures["peakDay"]["date"], "2026-11-03");
}

#[tokio::test]
async fn a_range_is_a_day_at_least_and_366_at_most_and_not_for_everyone() {
    let app = TestApp::start().await;
    let hotel = subscriber(&app, PlanType::Essential).await;
    let ask = async |from: &str, to: &str| {
        hotel.admin.asks(ANALYTICS, json!({ "from": from, "to": to })).await
    };

    assert_eq!(ask("2025-11-21", "2026-11-21").await["errors"], Value::Null);
    for (from, to) in [("2025-11-20", "2026-11-21"), ("2026-11-02", "2026-11-01")] {
        let reply = ask(from, to).await;
        assert_eq!(reply["errors"][0]["extensions"]["code"], "INVALID_INPUT", "{reply}");
    }
    let range = json!({ "from": "2026-11-01", "to": "2026-11-20" });
    for person in [&hotel.user, &hotel.support] {
        let reply = person.asks(ANALYTICS, range.clone()).await;
        assert_eq!(reply["errors"][0]["extensions"]["code"], "FORBIDDEN", "{reply}");
    }
}

#[tokio::test]
async fn usage_shows_each_day_in_the_tenants_calendar_quiet_ones_too() {
    let app = TestApp::start().await;
    let hotel = subscriber(&app, PlanType::Essential).await;
    app.clock.set(at("2026-11-18T14:59:00Z"));
    let job = hold(&app.app, &hotel, 30).await;
    settle(&app.app, &job, 30).await;
    app.clock.set(at("2026-11-18T15:01:00Z"));
    let job = hold(&app.app, &hotel, 20).await;
    cancel(&app.app, &job, 10).await;
    let job = hold(&app.app, &hotel, 20).await;
    release(&app.app, &job).await;
    app.clock.set(at("2026-11-21T03:00:00Z"));

    let query = "{ creditAccount { usage(days: 4) {
        topFunctions { functionType creditsUsed percentage executions }
        dailyUsage { date credits executions byFunction { creditsUsed } } } } }";
    let usage = hotel.manager.gets(query, json!({})).await["creditAccount"]["usage"].clone();

    assert_eq!(
        usage["topFunctions"],
        json!([{
            "functionType": "CHATBOT", "creditsUsed": 40, "percentage": "100", "executions": 3,
        }])
    );
    let quiet = |date| json!({ "date": date, "credits": 0, "executions": 0, "byFunction": [] });
    assert_eq!(
        usage["dailyUsage"],
        json!([
            { "date": "2026-11-18", "credits": 30, "executions": 1,
              "byFunction": [{ "creditsUsed": 30 }] },
            { "date": "2026-11-19", "credits": 10, "executions": 2,
              "byFunction": [{ "creditsUsed": 10 }] },
            quiet("2026-11-20"),
            quiet("2026-11-21"),
        ])
    );
    let reply = hotel.user.asks(query, json!({})).await;
    assert_eq!(reply["errors"][0]["extensions"]["code"], "FORBIDDEN", "{reply}");
}
