//! Becoming a member by an invitation's link.

use axum::response::Response;
use http::Method;

use crate::http::auth::email::{go_on, sorry};
use crate::http::auth::{Visit, page};
use crate::http::reply::Refusal;
use crate::identity::sign_in::invitation;

/// The page that an invitation leads to (GET), and its button (POST).
pub(super) async fn answer(visit: Visit) -> Result<Response, Refusal> {
    if visit.parts.method == Method::GET {
        return Ok(landing(&visit));
    }
    let token = visit.form_token().unwrap_or_default();
    let accepted = invitation::accept(visit.shared.app(), token, visit.visitor()).await;
    Ok(match accepted {
        Ok(tokens) => go_on(&tokens, &visit.home()),
        Err(error) => sorry(&visit, &error),
    })
}

fn landing(visit: &Visit) -> Response {
    let lang = visit.lang;
    let text = lang.pick("招待を受けて参加します。", "Accept the invitation and sign in.");
    let label = lang.pick("参加する", "Accept");
    let token = visit.query("token").unwrap_or_default();
    let targets = visit.shared.targets();
    let form = page::Form { action: "/auth/invitation", token: &token, targets };
    page::button(lang, &text, &label, form)
}
