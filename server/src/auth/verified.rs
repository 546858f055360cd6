//! Tokens that were checked before, by their digest.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

use super::Caller;

/// Tokens that are kept. When there are more, all are checked once more.
const MAX_KEPT: usize = 10_000;
/// Seconds after which a token is checked again though it has not expired: its key may be gone.
const MAX_AGE: u64 = 3600;

/// The digest of a token. The tokens themselves are not kept.
pub(super) type Digest = [u8; 32];

/// The digest of a token.
pub(super) fn digest(token: &str) -> Digest {
    Sha256::digest(token.as_bytes()).into()
}

/// What is known of tokens.
#[derive(Default)]
pub(super) struct Verified(Mutex<HashMap<Digest, Entry>>);

struct Entry {
    caller: Caller,
    /// Which keys it was checked with.
    generation: u64,
    /// The second from which on it is not believed any more.
    until: u64,
}

impl Verified {
    fn entries(&self) -> MutexGuard<'_, HashMap<Digest, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is known by a token, if the keys are still those of this generation.
    pub(super) fn get(&self, digest: &Digest, generation: u64, now: u64) -> Option<Caller> {
        let entries = self.entries();
        let entry = entries.get(digest)?;
        let is_fresh = entry.generation == generation && now < entry.until;
        is_fresh.then(|| entry.caller.clone())
    }

    /// Remembers who is known by a token that expires in this second.
    pub(super) fn put(
        &self,
        digest: Digest,
        caller: &Caller,
        generation: u64,
        expires: u64,
        now: u64,
    ) {
        let entry = Entry {
            caller: caller.clone(),
            generation,
            until: expires.min(now.saturating_add(MAX_AGE)),
        };
        let mut entries = self.entries();
        if entries.len() >= MAX_KEPT {
            entries.retain(|_, entry| entry.generation == generation && now < entry.until);
            if entries.len() >= MAX_KEPT {
                entries.clear();
            }
        }
        entries.insert(digest, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;

    fn caller() -> Caller {
        Caller {
            subject: Some("me".into()),
            access: Access::User,
            is_known: true,
        }
    }

    #[test]
    fn a_token_is_known_until_it_expires_or_the_keys_change() {
        let verified = Verified::default();
        let digest = digest("a");
        verified.put(digest, &caller(), 1, 100, 50);
        assert_eq!(verified.get(&digest, 1, 99), Some(caller()));
        assert_eq!(verified.get(&digest, 1, 100), None);
        assert_eq!(verified.get(&digest, 2, 99), None);
        assert_eq!(verified.get(&super::digest("b"), 1, 99), None);
        verified.put(digest, &caller(), 1, u64::MAX, 50);
        assert_eq!(verified.get(&digest, 1, 50 + MAX_AGE), None);
    }

    #[test]
    fn no_more_are_kept_than_the_limit() {
        let verified = Verified::default();
        for number in 0..2 * MAX_KEPT + 10 {
            // The first ones have expired when there is no room any more.
            let expires = if number < MAX_KEPT { 100 } else { 1000 };
            let now = if number < MAX_KEPT { 50 } else { 100 };
            verified.put(digest(&number.to_string()), &caller(), 1, expires, now);
            assert!(verified.entries().len() <= MAX_KEPT);
        }
        let last = digest(&(2 * MAX_KEPT + 9).to_string());
        assert!(verified.get(&last, 1, 100).is_some());
    }
}
