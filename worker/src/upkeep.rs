//! What keeps the promise that nothing is lost: signs of life, and taking over the work of who gives none.
//!
//! Every process of an installation does this, whatever else it does. Several may do each step at once, since
//! SQL refuses what another has done already.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use runner_queue::{Offer, Queue, QueueError};
use runner_store::{LostRun, Other, Store, StoreError, WorkerRow};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::sight::leases_lost;

/// Signs of life in one lease: two may be missed.
const BEATS: u32 = 3;
/// Tasks that are queued again at a time.
const BATCH: u32 = 1_000;
/// Leases that a task may be queued in SQL while the queue knows of no job at all.
const FORGOTTEN: u32 = 4;

/// What upkeep needs to know.
#[derive(Debug, Clone)]
pub struct UpkeepConfig {
    /// This process, as others see it. Whenever it changes, others are told.
    pub row: watch::Receiver<WorkerRow>,
    /// How long a process may be silent before others take over its work.
    pub lease: Duration,
    /// Runs that may be lost before a task is given up.
    pub max_attempts: i64,
}

/// The runs in progress in this process.
pub(crate) trait Runs: Send + Sync {
    /// Task and run of each.
    fn in_progress(&self) -> Vec<(i64, i64)>;
    /// Ends those of these tasks.
    fn end(&self, tasks: &[i64]);
    /// Ends these runs of tasks, and no others of the same tasks.
    fn end_runs(&self, runs: &[(i64, i64)]);
}

/// The upkeep of this process, until it is stopped.
#[derive(Debug)]
pub struct Upkeep {
    store: Store,
    stop: CancellationToken,
    ended: tokio::task::JoinHandle<()>,
}

impl Upkeep {
    /// Joins the installation, and begins. For a process that runs no tasks.
    ///
    /// # Errors
    /// SQL cannot be written.
    pub async fn start(
        store: &Store,
        queue: &Queue,
        config: UpkeepConfig,
    ) -> Result<Self, StoreError> {
        Self::start_with(store, queue, config, None).await
    }

    pub(crate) async fn start_with(
        store: &Store,
        queue: &Queue,
        config: UpkeepConfig,
        runs: Option<Arc<dyn Runs>>,
    ) -> Result<Self, StoreError> {
        let mut config = config;
        let row = config.row.borrow_and_update().clone();
        store.join(row).await?;
        let stop = CancellationToken::new();
        let keeper = Keeper {
            store: store.clone(),
            queue: queue.clone(),
            config,
            runs,
            strays: HashSet::new(),
            is_joined: true,
            incarnation: None,
            missed: Vec::new(),
            met: HashSet::new(),
            is_apart: false,
        };
        let ended = tokio::spawn(keeper.keep(stop.clone()));
        Ok(Self {
            store: store.clone(),
            stop,
            ended,
        })
    }

    /// Ends the upkeep, and tells others that this process needs no looking after: what it offered is in the
    /// queue by now.
    pub async fn stop(self) {
        self.stop.cancel();
        let _ended = self.ended.await;
        if let Err(error) = self.store.leave().await {
            tracing::warn!("others were not told that this process ends: {error}");
        }
    }
}

/// Why a round was not brought to its end. The next one does what is missing.
#[derive(Debug, thiserror::Error)]
enum HeldUp {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Queue(#[from] QueueError),
}

struct Keeper {
    store: Store,
    queue: Queue,
    config: UpkeepConfig,
    runs: Option<Arc<dyn Runs>>,
    /// Runs that stood as runs of this process in the last round, and were not in progress.
    strays: HashSet<(i64, i64)>,
    /// Whether others know the row as it is.
    is_joined: bool,
    /// What the queue was in the last round.
    incarnation: Option<String>,
    /// Processes that live and were not at this Redis in the last round.
    missed: Vec<String>,
    /// Those that were seen here.
    met: HashSet<String>,
    /// Whether it was said that others are at another Redis.
    is_apart: bool,
}

impl Keeper {
    async fn keep(mut self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(self.config.lease / BEATS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_held_up = false;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                // Hints may have been missed, and jobs may be gone.
                () = self.queue.gaps() => {}
                Ok(()) = self.config.row.changed() => self.is_joined = false,
                () = stop.cancelled() => return,
            }
            let outcome = tokio::select! {
                outcome = self.round() => outcome,
                () = stop.cancelled() => return,
            };
            match &outcome {
                Err(error) if !is_held_up => tracing::error!("upkeep is held up: {error}"),
                Ok(()) if is_held_up => tracing::info!("upkeep goes on"),
                _ => {}
            }
            is_held_up = outcome.is_err();
        }
    }

    async fn round(&mut self) -> Result<(), HeldUp> {
        if !self.store.beat().await?.known || !self.is_joined {
            let row = self.config.row.borrow_and_update().clone();
            self.store.join(row).await?;
            self.is_joined = true;
        }
        self.end_overtaken().await?;
        self.take_back().await?;
        self.take_over().await?;
        self.look_at_queue().await?;
        self.look_for_others().await
    }

    /// Looks whether the others that live by SQL are at this Redis. Who has just joined takes a round for it, so only
    /// those count that were missed twice; and who was ever here is cut off, and not elsewhere.
    async fn look_for_others(&mut self) -> Result<(), HeldUp> {
        let others = self.store.others(self.config.lease).await?;
        let names: Vec<String> = others.iter().map(|other| other.process.clone()).collect();
        let missing = self.queue.missing(&names, self.config.lease).await?;
        self.met.retain(|name| names.contains(name));
        let here = names.iter().filter(|name| !missing.contains(name));
        self.met.extend(here.cloned());
        let is_apart = |other: &&Other| {
            let name = &other.process;
            missing.contains(name) && self.missed.contains(name) && !self.met.contains(name)
        };
        let apart: Vec<&Other> = others.iter().filter(is_apart).collect();
        let shown = apart
            .iter()
            .take(5)
            .map(|other| format!("{} on {}", other.pid, other.host));
        let shown = shown.collect::<Vec<_>>().join(", ");
        let reason = format!(
            "{} of {} other processes of the queue {} are not at this Redis ({shown}): let BROKER_URL name one Redis \
             for all of them",
            apart.len(),
            others.len(),
            self.store.queue(),
        );
        match (apart.is_empty(), self.is_apart) {
            (false, false) => tracing::error!("{reason}"),
            (true, true) => tracing::info!("all processes of the queue are at this Redis"),
            _ => {}
        }
        self.is_apart = !apart.is_empty();
        // One among many that is elsewhere is not this one's trouble.
        let is_alone = self.is_apart && apart.len() == others.len();
        self.queue.set_apart(is_alone.then_some(reason));
        self.missed = missing;
        Ok(())
    }

    /// Ends runs of this process that are not current any more, for when a hint got lost.
    async fn end_overtaken(&self) -> Result<(), StoreError> {
        let Some(runs) = &self.runs else {
            return Ok(());
        };
        let in_progress = runs.in_progress();
        if !in_progress.is_empty() {
            let overtaken = self.store.overtaken_runs(&in_progress).await?;
            let is_overtaken = |(task, _): &(i64, i64)| overtaken.contains(task);
            // Another run of the task may have begun here since it was asked.
            let ended: Vec<_> = in_progress.into_iter().filter(is_overtaken).collect();
            runs.end_runs(&ended);
        }
        Ok(())
    }

    /// Queues again what stands as run by this process and is not, for two rounds: how it ended could not be told.
    async fn take_back(&mut self) -> Result<(), StoreError> {
        let Some(runs) = &self.runs else {
            return Ok(());
        };
        let held = self.store.held_runs().await?;
        // Asked afterwards: what has begun by now is there, and what has ended is not held in the next round.
        let in_progress: HashSet<_> = runs.in_progress().into_iter().collect();
        let is_stray = |held: &(i64, i64)| !in_progress.contains(held);
        let strays: HashSet<_> = held.into_iter().filter(is_stray).collect();
        let again: Vec<_> = strays.intersection(&self.strays).copied().collect();
        self.strays = strays;
        let most = self.config.max_attempts;
        for (task, run) in again {
            tracing::warn!(task, run, "a run has ended and nobody knows how");
            let why = format!("The end of its run got lost {} times.", most + 1);
            match self.store.lost_run(task, run, most, &why).await? {
                LostRun::Again(offer) => self.offer(vec![offer]),
                LostRun::Failed => self.queue.deliveries_due(),
                LostRun::Overtaken => continue,
            }
            self.queue.events().changed(task);
        }
        Ok(())
    }

    /// Queues again what processes held that give no sign of life.
    async fn take_over(&self) -> Result<(), StoreError> {
        let lease = self.config.lease;
        loop {
            let swept = self.store.sweep(lease, self.config.max_attempts).await?;
            if !swept.jobs.is_empty() {
                tracing::warn!(
                    "{} tasks of processes that are gone are queued again",
                    swept.jobs.len()
                );
            }
            leases_lost("upkeep", swept.jobs.len() + swept.failed.len());
            self.offer(swept.jobs);
            self.queue.tasks_ended(&swept.failed, &self.queue.events());
            if !swept.has_more {
                return Ok(());
            }
        }
    }

    async fn look_at_queue(&mut self) -> Result<(), HeldUp> {
        let Some(now) = self.queue.incarnation().await? else {
            return Ok(());
        };
        if self.incarnation.as_ref() != Some(&now) {
            if self.store.adopt_incarnation(&now).await? {
                self.queue_again(Duration::ZERO).await?;
            }
            self.incarnation = Some(now);
        }
        if self.queue.depth().await?.is_empty() {
            self.queue_again(self.config.lease * FORGOTTEN).await?;
        }
        Ok(())
    }

    /// Queues again all that has been queued for this long.
    async fn queue_again(&self, older_than: Duration) -> Result<(), StoreError> {
        let (mut after, mut count) = (0, 0);
        loop {
            let jobs = self.store.requeue_queued(older_than, after, BATCH).await?;
            let Some(last) = jobs.last() else { break };
            after = last.job.task;
            count += jobs.len();
            self.offer(jobs);
        }
        if count > 0 {
            tracing::warn!("the queue had lost {count} tasks; they are queued again from SQL");
        }
        Ok(())
    }

    fn offer(&self, offers: Vec<Offer>) {
        let events = self.queue.events();
        for offer in &offers {
            events.changed(offer.job.task);
        }
        self.queue.push_all(offers);
    }
}
