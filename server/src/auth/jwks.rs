//! Keys that an identity provider publishes as JSON (RFC 7517).
//!
//! They are fetched when they are first needed, and again when a token names one that is not known, or when
//! they have become old. Nobody can make the runner ask the provider more often than every few seconds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, decode_header};
use runner_fetch::{Fetcher, redact};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;

use super::keys::Key;
use super::{AuthError, Refused};

/// Bytes of a set of keys.
const MAX_SIZE: usize = 256 * 1024;
/// Keys in a set.
const MAX_KEYS: usize = 100;
/// Time for the whole answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two attempts.
const PAUSE: Duration = Duration::from_secs(5);
/// Age of a set from which on it is fetched again; the old one serves if that fails.
const OLD: Duration = Duration::from_secs(3600);

/// The published keys.
pub(super) struct Published {
    url: String,
    fetcher: Fetcher,
    /// What was fetched last.
    known: RwLock<Arc<Known>>,
    generation: AtomicU64,
    /// One asks at a time.
    attempt: Mutex<Option<Attempt>>,
}

/// A set of keys.
#[derive(Default)]
struct Known {
    /// As it came.
    content: Vec<u8>,
    keys: Vec<(Option<String>, Key)>,
    /// None before there were any.
    fetched: Option<Instant>,
}

/// The last time that the provider was asked.
struct Attempt {
    at: Instant,
    problem: Option<String>,
}

impl Published {
    pub(super) fn new(url: &str, fetcher: Fetcher) -> Result<Self, AuthError> {
        let wrong = |problem: String| AuthError::Jwks(problem);
        let parsed = Url::parse(url).map_err(|error| {
            wrong(format!(
                "{error}; expected one such as https://id.example.org/keys"
            ))
        })?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(wrong(format!(
                "its scheme is {:?}; expected https or http",
                parsed.scheme()
            )));
        }
        Ok(Self {
            url: url.to_owned(),
            fetcher,
            known: RwLock::default(),
            generation: AtomicU64::new(1),
            attempt: Mutex::default(),
        })
    }

    /// Changes when the keys do.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The key that a token names; of a single one also if it names none.
    pub(super) async fn of(&self, token: &str) -> Result<Key, Refused> {
        let header = decode_header(token)
            .map_err(|_| Refused::Invalid("The token is no JSON Web Token.".to_owned()))?;
        let name = header.kid.as_deref();
        let known = self.known();
        let found = known.find(name);
        if let Some(key) = &found
            && known.fetched.is_some_and(|at| at.elapsed() < OLD)
        {
            return Ok(key.clone());
        }
        let outcome = self.refresh().await;
        let known = self.known();
        match (known.find(name).or(found), outcome) {
            (Some(key), _) => Ok(key),
            (None, Err(problem)) => Err(Refused::NoKeys(problem)),
            (None, Ok(())) => Err(Refused::Invalid(match name {
                Some(_) => {
                    "The token is signed with a key that its issuer does not publish.".to_owned()
                }
                None => {
                    "The token does not name its key (`kid`), and there are several.".to_owned()
                }
            })),
        }
    }

    /// Fetches the keys, unless somebody just did.
    pub(super) async fn refresh(&self) -> Result<(), String> {
        let mut attempt = self.attempt.lock().await;
        if let Some(Attempt { at, problem }) = &*attempt
            && at.elapsed() < PAUSE
        {
            return problem.clone().map_or(Ok(()), Err);
        }
        let outcome = self.fetch().await;
        if let Err(problem) = &outcome {
            tracing::warn!(
                "the keys to check tokens with (AUTH_JWKS_URL {}) are not there: {problem}",
                redact(&self.url)
            );
        }
        *attempt = Some(Attempt {
            at: Instant::now(),
            problem: outcome.clone().err(),
        });
        outcome
    }

    /// As if nobody had asked for long.
    #[cfg(test)]
    pub(super) async fn forget_attempt(&self) {
        *self.attempt.lock().await = None;
    }

    async fn fetch(&self) -> Result<(), String> {
        let content = self.fetcher.read(&self.url, MAX_SIZE, TIMEOUT).await;
        let content = content.map_err(|error| error.to_string())?;
        let before = self.known();
        // Tokens that were checked with the same keys need not be checked again.
        let is_same = before.fetched.is_some() && before.content == content;
        let generation = self.generation().wrapping_add(u64::from(!is_same));
        let keys = match is_same {
            true => before.keys.clone(),
            false => parse(&content, generation)?,
        };
        let known = Known {
            content,
            keys,
            fetched: Some(Instant::now()),
        };
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(known);
        self.generation.store(generation, Ordering::Release);
        Ok(())
    }
}

impl Known {
    fn find(&self, name: Option<&str>) -> Option<Key> {
        let key = match (name, self.keys.as_slice()) {
            (None, [(_, only)]) => Some(only),
            (None, _) => None,
            (Some(name), keys) => {
                let mut named = keys.iter();
                let found = named.find(|(known, _)| known.as_deref() == Some(name));
                found.map(|(_, key)| key)
            }
        };
        key.cloned()
    }
}

/// The usable keys of a set. Those that are not understood, or are not for signatures, are passed over, as
/// the RFC has it; a set without any is an error.
fn parse(content: &[u8], generation: u64) -> Result<Vec<(Option<String>, Key)>, String> {
    let set: Value = serde_json::from_slice(content)
        .map_err(|error| format!("what came is no JSON: {error}"))?;
    let keys = set.get("keys").and_then(Value::as_array);
    let keys = keys.ok_or("what came is no set of keys: it has no list `keys`")?;
    let usable: Vec<_> = keys
        .iter()
        .take(MAX_KEYS)
        .filter_map(|key| usable(key, generation))
        .collect();
    if usable.is_empty() {
        return Err(format!(
            "none of the {} keys is a public one for signatures (RSA, P-256, P-384, Ed25519)",
            keys.len()
        ));
    }
    Ok(usable)
}

fn usable(key: &Value, generation: u64) -> Option<(Option<String>, Key)> {
    let jwk: Jwk = serde_json::from_value(key.clone()).ok()?;
    let is_for_signatures = matches!(
        jwk.common.public_key_use,
        None | Some(PublicKeyUse::Signature)
    );
    let algorithm = match (&jwk.algorithm, jwk.common.key_algorithm) {
        (AlgorithmParameters::RSA(_), None) => Algorithm::RS256,
        (AlgorithmParameters::RSA(_), Some(named)) => match named {
            KeyAlgorithm::RS256 => Algorithm::RS256,
            KeyAlgorithm::RS384 => Algorithm::RS384,
            KeyAlgorithm::RS512 => Algorithm::RS512,
            KeyAlgorithm::PS256 => Algorithm::PS256,
            KeyAlgorithm::PS384 => Algorithm::PS384,
            KeyAlgorithm::PS512 => Algorithm::PS512,
            _ => return None,
        },
        (AlgorithmParameters::EllipticCurve(point), _) => match point.curve {
            EllipticCurve::P256 => Algorithm::ES256,
            EllipticCurve::P384 => Algorithm::ES384,
            _ => return None,
        },
        (AlgorithmParameters::OctetKeyPair(pair), _) if pair.curve == EllipticCurve::Ed25519 => {
            Algorithm::EdDSA
        }
        // A secret that is published is none.
        _ => return None,
    };
    let key = Key {
        key: DecodingKey::from_jwk(&jwk).ok()?,
        algorithm,
        generation,
    };
    is_for_signatures.then_some((jwk.common.key_id, key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_public_keys_for_signatures_are_taken() {
        let point = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
        let set = json!({"keys": [
            {"kty": "EC", "kid": "ec", "crv": "P-256", "x": point, "y": point},
            {"kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": point, "use": "sig"},
            {"kty": "RSA", "kid": "rsa", "n": "AQAB", "e": "AQAB"},
            {"kty": "RSA", "kid": "pss", "alg": "PS256", "n": "AQAB", "e": "AQAB"},
            {"kty": "RSA", "kid": "enc", "use": "enc", "n": "AQAB", "e": "AQAB"},
            {"kty": "RSA", "kid": "oaep", "alg": "RSA-OAEP", "n": "AQAB", "e": "AQAB"},
            {"kty": "oct", "kid": "secret", "k": "c2VjcmV0"},
            {"kty": "new", "kid": "new"},
            {"kid": 1}, null, "x",
        ]});
        let keys = parse(set.to_string().as_bytes(), 1).unwrap();
        let found: Vec<_> = keys
            .iter()
            .map(|(name, key)| (name.as_deref().unwrap(), key.algorithm))
            .collect();
        assert_eq!(
            found,
            [
                ("ec", Algorithm::ES256),
                ("ed", Algorithm::EdDSA),
                ("rsa", Algorithm::RS256),
                ("pss", Algorithm::PS256),
            ]
        );
    }

    #[test]
    fn what_is_no_set_of_keys_is_told() {
        for (content, problem) in [
            ("<html>", "no JSON"),
            ("", "no JSON"),
            ("[]", "no list `keys`"),
            ("{\"keys\": 1}", "no list `keys`"),
            ("{\"keys\": []}", "none of the 0 keys"),
            (
                "{\"keys\": [{\"kty\": \"oct\", \"k\": \"YQ\"}]}",
                "none of the 1 keys",
            ),
        ] {
            let error = parse(content.as_bytes(), 1).err().unwrap();
            assert!(error.contains(problem), "{content}: {error}");
        }
    }
}
