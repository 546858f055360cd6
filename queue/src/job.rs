use std::sync::Arc;
use std::time::Duration;

use runner_core::job::Job;
use runner_core::task::Priority;
use tokio::sync::Semaphore;

/// Who takes jobs.
#[derive(Debug, Clone)]
pub struct Consumer {
    /// For people who look into the queue; need not be unique.
    pub name: String,
    /// How long a job stays with a worker that is not heard of any more. At least [`MIN_LEASE`].
    pub lease: Duration,
    /// As many jobs as it has permits are taken at a time. A permit is held by each [`Taken`](crate::Taken),
    /// never by one who waits for jobs.
    pub slots: Arc<Semaphore>,
}

/// The shortest lease; a shorter one counts as this.
pub const MIN_LEASE: Duration = Duration::from_millis(100);

impl Consumer {
    /// The lease that holds, in view of [`MIN_LEASE`].
    pub(crate) fn lease(&self) -> Duration {
        self.lease.max(MIN_LEASE)
    }
}

/// How many jobs there are, by what they wait for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// For a worker.
    pub ready: u64,
    /// For their time.
    pub delayed: u64,
    /// With a worker, or with one that died, until its lease ends.
    pub taken: u64,
    /// For a place in their group, see [`Taken::enter`](crate::Taken::enter).
    pub parked: u64,
    /// Entries that could not be read. At most the last thousand are kept.
    pub dead: u64,
}

impl Depth {
    /// Whether the queue knows of no job at all.
    pub fn is_empty(&self) -> bool {
        let Self {
            ready,
            delayed,
            taken,
            parked,
            dead: _,
        } = self;
        ready + delayed + taken + parked == 0
    }
}

/// A job as a backend keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) job: Job,
    /// How often it was given out and not handed back.
    pub(crate) deliveries: u32,
    pub(crate) priority: Priority,
    pub(crate) submitter: Arc<str>,
    /// The group in which it was given a place when it was let in. Only in process.
    pub(crate) place: Option<Arc<str>>,
}
