//! What a token says of its bearer.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation, decode};
use serde_json::{Map, Value};

use super::keys::Key;
use super::{AuthConfig, Refused};
use crate::access::Access;

/// Characters of a subject that are kept; it is the name under which tasks take turns.
const MAX_SUBJECT: usize = 200;

/// The rules for what a token says.
pub(super) struct Claims {
    /// Without the algorithm, which comes with the key.
    rules: Validation,
    /// Where the roles stand.
    roles: String,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) subject: Option<String>,
    pub(super) access: Access,
    /// The second from which on the token is not believed any more.
    pub(super) expires: u64,
}

impl Claims {
    pub(super) fn new(config: &AuthConfig) -> Self {
        // The algorithm is replaced by that of the key.
        let mut rules = Validation::new(Algorithm::HS256);
        let mut required = vec!["exp"];
        rules.leeway = config.leeway.as_secs();
        rules.validate_nbf = true;
        rules.validate_aud = config.audience.is_some();
        if let Some(audience) = &config.audience {
            rules.set_audience(&[audience]);
            required.push("aud");
        }
        if let Some(issuer) = &config.issuer {
            rules.set_issuer(&[issuer]);
            required.push("iss");
        }
        rules.set_required_spec_claims(&required);
        Self {
            rules,
            roles: config.roles_claim.clone(),
        }
    }

    /// Checks signature, times, issuer and audience.
    pub(super) fn verify(&self, token: &str, key: &Key) -> Result<Found, Refused> {
        let mut rules = self.rules.clone();
        rules.algorithms = vec![key.algorithm];
        let decoded = decode::<Map<String, Value>>(token, &key.key, &rules);
        let decoded =
            decoded.map_err(|error| Refused::Invalid(problem(error.kind(), key.algorithm)))?;
        // RFC 7515, 4.1.11: who does not understand what is demanded must refuse.
        if decoded.header.crit.is_some() {
            return Err(Refused::Invalid(
                "The token demands (`crit`) what is not understood here.".to_owned(),
            ));
        }
        let claims = decoded.claims;
        let subject = claims.get("sub").and_then(Value::as_str);
        let subject = subject.map(|subject| subject.chars().take(MAX_SUBJECT).collect());
        Ok(Found {
            subject,
            access: access(&claims, &self.roles),
            expires: expires(&claims).saturating_add(rules.leeway),
        })
    }
}

/// What is wrong with a token, in words that tell its bearer what to do and nobody anything else.
fn problem(kind: &ErrorKind, algorithm: Algorithm) -> String {
    match kind {
        ErrorKind::ExpiredSignature => "The token has expired.".to_owned(),
        ErrorKind::ImmatureSignature => "The token is not valid yet.".to_owned(),
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => {
            format!("The token is not signed with {algorithm:?}, which is what is accepted here.")
        }
        ErrorKind::InvalidSignature => "The signature of the token is wrong.".to_owned(),
        ErrorKind::InvalidAudience => "The token is for another audience.".to_owned(),
        ErrorKind::InvalidIssuer => "The token is from another issuer.".to_owned(),
        ErrorKind::MissingRequiredClaim(claim) => {
            format!("The token does not say {claim:?}, which is needed here.")
        }
        ErrorKind::InvalidClaimFormat(claim) => {
            format!("What the token says as {claim:?} is not understood.")
        }
        _ => "The token is no JSON Web Token.".to_owned(),
    }
}

/// The second in which a token expires; that there is one was checked.
fn expires(claims: &Map<String, Value>) -> u64 {
    let exp = claims.get("exp");
    let whole = exp.and_then(Value::as_u64);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it was checked to be a positive number; a cast saturates"
    )]
    let part = exp.and_then(Value::as_f64).map(|seconds| seconds as u64);
    whole.or(part).unwrap_or(0)
}

/// The most that one of the roles allows. Roles are a list, or a text with spaces or commas between them.
fn access(claims: &Map<String, Value>, path: &str) -> Access {
    let role = |name: &str| match name {
        "admin" => Access::Admin,
        "user" => Access::User,
        "viewer" => Access::Viewer,
        _ => Access::Public,
    };
    let of_text = |text: &str| {
        let names = text.split([' ', ',']).map(role);
        names.max().unwrap_or(Access::Public)
    };
    match at(claims, path) {
        Some(Value::String(text)) => of_text(text),
        Some(Value::Array(names)) => {
            let names = names.iter().filter_map(Value::as_str).map(role);
            names.max().unwrap_or(Access::Public)
        }
        _ => Access::Public,
    }
}

/// The claim at a path with dots. A claim whose name has the dots comes first.
fn at<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(claim) = claims.get(path) {
        return Some(claim);
    }
    let mut names = path.split('.');
    let first = claims.get(names.next()?)?;
    names.try_fold(first, |value, name| value.get(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn roles_are_found_where_providers_put_them() {
        for (claims, path, expected) in [
            (json!({"roles": ["viewer", "user"]}), "roles", Access::User),
            (json!({"roles": ["other"]}), "roles", Access::Public),
            (json!({"roles": [1, null, "admin"]}), "roles", Access::Admin),
            (json!({"scope": "openid viewer"}), "scope", Access::Viewer),
            (json!({"roles": "user,admin"}), "roles", Access::Admin),
            (json!({"roles": "administrator"}), "roles", Access::Public),
            (json!({"roles": {"admin": true}}), "roles", Access::Public),
            (json!({}), "roles", Access::Public),
            (
                json!({"realm_access": {"roles": ["admin"]}}),
                "realm_access.roles",
                Access::Admin,
            ),
            (
                json!({"https://example.org/roles": ["user"]}),
                "https://example.org/roles",
                Access::User,
            ),
            (json!({"a": "admin"}), "a.b.c", Access::Public),
            (json!({"": "admin"}), "a..", Access::Public),
        ] {
            let claims = claims.as_object().unwrap();
            assert_eq!(access(claims, path), expected, "{claims:?} {path}");
        }
    }

    #[test]
    fn the_second_of_expiry_is_a_number_of_any_kind() {
        for (exp, expected) in [
            (json!(5), 5),
            (json!(5.9), 5),
            (json!(1e300), u64::MAX),
            (json!("5"), 0),
        ] {
            let claims = json!({ "exp": exp });
            assert_eq!(expires(claims.as_object().unwrap()), expected);
        }
    }
}
