//! Attacks on access tokens, and the keys that others verify them with.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use musubi::crypto::Key;
use musubi::tokens::Tokens;
use serde_json::{Value, json};

use super::{get, is_let_in};
use crate::support::TestServer;

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A token of the server's own key, with other words in it.
fn forge(header: Header, claims: &Value, seed: [u8; 32]) -> String {
    let pair = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
    let key = EncodingKey::from_ed_der(pair.to_pkcs8().unwrap().as_ref());
    jsonwebtoken::encode(&header, claims, &key).unwrap()
}

#[tokio::test]
async fn forged_tokens_are_refused_alike() {
    let server = TestServer::start().await;
    let own = server.token("admin");
    assert!(is_let_in(&server, &own).await);
    let (head, rest) = own.split_once('.').unwrap();
    let body = rest.split_once('.').unwrap().0;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).unwrap()).unwrap();
    let proper: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head).unwrap()).unwrap();
    let with = |name: &str, value: Value| {
        let mut changed = claims.clone();
        changed[name] = value;
        changed
    };
    let header = |kid: &str| Header {
        typ: Some("at+jwt".to_owned()),
        kid: Some(kid.to_owned()),
        ..Header::new(Algorithm::EdDSA)
    };
    let jwks = get(&server, "/.well-known/jwks.json", &[]).await.json();
    let public = jwks["keys"][0]["x"].as_str().unwrap();
    let secret = EncodingKey::from_secret(&URL_SAFE_NO_PAD.decode(public).unwrap());
    let confused = Header { alg: Algorithm::HS256, ..header("jwt1") };
    let none = json!({ "alg": "none", "typ": "at+jwt", "kid": proper["kid"] });
    let other_type = Header { typ: Some("JWT".to_owned()), ..header("jwt1") };
    let follow = Header { jku: Some("https://evil.test/keys".to_owned()), ..header("evil") };
    let seed = [1; 32];
    // The harness signs with this very seed: only the words are wrong.
    assert!(is_let_in(&server, &forge(header("jwt1"), &claims, seed)).await);
    let attacks = [
        ("no signature", format!("{}.{body}.", part(&none))),
        ("the public key as a secret", jsonwebtoken::encode(&confused, &claims, &secret).unwrap()),
        ("another audience", forge(header("jwt1"), &with("aud", json!("other")), seed)),
        ("another issuer", forge(header("jwt1"), &with("iss", json!("https://evil.test")), seed)),
        ("another type", forge(other_type, &claims, seed)),
        ("not yet", forge(header("jwt1"), &with("nbf", json!(4_000_000_000_i64)), seed)),
        ("no longer", forge(header("jwt1"), &with("exp", json!(1_000_000_000)), seed)),
        ("an unknown key", forge(header("evil"), &claims, [9; 32])),
        ("another key under our name", forge(header("jwt1"), &claims, [9; 32])),
        ("a key from elsewhere", forge(follow, &claims, [9; 32])),
        ("somebody else", forge(header("jwt1"), &with("sub", json!("user_0")), seed)),
        ("no words", format!("{head}..")),
        ("nothing", "x".to_owned()),
        ("very long", "a".repeat(5_000)),
    ];
    for (what, token) in attacks {
        assert!(!is_let_in(&server, &token).await, "{what}");
    }
}

#[tokio::test]
async fn whoever_has_our_published_keys_can_verify_a_token() {
    let server = TestServer::start().await;
    let reply = get(&server, "/.well-known/jwks.json", &[]).await;
    assert_eq!(reply.header("content-type"), Some("application/jwk-set+json"));
    let set: jsonwebtoken::jwk::JwkSet = serde_json::from_slice(&reply.body).unwrap();
    let token = server.token("admin");
    let kid = jsonwebtoken::decode_header(&token).unwrap().kid.unwrap();
    let key = DecodingKey::from_jwk(set.find(&kid).unwrap()).unwrap();
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_audience(&["musubi"]);
    let claims = jsonwebtoken::decode::<Value>(&token, &key, &validation).unwrap().claims;
    assert_eq!(claims["iss"], "http://localhost:3200");
}

#[tokio::test]
async fn a_rotation_of_keys_signs_nobody_out() {
    let key = |kid: &str, byte: u8| Key { kid: kid.to_owned(), secret: [byte; 32] };
    let keys = |keys: &[Key]| Tokens::new("https://musubi.test", keys).unwrap();
    let claims = |tokens: &Tokens| {
        let now = chrono::Utc::now().timestamp();
        let claims = musubi::tokens::Claims {
            sub: musubi::ids::UserId::new(),
            tid: None,
            sid: None,
            iat: now,
            exp: now + 900,
            nbf: None,
        };
        tokens.sign(claims).unwrap()
    };
    let now = chrono::Utc::now();
    let (old, new) = (key("old", 1), key("new", 2));
    // Three states of two nodes, each beside the one before: appended, moved to the front, alone.
    let first = keys(std::slice::from_ref(&old));
    let second = keys(&[old.clone(), new.clone()]);
    let third = keys(&[new, old]);
    for (signing, verifying) in
        [(&first, &second), (&second, &first), (&second, &third), (&third, &second)]
    {
        verifying.verify(&claims(signing), now).unwrap();
    }
    assert_eq!(third.jwks()["keys"][0]["kid"], "new");
}
