//! What the stage has of purchases and of the audit record.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use chrono::{DurationRound, TimeDelta};
use musubi::actor::{Actor, Source};
use musubi::audit::{self, Action, Changes, Subject, seal};
use musubi::compliance::assess;
use musubi::crypto::Place;
use musubi::entity::tenant_subscription;
use musubi::ids::{DisputeId, PurchaseId, RefundId, TypedId, new_uuid};
use serde_json::json;

use super::key_of;
use super::stage::{set, text};
use crate::payments;
use crate::plans;
use crate::support::TestServer;
use crate::support::people::Hotel;
use crate::support::stripe::StripeServer;

/// A purchase that has everything a purchase can ever have, if never at once.
pub(super) async fn buy(server: &TestServer, words: &mut BTreeMap<&'static str, String>) {
    let input = json!({ "packageId": words["package"], "paymentMethod": "STRIPE",
        "stripePaymentMethodId": "pm_card_visa", "saveCard": true,
        "idempotencyKey": "stage-purchase" });
    let done = payments::buys(&server.hotel.admin, input).await;
    let id = text(&done["purchase"]["id"]);
    let row = PurchaseId::parse(&id).unwrap();
    let place = Place { table: "credit_purchases", column: "client_secret", row: row.0 };
    let secret = server.app.app.crypto.seal(place, "pi_stage_secret").unwrap();
    let failed = "UPDATE credit_purchases SET failure_code = 'CARD_DECLINED', client_secret = $2
                  WHERE id = $1";
    set(server, failed, vec![row.into(), secret.into()]).await;
    write_papers(server, row).await;
    words.insert("purchase", id);
    buy_by_itself(server, row).await;
    let input = json!({ "packageId": words["package"], "paymentMethod": "INVOICE",
        "invoiceEmail": "keiri@stage.test", "idempotencyKey": "stage-order" });
    let order = payments::buys(&server.hotel.admin, input).await;
    words.insert("order", text(&order["purchase"]["id"]));
}

/// An invoice, a dispute and a refund of a purchase.
async fn write_papers(server: &TestServer, row: PurchaseId) {
    let seal = |column: &'static str| {
        let place = Place { table: "credit_invoices", column, row: row.0 };
        server.app.app.crypto.seal(place, "https://invoice.stripe.test/stage").unwrap()
    };
    let now = server.app.app.clock.db_now();
    let invoice = "INSERT INTO credit_invoices (purchase_id, tenant_id, days_until_due, status,
            stripe_invoice_id, number, hosted_url, pdf_url, due_at, next_check_at, created_at,
            updated_at)
        VALUES ($1, $2, 30, 'PAID', 'in_stage', '0001', $3, $4, $5, $5, $5, $5)";
    let tenant = server.hotel.id;
    let urls = [seal("hosted_url"), seal("pdf_url")];
    let [hosted, pdf] = urls.map(sea_orm::Value::from);
    let values = vec![row.into(), tenant.into(), hosted, pdf, now.into()];
    set(server, invoice, values).await;
    let dispute = "INSERT INTO payment_disputes (id, tenant_id, purchase_id, stripe_dispute_id,
            status, reason, amount, created_at, updated_at)
        VALUES ($1, $2, $3, 'dp_stage', 'OPEN', 'fraudulent', 500, $4, $4)";
    let values = vec![DisputeId::new().into(), tenant.into(), row.into(), now.into()];
    set(server, dispute, values).await;
    let refund = "INSERT INTO purchase_refunds (id, tenant_id, purchase_id, user_id, status,
            reason, amount, stripe_refund_id, failure_reason, next_check_at, created_at, updated_at)
        VALUES ($1, $2, $3, $4, 'FAILED', 'DUPLICATE', 500, 're_stage', 'declined', $5, $5, $5)";
    let admin = server.hotel.admin.id;
    let values = vec![RefundId::new().into(), tenant.into(), row.into(), admin.into(), now.into()];
    set(server, refund, values).await;
    let paid = "UPDATE credit_purchases SET method = 'INVOICE' WHERE id = $1";
    set(server, paid, vec![row.into()]).await;
}

/// Automatic purchase as it stands after a failure of a moment ago.
async fn buy_by_itself(server: &TestServer, purchase: PurchaseId) {
    let settings = "INSERT INTO auto_purchases (account_id, tenant_id, user_id, monthly_cap,
                    failures, failed_card, failed_at, blocked_reason, blocked_at, created_at,
                    updated_at)
                    SELECT account_id, tenant_id, user_id, 10000, 1, 'print', $2, 'CARD_DECLINED',
                    $2, $2, $2 FROM credit_purchases WHERE id = $1";
    let now = server.app.app.clock.db_now();
    set(server, settings, vec![purchase.into(), now.into()]).await;
    let attempt =
        "INSERT INTO auto_purchase_attempts (id, account_id, tenant_id, purchase_id, cause,
                   balance_before, held_before, threshold, needed, card, amount, state, reason,
                   created_at, ended_at)
                   SELECT id, account_id, tenant_id, id, 'CHARGE', 50, 2, 50, 0, 'print', amount,
                   'FAILED', 'CARD_DECLINED', $2, $2 FROM credit_purchases WHERE id = $1";
    set(server, attempt, vec![purchase.into(), now.into()]).await;
}

/// A card that was just stored.
pub(super) async fn store_a_card(server: &TestServer, words: &mut BTreeMap<&'static str, String>) {
    let input = json!({ "stripeConfirmationTokenId": "ctoken_stage",
        "idempotencyKey": "stage-card" });
    let done = payments::cards::begins(&server.hotel.admin, input).await;
    words.insert("card", text(&done["card"]["id"]));
    words.insert("setup", text(&done["setup"]["id"]));
}

/// A plan that is paid for, with everything that it can ever have, if never at once; and one of the
/// other tenant that is over.
pub(super) async fn subscribe(server: &TestServer, stripe: &StripeServer, strange: &Hotel) {
    let now = server.app.app.clock.db_now();
    stripe.time_is(now);
    stripe.has_customer("cus_elsewhere");
    for hotel in [&server.hotel, strange] {
        let input = json!({ "planType": "ESSENTIAL", "idempotencyKey": "stage-subscription" });
        let done = plans::does(hotel, "planSubscribe", Some(input)).await;
        let id = text(&done["subscription"]["stripeSubscriptionId"]);
        if hotel.id == strange.id {
            plans::does(hotel, "planCancel", None).await;
            continue;
        }
        stripe.pays_open_invoice(&id);
        plans::does(hotel, "planSubscriptionConfirm", None).await;
        let sql = "SELECT * FROM tenant_subscriptions WHERE stripe_id = $1";
        let row: Option<tenant_subscription::Model> =
            musubi::db::one(server.app.app.db.primary(), sql, vec![id.into()]).await.unwrap();
        let row = row.unwrap();
        let place = Place { table: "tenant_subscriptions", column: "client_secret", row: row.id.0 };
        let secret = server.app.app.crypto.seal(place, "pi_stage_secret").unwrap();
        let more = "UPDATE tenant_subscriptions SET plan_type = 'PROFESSIONAL',
                    pending_plan_type = 'ESSENTIAL', client_secret = $2, grace_until = $3
                    WHERE id = $1";
        set(server, more, vec![row.id.into(), secret.into(), now.into()]).await;
    }
}

/// Use within the hour before this one.
pub(super) async fn use_an_hour(server: &TestServer, hotel: &Hotel) {
    let account = hotel.account().await.id;
    let now = server.app.app.clock.db_now();
    let hour = (now - TimeDelta::hours(1)).duration_trunc(TimeDelta::hours(1)).unwrap();
    let used = "INSERT INTO usage_hourly (account_id, user_id, function_type, hour, runs, credits)
                VALUES ($1, $2, 'CHATBOT', $3, 2, 9)";
    set(server, used, vec![account.into(), hotel.user.id.into(), hour.into()]).await;
}

/// Lines of the first tenant's record, sealed, and what compliance says of a system that keeps
/// something too long.
pub(super) async fn record(server: &TestServer, strange: &Hotel) {
    let app = &server.app.app;
    let now = app.clock.db_now();
    let source = Source {
        request_id: "stage".into(),
        address: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7))),
        user_agent: Some("Stage/1.0".into()),
        ..Source::default()
    };
    let key = key_of(&server.app, &server.hotel).await.actor;
    let actor = Actor { source: Arc::new(source), ..key };
    let changes = Changes::new().plain("version", &1_i64, &2_i64);
    let subject = Subject::of("membership", new_uuid()).with(json!({ "on": "stage" }));
    let subject = subject.changing(changes);
    let txn = app.db.begin().await.unwrap();
    audit::record(app, &txn, &actor, Action::MemberRoleChanged, subject).await.unwrap();
    let incident = Subject::kind("attempt").with(json!({ "on": "stage" }));
    audit::record(app, &txn, &strange.admin.actor, Action::AnomalousUsage, incident).await.unwrap();
    txn.commit().await.unwrap();
    audit::flush(app).await.unwrap();
    seal::seal_all(app).await.unwrap();
    let kept = "UPDATE idempotency_keys SET created_at = $1";
    set(server, kept, vec![(now - TimeDelta::days(40)).into()]).await;
    assess::assess_all(app, now + TimeDelta::days(7)).await.unwrap();
}
