//! The webhook over HTTP: judged byte by byte, kept sealed, answered at once.

use musubi::config::Secret;
use musubi::external::stripe::{SignatureFault, verify};
use musubi::http::Limits;
use serde_json::{Value, json};

use super::package;
use crate::http::{exchange, request};
use crate::support::process::until;
use crate::support::stripe::{SIGNING_SECRET, StripeServer, sign};
use crate::support::{Setting, TestServer};

async fn sends(server: &TestServer, headers: &[(&str, &str)], body: &[u8]) -> u16 {
    exchange(server, &request("POST", "/webhook/stripe", headers, body)).await.status
}

#[tokio::test]
async fn what_stripe_sends_is_answered_kept_and_worked_out() {
    let stripe = StripeServer::start().await;
    let setting = Setting::default().real_time().stripe(&stripe);
    let server = TestServer::start_with(setting, Limits::default()).await;
    let package = package(&server.app, json!({})).await;
    let query = "mutation ($input: CreditPurchaseInput!) { creditPurchase(input: $input) {
        purchase { id paymentIntentId } } }";
    let input = json!({ "packageId": package, "paymentMethod": "STRIPE",
        "stripePaymentMethodId": "pm_card_authenticationRequired",
        "idempotencyKey": "over-http-with-a-bank" });
    let asked = server.hotel.admin.gets(query, json!({ "input": input })).await;
    let intent = asked["creditPurchase"]["purchase"]["paymentIntentId"].as_str().unwrap();
    stripe.authenticate(intent, true);
    // Spaces and all: what is signed is what was sent.
    let event = stripe.event("payment_intent.succeeded");
    let body = format!(" {}\n", serde_json::to_string_pretty(&event).unwrap());
    let now = server.app.app.clock.db_now().timestamp();
    let signature = sign(&body, now, SIGNING_SECRET);
    let headers = [("stripe-signature", signature.as_str()), ("content-type", "application/json")];

    assert_eq!(sends(&server, &headers, body.as_bytes()).await, 200);
    assert_eq!(sends(&server, &headers, body.as_bytes()).await, 200);

    // The program's own worker does it.
    until("the credits come", async || (server.hotel.balance().await == (10_500, 0)).then_some(()))
        .await;
    assert_eq!(server.app.drifts().await, Vec::<String>::new());
    for (headers, body, status) in [
        (&headers[..], body.replace("500", "501"), 400),
        (&[("stripe-signature", "t=1,v1=00")], body.clone(), 400),
        (&[("content-type", "application/json")], body.clone(), 400),
        (&headers, "x".repeat(600 * 1024), 413),
    ] {
        assert_eq!(sends(&server, headers, body.as_bytes()).await, status);
    }
    let get = exchange(&server, &request("GET", "/webhook/stripe", &[], b"")).await;
    assert_eq!(get.status, 405);
    let kept: i64 = count(&server).await;
    assert_eq!(kept, 1);
}

async fn count(server: &TestServer) -> i64 {
    #[derive(sea_orm::FromQueryResult)]
    struct Row {
        number: i64,
    }
    let sql = "SELECT COUNT(*) AS number FROM stripe_events";
    let row: Option<Row> = musubi::db::one(server.app.app.db.primary(), sql, vec![]).await.unwrap();
    row.unwrap().number
}

#[tokio::test]
async fn without_a_secret_nothing_is_expected() {
    let server = TestServer::start().await;
    let signature = sign("{}", 0, "");
    assert_eq!(sends(&server, &[("stripe-signature", &signature)], b"{}").await, 404);
}

#[tokio::test]
async fn what_is_signed_but_no_event_is_refused() {
    let stripe = StripeServer::start().await;
    let setting = Setting::default().stripe(&stripe);
    let server = TestServer::start_with(setting, Limits::default()).await;
    let now = server.app.app.clock.db_now().timestamp();
    let whole = json!({ "id": "evt_1", "type": "x", "livemode": false, "created": 1 });
    let mut bodies = vec!["{".to_owned(), "[]".to_owned(), "null".to_owned()];
    for field in ["id", "type", "livemode", "created"] {
        let mut event = whole.clone();
        event[field] = Value::Null;
        bodies.push(event.to_string());
    }
    bodies.push(json!({ "id": "e\0", "type": "x", "livemode": false, "created": 1 }).to_string());
    for body in bodies {
        let signature = sign(&body, now, SIGNING_SECRET);
        let status = sends(&server, &[("stripe-signature", &signature)], body.as_bytes()).await;
        assert_eq!(status, 400, "{body}");
    }
    assert_eq!(count(&server).await, 0);
}

#[tokio::test]
async fn events_are_stored_sealed() {
    let stripe = StripeServer::start().await;
    let app = Setting::default().stripe(&stripe).start().await;
    let object = json!({ "livemode": false, "receipt_email": "hanako@tsubaki.test" });
    super::deliver(&app.app, &stripe.makes_event("charge.updated", &object)).await;
    let rows: Vec<musubi::entity::stripe_event::Model> =
        musubi::db::all(app.app.db.primary(), "SELECT * FROM stripe_events", vec![]).await.unwrap();
    let is_clear = rows[0].body.0.windows(6).any(|window| window == b"hanako");
    assert!(!is_clear && !format!("{:?}", rows[0]).contains("hanako"));
}

#[test]
fn only_stripes_own_signature_of_this_time_counts() {
    let secret = |text: &str| Secret(text.to_owned());
    let secrets = [secret("whsec_older"), secret(SIGNING_SECRET)];
    let now = crate::support::beginning();
    let at = now.timestamp();
    let judge = |header: &str, body: &str| verify(header, body.as_bytes(), &secrets, now);
    let body = r#"{"id":"evt_1"}"#;
    for at in [at, at - 300, at + 300] {
        assert_eq!(judge(&sign(body, at, SIGNING_SECRET), body), Ok(()));
    }
    assert_eq!(judge(&sign(body, at, "whsec_older"), body), Ok(()));
    for at in [at - 301, at + 301, 0, i64::MIN, i64::MAX] {
        assert_eq!(judge(&sign(body, at, SIGNING_SECRET), body), Err(SignatureFault::Stale));
    }
    let good = sign(body, at, SIGNING_SECRET);
    let moved = good.replace(&format!("t={at}"), &format!("t={}", at + 1));
    for (header, body) in [
        (sign(body, at, "whsec_of_somebody"), body),
        (good.clone(), r#"{"id":"evt_2"}"#),
        (moved, body),
    ] {
        assert_eq!(judge(&header, body), Err(SignatureFault::Foreign));
    }
    let long = format!("{good},{}", "v1=00,".repeat(1_000));
    let twice = format!("{good},t={at}");
    let only_old = format!("t={at},v0={}", "0".repeat(64));
    for header in
        ["", "t=", "v1=00", "t=x,v1=00", "t=1,v1=zz", "t=1,v1=0", "あ", &long, &twice, &only_old]
    {
        assert_eq!(judge(header, body), Err(SignatureFault::Malformed), "{header}");
    }
}
