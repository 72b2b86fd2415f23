//! Signing in by a link in a mail.

use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::http::auth::{Visit, cookie, json_answer, page, tokens_body};
use crate::http::reply::Refusal;
use crate::identity::sign_in::link::{self, LinkRequest};
use crate::identity::sign_in::session::Tokens;
use crate::limits::table::Limit;

/// Asks for a link (POST), or shows the page that a link leads to (GET).
pub(super) async fn answer(visit: Visit) -> Result<Response, Refusal> {
    if visit.parts.method == Method::GET { Ok(landing(&visit)) } else { request(visit).await }
}

async fn request(visit: Visit) -> Result<Response, Refusal> {
    visit.count(Limit::SignInLinks).await?;
    let body = visit.json()?;
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let asked = LinkRequest {
        email: text("email").unwrap_or_default(),
        tenant: visit.site.as_ref().map(|site| site.tenant),
        base: &visit.base(),
        return_to: Some(visit.way_on(text("returnTo")).unwrap_or_else(|| visit.home())),
        lang: visit.lang,
    };
    let done = link::request(visit.shared.app(), asked).await;
    done.map_err(|error| Refusal::of(&error, visit.lang))?;
    Ok(json_answer(StatusCode::ACCEPTED, &json!({ "accepted": true })))
}

/// A button: scanners of mails follow links, and must not use the token up.
fn landing(visit: &Visit) -> Response {
    let lang = visit.lang;
    let text = lang.pick("ボタンを押すとサインインします。", "Press the button to sign in.");
    let label = lang.pick("サインイン", "Sign in");
    let token = visit.query("token").unwrap_or_default();
    let targets = visit.shared.targets();
    let form = page::Form { action: "/auth/email/confirm", token: &token, targets };
    page::button(lang, &text, &label, form)
}

/// Takes a link: by the page's form, into a cookie; or by JSON, into the answer.
pub(super) async fn confirm(visit: Visit) -> Result<Response, Refusal> {
    let app = visit.shared.app();
    if visit.is_json() {
        let body = visit.json()?;
        let token = body.get("token").and_then(Value::as_str).unwrap_or_default();
        let redeemed = link::redeem(app, token, visit.visitor()).await;
        let (tokens, _) = redeemed.map_err(|error| Refusal::of(&error, visit.lang))?;
        let body = tokens_body(&tokens, false, app.clock.now());
        return Ok(json_answer(StatusCode::OK, &body));
    }
    let token = visit.form_token().unwrap_or_default();
    match link::redeem(app, token, visit.visitor()).await {
        Ok((tokens, return_to)) => {
            let way_on = visit.way_on(return_to.as_deref()).unwrap_or_else(|| visit.home());
            Ok(go_on(&tokens, &way_on))
        }
        Err(error) => Ok(sorry(&visit, &error)),
    }
}

/// Sends the browser on with its cookie.
pub(super) fn go_on(tokens: &Tokens, way_on: &str) -> Response {
    let location = [(header::LOCATION, way_on.to_owned())];
    let mut response = (StatusCode::SEE_OTHER, location).into_response();
    cookie::SESSION.set(&mut response, &tokens.refresh);
    response
}

/// A page that says what went wrong.
pub(super) fn sorry(visit: &Visit, error: &crate::error::Error) -> Response {
    let status = Refusal::of(error, visit.lang).status();
    page::message(status, visit.lang, &error.message(visit.lang), &visit.home())
}
