//! From one site to another without signing in again.

use axum::response::Response;
use http::{StatusCode, header};
use serde_json::{Value, json};

use crate::error::Error;
use crate::http::access;
use crate::http::auth::provider::{challenge, random};
use crate::http::auth::{Visit, cookie, json_answer, tokens_body};
use crate::http::perimeter;
use crate::http::reply::Refusal;
use crate::identity::sign_in::hand_over::{self, Arrival, Bond, Way};
use crate::identity::sign_in::session;
use crate::ids::UserId;

/// How long a hand-over that began may take, in seconds.
const PATIENCE_SECONDS: u32 = 600;

/// Begins at the target: the browser keeps a verifier, the page gets its challenge, for which the
/// other site has a code made. Tabs of one browser share them.
pub(super) async fn begin(visit: Visit) -> Result<Response, Refusal> {
    visit.site.as_ref().ok_or_else(Refusal::origin)?;
    let known = cookie::HAND_OVER.read(&visit.parts.headers).filter(|known| known.len() == 43);
    let verifier = match known {
        Some(known) => known.to_owned(),
        None => random().map_err(|error| Refusal::of(&error, visit.lang))?,
    };
    let body = json!({ "challenge": challenge(&verifier), "expiresIn": PATIENCE_SECONDS });
    let mut response = json_answer(StatusCode::OK, &body);
    cookie::HAND_OVER.set(&mut response, &verifier);
    Ok(response)
}

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
    let challenge = body.get("challenge").filter(|it| !it.is_null());
    // What is no text is no challenge either.
    let challenge = challenge.map(|it| it.as_str().unwrap_or_default());
    let way = Way { from, to: &to, to_origin: &origin, challenge, has_consent };
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
    let is_said = |name: &str| body.get(name).and_then(Value::as_bool).unwrap_or(false);
    let bond = match cookie::HAND_OVER.read(&visit.parts.headers) {
        Some(verifier) => Bond::Challenge(challenge(verifier)),
        None if is_said("unbound") => Bond::Any,
        None => Bond::Missing,
    };
    let refused = |error: Error| Refusal::of(&error, visit.lang);
    let before = holder(&visit).await.map_err(refused)?;
    let kept = before.filter(|_| !is_said("replace"));
    let arrival = Arrival { code, origin: &origin, bond, holder: kept, visitor: visit.visitor() };
    let redeemed = hand_over::redeem(app, arrival).await.map_err(refused)?;
    let tokens = redeemed.ok_or_else(|| Refusal::other_person(visit.lang))?;
    if before.is_some_and(|before| before != tokens.session.user_id)
        && let Some(cookie) = visit.session_cookie()
    {
        // Theirs is gone from this browser in any case.
        if let Err(error) = session::sign_out(app, cookie, &visit.source).await {
            tracing::warn!(%error, "A session that was replaced could not be ended: {error}");
        }
    }
    let body = tokens_body(&tokens, true, app.clock.now());
    let mut response = json_answer(StatusCode::OK, &body);
    cookie::SESSION.set(&mut response, &tokens.refresh);
    cookie::HAND_OVER.clear(&mut response);
    Ok(response)
}

/// Who is signed in in the browser, whatever its page may know of it: the cookie will be another.
async fn holder(visit: &Visit) -> Result<Option<UserId>, Error> {
    let Some(cookie) = cookie::SESSION.read(&visit.parts.headers) else { return Ok(None) };
    match session::peek(visit.shared.app(), cookie).await {
        Ok(session) => Ok(Some(session.user_id)),
        Err(Error::Unauthenticated) => Ok(None),
        Err(error) => Err(error),
    }
}
