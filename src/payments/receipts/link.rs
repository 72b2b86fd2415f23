//! The address of a receipt: whoever has it may read the one receipt, for a quarter of an hour.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::crypto::Crypto;
use crate::ids::{PurchaseId, TenantId};

/// How long an address is good.
pub const LIFE: TimeDelta = TimeDelta::minutes(15);
/// What the signature is for.
const PURPOSE: &str = "receipt-link";
const PAYLOAD_BYTES: usize = 16 + 16 + 8 + 1;
const SIGNATURE_BYTES: usize = 32;

/// What an address is for. All of it is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Whose it is.
    pub tenant: TenantId,
    /// What the receipt is of.
    pub purchase: PurchaseId,
    /// The end of the address, to the second.
    pub expires_at: DateTime<Utc>,
    /// Whether the receipt was handed out before.
    pub is_reissue: bool,
}

impl Link {
    /// As a word for an address, signed.
    pub fn sign(&self, crypto: &Crypto) -> String {
        let mut bytes = Vec::with_capacity(PAYLOAD_BYTES + SIGNATURE_BYTES);
        bytes.extend_from_slice(self.tenant.0.as_bytes());
        bytes.extend_from_slice(self.purchase.0.as_bytes());
        bytes.extend_from_slice(&self.expires_at.timestamp().to_be_bytes());
        bytes.push(u8::from(self.is_reissue));
        let signature = crypto.digest(PURPOSE, &bytes);
        bytes.extend_from_slice(&signature);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads what was signed here and is not over; none of anything else.
    pub fn read(crypto: &Crypto, token: &str, now: DateTime<Utc>) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (payload, signature) = bytes.split_first_chunk::<PAYLOAD_BYTES>()?;
        if !crypto.is_digest(PURPOSE, payload, signature) {
            return None;
        }
        let (tenant, rest) = payload.split_first_chunk::<16>()?;
        let (purchase, rest) = rest.split_first_chunk::<16>()?;
        let (seconds, rest) = rest.split_first_chunk::<8>()?;
        let expires_at = DateTime::from_timestamp(i64::from_be_bytes(*seconds), 0)?;
        let link = Self {
            tenant: TenantId(Uuid::from_bytes(*tenant)),
            purchase: PurchaseId(Uuid::from_bytes(*purchase)),
            expires_at,
            is_reissue: rest == [1],
        };
        (now < link.expires_at).then_some(link)
    }
}
