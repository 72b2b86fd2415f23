//! Rows of purchases and of what Stripe tells.

use sea_orm::{DatabaseConnection, EntityTrait};

use musubi::crypto::Sealed;
use musubi::entity::auto_purchase::AutoPurchaseReason;
use musubi::entity::auto_purchase_attempt::{AttemptState, AutoPurchaseCause};
use musubi::entity::plan::PlanType;
use musubi::entity::{
    auto_purchase, auto_purchase_attempt, credit_invoice, credit_package, credit_purchase,
    credit_receipt, payment_dispute, purchase_refund, stored_card, stripe_cursor, stripe_event,
    tenant_subscription,
};
use musubi::ids::{
    AutoPurchaseAttemptId, DisputeId, GrantId, PackageId, PurchaseId, RefundId, StoredCardId,
    StripeEventId, SubscriptionId,
};

use super::rows::{Owner, day, now, same};

pub(super) async fn the_purchases(db: &DatabaseConnection, of: &Owner, grants: (GrantId, GrantId)) {
    let package = a_package(db).await;
    for method in credit_purchase::PaymentMethodKind::ALL {
        for source in credit_purchase::PurchaseSource::ALL {
            let row = a_purchase(of, package);
            same(db, credit_purchase::Model { method: *method, source: *source, ..row }).await;
        }
    }
    for status in credit_purchase::PaymentStatus::ALL {
        let is_done = *status == credit_purchase::PaymentStatus::Completed;
        let is_refunded = *status == credit_purchase::PaymentStatus::Refunded;
        let row = credit_purchase::Model {
            status: *status,
            grant_id: is_done.then_some(grants.0).or(is_refunded.then_some(grants.1)),
            completed_at: (is_done || is_refunded).then(now),
            refunded: if is_refunded { 500 } else { 0 },
            ..a_purchase(of, package)
        };
        same(db, row).await;
    }
    for code in credit_purchase::FailureCode::ALL {
        let row = a_purchase(of, package);
        same(db, credit_purchase::Model { failure_code: Some(*code), ..row }).await;
    }
    the_automatic_purchases(db, of, package).await;
    for (number, is_delivered) in [(1, true), (2, false)] {
        let purchase = a_purchase(of, package);
        same(db, purchase.clone()).await;
        let row = credit_receipt::Model {
            purchase_id: purchase.id,
            tenant_id: of.tenant,
            number,
            issuer_name: "株式会社むすび".into(),
            issuer_address: "東京都千代田区見本町1-2-3".into(),
            registration_number: "T1234567890123".into(),
            issued_at: now(),
            delivered_at: is_delivered.then(now),
        };
        same(db, row).await;
    }
    the_papers(db, of, package).await;
    for is_processed in [true, false] {
        let id = StripeEventId::new();
        let row = stripe_event::Model {
            id,
            event_id: format!("evt_{id}"),
            event_type: "payment_intent.succeeded".into(),
            is_live: is_processed,
            body: Sealed(vec![3; 70]),
            happened_at: now(),
            received_at: now(),
            attempts: 2,
            last_error: (!is_processed).then(|| "Stripe is unavailable".into()),
            outcome: is_processed.then(|| "COMPLETED".into()),
            processed_at: is_processed.then(now),
        };
        same(db, row).await;
    }
}

pub(super) async fn the_cards(db: &DatabaseConnection, of: &Owner) {
    for brand in stored_card::CardBrand::ALL {
        let id = StoredCardId::new();
        let is_default = *brand == stored_card::CardBrand::Visa;
        let row = stored_card::Model {
            id,
            tenant_id: of.tenant,
            user_id: is_default.then_some(of.user),
            stripe_payment_method_id: format!("pm_{id}"),
            brand: *brand,
            last4: "0042".into(),
            exp_month: 12,
            exp_year: 2030,
            fingerprint: is_default.then(|| "AOB934RVNwzk6xtn".into()),
            is_default,
            created_at: now(),
            updated_at: now(),
            removed_at: (!is_default).then(now),
        };
        same(db, row).await;
    }
}

async fn the_automatic_purchases(db: &DatabaseConnection, of: &Owner, package: PackageId) {
    let settings = auto_purchase::Model {
        account_id: of.account,
        tenant_id: of.tenant,
        user_id: of.user,
        monthly_cap: 10_000,
        failures: 3,
        failed_card: Some("print".into()),
        failed_at: Some(now()),
        suspended_at: Some(now()),
        blocked_reason: Some(AutoPurchaseReason::CardDeclined),
        blocked_at: Some(now()),
        created_at: now(),
        updated_at: now(),
    };
    same(db, settings).await;
    for state in AttemptState::ALL {
        for (cause, reason) in
            AutoPurchaseCause::ALL.iter().cycle().zip(AutoPurchaseReason::ALL.iter())
        {
            let is_failed = *state == AttemptState::Failed;
            let is_open = *state == AttemptState::Open;
            let is_first = *reason == AutoPurchaseReason::NoCard;
            if !is_failed && !is_first {
                continue;
            }
            let purchase = a_purchase(of, package);
            let purchase_id = purchase.id;
            same(db, purchase).await;
            let row = auto_purchase_attempt::Model {
                id: AutoPurchaseAttemptId::new(),
                account_id: of.account,
                tenant_id: of.tenant,
                purchase_id,
                cause: *cause,
                balance_before: 50,
                held_before: 2,
                threshold: 50,
                needed: 4,
                card: "print".into(),
                amount: 500,
                state: *state,
                reason: is_failed.then_some(*reason),
                created_at: now(),
                ended_at: (!is_open).then(now),
            };
            same(db, row).await;
        }
    }
}

/// A subscription in each state; one that has not ended is the tenant's only one.
pub(super) async fn the_subscriptions(db: &DatabaseConnection, of: &Owner) {
    use tenant_subscription::SubscriptionStatus as Status;
    for status in Status::ALL {
        let is_over =
            matches!(status, Status::Cancelled | Status::IncompleteExpired | Status::Failed);
        let is_unpaid = matches!(status, Status::PastDue | Status::Suspended);
        let id = SubscriptionId::new();
        let row = tenant_subscription::Model {
            id,
            tenant_id: of.tenant,
            account_id: of.account,
            user_id: of.user,
            status: *status,
            plan_type: PlanType::Professional,
            pending_plan_type: Some(PlanType::Enterprise).filter(|_| is_unpaid),
            price_yen: 19_800,
            stripe_price_id: is_over.then(|| "price_1".into()),
            payment_method_id: is_over.then(|| "pm_1".into()),
            stripe_id: Some(format!("sub_{id}")),
            item_id: Some("si_1".into()),
            client_secret: is_unpaid.then(|| Sealed(vec![5; 40])),
            period_start: Some(now()),
            period_end: Some(now()),
            cancel_at_period_end: is_over,
            grace_until: is_unpaid.then(now),
            change_id: is_unpaid.then_some(id.0),
            change_plan_type: is_unpaid.then_some(PlanType::Essential),
            change_at: is_unpaid.then(now),
            reads: 3,
            version: 2,
            created_at: now(),
            updated_at: now(),
            check_at: now(),
            activated_at: Some(now()),
            ended_at: is_over.then(now),
        };
        same(db, row).await;
        if !is_over {
            tenant_subscription::Entity::delete_by_id(id).exec(db).await.unwrap();
        }
    }
}

async fn the_papers(db: &DatabaseConnection, of: &Owner, package: PackageId) {
    for status in credit_invoice::InvoiceStatus::ALL {
        let purchase = a_purchase(of, package);
        let id = purchase.id;
        let method = credit_purchase::PaymentMethodKind::Invoice;
        same(db, credit_purchase::Model { method, ..purchase }).await;
        let row = credit_invoice::Model {
            purchase_id: id,
            tenant_id: of.tenant,
            email: Some(Sealed(vec![5; 40])),
            days_until_due: 30,
            status: *status,
            stripe_invoice_id: Some(format!("in_{id}")),
            number: Some("0001".into()),
            hosted_url: Some(Sealed(vec![6; 40])),
            pdf_url: None,
            due_at: Some(now()),
            sent_at: Some(now()),
            cancel_asked_at: None,
            due_told_at: Some(now()),
            overdue_told_at: None,
            next_check_at: now(),
            created_at: now(),
            updated_at: now(),
        };
        same(db, row).await;
    }
    let purchase = a_purchase(of, package);
    same(db, purchase.clone()).await;
    for status in payment_dispute::DisputeStatus::ALL {
        let id = DisputeId::new();
        let row = payment_dispute::Model {
            id,
            tenant_id: of.tenant,
            purchase_id: purchase.id,
            stripe_dispute_id: format!("dp_{id}"),
            status: *status,
            reason: "fraudulent".into(),
            amount: 500,
            withdrawal_id: None,
            created_at: now(),
            updated_at: now(),
        };
        same(db, row).await;
    }
    for status in purchase_refund::RefundStatus::ALL {
        same(db, a_refund(of, purchase.id, (*status, None))).await;
    }
    for reason in purchase_refund::RefundReason::ALL {
        let status = purchase_refund::RefundStatus::Succeeded;
        same(db, a_refund(of, purchase.id, (status, Some(*reason)))).await;
    }
    let name = "events".to_owned();
    same(db, stripe_cursor::Model { name, seen_until: now(), updated_at: now() }).await;
}

fn a_refund(
    of: &Owner,
    purchase: PurchaseId,
    (status, reason): (purchase_refund::RefundStatus, Option<purchase_refund::RefundReason>),
) -> purchase_refund::Model {
    let id = RefundId::new();
    purchase_refund::Model {
        id,
        tenant_id: of.tenant,
        purchase_id: purchase,
        user_id: reason.map(|_| of.user),
        status,
        reason,
        amount: 300,
        withdrawal_id: None,
        stripe_refund_id: Some(format!("re_{id}")),
        failure_reason: Some("declined".into()),
        next_check_at: now(),
        created_at: now(),
        updated_at: now(),
    }
}

async fn a_package(db: &DatabaseConnection) -> PackageId {
    let id = PackageId::new();
    let row = credit_package::Model {
        id,
        plan_type: PlanType::Essential,
        credits_amount: 500,
        price_yen: 500,
        discount_rate: 0,
        tax_rate: 1_000,
        is_bulk_package: false,
        is_promotional: false,
        active: true,
        valid_from: day(),
        valid_until: None,
        display_name: "五百".into(),
        description: None,
        marketing_highlight: None,
        version: 1,
        created_at: now(),
        updated_at: now(),
    };
    same(db, row).await;
    id
}

fn a_purchase(of: &Owner, package: PackageId) -> credit_purchase::Model {
    let id = PurchaseId::new();
    credit_purchase::Model {
        id,
        tenant_id: of.tenant,
        account_id: of.account,
        user_id: of.user,
        package_id: package,
        package_version: 1,
        credits: 500,
        currency: "JPY".into(),
        amount: 500,
        tax: 45,
        tax_rate: 1_000,
        discount: 0,
        discount_rate: 0,
        method: credit_purchase::PaymentMethodKind::Stripe,
        source: credit_purchase::PurchaseSource::Dashboard,
        status: credit_purchase::PaymentStatus::Pending,
        payment_method_id: Some("pm_card_visa".into()),
        confirmation_token_id: None,
        return_url: Some("https://app.example/".into()),
        save_card: true,
        customer_id: Some("cus_1".into()),
        customer_number: 2,
        payment_intent_id: Some(format!("pi_{id}")),
        client_secret: Some(Sealed(vec![1, 2])),
        failure_code: None,
        grant_id: None,
        refunded: 0,
        version: 2,
        created_at: now(),
        updated_at: now(),
        checked_at: now(),
        completed_at: None,
    }
}
