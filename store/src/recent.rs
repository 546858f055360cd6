//! Tasks as they were committed last, for a process that is alone with its database.
//!
//! SQL is the truth; this is a mirror of its newest part. It is told of every write after its commit, in the order of
//! commits and before the writer's caller hears of it, so that who reads here reads what SQL has. A write that does
//! not say what it changes empties it. Where other processes write too it is off.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runner_core::task::Task;

/// How many tasks are kept: each has a place of its own, by its number, until a newer one takes it.
const PLACES: usize = 512;
/// Bytes of the texts of a task that is kept, and the most outputs. Larger ones are read from SQL.
pub(crate) const MAX_TEXT: usize = 16 * 1024;
const MAX_OUTPUTS: usize = 8;

/// The tasks that were made last. Empty where it is off.
#[derive(Debug)]
pub(crate) struct Recent {
    places: Option<Mutex<Vec<Option<Arc<Task>>>>>,
}

impl Recent {
    /// `is_on`: nobody but this process changes the database.
    pub(crate) fn new(is_on: bool) -> Self {
        Self {
            places: is_on.then(|| Mutex::new(vec![None; PLACES])),
        }
    }

    /// A task as SQL has it; `None`: SQL knows.
    pub(crate) fn get(&self, id: i64) -> Option<Arc<Task>> {
        let places = self.places()?;
        let task = places.get(place(id))?.clone();
        task.filter(|task| task.id == id)
    }

    /// A task was made.
    pub(crate) fn put(&self, task: Task) {
        if let Some(mut places) = self.places()
            && is_small(&task)
        {
            let at = place(task.id);
            places[at] = Some(Arc::new(task));
        }
    }

    /// A task was changed like this. `change` answers false where it does not know how.
    pub(crate) fn change(&self, id: i64, change: impl FnOnce(&mut Task) -> bool) {
        let Some(mut places) = self.places() else {
            return;
        };
        let held = &mut places[place(id)];
        if let Some(task) = held.as_mut().filter(|task| task.id == id) {
            let task = Arc::make_mut(task);
            if !change(task) || !is_small(task) {
                *held = None;
            }
        }
    }

    /// Nobody knows what was changed.
    pub(crate) fn clear(&self) {
        if let Some(mut places) = self.places() {
            places.fill(None);
        }
    }

    fn places(&self) -> Option<MutexGuard<'_, Vec<Option<Arc<Task>>>>> {
        let places = self.places.as_ref()?;
        Some(places.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Where a task is kept. Numbers grow, so that the newest tasks are in different places.
fn place(id: i64) -> usize {
    usize::try_from(id.rem_euclid(PLACES as i64)).unwrap_or(0)
}

/// Whether it may be kept: those of a usual size are, and the whole stays below some megabytes.
fn is_small(task: &Task) -> bool {
    let has_few =
        task.outputs.len() <= MAX_OUTPUTS && task.steps.is_empty() && task.links.is_empty();
    has_few
        && task.step.is_none()
        && task.log.len() as u64 == task.log_length
        && task.log.len() <= MAX_TEXT
}

#[cfg(test)]
mod tests {
    use runner_core::task::NewTask;

    use super::*;

    fn task(id: i64) -> Task {
        NewTask::default().made(id, 0)
    }

    #[test]
    fn a_newer_task_takes_the_place_of_an_older_one() {
        let recent = Recent::new(true);
        let next = 7 + PLACES as i64;
        recent.put(task(7));
        assert!(recent.get(7).is_some() && recent.get(next).is_none());
        recent.put(task(next));
        assert!(recent.get(7).is_none() && recent.get(next).is_some());
        recent.change(7, |_| false);
        assert!(recent.get(next).is_some());
        recent.clear();
        assert!(recent.get(next).is_none());
    }

    #[test]
    fn who_has_a_task_keeps_it_as_it_was() {
        let recent = Recent::new(true);
        recent.put(task(1));
        let before = recent.get(1).unwrap();
        let change = |task: &mut Task| {
            task.version += 1;
            true
        };
        recent.change(1, change);
        assert_eq!(before.version, 0);
        assert_eq!(recent.get(1).unwrap().version, 1);
        recent.change(1, |_| false);
        assert!(recent.get(1).is_none());
    }

    #[test]
    fn nothing_is_kept_where_it_is_off() {
        let recent = Recent::new(false);
        recent.put(task(1));
        assert!(recent.get(1).is_none());
    }
}
