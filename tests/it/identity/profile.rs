//! One's own profile and sessions, and going on in another tenant.

use std::sync::Arc;

use chrono::TimeDelta;
use musubi::actor::Role;
use musubi::entity::session::SignInWay;
use musubi::identity;
use musubi::identity::sign_in::session::{self, NewSession, Visitor};
use serde_json::{Value, json};

use super::{begins, is_refused, refusal, top, with};
use crate::support::TestApp;
use crate::support::people::Person;

const PROFILE: &str = "{ viewer { profile { id name locale displayName bio websiteUrl
    twitterHandle discordId preferredCharacter subscriptionTier totalSpent { amount currency }
    lastActivity marketingConsent version } } }";
const UPDATE: &str = "mutation ($input: ProfileUpdateInput!) { profileUpdate(input: $input) {
    profile { id name displayName bio twitterHandle preferredCharacter marketingConsent version }
    userErrors { code field message } } }";
const SESSIONS: &str = "{ viewer { sessions { id device way isCurrent } } }";
const END: &str = "mutation ($id: ID!) { sessionEnd(id: $id) { ended userErrors { code } } }";
const SWITCH: &str = "mutation ($id: ID!) { tenantSwitch(tenantId: $id) {
    accessToken expiresAt tenant { id } userErrors { code } } }";

#[tokio::test]
async fn a_profile_is_made_on_first_use_and_what_is_left_out_stays() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let update = async |input: Value| {
        hotel.user.gets(UPDATE, json!({ "input": input })).await["profileUpdate"].clone()
    };

    let first = hotel.user.gets(PROFILE, json!({})).await["viewer"]["profile"].clone();
    let told = update(json!({ "name": "春子", "displayName": "ハル", "bio": "温泉が好き",
        "twitterHandle": "@haruko", "preferredCharacter": "AOBA", "marketingConsent": true,
        "expectedVersion": 1 }))
    .await;
    let less = update(json!({ "bio": null, "expectedVersion": 2 })).await;
    let stale = update(json!({ "bio": "古い", "expectedVersion": 2 })).await;

    assert_eq!(first["totalSpent"], json!({ "amount": "0", "currency": "JPY" }));
    assert_eq!((&first["version"], &first["subscriptionTier"]), (&json!(1), &json!("FREE")));
    assert_eq!(told["profile"]["id"], first["id"], "{told}");
    let expected = json!({ "id": first["id"], "name": "春子", "displayName": "ハル", "bio": null,
        "twitterHandle": "haruko", "preferredCharacter": "AOBA", "marketingConsent": true,
        "version": 3 });
    assert_eq!(less["profile"], expected);
    assert_eq!(refusal(&stale), "STALE_VERSION", "{stale}");
    let colleague = "query ($id: ID!) { node(id: $id) { id } }";
    let by_admin = hotel.admin.asks(colleague, json!({ "id": first["id"] })).await;
    assert_eq!(top(&by_admin), "NOT_FOUND", "{by_admin}");
}

#[tokio::test]
async fn a_profile_with_bad_values_names_each_of_them() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let input = json!({ "name": "", "locale": "fr", "bio": "あ".repeat(2_001),
        "websiteUrl": "http://example.test", "twitterHandle": "no handle", "discordId": "12" });

    let refused = hotel.user.gets(UPDATE, json!({ "input": input })).await;

    let errors = refused["profileUpdate"]["userErrors"].as_array().unwrap();
    let fields: Vec<_> = errors.iter().map(|error| error["field"][1].as_str().unwrap()).collect();
    let all = ["name", "locale", "bio", "websiteUrl", "twitterHandle", "discordId"];
    assert_eq!(fields, all, "{refused}");
}

#[tokio::test]
async fn a_session_that_its_owner_ends_lets_nobody_in() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let (here, there) =
        (begins(&app, hotel.user.id, hotel.id).await, begins(&app, hotel.user.id, hotel.id).await);
    let theirs = begins(&app, hotel.admin.id, hotel.id).await;
    let me = with(&app, &hotel.user, &here.access).await;

    let listed = me.gets(SESSIONS, json!({})).await;
    let ended = me.gets(END, json!({ "id": there.session.id.to_string() })).await;
    let foreign = me.gets(END, json!({ "id": theirs.session.id.to_string() })).await;
    let after = (is_refused(&app, &there.access).await, is_refused(&app, &here.access).await);
    let all = me.gets("mutation { sessionEndAll { ended userErrors { code } } }", json!({})).await;

    let listed = listed["viewer"]["sessions"].as_array().unwrap().clone();
    let current: Vec<_> = listed.iter().filter(|session| session["isCurrent"] == true).collect();
    assert_eq!((listed.len(), current.len()), (2, 1));
    assert_eq!(current[0]["id"], here.session.id.to_string());
    assert_eq!(ended["sessionEnd"]["ended"], 1);
    assert_eq!(refusal(&foreign["sessionEnd"]), "NOT_FOUND");
    assert_eq!(after, (true, false));
    assert_eq!(all["sessionEndAll"]["ended"], 1);
    assert!(is_refused(&app, &here.access).await);
    assert!(!is_refused(&app, &theirs.access).await);
}

#[tokio::test]
async fn a_member_of_two_tenants_goes_on_in_the_other() {
    let app = TestApp::start().await;
    let (home, away, strange) = (app.hotel().await, app.hotel().await, app.hotel().await);
    let txn = app.app.db.begin().await.unwrap();
    let now = app.clock.db_now();
    identity::add_member(&txn, (away.id, home.user.id), Role::Manager, now).await.unwrap();
    txn.commit().await.unwrap();
    let session = begins(&app, home.user.id, home.id).await;
    let me = with(&app, &home.user, &session.access).await;
    let places = "{ viewer { memberships { role tenant { id } } } }";

    let listed = me.gets(places, json!({})).await;
    let switched = me.gets(SWITCH, json!({ "id": away.id.to_string() })).await;
    let refused = me.gets(SWITCH, json!({ "id": strange.id.to_string() })).await;
    let by_token = home.user.asks(SWITCH, json!({ "id": away.id.to_string() })).await;

    let expected = json!([
        { "role": "USER", "tenant": { "id": home.id.to_string() } },
        { "role": "MANAGER", "tenant": { "id": away.id.to_string() } },
    ]);
    assert_eq!(listed["viewer"]["memberships"], expected);
    let switched = &switched["tenantSwitch"];
    assert_eq!(switched["tenant"]["id"], away.id.to_string(), "{switched}");
    let me = with(&app, &me, switched["accessToken"].as_str().unwrap()).await;
    assert_eq!((me.actor.tenant_id, me.actor.role), (Some(away.id), Some(Role::Manager)));
    assert_eq!(refusal(&refused["tenantSwitch"]), "NOT_FOUND");
    assert_eq!(top(&by_token), "FORBIDDEN", "a token without a session cannot move one");
}

#[tokio::test]
async fn activity_is_written_down_as_sessions_go_on_and_at_most_every_ten_minutes() {
    let app = TestApp::start().await;
    let hotel = app.hotel().await;
    let seen = async || {
        let profile = hotel.user.gets(PROFILE, json!({})).await["viewer"]["profile"].clone();
        assert_eq!(profile["version"], 1, "it is no change of what they tell");
        profile["lastActivity"].clone()
    };
    assert!(seen().await.is_null());
    let mut tokens = begins(&app, hotel.user.id, hotel.id).await;
    assert_eq!(seen().await, "2026-11-21T03:00:00Z");
    for (minutes, expected) in
        [(5, "03:00"), (4, "03:00"), (1, "03:10"), (9, "03:10"), (15, "03:34")]
    {
        app.clock.advance(TimeDelta::minutes(minutes));
        tokens = session::renew(&app.app, &tokens.refresh, &Arc::default()).await.unwrap();
        assert_eq!(seen().await, format!("2026-11-21T{expected}:00Z"));
    }
    app.clock.advance(TimeDelta::minutes(30));
    begins(&app, hotel.admin.id, hotel.id).await;
    assert_eq!(seen().await, "2026-11-21T03:34:00Z", "others are no concern of theirs");
    let update = json!({ "input": { "bio": "温泉が好き" } });
    hotel.user.gets(UPDATE, update).await;
    let after = hotel.user.gets(PROFILE, json!({})).await["viewer"]["profile"].clone();
    assert_eq!(after["lastActivity"], "2026-11-21T03:34:00Z", "a change of theirs leaves it");
}

#[tokio::test]
async fn an_admin_sees_when_members_were_active_here_and_others_see_themselves() {
    let app = TestApp::start().await;
    let (home, away) = (app.hotel().await, app.hotel().await);
    let txn = app.app.db.begin().await.unwrap();
    let now = app.clock.db_now();
    identity::add_member(&txn, (away.id, home.support.id), Role::User, now).await.unwrap();
    txn.commit().await.unwrap();
    let members = "{ viewer { tenant { members { nodes { role lastActivityAt } } } } }";
    let seen = async |person: &Person, role: &str| {
        let listed = person.gets(members, json!({})).await;
        let nodes = listed["viewer"]["tenant"]["members"]["nodes"].as_array().unwrap().clone();
        nodes.into_iter().find(|node| node["role"] == role).unwrap()["lastActivityAt"].clone()
    };
    begins(&app, home.support.id, home.id).await;
    app.clock.advance(TimeDelta::hours(1));
    begins(&app, home.admin.id, home.id).await;
    let mut txn = app.app.db.begin().await.unwrap();
    let elsewhere = NewSession {
        user: home.support.id,
        tenant: Some(away.id),
        parent: None,
        visitor: Visitor::default(),
        way: SignInWay::Email,
    };
    session::begin(&app.app, &mut txn, elsewhere).await.unwrap();
    txn.commit().await.unwrap();

    assert_eq!(seen(&home.admin, "SUPPORT").await, "2026-11-21T03:00:00Z", "here, not elsewhere");
    assert_eq!(seen(&home.admin, "ADMIN").await, "2026-11-21T04:00:00Z");
    assert!(seen(&home.admin, "USER").await.is_null(), "they never came");
    assert_eq!(seen(&home.support, "SUPPORT").await, "2026-11-21T03:00:00Z");
    assert!(seen(&home.support, "ADMIN").await.is_null());
    assert!(seen(&home.manager, "SUPPORT").await.is_null());
}
