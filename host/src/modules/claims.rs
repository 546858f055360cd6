//! Names and plugins that loads are about to take: from the decision about a load until it has its place, nobody else
//! takes them. Loads that have nothing in common do not wait for each other.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::module::Provided;

/// What all loads are about to take.
#[derive(Debug, Default)]
pub(super) struct Claims {
    claimed: Mutex<Claimed>,
    /// Woken when something is free again.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Claimed {
    names: BTreeSet<String>,
    /// Identifiers.
    plugins: BTreeSet<String>,
}

/// What one load is about to take, until it is dropped.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    all: &'a Claims,
    name: String,
    plugins: Vec<String>,
}

impl Claims {
    /// Waits until nobody else is about to take this name or one of these plugins.
    pub(super) async fn claim(&self, name: String, provided: &[Provided]) -> Claim<'_> {
        let identifiers = provided.iter().map(|one| one.plugin.identifier.clone());
        self.claim_all(name, identifiers.collect()).await
    }

    async fn claim_all(&self, name: String, plugins: Vec<String>) -> Claim<'_> {
        loop {
            // Wakes also for what is freed before it is waited for.
            let freed = self.freed.notified();
            if self.locked().take(&name, &plugins) {
                return Claim {
                    all: self,
                    name,
                    plugins,
                };
            }
            freed.await;
        }
    }

    fn locked(&self) -> MutexGuard<'_, Claimed> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claimed {
    /// All or nothing.
    fn take(&mut self, name: &str, plugins: &[String]) -> bool {
        let is_free = !self.names.contains(name)
            && !plugins.iter().any(|plugin| self.plugins.contains(plugin));
        if is_free {
            self.names.insert(name.to_owned());
            self.plugins.extend(plugins.iter().cloned());
        }
        is_free
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut claimed = self.all.locked();
        claimed.names.remove(&self.name);
        for plugin in &self.plugins {
            claimed.plugins.remove(plugin);
        }
        drop(claimed);
        self.all.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_takes_something_else_does_not_wait() {
        let all = Claims::default();
        let claim = |name: &str, plugins: &[&str]| {
            let plugins = plugins.iter().map(|plugin| (*plugin).to_owned());
            all.claim_all(name.to_owned(), plugins.collect())
        };
        let first = claim("a", &["one@1", "two@1"]).await;
        let other = claim("b", &["three@1"]).await;
        let mut same_name = std::pin::pin!(claim("a", &["four@1"]));
        let mut same_plugin = std::pin::pin!(claim("c", &["five@1", "two@1"]));
        assert!(futures::poll!(&mut same_name).is_pending());
        assert!(futures::poll!(&mut same_plugin).is_pending());
        // Who waits has taken nothing.
        drop(claim("d", &["five@1"]).await);
        drop(other);
        assert!(futures::poll!(&mut same_name).is_pending());
        drop(first);
        let (_name, _plugin) = tokio::join!(same_name, same_plugin);
        assert!(all.locked().names.contains("a") && all.locked().plugins.contains("two@1"));
    }
}
