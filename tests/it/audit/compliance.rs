//! The audit report: figures from the sums, and checks that look at the running system.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use musubi::compliance::checks::SEALED;
use musubi::compliance::{self, risk};
use musubi::entity::system_event::RiskLevel;
use musubi::jobs;
use serde_json::{Value, json};

use super::{a_chain_of, lines, runs};
use crate::support::TestApp;
use crate::support::people::Hotel;

const REPORT: &str = "query ($from: Date!, $to: Date!) { auditReport(from: $from, to: $to) {
    from to summary { credits executions failures meanTimeMs incidents }
    functions { functionType creditsUsed executions } days { date credits executions }
    hours { hour credits executions }
    security { riskScore riskLevel events { action riskLevel isIncident count } }
    compliance { status checks { name isPassed reasons } lastAssessment lastStatus
                 nextAssessment }
    recommendations } }";

async fn reports(app: &TestApp, hotel: &Hotel) -> Value {
    let today = app.app.clock.db_now().with_timezone(&chrono_tz::Asia::Tokyo).date_naive();
    let variables = json!({ "from": today - TimeDelta::days(29), "to": today });
    hotel.admin.gets(REPORT, variables).await["auditReport"].clone()
}

fn failed(report: &Value) -> Vec<&str> {
    let checks = report["compliance"]["checks"].as_array().unwrap();
    let failed = checks.iter().filter(|check| check["isPassed"] == false);
    failed.map(|check| check["name"].as_str().unwrap()).collect()
}

fn reasons(report: &Value) -> String {
    report["compliance"]["checks"].to_string()
}

#[tokio::test]
async fn a_report_sums_up_the_days_and_names_what_was_refused() {
    let app = TestApp::start().await;
    compliance::note_keys(&app.app).await.unwrap();
    let hotel = app.hotel().await.with_credits(100).await;
    for run in 0..3 {
        hotel.user.executes("こんにちは", &format!("run-number-{run}")).await;
    }
    hotel.user.executes("sandbox:fail-500", "run-that-fails").await;
    for _ in 0..7 {
        hotel.user.asks("{ tenants { totalCount } }", json!({})).await;
    }
    lines(&app).await;
    app.clock.advance(TimeDelta::hours(1));
    jobs::run_now(&app.app, jobs::JOBS, "usage-hourly").await.unwrap();
    let report = reports(&app, &hotel).await;
    let summary = &report["summary"];
    assert_eq!(summary["executions"], 4, "{report}");
    assert_eq!((&summary["failures"], &summary["incidents"]), (&json!(1), &json!(7)));
    assert_eq!(summary["credits"], report["functions"][0]["creditsUsed"]);
    assert_eq!(report["days"].as_array().unwrap().len(), 30);
    assert_eq!(report["hours"][0]["executions"], 4, "{report}");
    let event = json!({ "action": "ACCESS_REFUSED", "riskLevel": "MEDIUM", "isIncident": true,
        "count": 7 });
    assert_eq!(report["security"]["events"], json!([event]));
    // 7 · 3 = 21 in 30 days: 0.7 per day.
    assert_eq!(report["security"]["riskScore"], 7);
    assert_eq!(report["compliance"]["status"], "COMPLIANT", "{}", reasons(&report));
    assert_eq!(report["recommendations"], json!(["REVIEW_FAILURES"]));
    let variables = json!({ "from": "2025-01-01", "to": "2026-01-02" });
    let refused = hotel.admin.asks(REPORT, variables).await;
    assert_eq!(refused["errors"][0]["extensions"]["code"], "INVALID_INPUT");
}

#[test]
fn the_risk_score_is_what_its_example_says() {
    let event = |risk_level, is_success, times| risk::EventCount {
        action: "X".to_owned(),
        risk_level: Some(risk_level),
        is_success,
        times,
    };
    let example = [
        event(RiskLevel::Low, false, 20),
        event(RiskLevel::Medium, false, 4),
        event(RiskLevel::High, true, 1),
        // Done, and of no great risk: no incident.
        event(RiskLevel::Medium, true, 500),
    ];
    let risk = risk::score(&example, 30);
    assert_eq!((risk.weight, risk.incidents, risk.score), (42, 25, 14));
    assert_eq!(risk.level, RiskLevel::Low);
    let flood = risk::score(&[event(RiskLevel::Critical, false, 1_000_000)], 1);
    assert_eq!((flood.score, flood.level), (100, RiskLevel::Critical));
    assert_eq!(risk::score(&[], 366).score, 0);
    assert_eq!(risk::score(&[event(RiskLevel::Low, false, 1)], 20).score, 1, "half goes up");
}

#[tokio::test]
async fn what_is_kept_too_long_is_found_until_the_cleanup_has_run() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await.with_credits(100).await;
    hotel.user.executes("こんにちは", "run-number-1").await;
    app.clock.advance(TimeDelta::days(403));
    compliance::note_keys(&app.app).await.unwrap();
    let report = reports(&app, &hotel).await;
    assert_eq!(failed(&report), ["RETENTION"]);
    assert!(reasons(&report).contains("prompts and results"), "{}", reasons(&report));
    assert_eq!(report["compliance"]["status"], "NON_COMPLIANT");
    assert!(report["recommendations"].as_array().unwrap().contains(&json!("RUN_CLEANUP")));
    jobs::run_now(&app.app, jobs::JOBS, "cleanup").await.unwrap();
    assert_eq!(failed(&reports(&app, &hotel).await), Vec::<&str>::new());
}

#[tokio::test]
async fn addresses_are_erased_after_ninety_days_and_the_chain_stays_valid() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let source = musubi::actor::Source {
        address: Some("203.0.113.7".parse().unwrap()),
        ..musubi::actor::Source::default()
    };
    let mut admin = hotel.admin.clone();
    admin.actor.source = std::sync::Arc::new(source);
    super::writes(&app, &admin, 3).await;
    musubi::audit::seal::seal_all(&app.app).await.unwrap();
    app.clock.advance(TimeDelta::days(89));
    jobs::run_now(&app.app, jobs::JOBS, "cleanup").await.unwrap();
    assert_eq!(super::origins(&app).await.len(), 3);
    app.clock.advance(TimeDelta::days(2));
    jobs::run_now(&app.app, jobs::JOBS, "cleanup").await.unwrap();
    assert_eq!(super::origins(&app).await, []);
    assert_eq!(super::flaws(&app).await, []);
    assert_eq!(lines(&app).await.len(), 3);
}

#[tokio::test]
async fn an_open_value_and_an_old_key_are_found() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let report = reports(&app, &hotel).await;
    assert_eq!(failed(&report), ["ENCRYPTION"], "nobody noted the keys");
    compliance::note_keys(&app.app).await.unwrap();
    assert_eq!(failed(&reports(&app, &hotel).await), Vec::<&str>::new());
    let open: Vec<u8> = b"bills@ryokan.test".to_vec();
    let sql = "UPDATE tenants SET billing_email = $2 WHERE id = $1";
    runs(&app, sql, vec![hotel.id.into(), open.into()]).await;
    let report = reports(&app, &hotel).await;
    assert_eq!(failed(&report), ["ENCRYPTION"]);
    assert!(reasons(&report).contains("tenants.billing_email"), "{}", reasons(&report));
    assert!(!reasons(&report).contains("bills@"), "the value itself is not told");
    let sql = "UPDATE tenants SET billing_email = NULL WHERE id = $1";
    runs(&app, sql, vec![hotel.id.into()]).await;
    app.clock.advance(TimeDelta::days(366));
    compliance::note_keys(&app.app).await.unwrap();
    let report = reports(&app, &hotel).await;
    assert_eq!(failed(&report), ["ENCRYPTION"], "noting it again makes it no younger");
    assert!(reasons(&report).contains("JWT_KEYS"), "{}", reasons(&report));
}

#[tokio::test]
async fn a_broken_chain_is_found_by_its_own_tenant_alone() {
    let app = TestApp::start().await;
    compliance::note_keys(&app.app).await.unwrap();
    let (hotel, other) = (a_chain_of(&app, 9).await, a_chain_of(&app, 9).await);
    assert_eq!(failed(&reports(&app, &hotel).await), Vec::<&str>::new());
    super::chain::without_guards(&app).await;
    let sql = "DELETE FROM system_event WHERE chain_id = $1 AND seq = 4";
    runs(&app, sql, vec![hotel.id.into()]).await;
    let report = reports(&app, &hotel).await;
    assert_eq!(failed(&report), ["AUDIT_TRAIL"]);
    assert_eq!(report["recommendations"], json!(["EXAMINE_RECORD"]));
    assert_eq!(failed(&reports(&app, &other).await), Vec::<&str>::new());

    let before = reports(&app, &other).await["compliance"].clone();
    assert!(before["lastAssessment"].is_null() && before["nextAssessment"].is_null());
    let told = jobs::run_now(&app.app, jobs::JOBS, "compliance-assessment").await.unwrap();
    assert_eq!(told, "1 of 3 are not compliant");
    let after = reports(&app, &hotel).await["compliance"].clone();
    assert_eq!(after["lastStatus"], "NON_COMPLIANT");
    assert_eq!(reports(&app, &other).await["compliance"]["lastStatus"], "COMPLIANT");
    let at = |name: &str| -> chrono::DateTime<chrono::Utc> {
        after[name].as_str().unwrap().parse().unwrap()
    };
    assert_eq!(at("lastAssessment"), app.app.clock.db_now());
    let pause = at("nextAssessment") - at("lastAssessment");
    assert!(pause > TimeDelta::zero() && pause <= TimeDelta::days(7), "{pause}");
}

#[test]
fn every_sealed_column_is_looked_at() {
    let mut found = BTreeSet::new();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/entity");
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let Some((_, rest)) = text.split_once("table_name = \"") else { continue };
        let table = rest.split('"').next().unwrap();
        for line in text.lines().filter(|line| line.contains("Sealed") && line.contains("pub ")) {
            let column = line.trim().trim_start_matches("pub ").split(':').next().unwrap();
            found.insert(format!("{table}.{column}"));
        }
    }
    let listed = SEALED.iter().map(|(table, _, column)| format!("{table}.{column}"));
    assert_eq!(listed.collect::<BTreeSet<_>>(), found);
}
