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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Job;
    use proptest::prelude::*;

    fn entry(task: i64, lane: usize, submitter: u8) -> Entry {
        Entry {
            job: Job { task, run: 1 },
            deliveries: 0,
            priority: Priority::ALL[lane],
            submitter: Arc::from(submitter.to_string()),
            place: None,
        }
    }

    proptest! {
        #[test]
        fn each_job_comes_once_by_priority_and_turn_and_age(
            steps in prop::collection::vec(prop::option::weighted(0.6, (0..4_usize, 0..4_u8, prop::bool::weighted(0.1))), 1..200)
        ) {
            let mut order = Order::default();
            // The same, thought of simply: all jobs that wait, and when each submitter had its last turn.
            let mut waiting: Vec<(Entry, bool)> = Vec::new();
            let mut turns: HashMap<(Priority, Arc<str>), usize> = HashMap::new();
            for (now, step) in steps.into_iter().enumerate() {
                if let Some((lane, submitter, is_front)) = step {
                    let entry = entry(now as i64, lane, submitter);
                    if is_front {
                        order.push_front(entry.clone());
                    } else {
                        let has_more = waiting.iter().any(|(other, is_front)| {
                            !is_front && (other.priority, &other.submitter) == (entry.priority, &entry.submitter)
                        });
                        if !has_more {
                            turns.insert((entry.priority, Arc::clone(&entry.submitter)), now);
                        }
                        order.push(entry.clone());
                    }
                    waiting.push((entry, is_front));
                } else {
                    let first = waiting.iter().enumerate().min_by_key(|(age, (entry, is_front))| {
                        let turn = turns.get(&(entry.priority, Arc::clone(&entry.submitter)));
                        let turn = if *is_front { None } else { turn };
                        (std::cmp::Reverse(entry.priority), !is_front, turn, *age)
                    });
                    let expected = first.map(|(at, _)| at).map(|at| waiting.remove(at));
                    if let Some((entry, false)) = &expected {
                        turns.insert((entry.priority, Arc::clone(&entry.submitter)), now);
                    }
                    prop_assert_eq!(order.pop(), expected.map(|(entry, _)| entry));
                }
                prop_assert_eq!(order.len(), waiting.len());
            }
        }
    }
}
