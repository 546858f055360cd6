use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use runner_core::task::Priority;

use crate::job::Entry;

/// Jobs that are ready, in the order in which they are given out: by priority; then those that were
/// given out before; then submitters in turns, the jobs of each first in, first out.
#[derive(Debug, Default)]
pub(super) struct Order {
    lanes: [Lane; Priority::ALL.len()],
    len: usize,
}

/// The jobs of one priority.
#[derive(Debug, Default)]
struct Lane {
    /// Given out before: handed back, left by a dead worker, or parked.
    front: VecDeque<Entry>,
    /// Submitters that have jobs, in the order of their turns.
    ring: VecDeque<Arc<str>>,
    /// Of each submitter in the ring, at least one job.
    lists: HashMap<Arc<str>, VecDeque<Entry>>,
}

impl Order {
    /// Adds a job behind those of its submitter.
    pub(super) fn push(&mut self, entry: Entry) {
        self.len += 1;
        let lane = &mut self.lanes[lane(entry.priority)];
        match lane.lists.get_mut(&entry.submitter) {
            Some(list) => list.push_back(entry),
            None => {
                let submitter = Arc::clone(&entry.submitter);
                lane.ring.push_back(Arc::clone(&submitter));
                lane.lists.insert(submitter, VecDeque::from([entry]));
            }
        }
    }

    /// Adds a job before all others of its priority that were not given out before.
    pub(super) fn push_front(&mut self, entry: Entry) {
        self.len += 1;
        self.lanes[lane(entry.priority)].front.push_back(entry);
    }

    /// Takes the next job.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        let entry = self.lanes.iter_mut().find_map(Lane::pop)?;
        self.len -= 1;
        Some(entry)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl Lane {
    fn pop(&mut self) -> Option<Entry> {
        if let Some(entry) = self.front.pop_front() {
            return Some(entry);
        }
        let submitter = self.ring.pop_front()?;
        let list = self.lists.get_mut(&submitter)?;
        let entry = list.pop_front()?;
        if list.is_empty() {
            self.lists.remove(&submitter);
        } else {
            self.ring.push_back(submitter);
        }
        Some(entry)
    }
}

/// The index of a priority, what is taken first in front.
fn lane(priority: Priority) -> usize {
    match priority {
        Priority::Called => 0,
        Priority::High => 1,
        Priority::Normal => 2,
        Priority::Low => 3,
    }
}
