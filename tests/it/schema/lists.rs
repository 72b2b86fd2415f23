//! The real lists: walked to both ends through ties and nulls, at the same number of statements.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use musubi::actor::{Actor, Role};
use musubi::db;
use musubi::entity::plan::PlanType;
use musubi::identity::service::invitation::{self, Invite};
use musubi::identity::{self, NewTenant, NewUser};
use musubi::ids::{ExecutionId, TypedId};
use serde_json::{Value, json};

use super::map::reply;
use crate::support::TestApp;
use crate::support::people::Hotel;

/// Rows that a list has at least.
const ROWS: usize = 60;

const EXECUTIONS: &str = "query ($first: Int, $after: String, $last: Int, $before: String,
    $orderBy: [AiExecutionOrder!]) {
    it: aiExecutions(first: $first, after: $after, last: $last, before: $before,
        orderBy: $orderBy) {
        nodes { id } totalCount
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }";
const TRANSACTIONS: &str = "query ($first: Int, $after: String, $last: Int, $before: String,
    $orderBy: [CreditTransactionOrder!]) {
    creditAccount { it: transactions(first: $first, after: $after, last: $last, before: $before,
        orderBy: $orderBy) {
        nodes { id } totalCount
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } } }";
const RESETS: &str = "query ($first: Int, $after: String, $last: Int, $before: String) {
    creditAccount { it: resets(first: $first, after: $after, last: $last, before: $before) {
        nodes { id } totalCount
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } } }";

const MEMBERS: &str = "query ($first: Int, $after: String, $last: Int, $before: String) {
    viewer { tenant { it: members(first: $first, after: $after, last: $last, before: $before) {
        nodes { id } totalCount
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } } } }";
const INVITATIONS: &str = "query ($first: Int, $after: String, $last: Int, $before: String) {
    viewer { tenant { it: invitations(first: $first, after: $after, last: $last, before: $before) {
        nodes { id } totalCount
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } } } }";
const TENANTS: &str = "query ($first: Int, $after: String, $last: Int, $before: String,
    $orderBy: [TenantOrder!]) {
    it: tenants(first: $first, after: $after, last: $last, before: $before, orderBy: $orderBy) {
        nodes { id } totalCount
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }";

const PURCHASES: &str = "query ($first: Int, $after: String, $last: Int, $before: String,
    $orderBy: [CreditPurchaseOrder!]) {
    it: creditPurchases(first: $first, after: $after, last: $last, before: $before,
        orderBy: $orderBy) {
        nodes { id } totalCount
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }";

/// Executions of three people, all started at the same instant, and some purchases between them.
async fn busy_hotel(app: &TestApp) -> Hotel {
    let hotel = app.hotel().await.with_credits(1_000).await;
    for run in 0..ROWS {
        let person = [&hotel.admin, &hotel.manager, &hotel.user][run % 3];
        // The third tier of the price every fifth time.
        let input =
            if run % 5 == 0 { "こんにちは。".repeat(200) } else { "こんにちは".into() };
        let payload = person.executes(&input, &format!("run-number-{run}")).await;
        assert_eq!(payload["execution"]["status"], "SUCCEEDED", "{payload}");
        // The last of all, too: a page of any size has lines of both kinds.
        if run % 4 == 3 {
            hotel.buys(10, 100).await;
        }
    }
    hotel
}

/// Executions as they stand after a crash: without an end.
async fn forget_ends(app: &TestApp, ids: &[String]) {
    let sql = "UPDATE ai_executions SET finished_at = NULL, execution_time_ms = NULL WHERE id = $1";
    for id in ids {
        let id = ExecutionId::parse(id).unwrap();
        let txn = app.app.db.begin().await.unwrap();
        db::execute(&*txn, sql, vec![id.into()]).await.unwrap();
        txn.commit().await.unwrap();
    }
}

/// A list and who walks it.
struct Walker<'a> {
    app: &'a TestApp,
    actor: &'a Actor,
    document: &'a str,
    order_by: Value,
}

impl Walker<'_> {
    async fn page(&self, mut arguments: Value) -> Value {
        arguments["orderBy"] = self.order_by.clone();
        let answer = reply(self.app, Some(self.actor.clone()), self.document, arguments).await;
        assert!(answer["errors"].is_null(), "{answer}");
        let data = &answer["data"];
        let nested = [&data["creditAccount"]["it"], &data["viewer"]["tenant"]["it"], &data["it"]];
        nested.into_iter().find(|page| !page.is_null()).unwrap().clone()
    }

    async fn forwards(&self, size: i32) -> Vec<String> {
        let mut seen = Vec::new();
        let mut after = Value::Null;
        loop {
            let page = self.page(json!({ "first": size, "after": after })).await;
            assert_eq!(page["pageInfo"]["hasPreviousPage"], !seen.is_empty(), "{page}");
            seen.extend(ids(&page));
            if page["pageInfo"]["hasNextPage"] == false {
                return seen;
            }
            after = page["pageInfo"]["endCursor"].clone();
        }
    }

    async fn backwards(&self, size: i32) -> Vec<String> {
        let mut pages = Vec::new();
        let mut before = Value::Null;
        loop {
            let page = self.page(json!({ "last": size, "before": before })).await;
            assert_eq!(page["pageInfo"]["hasNextPage"], !pages.is_empty(), "{page}");
            pages.push(ids(&page));
            if page["pageInfo"]["hasPreviousPage"] == false {
                return pages.into_iter().rev().flatten().collect();
            }
            before = page["pageInfo"]["startCursor"].clone();
        }
    }

    /// Both ways see each row once, in the same order.
    async fn walks_both_ways(&self) -> Vec<String> {
        let whole = self.page(json!({ "first": 100 })).await;
        let all = ids(&whole);
        assert!(all.len() >= ROWS, "{} rows", all.len());
        assert_eq!(whole["totalCount"], all.len());
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        for size in [1, 7, 60] {
            assert_eq!(self.forwards(size).await, all, "forwards by {size}: {}", self.order_by);
            assert_eq!(self.backwards(size).await, all, "backwards by {size}: {}", self.order_by);
        }
        all
    }
}

fn ids(page: &Value) -> Vec<String> {
    let nodes = page["nodes"].as_array().unwrap().iter();
    nodes.map(|node| node["id"].as_str().unwrap().to_owned()).collect()
}

fn sorted_by(fields: &[(&str, &str)]) -> Value {
    fields
        .iter()
        .map(|(field, direction)| json!({ "field": field, "direction": direction }))
        .collect()
}

#[tokio::test]
async fn executions_are_walked_through_ties_and_missing_ends() {
    let app = TestApp::start().await;
    let hotel = busy_hotel(&app).await;
    let actor = &hotel.manager.actor;
    let walker = |order_by| Walker { app: &app, actor, document: EXECUTIONS, order_by };
    let newest_first = walker(json!([])).walks_both_ways().await;
    let open: Vec<String> = newest_first.iter().step_by(4).cloned().collect();
    forget_ends(&app, &open).await;
    let orders = [
        sorted_by(&[("CREDITS_USED", "ASC")]),
        sorted_by(&[("FINISHED_AT", "DESC")]),
        sorted_by(&[("EXECUTION_TIME_MS", "ASC"), ("CREDITS_USED", "DESC")]),
    ];
    for order in orders {
        let by_end = order != sorted_by(&[("CREDITS_USED", "ASC")]);
        let walked = walker(order).walks_both_ways().await;
        if by_end {
            let last: BTreeSet<_> = walked.iter().rev().take(open.len()).collect();
            assert_eq!(last, open.iter().collect(), "rows without a value come last");
        }
    }
}

#[tokio::test]
async fn the_ledger_is_walked_through_ties_and_missing_costs() {
    let app = TestApp::start().await;
    let hotel = busy_hotel(&app).await;
    let costs = "{ creditAccount { transactions(first: 100) { nodes { totalCost { amount } } } } }";
    let lines = hotel.admin.gets(costs, json!({})).await;
    let lines = lines["creditAccount"]["transactions"]["nodes"].as_array().unwrap().clone();
    let costs: Vec<&Value> = lines.iter().map(|line| &line["totalCost"]["amount"]).collect();
    let distinct: BTreeSet<String> = costs.iter().map(|cost| cost.to_string()).collect();
    assert!(distinct.len() < costs.len() / 2, "there are ties");
    let actor = &hotel.admin.actor;
    let orders = [
        json!([]),
        sorted_by(&[("CREDITS", "ASC")]),
        sorted_by(&[("TOTAL_COST", "ASC")]),
        sorted_by(&[("TOTAL_COST", "DESC"), ("CREDITS", "ASC")]),
        sorted_by(&[("CREATED_AT", "DESC")]),
    ];
    for order_by in orders {
        let walker = Walker { app: &app, actor, document: TRANSACTIONS, order_by };
        walker.walks_both_ways().await;
    }
}

#[tokio::test]
async fn five_years_of_resets_are_walked_both_ways() {
    let app = TestApp::start().await;
    let hotel = app.tenant(PlanType::Professional, "Asia/Tokyo").await;
    hotel.account().await;
    app.clock.advance(TimeDelta::days(5 * 366 + 31));
    // A quote applies what is due: one reset for each month that was missed.
    let quote = "{ aiExecutionQuote(input: { functionType: CHATBOT,
        parameters: { input: \"こんにちは\" } }) { affordable } }";
    hotel.admin.gets(quote, json!({})).await;
    let actor = &hotel.admin.actor;
    let walker = Walker { app: &app, actor, document: RESETS, order_by: Value::Null };
    walker.walks_both_ways().await;
}

#[tokio::test]
async fn members_invitations_and_tenants_made_at_one_instant_are_walked_both_ways() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let root = app.platform_admin(None).await;
    let now = app.clock.db_now();
    let txn = app.app.db.begin().await.unwrap();
    for number in 0..ROWS {
        let (slug, email) = (format!("inn-{number}"), format!("member-{number}@example.test"));
        let plan = PlanType::Essential;
        let new = NewTenant { name: "同じ名前", slug: &slug, plan, time_zone: "Asia/Tokyo" };
        identity::create_tenant(&txn, new, now).await.unwrap();
        let new = NewUser { name: "同じ名前", email: &email, is_platform_admin: false };
        let user = identity::create_user(&app.app, &txn, new, now).await.unwrap();
        identity::add_member(&txn, (hotel.id, user.id), Role::User, now).await.unwrap();
    }
    txn.commit().await.unwrap();
    for number in 0..ROWS {
        let invite = Invite { email: format!("guest-{number}@example.test"), role: Role::User };
        invitation::invite(&app.app, &hotel.admin.actor, invite).await.unwrap();
    }
    let lists = [
        (&hotel.manager.actor, MEMBERS, Value::Null),
        (&hotel.admin.actor, INVITATIONS, Value::Null),
        (&root.actor, TENANTS, json!([])),
        (&root.actor, TENANTS, sorted_by(&[("NAME", "DESC"), ("SLUG", "ASC")])),
    ];
    for (actor, document, order_by) in lists {
        Walker { app: &app, actor, document, order_by }.walks_both_ways().await;
    }
}

#[tokio::test]
async fn purchases_are_walked_through_ties_and_missing_ends() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let package = crate::payments::package(&app, json!({})).await;
    for number in 0..ROWS {
        let card = if number % 3 == 0 { "pm_card_chargeDeclined" } else { "pm_card_visa" };
        let input = json!({ "packageId": package, "paymentMethod": "STRIPE",
            "stripePaymentMethodId": card, "idempotencyKey": format!("purchase-{number}") });
        crate::payments::buys(&hotel.admin, input).await;
    }
    let actor = &hotel.admin.actor;
    for order_by in [
        json!([]),
        sorted_by(&[("CREATED_AT", "ASC")]),
        sorted_by(&[("COMPLETED_AT", "DESC"), ("CREDITS", "ASC")]),
    ] {
        Walker { app: &app, actor, document: PURCHASES, order_by }.walks_both_ways().await;
    }
    let question = "query ($first: Int) { creditPurchases(first: $first) { nodes {
        id clientSecret user { name } package { credits } transaction { balanceAfter } } } }";
    let mut counts = Vec::new();
    for first in [5, 5, 50] {
        let before = app.app.db.statements();
        hotel.admin.gets(question, json!({ "first": first })).await;
        counts.push(app.app.db.statements() - before);
    }
    assert_eq!(counts[1], counts[2], "statements of 5 rows and of 50");
}

#[tokio::test]
async fn a_larger_page_takes_no_more_statements() {
    let app = TestApp::start().await;
    let hotel = busy_hotel(&app).await;
    // Such pages cost more than a member may spend on one operation.
    let root = app.platform_admin(Some(hotel.id)).await;
    let questions = [
        "query ($first: Int) { creditAccount { transactions(first: $first) { totalCount
            nodes { id user { name email } execution { id user { name } result { output } }
                    draws { credits grant { kind } } reference { __typename id } } } } }",
        "query ($first: Int) { aiExecutions(first: $first) { totalCount
            nodes { id user { name email } parameters { input } result { output }
                    charge { creditsUsed transactionId } } } }",
    ];
    for question in questions {
        let mut counts = Vec::new();
        for first in [5, 5, 50] {
            let before = app.app.db.statements();
            let answer = root.gets(question, json!({ "first": first })).await;
            counts.push(app.app.db.statements() - before);
            let shown = answer.to_string().matches("\"email\"").count();
            assert!(shown >= usize::try_from(first).unwrap() / 2, "{shown} rows of {first}");
        }
        assert_eq!(counts[1], counts[2], "statements of 5 rows and of 50: {question}");
        assert!(counts[2] <= 12, "{} statements: {question}", counts[2]);
    }
}
