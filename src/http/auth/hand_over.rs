//! From one site to another without signing in again.

use axum::response::Response;
use http::{StatusCode, header};
use serde_json::{Value, json};

use crate::error::Error;
use crate::http::access;
use crate::http::auth::{Visit, cookie, json_answer, tokens_body};
use crate::http::perimeter;
use crate::http::reply::Refusal;
use crate::identity::sign_in::hand_over::{self, Way};

/// A code for another site of the tenant. Asked by a page of the first, with an access token.
pub(super) async fn create(visit: Visit) -> Result<Response, Refusal> {
    let app = visit.shared.app();
    let refused = |error: Error| Refusal::of(&error, visit.lang);
    let actor = access::sign_in(app, &visit.parts.headers, visit.lang).await.map_err(refused)?;
    let actor = actor.ok_or_else(|| refused(Error::Unauthenticated))?;
    let from = visit.site.as_ref().ok_or_else(Refusal::origin)?;
    let body = visit.json()?;
    let target = body.get("target").and_then(Value::as_str).unwrap_or_default();
    let to = visit.shared.perimeter().site(target);
    let (to, origin) =
        to.zip(perimeter::canonical(target)).ok_or_else(|| refused(Error::NotFound("site")))?;
    let has_consent = body.get("consent").and_then(Value::as_bool).unwrap_or(false);
    let way = Way { from, to: &to, to_origin: &origin, has_consent };
    let code = hand_over::create(app, &actor, way).await.map_err(refused)?;
    // In the fragment, which no server and no referrer sees.
    let url = format!("{origin}/#hand-over={code}");
    Ok(json_answer(StatusCode::OK, &json!({ "code": code, "url": url, "expiresIn": 60 })))
}

/// Takes a code, from a page of the site that it is for.
pub(super) async fn redeem(visit: Visit) -> Result<Response, Refusal> {
    let app = visit.shared.app();
    let origin = visit.parts.headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    let origin = origin.and_then(perimeter::canonical).ok_or_else(Refusal::origin)?;
    let body = visit.json()?;
    let code = body.get("code").and_then(Value::as_str).unwrap_or_default();
    let redeemed = hand_over::redeem(app, code, &origin, visit.device()).await;
    let tokens = redeemed.map_err(|error| Refusal::of(&error, visit.lang))?;
    let body = tokens_body(&tokens, true, app.clock.now());
    let mut response = json_answer(StatusCode::OK, &body);
    cookie::SESSION.set(&mut response, &tokens.refresh);
    Ok(response)
}
