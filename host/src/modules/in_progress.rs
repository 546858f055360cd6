//! One change of a module at a time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// What is being done with a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Load,
    Start,
    Reload,
    Stop,
    Remove,
}

impl Verb {
    /// As in "is being …".
    fn participle(self) -> &'static str {
        match self {
            Self::Load => "loaded",
            Self::Start => "started",
            Self::Reload => "reloaded",
            Self::Stop => "stopped",
            Self::Remove => "removed",
        }
    }

    /// Whether it can be given up: the module is where it was before.
    fn can_be_given_up(self) -> bool {
        matches!(self, Self::Load | Self::Start | Self::Reload)
    }
}

/// The changes that are in progress, by the name of their module.
#[derive(Debug, Default)]
pub(super) struct InProgress(Arc<Mutex<BTreeMap<String, Entry>>>);

#[derive(Debug, Clone)]
struct Entry {
    verb: Verb,
    give_up: CancellationToken,
    ended: CancellationToken,
}

/// A change in progress, until it is dropped.
#[derive(Debug)]
pub(super) struct Change {
    name: String,
    entry: Entry,
    all: Arc<Mutex<BTreeMap<String, Entry>>>,
}

impl InProgress {
    /// Begins a change, unless there is another one; then what it is.
    pub(super) fn begin(&self, name: &str, verb: Verb) -> Result<Change, String> {
        let mut all = lock(&self.0);
        if let Some(other) = all.get(name) {
            return Err(format!(
                "the module {name} is being {} just now",
                other.verb.participle()
            ));
        }
        let entry = Entry {
            verb,
            give_up: CancellationToken::new(),
            ended: CancellationToken::new(),
        };
        all.insert(name.to_owned(), entry.clone());
        Ok(Change {
            name: name.to_owned(),
            entry,
            all: Arc::clone(&self.0),
        })
    }

    /// Whether there is a change of this module.
    pub(super) fn is_changing(&self, name: &str) -> bool {
        lock(&self.0).contains_key(name)
    }

    /// Begins a change that others have to give way to, where they can.
    pub(super) async fn begin_at_any_rate(&self, name: &str, verb: Verb) -> Result<Change, String> {
        loop {
            let problem = match self.begin(name, verb) {
                Ok(change) => return Ok(change),
                Err(problem) => problem,
            };
            let other = lock(&self.0).get(name).cloned();
            match other {
                Some(other) if other.verb.can_be_given_up() => {
                    other.give_up.cancel();
                    other.ended.cancelled().await;
                }
                Some(_) => return Err(problem),
                None => {}
            }
        }
    }
}

impl Change {
    /// Until somebody wants it to be given up.
    pub(super) async fn given_up(&self) {
        self.entry.give_up.cancelled().await;
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        lock(&self.all).remove(&self.name);
        self.entry.ended.cancel();
    }
}

fn lock(all: &Mutex<BTreeMap<String, Entry>>) -> MutexGuard<'_, BTreeMap<String, Entry>> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_two_changes_at_once_one_is_told_of_the_other() {
        let all = InProgress::default();
        let first = all.begin("m", Verb::Reload).unwrap();
        let problem = all.begin("m", Verb::Reload).unwrap_err();
        assert_eq!(problem, "the module m is being reloaded just now");
        assert!(all.begin("other", Verb::Reload).is_ok());
        drop(first);
        assert!(all.begin("m", Verb::Stop).is_ok());
    }

    #[tokio::test]
    async fn a_removal_makes_a_load_give_up_and_waits_for_a_stop_no_more_than_others() {
        let all = InProgress::default();
        let load = all.begin("m", Verb::Load).unwrap();
        let loading = async {
            load.given_up().await;
            drop(load);
        };
        let (removal, ()) = tokio::join!(all.begin_at_any_rate("m", Verb::Remove), loading);
        let removal = removal.unwrap();
        let problem = all.begin_at_any_rate("m", Verb::Remove).await.unwrap_err();
        assert_eq!(problem, "the module m is being removed just now");
        drop(removal);
    }
}
