//! Whoever was taken out of a tenant stays out until they are invited again.

use std::sync::Arc;

use futures_util::future::join;
use musubi::actor::Role;
use musubi::app::App;
use musubi::entity::linked_account::Provider;
use musubi::entity::membership;
use musubi::entity::tenant::MembershipPolicy;
use musubi::error::{Error, Lang};
use musubi::external::oauth::Identity;
use musubi::identity;
use musubi::identity::service::invitation::{self, Invite};
use musubi::identity::service::member::{self, KeysOfGone};
use musubi::identity::service::tenant::{self, TenantChange};
use musubi::identity::sign_in::link::{self, LinkRequest};
use musubi::identity::sign_in::session::{Tokens, Visitor};
use musubi::identity::sign_in::{invitation as invitations, provider};
use musubi::ids::{TenantId, UserId};

use super::{mails_to, minutes, token_of};
use crate::support::TestApp;
use crate::support::people::{Hotel, Person};

const FAN: &str = "fan@example.test";

/// A hotel whose door is open.
async fn open_hotel(app: &TestApp) -> Hotel {
    let hotel = app.hotel().await;
    let change =
        TenantChange { membership_policy: Some(MembershipPolicy::Open), ..TenantChange::default() };
    tenant::update(&app.app, &hotel.admin.actor, change).await.unwrap();
    hotel
}

/// Who the provider says that somebody is.
pub(super) fn identity_of(id: &str) -> Identity {
    Identity {
        provider_account_id: id.to_owned(),
        name: "花子".to_owned(),
        email: None,
        is_email_verified: false,
        scope: "read:user".to_owned(),
    }
}

/// Asks for a link on the tenant's site; answers its token, or the whole mail that has none.
async fn link_for(app: &TestApp, email: &str, tenant: TenantId) -> Result<String, String> {
    // Links are counted within a quarter of an hour.
    app.clock.advance(minutes(20));
    let asked = LinkRequest {
        email,
        tenant: Some(tenant),
        base: "https://musubi.test",
        return_to: None,
        lang: Lang::En,
    };
    link::request(&app.app, asked).await.unwrap();
    let mail = mails_to(app, email).await.pop().unwrap();
    if mail.text.contains("token=") { Ok(token_of(&mail)) } else { Err(mail.text) }
}

async fn come_in(app: &TestApp, email: &str, tenant: TenantId) -> musubi::error::Result<Tokens> {
    let token = link_for(app, email, tenant).await.unwrap();
    let redeemed = link::redeem(&app.app, &token, Visitor::default()).await;
    redeemed.map(|(tokens, _)| tokens)
}

async fn place_of(app: &App, tenant: TenantId, user: UserId) -> Option<membership::Model> {
    let place = membership::Entity::of_tenant_and_user(tenant, user);
    place.one(app.db.primary()).await.unwrap()
}

/// The hotel's MANAGER, an ADMIN by now.
pub(super) async fn promoted(app: &TestApp, hotel: &Hotel) -> Person {
    let place = place_of(&app.app, hotel.id, hotel.manager.id).await.unwrap();
    let change = (place.id, Role::Admin);
    member::change_role(&app.app, &hotel.admin.actor, change, None).await.unwrap();
    let actor = identity::authenticate(&app.app, &hotel.manager.token, Lang::En).await.unwrap();
    hotel.manager.acting_as(actor)
}

/// An ADMIN takes somebody out.
pub(super) async fn takes_out(app: &App, hotel: &Hotel, user: UserId) {
    let place = place_of(app, hotel.id, user).await.unwrap();
    member::remove(app, &hotel.admin.actor, (place.id, KeysOfGone::End)).await.unwrap();
}

fn told(error: &Error) -> (String, String, &'static str) {
    (error.message(Lang::Ja), error.message(Lang::En), error.code().as_str())
}

#[tokio::test]
async fn who_was_taken_out_of_an_open_tenant_comes_back_by_an_invitation_only() {
    let app = TestApp::start().await;
    let hotel = open_hotel(&app).await;
    let first = come_in(&app, FAN, hotel.id).await.unwrap();
    let fan = first.session.user_id;
    let linked = identity_of("77");
    provider::link(&app.app, (fan, &Arc::default()), Provider::Github, &linked).await.unwrap();
    takes_out(&app.app, &hotel, fan).await;

    let by_mail = come_in(&app, FAN, hotel.id).await.err().unwrap();
    let by_provider = provider::sign_in(
        &app.app,
        Provider::Github,
        &linked,
        (Some(hotel.id), Visitor::default()),
    )
    .await;
    let by_provider = by_provider.err().unwrap();
    let outside = place_of(&app.app, hotel.id, fan).await;
    let stranger = {
        let closed = app.hotel().await;
        come_in(&app, FAN, closed.id).await.err().unwrap()
    };
    assert_eq!(told(&by_mail), told(&stranger), "no more than a stranger is told");
    assert_eq!(told(&by_provider), told(&stranger));
    assert!(outside.is_none(), "and nothing stays of the try");

    let invite = Invite { email: FAN.to_owned(), role: Role::Support };
    let invited = invitation::invite(&app.app, &hotel.admin.actor, invite).await.unwrap();
    assert!(come_in(&app, FAN, hotel.id).await.is_err(), "it has to be taken first");
    let token = token_of(&invited.mail);
    let back = invitations::accept(&app.app, &token, Visitor::default()).await.unwrap();
    assert_eq!((back.session.user_id, back.session.confined_to), (fan, Some(hotel.id)));
    assert_eq!(place_of(&app.app, hotel.id, fan).await.unwrap().role, Role::Support);
    come_in(&app, FAN, hotel.id).await.expect("the mark is lifted for good");
}

#[tokio::test]
async fn who_left_by_themselves_comes_back_by_the_open_door() {
    let app = TestApp::start().await;
    let hotel = open_hotel(&app).await;
    for _ in 0..2 {
        let tokens = come_in(&app, FAN, hotel.id).await.unwrap();
        let actor = identity::authenticate(&app.app, &tokens.access, Lang::En).await.unwrap();
        let place = place_of(&app.app, hotel.id, actor.user_id).await.unwrap();
        member::remove(&app.app, &actor, (place.id, KeysOfGone::End)).await.unwrap();
    }
    // A removal is one tenant's.
    let elsewhere = open_hotel(&app).await;
    let fan = come_in(&app, FAN, elsewhere.id).await.unwrap().session.user_id;
    takes_out(&app.app, &elsewhere, fan).await;
    come_in(&app, FAN, hotel.id).await.expect("this door is open still");
}

#[tokio::test]
async fn a_person_who_comes_in_while_they_are_taken_out_is_out() {
    let app = TestApp::start().await;
    let there = app.replica().await;
    let hotel = open_hotel(&app).await;
    for round in 0..10 {
        let email = format!("fan-{round}@example.test");
        let fan = come_in(&app, &email, hotel.id).await.unwrap().session.user_id;
        let token = link_for(&app, &email, hotel.id).await.unwrap();
        let tries = join(
            takes_out(&app.app, &hotel, fan),
            link::redeem(&there, &token, Visitor::default()),
        );
        let (_, tried) = tries.await;
        assert!(place_of(&app.app, hotel.id, fan).await.is_none(), "round {round}");
        if let Ok((tokens, _)) = tried {
            let actor = identity::authenticate(&app.app, &tokens.access, Lang::En).await;
            assert!(actor.is_err(), "round {round}: a session of nobody here");
        }
    }
}
