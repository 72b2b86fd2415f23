//! What a request tells of its sender: the address, as far as proxies are trusted, and the device.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName};
use http::request::Parts;
use ipnet::IpNet;

use crate::actor::Source;
use crate::http::Shared;
use crate::http::envelope::RequestId;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Characters that are kept of what a program calls itself.
const USER_AGENT_MAX: usize = 256;

/// The address at the other end of the connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// Who sent the request: the peer, or whom the trusted proxies name, read from the right. What
/// stands to the left of the first stranger is his word alone, and counts for nothing.
pub(super) fn address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let peer = peer.to_canonical();
    let is_trusted = |it: &IpAddr| trusted.iter().any(|net| net.contains(it));
    if !is_trusted(&peer) {
        return peer;
    }
    let lines = headers.get_all(FORWARDED_FOR).iter().filter_map(|line| line.to_str().ok());
    let hops: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
    let mut sender = peer;
    for hop in hops.into_iter().rev() {
        let Ok(hop) = hop.parse::<IpAddr>() else { return sender };
        sender = hop.to_canonical();
        if !is_trusted(&sender) {
            return sender;
        }
    }
    sender
}

/// Who sent the request, as far as proxies are trusted.
pub(super) fn sender(shared: &Shared, parts: &Parts) -> Option<IpAddr> {
    let peer = parts.extensions.get::<Peer>()?;
    Some(address(peer.0, &parts.headers, &shared.app().config.trusted_proxies))
}

/// Where a request came from.
pub(super) fn source(shared: &Shared, parts: &Parts, id: &RequestId) -> Arc<Source> {
    let agent = parts.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    let user_agent = agent.map(|agent| agent.chars().take(USER_AGENT_MAX).collect());
    let (request_id, address) = (id.as_str().into(), sender(shared, parts));
    Arc::new(Source { request_id, address, user_agent, ..Source::default() })
}

/// The browser and the system in a few words, for the list of one's sessions.
pub(super) fn device(headers: &HeaderMap) -> String {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    let agent = agent.unwrap_or_default();
    let first = |known: &[(&str, &'static str)]| {
        known.iter().find(|(mark, _)| agent.contains(mark)).map(|(_, name)| *name)
    };
    // Browsers name those that they want to pass for, so that the order matters.
    let browser = first(&[
        ("Edg", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("FxiOS/", "Firefox"),
        ("Chrome/", "Chrome"),
        ("CriOS/", "Chrome"),
        ("Safari/", "Safari"),
    ]);
    let system = first(&[
        ("Windows", "Windows"),
        ("Android", "Android"),
        ("iPhone", "iOS"),
        ("iPad", "iOS"),
        ("Mac OS X", "macOS"),
        ("Linux", "Linux"),
    ]);
    match (browser, system) {
        (Some(browser), Some(system)) => format!("{browser} · {system}"),
        (Some(one), None) | (None, Some(one)) => one.to_owned(),
        (None, None) => "API".to_owned(),
    }
}
