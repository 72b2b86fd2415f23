//! What surrounds every request: its id, its span, headers that every answer carries, and the end
//! of a panic.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::FutureExt;
use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Extensions, HeaderMap};
use tracing::Instrument;

use crate::error::Lang;
use crate::http::reply::Refusal;
use crate::ids::new_uuid;

/// The header that carries a request's id both ways.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// An id from outside may be so long at most; a longer one is replaced.
const REQUEST_ID_LENGTH_MAX: usize = 64;

/// A request's id: in the answer's header, in errors and in the log.
#[derive(Clone, Debug)]
pub(super) struct RequestId(Arc<str>);

impl RequestId {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The id that [`wrap`] gave to the request.
    pub(super) fn of(extensions: &Extensions) -> Self {
        extensions.get::<Self>().cloned().unwrap_or_else(Self::new)
    }

    fn new() -> Self {
        Self(new_uuid().simple().to_string().into())
    }

    /// Takes the id that a proxy or a client chose, if it is safe to log.
    fn choose(headers: &HeaderMap) -> Self {
        let is_safe = |id: &&str| {
            !id.is_empty()
                && id.len() <= REQUEST_ID_LENGTH_MAX
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(is_safe);
        given.map_or_else(Self::new, |id| Self(id.into()))
    }
}

impl<S: Sync> FromRequestParts<S> for RequestId {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.extensions))
    }
}

/// Names the request, answers a panic with 500 and adds the headers that every answer carries.
pub(super) async fn wrap(mut request: Request, next: Next) -> Response {
    let id = RequestId::choose(request.headers());
    request.extensions_mut().insert(id.clone());
    let span = tracing::info_span!(
        "request",
        request.id = id.as_str(),
        method = %request.method(),
        path = request.uri().path(),
    );
    let handled = AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span.clone());
    let mut response = match handled.await {
        Ok(response) => response,
        Err(_) => {
            span.in_scope(|| tracing::error!("A handler panicked"));
            Refusal::internal(Lang::default()).reply(&id)
        }
    };
    add_headers(response.headers_mut(), &id);
    response
}

/// Browsers that came over TLS once come so for a year (RFC 6797).
pub(super) async fn stay_secure(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let year = HeaderValue::from_static("max-age=31536000; includeSubDomains");
    response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, year);
    response
}

/// The language that the caller prefers.
pub(super) fn lang(headers: &HeaderMap) -> Lang {
    let header = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    header.map_or_else(Lang::default, Lang::from_accept_language)
}

fn add_headers(headers: &mut HeaderMap, id: &RequestId) {
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        headers.insert(REQUEST_ID, value);
    }
    let always = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, value) in always {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::REFERRER_POLICY).or_insert(HeaderValue::from_static("no-referrer"));
    // Pages bring their own policy; anything else has nothing to load and nobody to frame it.
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
}
