//! Staying signed in, and signing out.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::Value;

use crate::actor::Actor;
use crate::error::Error;
use crate::http::access;
use crate::http::auth::{Visit, cookie, json_answer, tokens_body};
use crate::http::envelope::RequestId;
use crate::http::reply::Refusal;
use crate::identity::sign_in::session;

/// A new access token for a refresh token.
pub(super) async fn refresh(visit: Visit) -> Result<Response, Refusal> {
    let app = visit.shared.app();
    let body = visit.json()?;
    let carried = body.get("refreshToken").and_then(Value::as_str);
    let in_cookie = visit.session_cookie();
    let is_in_cookie = carried.is_none();
    let token = carried.or(in_cookie).unwrap_or_default();
    match session::renew(app, token, &visit.source).await {
        Ok(tokens) => {
            let body = tokens_body(&tokens, is_in_cookie, app.clock.now());
            let mut response = json_answer(StatusCode::OK, &body);
            if is_in_cookie {
                cookie::SESSION.set(&mut response, &tokens.refresh);
            }
            Ok(response)
        }
        Err(error) => {
            let is_over = matches!(error, Error::Unauthenticated);
            let id = RequestId::of(&visit.parts.extensions);
            let mut response = Refusal::sign_in(&error, visit.lang).reply(&id);
            if is_over && is_in_cookie && in_cookie.is_some() {
                cookie::SESSION.clear(&mut response);
            }
            Ok(response)
        }
    }
}

/// Ends the session of the cookie, of the refresh token, or of the bearer token.
pub(super) async fn sign_out(visit: Visit) -> Result<Response, Refusal> {
    let app = visit.shared.app();
    let refused = |error: Error| Refusal::of(&error, visit.lang);
    let body = visit.json()?;
    let carried = body.get("refreshToken").and_then(Value::as_str);
    if let Some(token) = carried.or(visit.session_cookie()) {
        session::sign_out(app, token, &visit.source).await.map_err(refused)?;
    }
    match access::sign_in(app, &visit.parts.headers, visit.lang).await {
        Ok(Some(actor)) => {
            let actor = Actor { source: Arc::clone(&visit.source), ..actor };
            session::sign_out_actor(app, &actor).await.map_err(refused)?;
        }
        // Signed out already, or never in.
        Ok(None) | Err(Error::Unauthenticated) => {}
        Err(error) => return Err(refused(error)),
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    cookie::SESSION.clear(&mut response);
    Ok(response)
}
