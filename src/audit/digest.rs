//! The digests of the record: of a line, of where it came from, of a link and of a chain's head.
//!
//! A line's digest is an HMAC-SHA-256 under `INDEX_KEY` over all columns that never change, each
//! with its length before it, so that no two different lines have the same text. Whoever can write
//! to the database alone cannot make one: an inserted line is found even before it is sealed.

use std::net::IpAddr;

use aws_lc_rs::digest::{Context, SHA256};
use serde_json::Value;
use uuid::Uuid;

use crate::crypto::Crypto;
use crate::entity::{audit_chain, system_event};

/// The link before the first line of a chain.
pub(super) const BEGINNING: [u8; 32] = [0; 32];

/// A text of parts that can be told apart again.
#[derive(Default)]
struct Canonical(Vec<u8>);

impl Canonical {
    fn part(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    /// A part that may be missing, which is not the same as an empty one.
    fn optional(self, bytes: Option<&[u8]>) -> Self {
        match bytes {
            Some(bytes) => self.part(&[1]).part(bytes),
            None => self.part(&[0]),
        }
    }

    fn id(self, id: Option<Uuid>) -> Self {
        self.optional(id.as_ref().map(|id| id.as_bytes().as_slice()))
    }

    fn text(self, text: Option<&str>) -> Self {
        self.optional(text.map(str::as_bytes))
    }

    fn json(self, value: Option<&Value>) -> Self {
        let text = value.map(|value| {
            let mut text = String::new();
            write_sorted(value, &mut text);
            text
        });
        self.text(text.as_deref())
    }
}

/// JSON with its keys in order: databases keep objects in an order of their own.
fn write_sorted(value: &Value, text: &mut String) {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| name.as_str());
            text.push('{');
            for (name, member) in members {
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                write_sorted(member, text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Array(elements) => {
            text.push('[');
            for element in elements {
                write_sorted(element, text);
                text.push(',');
            }
            text.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            text.push_str(&value.to_string());
        }
    }
}

/// The digest of a line as it is written.
pub(super) fn of_line(crypto: &Crypto, row: &system_event::Model) -> Vec<u8> {
    let text = Canonical::default()
        .part(row.id.0.as_bytes())
        .part(row.chain_id.as_bytes())
        .id(row.tenant_id.map(|id| id.0))
        .id(row.user_id.map(|id| id.0))
        .id(row.api_key_id.map(|id| id.0))
        .text(row.request_id.as_deref())
        .text(Some(row.event_type.as_str()))
        .text(Some(&row.source_system))
        .text(Some(&row.entity_type))
        .id(row.entity_id)
        .text(Some(&row.action))
        .json(Some(&row.event_data))
        .json(row.changes.as_ref())
        .text(row.risk_level.map(|risk| risk.as_str()))
        .part(&row.times.to_be_bytes())
        .part(&[u8::from(row.is_success)])
        .part(&row.occurred_at.timestamp_micros().to_be_bytes())
        .optional(row.origin_digest.as_deref());
    crypto.digest("system_event", &text.0)
}

/// The digest of where a line came from; bound to the line, so that equal origins cannot be told.
pub(super) fn of_origin(
    crypto: &Crypto,
    event: Uuid,
    (address, agent): (Option<IpAddr>, Option<&str>),
) -> Option<Vec<u8>> {
    if address.is_none() && agent.is_none() {
        return None;
    }
    let address = address.map(|address| address.to_string());
    let text = Canonical::default().part(event.as_bytes()).text(address.as_deref()).text(agent);
    Some(crypto.digest("system_event.origin", &text.0))
}

/// The link of a line: SHA-256 over the link before, the line's place and its digest.
pub(super) fn of_link(before: &[u8], seq: i64, digest: &[u8]) -> Vec<u8> {
    let mut context = Context::new(&SHA256);
    context.update(before);
    context.update(&seq.to_be_bytes());
    context.update(digest);
    context.finish().as_ref().to_vec()
}

/// What proves that a chain's head is ours.
pub(super) fn of_head(crypto: &Crypto, head: &audit_chain::Model) -> Vec<u8> {
    let text = Canonical::default()
        .part(head.chain_id.as_bytes())
        .part(&head.seq.to_be_bytes())
        .part(&head.hash)
        .part(&head.anchor_seq.to_be_bytes())
        .part(&head.anchor_hash);
    crypto.digest("audit_chains", &text.0)
}
