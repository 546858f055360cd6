use std::sync::Arc;
use std::time::Duration;

use super::{Memory, State, Timer};
use crate::job::Entry;

/// The right to settle a job, once.
#[derive(Debug)]
pub(crate) struct Ticket {
    memory: Arc<Memory>,
    entry: Entry,
    lease: Duration,
    /// The group in which the job has a place.
    group: Option<String>,
}

impl Ticket {
    pub(super) fn new(memory: Arc<Memory>, entry: Entry, lease: Duration) -> Self {
        Self {
            memory,
            entry,
            lease,
            group: None,
        }
    }

    pub(crate) fn done(self) {
        let mut state = self.memory.state();
        state.taken -= 1;
        self.leave(&mut state);
    }

    pub(crate) fn hand_back(self) {
        let mut state = self.memory.state();
        state.taken -= 1;
        state.order.push_front(self.uncounted());
        self.memory.arrived.notify_one();
        self.leave(&mut state);
    }

    pub(crate) fn hand_back_later(self, after: Duration) {
        let mut state = self.memory.state();
        state.taken -= 1;
        self.memory.later(&mut state, after, self.uncounted());
        self.leave(&mut state);
    }

    /// Neither done nor handed back: as if the worker had died.
    pub(crate) fn dropped(self) {
        let mut state = self.memory.state();
        let timer = Timer::Lost(self.entry.clone());
        self.memory.at(&mut state, self.lease, timer);
        self.leave(&mut state);
    }

    /// A place in a group, or the job is parked.
    pub(crate) fn enter(&mut self, name: &str, max: u32) -> bool {
        if self.group.as_deref() == Some(name) {
            return true;
        }
        let mut state = self.memory.state();
        self.leave(&mut state);
        let group = state.groups.entry(name.to_owned()).or_default();
        if group.members >= max {
            group.parked.push_back(self.uncounted());
            state.parked += 1;
            state.taken -= 1;
            drop(state);
            self.group = None;
            return false;
        }
        group.members += 1;
        // There may be room for more than one when the limit was raised.
        let unparked = (group.members < max)
            .then(|| group.parked.pop_front())
            .flatten();
        self.memory.unpark(&mut state, unparked);
        drop(state);
        self.group = Some(name.to_owned());
        true
    }

    fn leave(&self, state: &mut State) {
        let Some(name) = &self.group else { return };
        let Some(group) = state.groups.get_mut(name) else {
            return;
        };
        group.members = group.members.saturating_sub(1);
        let unparked = group.parked.pop_front();
        if group.members == 0 && group.parked.is_empty() {
            state.groups.remove(name);
        }
        self.memory.unpark(state, unparked);
    }

    /// This delivery does not count.
    fn uncounted(&self) -> Entry {
        let mut entry = self.entry.clone();
        entry.deliveries = entry.deliveries.saturating_sub(1);
        entry
    }
}

impl Memory {
    fn unpark(&self, state: &mut State, entry: Option<Entry>) {
        if let Some(entry) = entry {
            state.parked -= 1;
            state.order.push_front(entry);
            self.arrived.notify_one();
        }
    }
}
