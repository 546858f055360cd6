//! Which modules may be loaded: all, or those whose digests somebody has written down.
//!
//! The digest covers the file of a module, or its folder without ignored names; what is listed is looked at before a
//! module is copied, and so before anything of it is started, also to describe itself. What a digest does not cover
//! must not run either: with a list, a module in Python does not see its neighbours in the plugin folder.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::HostError;

/// Hexadecimal digits of a digest.
const DIGITS: usize = 64;

/// Which modules may be loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust(Option<Arc<BTreeSet<String>>>);

impl Trust {
    /// Nothing may be loaded: digests can be taken, and nothing is started.
    pub fn none() -> Self {
        Self(Some(Arc::default()))
    }

    /// Reads digests, separated by commas, blanks or newlines; what follows `#` in a line is a comment.
    ///
    /// # Errors
    /// What is no digest, and what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut digests = BTreeSet::new();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            for word in line
                .split([',', ' ', '\t', ':'])
                .filter(|word| !word.is_empty())
            {
                let is_digest =
                    word.len() == DIGITS && word.bytes().all(|byte| byte.is_ascii_hexdigit());
                if !is_digest {
                    let shown: String = word.chars().take(80).collect();
                    return Err(format!(
                        "{shown:?} is no digest; expected SHA-256 in {DIGITS} hexadecimal digits, as `runner plugin \
                         list --digests` prints it"
                    ));
                }
                digests.insert(word.to_ascii_lowercase());
            }
        }
        Ok(Self(Some(Arc::new(digests))))
    }

    /// Whether only what is listed may be loaded.
    pub fn is_limited(&self) -> bool {
        self.0.is_some()
    }

    /// Refuses a module that is not listed.
    ///
    /// # Errors
    /// Names the digest, and what to do.
    pub(crate) fn check(&self, digest: &str) -> Result<(), HostError> {
        match &self.0 {
            Some(digests) if !digests.contains(digest) => Err(HostError::Module(format!(
                "its digest {digest} is not in ALLOWED_MODULES: whoever trusts the module adds it there"
            ))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_listed_is_trusted_and_the_refusal_names_the_digest() {
        let (one, other) = ("a1".repeat(32), "b2".repeat(32));
        let text = format!("# trusted\n{}  # shout\n\n", one.to_uppercase());
        let trust = Trust::parse(&text).unwrap();
        assert!(trust.check(&one).is_ok());
        let refused = trust.check(&other).unwrap_err().to_string();
        assert!(
            refused.contains(&other) && refused.contains("ALLOWED_MODULES"),
            "{refused}"
        );
        let both = Trust::parse(&format!("{one},{other}")).unwrap();
        assert!(both.check(&one).is_ok() && both.check(&other).is_ok());
        assert!(Trust::default().check(&other).is_ok());
        for nobody in [
            Trust::none(),
            Trust::parse("").unwrap(),
            Trust::parse("# none").unwrap(),
        ] {
            assert!(nobody.check(&one).is_err() && nobody.is_limited());
        }
    }

    #[test]
    fn what_is_no_digest_is_named() {
        for wrong in [
            "abc",
            &"g1".repeat(32),
            &"a1".repeat(31),
            &"a1".repeat(33),
            "../x",
        ] {
            let refused = Trust::parse(wrong).unwrap_err();
            assert!(
                refused.contains("is no digest; expected SHA-256"),
                "{refused}"
            );
        }
    }
}
