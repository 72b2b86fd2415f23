//! What was refused is recorded, too: outside of what was rolled back, and summed up.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use musubi::actor::Source;
use musubi::audit::{self, Action, Attempt};
use musubi::entity::system_event::{EventType, RiskLevel};
use serde_json::json;

use super::{lines, lines_of};
use crate::http::{exchange, request};
use crate::support::{TestApp, TestServer};

fn from(address: impl Into<IpAddr>) -> Arc<Source> {
    Arc::new(Source { address: Some(address.into()), ..Source::default() })
}

#[tokio::test]
async fn whoever_asks_for_what_they_may_not_is_recorded_with_the_field() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let forbidden = "{ secretName: creditAnalytics(from: \"2026-01-01\", to: \"2026-01-02\") {
        averageDaily } creditAccount { words: transactions { totalCount } } }";
    for _ in 0..40 {
        hotel.user.asks(forbidden, json!({})).await;
    }
    let plan = "mutation { planUpdate(input: { planType: ESSENTIAL, priceYen: 1,
        monthlyFreeCredits: 1, carryOver: ALL }) { userErrors { code } } }";
    hotel.admin.asks(plan, json!({})).await;
    let refused = lines_of(&app, "ACCESS_REFUSED").await;
    let told: Vec<_> = refused
        .iter()
        .map(|line| (line.user_id, line.event_data["on"].as_str().unwrap(), line.times))
        .collect();
    let (user, admin) = (Some(hotel.user.id), Some(hotel.admin.id));
    let within = "a field within, or a subscription";
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told.contains(&(user, "creditAnalytics", 40)), "{told:?}");
    assert!(told.contains(&(user, within, 40)), "{told:?}");
    assert!(told.contains(&(admin, "planUpdate", 1)), "{told:?}");
    for line in &refused {
        assert_eq!(line.tenant_id, Some(hotel.id));
        assert_eq!((line.event_type, line.is_success), (EventType::Security, false));
        assert_eq!(line.risk_level, Some(RiskLevel::Medium));
    }
}

#[tokio::test]
async fn a_flood_of_refusals_makes_a_line_at_once_and_one_a_minute() {
    let app = TestApp::start().await;
    let source = from([203, 0, 113, 7]);
    let attempt = || {
        let action = Action::CredentialRefused;
        let (actor, tenant) = (None, None);
        audit::attempt(
            &app.app,
            Attempt { action, what: "/graphql", actor, tenant, source: &source },
        );
    };
    attempt();
    assert_eq!(app.app.journal.take_due().len(), 1, "the first is told at once");
    for _ in 0..5_000 {
        attempt();
    }
    assert_eq!(app.app.journal.take_due().len(), 0, "the others when the minute is over");
    let all = app.app.journal.take_all();
    assert_eq!(all.iter().map(|note| note.row.times).collect::<Vec<_>>(), [5_000]);
    assert!(app.app.journal.is_empty());
}

#[tokio::test]
async fn a_flood_from_many_addresses_is_bounded_and_still_counted() {
    let app = TestApp::start().await;
    for number in 0..20_000_u128 {
        // Each from a household of its own.
        let source = from(Ipv6Addr::from((0x2001_0db8_0000_0000 + number) << 64));
        let (action, actor, tenant) = (Action::SignInRefused, None, None);
        let what = "/auth/email/confirm";
        audit::attempt(&app.app, Attempt { action, what, actor, tenant, source: &source });
    }
    let written = lines(&app).await;
    assert!(written.len() <= 1_001, "{} lines", written.len());
    let total: i64 = written.iter().map(|line| line.times).sum();
    assert_eq!(total, 20_000, "nothing is lost");
    let many: Vec<_> = written.iter().filter(|line| line.event_data["callers"] == "many").collect();
    assert_eq!(many.len(), 1);
    assert_eq!(many[0].origin_digest, None);
}

#[tokio::test]
async fn addresses_of_one_household_are_one_caller() {
    let app = TestApp::start().await;
    for number in 0..500_u128 {
        let source = from(Ipv6Addr::from((0x2001_0db8_0000_0001 << 64) + number));
        let (action, actor, tenant) = (Action::SignInRefused, None, None);
        let what = "/auth/refresh";
        audit::attempt(&app.app, Attempt { action, what, actor, tenant, source: &source });
    }
    let written = lines(&app).await;
    assert_eq!(written.iter().map(|line| line.times).collect::<Vec<_>>(), [500]);
}

#[tokio::test]
async fn lines_beyond_the_bound_are_dropped_and_that_is_recorded() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    for _ in 0..10_250 {
        audit::note_change(&app.app, &hotel.admin.actor, "siteUpdate");
    }
    assert_eq!(lines(&app).await.len(), 10_001);
    let dropped = lines_of(&app, "RECORDS_DROPPED").await;
    assert_eq!(dropped.len(), 1);
    assert_eq!(dropped[0].event_data, json!({ "dropped": 250 }));
}

#[tokio::test]
async fn a_bad_credential_and_a_failed_sign_in_are_recorded_with_their_origin() {
    let server = TestServer::start().await;
    let app = &server.app;
    let post = async |path: &str, headers: &[(&str, &str)], body: &str| {
        let headers = [&[("content-type", "application/json")], headers].concat();
        exchange(&server, &request("POST", path, &headers, body.as_bytes())).await.status
    };
    let query = "{\"query\":\"{ viewer { role } }\"}";
    let bad = [("authorization", "Bearer musubi_abcdefgh.not-a-key"), ("user-agent", "Knocker/1")];
    assert_eq!(post("/graphql", &bad, query).await, 401);
    assert_eq!(post("/graphql", &[], query).await, 200, "anonymous callers show none");
    assert_eq!(post("/auth/refresh", &[], "").await, 401);
    let token = "{\"token\":\"a-link-of-nobody\"}";
    assert_ne!(post("/auth/email/confirm", &[], token).await, 200);
    let stolen = "{\"refreshToken\":\"mrt_stolen\"}";
    assert_eq!(post("/auth/refresh", &[], stolen).await, 401);
    let back = request("GET", "/auth/github/callback?code=c&state=s", &[], b"");
    exchange(&server, &back).await;

    let refused = lines_of(app, "CREDENTIAL_REFUSED").await;
    assert_eq!(refused.len(), 1);
    assert!(refused[0].origin_digest.is_some() && refused[0].request_id.is_some());
    let mut paths: Vec<_> = lines_of(app, "SIGN_IN_REFUSED").await;
    paths.sort_by_key(|line| line.event_data["on"].as_str().unwrap().to_owned());
    let paths: Vec<_> = paths.iter().map(|it| it.event_data["on"].as_str().unwrap()).collect();
    assert_eq!(paths, ["/auth/email/confirm", "/auth/refresh"]);
    let all = serde_json::to_string(
        &lines(app)
            .await
            .iter()
            .map(|line| json!([line.event_data, line.action, line.changes]))
            .collect::<Vec<_>>(),
    )
    .unwrap();
    for secret in ["not-a-key", "a-link-of-nobody", "mrt_stolen", "Knocker"] {
        assert!(!all.contains(secret), "{secret}");
    }
}
