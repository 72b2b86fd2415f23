//! Coming in: links, sessions, hand-overs, keys, and whose pages may ask.

mod documents;
mod doors;
pub(crate) mod links;
mod providers;
mod removals;
mod sessions;
mod sockets;
mod tokens;

use chrono::TimeDelta;
use musubi::db;
use musubi::entity::session::SignInWay;
use musubi::entity::site::Character;
use musubi::entity::{site, tenant};
use musubi::external::mail::Mail;
use musubi::identity::sign_in::session::{self, NewSession, Tokens, Visitor};
use musubi::ids::{SiteId, TenantId, UserId};
use musubi::queue;
use sea_orm::{EntityTrait, IntoActiveModel};
use serde_json::{Value, json};

use crate::http::stage::eventually;
use crate::http::{Reply, exchange, request};
use crate::support::{TestApp, TestServer};

const JSON: (&str, &str) = ("content-type", "application/json");

/// Posts JSON to a path, with further headers.
async fn post(server: &TestServer, path: &str, body: Value, headers: &[(&str, &str)]) -> Reply {
    let headers = [&[JSON], headers].concat();
    exchange(server, &request("POST", path, &headers, body.to_string().as_bytes())).await
}

async fn get(server: &TestServer, path: &str, headers: &[(&str, &str)]) -> Reply {
    exchange(server, &request("GET", path, headers, b"")).await
}

/// Posts the form of one of our pages.
async fn press(server: &TestServer, path: &str, token: &str) -> Reply {
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("origin", "http://musubi.test"),
        ("sec-fetch-site", "same-origin"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ];
    exchange(server, &request("POST", path, &headers, format!("token={token}").as_bytes())).await
}

/// The value of a cookie that an answer sets.
fn cookie(reply: &Reply) -> String {
    let header = reply.header("set-cookie").unwrap();
    assert!(header.starts_with("__Host-musubi="), "{header}");
    for word in ["Path=/", "Secure", "HttpOnly", "SameSite=Strict"] {
        assert!(header.contains(word), "{header} lacks {word}");
    }
    header.split(';').next().unwrap().split_once('=').unwrap().1.to_owned()
}

/// A session of somebody, begun as a proof of an address would.
async fn begin(app: &TestApp, user: UserId, tenant: Option<TenantId>) -> Tokens {
    let mut txn = app.app.db.begin().await.unwrap();
    let visitor = Visitor { device: "Firefox · Linux".to_owned(), ..Visitor::default() };
    let new = NewSession { user, tenant, parent: None, visitor, way: SignInWay::Email };
    let tokens = session::begin(&app.app, &mut txn, new).await.unwrap();
    txn.commit().await.unwrap();
    tokens
}

/// Two sites of one tenant: `a.test` and `b.test`. With an open door, newcomers become members.
async fn two_sites(app: &TestApp, tenant: TenantId, is_open: bool) {
    let now = app.app.clock.db_now();
    let mut txn = app.app.db.begin().await.unwrap();
    for (character, domain) in [(Character::Yuya, "a.test"), (Character::Aoba, "b.test")] {
        let row = site::Model {
            id: SiteId::new(),
            tenant_id: tenant,
            character,
            name: domain.to_owned(),
            domain: domain.to_owned(),
            origins: json!([format!("https://{domain}"), format!("https://api.{domain}")]),
            version: 1,
            created_at: now,
            updated_at: now,
        };
        site::Entity::insert(row.into_active_model()).exec_without_returning(&*txn).await.unwrap();
    }
    let policy =
        if is_open { tenant::MembershipPolicy::Open } else { tenant::MembershipPolicy::InviteOnly };
    let sql = "UPDATE tenants SET membership_policy = $2 WHERE id = $1";
    db::execute(&*txn, sql, vec![tenant.into(), policy.as_str().into()]).await.unwrap();
    musubi::events::announce(&mut txn, musubi::events::Event::SitesChanged);
    txn.commit().await.unwrap();
}

/// All mails to one address so far, the oldest first, after whatever waits was sent.
pub(crate) async fn mails_to(app: &TestApp, address: &str) -> Vec<Mail> {
    let parts = queue::Parts::from(&app.app);
    while queue::work_once(&parts, &app.app, &[musubi::mail::HANDLER]).await.unwrap() > 0 {}
    app.outbox.mails().into_iter().filter(|mail| mail.to == address).collect()
}

/// The first mail to an address, which another worker may be sending.
pub(crate) async fn mail_to(app: &TestApp, address: &str) -> Mail {
    eventually(async || mails_to(app, address).await.into_iter().next()).await
}

/// The token in a mail's link.
pub(crate) fn token_of(mail: &Mail) -> String {
    let (_, rest) = mail.text.split_once("token=").unwrap_or_else(|| panic!("no link"));
    rest.split_whitespace().next().unwrap().to_owned()
}

fn minutes(count: i64) -> TimeDelta {
    TimeDelta::minutes(count)
}

/// Whether a token lets its bearer see who they are.
async fn is_let_in(server: &TestServer, token: &str) -> bool {
    let bearer = format!("Bearer {token}");
    let body = json!({ "query": "{ viewer { user { id } } }" });
    let reply = post(server, "/graphql", body, &[("authorization", &bearer)]).await;
    if reply.status == 401 {
        return false;
    }
    assert_eq!(reply.status, 200);
    !reply.json()["data"]["viewer"].is_null()
}
