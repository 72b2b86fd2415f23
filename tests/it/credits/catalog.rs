//! Packages and plans: made, changed on the version one saw, retired; each tenant sees its own.

use futures_util::future::join_all;
use musubi::entity::plan::PlanType;
use serde_json::{Value, json};

use super::{at, due, subscriber};
use crate::support::TestApp;
use crate::support::people::Person;

const PACKAGE: &str = "package { id version planType credits price { amount } discountRate taxRate
    pricePerCredit isActive validFrom validUntil displayName description marketingHighlight }
    userErrors { code field ... on StaleVersion { currentVersion } }";

async fn changes(person: &Person, mutation: &str, input: Value) -> Value {
    let kind = format!("{}{}Input", mutation[..1].to_uppercase(), &mutation[1..]);
    let query =
        format!("mutation ($input: {kind}!) {{ {mutation}(input: $input) {{ {PACKAGE} }} }}");
    person.gets(&query, json!({ "input": input })).await[mutation].clone()
}

async fn plan_update(person: &Person, input: Value) -> Value {
    let query = "mutation ($input: PlanUpdateInput!) { planUpdate(input: $input) {
        plan { planType version price { amount } monthlyFreeCredits carryOver carryOverCap }
        userErrors { code field ... on StaleVersion { currentVersion } } } }";
    person.gets(query, json!({ "input": input })).await["planUpdate"].clone()
}

fn package(plan: &str, credits: i64) -> Value {
    json!({ "planType": plan, "credits": credits, "priceYen": 8_800, "validFrom": "2026-11-01",
        "validUntil": "2026-12-31", "displayName": format!("{credits}クレジット"),
        "description": "お得です", "discountRate": "11.5" })
}

async fn sees(person: &Person) -> Vec<i64> {
    let reply = person.gets("{ creditPackages { credits } }", json!({})).await;
    let list = reply["creditPackages"].as_array().unwrap().clone();
    list.iter().map(|package| package["credits"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn a_package_that_is_made_shows_what_was_asked() {
    let app = TestApp::start().await;
    let root = app.platform_admin(None).await;

    let made = changes(&root, "creditPackageCreate", package("ESSENTIAL", 500)).await;

    assert_eq!(made["userErrors"], json!([]));
    let package = &made["package"];
    assert_eq!((&package["version"], &package["isActive"]), (&json!(1), &json!(true)));
    assert_eq!((&package["discountRate"], &package["taxRate"]), (&json!("11.5"), &json!("10")));
    assert_eq!(
        (&package["pricePerCredit"], &package["price"]["amount"]),
        (&json!("17.60"), &json!("8800"))
    );
    assert_eq!(
        (&package["validFrom"], &package["validUntil"]),
        (&json!("2026-11-01"), &json!("2026-12-31"))
    );
}

#[tokio::test]
async fn what_is_omitted_stays_and_what_is_null_is_cleared() {
    let app = TestApp::start().await;
    let root = app.platform_admin(None).await;
    let made = changes(&root, "creditPackageCreate", package("ESSENTIAL", 500)).await;
    let id = made["package"]["id"].clone();

    let input = json!({ "id": id, "priceYen": 7_000, "expectedVersion": 1 });
    let kept = changes(&root, "creditPackageUpdate", input).await["package"].clone();
    let input = json!({ "id": id, "validUntil": null, "description": null });
    let cleared = changes(&root, "creditPackageUpdate", input).await["package"].clone();

    let expected = {
        let mut expected = made["package"].clone();
        expected["version"] = json!(2);
        expected["price"]["amount"] = json!("7000");
        expected["pricePerCredit"] = json!("14.00");
        expected
    };
    assert_eq!(without_rate(&kept), without_rate(&expected));
    assert_eq!(decimal(&kept["pricePerCredit"]), decimal(&expected["pricePerCredit"]));
    assert_eq!((&cleared["validUntil"], &cleared["description"]), (&Value::Null, &Value::Null));
    assert_eq!((&cleared["version"], &cleared["price"]["amount"]), (&json!(3), &json!("7000")));
}

fn without_rate(package: &Value) -> Value {
    let mut package = package.clone();
    package.as_object_mut().unwrap().remove("pricePerCredit");
    package
}

fn decimal(value: &Value) -> rust_decimal::Decimal {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_change_made_on_an_old_version_is_refused_with_the_present_one() {
    let app = TestApp::start().await;
    let root = app.platform_admin(None).await;
    let made = changes(&root, "creditPackageCreate", package("ESSENTIAL", 500)).await;
    let id = made["package"]["id"].clone();
    let input = |price: i64| json!({ "id": id, "priceYen": price, "expectedVersion": 1 });
    changes(&root, "creditPackageUpdate", input(7_000)).await;

    let update = changes(&root, "creditPackageUpdate", input(6_000)).await;
    let retire = json!({ "id": id, "expectedVersion": 1 });
    let retire = changes(&root, "creditPackageRetire", retire).await;

    for refused in [update, retire] {
        let error = json!([{ "code": "STALE_VERSION", "field": ["input", "expectedVersion"],
            "currentVersion": 2 }]);
        assert_eq!((&refused["userErrors"], &refused["package"]), (&error, &Value::Null));
    }
}

#[tokio::test]
async fn of_ten_changes_on_one_version_one_is_made() {
    let app = TestApp::start().await;
    let root = app.platform_admin(None).await;
    let made = changes(&root, "creditPackageCreate", package("ESSENTIAL", 500)).await;
    let nodes = [app.app.clone(), app.replica().await];

    let replies = join_all((0..10).map(|number| {
        let root = root.on(&nodes[number % 2]);
        let id = made["package"]["id"].clone();
        let input = json!({ "id": id, "priceYen": 1_000 + number, "expectedVersion": 1 });
        async move { changes(&root, "creditPackageUpdate", input).await }
    }))
    .await;

    let (done, refused): (Vec<_>, Vec<_>) =
        replies.iter().partition(|reply| reply["userErrors"] == json!([]));
    assert_eq!((done.len(), refused.len()), (1, 9));
    assert!(refused.iter().all(|reply| reply["userErrors"][0]["currentVersion"] == 2));
}

#[tokio::test]
async fn a_retired_package_is_not_sold_or_changed_but_can_still_be_read() {
    let app = TestApp::start().await;
    let root = app.platform_admin(None).await;
    let hotel = subscriber(&app, PlanType::Essential).await;
    let made = changes(&root, "creditPackageCreate", package("ESSENTIAL", 500)).await;
    let id = made["package"]["id"].clone();

    let retired = changes(&root, "creditPackageRetire", json!({ "id": id })).await;
    let again = changes(&root, "creditPackageRetire", json!({ "id": id })).await;
    let changed = changes(&root, "creditPackageUpdate", json!({ "id": id, "credits": 1 })).await;

    assert_eq!(retired["package"]["isActive"], false);
    assert_eq!((&again["package"]["version"], &again["userErrors"]), (&json!(2), &json!([])));
    assert_eq!(changed["userErrors"][0]["code"], "INVALID_STATE", "{changed}");
    assert_eq!(sees(&hotel.user).await, Vec::<i64>::new());
    let query =
        "query ($id: ID!) { node(id: $id) { id ... on CreditPackage { credits isActive } } }";
    let node = hotel.user.gets(query, json!({ "id": id })).await["node"].clone();
    assert_eq!(node, json!({ "id": id, "credits": 500, "isActive": false }));
}

#[tokio::test]
async fn a_tenant_sees_packages_of_its_own_plan_on_its_own_days() {
    let app = TestApp::start().await;
    let root = app.platform_admin(None).await;
    let essential = subscriber(&app, PlanType::Essential).await;
    let large = subscriber(&app, PlanType::Enterprise).await;
    for (plan, credits) in [("ESSENTIAL", 500), ("ESSENTIAL", 100), ("ENTERPRISE", 9_000)] {
        changes(&root, "creditPackageCreate", package(plan, credits)).await;
    }

    assert_eq!(sees(&essential.user).await, [100, 500]);
    assert_eq!(sees(&large.user).await, [9_000]);
    // The last day of sale is 31 December in Tokyo.
    app.clock.set(at("2026-12-31T14:59:59Z"));
    assert_eq!(sees(&essential.user).await, [100, 500]);
    app.clock.set(at("2026-12-31T15:00:00Z"));
    assert_eq!(sees(&essential.user).await, Vec::<i64>::new());
    app.clock.set(at("2026-10-31T14:59:59Z"));
    assert_eq!(sees(&essential.user).await, Vec::<i64>::new());
    app.clock.set(at("2026-10-31T15:00:00Z"));
    assert_eq!(sees(&essential.user).await, [100, 500]);
}

#[tokio::test]
async fn a_package_with_bad_values_names_them_by_their_path() {
    let app = TestApp::start().await;
    let root = app.platform_admin(None).await;
    let made = changes(&root, "creditPackageCreate", package("ESSENTIAL", 500)).await;
    let id = made["package"]["id"].clone();
    let fields = |reply: &Value| -> Vec<String> {
        let errors = reply["userErrors"].as_array().unwrap();
        errors.iter().map(|error| error["field"][1].as_str().unwrap_or("?").to_owned()).collect()
    };

    let mut bad = package("ESSENTIAL", 0);
    bad["priceYen"] = json!(0);
    bad["displayName"] = json!(" ");
    bad["validUntil"] = json!("2026-10-31");
    let created = changes(&root, "creditPackageCreate", bad).await;
    let input = json!({ "id": id, "discountRate": "1.234" });
    let updated = changes(&root, "creditPackageUpdate", input).await;
    let input = json!({ "id": id, "taxRate": "100.01" });
    let taxed = changes(&root, "creditPackageUpdate", input).await;

    assert_eq!(fields(&created), ["credits", "priceYen", "displayName", "validUntil"]);
    assert_eq!(fields(&updated), ["discountRate"], "{updated}");
    assert_eq!(fields(&taxed), ["taxRate"], "{taxed}");
}

#[tokio::test]
async fn a_plans_new_version_counts_from_the_next_reset_on() {
    let app = TestApp::start().await;
    let root = app.platform_admin(None).await;
    let hotel = subscriber(&app, PlanType::Essential).await;
    let input = json!({ "planType": "ESSENTIAL", "priceYen": 9_000, "monthlyFreeCredits": 250,
        "carryOver": "CAP", "carryOverCap": 30, "expectedVersion": 1 });

    let made = plan_update(&root, input.clone()).await;
    assert_eq!(
        made["plan"],
        json!({ "planType": "ESSENTIAL", "version": 2, "price": { "amount": "9000" },
            "monthlyFreeCredits": 250, "carryOver": "CAP", "carryOverCap": 30 })
    );
    assert_eq!(hotel.balance().await, (200, 0));
    app.clock.set(at("2026-11-30T15:00:00Z"));
    due(&app.app, &hotel).await;

    assert_eq!(hotel.balance().await, (280, 0));
    let stale = plan_update(&root, input).await;
    assert_eq!(stale["userErrors"][0]["currentVersion"], 2, "{stale}");
    let plans = hotel.user.gets("{ plans { planType version } }", json!({})).await;
    assert_eq!(plans["plans"][0], json!({ "planType": "ESSENTIAL", "version": 2 }));
}

#[tokio::test]
async fn of_ten_new_versions_of_a_plan_on_one_version_one_is_made() {
    let app = TestApp::start().await;
    let root = app.platform_admin(None).await;
    let nodes = [app.app.clone(), app.replica().await];
    let updates = async |expected: Option<i64>| {
        join_all((0..10).map(|number| {
            let root = root.on(&nodes[number % 2]);
            let input = json!({ "planType": "ESSENTIAL", "priceYen": 9_000 + number,
                "monthlyFreeCredits": 200, "carryOver": "ALL", "expectedVersion": expected });
            async move { plan_update(&root, input).await }
        }))
        .await
    };

    let replies = updates(Some(1)).await;
    let done = replies.iter().filter(|reply| reply["userErrors"] == json!([])).count();
    let stale =
        replies.iter().filter(|reply| reply["userErrors"][0]["currentVersion"] == 2).count();
    let unconditional = updates(None).await;

    assert_eq!((done, stale), (1, 9));
    let mut versions: Vec<_> =
        unconditional.iter().map(|reply| reply["plan"]["version"].as_i64().unwrap()).collect();
    versions.sort_unstable();
    assert_eq!(versions, (3..=12).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_cap_goes_with_cap_only_and_a_tenants_admin_changes_no_plan() {
    let app = TestApp::start().await;
    let root = app.platform_admin(None).await;
    let hotel = app.hotel().await;
    let mut input = json!({ "planType": "ESSENTIAL", "priceYen": 1, "monthlyFreeCredits": 1,
        "carryOver": "CAP" });

    let without = plan_update(&root, input.clone()).await;
    input["carryOver"] = json!("ALL");
    input["carryOverCap"] = json!(5);
    let with = plan_update(&root, input.clone()).await;
    let query = "mutation ($input: PlanUpdateInput!) { planUpdate(input: $input) { plan { id } } }";
    let theirs = hotel.admin.asks(query, json!({ "input": input })).await;

    for reply in [without, with] {
        assert_eq!(reply["userErrors"][0]["field"], json!(["input", "carryOverCap"]), "{reply}");
    }
    assert_eq!(theirs["errors"][0]["extensions"]["code"], "FORBIDDEN", "{theirs}");
}
