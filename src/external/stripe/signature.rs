//! Whether Stripe itself sent something: `t=TIME,v1=HMAC` over the body as it came.

use aws_lc_rs::hmac;
use chrono::{DateTime, Utc};

use crate::config::Secret;

/// How far the time of a signature may be from ours, in seconds, both ways.
const TOLERANCE: i64 = 300;
/// A header of Stripe's has some hundred bytes.
const HEADER_BYTES_MAX: usize = 4 * 1024;

/// Why a signature does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFault {
    /// The header is not of Stripe's form.
    #[error("the signature cannot be read")]
    Malformed,
    /// It was made too long ago, or will be made.
    #[error("the signature is not of this time")]
    Stale,
    /// No secret of ours made it.
    #[error("the signature is not Stripe's")]
    Foreign,
}

/// Judges a signature over the raw body: any `v1` by any of the secrets, in constant time.
pub fn verify(
    header: &str,
    body: &[u8],
    secrets: &[Secret],
    now: DateTime<Utc>,
) -> Result<(), SignatureFault> {
    if header.len() > HEADER_BYTES_MAX {
        return Err(SignatureFault::Malformed);
    }
    let parts = || header.split(',').filter_map(|part| part.trim().split_once('='));
    let mut times = parts().filter(|(name, _)| *name == "t").map(|(_, time)| time);
    let (Some(time), None) = (times.next(), times.next()) else {
        return Err(SignatureFault::Malformed);
    };
    let signatures: Vec<Vec<u8>> =
        parts().filter(|(name, _)| *name == "v1").filter_map(|(_, hex)| decode(hex)).collect();
    let signed_at: i64 = time.parse().map_err(|_| SignatureFault::Malformed)?;
    if signatures.is_empty() {
        return Err(SignatureFault::Malformed);
    }
    let message = [time.as_bytes(), b".", body].concat();
    let is_ours = secrets.iter().any(|secret| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.0.as_bytes());
        signatures.iter().any(|signature| hmac::verify(&key, &message, signature).is_ok())
    });
    if !is_ours {
        return Err(SignatureFault::Foreign);
    }
    // Judged last, so that only Stripe learns what our clock shows.
    if now.timestamp().abs_diff(signed_at) > TOLERANCE.unsigned_abs() {
        return Err(SignatureFault::Stale);
    }
    Ok(())
}

fn decode(hex: &str) -> Option<Vec<u8>> {
    if !hex.len().is_multiple_of(2) || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok());
    bytes.collect()
}
