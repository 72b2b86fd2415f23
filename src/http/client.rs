//! What a request tells of its sender: the address, as far as proxies are trusted, and the device.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName};
use ipnet::IpNet;
use tokio::time::Instant;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Senders that are counted at once at most.
const COUNTED_MAX: usize = 50_000;

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

/// The network of one household: an IPv6 line has 2^64 addresses of its own.
fn household(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

/// Counts what each address asks for, in windows of fixed length.
pub(super) struct Counter {
    window: Duration,
    max: u32,
    counts: Mutex<HashMap<IpAddr, (Instant, u32)>>,
}

impl Counter {
    pub(super) fn new(window: Duration, max: u32) -> Self {
        Self { window, max, counts: Mutex::default() }
    }

    /// Whether the address may once more.
    pub(super) fn allows(&self, address: IpAddr) -> bool {
        let address = household(address);
        let now = Instant::now();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= COUNTED_MAX && !counts.contains_key(&address) {
            // A flood of addresses is forgotten as a whole; it must not shut everybody else out.
            counts.clear();
        }
        let (since, count) = counts.entry(address).or_insert((now, 0));
        if now - *since >= self.window {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= self.max
    }
}
