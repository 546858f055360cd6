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
    group: Option<Arc<str>>,
}

impl Ticket {
    pub(super) fn new(memory: Arc<Memory>, mut entry: Entry, lease: Duration) -> Self {
        let group = entry.place.take();
        Self {
            memory,
            entry,
            lease,
            group,
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
        let is_member = self.group.as_deref() == Some(name);
        let mut state = self.memory.state();
        if !is_member {
            self.leave(&mut state);
        }
        let name = Arc::<str>::from(name);
        let group = state.groups.entry(Arc::clone(&name)).or_default();
        if !is_member && group.members >= max {
            group.parked.push_back(self.uncounted());
            state.parked += 1;
            state.taken -= 1;
            drop(state);
            self.group = None;
            return false;
        }
        group.members += u32::from(!is_member);
        // There may be room for more when the limit was raised.
        let room = max.saturating_sub(group.members) as usize;
        let room = room.min(group.parked.len());
        group.members += room as u32;
        let unparked: Vec<Entry> = group.parked.drain(..room).collect();
        for entry in unparked {
            self.memory.unpark(&mut state, entry, &name);
        }
        drop(state);
        self.group = Some(name);
        true
    }

    fn leave(&self, state: &mut State) {
        let Some(name) = &self.group else { return };
        let Some(group) = state.groups.get_mut(name) else {
            return;
        };
        if let Some(entry) = group.parked.pop_front() {
            self.memory.unpark(state, entry, name);
            return;
        }
        group.members = group.members.saturating_sub(1);
        if group.members == 0 {
            state.groups.remove(name);
        }
    }

    /// This delivery does not count.
    fn uncounted(&self) -> Entry {
        let mut entry = self.entry.clone();
        entry.deliveries = entry.deliveries.saturating_sub(1);
        entry
    }
}

impl Memory {
    /// Gives a place to a job that was parked, so that others come to know when it does not use it.
    fn unpark(&self, state: &mut State, mut entry: Entry, group: &Arc<str>) {
        entry.place = Some(Arc::clone(group));
        state.parked -= 1;
        state.order.push_front(entry);
        self.arrived.notify_one();
    }
}
