//! Members: invited, given roles, removed; the last ADMIN stays whoever is quicker.

use std::sync::Arc;

use chrono::TimeDelta;
use futures_util::future::join_all;
use musubi::actor::Role;
use musubi::identity;
use musubi::identity::service::invitation::{self, Invite};
use musubi::ids::UserId;
use serde_json::{Value, json};

use super::{begins, is_refused, newcomer, refusal, top};
use crate::support::TestApp;
use crate::support::people::{Hotel, Person};

const INVITE: &str = "mutation ($input: MembershipInviteInput!) { membershipInvite(input: $input) {
    invitation { id email role expiresAt invitedBy { id } } userErrors { code field message } } }";
const WITHDRAW: &str = "mutation ($id: ID!) { membershipInvitationRevoke(id: $id) {
    invitation { id revokedAt } userErrors { code } } }";
const CHANGE: &str = "mutation ($input: MembershipRoleChangeInput!) {
    membershipRoleChange(input: $input) {
        membership { id role version } userErrors { __typename code } } }";
const REMOVE: &str = "mutation ($id: ID!) { membershipRemove(input: { id: $id }) {
    membership { id } userErrors { code } } }";
const MEMBERS: &str = "query ($where: MembershipWhere) { viewer { tenant {
    members(where: $where) { totalCount nodes { id role version user { id email } } } } } }";
const INVITATIONS: &str = "{ viewer { tenant { invitations { totalCount nodes { id email } } } } }";

/// The id of somebody's membership.
pub(super) async fn place(hotel: &Hotel, user: UserId) -> Value {
    let members = hotel.admin.gets(MEMBERS, json!({})).await;
    let nodes = members["viewer"]["tenant"]["members"]["nodes"].as_array().unwrap().clone();
    let mine = nodes.into_iter().find(|node| node["user"]["id"] == user.to_string());
    mine.unwrap()["id"].clone()
}

async fn changes(by: &Person, id: &Value, role: &str) -> Value {
    let input = json!({ "id": id, "role": role });
    by.gets(CHANGE, json!({ "input": input })).await["membershipRoleChange"].clone()
}

/// Invites by the service, as only that answers the mail with its token.
async fn token_for(app: &TestApp, hotel: &Hotel, email: &str, role: Role) -> String {
    let invite = Invite { email: email.to_owned(), role };
    let invited = invitation::invite(&app.app, &hotel.admin.actor, invite).await.unwrap();
    assert_eq!(invited.mail.to, email);
    let (_, token) = invited.mail.text.split_once("token=").unwrap();
    token.split_whitespace().next().unwrap().to_owned()
}

async fn accepts(app: &TestApp, token: &str, user: UserId) -> musubi::error::Result<Role> {
    let mut txn = app.app.db.begin().await.unwrap();
    let accepted =
        identity::accept_invitation(&app.app, &mut txn, token, (user, &Arc::default())).await;
    match accepted {
        Ok((_, role)) => txn.commit().await.map(|()| role),
        Err(error) => Err(error),
    }
}

#[tokio::test]
async fn somebody_invited_becomes_a_member_once() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let (user, email) = newcomer(&app).await;
    let (other, _) = newcomer(&app).await;
    let old = token_for(&app, &hotel, &email, Role::User).await;
    let token = token_for(&app, &hotel, &email, Role::Manager).await;

    let open = hotel.admin.gets(INVITATIONS, json!({})).await;
    let by_old = accepts(&app, &old, user).await;
    let role = accepts(&app, &token, user).await.unwrap();
    let again = accepts(&app, &token, other).await;
    let after = hotel.admin.gets(INVITATIONS, json!({})).await;
    let invite = json!({ "input": { "email": email.to_uppercase(), "role": "USER" } });
    let member = hotel.admin.gets(INVITE, invite).await;

    let open = &open["viewer"]["tenant"]["invitations"];
    assert_eq!((&open["totalCount"], &open["nodes"][0]["email"]), (&json!(1), &json!(email)));
    assert!(by_old.is_err() && again.is_err(), "an old token and a used one are over");
    assert_eq!(role, Role::Manager);
    assert!(identity::is_member(&app.app, hotel.id, user).await.unwrap());
    assert!(!identity::is_member(&app.app, hotel.id, other).await.unwrap());
    assert_eq!(after["viewer"]["tenant"]["invitations"]["totalCount"], 0);
    assert_eq!(refusal(&member["membershipInvite"]), "INVALID_STATE", "{member}");
}

#[tokio::test]
async fn an_invitation_is_over_after_seven_days_or_when_it_is_withdrawn() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let (user, email) = newcomer(&app).await;
    let late = token_for(&app, &hotel, &email, Role::User).await;
    app.clock.advance(TimeDelta::days(7) + TimeDelta::seconds(1));
    let too_late = accepts(&app, &late, user).await;
    let token = token_for(&app, &hotel, &email, Role::User).await;
    let open = hotel.admin.asks(INVITATIONS, json!({})).await;
    let id = json!({ "id": open["data"]["viewer"]["tenant"]["invitations"]["nodes"][0]["id"] });

    let withdrawn = hotel.admin.gets(WITHDRAW, id.clone()).await;
    let again = hotel.admin.gets(WITHDRAW, id).await;
    let refused = accepts(&app, &token, user).await;

    assert!(too_late.is_err() && refused.is_err());
    assert!(withdrawn["membershipInvitationRevoke"]["invitation"]["revokedAt"].is_string());
    assert_eq!(again, withdrawn);
}

#[tokio::test]
async fn no_answer_of_the_api_holds_the_token_of_an_invitation() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let input = json!({ "input": { "email": "guest@example.test", "role": "SUPPORT" } });

    let invited = hotel.admin.gets(INVITE, input.clone()).await["membershipInvite"].clone();
    let by_manager = hotel.manager.asks(INVITE, input).await;
    let bad = json!({ "input": { "email": "no address", "role": "SUPPORT" } });
    let bad = hotel.admin.gets(INVITE, bad).await["membershipInvite"].clone();

    assert_eq!(invited["invitation"]["email"], "guest@example.test", "{invited}");
    assert_eq!(invited["invitation"]["invitedBy"]["id"], hotel.admin.id.to_string());
    assert!(!invited.to_string().contains("minv_"));
    assert!(!musubi::graphql::schema::sdl().contains("invitationToken"));
    assert_eq!(top(&by_manager), "FORBIDDEN");
    assert_eq!(bad["userErrors"][0]["field"], json!(["input", "email"]));
}

#[tokio::test]
async fn members_are_listed_with_masked_addresses_and_given_roles() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let support = json!({ "where": { "role": { "eq": "SUPPORT" } } });
    let mine = place(&hotel, hotel.user.id).await;

    let listed = hotel.support.gets(MEMBERS, json!({})).await;
    let only = hotel.manager.gets(MEMBERS, support).await;
    let by_user = hotel.user.asks(MEMBERS, json!({})).await;
    let changed = changes(&hotel.admin, &mine, "MANAGER").await;
    let stale = json!({ "input": { "id": mine, "role": "USER", "expectedVersion": 1 } });
    let stale = hotel.admin.gets(CHANGE, stale).await["membershipRoleChange"].clone();

    let listed = &listed["viewer"]["tenant"]["members"];
    assert_eq!(listed["totalCount"], 4);
    let admin = listed["nodes"].as_array().unwrap().iter().find(|node| node["role"] == "ADMIN");
    let email = admin.unwrap()["user"]["email"].as_str().unwrap();
    assert!(email.starts_with("ad***@hotel-"), "{email}");
    assert_eq!(only["viewer"]["tenant"]["members"]["totalCount"], 1);
    assert_eq!(top(&by_user), "FORBIDDEN");
    assert_eq!(
        (&changed["membership"]["role"], &changed["membership"]["version"]),
        (&json!("MANAGER"), &json!(2))
    );
    assert_eq!(refusal(&stale), "STALE_VERSION", "{stale}");
    let ledger = hotel.user.asks("{ creditAccount { usage { dailyUsage { date } } } }", json!({}));
    assert_eq!(top(&ledger.await), "FORBIDDEN", "an actor keeps the rights that it was read with");
    let now = identity::authenticate(&app.app, &hotel.user.token, musubi::error::Lang::En);
    assert_eq!(now.await.unwrap().role, Some(Role::Manager));
}

#[tokio::test]
async fn the_last_admin_stays_and_anybody_else_may_leave() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let admin = place(&hotel, hotel.admin.id).await;
    let user = place(&hotel, hotel.user.id).await;
    let support = place(&hotel, hotel.support.id).await;
    let session = begins(&app, hotel.user.id, hotel.id).await;

    let demoted = changes(&hotel.admin, &admin, "USER").await;
    let left = hotel.admin.gets(REMOVE, json!({ "id": admin })).await;
    let by_user = hotel.user.gets(REMOVE, json!({ "id": support })).await;
    let gone = hotel.user.gets(REMOVE, json!({ "id": user })).await;

    assert_eq!(refusal(&demoted), "INVALID_STATE", "{demoted}");
    assert_eq!(refusal(&left["membershipRemove"]), "INVALID_STATE", "{left}");
    assert_eq!(refusal(&by_user["membershipRemove"]), "NOT_FOUND", "{by_user}");
    assert_eq!(gone["membershipRemove"]["membership"]["id"], user);
    assert!(is_refused(&app, &session.access).await);
    assert!(is_refused(&app, &hotel.user.token).await, "who left acts no more in the tenant");
}

#[tokio::test]
async fn two_admins_who_demote_each_other_leave_one() {
    let app = TestApp::start().await;
    let nodes = [app.app.clone(), app.replica().await];
    for _ in 0..5 {
        let hotel = app.hotel().await;
        let (one, two) =
            (place(&hotel, hotel.admin.id).await, place(&hotel, hotel.manager.id).await);
        changes(&hotel.admin, &two, "ADMIN").await;
        let second =
            identity::authenticate(&app.app, &hotel.manager.token, musubi::error::Lang::En);
        let second = hotel.manager.acting_as(second.await.unwrap());
        let (first, second) = (hotel.admin.on(&nodes[0]), second.on(&nodes[1]));

        let payloads =
            join_all([changes(&first, &two, "USER"), changes(&second, &one, "USER")]).await;

        let done = payloads.iter().filter(|payload| refusal(payload) == "OK").count();
        assert_eq!(done, 1, "{payloads:?}");
        let admins = json!({ "where": { "role": { "eq": "ADMIN" } } });
        let left = hotel.admin.gets(MEMBERS, admins).await;
        assert_eq!(left["viewer"]["tenant"]["members"]["totalCount"], 1);
    }
}
