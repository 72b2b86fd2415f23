//! Signing in and out over HTTP. Browsers keep the refresh token in a cookie that no script reads
//! and no other site sends; other clients carry it in the body. Access tokens are in answers only.
//!
//! | Path | Takes | Answers |
//! |---|---|---|
//! | `POST /auth/email` | `{ email, returnTo }` | 202, known or not; a mail with a link |
//! | `GET /auth/email?token=` | | a page with a button: mail scanners follow links |
//! | `POST /auth/email/confirm` | the button; or JSON `{ token }` | cookie, way on; or tokens |
//! | `GET /auth/discord`, `/auth/github` | `?returnTo=`; `&link` links | the provider's page |
//! | `GET /auth/{provider}/callback` | `?code=&state=` | a cookie and a way on |
//! | `POST /auth/refresh` | the cookie; or JSON `{ refreshToken }` | an access token |
//! | `POST /auth/sign-out` | cookie, `{ refreshToken }` or bearer | 204 |
//! | `POST /auth/hand-over/begin` | from the target's page | a cookie, `{ challenge }` |
//! | `POST /auth/hand-over` | bearer, `{ target, consent, challenge }` | `{ code, url }` |
//! | `POST /auth/hand-over/redeem` | `{ code, replace, unbound }`, there | cookie, access token |
//! | `GET`, `POST /auth/invitation` | `?token=`; the button | a page; a cookie and a way on |
//! | `GET /.well-known/jwks.json` | | the keys that verify access tokens |

mod cookie;
mod email;
mod hand_over;
mod invitation;
mod page;
mod provider;
mod session;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use crate::actor::{Permission, Source};
use crate::audit::{self, Action, Attempt};
use crate::error::Lang;
use crate::graphql::engine::OperationKind;
use crate::http::access::{self, Origin};
use crate::http::client;
use crate::http::envelope::{self, RequestId};
use crate::http::reply::{self, Refusal};
use crate::http::{Shared, body};
use crate::identity;
use crate::identity::origins::Place;
use crate::identity::sign_in::session::{self as sessions, Tokens, Visitor};
use crate::ids::TenantId;
use crate::limits;
use crate::limits::table::Limit;
use crate::limits::who::Who;

/// The longest body that is read here, in bytes.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// The paths that have no name of a provider in them.
const PATHS: &[&str] = &[
    "/auth/email",
    "/auth/email/confirm",
    "/auth/refresh",
    "/auth/sign-out",
    "/auth/hand-over",
    "/auth/hand-over/begin",
    "/auth/hand-over/redeem",
    "/auth/invitation",
];

/// All routes of signing in.
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/auth/email", any(|s, r| visit(s, r, &[Method::GET, Method::POST], email::answer)))
        .route("/auth/email/confirm", any(|s, r| visit(s, r, &[Method::POST], email::confirm)))
        .route("/auth/{provider}", any(|s, r| visit(s, r, &[Method::GET], provider::begin)))
        .route(
            "/auth/{provider}/callback",
            any(|s, r| visit(s, r, &[Method::GET], provider::come_back)),
        )
        .route("/auth/refresh", any(|s, r| visit(s, r, &[Method::POST], session::refresh)))
        .route("/auth/sign-out", any(|s, r| visit(s, r, &[Method::POST], session::sign_out)))
        .route("/auth/hand-over", any(|s, r| visit(s, r, &[Method::POST], hand_over::create)))
        .route("/auth/hand-over/begin", any(|s, r| visit(s, r, &[Method::POST], hand_over::begin)))
        .route(
            "/auth/hand-over/redeem",
            any(|s, r| visit(s, r, &[Method::POST], hand_over::redeem)),
        )
        .route(
            "/auth/invitation",
            any(|s, r| visit(s, r, &[Method::GET, Method::POST], invitation::answer)),
        )
        .route("/.well-known/jwks.json", get(jwks))
}

/// An access token for the platform admin whose cookie came along; none for anybody else.
pub(super) async fn admin_access(shared: &Shared, headers: &HeaderMap) -> Option<String> {
    let app = shared.app();
    let access = sessions::access_by(app, cookie::SESSION.read(headers)?).await.ok()?;
    let actor = identity::authenticate(app, &access, Lang::default()).await.ok()?;
    actor.may(Permission::Platform).then_some(access)
}

/// A request to one of these paths.
struct Visit {
    shared: Shared,
    parts: Parts,
    /// The site whose page sent it.
    site: Option<Arc<Place>>,
    lang: Lang,
    body: Bytes,
    /// For the record.
    source: Arc<Source>,
}

/// Judges where a request comes from, reads its body, and adds what every answer here carries.
async fn visit<F, W>(
    State(shared): State<Shared>,
    request: Request,
    methods: &'static [Method],
    answer: F,
) -> Response
where
    F: FnOnce(Visit) -> W,
    W: Future<Output = Result<Response, Refusal>>,
{
    let (parts, body) = request.into_parts();
    let id = RequestId::of(&parts.extensions);
    // People come back from a provider, and from their mail, by following a link.
    let is_link = parts.method == Method::GET && access::is_navigation(&parts.headers);
    let origin = match access::check_origin(&shared, &parts.uri, &parts.headers) {
        Ok(origin) => origin,
        Err(_) if is_link => Origin::Own,
        Err(refusal) => return refusal.reply(&id),
    };
    if let Some(mut response) = access::preflight(&parts.method, &parts.headers, &origin) {
        access::add_cors(&mut response, &origin);
        return response;
    }
    let response = respond(shared, (parts, body), &origin, methods, answer).await;
    let mut response = response.unwrap_or_else(|refusal| refusal.reply(&id));
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, no_store);
    access::add_cors(&mut response, &origin);
    response
}

async fn respond<F, W>(
    shared: Shared,
    (parts, body): (Parts, Body),
    origin: &Origin,
    methods: &'static [Method],
    answer: F,
) -> Result<Response, Refusal>
where
    F: FnOnce(Visit) -> W,
    W: Future<Output = Result<Response, Refusal>>,
{
    if !methods.contains(&parts.method) {
        return Err(Refusal::method());
    }
    let lang = envelope::lang(&parts.headers);
    let _place = shared
        .room()
        .for_operation(OperationKind::Query)
        .map_err(|full| Refusal::overload(full, lang))?;
    let timeout = shared.limits().body_timeout;
    let body = body::read(body, &parts.headers, (BODY_BYTES_MAX, timeout)).await?.freeze();
    let site = match origin {
        Origin::Own => None,
        Origin::Listed { site, .. } => site.clone(),
    };
    let source = client::source(&shared, &parts, &RequestId::of(&parts.extensions));
    let visit = Visit { shared, parts, site, lang, body, source };
    let visitor = Refused::of(&visit);
    let is_attempt = visit.parts.method == Method::POST && !visit.has_own_secret();
    let counted = if is_attempt { visit.count(Limit::SignInTries).await } else { Ok(()) };
    let response = match counted {
        Ok(()) => answer(visit).await,
        Err(refusal) => Err(refusal),
    };
    let status = response.as_ref().map_or_else(Refusal::status, Response::status);
    visitor.note(status);
    response
}

/// What the audit record says of somebody who did not come in.
struct Refused {
    shared: Shared,
    source: Arc<Source>,
    tenant: Option<TenantId>,
    /// The path as we name it; none when nothing was shown that could be refused.
    path: Option<&'static str>,
}

impl Refused {
    fn of(visit: &Visit) -> Self {
        let parts = &visit.parts;
        // A page asks for a token before it knows whether anybody is signed in.
        let is_shown = parts.method == Method::GET
            || !visit.body.is_empty()
            || visit.session_cookie().is_some()
            || parts.headers.contains_key(header::AUTHORIZATION);
        let named = PATHS.iter().find(|path| **path == parts.uri.path()).copied();
        let path = named.unwrap_or("/auth/{provider}");
        Self {
            shared: visit.shared.clone(),
            source: Arc::clone(&visit.source),
            tenant: visit.site.as_ref().map(|site| site.tenant),
            path: is_shown.then_some(path),
        }
    }

    fn note(&self, status: StatusCode) {
        let action = match status {
            StatusCode::TOO_MANY_REQUESTS => Action::RateLimited,
            StatusCode::BAD_REQUEST
            | StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::CONFLICT
            | StatusCode::GONE
            | StatusCode::UNPROCESSABLE_ENTITY => Action::SignInRefused,
            _ => return,
        };
        let Some(what) = self.path else { return };
        let (tenant, source) = (self.tenant, &self.source);
        audit::attempt(self.shared.app(), Attempt { action, what, actor: None, tenant, source });
    }
}

impl Visit {
    /// The body as a JSON object; empty when there is none.
    fn json(&self) -> Result<Map<String, Value>, Refusal> {
        if self.body.is_empty() {
            return Ok(Map::new());
        }
        if !self.is_json() {
            return Err(Refusal::media_type());
        }
        let parsed = serde_json::from_slice(&self.body);
        parsed.map_err(|_| Refusal::malformed("The body is not a JSON object."))
    }

    fn is_json(&self) -> bool {
        let kind = self.parts.headers.get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        kind.split(';').next().is_some_and(|kind| kind.trim() == "application/json")
    }

    /// A text of the query, or of the page's form.
    fn query(&self, name: &str) -> Option<String> {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(&self.parts.uri).ok()?;
        pairs.0.into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// A token in the page's form. Our tokens have no letter that a form would escape.
    fn form_token(&self) -> Option<&str> {
        let text = std::str::from_utf8(&self.body).ok()?;
        text.split('&').find_map(|pair| pair.strip_prefix("token="))
    }

    /// Whether the path asks for a secret that cannot be guessed at the expense of others: a
    /// session's own.
    fn has_own_secret(&self) -> bool {
        ["/auth/refresh", "/auth/sign-out"].contains(&self.parts.uri.path())
    }

    /// Counts a try against what the sender's address may.
    async fn count(&self, limit: Limit) -> Result<(), Refusal> {
        let app = self.shared.app();
        let Some(address) = client::sender(&self.shared, &self.parts) else { return Ok(()) };
        let taken = limits::service::take(app, &Who::address(app, Some(address)), limit, 1).await;
        taken.map_err(|_| Refusal::too_often(self.lang))
    }

    /// The refresh token in the cookie, where the page may use it: our own pages and those of
    /// `ALLOWED_ORIGINS`, and a site's pages at the site's own host of ours.
    fn session_cookie(&self) -> Option<&str> {
        let is_own = match self.site.as_deref() {
            None => true,
            site @ Some(_) => self.base_of(site) != self.shared.app().config.public_url,
        };
        cookie::SESSION.read(&self.parts.headers).filter(|_| is_own)
    }

    fn visitor(&self) -> Visitor {
        let source = Arc::clone(&self.source);
        Visitor { device: client::device(&self.parts.headers), source }
    }

    /// Our own scheme and host, as the browser knows them: one of the site's origins that is in
    /// `ALLOWED_ORIGINS`, too, when the request was sent to it; or `PUBLIC_URL`. Never what a
    /// header, or a tenant, alone says: tokens are sent there.
    fn base(&self) -> String {
        self.base_of(self.site.as_deref())
    }

    /// The same where the site is known otherwise than by the origin.
    fn base_of(&self, site: Option<&Place>) -> String {
        let config = &self.shared.app().config;
        let host = access::host(&self.parts.uri, &self.parts.headers);
        let is_asked = |origin: &&String| {
            let authority = origin.split_once("://").map(|(_, authority)| authority);
            authority.is_some_and(|authority| Some(authority) == host.as_deref())
        };
        // Tenants write their sites' origins themselves; operators write the others.
        let is_approved = |origin: &&String| config.allowed_origins.contains(origin);
        let of_site = site.and_then(|site| site.origins.iter().filter(is_approved).find(is_asked));
        of_site.unwrap_or(&config.public_url).clone()
    }

    /// The address if a browser may be sent there: ours, or a page of a site.
    fn way_on(&self, address: Option<&str>) -> Option<String> {
        let address = address?;
        let is_ours = access::is_listed(&self.shared, address);
        (is_ours && address.len() <= 2_048).then(|| address.to_owned())
    }

    /// Where a browser goes when nobody said: the site that asked, or our own front.
    fn home(&self) -> String {
        let site = self.site.as_ref().and_then(|site| site.origins.first());
        site.map_or_else(|| format!("{}/", self.shared.app().config.public_url), Clone::clone)
    }
}

/// An access token for a client; its refresh token, too, when that is not in the cookie.
fn tokens_body(tokens: &Tokens, is_in_cookie: bool, now: chrono::DateTime<chrono::Utc>) -> Value {
    let mut body = json!({
        "accessToken": tokens.access,
        "tokenType": "Bearer",
        "expiresAt": tokens.access_ends_at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        "expiresIn": (tokens.access_ends_at - now).num_seconds(),
        "sessionId": tokens.session.id.to_string(),
    });
    if !is_in_cookie && let Some(members) = body.as_object_mut() {
        members.insert("refreshToken".to_owned(), tokens.refresh.clone().into());
    }
    body
}

fn json_answer(status: StatusCode, body: &Value) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
    (status, kind, reply::to_json(body)).into_response()
}

/// The keys that verify access tokens, the signing one first (RFC 7517, RFC 8037).
async fn jwks(State(shared): State<Shared>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/jwk-set+json"),
        (header::CACHE_CONTROL, "public, max-age=300"),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    ];
    (headers, reply::to_json(&shared.app().tokens.jwks())).into_response()
}
