//! Who may come in: browser origins, and bearer tokens.

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri};

use axum::response::{IntoResponse, Response};

use crate::actor::{Actor, Source};
use crate::app::App;
use crate::audit::{self, Action, Attempt};
use crate::error::{Error, Lang};
use crate::http::Shared;
use crate::http::documents::Sender;
use crate::http::perimeter::canonical;
use crate::http::reply::Refusal;
use crate::identity;
use crate::identity::origins::Place;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
/// How long a browser may remember that a listed origin may come.
const PREFLIGHT_SECONDS: &str = "600";

/// Where a request that may come in comes from.
#[derive(Debug)]
pub(super) enum Origin {
    /// Our own pages, or no browser at all.
    Own,
    /// A listed origin; its browser must be told so.
    Listed {
        /// As the browser wrote it.
        value: HeaderValue,
        /// The site whose page it is; none for those of `ALLOWED_ORIGINS`.
        site: Option<Arc<Place>>,
    },
}

/// Refuses what other sites' pages send. Tokens travel in headers that such pages cannot set, so
/// this guards what is open to anonymous callers, and WebSockets, for which browsers do not ask.
pub(super) fn check_origin(
    shared: &Shared,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Origin, Refusal> {
    let config = &shared.app().config;
    let is_cross_site = headers.get(SEC_FETCH_SITE).is_some_and(|site| site == "cross-site");
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let origin = match (origins.next(), origins.next()) {
        (None, _) if is_cross_site => return Err(Refusal::origin()),
        (None, _) => return Ok(Origin::Own),
        (Some(origin), None) => origin,
        (Some(_), Some(_)) => return Err(Refusal::origin()),
    };
    let text = origin.to_str().map_err(|_| Refusal::origin())?;
    // Our own origin is nobody's site, whatever a tenant wrote.
    let is_ours = is_same_origin(&config.public_url, text);
    let site = shared.perimeter().site(text).filter(|_| !is_ours);
    if site.is_some() || config.allowed_origins.iter().any(|it| is_same_origin(it, text)) {
        return Ok(Origin::Listed { value: origin.clone(), site });
    }
    let is_own = is_ours || is_at_host(text, uri, headers);
    if is_own && !is_cross_site { Ok(Origin::Own) } else { Err(Refusal::origin()) }
}

/// Answers the question that a browser asks before it sends a listed origin's request.
pub(super) fn preflight(method: &Method, headers: &HeaderMap, origin: &Origin) -> Option<Response> {
    let is_question =
        method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let Origin::Listed { .. } = origin else { return None };
    is_question.then(|| {
        let answers = [
            (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
            (
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                "authorization, content-type, accept-language, x-request-id",
            ),
            (header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS),
        ];
        (StatusCode::NO_CONTENT, answers).into_response()
    })
}

/// Tells the browser of a listed origin that it may read the answer.
pub(super) fn add_cors(response: &mut Response, origin: &Origin) {
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Origin::Listed { value, .. } = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, value.clone());
        // The refresh token's cookie; everything else goes by headers.
        let credentials = HeaderValue::from_static("true");
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, credentials);
        let exposed = HeaderValue::from_static("x-request-id, retry-after");
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}

/// Who sends these headers; nobody when there is no `Authorization`.
pub(super) async fn sign_in(
    app: &App,
    headers: &HeaderMap,
    lang: Lang,
) -> Result<Option<Actor>, Error> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let value = value.to_str().map_err(|_| Error::Unauthenticated)?;
            sign_in_with(app, value, lang).await.map(Some)
        }
        (Some(_), Some(_)) => Err(Error::Unauthenticated),
    }
}

/// Notes in the audit record that a bad credential was shown.
pub(super) fn note_refused(app: &App, error: &Error, source: &Arc<Source>) {
    if let Error::Unauthenticated = error {
        let action = Action::CredentialRefused;
        audit::attempt(
            app,
            Attempt { action, what: "/graphql", actor: None, tenant: None, source },
        );
    }
}

/// Who says `Bearer …`. Anything else is refused, lest a typing error make a caller anonymous.
pub(super) async fn sign_in_with(app: &App, value: &str, lang: Lang) -> Result<Actor, Error> {
    let token = bearer(value).ok_or(Error::Unauthenticated)?;
    identity::authenticate(app, token, lang).await
}

/// The token in `Bearer TOKEN` (RFC 6750 §2.1; the scheme in any case, as RFC 9110 §11.1 has it).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    let is_token = !token.is_empty()
        && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte));
    (scheme.eq_ignore_ascii_case("bearer") && is_token).then_some(token)
}

/// Whether two addresses are of one origin. Browsers leave the default port out.
fn is_same_origin(url: &str, origin: &str) -> bool {
    let own = canonical(url);
    own.is_some() && own == canonical(origin)
}

/// Whether the origin is the very host that the request was sent to.
fn is_at_host(origin: &str, uri: &Uri, headers: &HeaderMap) -> bool {
    let named = origin.split_once("://").map(|(_, authority)| authority.to_ascii_lowercase());
    named.is_some() && named == host(uri, headers)
}

/// The host that the request was sent to, in lower case.
pub(super) fn host(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    // HTTP/2 names the host in the address.
    let host = host.or_else(|| uri.authority().map(|authority| authority.as_str()));
    host.map(str::to_ascii_lowercase)
}

/// Whether the browser opens a page: somebody followed a link.
pub(super) fn is_navigation(headers: &HeaderMap) -> bool {
    headers.get(SEC_FETCH_MODE).is_some_and(|mode| mode == "navigate")
        && !headers.contains_key(header::ORIGIN)
}

/// Whether a page or a program sends it. Browsers name the origin or the site of their pages.
pub(super) fn sender(headers: &HeaderMap) -> Sender {
    let is_page = headers.contains_key(header::ORIGIN) || headers.contains_key(SEC_FETCH_SITE);
    if is_page { Sender::Browser } else { Sender::Program }
}

/// Whether an address is one of ours, or of a page that may come.
pub(super) fn is_listed(shared: &Shared, address: &str) -> bool {
    let config = &shared.app().config;
    is_same_origin(&config.public_url, address)
        || shared.perimeter().site(address).is_some()
        || config.allowed_origins.iter().any(|listed| is_same_origin(listed, address))
}
