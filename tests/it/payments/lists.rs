//! Purchases are listed, for those who manage the money.

use serde_json::json;

use super::Shop;

#[tokio::test]
async fn purchases_are_listed_filtered_and_paged() {
    let shop = Shop::open().await;
    for (number, card) in
        ["pm_card_visa", "pm_card_chargeDeclined", "pm_card_visa"].into_iter().enumerate()
    {
        shop.buys_with(&format!("purchase-{number}"), card).await;
        shop.app.clock.advance(chrono::TimeDelta::minutes(1));
    }
    let stranger = shop.app.hotel().await;
    let query = "query ($where: CreditPurchaseWhere, $first: Int) {
        creditPurchases(where: $where, first: $first) {
            totalCount nodes { status user { id } package { id } } pageInfo { hasNextPage } } }";
    let admin = &shop.hotel.admin;

    let all = admin.gets(query, json!({ "first": 2 })).await["creditPurchases"].clone();
    assert_eq!(all["totalCount"], 3);
    assert_eq!(all["pageInfo"]["hasNextPage"], true);
    assert_eq!(all["nodes"][0]["user"]["id"], admin.id.to_string());
    assert_eq!(all["nodes"][0]["package"]["id"], shop.package);
    let statuses: Vec<_> =
        all["nodes"].as_array().unwrap().iter().map(|it| &it["status"]).collect();
    assert_eq!(statuses, ["COMPLETED", "FAILED"]);
    let failed = json!({ "where": { "status": { "eq": "FAILED" } } });
    assert_eq!(admin.gets(query, failed).await["creditPurchases"]["totalCount"], 1);
    let none = stranger.admin.gets(query, json!({})).await;
    assert_eq!(none["creditPurchases"]["totalCount"], 0);
}

#[tokio::test]
async fn pages_are_told_the_key_for_stripe_and_never_ours() {
    let shop = Shop::open().await;
    let config = shop.hotel.user.gets("{ clientConfig { stripePublishableKey } }", json!({})).await;
    assert_eq!(config["clientConfig"]["stripePublishableKey"], "pk_test_double");
    let sandbox = crate::support::TestApp::start().await;
    let hotel = sandbox.hotel().await;
    let config = hotel.user.gets("{ clientConfig { stripePublishableKey } }", json!({})).await;
    assert!(config["clientConfig"]["stripePublishableKey"].is_null());
}
