//! Takes jobs, runs tasks, delivers webhooks, takes over the work of who is gone.
//!
//! # Layout
//! - [`Worker`]: takes jobs from the queue and runs them, some at a time.
//! - `run`: one run from its job to its last write; `execution`: what lies between. `state`: what a run changes, between two writes.
//!   `inputs`, `outputs`: the files of a run.
//! - `pipelines`: runs of pipelines, as they are seen and held from outside.
//! - `slots`: how many runs work at a time. `calls`: runs that call other plugins. `given`: files for a task to be made.
//! - [`PluginsOfSessions`]: plugins that are run for sessions, and outputs for them.
//! - `sight`: what is counted, and what is in progress.
//! - `deliveries`: sends webhooks that are due.
//! - `schedules`: fires what is due. `housekeeping`: removes what is old.
//! - [`Upkeep`]: signs of life, and tasks of processes that give none; servers have it too.
//! - `pauses`: between attempts while SQL is out of reach. `cache`: what is known of modules, kept in SQL.
//!
//! # Invariants
//! - Every write of a run carries its number; where no row is hit the host is stopped and the files are
//!   discarded.
//! - A short run is one write: its end, with its log and outputs.
//! - A task may be run more than once, and is recorded once.

mod cache;
mod calls;
mod deliveries;
mod execution;
mod given;
mod housekeeping;
mod inputs;
mod ledger;
mod outputs;
mod pauses;
mod pipelines;
mod run;
mod schedules;
mod sessions;
mod sight;
mod slots;
mod state;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use apalis::prelude::{Data, WorkerBuilder};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use runner_core::retention::Retention;
use runner_fetch::Fetcher;
use runner_host::Modules;
use runner_queue::{Consumer, Events, Jobs, Queue, Taken};
use runner_store::{Store, StoreError};
use sight::{InHand, Meters};
use slots::Slots;
use upkeep::Runs;

pub use cache::StoreCache;
pub use ledger::StoreLedger;
pub use sessions::PluginsOfSessions;
pub use sight::{InProgress, Totals};
pub use upkeep::{Upkeep, UpkeepConfig};

/// How long the queue may take to hear what a worker that stops gave back.
const FLUSH: Duration = Duration::from_secs(5);

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
    /// Name of this worker; another one for each start.
    pub name: String,
    /// Name of the queue.
    pub queue: String,
    /// Runs at a time.
    pub concurrency: usize,
    /// What others see of it, and when they take over.
    pub upkeep: UpkeepConfig,
    /// How long a run may take, unless its module says otherwise.
    pub run_timeout: Duration,
    /// Bytes of files that the nodes of a pipeline's run may make in all.
    pub node_files: u64,
    /// How long a webhook may take to answer.
    pub webhook_timeout: Duration,
    /// What it does where a module has changed since a task was made.
    pub mismatch: Mismatch,
    /// What it does beside running tasks; None for one that is there for a single task.
    pub keeping: Option<Keeping>,
}

/// What is done with a task that was made for another digest of its plugin's module than the one that is here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mismatch {
    /// It is run, and its log says so.
    #[default]
    Run,
    /// It is left to a worker that has that digest; where none has, it fails.
    Refuse,
}

/// What workers do for the installation, once for all of them.
#[derive(Debug, Clone)]
pub struct Keeping {
    /// The URL by which clients know the runner, without a slash at the end: for tasks that no request made.
    pub base_url: String,
    /// What is kept for how long.
    pub retention: Retention,
}

/// Runs tasks until it is stopped.
pub struct Worker {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    upkeep: Upkeep,
}

/// What all runs share.
pub(crate) struct Shared {
    pub(crate) tools: Tools,
    pub(crate) config: WorkerConfig,
    pub(crate) slots: Slots,
    /// Ends everything at once; what was running is run again by others, or at the next start.
    pub(crate) abort: CancellationToken,
    pub(crate) in_hand: InHand,
    pub(crate) meters: Meters,
}

impl Worker {
    /// Joins the installation and starts to take jobs.
    ///
    /// # Errors
    /// SQL cannot be written.
    pub async fn start(tools: Tools, config: WorkerConfig) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared {
            slots: Slots::new(config.concurrency),
            in_hand: InHand::new(config.concurrency),
            meters: Meters::new(),
            tools,
            config,
            abort: CancellationToken::new(),
        });
        let Tools { store, queue, .. } = &shared.tools;
        let upkeep = shared.config.upkeep.clone();
        let runs: Arc<dyn Runs> = shared.clone();
        let upkeep = Upkeep::start_with(store, queue, upkeep, Some(runs)).await?;
        let jobs = queue.jobs(Consumer {
            name: shared.config.name.clone(),
            lease: shared.config.upkeep.lease,
            slots: shared.slots.semaphore(),
        });
        let tasks = TaskTracker::new();
        tasks.spawn(take_jobs(Arc::clone(&shared), jobs));
        tokio::spawn(deliveries::deliver(Arc::clone(&shared)));
        tokio::spawn(cancel_ended(Arc::clone(&shared)));
        if let Some(keeping) = &shared.config.keeping {
            tokio::spawn(schedules::fire(
                Arc::clone(&shared),
                keeping.base_url.clone(),
            ));
            tokio::spawn(housekeeping::keep(Arc::clone(&shared), keeping.retention));
        }
        tasks.close();
        Ok(Self {
            shared,
            tasks,
            upkeep,
        })
    }

    /// What it is at work on, those first that last longest; and how often runs have ended.
    pub fn activity(&self) -> (Vec<InProgress>, Totals) {
        let shared = &self.shared;
        (shared.in_hand.shown(), shared.meters.totals())
    }

    /// Takes no more jobs, gives the runs in progress this long to end, then ends them: they are run
    /// again by another worker, or at the next start.
    pub async fn stop(self, deadline: Duration) {
        self.shared.tools.queue.close();
        if tokio::time::timeout(deadline, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("runs that are still in progress are ended; they will begin again");
        }
        self.shared.abort.cancel();
        self.tasks.wait().await;
        let flushed = self.shared.tools.queue.flushed();
        match tokio::time::timeout(FLUSH, flushed).await {
            Ok(()) => self.upkeep.stop().await,
            // Its signs of life end, so that others queue again what it could not.
            Err(_) => tracing::warn!("the queue did not take all jobs; others find them in SQL"),
        }
    }
}

impl Runs for Shared {
    fn in_progress(&self) -> Vec<(i64, i64)> {
        let running = self.in_hand.lock();
        running
            .iter()
            .map(|(task, held)| (*task, held.run))
            .collect()
    }

    fn end_runs(&self, runs: &[(i64, i64)]) {
        let running = self.in_hand.lock();
        for (task, run) in runs {
            if let Some(held) = running.get(task).filter(|held| held.run == *run) {
                held.cancel.cancel();
            }
        }
    }

    fn end(&self, tasks: &[i64]) {
        let running = self.in_hand.lock();
        for held in tasks.iter().filter_map(|task| running.get(task)) {
            held.cancel.cancel();
        }
    }
}

async fn take_jobs(shared: Arc<Shared>, jobs: Jobs) {
    let worker = WorkerBuilder::new(shared.config.name.as_str())
        .backend(jobs)
        .data(shared)
        .build(take_job);
    if let Err(error) = worker.run().await {
        tracing::error!("no more jobs are taken: {error}");
    }
}

async fn take_job(taken: Taken, shared: Data<Arc<Shared>>) {
    let shared = Arc::clone(&shared);
    let job = taken.job();
    // A task of its own, so that a panic is noticed and told, and that what works does not hold up the others.
    // Whatever is said meanwhile says of which task.
    let span = tracing::error_span!("run", task = job.task, run = job.run);
    let run = tokio::spawn(run::perform(Arc::clone(&shared), taken).instrument(span));
    if let Err(error) = run.await {
        tracing::error!(
            task = job.task,
            "the run ended with an error of the runner: {error}"
        );
        shared.in_hand.end(job.task, job.run);
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
        Runs::end(shared.as_ref(), &ended);
    }
}
