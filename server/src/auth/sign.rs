//! Tokens of our own, for who shares the secret and has no identity provider.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Map, Value, json};

use super::{AuthConfig, crypto, now};

/// A token that lasts so long, signed with a shared secret, that this configuration accepts.
///
/// # Errors
/// It cannot be signed.
pub fn sign(
    secret: &str,
    config: &AuthConfig,
    subject: &str,
    role: &str,
    lasts: Duration,
) -> Result<String, String> {
    crypto::install();
    let now = now();
    let mut claims = Map::new();
    claims.insert("sub".to_owned(), json!(subject));
    claims.insert("iat".to_owned(), json!(now));
    claims.insert("exp".to_owned(), json!(now.saturating_add(lasts.as_secs())));
    if let Some(issuer) = &config.issuer {
        claims.insert("iss".to_owned(), json!(issuer));
    }
    if let Some(audience) = &config.audience {
        claims.insert("aud".to_owned(), json!(audience));
    }
    put(&mut claims, &config.roles_claim, json!([role]));
    let key = EncodingKey::from_secret(secret.as_bytes());
    encode(&Header::new(Algorithm::HS256), &claims, &key).map_err(|error| error.to_string())
}

/// Puts a claim where the path with dots finds it.
fn put(claims: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        // A URL is the name of a claim.
        Some((first, rest)) if !path.contains('/') => {
            let below = claims.entry(first).or_insert_with(|| json!({}));
            if let Value::Object(below) = below {
                put(below, rest, value);
            }
        }
        _ => {
            claims.insert(path.to_owned(), value);
        }
    }
}
