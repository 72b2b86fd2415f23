//! A tenant's own limits, set by platform admins.

use musubi::entity::{function_limit, system_event};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde_json::json;

use super::{SET, set};
use crate::ai::error_code;
use crate::support::Setting;

#[tokio::test]
async fn a_platform_admin_sets_a_tenants_hour_and_takes_it_back() {
    let app = Setting::default().limited().alone().start().await;
    let (hotel, other) = (app.hotel().await, app.hotel().await);
    let (hotel, other) = (hotel.with_credits(100).await, other.with_credits(100).await);
    let root = app.platform_admin(None).await;
    let tenant = hotel.id.to_string();

    set(&root, &tenant, Some(3)).await;
    hotel.user.runs_times(3, "own").await;
    let error = hotel.user.is_limited("own-last").await;
    assert_eq!((&error["limit"], &error["retryAfterSeconds"]), (&json!(3), &json!(3_600)));
    assert_eq!(hotel.user.left().await.0, 3);
    assert_eq!(other.user.left().await.0, 100, "another tenant has the usual hour");
    other.user.runs_times(4, "theirs").await;

    set(&root, &tenant, Some(5)).await;
    hotel.user.runs_times(2, "more").await;
    set(&root, &tenant, Some(0)).await;
    hotel.user.is_limited("closed-1").await;
    hotel.admin.is_limited("closed-2").await;
    set(&root, &tenant, None).await;
    assert_eq!(hotel.user.left().await, (100, 95, json!("2026-11-21T04:00:00Z")));

    let rows = function_limit::Entity::find().all(app.app.db.primary()).await.unwrap();
    assert!(rows.is_empty(), "{rows:?}");
    let records = system_event::Entity::find()
        .filter(system_event::Column::Action.eq("TENANT_FUNCTION_LIMIT_SET"))
        .all(app.app.db.primary())
        .await
        .unwrap();
    let data: Vec<_> = records.iter().map(|row| row.event_data["perHour"].clone()).collect();
    assert_eq!(data, [json!(3), json!(5), json!(0), json!(null)]);
    assert!(records.iter().all(|row| row.tenant_id == Some(hotel.id)));
}

#[tokio::test]
async fn nobody_else_sets_an_hour_and_no_number_beyond_reason_is_taken() {
    let app = Setting::default().limited().alone().start().await;
    let hotel = app.hotel().await;
    let root = app.platform_admin(Some(hotel.id)).await;
    let input = |tenant: &str, per_hour: i64| {
        let limit = json!({ "tenantId": tenant, "functionType": "CUSTOM", "perHour": per_hour });
        json!({ "input": limit })
    };
    let tenant = hotel.id.to_string();
    let reply = hotel.admin.asks(SET, input(&tenant, 5)).await;
    assert_eq!(error_code(&reply), "FORBIDDEN");
    for wrong in [-1, 10_001, i64::from(i32::MAX)] {
        let payload = root.gets(SET, input(&tenant, wrong)).await;
        let error = &payload["tenantFunctionLimitSet"]["userErrors"][0];
        assert_eq!(error["code"], "INVALID_INPUT", "{wrong}");
        assert_eq!(error["field"], json!(["input", "perHour"]));
    }
    let payload = root.gets(SET, input(&tenant, 10_000)).await;
    let limit = &payload["tenantFunctionLimitSet"]["functionLimit"];
    assert_eq!(*limit, json!({ "functionType": "CUSTOM", "perHour": 10_000 }));
}
