//! The browser's cookies: the refresh token, and what a visit to a provider is bound to.

use axum::response::Response;
use http::header::{self, HeaderMap, HeaderValue};

/// The refresh token. `__Host-`: from this host alone, for all of it, over TLS (or `localhost`).
pub(super) const SESSION: Cookie =
    Cookie { name: "__Host-musubi", same_site: "Strict", seconds: 30 * 24 * 3_600 };
/// What a visit to a provider is bound to. Lax: the provider sends the browser back to us.
pub(super) const VISIT: Cookie =
    Cookie { name: "__Host-musubi-visit", same_site: "Lax", seconds: 600 };

/// What a hand-over from another site is bound to.
pub(super) const HAND_OVER: Cookie =
    Cookie { name: "__Host-musubi-hand-over", same_site: "Strict", seconds: 600 };

/// A cookie that scripts cannot read.
pub(super) struct Cookie {
    name: &'static str,
    same_site: &'static str,
    seconds: u32,
}

impl Cookie {
    /// Its value in a request, if it is there once.
    pub(super) fn read<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let pairs =
            lines.flat_map(|line| line.split(';')).filter_map(|it| it.trim().split_once('='));
        let mut values = pairs.filter(|(name, _)| *name == self.name).map(|(_, value)| value);
        values.next().filter(|_| values.next().is_none())
    }

    /// Gives it to the browser.
    pub(super) fn set(&self, response: &mut Response, value: &str) {
        self.write(response, value, self.seconds);
    }

    /// Takes it away.
    pub(super) fn clear(&self, response: &mut Response) {
        self.write(response, "", 0);
    }

    fn write(&self, response: &mut Response, value: &str, seconds: u32) {
        let Self { name, same_site, .. } = self;
        let text = format!(
            "{name}={value}; Path=/; Secure; HttpOnly; SameSite={same_site}; Max-Age={seconds}"
        );
        if let Ok(mut value) = HeaderValue::from_str(&text) {
            value.set_sensitive(true);
            response.headers_mut().append(header::SET_COOKIE, value);
        }
    }
}
