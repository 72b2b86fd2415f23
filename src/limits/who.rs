//! Who is counted.

use std::net::IpAddr;

use crate::actor::{Actor, Source};
use crate::app::App;
use crate::ids::{TenantId, UserId};
use crate::meter::{Crowd, Key};

/// Somebody whose takings are counted together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    crowd: Crowd,
    /// What keys that are charged together have in common: the tenant, where there is one.
    tag: String,
    name: String,
}

impl Who {
    /// The caller: the API key, else the person, else the address.
    pub fn of(app: &App, actor: Option<&Actor>, source: &Source) -> Self {
        match actor {
            Some(actor) => Self::actor(actor),
            None => Self::address(app, source.address),
        }
    }

    /// Somebody who is signed in.
    pub fn actor(actor: &Actor) -> Self {
        let name = match actor.key() {
            Some(key) => format!("key:{}", key.id.0.simple()),
            None => format!("user:{}", actor.user_id.0.simple()),
        };
        let tag = actor.tenant_id.map_or(actor.user_id.0, |tenant| tenant.0);
        Self { crowd: Crowd::Known, tag: tag.simple().to_string(), name }
    }

    /// Who comes from an address. Redis gets a keyed digest of it.
    pub fn address(app: &App, address: Option<IpAddr>) -> Self {
        let text = address.map_or_else(String::new, |address| household(address).to_string());
        let digest = app.crypto.index("limits.address", &text);
        Self { crowd: Crowd::Strangers, tag: hex(&digest), name: "address".to_owned() }
    }

    /// A tenant as a whole.
    pub fn tenant(tenant: TenantId) -> Self {
        let tag = tenant.0.simple().to_string();
        Self { crowd: Crowd::Known, tag, name: "tenant".to_owned() }
    }

    /// A member of a tenant.
    pub fn member(tenant: TenantId, user: UserId) -> Self {
        let name = format!("user:{}", user.0.simple());
        Self { name, ..Self::tenant(tenant) }
    }

    /// Somebody to whom a tenant writes, by the index of their address.
    pub fn addressee(tenant: TenantId, index: &[u8]) -> Self {
        Self { name: format!("to:{}", hex(index)), ..Self::tenant(tenant) }
    }

    /// The key under which something of them is counted.
    pub(crate) fn key(&self, what: &str) -> Key {
        Key::new(self.crowd, &self.tag, &format!("{}:{what}", self.name))
    }
}

/// The network of one household: an IPv6 line has 2^64 addresses of its own.
fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
