//! The few small pages that people see on their way in. They load nothing and run no script.

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

use crate::error::Lang;

const STYLE: &str = "body{font:16px/1.7 system-ui,sans-serif;max-width:26rem;margin:18vh auto;\
padding:0 1.5rem;color:#222;background:#fafafa}h1{font-size:1.3rem}button{font:inherit;\
padding:.6rem 1.6rem;border:0;border-radius:.5rem;background:#1f4e79;color:#fff;cursor:pointer}\
a{color:#1f4e79}";

/// A page that says something, with a way on.
pub(super) fn message(status: StatusCode, lang: Lang, text: &str, way_on: &str) -> Response {
    let back = lang.pick("戻る", "Go back");
    let body = format!(
        "<h1>Musubi</h1><p>{}</p><p><a href=\"{}\">{back}</a></p>",
        escape(text),
        escape(way_on)
    );
    page(status, lang, &body, "'none'")
}

/// A page with one button, which posts a token. `targets`: the origins that the answer may lead to.
pub(super) fn button(lang: Lang, text: &str, label: &str, form: Form<'_>) -> Response {
    let Form { action, token, targets } = form;
    let body = format!(
        "<h1>Musubi</h1><p>{}</p><form method=\"post\" action=\"{action}\">\
         <input type=\"hidden\" name=\"token\" value=\"{}\"><button>{}</button></form>",
        escape(text),
        escape(token),
        escape(label)
    );
    page(StatusCode::OK, lang, &body, &format!("'self' {targets}"))
}

/// What a button posts.
pub(super) struct Form<'a> {
    /// The path.
    pub(super) action: &'static str,
    /// The token.
    pub(super) token: &'a str,
    /// Origins that the answer may lead to: browsers hold redirects of a form to the policy, too.
    pub(super) targets: &'a str,
}

fn page(status: StatusCode, lang: Lang, body: &str, form_action: &str) -> Response {
    let tag = lang.pick("ja", "en");
    let html = format!(
        "<!doctype html><html lang=\"{tag}\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"robots\" content=\"noindex\"><title>Musubi</title>\
         <style>{STYLE}</style><body>{body}</body></html>"
    );
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; form-action {form_action}; \
         base-uri 'none'; frame-ancestors 'none'"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CONTENT_SECURITY_POLICY, policy),
        // Without a referrer browsers name no origin when a form is posted, and we ask for ours.
        (header::REFERRER_POLICY, "same-origin".to_owned()),
    ];
    (status, headers, html).into_response()
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
