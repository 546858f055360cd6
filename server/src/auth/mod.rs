//! Who asks: bearer tokens, checked with a key that the settings name.
//!
//! # Layout
//! - [`Auth`]: what the server holds; [`AuthConfig`] says how it is set up.
//! - `keys`: the key, and the one algorithm that it is for. `jwks`: keys that an identity provider publishes.
//! - `claims`: what a token says of its bearer. `verified`: tokens that were checked before.
//! - `crypto`: signatures, by `ring`, which TLS uses as well. `sign`: tokens of our own.
//!
//! The algorithm follows from the key and never from the token. What was verified is kept by its digest until
//! it expires, so that a request with a token costs hardly more than one without.

mod claims;
mod crypto;
mod jwks;
mod keys;
mod sign;
#[cfg(test)]
mod tests;
mod verified;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use runner_fetch::Fetcher;

use crate::access::Access;

use self::claims::Claims;
use self::keys::Keys;
use self::verified::Verified;

pub use self::keys::KeyConfig;
pub use self::sign::sign;

/// Bytes of the longest token that is looked at.
const MAX_TOKEN: usize = 16 * 1024;

/// Whether requests must show who sends them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Nobody is asked. The installation is changed with its own token.
    #[default]
    Off,
    /// Who shows a token is known by it; others may see and run everything.
    Optional,
    /// Whatever is not public needs a token.
    Required,
}

impl Mode {
    /// What a request without a token may do.
    fn anonymous(self) -> Access {
        match self {
            Self::Off | Self::Optional => Access::User,
            Self::Required => Access::Public,
        }
    }
}

/// How tokens are checked.
#[derive(Debug, Clone, Default)]
pub struct AuthConfig {
    /// Whether there must be one.
    pub mode: Mode,
    /// With what; `None` only where nobody is asked.
    pub key: Option<KeyConfig>,
    /// The issuer (`iss`) that tokens must name, if any.
    pub issuer: Option<String>,
    /// The audience (`aud`) that tokens must name, if any.
    pub audience: Option<String>,
    /// Where the roles stand in the claims: a path with dots.
    pub roles_claim: String,
    /// How far clocks may differ.
    pub leeway: Duration,
}

/// Why tokens cannot be checked with these settings.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// There is none.
    #[error("there is no key to check tokens with")]
    NoKey,
    /// It is too short to be one.
    #[error(
        "the secret has {0} bytes; expected at least 32, such as `openssl rand -hex 32` prints"
    )]
    ShortSecret(usize),
    /// It is none.
    #[error("the public key is not usable: {0}")]
    PublicKey(String),
    /// The text is no address of keys.
    #[error("the address of the keys is not usable: {0}")]
    Jwks(String),
}

/// Checks tokens. Cheap to clone.
#[derive(Clone)]
pub struct Auth(Arc<Inner>);

struct Inner {
    mode: Mode,
    keys: Option<Keys>,
    claims: Claims,
    verified: Verified,
}

/// Who sent a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The subject of the token.
    pub(crate) subject: Option<Arc<str>>,
    /// What the caller may do.
    pub(crate) access: Access,
    /// Whether a token was shown that is for the runner.
    pub(crate) is_known: bool,
}

impl Caller {
    /// Who shows the token of the installation.
    pub(crate) const OWNER: Self = Self {
        subject: None,
        access: Access::Admin,
        is_known: true,
    };
}

/// Why a token is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// It is wrong; the text says what is.
    #[error("{0}")]
    Invalid(String),
    /// Nothing can be said: there are no keys to check it with.
    #[error("the keys to check tokens with are not there: {0}")]
    NoKeys(String),
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Auth").field(&self.0.mode).finish()
    }
}

impl Auth {
    /// Prepares the key. `fetcher` opens the address of published ones.
    ///
    /// # Errors
    /// The key is missing or none.
    pub fn new(config: AuthConfig, fetcher: Fetcher) -> Result<Self, AuthError> {
        crypto::install();
        let keys = match (config.mode, &config.key) {
            (Mode::Off, _) => None,
            (_, Some(key)) => Some(Keys::new(key, fetcher)?),
            (_, None) => return Err(AuthError::NoKey),
        };
        Ok(Self(Arc::new(Inner {
            mode: config.mode,
            keys,
            claims: Claims::new(&config),
            verified: Verified::default(),
        })))
    }

    /// For those who never ask.
    pub fn off() -> Self {
        Self(Arc::new(Inner {
            mode: Mode::Off,
            keys: None,
            claims: Claims::new(&AuthConfig::default()),
            verified: Verified::default(),
        }))
    }

    /// Whether requests must show who sends them.
    pub fn mode(&self) -> Mode {
        self.0.mode
    }

    /// Looks for published keys before the first token comes, so that it is not the one who waits, and that
    /// the log says at once when they are not there.
    pub fn prepare(&self) {
        if matches!(self.0.keys, Some(Keys::Published(_))) {
            let auth = self.clone();
            tokio::spawn(async move {
                if let Some(Keys::Published(published)) = &auth.0.keys {
                    // What is wrong is in the log.
                    let _ = published.refresh().await;
                }
            });
        }
    }

    /// Who shows no token.
    pub(crate) fn anonymous(&self) -> Caller {
        Caller {
            subject: None,
            access: self.0.mode.anonymous(),
            is_known: false,
        }
    }

    /// Who shows this token. It never takes away what anybody may do.
    pub(crate) async fn bearer(&self, token: &str) -> Result<Caller, Refused> {
        let Some(keys) = &self.0.keys else {
            return Ok(self.anonymous());
        };
        if token.len() > MAX_TOKEN {
            return Err(Refused::Invalid(format!(
                "The token has {} bytes; the limit is {MAX_TOKEN}.",
                token.len()
            )));
        }
        let digest = verified::digest(token);
        let (now, generation) = (now(), keys.generation());
        if let Some(caller) = self.0.verified.get(&digest, generation, now) {
            return Ok(caller);
        }
        let key = keys.of(token).await?;
        let claims = self.0.claims.verify(token, &key)?;
        let caller = Caller {
            subject: claims.subject.map(Arc::from),
            access: claims.access.max(self.0.mode.anonymous()),
            is_known: true,
        };
        self.0
            .verified
            .put(digest, &caller, key.generation, claims.expires, now);
        Ok(caller)
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
