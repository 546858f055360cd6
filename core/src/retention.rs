//! How long what has ended is kept.

use std::time::Duration;

use crate::age;
use crate::task::TaskState;

/// The states in which a task is kept no longer than is said.
pub const ENDED: [TaskState; 3] = [
    TaskState::Succeeded,
    TaskState::Failed,
    TaskState::Cancelled,
];

/// How long something of a finished task is kept, by its state. None is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ages {
    succeeded: Option<Duration>,
    failed: Option<Duration>,
    cancelled: Option<Duration>,
}

impl Ages {
    /// Reads `30d`, `forever`, or ages of states such as `succeeded=7d,failed=90d`; states that are not named are kept
    /// for ever.
    ///
    /// # Errors
    /// Says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut ages = Self::default();
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            match part.split_once('=') {
                None => {
                    let age = read_age(part)?;
                    ages = Self {
                        succeeded: age,
                        failed: age,
                        cancelled: age,
                    };
                }
                Some((state, text)) => {
                    let age = read_age(text)?;
                    match state.trim() {
                        "succeeded" => ages.succeeded = age,
                        "failed" => ages.failed = age,
                        "cancelled" => ages.cancelled = age,
                        other => {
                            return Err(format!(
                                "{other:?} is no state in which a task has ended; expected succeeded, failed or \
                                 cancelled"
                            ));
                        }
                    }
                }
            }
        }
        Ok(ages)
    }

    /// As [`parse`](Self::parse) reads it.
    pub fn show(&self) -> String {
        match ENDED.map(|state| self.of(state)) {
            [first, second, third] if first == second && second == third => show_age(first),
            _ => {
                let each =
                    ENDED.map(|state| format!("{}={}", state.as_str(), show_age(self.of(state))));
                each.join(",")
            }
        }
    }

    /// How long it is kept of a task in this state.
    pub fn of(&self, state: TaskState) -> Option<Duration> {
        match state {
            TaskState::Succeeded => self.succeeded,
            TaskState::Failed => self.failed,
            TaskState::Cancelled => self.cancelled,
            TaskState::Queued | TaskState::Running | TaskState::Waiting => None,
        }
    }

    /// The shortest of them.
    pub fn shortest(&self) -> Option<Duration> {
        ENDED.into_iter().filter_map(|state| self.of(state)).min()
    }
}

/// Reads an age such as `30d`, or `forever`, which is none.
///
/// # Errors
/// Says what was expected.
pub fn read_age(text: &str) -> Result<Option<Duration>, String> {
    match text.trim() {
        "forever" => Ok(None),
        text => match age::parse(text)? {
            Duration::ZERO => Err(format!(
                "{text:?} would keep nothing; expected 1s or more, or forever"
            )),
            age => Ok(Some(age)),
        },
    }
}

/// As [`read_age`] reads it.
pub fn show_age(age: Option<Duration>) -> String {
    age.map_or_else(|| "forever".to_owned(), age::show)
}

/// What is kept for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Finished tasks, with all that belongs to them.
    pub tasks: Ages,
    /// The files of finished tasks; the tasks stay.
    pub files: Ages,
    /// Files that belong to no task: uploads and downloads that were broken off, what a crash left.
    pub temporary: Duration,
    /// Permalinks of cells that nobody reads. None is for ever.
    pub permalinks: Option<Duration>,
}

impl Retention {
    /// The shortest age.
    pub fn shortest(&self) -> Duration {
        let ages = [self.tasks.shortest(), self.files.shortest()];
        let ages = ages
            .into_iter()
            .flatten()
            .chain([self.temporary])
            .chain(self.permalinks);
        ages.min().unwrap_or(self.temporary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3_600);

    #[test]
    fn ages_are_for_all_states_or_for_each() {
        let all = Ages::parse("30d").unwrap();
        assert!(
            ENDED
                .into_iter()
                .all(|state| all.of(state) == Some(30 * DAY))
        );
        assert_eq!(all.of(TaskState::Running), None);
        let each = Ages::parse("succeeded=7d, failed=forever").unwrap();
        assert_eq!(each.of(TaskState::Succeeded), Some(7 * DAY));
        assert_eq!(each.of(TaskState::Failed), None);
        assert_eq!(each.of(TaskState::Cancelled), None);
        assert_eq!(all.show(), "30d");
        assert_eq!(each.show(), "succeeded=7d,failed=forever,cancelled=forever");
        assert_eq!(Ages::parse(&each.show()), Ok(each));
        let rest = Ages::parse("30d,failed=1d").unwrap();
        assert_eq!(rest.shortest(), Some(DAY));
        for forever in ["", "forever"] {
            assert_eq!(Ages::parse(forever), Ok(Ages::default()));
        }
        for wrong in ["0d", "0", "running=1d", "soon", "failed=", "=1d", "-1d"] {
            assert!(Ages::parse(wrong).is_err(), "{wrong}");
        }
    }
}
