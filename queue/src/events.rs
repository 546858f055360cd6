use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::hints::Outgoing;

/// After so long without a hint from other processes a watcher looks by itself.
const LOST_HINT: Duration = Duration::from_secs(15);

/// Tells those who wait for a task that it changed: watchers in this process at once, those in other
/// processes of the queue soon.
#[derive(Debug, Clone, Default)]
pub struct Events(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    watched: Mutex<HashMap<i64, watch::Sender<u64>>>,
    /// Told when somebody begins to watch while nobody did.
    has_watchers: Notify,
    outgoing: Option<Arc<Outgoing>>,
}

/// A listener for one task.
#[derive(Debug)]
pub struct Watch {
    task: i64,
    changes: watch::Receiver<u64>,
    events: Events,
}

impl Events {
    /// Events of this process only. Those of a queue are had from [`Queue::events`](crate::Queue::events).
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn telling(outgoing: Option<Arc<Outgoing>>) -> Self {
        Self(Arc::new(Shared {
            outgoing,
            ..Shared::default()
        }))
    }

    /// Says that a task changed in SQL. Never waits.
    pub fn changed(&self, task: i64) {
        self.changed_here(task);
        if let Some(outgoing) = &self.0.outgoing {
            outgoing.changed(task);
        }
    }

    /// Tells the watchers of this process only.
    pub(crate) fn changed_here(&self, task: i64) {
        if let Some(sender) = self.watched().get(&task) {
            sender.send_modify(|count| *count += 1);
        }
    }

    /// Tells all watchers of this process: what changed is not known.
    pub(crate) fn everything_changed(&self) {
        for sender in self.watched().values() {
            sender.send_modify(|count| *count += 1);
        }
    }

    /// Listens to a task. Read it from SQL after this, so that no change is missed.
    pub fn watch(&self, task: i64) -> Watch {
        let mut watched = self.watched();
        if watched.is_empty() {
            self.0.has_watchers.notify_one();
        }
        let sender = watched.entry(task).or_insert_with(|| watch::Sender::new(0));
        Watch {
            task,
            changes: sender.subscribe(),
            events: self.clone(),
        }
    }

    /// Whether somebody watches a task in this process.
    pub(crate) fn is_watched(&self) -> bool {
        !self.watched().is_empty()
    }

    /// Returns when somebody began to watch while nobody did, perhaps some time ago. For one caller.
    pub(crate) async fn first_watch(&self) {
        self.0.has_watchers.notified().await;
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<i64, watch::Sender<u64>>> {
        self.0
            .watched
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// Waits for a change since the last call. Several changes may count as one, and now and then there
    /// is none: read SQL.
    pub async fn changed(&mut self) {
        let change = self.changes.changed();
        let heard = match self.events.0.outgoing {
            // Another process may have ended between its change and the hint.
            Some(_) => timeout(LOST_HINT, change).await.unwrap_or(Ok(())),
            None => change.await,
        };
        if heard.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = self.events.watched();
        // This listener still counts.
        if watched
            .get(&self.task)
            .is_some_and(|sender| sender.receiver_count() <= 1)
        {
            watched.remove(&self.task);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_after_watching_is_never_missed_and_nothing_is_left() {
        let events = Events::new();
        events.changed(1);
        let mut first = events.watch(1);
        let mut second = events.watch(1);
        events.changed(1);
        first.changed().await;
        second.changed().await;
        drop(first);
        assert_eq!(events.watched().len(), 1);
        drop(second);
        assert!(events.watched().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_hint_that_another_process_took_to_its_grave_costs_time_only() {
        let begin = tokio::time::Instant::now();
        let mut watch = Events::telling(Some(Arc::default())).watch(1);
        watch.changed().await;
        assert_eq!(begin.elapsed(), LOST_HINT);
        let mut alone = Events::new().watch(1);
        let quiet = timeout(10 * LOST_HINT, alone.changed()).await;
        assert!(quiet.is_err());
    }
}
