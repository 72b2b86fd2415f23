//! What goes back: GraphQL's JSON with `data` only when fields were executed, and refusals of the
//! transport in the same shape.
//!
//! A refusal of the transport is read by those who write clients, so its message is English.

use std::borrow::Cow;
use std::collections::BTreeMap;

use async_graphql::{ErrorExtensionValues, ServerError, Value};
use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde::Serialize;

use crate::error::{Code, Details, Error, Lang};
use crate::http::envelope::RequestId;
use crate::http::overload::Full;

/// When to try again after a part that we need did not answer.
const RETRY_SECONDS: u32 = 2;

/// Whether an answer has data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// Fields were executed: `data` is present, be it null.
    Executed,
    /// Nothing was executed: there is no `data`.
    Refused,
}

/// A GraphQL response as JSON. The library's own would always say `"data": null`.
#[derive(Serialize)]
pub(super) struct Body<'a> {
    #[serde(skip_serializing_if = "<[ServerError]>::is_empty")]
    errors: &'a [ServerError],
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extensions: &'a BTreeMap<String, Value>,
}

impl<'a> Body<'a> {
    pub(super) fn new(response: &'a async_graphql::Response, extent: Extent) -> Self {
        let data = (extent == Extent::Executed).then_some(&response.data);
        Self { errors: &response.errors, data, extensions: &response.extensions }
    }
}

/// A GraphQL error with our code and the request's id.
pub(super) fn graphql_error(code: &str, message: &str, request_id: &str) -> ServerError {
    let mut extensions = ErrorExtensionValues::default();
    extensions.set("code", code);
    extensions.set("requestId", request_id);
    let mut error = ServerError::new(message, None);
    error.extensions = Some(extensions);
    error
}

/// Tells the client when to try again.
pub(super) fn set_retry_after(error: &mut ServerError, seconds: u32) {
    let extensions = error.extensions.get_or_insert_default();
    extensions.set("retryAfterMs", u64::from(seconds) * 1000);
}

/// When to try again, where the error knows it; never 0.
pub(super) fn retry_after_seconds(error: &Error) -> u32 {
    match error {
        Error::Refused(refusal) => match refusal.details() {
            Details::RateLimited { retry_after_ms, .. } => {
                let seconds = retry_after_ms.saturating_add(999) / 1_000;
                u32::try_from(seconds).unwrap_or(u32::MAX).max(1)
            }
            Details::None
            | Details::InsufficientCredits { .. }
            | Details::StaleVersion { .. }
            | Details::SuspiciousActivity { .. } => RETRY_SECONDS,
        },
        _ => RETRY_SECONDS,
    }
}

/// The error that stands for one of ours.
pub(super) fn our_error(error: &Error, lang: Lang, request_id: &str) -> ServerError {
    graphql_error(error.code().as_str(), &error.message(lang), request_id)
}

/// A request that the transport itself refuses.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: Cow<'static, str>,
    header: Option<Box<(HeaderName, HeaderValue)>>,
    retry_after_seconds: Option<u32>,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        let message = message.into();
        Self { status, code, message, header: None, retry_after_seconds: None }
    }

    fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.header = Some(Box::new((name, HeaderValue::from_static(value))));
        self
    }

    /// The request is not of the form that the protocol asks for.
    pub(super) fn malformed(message: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", message)
    }

    /// Another site's page sent the request.
    pub(super) fn origin() -> Self {
        let message = "Requests from this origin are not allowed.";
        Self::new(StatusCode::FORBIDDEN, Code::Forbidden.as_str(), message)
    }

    /// There is nothing at this path.
    pub(super) fn not_found() -> Self {
        let message = "There is nothing at this path.";
        Self::new(StatusCode::NOT_FOUND, Code::NotFound.as_str(), message)
    }

    /// The path does not know this method.
    pub(super) fn method() -> Self {
        let message = "This path does not take this method.";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message)
    }

    /// GraphQL is not spoken in this method.
    pub(super) fn graphql_method() -> Self {
        Self::method().with(header::ALLOW, "GET, POST")
    }

    /// A GET must not change anything.
    pub(super) fn mutation_over(method: &Method) -> Self {
        let message = format!("Mutations travel by POST, not by {method}.");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message)
            .with(header::ALLOW, "POST")
    }

    /// None of the media types that the client accepts is ours.
    pub(super) fn not_acceptable() -> Self {
        let message = "Accept application/graphql-response+json or application/json \
            (a GET must name one of them).";
        Self::new(StatusCode::NOT_ACCEPTABLE, "NOT_ACCEPTABLE", message)
    }

    /// The body is not JSON by its own account.
    pub(super) fn media_type() -> Self {
        let message = "Send the request as application/json in UTF-8, not compressed.";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", message)
            .with(header::ACCEPT, "application/json")
    }

    /// The body is too long.
    pub(super) fn too_large() -> Self {
        let message = "The body is too large.";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", message)
    }

    /// The body did not arrive in time. Retrying on this connection would not help.
    pub(super) fn too_slow() -> Self {
        let message = "The body did not arrive in time.";
        Self::new(StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", message)
            .with(header::CONNECTION, "close")
    }

    /// A fault of ours.
    pub(super) fn internal(lang: Lang) -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(status, Code::Internal.as_str(), Error::broken("internal").message(lang))
    }

    /// Who the caller is could not be established.
    pub(super) fn sign_in(error: &Error, lang: Lang) -> Self {
        let code = error.code();
        let message = error.message(lang);
        match code {
            Code::Unauthenticated => Self::new(StatusCode::UNAUTHORIZED, code.as_str(), message)
                .with(header::WWW_AUTHENTICATE, r#"Bearer realm="musubi", error="invalid_token""#),
            Code::Unavailable | Code::Timeout => {
                let refusal = Self::new(StatusCode::SERVICE_UNAVAILABLE, code.as_str(), message);
                Self { retry_after_seconds: Some(RETRY_SECONDS), ..refusal }
            }
            // `authenticate` says nothing else; if it does, that is a fault of ours.
            _ => {
                tracing::error!(%error, "Somebody could not come in: {error}");
                Self::internal(lang)
            }
        }
    }

    /// What a service says, outside GraphQL.
    pub(super) fn of(error: &Error, lang: Lang) -> Self {
        let code = error.code();
        let status = match code {
            Code::Unauthenticated | Code::Unavailable | Code::Timeout | Code::Internal => {
                return Self::sign_in(error, lang);
            }
            Code::Forbidden | Code::SuspiciousActivity => StatusCode::FORBIDDEN,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Code::PaymentFailed => StatusCode::PAYMENT_REQUIRED,
            Code::IdempotencyConflict
            | Code::StaleVersion
            | Code::InsufficientCredits
            | Code::FunctionUnavailable
            | Code::ModelUnavailable
            | Code::InvalidState
            | Code::LimitReached => StatusCode::CONFLICT,
            Code::InvalidId | Code::InvalidInput => StatusCode::BAD_REQUEST,
        };
        Self::new(status, code.as_str(), error.message(lang))
    }

    /// The browser holds the session of somebody else, which the page did not say to replace.
    pub(super) fn other_person(lang: Lang) -> Self {
        let message = lang.pick(
            "このブラウザーでは別のユーザーがサインインしています。",
            "Somebody else is signed in in this browser.",
        );
        Self::new(StatusCode::CONFLICT, "SIGNED_IN_AS_ANOTHER", message)
    }

    /// The address has asked too often.
    pub(super) fn too_often(lang: Lang) -> Self {
        let message = lang.pick(
            "リクエストが多すぎます。しばらくしてからお試しください。",
            "Too many requests. Please try again later.",
        );
        let refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, Code::RateLimited.as_str(), message);
        Self { retry_after_seconds: Some(60), ..refusal }
    }

    /// The status of the answer.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// Too much runs at once.
    pub(super) fn overload(full: Full, lang: Lang) -> Self {
        let error = Error::Unavailable("room");
        let message = error.message(lang);
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let refusal = Self::new(status, error.code().as_str(), message);
        Self { retry_after_seconds: Some(full.retry_after_seconds), ..refusal }
    }

    /// The answer, in the shape of a GraphQL error.
    pub(super) fn reply(self, id: &RequestId) -> Response {
        let mut error = graphql_error(self.code, &self.message, id.as_str());
        if let Some(seconds) = self.retry_after_seconds {
            set_retry_after(&mut error, seconds);
        }
        let response = async_graphql::Response::from_errors(vec![error]);
        let body = to_json(&Body::new(&response, Extent::Refused));
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/json; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, json);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(header) = self.header {
            let (name, value) = *header;
            headers.insert(name, value);
        }
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// JSON text. What we serialise has no map keys but strings, so it cannot fail.
pub(super) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| {
        tracing::error!(%error, "An answer could not be serialised: {error}");
        r#"{"errors":[{"message":"Internal error","extensions":{"code":"INTERNAL"}}]}"#.to_owned()
    })
}
