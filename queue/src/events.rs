use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// Tells those who wait for a task that it changed. Costs nothing for tasks that nobody watches.
#[derive(Debug, Clone, Default)]
pub struct Events(Arc<Mutex<HashMap<i64, watch::Sender<u64>>>>);

/// A listener for one task.
#[derive(Debug)]
pub struct Watch {
    task: i64,
    changes: watch::Receiver<u64>,
    events: Events,
}

impl Events {
    /// Nobody listens yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that a task changed in SQL.
    pub fn changed(&self, task: i64) {
        if let Some(sender) = self.map().get(&task) {
            sender.send_modify(|count| *count += 1);
        }
    }

    /// Listens to a task. Read it from SQL after this, so that no change is missed.
    pub fn watch(&self, task: i64) -> Watch {
        let mut map = self.map();
        let sender = map.entry(task).or_insert_with(|| watch::Sender::new(0));
        Watch {
            task,
            changes: sender.subscribe(),
            events: self.clone(),
        }
    }

    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<i64, watch::Sender<u64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// Waits for a change since the last call. Several changes may count as one.
    pub async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut map = self.events.map();
        // This listener still counts.
        if map
            .get(&self.task)
            .is_some_and(|sender| sender.receiver_count() <= 1)
        {
            map.remove(&self.task);
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
        assert_eq!(events.map().len(), 1);
        drop(second);
        assert!(events.map().is_empty());
    }
}
