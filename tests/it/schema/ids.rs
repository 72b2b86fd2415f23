//! Every place that takes an id: another tenant's object looks missing, another kind is no id.

mod objects;

use std::collections::BTreeSet;

use async_graphql::parser::types::{InputValueDefinition, TypeKind};
use musubi::actor::Actor;
use musubi::error::Lang;
use musubi::identity;
use musubi::ids::HoldId;
use serde_json::{Value, json};

use super::map::{self, Map, code, reply, target};
use crate::support::TestApp;
use crate::support::people::{Hotel, Person};

pub(crate) use objects::{a_block, a_card};
pub(super) use objects::{begin_session, buys_a_package, id_of, missing_id};

/// What an id may be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Account,
    Grant,
    Transaction,
    Reset,
    Execution,
    User,
    Tenant,
    Member,
    Invitation,
    Site,
    Key,
    Profile,
    Session,
    Block,
    Purchase,
    Card,
    /// Of everybody: packages, plans and prices belong to no tenant.
    Package,
    Plan,
    Price,
}

/// What is answered for an object that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// NOT_FOUND.
    Refused,
    /// Nothing: no entry of a list.
    Empty,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Admin,
    /// The ADMIN by a session, which alone can be moved to another tenant.
    InSession,
    Platform,
}

use Kind::{
    Account, Block, Card, Execution, Grant, Invitation, Key, Member, Package, Plan, Price, Profile,
    Purchase, Reset, Session, Site, Tenant, Transaction, User,
};
use Missing::{Empty, Refused};
use Who::{Admin, InSession, Platform};

/// A place that takes an id, and a document that puts `$id` there.
pub(super) type Place = (&'static str, &'static [Kind], Missing, Who, &'static str);

const EVERY_KIND: &[Kind] = &[
    Account,
    Grant,
    Transaction,
    Reset,
    Execution,
    User,
    Tenant,
    Member,
    Invitation,
    Site,
    Key,
    Profile,
    Session,
    Block,
    Purchase,
    Card,
    Package,
    Plan,
    Price,
];

pub(super) const PLACES: &[Place] = &[
    ("Query.node(id)", EVERY_KIND, Refused, Admin, "query ($id: ID!) { it: node(id: $id) { id } }"),
    (
        "Query.nodes(ids)",
        EVERY_KIND,
        Empty,
        Admin,
        "query ($id: ID!) { it: nodes(ids: [$id]) { id } }",
    ),
    (
        "Query.aiExecution(id)",
        &[Execution],
        Refused,
        Admin,
        "query ($id: ID!) { it: aiExecution(id: $id) { id } }",
    ),
    (
        "Query.aiExecutions(where.id)",
        &[Execution],
        Empty,
        Admin,
        "query ($id: ID!) { it: aiExecutions(where: { id: { eq: $id } }) { totalCount } }",
    ),
    (
        "Query.aiExecutions(where.userId)",
        &[User],
        Empty,
        Admin,
        "query ($id: ID!) { it: aiExecutions(where: { userId: { in: [$id] } }) { totalCount } }",
    ),
    (
        "Query.auditEvents(where.actorId)",
        &[User],
        Empty,
        Admin,
        "query ($id: ID!) { it: auditEvents(where: { actorId: { eq: $id } }) { totalCount } }",
    ),
    (
        "Query.auditEvents(where.apiKeyId)",
        &[Key],
        Empty,
        Admin,
        "query ($id: ID!) { it: auditEvents(where: { apiKeyId: { eq: $id } }) { totalCount } }",
    ),
    (
        "Query.auditEvents(where.entityId)",
        &[Execution, User, Tenant, Member, Invitation, Site, Key, Session, Package],
        Empty,
        Admin,
        "query ($id: ID!) { it: auditEvents(where: { entityId: { eq: $id } }) { totalCount } }",
    ),
    (
        "Query.auditExport(where.actorId)",
        &[User],
        Empty,
        Admin,
        "query ($id: ID!) {
            it: auditExport(format: CSV, where: { actorId: { eq: $id } }) { count } }",
    ),
    (
        "Query.auditExport(where.apiKeyId)",
        &[Key],
        Empty,
        Admin,
        "query ($id: ID!) {
            it: auditExport(format: CSV, where: { apiKeyId: { eq: $id } }) { count } }",
    ),
    (
        "Query.auditExport(where.entityId)",
        &[Execution, User, Tenant, Member, Invitation, Site, Key, Session, Package],
        Empty,
        Admin,
        "query ($id: ID!) {
            it: auditExport(format: CSV, where: { entityId: { eq: $id } }) { count } }",
    ),
    (
        "CreditAccount.transactions(where.id)",
        &[Transaction],
        Empty,
        Admin,
        "query ($id: ID!) { creditAccount {
            it: transactions(where: { id: { eq: $id } }) { totalCount } } }",
    ),
    (
        "CreditAccount.transactions(where.userId)",
        &[User],
        Empty,
        Admin,
        "query ($id: ID!) { creditAccount {
            it: transactions(where: { userId: { eq: $id } }) { totalCount } } }",
    ),
    (
        "CreditAccount.transactions(where.executionId)",
        &[Execution],
        Empty,
        Admin,
        "query ($id: ID!) { creditAccount {
            it: transactions(where: { executionId: { eq: $id } }) { totalCount } } }",
    ),
    (
        "Query.creditPurchase(id)",
        &[Purchase],
        Refused,
        Admin,
        "query ($id: ID!) { it: creditPurchase(id: $id) { id } }",
    ),
    (
        "Query.creditPurchaseQuote(packageId)",
        &[Package],
        Refused,
        Admin,
        "query ($id: ID!) { it: creditPurchaseQuote(packageId: $id) { taxRate } }",
    ),
    (
        "Query.creditPurchaseReceipt(purchaseId)",
        &[Purchase],
        Refused,
        Admin,
        "query ($id: ID!) { it: creditPurchaseReceipt(purchaseId: $id) { number } }",
    ),
    (
        "Query.creditPurchases(where.id)",
        &[Purchase],
        Empty,
        Admin,
        "query ($id: ID!) { it: creditPurchases(where: { id: { eq: $id } }) { totalCount } }",
    ),
    (
        "Query.creditPurchases(where.packageId)",
        &[Package],
        Empty,
        Admin,
        "query ($id: ID!) { it: creditPurchases(where: { packageId: { eq: $id } }) {
            totalCount } }",
    ),
    (
        "Mutation.creditPurchase(input.packageId)",
        &[Package],
        Refused,
        Admin,
        "mutation ($id: ID!) { it: creditPurchase(input: { packageId: $id, paymentMethod: STRIPE,
            stripePaymentMethodId: \"pm_card_visa\", idempotencyKey: \"a-package-of-nobody\" }) {
            purchase { id } userErrors { code } } }",
    ),
    (
        "Mutation.cardDefaultSet(id)",
        &[Card],
        Refused,
        Admin,
        "mutation ($id: ID!) { it: cardDefaultSet(id: $id) { card { id } userErrors { code } } }",
    ),
    (
        "Mutation.cardRemove(id)",
        &[Card],
        Refused,
        Admin,
        "mutation ($id: ID!) { it: cardRemove(id: $id) { card { id } userErrors { code } } }",
    ),
    (
        "Mutation.creditPurchase(input.storedCardId)",
        &[Card],
        Refused,
        Admin,
        "mutation ($id: ID!) { it: creditPurchase(input: { storedCardId: $id,
            packageId: \"package_01h455vb4pex5vsknk084sn02q\", paymentMethod: STORED_CARD,
            idempotencyKey: \"a-card-of-nobody\" }) { purchase { id } userErrors { code } } }",
    ),
    (
        "Mutation.creditPurchaseCancel(id)",
        &[Purchase],
        Refused,
        Admin,
        "mutation ($id: ID!) { it: creditPurchaseCancel(id: $id) {
            purchase { id } userErrors { code } } }",
    ),
    (
        "Mutation.creditPurchaseConfirm(id)",
        &[Purchase],
        Refused,
        Admin,
        "mutation ($id: ID!) { it: creditPurchaseConfirm(id: $id) {
            purchase { id } userErrors { code } } }",
    ),
    (
        "Subscription.creditPurchaseChanged(id)",
        &[Purchase],
        Refused,
        Admin,
        "subscription ($id: ID!) { it: creditPurchaseChanged(id: $id) { id } }",
    ),
    (
        "Mutation.aiExecute(input.metadata.userId)",
        &[User],
        Refused,
        Admin,
        "mutation ($id: ID!) { it: aiExecute(input: { functionType: CHATBOT,
            parameters: { input: \"こんにちは\" }, metadata: { userId: $id },
            idempotencyKey: \"for-somebody-else\" }) { execution { id } userErrors { code } } }",
    ),
    (
        "Mutation.aiExecutionStart(input.metadata.userId)",
        &[User],
        Refused,
        Admin,
        "mutation ($id: ID!) { it: aiExecutionStart(input: { functionType: CHATBOT,
            parameters: { input: \"こんにちは\" }, metadata: { userId: $id },
            idempotencyKey: \"for-somebody-else\" }) { execution { id } userErrors { code } } }",
    ),
    (
        "Mutation.aiExecutionCancel(id)",
        &[Execution],
        Refused,
        Admin,
        "mutation ($id: ID!) { it: aiExecutionCancel(id: $id) {
            execution { id } userErrors { code } } }",
    ),
    (
        "Mutation.creditBonusGrant(input.tenantId)",
        &[],
        Refused,
        Platform,
        "mutation ($id: ID!) { it: creditBonusGrant(input: { tenantId: $id, credits: 1,
            idempotencyKey: \"a-bonus-for-nobody\" }) { grant { id } userErrors { code } } }",
    ),
    (
        "Mutation.creditPurchaseRefund(input.tenantId)",
        &[Tenant],
        Refused,
        Platform,
        "mutation ($id: ID!, $purchase: ID!) { it: creditPurchaseRefund(input: { tenantId: $id,
            purchaseId: $purchase, idempotencyKey: \"money-to-others\" }) {
            refund { id } userErrors { code } } }",
    ),
    (
        "Mutation.creditPurchaseRefund(input.purchaseId)",
        &[Purchase],
        Refused,
        Platform,
        "mutation ($id: ID!, $tenant: ID!) { it: creditPurchaseRefund(input: { tenantId: $tenant,
            purchaseId: $id, idempotencyKey: \"money-of-others\" }) {
            refund { id } userErrors { code } } }",
    ),
    (
        "Mutation.creditRefund(input.tenantId)",
        &[Tenant],
        Refused,
        Platform,
        "mutation ($id: ID!, $execution: ID!) { it: creditRefund(input: { tenantId: $id,
            executionId: $execution, idempotencyKey: \"a-refund-to-others\" }) {
            transaction { id } userErrors { code } } }",
    ),
    (
        "Mutation.creditRefund(input.executionId)",
        &[Execution],
        Refused,
        Platform,
        "mutation ($id: ID!, $tenant: ID!) { it: creditRefund(input: { tenantId: $tenant,
            executionId: $id, idempotencyKey: \"a-refund-of-others\" }) {
            transaction { id } userErrors { code } } }",
    ),
    (
        "Mutation.creditPackageUpdate(input.id)",
        &[],
        Refused,
        Platform,
        "mutation ($id: ID!) { it: creditPackageUpdate(input: { id: $id, credits: 1 }) {
            package { id } userErrors { code } } }",
    ),
    (
        "Mutation.creditPackageRetire(input.id)",
        &[],
        Refused,
        Platform,
        "mutation ($id: ID!) { it: creditPackageRetire(input: { id: $id }) {
            package { id } userErrors { code } } }",
    ),
    (
        "Mutation.tenantPlanSet(input.tenantId)",
        &[],
        Refused,
        Platform,
        "mutation ($id: ID!) { it: tenantPlanSet(input: { tenantId: $id, planType: ESSENTIAL }) {
            account { id } userErrors { code } } }",
    ),
    (
        "Mutation.tenantRunningMaxSet(input.tenantId)",
        &[],
        Refused,
        Platform,
        "mutation ($id: ID!) { it: tenantRunningMaxSet(input: { tenantId: $id, runningMax: 5 }) {
            account { id } userErrors { code } } }",
    ),
    (
        "Mutation.tenantFunctionLimitSet(input.tenantId)",
        &[],
        Refused,
        Platform,
        "mutation ($id: ID!) {
            it: tenantFunctionLimitSet(input: { tenantId: $id, functionType: CHATBOT }) {
            functionLimit { perHour } userErrors { code } } }",
    ),
    (
        "Mutation.tenantClose(input.id)",
        &[Tenant],
        Refused,
        Admin,
        "mutation ($id: ID!) { it: tenantClose(input: { id: $id, slug: \"no-slug\" }) {
            tenant { id } userErrors { code } } }",
    ),
    (
        "Mutation.tenantSwitch(tenantId)",
        &[Tenant],
        Refused,
        InSession,
        "mutation ($id: ID!) { it: tenantSwitch(tenantId: $id) {
            tenant { id } userErrors { code } } }",
    ),
    (
        "Mutation.siteUpdate(input.id)",
        &[Site],
        Refused,
        Admin,
        "mutation ($id: ID!) { it: siteUpdate(input: { id: $id, name: \"mine\" }) {
            site { id } userErrors { code } } }",
    ),
    (
        "Mutation.siteRemove(id)",
        &[Site],
        Refused,
        Admin,
        "mutation ($id: ID!) { it: siteRemove(id: $id) { site { id } userErrors { code } } }",
    ),
    (
        "Mutation.membershipInvitationRevoke(id)",
        &[Invitation],
        Refused,
        Admin,
        "mutation ($id: ID!) { it: membershipInvitationRevoke(id: $id) {
            invitation { id } userErrors { code } } }",
    ),
    (
        "Mutation.membershipRoleChange(input.id)",
        &[Member],
        Refused,
        Admin,
        "mutation ($id: ID!) { it: membershipRoleChange(input: { id: $id, role: ADMIN }) {
            membership { id } userErrors { code } } }",
    ),
    (
        "Mutation.membershipRemove(input.id)",
        &[Member],
        Refused,
        Admin,
        "mutation ($id: ID!) { it: membershipRemove(input: { id: $id }) {
            membership { id } userErrors { code } } }",
    ),
    (
        "Mutation.anomalyBlockLift(id)",
        &[Block],
        Refused,
        Admin,
        "mutation ($id: ID!) { it: anomalyBlockLift(id: $id) { block { id }
            userErrors { code } } }",
    ),
    (
        "Mutation.apiKeyRevoke(id)",
        &[Key],
        Refused,
        Admin,
        "mutation ($id: ID!) { it: apiKeyRevoke(id: $id) { apiKey { id } userErrors { code } } }",
    ),
    (
        "Mutation.sessionEnd(id)",
        &[Session],
        Refused,
        Admin,
        "mutation ($id: ID!) { it: sessionEnd(id: $id) { ended userErrors { code } } }",
    ),
    (
        "Subscription.aiExecutionEvents(executionId)",
        &[Execution],
        Refused,
        Admin,
        "subscription ($id: ID!) { it: aiExecutionEvents(executionId: $id) { seq } }",
    ),
];

#[test]
fn every_place_that_takes_an_id_is_listed() {
    let map = Map::read();
    let mut found = BTreeSet::new();
    for ty in map.types() {
        for field in map::fields(ty) {
            let owner = format!("{}.{}", ty.name.node, field.name.node);
            for argument in &field.arguments {
                let mut steps = Vec::new();
                places(&map, &argument.node, &mut steps, &mut |path| {
                    found.insert(format!("{owner}({path})"));
                });
            }
        }
    }
    let listed = PLACES.iter().map(|(path, ..)| (*path).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(listed, found, "listed (left), in the schema (right)");
}

/// The paths of ids within an argument. Filters within filters are the same places again.
fn places<'a>(
    map: &'a Map,
    input: &'a InputValueDefinition,
    steps: &mut Vec<&'a str>,
    see: &mut impl FnMut(String),
) {
    let name = input.name.node.as_str();
    let kind = target(&input.ty.node);
    steps.push(name);
    match map.get(kind).map(|ty| &ty.kind) {
        None if kind == "ID" => see(steps.join(".")),
        Some(TypeKind::InputObject(_)) if kind == "IdFilter" => see(steps.join(".")),
        Some(TypeKind::InputObject(object)) if !matches!(name, "AND" | "OR" | "NOT") => {
            for field in &object.fields {
                places(map, &field.node, steps, see);
            }
        }
        Some(_) | None => {}
    }
    steps.pop();
}

/// Two hotels with a run and a purchase each, and the platform's admin.
struct Town {
    app: TestApp,
    own: Hotel,
    strange: Hotel,
    root: Person,
    execution: String,
    purchase: String,
    in_session: Actor,
}

impl Town {
    async fn build() -> Self {
        let app = TestApp::start().await;
        let own = app.hotel().await.with_credits(100).await;
        let strange = app.hotel().await.with_credits(100).await;
        own.user.executes("こんにちは", "their-first-run").await;
        strange.user.executes("こんにちは", "their-first-run").await;
        for hotel in [&own, &strange] {
            buys_a_package(&app, hotel).await;
        }
        let root = app.platform_admin(Some(own.id)).await;
        let execution = id_of(&app, &own, Execution).await;
        let purchase = id_of(&app, &own, Purchase).await;
        let session = begin_session(&app.app, own.admin.id, own.id).await;
        let in_session = identity::authenticate(&app.app, &session.access, Lang::En).await.unwrap();
        Self { app, own, strange, root, execution, purchase, in_session }
    }

    /// The answer, and the statements that it took.
    async fn ask(&self, place: &Place, id: &str) -> (Value, u64) {
        let (_, _, _, who, document) = place;
        let actor = match who {
            Admin => &self.own.admin.actor,
            InSession => &self.in_session,
            Platform => &self.root.actor,
        };
        let mut variables = json!({ "id": id });
        if document.contains("$execution") {
            variables["execution"] = json!(self.execution);
        }
        if document.contains("$purchase") {
            variables["purchase"] = json!(self.purchase);
        }
        if document.contains("$tenant") {
            variables["tenant"] = json!(self.own.id.to_string());
        }
        let before = self.app.app.db.statements();
        let answer = reply(&self.app, Some(actor.clone()), document, variables).await;
        (answer, self.app.app.db.statements() - before)
    }
}

#[tokio::test]
async fn a_strangers_object_looks_missing_everywhere() {
    let town = Town::build().await;
    for place in PLACES {
        let (path, kinds, missing, ..) = place;
        for kind in *kinds {
            let nobodys = missing_id(*kind);
            // The first time may open what is opened on first use.
            town.ask(place, &nobodys).await;
            let for_nobodys = town.ask(place, &nobodys).await;
            if *missing == Refused {
                assert_eq!(code(&for_nobodys.0), "NOT_FOUND", "{path}: {kind:?}");
            } else {
                assert_eq!(code(&for_nobodys.0), "OK", "{path}: {}", for_nobodys.0);
            }
            if !matches!(kind, Package | Plan | Price) {
                let theirs = id_of(&town.app, &town.strange, *kind).await;
                let for_theirs = town.ask(place, &theirs).await;
                assert_eq!(for_theirs, for_nobodys, "{path}: {kind:?} (answer and statements)");
            }
        }
    }
    // What belongs to nobody is missing for the platform's admin alone.
    for place in PLACES.iter().filter(|(_, kinds, ..)| kinds.is_empty()) {
        let kind = if place.0.contains("tenantId") { Tenant } else { Package };
        let (answer, _) = town.ask(place, &missing_id(kind)).await;
        assert_eq!(code(&answer), "NOT_FOUND", "{}: {answer}", place.0);
    }
}

#[tokio::test]
async fn an_id_of_another_kind_is_refused_without_a_question() {
    let town = Town::build().await;
    for place in PLACES {
        // Nothing that anybody may ask for has holds' ids.
        for id in [HoldId::new().to_string(), "no-id".to_owned(), String::new()] {
            let (answer, _) = town.ask(place, &id).await;
            assert_eq!(code(&answer), "INVALID_ID", "{} with {id:?}: {answer}", place.0);
        }
    }
}

#[tokio::test]
async fn ones_own_objects_are_found_by_their_ids() {
    let town = Town::build().await;
    let query = "query ($id: ID!) { it: node(id: $id) { id __typename } }";
    for kind in &EVERY_KIND[..EVERY_KIND.len() - 3] {
        let kind = *kind;
        let id = id_of(&town.app, &town.own, kind).await;
        let answer = town.own.admin.gets(query, json!({ "id": id })).await;
        assert_eq!(answer["it"]["id"], id.as_str(), "{kind:?}");
    }
}
