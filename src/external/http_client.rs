//! How third parties are called over HTTP: nothing is taken from the environment, nothing followed
//! or tried again by itself.

use std::error::Error;
use std::time::Duration;

/// One pooled client per third party.
pub(super) fn http_client(
    connect: Duration,
    is_encrypted: bool,
) -> Result<reqwest::Client, reqwest::Error> {
    let builder = reqwest::Client::builder()
        .user_agent("musubi")
        .connect_timeout(connect)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        // A server limits the streams of one HTTP/2 connection; HTTP/1 opens as many as we need.
        .http1_only()
        // Shorter than common load balancers keep an idle connection.
        .pool_idle_timeout(Duration::from_secs(30));
    if is_encrypted {
        builder.build()
    } else {
        // Without TLS no root certificates have to be read.
        builder.tls_certs_only([]).build()
    }
}

/// The innermost error's text: the outer ones repeat the address.
pub(super) fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
