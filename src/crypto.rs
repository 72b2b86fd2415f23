//! Personal text at rest: sealed columns and keyed indexes.
//!
//! A [`Sealed`] value is AES-256-GCM under a key with an id, bound to its table, column and row, so
//! that a value copied to another row does not open. Equality goes through [`Crypto::index`], an
//! HMAC-SHA-256 under a key of its own, which rotation of the sealing keys leaves alone.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{hmac, rand};
use uuid::Uuid;

use crate::error::Error;

const FORMAT: u8 = 1;
const NONCE_BYTES: usize = 12;

/// Ciphertext of a column: `format | kid length | kid | nonce | ciphertext and tag`.
#[derive(Clone, PartialEq, Eq, sea_orm::DeriveValueType)]
pub struct Sealed(pub Vec<u8>);

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

/// The place that a sealed value belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The table's name.
    pub table: &'static str,
    /// The column's name.
    pub column: &'static str,
    /// The row's primary key.
    pub row: Uuid,
}

impl Place {
    fn associated_data(&self, kid: &str) -> Vec<u8> {
        let mut data = Vec::with_capacity(64);
        for part in [self.table, self.column, kid] {
            data.extend_from_slice(part.as_bytes());
            data.push(b'|');
        }
        data.extend_from_slice(self.row.as_bytes());
        data
    }
}

/// A secret key of 32 bytes with its id. Debug shows the id only.
#[derive(Clone)]
pub struct Key {
    /// The id that stands beside what the key made.
    pub kid: String,
    /// The secret.
    pub secret: [u8; 32],
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.kid)
    }
}

/// Seals, opens and indexes. Clones share the keys.
#[derive(Clone)]
pub struct Crypto(Arc<Keys>);

struct Keys {
    /// The first seals; all open.
    sealing: Vec<(String, LessSafeKey)>,
    index: hmac::Key,
}

impl Crypto {
    /// Keys for sealing (the first seals, all open) and the key for indexes and digests.
    pub fn new(sealing: &[Key], index: &[u8; 32]) -> Result<Self, Error> {
        let sealing = sealing
            .iter()
            .map(|key| {
                let unbound = UnboundKey::new(&AES_256_GCM, &key.secret);
                Ok((key.kid.clone(), LessSafeKey::new(unbound.map_err(fault)?)))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        if sealing.is_empty() {
            return Err(Error::broken("no sealing key"));
        }
        let index = hmac::Key::new(hmac::HMAC_SHA256, index);
        Ok(Self(Arc::new(Keys { sealing, index })))
    }

    /// Seals text for its place.
    pub fn seal(&self, place: Place, text: &str) -> Result<Sealed, Error> {
        let Some((kid, key)) = self.0.sealing.first() else {
            return Err(Error::broken("no sealing key"));
        };
        let mut nonce = [0_u8; NONCE_BYTES];
        rand::fill(&mut nonce).map_err(fault)?;
        let mut body = text.as_bytes().to_vec();
        let data = Aad::from(place.associated_data(kid));
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), data, &mut body)
            .map_err(fault)?;

        let kid_length = u8::try_from(kid.len()).map_err(Error::broken)?;
        let mut sealed = Vec::with_capacity(2 + kid.len() + NONCE_BYTES + body.len());
        sealed.extend_from_slice(&[FORMAT, kid_length]);
        sealed.extend_from_slice(kid.as_bytes());
        sealed.extend_from_slice(&nonce);
        sealed.append(&mut body);
        Ok(Sealed(sealed))
    }

    /// Opens what was sealed for this place; anything else is a fault.
    pub fn open(&self, place: Place, sealed: &Sealed) -> Result<String, Error> {
        let parts = Parts::of(&sealed.0).ok_or_else(|| Error::broken("not a sealed value"))?;
        let (_, key) = self
            .0
            .sealing
            .iter()
            .find(|(kid, _)| kid == parts.kid)
            .ok_or_else(|| Error::broken(format!("no sealing key {}", parts.kid)))?;
        let data = Aad::from(place.associated_data(parts.kid));
        let mut body = parts.body.to_vec();
        let nonce = Nonce::assume_unique_for_key(parts.nonce);
        let open = key.open_in_place(nonce, data, &mut body).map_err(|_| {
            Error::broken(format!("{}.{} does not open", place.table, place.column))
        })?;
        String::from_utf8(open.to_vec()).map_err(Error::broken)
    }

    /// Whether a value has the form of a sealed one, under a key that is known.
    pub fn is_sealed(&self, value: &Sealed) -> bool {
        let parts = Parts::of(&value.0);
        parts.is_some_and(|parts| self.0.sealing.iter().any(|(kid, _)| kid == parts.kid))
    }

    /// The blind index of a value: equal for equal values of one purpose, meaningless without the
    /// key.
    pub fn index(&self, purpose: &str, value: &str) -> Vec<u8> {
        self.digest(purpose, value.as_bytes())
    }

    /// Whether something is the digest of a body; equal time for any that is not.
    pub fn is_digest(&self, purpose: &str, body: &[u8], digest: &[u8]) -> bool {
        let text = [purpose.as_bytes(), &[0], body].concat();
        hmac::verify(&self.0.index, &text, digest).is_ok()
    }

    /// A keyed digest, to compare bodies without keeping them.
    pub fn digest(&self, purpose: &str, body: &[u8]) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.0.index);
        context.update(purpose.as_bytes());
        context.update(&[0]);
        context.update(body);
        context.sign().as_ref().to_vec()
    }
}

struct Parts<'a> {
    kid: &'a str,
    nonce: [u8; NONCE_BYTES],
    body: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(sealed: &'a [u8]) -> Option<Self> {
        let (&[format, kid_length], rest) = sealed.split_first_chunk::<2>()?;
        let (kid, rest) = rest.split_at_checked(usize::from(kid_length))?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let kid = std::str::from_utf8(kid).ok()?;
        (format == FORMAT).then_some(Self { kid, nonce: *nonce, body })
    }
}

/// Random bytes for a key that is made on the first start.
pub fn random_secret() -> Result<[u8; 32], Error> {
    let mut secret = [0_u8; 32];
    rand::fill(&mut secret).map_err(fault)?;
    Ok(secret)
}

fn fault(_: aws_lc_rs::error::Unspecified) -> Error {
    Error::broken("the cryptographic library refused")
}
