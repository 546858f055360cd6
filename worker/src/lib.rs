//! Takes jobs, runs tasks, delivers webhooks, cleans up.
//!
//! # Layout
//! - [`Worker`]: takes jobs from the queue and runs them, some at a time.
//! - `run`: one run from its job to its last write; `execution`: what lies between. `state`: what a run changes, between two writes.
//!   `inputs`, `outputs`: the files of a run.
//! - `slots`: how many runs work at a time. `calls`: runs that call other plugins.
//! - `deliveries`: sends webhooks that are due.
//! - `cache`: what is known of modules, kept in SQL.
//!
//! # Invariants
//! - Every write of a run carries its number; where no row is hit the host is stopped and the files are
//!   discarded.
//! - A short run is one write: its end, with its log and outputs.

mod cache;
mod calls;
mod deliveries;
mod execution;
mod inputs;
mod outputs;
mod run;
mod slots;
mod state;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use runner_fetch::Fetcher;
use runner_host::Modules;
use runner_queue::{Events, Job, Queue};
use runner_store::Store;
use slots::{Slot, Slots};

pub use cache::StoreCache;

/// What a worker works with.
#[derive(Clone)]
pub struct Tools {
    /// SQL and files.
    pub store: Store,
    /// Where jobs come from.
    pub queue: Queue,
    /// Who is told of changes.
    pub events: Events,
    /// What can be run.
    pub modules: Arc<Modules>,
    /// Who downloads inputs and calls webhooks.
    pub fetcher: Fetcher,
}

/// Settings of a worker.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// Name of this worker in SQL; another one for each start.
    pub holder: String,
    /// Runs at a time.
    pub concurrency: usize,
    /// How long a run may take, unless its module says otherwise.
    pub run_timeout: Duration,
    /// How long a webhook may take to answer.
    pub webhook_timeout: Duration,
}

/// Runs tasks until it is stopped.
pub struct Worker {
    shared: Arc<Shared>,
    tasks: TaskTracker,
}

/// What all runs share.
pub(crate) struct Shared {
    pub(crate) tools: Tools,
    pub(crate) config: WorkerConfig,
    /// Ends everything at once; what was running is run again at the next start.
    pub(crate) abort: CancellationToken,
    /// The runs in progress.
    running: Mutex<HashMap<i64, CancellationToken>>,
}

impl Worker {
    /// Starts to take jobs.
    pub fn start(tools: Tools, config: WorkerConfig) -> Self {
        let shared = Arc::new(Shared {
            tools,
            config,
            abort: CancellationToken::new(),
            running: Mutex::default(),
        });
        let tasks = TaskTracker::new();
        tasks.spawn(take_jobs(Arc::clone(&shared), tasks.clone()));
        tokio::spawn(deliveries::deliver(Arc::clone(&shared)));
        tokio::spawn(cancel_ended(Arc::clone(&shared)));
        tasks.close();
        Self { shared, tasks }
    }

    /// Takes no more jobs, gives the runs in progress this long to end, then ends them: they are run
    /// again at the next start.
    pub async fn stop(self, deadline: Duration) {
        self.shared.tools.queue.close();
        if tokio::time::timeout(deadline, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                "runs that are still in progress are ended; they begin again at the next start"
            );
        }
        self.shared.abort.cancel();
        self.tasks.wait().await;
    }
}

impl Shared {
    pub(crate) fn begin(&self, task: i64) -> CancellationToken {
        let cancel = CancellationToken::new();
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.insert(task, cancel.clone());
        cancel
    }

    pub(crate) fn end(&self, task: i64) {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&task);
    }
}

async fn take_jobs(shared: Arc<Shared>, tasks: TaskTracker) {
    let slots = Slots::new(shared.config.concurrency);
    // First the job, then the slot: a slot that waited for a job would be missing to a run that goes on.
    while let Some(job) = shared.tools.queue.next().await {
        let slot = slots.take().await;
        tasks.spawn(take_job(Arc::clone(&shared), job, slot));
    }
}

async fn take_job(shared: Arc<Shared>, job: Job, slot: Slot) {
    // A task of its own, so that a panic is noticed and told.
    let run = tokio::spawn(run::perform(Arc::clone(&shared), job, slot));
    if let Err(error) = run.await {
        tracing::error!(
            task = job.task,
            "the run ended with an error of the runner: {error}"
        );
        shared.end(job.task);
        run::fail_after_panic(&shared, job).await;
    }
}

/// Ends the runs of tasks that were cancelled or deleted.
async fn cancel_ended(shared: Arc<Shared>) {
    loop {
        let ended = tokio::select! {
            ended = shared.tools.queue.ended_tasks() => ended,
            () = shared.abort.cancelled() => return,
        };
        let running = shared
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for cancel in ended.iter().filter_map(|task| running.get(task)) {
            cancel.cancel();
        }
    }
}
