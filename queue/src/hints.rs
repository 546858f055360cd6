//! What may be missed without harm: SQL says the same.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::Events;

/// So many ended tasks are remembered for who asks for them, and so many hints for other processes;
/// beyond, the hint becomes "look into SQL".
pub(crate) const MAX_HINTS: usize = 10_000;

/// Hints for this process.
#[derive(Debug)]
pub(crate) struct Hints {
    /// Watchers of this process.
    pub(crate) events: Events,
    /// Woken when webhook deliveries were put into SQL.
    deliveries: Notify,
    /// Woken when schedules were changed in SQL.
    schedules: Notify,
    /// Woken when something else is wanted of modules in SQL.
    modules: Notify,
    /// Tasks that were ended in SQL while a worker may have them.
    ended: Mutex<Vec<i64>>,
    has_ended: Notify,
    gaps: Notify,
    /// To the other processes of the queue; `None` in process.
    pub(crate) outgoing: Option<Arc<Outgoing>>,
}

/// Hints that other processes are yet to be told.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    pending: Mutex<Pending>,
    /// Woken when there is something to tell.
    pub(crate) wake: Notify,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) changed: HashSet<i64>,
    pub(crate) ended: HashSet<i64>,
    pub(crate) are_deliveries_due: bool,
    pub(crate) are_schedules_changed: bool,
    pub(crate) are_modules_changed: bool,
    /// There were too many to name them.
    pub(crate) is_flood: bool,
}

impl Hints {
    pub(crate) fn new(outgoing: Option<Arc<Outgoing>>) -> Self {
        Self {
            events: Events::telling(outgoing.clone()),
            deliveries: Notify::new(),
            schedules: Notify::new(),
            modules: Notify::new(),
            ended: Mutex::default(),
            has_ended: Notify::new(),
            gaps: Notify::new(),
            outgoing,
        }
    }

    pub(crate) fn deliveries_due(&self) {
        self.deliveries_due_here();
        if let Some(outgoing) = &self.outgoing {
            outgoing.add(|pending| pending.are_deliveries_due = true);
        }
    }

    pub(crate) fn deliveries_due_here(&self) {
        self.deliveries.notify_one();
    }

    pub(crate) async fn deliveries(&self) {
        self.deliveries.notified().await;
    }

    pub(crate) fn schedules_changed(&self) {
        self.schedules_changed_here();
        if let Some(outgoing) = &self.outgoing {
            outgoing.add(|pending| pending.are_schedules_changed = true);
        }
    }

    pub(crate) fn schedules_changed_here(&self) {
        self.schedules.notify_one();
    }

    pub(crate) async fn schedules(&self) {
        self.schedules.notified().await;
    }

    pub(crate) fn modules_changed(&self) {
        self.modules_changed_here();
        if let Some(outgoing) = &self.outgoing {
            outgoing.add(|pending| pending.are_modules_changed = true);
        }
    }

    pub(crate) fn modules_changed_here(&self) {
        self.modules.notify_one();
    }

    pub(crate) async fn modules(&self) {
        self.modules.notified().await;
    }

    pub(crate) fn tasks_ended(&self, tasks: &[i64]) {
        self.tasks_ended_here(tasks);
        if let Some(outgoing) = &self.outgoing {
            outgoing.add(|pending| pending.ended.extend(tasks));
        }
    }

    pub(crate) fn tasks_ended_here(&self, tasks: &[i64]) {
        if tasks.is_empty() {
            return;
        }
        let mut ended = self.ended();
        if ended.len() + tasks.len() > MAX_HINTS {
            // Nobody asked for them for long: they are forgotten, and who asks for gaps looks himself.
            ended.clear();
            drop(ended);
            self.gaps.notify_one();
            return;
        }
        ended.extend(tasks);
        drop(ended);
        self.has_ended.notify_one();
    }

    pub(crate) async fn ended_tasks(&self) -> Vec<i64> {
        loop {
            let ended = std::mem::take(&mut *self.ended());
            if !ended.is_empty() {
                return ended;
            }
            self.has_ended.notified().await;
        }
    }

    /// Hints may have been missed: all watchers are told, and who waits for gaps.
    pub(crate) fn gap(&self) {
        self.events.everything_changed();
        self.deliveries_due_here();
        self.schedules_changed_here();
        self.modules_changed_here();
        self.gaps.notify_one();
    }

    pub(crate) async fn gaps(&self) {
        self.gaps.notified().await;
    }

    fn ended(&self) -> MutexGuard<'_, Vec<i64>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outgoing {
    pub(crate) fn changed(&self, task: i64) {
        self.add(|pending| {
            pending.changed.insert(task);
        });
    }

    /// Everything that is to be told; may be nothing.
    pub(crate) fn take(&self) -> Pending {
        std::mem::take(&mut *self.pending())
    }

    /// Puts back what could not be told.
    pub(crate) fn put_back(&self, told: Pending) {
        self.add(|pending| {
            pending.changed.extend(told.changed);
            pending.ended.extend(told.ended);
            pending.are_deliveries_due |= told.are_deliveries_due;
            pending.are_schedules_changed |= told.are_schedules_changed;
            pending.are_modules_changed |= told.are_modules_changed;
            pending.is_flood |= told.is_flood;
        });
    }

    fn add(&self, add: impl FnOnce(&mut Pending)) {
        let mut pending = self.pending();
        add(&mut pending);
        if pending.is_flood || pending.changed.len() + pending.ended.len() > MAX_HINTS {
            *pending = Pending {
                is_flood: true,
                ..Pending::default()
            };
        }
        drop(pending);
        self.wake.notify_one();
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_hints_becomes_one() {
        let outgoing = Outgoing::default();
        for task in 0..=MAX_HINTS as i64 {
            outgoing.changed(task);
        }
        let pending = outgoing.take();
        assert!(pending.is_flood && pending.changed.is_empty());
        assert_eq!(outgoing.take(), Pending::default());
    }

    #[tokio::test]
    async fn ended_tasks_that_nobody_asks_for_become_a_gap() {
        let hints = Hints::new(None);
        for task in 0..=MAX_HINTS as i64 {
            hints.tasks_ended(&[task]);
        }
        hints.gaps().await;
        hints.tasks_ended(&[7]);
        assert_eq!(hints.ended_tasks().await, [7]);
    }
}
