//! Access tokens: JWTs signed with Ed25519. The key is chosen by `kid` from our own set, one
//! algorithm is accepted, and nothing in a token's header is followed.

use std::collections::HashMap;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::crypto::Key;
use crate::error::{Error, Result};
use crate::ids::{SessionId, TenantId, UserId};

/// The `typ` of our access tokens (RFC 9068).
const TYPE: &str = "at+jwt";
/// Who our tokens are for.
const AUDIENCE: &str = "musubi";
/// A longer token is not looked at.
const LENGTH_MAX: usize = 4_096;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The person.
    pub sub: UserId,
    /// The tenant that they act in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tid: Option<TenantId>,
    /// The session that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<SessionId>,
    /// When it was issued, in seconds since 1970.
    pub iat: i64,
    /// When it ends, in seconds since 1970.
    pub exp: i64,
    /// From when on it holds, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    iss: String,
    aud: String,
    #[serde(flatten)]
    claims: Claims,
}

/// Signs and verifies tokens.
pub struct Tokens {
    issuer: String,
    signing: (String, EncodingKey),
    verifying: HashMap<String, DecodingKey>,
    /// The verifying keys for others (RFC 7517), the signing one first.
    published: serde_json::Value,
}

impl Tokens {
    /// Takes the key list: the first signs, all verify.
    pub fn new(issuer: &str, keys: &[Key]) -> Result<Self> {
        let mut signing = None;
        let mut verifying = HashMap::new();
        let mut published = Vec::new();
        for key in keys {
            let pair = Ed25519KeyPair::from_seed_unchecked(&key.secret).map_err(Error::broken)?;
            let public = DecodingKey::from_ed_der(pair.public_key().as_ref());
            verifying.insert(key.kid.clone(), public);
            // RFC 8037 §2: an octet key pair's public part.
            published.push(serde_json::json!({
                "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": key.kid,
                "x": URL_SAFE_NO_PAD.encode(pair.public_key().as_ref()),
            }));
            if signing.is_none() {
                let document = pair.to_pkcs8().map_err(Error::broken)?;
                let private = EncodingKey::from_ed_der(document.as_ref());
                signing = Some((key.kid.clone(), private));
            }
        }
        let signing = signing.ok_or_else(|| Error::broken("no key for tokens"))?;
        let published = serde_json::json!({ "keys": published });
        Ok(Self { issuer: issuer.to_owned(), signing, verifying, published })
    }

    /// The keys that verify our tokens, as a JSON Web Key Set.
    pub fn jwks(&self) -> &serde_json::Value {
        &self.published
    }

    /// Signs a token.
    pub fn sign(&self, claims: Claims) -> Result<String> {
        let (kid, key) = &self.signing;
        let header = Header {
            typ: Some(TYPE.to_owned()),
            kid: Some(kid.clone()),
            ..Header::new(Algorithm::EdDSA)
        };
        let envelope = Envelope { iss: self.issuer.clone(), aud: AUDIENCE.to_owned(), claims };
        jsonwebtoken::encode(&header, &envelope, key).map_err(Error::broken)
    }

    /// Verifies a token at a time. All that is wrong with it is the same refusal.
    pub fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<Claims> {
        self.claims(token, now.timestamp()).ok_or(Error::Unauthenticated)
    }

    fn claims(&self, token: &str, now: i64) -> Option<Claims> {
        if token.len() > LENGTH_MAX {
            return None;
        }
        let header = jsonwebtoken::decode_header(token).ok()?;
        if header.alg != Algorithm::EdDSA || header.typ.as_deref() != Some(TYPE) {
            return None;
        }
        let key = self.verifying.get(&header.kid?)?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[&self.issuer]);
        // Times are judged below, by our own clock.
        validation.validate_exp = false;
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let envelope = jsonwebtoken::decode::<Envelope>(token, key, &validation).ok()?.claims;
        let claims = envelope.claims;
        let is_current = claims.exp > now && claims.nbf.is_none_or(|from| from <= now);
        is_current.then_some(claims)
    }
}
