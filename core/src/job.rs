//! Notes that a worker should look at a task.

use crate::task::{Dispatch, Priority, Task};

/// A note that a worker should look at a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Job {
    /// Number of the task.
    pub task: i64,
    /// The run that is to be done: a job whose run is not the task's current one is dropped.
    pub run: i64,
}

/// A job with what decides when it is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The job.
    pub job: Job,
    /// Which of two jobs is taken first.
    pub priority: Priority,
    /// Who asked for it. Those who ask at the same priority take turns.
    pub submitter: String,
    /// Not given out before this moment, in milliseconds since 1970 (UTC) by the clock of this machine. What
    /// travels is the time that is left, so that the clocks of machines may differ.
    pub not_before: Option<i64>,
}

impl Offer {
    /// The current run of a task.
    pub fn of(task: &Task) -> Self {
        let job = Job {
            task: task.id,
            run: task.run,
        };
        Self::new(job, &task.dispatch)
    }

    /// The first run of a task that was made.
    pub fn first(task: i64, dispatch: &Dispatch) -> Self {
        Self::new(Job { task, run: 1 }, dispatch)
    }

    fn new(job: Job, dispatch: &Dispatch) -> Self {
        Self {
            job,
            priority: dispatch.priority,
            submitter: dispatch.submitter.clone(),
            not_before: dispatch.run_at,
        }
    }
}
