//! Jobs and events, in process. SQL is the truth; what is here are hints: a job says that a worker should
//! look at a task, an event that something changed. Both are rebuilt from SQL at start.
//!
//! # Layout
//! - [`Queue`]: jobs, first in, first out. Nobody polls: [`Queue::next`] sleeps until there is one.
//! - [`Events`]: who waits for a task is told that it changed.

mod events;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

pub use events::{Events, Watch};

/// A note that a worker should look at a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Job {
    /// Number of the task.
    pub task: i64,
    /// The run that is to be done: a job whose run is not the task's current one is dropped.
    pub run: i64,
}

/// Jobs that wait for a worker. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Queue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    jobs: Mutex<Jobs>,
    /// A permit for each sleeping worker that has something to look at.
    arrived: Notify,
    /// Woken when webhook deliveries were put into SQL.
    deliveries: Notify,
    /// Tasks that were ended in SQL while a worker may have them.
    ended: Mutex<Vec<i64>>,
    /// Woken when there are such tasks.
    has_ended: Notify,
}

#[derive(Debug, Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    is_closed: bool,
}

impl Queue {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a job and wakes one worker.
    pub fn push(&self, job: Job) {
        self.jobs().waiting.push_back(job);
        self.0.arrived.notify_one();
    }

    /// Adds a job before all others: somebody who holds up others waits for it.
    pub fn push_first(&self, job: Job) {
        self.jobs().waiting.push_front(job);
        self.0.arrived.notify_one();
    }

    /// The next job; `None` when the queue is closed.
    pub async fn next(&self) -> Option<Job> {
        loop {
            {
                let mut jobs = self.jobs();
                if jobs.is_closed {
                    // One permit was left for all that come here; it is passed on.
                    self.0.arrived.notify_one();
                    return None;
                }
                if let Some(job) = jobs.waiting.pop_front() {
                    // The permit of a job that came while nobody slept is worth one wake-up only.
                    if !jobs.waiting.is_empty() {
                        self.0.arrived.notify_one();
                    }
                    return Some(job);
                }
            }
            self.0.arrived.notified().await;
        }
    }

    /// Jobs that wait.
    pub fn len(&self) -> usize {
        self.jobs().waiting.len()
    }

    /// Whether no job waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives out no more jobs. What waits stands in SQL and is found again at the next start.
    pub fn close(&self) {
        self.jobs().is_closed = true;
        self.0.arrived.notify_waiters();
        self.0.arrived.notify_one();
    }

    /// Says that webhook deliveries are due.
    pub fn deliveries_due(&self) {
        self.0.deliveries.notify_one();
    }

    /// Waits until webhook deliveries are due.
    pub async fn deliveries(&self) {
        self.0.deliveries.notified().await;
    }

    /// Says that tasks were ended in SQL, so that a worker that has one need not find out by itself; tells
    /// who listens to them, and that webhooks may be due.
    pub fn tasks_ended(&self, tasks: &[i64], events: &Events) {
        let ended = &self.0.ended;
        ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(tasks);
        self.0.has_ended.notify_one();
        tasks.iter().for_each(|task| events.changed(*task));
        self.deliveries_due();
    }

    /// Waits for tasks that were ended in SQL. For one caller.
    pub async fn ended_tasks(&self) -> Vec<i64> {
        loop {
            let ended =
                std::mem::take(&mut *self.0.ended.lock().unwrap_or_else(PoisonError::into_inner));
            if !ended.is_empty() {
                return ended;
            }
            self.0.has_ended.notified().await;
        }
    }

    fn jobs(&self) -> std::sync::MutexGuard<'_, Jobs> {
        self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn each_job_goes_to_one_worker_and_closing_wakes_all() {
        let queue = Queue::new();
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move {
                    let mut seen = Vec::new();
                    while let Some(job) = queue.next().await {
                        seen.push(job);
                        if job.task == 999 {
                            queue.close();
                        }
                    }
                    seen
                })
            })
            .collect();
        for task in 0..1000 {
            queue.push(Job { task, run: 1 });
            if task % 7 == 0 {
                tokio::task::yield_now().await;
            }
        }
        let mut seen = Vec::new();
        for worker in workers {
            seen.extend(worker.await.unwrap());
        }
        let distinct: HashSet<Job> = seen.iter().copied().collect();
        assert_eq!(distinct.len(), seen.len());
        assert_eq!(seen.len() + queue.len(), 1000);
    }

    #[tokio::test]
    async fn jobs_are_first_in_first_out() {
        let queue = Queue::new();
        for task in 1..=3 {
            queue.push(Job { task, run: 1 });
        }
        for task in 1..=3 {
            assert_eq!(queue.next().await, Some(Job { task, run: 1 }));
        }
        assert!(queue.is_empty());
    }
}
