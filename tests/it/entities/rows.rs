//! A row of every table, with every value of every enum.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use sea_orm::{
    ActiveModelBehavior, ActiveModelTrait, ColumnTrait, DatabaseConnection, EntityTrait,
    IntoActiveModel, Iterable, ModelTrait, PrimaryKeyToColumn, QueryFilter,
};
use serde_json::json;
use uuid::Uuid;

use musubi::actor::Role;
use musubi::crypto::Sealed;
use musubi::entity::{
    alert, audit_chain, compliance_assessment, credit_account, credit_grant, credit_hold,
    credit_package, credit_transaction, credit_withdrawal, execution, function_price,
    idempotency_key, job_run, key_use, membership, monthly_reset, plan, queue_item, system_event,
    system_event_origin, tenant, usage_daily, usage_hourly, user,
};
use musubi::ids::{
    AccountId, AlertId, AssessmentId, AuditEventId, ExecutionId, GrantId, HoldId, IdempotencyId,
    JobRunId, MembershipId, PackageId, PlanId, PriceId, QueueItemId, ResetId, TenantId,
    TransactionId, TypedId, UserId, WithdrawalId,
};

/// Whom an execution belongs to.
pub(super) struct Owner {
    pub(super) tenant: TenantId,
    pub(super) account: AccountId,
    pub(super) user: UserId,
    pub(super) price: PriceId,
}

/// Writes the row and reads it by its key.
pub(super) async fn same<M, A>(db: &DatabaseConnection, row: M)
where
    M: ModelTrait + IntoActiveModel<A> + Clone + PartialEq + std::fmt::Debug + Send + Sync,
    M::Entity: EntityTrait<Model = M, ActiveModel = A>,
    A: ActiveModelTrait<Entity = M::Entity> + ActiveModelBehavior + Send,
{
    let written = row.clone().into_active_model().reset_all();
    let key = written.get_primary_key_value().unwrap();
    let returned = written.insert(db).await.unwrap();
    assert_eq!(returned, row);
    let mut found = M::Entity::find();
    for (column, value) in <M::Entity as EntityTrait>::PrimaryKey::iter().zip(key) {
        found = found.filter(column.into_column().eq(value));
    }
    assert_eq!(found.one(db).await.unwrap(), Some(row));
}

/// An instant with the finest part that both databases keep, some microseconds.
pub(super) fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_micros(1_795_000_000_123_456).unwrap()
}

pub(super) fn day() -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 11, 1).unwrap()
}

pub(super) async fn a_tenant(db: &DatabaseConnection) -> TenantId {
    let id = TenantId::new();
    same(
        db,
        tenant::Model {
            id,
            name: "箱根".into(),
            slug: id.to_string(),
            crm_plan_type: plan::PlanType::Enterprise,
            crm_activated_at: None,
            billing_email: None,
            stripe_customer_id: None,
            stripe_customers_lost: 2,
            membership_policy: tenant::MembershipPolicy::Open,
            slack_webhook_url: Some(Sealed(vec![1])),
            slack_channel: None,
            anomaly_mode: tenant::AnomalyMode::Shadow,
            anomaly_block_minutes: 45,
            version: 3,
            time_zone: "Asia/Tokyo".into(),
            locale: "ja".into(),
            created_at: now(),
            updated_at: now(),
            deleted_at: Some(now() + TimeDelta::days(1)),
        },
    )
    .await;
    id
}

pub(super) async fn a_user(db: &DatabaseConnection, tenant: TenantId) -> UserId {
    let mut last = UserId::new();
    for role in Role::ALL {
        let id = UserId::new();
        same(
            db,
            user::Model {
                id,
                name: "花子".into(),
                email: Sealed(vec![0, 1, 255]),
                email_index: id.uuid().as_bytes().to_vec(),
                email_verified_at: Some(now()),
                image: None,
                is_platform_admin: *role == Role::Admin,
                locale: "en".into(),
                created_at: now(),
                updated_at: now(),
                deleted_at: None,
            },
        )
        .await;
        same(
            db,
            membership::Model {
                id: MembershipId::new(),
                tenant_id: tenant,
                user_id: id,
                role: *role,
                version: 2,
                created_at: now(),
                updated_at: now(),
            },
        )
        .await;
        last = id;
    }
    last
}

pub(super) async fn an_alert(
    db: &DatabaseConnection,
    severity: alert::AlertSeverity,
    tenant_id: Option<TenantId>,
) {
    let id = AlertId::new();
    let data = json!({ "credits": 12, "names": ["甲", null, true] });
    let (kind, dedupe_key, created_at) = ("LOW_BALANCE".into(), id.to_string(), now());
    same(db, alert::Model { id, tenant_id, kind, severity, dedupe_key, data, created_at }).await;
}

pub(super) async fn the_queue(db: &DatabaseConnection) {
    for state in queue_item::QueueState::ALL {
        let is_ready = *state == queue_item::QueueState::Ready;
        same(
            db,
            queue_item::Model {
                id: QueueItemId::new(),
                kind: "mail".into(),
                payload: Sealed(vec![7; 40]),
                dedupe_key: None,
                state: *state,
                attempts: 3,
                run_at: now(),
                lease_until: is_ready.then(now),
                leased_by: is_ready.then(Uuid::nil),
                last_error: None,
                created_at: now(),
                finished_at: (!is_ready).then(now),
            },
        )
        .await;
    }
    for state in job_run::JobState::ALL {
        let id = JobRunId::new();
        same(
            db,
            job_run::Model {
                id,
                name: id.to_string(),
                slot: now(),
                state: *state,
                attempts: 1,
                lease_until: now(),
                leased_by: Uuid::nil(),
                summary: Some("3 accounts".into()),
                started_at: now(),
                finished_at: None,
            },
        )
        .await;
    }
}

pub(super) async fn the_record(db: &DatabaseConnection, tenant: TenantId, user: UserId) {
    same(
        db,
        system_event::Model {
            id: AuditEventId::new(),
            tenant_id: Some(tenant),
            user_id: None,
            chain_id: tenant.uuid(),
            api_key_id: None,
            request_id: Some("r-1".into()),
            event_type: system_event::EventType::Security,
            source_system: "musubi".into(),
            entity_type: "plan".into(),
            entity_id: Some(user.uuid()),
            action: "UPDATE".into(),
            event_data: json!([]),
            changes: Some(json!({ "role": { "before": null, "after": "ADMIN" } })),
            risk_level: Some(system_event::RiskLevel::High),
            times: 2,
            is_success: true,
            occurred_at: now(),
            origin_digest: Some(vec![1]),
            digest: vec![2, 3],
            seq: Some(1),
            chain_hash: Some(vec![4]),
        },
    )
    .await;
    the_chain(db, tenant).await;
    same(
        db,
        key_use::Model {
            purpose: "ENCRYPTION_KEYS".into(),
            kid: tenant.to_string(),
            first_used_at: now(),
        },
    )
    .await;
    same(
        db,
        compliance_assessment::Model {
            id: AssessmentId::new(),
            tenant_id: Some(tenant),
            is_compliant: false,
            failed: json!(["RETENTION"]),
            assessed_at: now(),
            next_at: now(),
        },
    )
    .await;
    same(
        db,
        idempotency_key::Model {
            id: IdempotencyId::new(),
            tenant_id: tenant,
            actor_id: user.uuid(),
            operation: "aiExecute".into(),
            key: "12345678".into(),
            body_digest: vec![1, 2, 3],
            object_id: user.uuid(),
            created_at: now(),
        },
    )
    .await;
}

async fn the_chain(db: &DatabaseConnection, tenant: TenantId) {
    same(
        db,
        system_event_origin::Model {
            event_id: AuditEventId::new(),
            ip_address: Some(Sealed(vec![1])),
            user_agent: None,
            created_at: now(),
        },
    )
    .await;
    same(
        db,
        audit_chain::Model {
            chain_id: tenant.uuid(),
            seq: 7,
            hash: vec![1],
            anchor_seq: 3,
            anchor_hash: vec![2],
            mac: vec![3],
            sealed_at: now(),
        },
    )
    .await;
}

async fn a_package(db: &DatabaseConnection, plan_type: plan::PlanType) {
    same(
        db,
        credit_package::Model {
            id: PackageId::new(),
            plan_type,
            credits_amount: 500,
            price_yen: 5_000,
            discount_rate: 250,
            tax_rate: 1_000,
            is_bulk_package: true,
            is_promotional: false,
            active: true,
            valid_from: day(),
            valid_until: None,
            display_name: "五百".into(),
            description: None,
            marketing_highlight: Some("人気".into()),
            version: 1,
            created_at: now(),
            updated_at: now(),
        },
    )
    .await;
}

/// Every plan with every rule of carrying over, a package for each, a price for each function.
pub(super) async fn the_price_list(db: &DatabaseConnection) -> PriceId {
    let mut last = PriceId::new();
    // Versions are unique: each call writes higher ones.
    let version = i32::try_from(function_price::Entity::find().all(db).await.unwrap().len());
    let version = version.unwrap() + 1;
    for plan_type in plan::PlanType::ALL {
        for (more, carry_over) in (0..).zip(plan::CarryOver::ALL) {
            same(
                db,
                plan::Model {
                    id: PlanId::new(),
                    plan_type: *plan_type,
                    version: version * 10 + more,
                    price_yen: 9_800,
                    monthly_free_credits: 100,
                    carry_over: *carry_over,
                    carry_over_cap: 5,
                    stripe_price_id: (more > 0).then(|| "price_1".to_owned()),
                    created_at: now(),
                },
            )
            .await;
        }
        a_package(db, *plan_type).await;
    }
    for function_type in function_price::AiFunctionType::ALL {
        last = PriceId::new();
        same(
            db,
            function_price::Model {
                id: last,
                function_type: *function_type,
                model: "gpt-4o".into(),
                version,
                is_default: true,
                is_active: false,
                base_credits: 2,
                tier_1_tokens: 1_000,
                tier_2_tokens: 4_000,
                tier_3_tokens: 16_000,
                tier_1_per_mille: 1_000,
                tier_2_per_mille: 1_500,
                tier_3_per_mille: 2_000,
                tier_4_per_mille: 3_000,
                rate_limit_credits: 1,
                created_at: now(),
            },
        )
        .await;
    }
    last
}

pub(super) async fn an_account(db: &DatabaseConnection, tenant: TenantId) -> AccountId {
    let id = AccountId::new();
    same(
        db,
        credit_account::Model {
            id,
            tenant_id: tenant,
            plan_type: plan::PlanType::Professional,
            next_plan_type: Some(plan::PlanType::Essential),
            monthly_free_credits: 100,
            time_zone: "Asia/Tokyo".into(),
            current_balance: 2_000_000_000,
            held: 1,
            running: 1,
            running_max: 7,
            version: 5_000_000_000,
            next_due_at: now(),
            entitled_until: None,
            alert_threshold: 50,
            total_purchased_credits: 0,
            total_used_credits: 0,
            auto_purchase_enabled: false,
            auto_purchase_threshold: 50,
            auto_purchase_amount: 500,
            auto_purchase_due_at: None,
            auto_purchase_quiet_until: None,
            created_at: now(),
            updated_at: now(),
            deleted_at: None,
        },
    )
    .await;
    id
}

/// A grant of each kind, and a withdrawal for each reason.
pub(super) async fn the_grants(db: &DatabaseConnection, account: AccountId) -> GrantId {
    let mut last = GrantId::new();
    for kind in credit_grant::GrantKind::ALL {
        let is_free = *kind == credit_grant::GrantKind::Free;
        last = GrantId::new();
        same(
            db,
            credit_grant::Model {
                id: last,
                account_id: account,
                kind: *kind,
                granted: 100,
                remaining: 60,
                price_minor: 500,
                cost_left: 300,
                period: is_free.then(day),
                expires_at: (!is_free).then(now),
                description: None,
                reference_id: Some(account.uuid()),
                created_at: now(),
            },
        )
        .await;
    }
    for reason in credit_withdrawal::WithdrawalReason::ALL {
        same(
            db,
            credit_withdrawal::Model {
                id: WithdrawalId::new(),
                account_id: account,
                grant_id: last,
                reason: *reason,
                waits: false,
                asked: 10,
                taken: 8,
                put_back: 1,
                cost_taken: 40,
                version: 9,
                reference_id: None,
                created_at: now(),
                closed_at: None,
            },
        )
        .await;
    }
    last
}

pub(super) async fn the_months(db: &DatabaseConnection, account: AccountId, user: UserId) {
    let function_type = function_price::AiFunctionType::Analysis;
    same(
        db,
        monthly_reset::Model {
            id: ResetId::new(),
            account_id: account,
            reset_date: day(),
            plan_type: plan::PlanType::Essential,
            previous_balance: 4,
            free_credits_added: 100,
            carried_over_credits: 4,
            total_usage_previous_month: 96,
            most_used_function: Some(function_type),
            efficiency_score: Some(8_712),
            created_at: now(),
            noticed_at: Some(now()),
        },
    )
    .await;
    same(
        db,
        usage_daily::Model {
            account_id: account,
            day: day(),
            function_type,
            runs: 4,
            failures: 1,
            time_ms: 5_000,
            credits: 30,
            credits_on_success: 30,
            free_credits: 12,
            cost_yen: 150,
        },
    )
    .await;
    same(
        db,
        usage_hourly::Model {
            account_id: account,
            user_id: user,
            function_type,
            hour: now(),
            runs: 4,
            failures: 1,
            credits: 30,
        },
    )
    .await;
}

pub(super) async fn the_ledger(
    db: &DatabaseConnection,
    account: AccountId,
    grant: GrantId,
    user: UserId,
) -> TransactionId {
    let mut last = TransactionId::new();
    for (version, transaction_type) in (1..).zip(credit_transaction::TransactionType::ALL) {
        let is_usage = *transaction_type == credit_transaction::TransactionType::Usage;
        last = TransactionId::new();
        same(
            db,
            credit_transaction::Model {
                id: last,
                account_id: account,
                version,
                transaction_type: *transaction_type,
                credits_amount: if is_usage { -3 } else { 3 },
                balance_after: 97,
                ai_function_type: is_usage.then_some(function_price::AiFunctionType::Custom),
                ai_function_params: is_usage.then(|| json!({ "model": "gpt-4o" })),
                execution_time_ms: is_usage.then_some(800),
                total_cost_yen: is_usage.then_some(15),
                user_id: is_usage.then_some(user),
                execution_id: is_usage.then(ExecutionId::new),
                hold_id: is_usage.then(HoldId::new),
                grant_id: (!is_usage).then_some(grant),
                reference_id: None,
                description: Some("追記".into()),
                created_at: now(),
            },
        )
        .await;
    }
    last
}

/// An execution of each status, and a failed one for each code.
pub(super) async fn the_executions(db: &DatabaseConnection, of: &Owner) -> ExecutionId {
    let mut last = ExecutionId::new();
    for status in execution::ExecutionStatus::ALL {
        last = an_execution(db, of, *status, None).await;
    }
    for code in execution::FailureCode::ALL {
        last = an_execution(db, of, execution::ExecutionStatus::Failed, Some(*code)).await;
    }
    last
}

pub(super) async fn an_execution(
    db: &DatabaseConnection,
    of: &Owner,
    status: execution::ExecutionStatus,
    failure_code: Option<execution::FailureCode>,
) -> ExecutionId {
    let id = ExecutionId::new();
    let usage_source = match failure_code {
        None => Some(execution::UsageSource::Provider),
        Some(execution::FailureCode::OutputBroken) => Some(execution::UsageSource::Counted),
        Some(_) => None,
    };
    same(
        db,
        execution::Model {
            id,
            tenant_id: of.tenant,
            account_id: of.account,
            user_id: of.user,
            requested_by: of.user,
            api_key_id: None,
            idempotency_key: "12345678".into(),
            function_type: function_price::AiFunctionType::Chatbot,
            model: "gpt-4o".into(),
            provider: "openai".into(),
            price_id: of.price,
            status,
            parameters: Some(Sealed(vec![1; 200])),
            result: None,
            max_tokens: 400,
            requested_max_tokens: 800,
            estimated_tokens: 120,
            input_tokens: usage_source.map(|_| 118),
            output_tokens: usage_source.map(|_| 90),
            usage_source,
            credits_held: 6,
            credits_used: 2,
            credits_refunded: 1,
            shortfall: 0,
            total_cost_yen: None,
            transaction_id: usage_source.map(|_| TransactionId::new()),
            failure_code,
            prompt_digest: i64::MIN,
            anomaly_score: 100,
            anomaly_signals: json!([1]),
            cancel_requested_at: None,
            execution_time_ms: Some(640),
            created_at: now(),
            finished_at: Some(now()),
        },
    )
    .await;
    id
}

/// A hold of each state.
pub(super) async fn the_holds(db: &DatabaseConnection, of: &Owner) -> HoldId {
    let mut last = HoldId::new();
    for state in credit_hold::HoldState::ALL {
        let is_active = *state == credit_hold::HoldState::Active;
        last = HoldId::new();
        same(
            db,
            credit_hold::Model {
                id: last,
                account_id: of.account,
                execution_id: an_execution(db, of, execution::ExecutionStatus::Running, None).await,
                user_id: of.user,
                function_type: function_price::AiFunctionType::Prediction,
                amount: 24,
                version: 7,
                state: *state,
                in_flight_at: Some(now()),
                watermark: 3,
                lease_until: now(),
                charge: 2,
                resolved_by: (!is_active).then(Uuid::nil),
                created_at: now(),
                resolved_at: None,
            },
        )
        .await;
    }
    last
}
