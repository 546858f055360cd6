//! The key that tokens are checked with, and the one algorithm that it is for.

use std::fmt;

use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use runner_fetch::Fetcher;

use super::jwks::Published;
use super::{AuthError, Refused};

/// Bytes that a secret must have at least: as many as the digest that is made with it (RFC 7518, 3.2).
const MIN_SECRET: usize = 32;

/// Where the key is.
#[derive(Clone)]
pub enum KeyConfig {
    /// A secret that is shared with who makes the tokens: HS256.
    Secret(String),
    /// A public key as PEM: RS256, ES256, ES384 or EdDSA, as its kind is.
    PublicKey(String),
    /// The URL of keys as JSON (RFC 7517).
    Jwks(String),
}

impl fmt::Debug for KeyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(_) => f.write_str("Secret"),
            Self::PublicKey(_) => f.write_str("PublicKey"),
            Self::Jwks(url) => f.debug_tuple("Jwks").field(url).finish(),
        }
    }
}

/// A key, with what it is for.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) key: DecodingKey,
    /// The only one that is accepted with it.
    pub(super) algorithm: Algorithm,
    /// Of which state of the keys it is.
    pub(super) generation: u64,
}

/// All keys that there are.
pub(super) enum Keys {
    /// One that does not change.
    Fixed(Box<Key>),
    /// Those that are published somewhere.
    Published(Published),
}

impl Keys {
    pub(super) fn new(config: &KeyConfig, fetcher: Fetcher) -> Result<Self, AuthError> {
        match config {
            KeyConfig::Secret(secret) if secret.len() < MIN_SECRET => {
                Err(AuthError::ShortSecret(secret.len()))
            }
            KeyConfig::Secret(secret) => Ok(Self::Fixed(Box::new(Key {
                key: DecodingKey::from_secret(secret.as_bytes()),
                algorithm: Algorithm::HS256,
                generation: 0,
            }))),
            KeyConfig::PublicKey(pem) => public(pem).map(Box::new).map(Self::Fixed),
            KeyConfig::Jwks(url) => Published::new(url, fetcher).map(Self::Published),
        }
    }

    /// The key for a token.
    pub(super) async fn of(&self, token: &str) -> Result<Key, Refused> {
        match self {
            Self::Fixed(key) => Ok((**key).clone()),
            Self::Published(published) => published.of(token).await,
        }
    }

    /// Changes when a key is gone.
    pub(super) fn generation(&self) -> u64 {
        match self {
            Self::Fixed(_) => 0,
            Self::Published(published) => published.generation(),
        }
    }
}

/// The key in a PEM text. Its kind says what it is for.
fn public(pem: &str) -> Result<Key, AuthError> {
    let wrong = |problem: &str| AuthError::PublicKey(problem.to_owned());
    if pem.contains("PRIVATE KEY") {
        return Err(wrong(
            "it is a private key, which only who makes the tokens should have; expected the public one",
        ));
    }
    if !pem.contains("-----BEGIN") {
        return Err(wrong(
            "expected PEM, which begins with -----BEGIN PUBLIC KEY-----, or the path of such a file",
        ));
    }
    let bytes = pem.as_bytes();
    let (key, algorithm) = if let Ok(key) = DecodingKey::from_rsa_pem(bytes) {
        (key, Algorithm::RS256)
    } else if let Ok(key) = DecodingKey::from_ec_pem(bytes) {
        let algorithm = curve_of(&key)
            .ok_or_else(|| wrong("its elliptic curve is not supported; expected P-256 or P-384"))?;
        (key, algorithm)
    } else if let Ok(key) = DecodingKey::from_ed_pem(bytes) {
        (key, Algorithm::EdDSA)
    } else {
        return Err(wrong(
            "expected an RSA, elliptic curve or Ed25519 key as PEM",
        ));
    };
    Ok(Key {
        key,
        algorithm,
        generation: 0,
    })
}

/// The algorithm of a point on an elliptic curve: an octet, and two coordinates.
fn curve_of(key: &DecodingKey) -> Option<Algorithm> {
    match key.kind() {
        DecodingKeyKind::SecretOrDer(point) => match point.len() {
            65 => Some(Algorithm::ES256),
            97 => Some(Algorithm::ES384),
            _ => None,
        },
        DecodingKeyKind::RsaModulusExponent { .. } => None,
    }
}
