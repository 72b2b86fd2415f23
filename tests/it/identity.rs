//! Tenants and people: who belongs where, what they may change, and what ends when they go.

mod keys;
mod masks;
mod members;
mod profile;
mod tenants;

use musubi::entity::session::SignInWay;
use musubi::error::{Error, Lang};
use musubi::identity::sign_in::session::{self, NewSession, Tokens, Visitor};
use musubi::identity::{self, NewUser};
use musubi::ids::{TenantId, UserId, new_uuid};
use serde_json::Value;

use crate::support::TestApp;
use crate::support::people::Person;

/// The code of the first refusal of a payload; `OK` when there is none.
fn refusal(payload: &Value) -> &str {
    payload["userErrors"][0]["code"].as_str().unwrap_or("OK")
}

/// The code at the top level.
fn top(reply: &Value) -> &str {
    reply["errors"][0]["extensions"]["code"].as_str().unwrap_or("OK")
}

/// A session that a person began in a tenant.
async fn begins(app: &TestApp, user: UserId, tenant: TenantId) -> Tokens {
    let mut txn = app.app.db.begin().await.unwrap();
    let new = NewSession {
        user,
        tenant: None,
        parent: None,
        visitor: Visitor { device: "Firefox · Linux".to_owned(), ..Visitor::default() },
        way: SignInWay::Email,
    };
    let tokens = session::begin(&app.app, &mut txn, new).await.unwrap();
    txn.commit().await.unwrap();
    assert_eq!(tokens.session.tenant_id, Some(tenant), "their usual one");
    tokens
}

/// The same person, let in by another bearer credential.
async fn with(app: &TestApp, person: &Person, bearer: &str) -> Person {
    let actor = identity::authenticate(&app.app, bearer, Lang::En).await.unwrap();
    person.acting_as(actor)
}

/// Whether a bearer credential lets nobody in.
async fn is_refused(app: &TestApp, bearer: &str) -> bool {
    let actor = identity::authenticate(&app.app, bearer, Lang::En).await;
    matches!(actor, Err(Error::Unauthenticated))
}

/// Somebody with an address and no tenant.
async fn newcomer(app: &TestApp) -> (UserId, String) {
    let email = format!("new-{}@example.test", new_uuid().simple());
    let txn = app.app.db.begin().await.unwrap();
    let new = NewUser { name: "新人", email: &email, is_platform_admin: false };
    let user = identity::create_user(&app.app, &txn, new, app.app.clock.db_now()).await.unwrap();
    txn.commit().await.unwrap();
    (user.id, email)
}
