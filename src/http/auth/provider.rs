//! Signing in by a provider: the authorization code with PKCE, bound to the browser that began.

use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::crypto::{Place, Sealed};
use crate::entity::linked_account::Provider;
use crate::error::Error;
use crate::external::oauth::OauthFailure;
use crate::http::auth::email::{go_on, sorry};
use crate::http::auth::{Visit, cookie, page};
use crate::http::reply::Refusal;
use crate::identity::sign_in::{provider as sign_in, session};
use crate::ids::{SessionId, TenantId, new_uuid};

/// How long a visit to a provider may take.
const PATIENCE: TimeDelta = TimeDelta::minutes(10);

/// A visit to a provider, sealed into the browser's cookie: whoever comes back with its `state` and
/// without the cookie did not begin it.
#[derive(Serialize, Deserialize)]
struct Journey {
    provider: Provider,
    verifier: String,
    redirect: String,
    return_to: String,
    tenant: Option<TenantId>,
    /// Who wants to link an account; nobody signs in then.
    link: Option<SessionId>,
    until: DateTime<Utc>,
}

/// Sends the browser to the provider.
pub(super) async fn begin(visit: Visit) -> Result<Response, Refusal> {
    let app = visit.shared.app();
    let refused = |error: Error| Refusal::of(&error, visit.lang);
    let provider = provider(&visit)?;
    let link = match visit.query("link") {
        // Only pages of the same site make the browser send this cookie along.
        Some(_) => {
            let cookie = visit.session_cookie().unwrap_or_default();
            Some(session::peek(app, cookie).await.map_err(refused)?.id)
        }
        None => None,
    };
    let return_to = visit.query("returnTo");
    let site = return_to.as_deref().and_then(|address| visit.shared.perimeter().site(address));
    let way_on = visit.way_on(return_to.as_deref()).unwrap_or_else(|| visit.home());
    // The browser must come back to the host that has its cookie.
    let base = visit.base_of(site.as_deref());
    let now = app.clock.now();
    let verifier = random().map_err(refused)?;
    let journey = Journey {
        provider,
        redirect: format!("{base}/auth/{}/callback", slug(provider)),
        return_to: way_on,
        tenant: site.map(|site| site.tenant),
        link,
        until: now + PATIENCE,
        verifier,
    };
    let id = new_uuid();
    let text = serde_json::to_string(&journey).map_err(|error| refused(error.into()))?;
    let sealed = app.crypto.seal(place(id), &text).map_err(refused)?;
    let state = id.simple().to_string();
    let challenge = challenge(&journey.verifier);
    let address = app.oauth.authorize_url(provider, &state, &challenge, &journey.redirect);
    let address = address.map_err(|_| Refusal::not_found())?;
    let mut response = (StatusCode::FOUND, [(header::LOCATION, address)]).into_response();
    let value = format!("{state}.{}", URL_SAFE_NO_PAD.encode(&sealed.0));
    cookie::VISIT.set(&mut response, &value);
    Ok(response)
}

/// Takes the browser back from the provider.
pub(super) async fn come_back(visit: Visit) -> Result<Response, Refusal> {
    let provider = provider(&visit)?;
    let mut response = match journey(&visit).filter(|journey| journey.provider == provider) {
        Some(journey) => arrive(&visit, journey).await,
        None => {
            let text = visit.lang.pick(
                "サインインをやり直してください（このブラウザで始めたものではないか、時間切れです）。",
                "Please sign in again: this was not begun in this browser, or took too long.",
            );
            page::message(StatusCode::BAD_REQUEST, visit.lang, &text, &visit.home())
        }
    };
    cookie::VISIT.clear(&mut response);
    Ok(response)
}

async fn arrive(visit: &Visit, journey: Journey) -> Response {
    let app = visit.shared.app();
    let Some(code) = visit.query("code") else {
        // The person said no, or the provider did.
        let location = [(header::LOCATION, journey.return_to)];
        return (StatusCode::SEE_OTHER, location).into_response();
    };
    let Journey { provider, verifier, redirect, return_to, tenant, link, .. } = journey;
    let identity = match app.oauth.identify(provider, &code, &verifier, &redirect).await {
        Ok(identity) => identity,
        Err(failure) => {
            tracing::warn!(%failure, "A provider did not say who somebody is: {failure}");
            return unanswered(visit, &failure);
        }
    };
    if let Some(session) = link {
        // Whoever ended the session meanwhile did not want what it began.
        let linked = async {
            let user = session::open(app, session).await?.user_id;
            sign_in::link(app, (user, &visit.source), provider, &identity).await
        };
        return match linked.await {
            Ok(_) => (StatusCode::SEE_OTHER, [(header::LOCATION, return_to)]).into_response(),
            Err(error) => sorry(visit, &error),
        };
    }
    match sign_in::sign_in(app, provider, &identity, (tenant, visit.visitor())).await {
        Ok(tokens) => go_on(&tokens, &return_to),
        Err(error) => sorry(visit, &error),
    }
}

fn unanswered(visit: &Visit, failure: &OauthFailure) -> Response {
    let status = match failure {
        OauthFailure::NotOffered => StatusCode::NOT_FOUND,
        OauthFailure::Refused(_) => StatusCode::BAD_REQUEST,
        OauthFailure::Unavailable(_) | OauthFailure::Nonsense(_) => StatusCode::BAD_GATEWAY,
    };
    let text = visit.lang.pick(
        "連携先でサインインを確認できませんでした。もう一度お試しください。",
        "The provider did not confirm your sign-in. Please try again.",
    );
    page::message(status, visit.lang, &text, &visit.home())
}

/// The visit that this browser began, with the very state that came back.
fn journey(visit: &Visit) -> Option<Journey> {
    let app = visit.shared.app();
    let state = visit.query("state")?;
    let (known, sealed) = cookie::VISIT.read(&visit.parts.headers)?.split_once('.')?;
    if known != state {
        return None;
    }
    let id = Uuid::try_parse(known).ok()?;
    let sealed = Sealed(URL_SAFE_NO_PAD.decode(sealed).ok()?);
    let text = app.crypto.open(place(id), &sealed).ok()?;
    let journey: Journey = serde_json::from_str(&text).ok()?;
    (journey.until > app.clock.now()).then_some(journey)
}

fn provider(visit: &Visit) -> Result<Provider, Refusal> {
    let named = visit.parts.uri.path().split('/').nth(2).unwrap_or_default();
    let known = Provider::ALL.iter().find(|provider| slug(**provider) == named);
    let offered =
        known.filter(|provider| visit.shared.app().oauth.offered().any(|it| it == **provider));
    offered.copied().ok_or_else(Refusal::not_found)
}

fn slug(provider: Provider) -> &'static str {
    match provider {
        Provider::Discord => "discord",
        Provider::Github => "github",
    }
}

fn place(id: Uuid) -> Place {
    Place { table: "visits", column: "journey", row: id }
}

/// A verifier of 43 letters (RFC 7636 §4.1).
pub(super) fn random() -> Result<String, Error> {
    Ok(URL_SAFE_NO_PAD.encode(crate::crypto::random_secret()?))
}

/// The S256 challenge of a verifier (RFC 7636 §4.2).
pub(super) fn challenge(verifier: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
    URL_SAFE_NO_PAD.encode(digest)
}
